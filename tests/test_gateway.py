"""The gateway as an object: its doors, its explanations, its life."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message

from gomodel_asgi import Gateway, NoStore, Provider, Retries, RoutingRequest, Target, UnknownProvider
from gomodel_asgi.errors import GatewayError, InvalidRequest
from gomodel_asgi.testing import Answer, Cut, Scripted, Stall, Status

from .support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from .support.exchanges import STREAM, UNARY
from .support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]


def text_of(response: Any) -> str:
    return str(response["output"][0]["content"][0]["text"])


# Made...


@pytest.mark.parametrize("prefix", ["v1", "/v1/", "/"])
def test_a_malformed_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Gateway(providers=[Provider("a", "http://a/v1")], prefix=prefix)


def test_no_provider_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Gateway(providers=[])
    with pytest.raises(ValueError, match="twice"):
        Gateway(providers=[Provider("a", "http://a/v1"), Provider("a", "http://b/v1")])


def test_its_repr_names_providers_and_no_secret() -> None:
    gateway = Gateway(providers=[Provider("a", "http://a/v1", api_key="sk-canary-x")], store=NoStore())

    assert "'a'" in repr(gateway) and "canary" not in repr(gateway)


# Mounted...


@pytest.mark.parametrize("prefix", ["/v1", "", "/llm/v2"])
async def test_it_serves_below_its_prefix(lab: Lab, prefix: str) -> None:
    lab.make(prefix=prefix)

    assert (await lab.ask(UNARY, path=f"{prefix}/responses")).status == 200
    assert (await lab.ask(UNARY, path="/other/responses")).status == 404


async def test_it_is_mounted_below_a_path(lab: Lab) -> None:
    app = Starlette(routes=[Mount("/llm", app=lab.make())])

    answer = await ask(app, UNARY, path="/llm/v1/responses")

    assert answer.status == 200
    assert (await ask(app, UNARY, path="/v1/responses")).status == 404


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/responses/", "/v1/nothing", "/v1/responses/a/b"])
async def test_foreign_paths_are_a_404_in_openais_form(lab: Lab, path: str) -> None:
    lab.make()

    answer = await lab.ask(UNARY, path=path)

    assert answer.status == 404
    assert answer.error["type"] == "invalid_request_error"


# Lifespan...


async def test_it_answers_lifespan_when_it_is_served_alone(lab: Lab) -> None:
    sent: list[Message] = []
    incoming: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await lab.make()({"type": "lifespan"}, receive, send)

    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_it_can_be_used_again_after_it_was_closed(lab: Lab) -> None:
    if lab.kind == "httpx2":
        pytest.skip("a pool that was given is closed for good")
    async with lab.make() as gateway:
        assert (await ask(gateway, UNARY)).status == 200
    assert (await ask(gateway, UNARY)).status == 200


# endpoint...


def app_of(gateway: Gateway) -> Starlette:
    async def create(request: Request) -> Response:
        response = await gateway.endpoint(request)
        response.headers["x-host"] = "was here"
        return response

    methods = ["GET", "POST", "DELETE"]
    return Starlette(
        routes=[
            Route("/chat", create, methods=methods),
            Route("/v9/responses/{id}", create, methods=methods),
            Route("/v9/responses/{id}/cancel", create, methods=methods),
        ]
    )


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_an_endpoint_answers_from_the_hosts_own_route(lab: Lab, body: dict[str, Any]) -> None:
    answer = await ask(app_of(lab.make()), body, path="/chat")

    assert answer.status == 200 and answer.complete
    assert answer.headers["x-host"] == "was here"
    assert b'"completed"' in answer.content


async def test_an_endpoint_knows_the_operation_by_the_end_of_its_path(lab: Lab) -> None:
    app = app_of(lab.make(tenant=lambda scope: None))
    made = (await ask(app, UNARY, path="/chat")).json()["id"]

    assert (await ask(app, path=f"/v9/responses/{made}", method="GET")).json()["id"] == made
    assert (await ask(app, path=f"/v9/responses/{made}/cancel")).status == 400
    assert (await ask(app, path=f"/v9/responses/{made}", method="DELETE")).json()["deleted"] is True


async def test_errors_of_an_endpoint_have_the_envelope_and_the_hosts_exception_is_raised(lab: Lab) -> None:
    def policy(request: RoutingRequest) -> Target:
        raise KeyError("the host's")

    app = app_of(lab.make(policy=policy))

    assert (await ask(app, b"{", path="/chat")).error["code"] == "invalid_json"
    failed = await ask(app, UNARY, path="/chat")
    assert failed.status == 500
    assert isinstance(failed.raised, KeyError)


async def test_a_client_that_leaves_an_endpoint_cancels_the_upstream(lab: Lab) -> None:
    app = app_of(lab.make())
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of("/chat"), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, app)
            await caller.until(2)
            caller.leave()
        await lab.bad.requests[0].disconnected.wait()


# respond...


@pytest.mark.parametrize("body", [UNARY, encoded(UNARY), encoded(UNARY).decode()], ids=["mapping", "bytes", "str"])
async def test_the_hosts_own_code_gets_a_response(lab: Lab, body: Any) -> None:
    lab.make()

    reply = await lab.gateway.respond(body)

    assert (reply.status, reply.provider, reply.model, reply.attempts) == (200, "bad", "gpt-5", 1)
    assert reply.headers["x-gomodel-provider"] == "bad"
    assert text_of(await reply.json()) == "You said: hi"


async def test_the_hosts_own_code_iterates_over_events(lab: Lab) -> None:
    lab.make()

    async with await lab.gateway.respond(STREAM) as reply:
        events = [event async for event in reply]

    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")


async def test_the_json_of_a_stream_is_the_response_that_ended_it(lab: Lab) -> None:
    lab.make()

    assert text_of(await (await lab.gateway.respond(STREAM)).json()) == "You said: hi"


async def test_a_reply_that_is_not_read_to_its_end_is_released(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Stall(after_events=4))

    async with await lab.gateway.respond(STREAM) as reply:
        assert await reply.next()
    with anyio.fail_after(TIMEOUT):
        await lab.bad.requests[0].disconnected.wait()


async def test_failures_raise_with_status_and_payload(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Status(404, message="No such model."))

    with pytest.raises(GatewayError) as caught:
        await lab.gateway.respond(UNARY)
    assert caught.value.status == 404
    assert json.loads(caught.value.body())["error"]["message"] == "No such model."
    with pytest.raises(InvalidRequest):
        await lab.gateway.respond("[]")


async def test_a_stream_that_breaks_off_raises_where_its_response_is_asked_for(lab: Lab) -> None:
    lab.make()
    lab.bad.script(Scripted(Answer(text="one two"), (Cut(after_events=4),)))

    reply = await lab.gateway.respond(STREAM)
    response = await reply.json()

    assert response["status"] == "failed"


async def test_a_reply_is_handed_on_as_a_response(lab: Lab) -> None:
    gateway = lab.make()

    async def create(request: Request) -> Response:
        return (await gateway.respond(await request.body(), scope=request.scope)).response()

    app = Starlette(routes=[Route("/chat", create, methods=["POST"])])
    for body in (UNARY, STREAM):
        answer = await ask(app, body, path="/chat")
        assert answer.status == 200 and answer.complete
        assert b'"completed"' in answer.content


async def test_scope_and_tenant_reach_the_policy(lab: Lab) -> None:
    seen: list[tuple[Any, ...]] = []

    async def policy(request: RoutingRequest) -> Target:
        seen.append((request.tenant, request.user, dict(request.headers), request.operation, request.stream))
        return request.default()

    lab.make(policy=policy)
    await (await lab.gateway.respond(UNARY)).aclose()
    await (await lab.gateway.respond(UNARY, tenant="a", scope=scope_of(user="someone", headers=[]))).aclose()

    assert seen == [(None, None, {}, "create", False), ("a", "someone", {}, "create", False)]


# explain...


async def test_explain_tells_every_candidate_and_sends_nothing(lab: Lab) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("bad", model="other", api_key="sk-canary-own", fallbacks=[Target("good", retries=Retries())])

    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=policy)

    told = await lab.gateway.explain({**UNARY, "provider": "good"})

    assert (told.model, told.hint, told.error) == ("gpt-5", "good", None)
    assert [(one.provider, one.model) for one in told.candidates] == [("bad", "other"), ("good", "gpt-5")]
    assert all(one.why for one in told.candidates)
    assert "canary" not in repr(told)
    assert not lab.bad.requests and not lab.good.requests


async def test_explain_tells_the_refusal(lab: Lab) -> None:
    lab.make()

    told = await lab.gateway.explain({**UNARY, "provider": "nobody"})

    assert isinstance(told.error, UnknownProvider)
    assert (told.target, told.candidates) == (None, ())


# health...


async def test_health_counts_what_happened(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad), lab.provider(lab.good, "good"), policy=lambda request: Target("bad"))
    await lab.ask(UNARY)
    lab.bad.fail_next(Status(500))
    await lab.ask(UNARY)

    health = lab.gateway.health()

    assert (health["bad"].requests, health["bad"].failures, health["bad"].failure_rate) == (2, 1, 0.5)
    assert health["bad"].first_event is not None
    assert (health["good"].requests, health["good"].available, health["good"].state) == (0, True, "closed")


async def test_a_policy_reads_health(lab: Lab) -> None:
    async def policy(request: RoutingRequest) -> Target:
        assert request.health("bad").available
        with pytest.raises(KeyError):
            request.health("nobody")
        return request.default()

    lab.make(policy=policy)

    assert (await lab.ask(UNARY)).status == 200
