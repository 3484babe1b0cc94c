"""Hints, models and ids: where a request goes when no policy of the user's says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import (
    Gateway,
    Limits,
    Provider,
    ProviderConflict,
    RoutingError,
    RoutingRequest,
    Target,
    UnknownModel,
    UnknownProvider,
)
from gomodel_asgi.errors import GatewayError, InvalidRequest
from gomodel_asgi.pipeline import job_of
from gomodel_asgi.routing.request import Registry, split_model
from gomodel_asgi.server.handler import inbound_of
from gomodel_asgi.server.paths import agreed, split_query
from gomodel_asgi.testing import run_policy
from gomodel_asgi.upstream.upstream_request import resolve

PROVIDERS = [
    Provider("main", "http://a/v1", type="openai", models=["gpt-*"]),
    Provider("spare", "http://b/v1", type="openai"),
    Provider("claude", "http://c/v1", type="anthropic", models=["claude-*", "gpt-oss"]),
]


async def default(request: RoutingRequest) -> Target:
    return request.default()


def where(body: dict[str, Any], **options: Any) -> Target:
    return run_policy(default, body, providers=options.pop("providers", PROVIDERS), **options)


@pytest.mark.parametrize(
    ("hint", "model", "expected"),
    [
        (None, "gpt-5", (None, "gpt-5")),
        (None, "main/gpt-5", ("main", "gpt-5")),
        (None, "openai/gpt-5", ("openai", "gpt-5")),
        (None, "google/gemini", (None, "google/gemini")),
        (None, "main/", (None, "main/")),
        (None, "main/a/b", ("main", "a/b")),
        ("main", "main/gpt-5", ("main", "gpt-5")),
        ("main", "main/main/gpt-5", ("main", "main/gpt-5")),
        ("main", "openai/gpt-5", ("main", "openai/gpt-5")),
        ("x", "main/gpt-5", ("x", "main/gpt-5")),
        ("main", None, ("main", None)),
    ],
)
def test_a_prefix_is_a_hint_only_where_there_is_no_other_and_its_name_is_known(
    hint: str | None, model: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert split_model(model, hint, Registry(PROVIDERS)) == expected


@pytest.mark.parametrize(
    ("body", "provider"),
    [
        ({"model": "x", "provider": "spare"}, "spare"),
        ({"model": "x", "provider": " spare "}, "spare"),
        ({"model": "x", "provider": "openai"}, "main"),
        ({"model": "x", "provider": "anthropic"}, "claude"),
        ({"model": "claude/x"}, "claude"),
        ({"model": "gpt-5"}, "main"),
        ({"model": "gpt-oss"}, "main"),
        ({"model": "claude-4"}, "claude"),
    ],
)
def test_a_hint_names_a_name_or_a_type_and_a_bare_model_finds_its_pattern(body: dict[str, Any], provider: str) -> None:
    assert where(body).provider == provider


@pytest.mark.parametrize(
    ("body", "error", "status"),
    [
        ({"model": "x", "provider": "nobody"}, UnknownProvider, 400),
        ({"model": "x", "provider": "Main"}, UnknownProvider, 400),
        ({"model": "unknown"}, UnknownModel, 404),
        ({"model": "google/gemini"}, UnknownModel, 404),
        ({}, InvalidRequest, 400),
    ],
)
def test_what_leads_nowhere_is_refused(body: dict[str, Any], error: type[GatewayError], status: int) -> None:
    with pytest.raises(error) as caught:
        where(body)
    assert caught.value.status == status


def test_the_only_provider_gets_every_model_and_a_request_without_one() -> None:
    only = PROVIDERS[1:2]

    assert where({"model": "anything/at-all"}, providers=only).provider == "spare"
    assert where({}, providers=only).provider == "spare"


@pytest.mark.parametrize("operation", ["retrieve", "delete", "cancel", "input_items"])
def test_an_operation_by_id_goes_to_the_hint_or_the_only_provider_or_is_unknown(operation: Any) -> None:
    options = {"operation": operation, "response_id": "resp_1"}

    hinted = run_policy(default, b"{}", providers=PROVIDERS, headers={"x-gomodel-provider": "claude"}, **options)
    assert hinted.provider == "claude"
    assert where({}, providers=PROVIDERS[:1], **options).provider == "main"
    with pytest.raises(InvalidRequest) as caught:
        where({}, **options)
    assert (caught.value.status, caught.value.code) == (404, "response_not_found")


@pytest.mark.parametrize(
    ("body", "headers", "query", "hint"),
    [
        (None, [], b"", None),
        ("a", [], b"", "a"),
        ("a", [b"a", b" a "], b"provider=a&provider=a", "a"),
        (None, [b""], b"provider=", None),
        (None, [], b"pro%76ider=a%2Db", "a-b"),
        (None, [], b"x=1&provider=a&y=2", "a"),
    ],
)
def test_all_explicit_hints_that_are_there_must_agree(
    body: str | None, headers: list[bytes], query: bytes, hint: str | None
) -> None:
    assert agreed(body, [(b"x-gomodel-provider", value) for value in headers], split_query(query)[1]) == hint


@pytest.mark.parametrize(
    ("body", "headers", "query"),
    [("a", [b"b"], b""), ("a", [], b"provider=b"), (None, [b"a", b"b"], b""), (None, [], b"provider=a&provider=b")],
)
def test_hints_that_disagree_are_a_conflict(body: str | None, headers: list[bytes], query: bytes) -> None:
    with pytest.raises(ProviderConflict):
        agreed(body, [(b"x-gomodel-provider", value) for value in headers], split_query(query)[1])


@pytest.mark.parametrize(
    ("query", "rest"),
    [
        (b"", ""),
        (b"provider=a", ""),
        (b"include%5B%5D=a&provider=x&include%5B%5D=b", "include%5B%5D=a&include%5B%5D=b"),
        (b"a=b+c&d", "a=b+c&d"),
        (b"Provider=a", "Provider=a"),
    ],
)
def test_the_rest_of_the_query_stays_as_it_is(query: bytes, rest: str) -> None:
    assert split_query(query)[0] == rest


@pytest.mark.parametrize("name", ["model", "stream", "background"])
def test_a_target_cannot_set_what_the_exchange_relies_on(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Target("a", params={name: 1})


def test_a_targets_repr_shows_no_key_and_its_chain_is_in_order() -> None:
    target = Target("a", api_key="sk-canary-a", fallbacks=[Target("b", fallbacks=[Target("c")]), Target("d")])

    assert "canary" not in repr(target)
    assert [one.provider for one in target.chain()] == ["a", "b", "c", "d"]


async def test_a_resolved_targets_repr_shows_no_key() -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("main", api_key="sk-canary", headers={"x-key": "canary"})

    gateway = Gateway(providers=[Provider("main", "http://127.0.0.1/v1", api_key="sk-canary-house")], policy=policy)
    job = job_of(gateway.setup, await inbound_of({"model": "gpt-5", "input": "hi"}, None, Limits()), None)

    shown = repr(await resolve(await policy(job.request), job))

    assert "main" in shown and "canary" not in shown


def test_a_request_shows_its_members() -> None:
    async def policy(request: RoutingRequest) -> Target:
        assert (request.operation, request.stream, request.model) == ("create", True, "gpt-5")
        assert (request.provider, request.previous_response_id) == ("main", "resp_0")
        assert request.metadata == {"k": "v"}
        assert "provider" not in request.body and request.body["model"] == "main/gpt-5"
        assert request.payload.model == "main/gpt-5"
        assert request.state.plan == "gold" and request.user == "ada" and request.tenant == "t"
        assert list(request.providers) == ["main", "spare", "claude"]
        with pytest.raises(TypeError):
            request.providers["x"] = PROVIDERS[0]  # type: ignore[index]
        return request.default()

    body = {
        "model": "main/gpt-5", "provider": "main", "stream": True, "metadata": {"k": "v"},
        "previous_response_id": "resp_0",
    }  # fmt: skip
    run_policy(policy, body, providers=PROVIDERS, user="ada", tenant="t", state={"plan": "gold"})


def test_a_payload_of_a_wrong_type_is_a_400_that_names_the_path() -> None:
    async def policy(request: RoutingRequest) -> Target:
        assert request.payload
        return request.default()

    with pytest.raises((InvalidRequest, RoutingError)) as caught:
        run_policy(policy, {"model": "gpt-5", "temperature": "warm"}, providers=PROVIDERS)
    assert caught.value.param == "temperature"


@pytest.mark.parametrize("name", ["tenant", "model", "previous", "envelope", "operation"])
def test_a_policy_can_assign_no_member_of_a_request(name: str) -> None:
    def policy(request: RoutingRequest) -> Target:
        with pytest.raises(AttributeError):
            setattr(request, name, None)
        return Target("main")

    assert run_policy(policy, {"model": "m"}, providers=PROVIDERS).provider == "main"
