"""`GET {prefix}/models`: what a caller may name, for chat front ends and agents that ask before they offer a choice."""

from __future__ import annotations

import functools
from typing import Any

import anyio
import openai
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.authentication import SimpleUser, UnauthenticatedUser
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from gomodel_asgi import (
    Denied,
    Gateway,
    GoModelMiddleware,
    Provider,
    RateLimited,
    RoutingRequest,
    Target,
    Unauthenticated,
    UnknownModel,
    policies,
)
from gomodel_asgi.observers import Completed, PolicyDecided, Record, RequestStarted
from gomodel_asgi.settings import Timeouts

from ..support.driving import Caller, ask
from ..support.serving import Served

EAST = Provider("east", "http://127.0.0.1:9/v1", models=["gpt-5", "gpt-5-mini", "o*"])
WEST = Provider("west", "http://127.0.0.1:9/v1", models=["gpt-5", "claude-[a-z]*", "qwen/qwen3-32b"])
ADA = SimpleUser("ada")


def gateway(**options: Any) -> Gateway:
    return Gateway(**{"providers": [EAST, WEST], **options})


async def get(app: Any, path: str = "/v1/models", **options: Any) -> Caller:
    return await ask(app, path=path, method="GET", headers=[], **options)


def names(caller: Caller) -> list[str]:
    assert caller.status == 200, caller.content
    return [entry["id"] for entry in caller.json()["data"]]


async def test_the_models_that_providers_name_in_full_are_listed_once_each_in_order() -> None:
    answer = await get(gateway())
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "object": "list",
        "data": [
            {"id": "gpt-5", "object": "model", "created": 0, "owned_by": "east"},
            {"id": "gpt-5-mini", "object": "model", "created": 0, "owned_by": "east"},
            {"id": "qwen/qwen3-32b", "object": "model", "created": 0, "owned_by": "west"},
        ],
    }


async def test_one_model_is_found_by_its_name_and_an_unknown_or_a_pattern_is_a_404() -> None:
    found = await get(gateway(), "/v1/models/gpt-5-mini")
    assert found.json() == {"id": "gpt-5-mini", "object": "model", "created": 0, "owned_by": "east"}
    for name in ("gpt-6", "o*", "gpt-5-mini/x"):
        unknown = await get(gateway(), f"/v1/models/{name}")
        assert unknown.status == 404
        assert (unknown.error["code"], unknown.error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize("raw", [b"/v1/models/qwen/qwen3-32b", b"/v1/models/qwen%2Fqwen3-32b", None])
async def test_a_name_with_a_slash_is_found_escaped_or_not(raw: bytes | None) -> None:
    found = await get(gateway(), "/v1/models/qwen/qwen3-32b", raw_path=raw)
    assert found.json()["id"] == "qwen/qwen3-32b"


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/modelsx", "/models", "/v2/models", "/v1/models/" + "x" * 513])
async def test_paths_that_only_look_like_it_belong_to_the_host(path: str) -> None:
    assert (await get(GoModelMiddleware(_host, gateway=gateway()), path)).content == b"the host's"


@pytest.mark.parametrize("raw", [b"/v1/mod%65ls", b"/v1/mod%65ls/gpt-5"])
async def test_a_path_that_is_spelled_in_another_way_belongs_to_the_host(raw: bytes) -> None:
    app = GoModelMiddleware(_host, gateway=gateway())
    assert (await get(app, raw.decode().replace("%65", "e"), raw_path=raw)).content == b"the host's"


async def test_only_get_is_allowed() -> None:
    answer = await ask(gateway(), path="/v1/models", method="POST")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_an_anonymous_caller_is_refused_as_at_every_other_path() -> None:
    guarded = gateway(policy=policies.authenticated(policies.hint), models=lambda request: ["secret-model"])
    for path in ("/v1/models", "/v1/models/secret-model"):
        for scope in ({}, {"user": UnauthenticatedUser()}):
            refused = await get(guarded, path, **scope)
            assert (refused.status, refused.error["code"]) == (401, "unauthenticated")
            assert b"secret" not in refused.content
        assert (await get(guarded, path, user=ADA)).status == 200


@pytest.mark.parametrize(
    "refusal, status",
    [(Unauthenticated(), 401), (Denied("Not you."), 403), (RateLimited("Later.", retry_after=3), 429)],
)
async def test_what_the_policy_refuses_is_refused_here(refusal: Exception, status: int) -> None:
    def policy(request: RoutingRequest) -> Target:
        assert (request.operation, request.model) == ("models", None)
        raise refusal

    refused = await get(gateway(policy=policy))
    assert refused.status == status
    assert refused.error["message"] == str(refusal)


async def test_a_policy_that_knows_no_target_without_a_model_has_refused_nobody() -> None:
    for policy in (policies.hint, policies.model_map({"sma*": "east"})):
        assert len(names(await get(gateway(policy=policy)))) == 3


async def test_what_the_policy_names_in_full_is_listed_behind_what_providers_do() -> None:
    mapped = policies.model_map({"smart": "east", "gpt-*": "east", "gpt-5": "west", "fast": Target("west")})
    inner = policies.first_of(policies.model_map({"first": "east", "fast": "east"}), mapped)
    for policy in (inner, policies.authenticated(inner), policies.sticky(inner, key=lambda request: None)):
        listed = await get(gateway(policy=policy), user=ADA)
        assert names(listed) == ["gpt-5", "gpt-5-mini", "qwen/qwen3-32b", "first", "fast", "smart"]
        assert [entry["owned_by"] for entry in listed.json()["data"]] == ["east", "east", "west"] + ["gateway"] * 3
    assert (await get(gateway(policy=mapped), "/v1/models/smart")).json()["id"] == "smart"


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_of_policies_by_tenant_each_tenant_sees_its_own_names(asynchronous: bool) -> None:
    plans: dict[str, Any] = {"ada": policies.model_map({"smart": "east"}), "bob": "east"}

    async def resolver(tenant: str | None) -> Any:
        await anyio.lowlevel.checkpoint()
        return plans.get(tenant or "")

    host = gateway(providers=[EAST], policy=policies.per_tenant(resolver if asynchronous else plans))
    assert names(await get(host, user=ADA)) == ["gpt-5", "gpt-5-mini", "smart"]
    assert names(await get(host, user=SimpleUser("bob"))) == ["gpt-5", "gpt-5-mini"]
    assert (await get(host, user=SimpleUser("eve"))).status == 403


async def _async_names(request: RoutingRequest) -> list[str]:
    await anyio.lowlevel.checkpoint()
    return [f"of-{request.tenant}"]


@pytest.mark.parametrize(
    "given, listed",
    [
        (["mine", "gpt-*", "mine"], ["mine"]),
        ({"mine": "east"}, ["mine"]),
        (lambda request: (f"of-{request.tenant}",), ["of-ada"]),
        (_async_names, ["of-ada"]),
        ((), []),
    ],
)
@pytest.mark.parametrize("wrap", [lambda policy: policy, policies.authenticated, functools.partial])
async def test_a_policy_of_the_hosts_may_name_models_too(given: Any, listed: list[str], wrap: Any) -> None:
    class Routes:
        models = staticmethod(given) if callable(given) else given

        def __call__(self, request: RoutingRequest) -> Target:
            return Target("east")

    def plain(request: RoutingRequest) -> Target:
        return Target("east")

    plain.models = given  # type: ignore[attr-defined]
    for policy in (plain, Routes()):
        host = gateway(providers=[Provider("east", "http://127.0.0.1:9/v1")], policy=wrap(policy))
        assert names(await get(host, user=ADA)) == listed


@pytest.mark.parametrize("given", ["mine", [3], 3, lambda request: None])
async def test_a_policy_that_names_something_else_is_a_500_that_the_host_is_told_of(given: Any) -> None:
    def policy(request: RoutingRequest) -> Target:
        return Target("east")

    policy.models = given  # type: ignore[attr-defined]
    failed = await get(gateway(policy=policy))
    assert failed.status == 500 and isinstance(failed.raised, TypeError)


async def test_an_unknown_hint_is_refused_here_too() -> None:
    refused = await get(gateway(), query=b"provider=nowhere")
    assert (refused.status, refused.error["code"]) == (400, "unknown_provider")


async def test_the_hook_lists_per_tenant_what_it_likes_aliases_and_patterns_names_included() -> None:
    plans = {"ada": ["smart", "o3", "gpt-5", "gpt-5"], "bob": []}
    host = gateway(models=lambda request: plans[request.tenant or ""])
    answer = await get(host, user=ADA)
    assert [(each["id"], each["owned_by"]) for each in answer.json()["data"]] == [
        ("smart", "gateway"),
        ("o3", "east"),
        ("gpt-5", "east"),
    ]
    assert names(await get(host, user=SimpleUser("bob"))) == []
    assert (await get(host, "/v1/models/gpt-5", user=SimpleUser("bob"))).status == 404
    assert (await get(host, "/v1/models/smart", user=ADA)).json()["id"] == "smart"


async def test_the_hook_may_say_more_of_a_model_than_its_name() -> None:
    more = {"id": "o3", "created": 7, "owned_by": "us", "context_length": 200_000, "object": "thing"}
    host = gateway(models=lambda request: [more, {"id": "gpt-5", "tags": ["new"]}, "o3"])
    assert (await get(host)).json()["data"] == [
        {"id": "o3", "object": "model", "created": 7, "owned_by": "us", "context_length": 200_000},
        {"id": "gpt-5", "object": "model", "created": 0, "owned_by": "east", "tags": ["new"]},
    ]
    assert (await get(host, "/v1/models/gpt-5")).json()["tags"] == ["new"]


async def test_the_hook_may_be_async_and_may_refuse() -> None:
    async def offered(request: RoutingRequest) -> list[str]:
        await anyio.lowlevel.checkpoint()
        if request.tenant is None:
            raise Denied("Only for tenants.")
        return [model for provider in request.providers.values() for model in provider.models]

    refused = await get(gateway(models=offered))
    assert (refused.status, refused.error["message"]) == (403, "Only for tenants.")
    assert len(names(await get(gateway(models=offered), user=ADA))) == 5


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [1],
        "gpt-secret",
        {"gpt-secret": 1},
        [{"name": "gpt-secret"}],
        [{"id": "m", "x": object()}],
        KeyError("gpt-secret"),
    ],
)
async def test_a_hook_that_fails_is_a_500_without_detail_and_told_to_the_host(answer: Any) -> None:
    def broken(request: RoutingRequest) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    failed = await get(gateway(models=broken))
    assert failed.status == 500
    assert b"secret" not in failed.content
    assert isinstance(failed.raised, TypeError | KeyError)


async def test_a_hook_that_never_answers_is_a_504() -> None:
    async def stuck(request: RoutingRequest) -> list[str]:
        await anyio.sleep_forever()
        return []

    late = await get(gateway(models=stuck, timeouts=Timeouts(policy=0.01)))
    assert (late.status, late.error["code"]) == (504, "policy_timeout")


async def test_a_mounted_gateway_lists_below_its_mount() -> None:
    app = Starlette(routes=[Mount("/llm", app=gateway(prefix="/api"))])
    assert len(names(await get(app, "/llm/api/models"))) == 3
    assert (await get(app, "/llm/api/models/gpt-5")).json()["id"] == "gpt-5"
    assert (await get(app, "/api/models")).status == 404


async def test_the_hosts_own_route_lists_through_the_endpoint() -> None:
    host = gateway()

    async def route(request: Request) -> Response:
        return await host.endpoint(request)

    app = Starlette(routes=[Route("/any/models", route), Route("/any/models/{name:path}", route)])
    assert len(names(await get(app, "/any/models"))) == 3
    assert (await get(app, "/any/models/qwen/qwen3-32b")).json()["owned_by"] == "west"


async def test_observers_are_told_of_a_listing_once_with_its_tenant() -> None:
    told: list[Record] = []
    host = gateway(providers=[EAST], observers=[told.append])
    await get(host, user=ADA)
    assert [type(record) for record in told] == [RequestStarted, PolicyDecided, Completed]
    assert {(record.operation, record.tenant) for record in told} == {("models", "ada")}
    told.clear()
    await get(host, "/v1/models/unknown")
    assert isinstance(told[-1], Completed) and told[-1].error == "model_not_found"


async def test_draining_refuses_the_listing() -> None:
    host = gateway()
    await host.drain()
    assert (await get(host)).error["code"] == "server_shutdown"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_openai_sdk_lists_and_retrieves(serve: Served) -> None:
    """A name with a slash too, which it escapes."""
    app = FastAPI()
    app.add_middleware(GoModelMiddleware, gateway=gateway(providers=[WEST, EAST]))
    async with openai.AsyncOpenAI(base_url=f"{serve(app)}/v1", api_key="none") as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("qwen/qwen3-32b")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-6")
    assert listed == ["gpt-5", "qwen/qwen3-32b", "gpt-5-mini"]
    assert (one.id, one.owned_by, one.object) == ("qwen/qwen3-32b", "west", "model")


async def test_unknown_model_from_a_hook_is_an_answer() -> None:
    def offered(request: RoutingRequest) -> list[str]:
        raise UnknownModel("There are none.")

    assert (await get(gateway(models=offered))).error["message"] == "There are none."


async def _host(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("the host's")(scope, receive, send)
