"""What somebody reads who has done something wrong: it says what to do next, and nothing of what is other tenants'."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from gomodel_asgi import Gateway, RoutingRequest, Target, Unauthenticated, policies
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.observers import LoggingObserver
from gomodel_asgi.operations import TABLE, Operation
from gomodel_asgi.providers import from_env
from gomodel_asgi.providers.presets import PRESETS, variables
from gomodel_asgi.testing import FakeProvider, Scripted, Status, run_policy

from .support.driving import Caller, ask, scope_of
from .support.exchanges import STREAM, UNARY
from .support.lab import Lab, anyio_backend, fakes, kind, lab
from .support.seen import Seen

__all__ = ["anyio_backend", "fakes", "kind", "lab"]


def two(lab: Lab, **options: Any) -> Gateway:
    """A gateway in front of two providers, of which one is another tenant's."""
    first, second = lab.provider(lab.good, "openai"), lab.provider(lab.bad, "globex-eu")
    return lab.make(first, second, **options)


def logger_to(stream: io.StringIO) -> LoggingObserver:
    """An observer whose lines *stream* gets, as a terminal would."""
    logger = logging.Logger("to a stream")
    logger.addHandler(logging.StreamHandler(stream))
    return LoggingObserver(logger)


# An empty body...


@pytest.mark.parametrize("body", [b"", b"\xef\xbb\xbf"])
async def test_who_sends_no_body_is_told_to_send_one(lab: Lab, body: bytes) -> None:
    lab.make()
    answer = await lab.ask(body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_json")
    assert answer.error["message"] == (
        "The request body is not a valid JSON object: it is empty (byte 0). Send an object,"
        ' such as {"model": "...", "input": "..."}.'
    )


async def test_who_sends_neither_body_nor_type_is_told_both(lab: Lab) -> None:
    answer = await ask(lab.make(), b"", headers=[])
    assert answer.status == 415
    assert answer.error["message"] == (
        "Send a JSON object as the body, with the header `content-type: application/json`."
    )


# Several providers, and nothing that says which...

WHERE = "GET /v1/models lists what is offered"


@pytest.mark.parametrize("body", [UNARY, STREAM])
async def test_a_model_that_no_provider_claims_points_to_the_list_and_to_the_hint(lab: Lab, body: Any) -> None:
    said = io.StringIO()
    two(lab, observers=[logger_to(said)])
    answer = await lab.ask(body)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert WHERE in answer.error["message"] and "'provider'" in answer.error["message"]
    assert "globex" not in str(answer.error)
    assert "advice='openai, globex-eu are configured: give one models=..., or let the policy choose'" in said.getvalue()


async def test_a_request_without_a_model_points_to_the_list(lab: Lab) -> None:
    two(lab)
    answer = await lab.ask({"input": "Hello"})
    assert answer.error["code"] == "missing_required_parameter"
    assert answer.error["message"] == f"Name a 'model'; {WHERE}."


async def test_a_hint_that_names_nobody_is_not_answered_with_the_names_that_there_are(lab: Lab) -> None:
    seen = Seen()
    two(lab, observers=[seen])
    answer = await lab.ask({**UNARY, "provider": "initech"})
    assert answer.error["code"] == "unknown_provider"
    assert "globex" not in str(answer.error)
    assert seen.ended.advice == "configured are openai, globex-eu"


@pytest.mark.parametrize(
    ("scope", "where"),
    [
        ({"path": "/v1/responses"}, "GET /v1/models lists"),
        ({"path": "/ai/v1/responses/compact", "root_path": "/ai"}, "GET /ai/v1/models lists"),
        ({"path": "/v1/responses", "root_path": "/ai"}, "GET /ai/v1/models lists"),
        ({"path": "/ask"}, "GET /models below the API's prefix lists"),
        ({}, "GET /models below the API's prefix lists"),
    ],
)
async def test_the_list_of_models_is_named_where_the_client_finds_it(
    lab: Lab, scope: dict[str, Any], where: str
) -> None:
    gateway = two(lab)
    with pytest.raises(GatewayError) as caught:
        await gateway.respond({"model": "m", "input": "x"}, scope={"type": "http", "headers": [], "state": {}, **scope})
    assert where in caught.value.message


@pytest.mark.parametrize("operation", dict.fromkeys(row.operation for row in TABLE))
def test_each_operation_without_a_model_is_refused_with_a_sentence(operation: Operation) -> None:
    try:
        run_policy(policies.hint, {}, operation=operation, providers=["a", "b"])
    except GatewayError as error:
        assert error.status in (400, 404) and error.message.endswith(".")


# A path that is not ours...


async def told_at(app: Any, path: str) -> Caller:
    return await Caller(scope_of(path)).run(app)


@pytest.mark.parametrize("mounted", ["", "/ai", "/v1"])
@pytest.mark.parametrize("path", ["/responses", "/v1/chat/completions", "/v1", "/v1/responses/a/b/c", "/v2/responses"])
async def test_a_path_that_is_not_served_is_answered_with_where_the_api_is(lab: Lab, path: str, mounted: str) -> None:
    gateway = lab.make()
    if mounted == "/v1" and path == "/v1/responses":
        return
    answer = await told_at(Starlette(routes=[Mount(mounted or "/", app=gateway)]), mounted + path)
    assert (answer.status, answer.error["code"]) == (404, "unknown_path")
    served = f"{mounted}/v1/responses, {mounted}/v1/conversations and {mounted}/v1/models"
    assert served in answer.error["message"]


async def test_a_gateway_without_a_prefix_is_named_where_it_is_mounted(lab: Lab) -> None:
    app = Starlette(routes=[Mount("/ai", app=lab.make(prefix=""))])
    answer = await told_at(app, "/ai/v1/responses")
    assert "The Responses API is at /ai/responses, " in answer.error["message"]


# Nothing configured...


def test_a_gateway_without_providers_names_the_variables_that_make_one() -> None:
    with pytest.raises(ValueError, match=r"providers: give at least one\. .* OPENAI_API_KEY, .* OLLAMA_BASE_URL"):
        Gateway(providers=from_env({}))


def test_each_of_these_variables_makes_a_provider_or_says_what_else_it_takes() -> None:
    for name in variables():
        try:
            assert len(from_env({name: "http://127.0.0.1:9/v1"})) == 1
        except ValueError as error:
            assert "_BASE_URL" in str(error)
    assert len(variables()) >= len(PRESETS)


# Whose key it is...

OWN = "The upstream refused your own API key, not one of the gateway's; check it, or give another."
HOUSE = "The upstream refused the gateway's API key; whoever runs the gateway has to renew it."


@pytest.fixture(scope="module", params=["responses", "chat", "anthropic", "gemini"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    with FakeProvider(dialect=request.param).run_in_thread() as running:
        yield running


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("own", [True, False])
async def test_a_refused_key_is_told_to_be_the_callers_or_the_gateways(
    lab: Lab, fake: FakeProvider, status: int, own: bool
) -> None:
    said = io.StringIO()
    target = Target("fake", api_key="sk-adas-own-canary") if own else Target("fake")
    provider = lab.provider(fake, "fake", api_key="sk-house-canary", dialect=fake.dialect)
    lab.make(provider, policy=lambda request: target, observers=[logger_to(said)])
    fake.script(Scripted(faults=(Status(status),)), Scripted(faults=(Status(status),)))
    for body in (UNARY, STREAM):
        answer = await lab.ask(body)
        assert (answer.status, answer.error["code"]) == (502, "upstream_auth_error")
        assert answer.error["message"] == (OWN if own else HOUSE)
    advice = "it is the caller's to renew" if own else "renew the key of the provider fake"
    assert said.getvalue().count(advice) == 2
    assert "canary" not in said.getvalue()


async def test_whose_key_it_is_is_told_of_the_attempt_that_failed_last(lab: Lab) -> None:
    lab.good.script(Scripted(faults=(Status(401),)))
    lab.bad.script(Scripted(faults=(Status(401),)))

    def policy(request: RoutingRequest) -> Target:
        return Target("house", fallbacks=[Target("own", api_key="sk-adas")])

    lab.make(lab.provider(lab.good, "house"), lab.provider(lab.bad, "own"), policy=policy)
    answer = await lab.ask(UNARY)
    assert answer.error["message"] == OWN


# What a policy refuses stays as the policy has said it...


async def test_what_a_policy_refuses_has_no_advice_of_ours(lab: Lab) -> None:
    seen = Seen()
    lab.make(policy=policies.authenticated(policies.hint), observers=[seen])
    answer = await lab.ask(UNARY)
    assert answer.error["message"] == Unauthenticated().message
    assert seen.ended.advice is None
