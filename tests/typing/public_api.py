# pyright: strict, reportUnnecessaryTypeIgnoreComment=error
"""The public API as a user's type checker sees it. Never run: `test_public_api.py` has mypy and pyright
read it, both strict.

A `type: ignore` marks a use that must be refused: where it is not, both report the comment as unused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from decimal import Decimal
from typing import Any, assert_type

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from gomodel_asgi import (
    Explanation,
    Gateway,
    GoModelMiddleware,
    Limits,
    MemoryStore,
    NoStore,
    Policy,
    Provider,
    RateLimited,
    Reply,
    Retries,
    RoutingRequest,
    Store,
    Target,
    Timeouts,
    policies,
    providers,
    tools,
)
from gomodel_asgi.quotas import Left, MemoryCounters, PostgresCounters, Quota, Quotas, RedisCounters
from gomodel_asgi.schema import ResponsesRequest
from gomodel_asgi.testing import FakeProvider, ToolResult, run_policy, run_tool


async def route(request: RoutingRequest) -> Target:
    assert_type(request.model, str | None)
    assert_type(request.stream, bool)
    assert_type(request.tenant, str | None)
    assert_type(request.body, Mapping[str, Any])
    assert_type(request.payload, ResponsesRequest)
    assert_type(request.payload.model, str | None)
    assert_type(request.providers, Mapping[str, Provider])
    assert_type(request.default(), Target)
    if request.health("openai").available:
        return Target("openai", model="m", fallbacks=[Target("other")], params={"temperature": None})
    raise RateLimited("Come back later.", retry_after=3)


def plain(request: RoutingRequest) -> Target:
    return Target(Provider("own", "https://example.com/v1"), api_key=lambda: "sk")


def not_a_policy(request: RoutingRequest) -> str:
    return "openai"


first: Policy = route
second: Policy = plain
third: Policy = policies.authenticated(policies.first_of(route, plain))
fourth: Policy = policies.weighted([("openai", 1), (Target("other"), 2.5)], key=lambda request: request.tenant)
limited: Policy = policies.limited(route, "60/minute", key=lambda request: request.user)
fifth: Policy = policies.model_map({"smart": Target("openai"), "gpt-*": "openai"})
wrong: Policy = not_a_policy  # type: ignore[assignment]


def yielded(request: RoutingRequest) -> Iterator[Quota]:
    yield Quota("month", per="month", money="5.00", key=request.tenant)


async def listed(request: RoutingRequest) -> list[Quota]:
    return [Quota("minute", per="minute", requests=60, tokens=200_000, shared=True)]


async def streamed(request: RoutingRequest) -> AsyncIterator[Quota]:
    yield Quota("day", per="day", money=Decimal(1))


Quotas(listed, counters=RedisCounters("redis://localhost"), reserve="worst", on_unavailable="admit")
Quotas(streamed, counters=PostgresCounters("postgresql://localhost/app"), price=lambda type, model, usage: Decimal(0))
Quota("year", per="year", requests=1)  # type: ignore[arg-type]
Quota("month", per="month", money=0.1)  # type: ignore[arg-type]
Quotas(not_a_policy)  # type: ignore[arg-type]

gateway = Gateway(
    providers=[providers.openai(models=["gpt-*"]), providers.vllm("http://gpu:8000/v1", name="gpu")],
    policy=plain,
    tenant=lambda scope: "acme",
    store=MemoryStore(),
    timeouts=Timeouts(idle=60),
    limits=Limits(body=1024),
    retries=Retries(attempts=2),
    quotas=Quotas(yielded, counters=MemoryCounters(), weights={"cached": 0.1}),
)
store: Store = NoStore()

Gateway([])  # type: ignore[call-arg]
Gateway(providers=[], policy="route")  # type: ignore[arg-type]
Provider("a", "https://example.com", dialect="soap")  # type: ignore[arg-type]
Target("a", "model")  # type: ignore[call-arg]
Timeouts(idle="60")  # type: ignore[arg-type]
providers.openai(modles=["gpt-*"])  # type: ignore[call-arg]

app = Starlette(routes=[Mount("/llm", app=gateway)])
app.add_middleware(GoModelMiddleware, gateway=gateway)
app.add_middleware(GoModelMiddleware)  # type: ignore[call-arg]


async def doors(request: Request) -> None:
    assert_type(await gateway.endpoint(request), Response)
    assert_type(await gateway.explain({"model": "m"}), Explanation)
    assert_type(await gateway.quotas.left(tenant="acme"), tuple[Left, ...])
    async with gateway, await gateway.respond(b"{}", tenant="acme") as reply:
        assert_type(reply, Reply)
        assert_type(reply.response(), Response)
        async for event in reply:
            assert_type(event, dict[str, Any])


def test(fake_provider: FakeProvider) -> None:
    target: Target = run_policy(route, {"model": "m"}, user="ada")
    result: ToolResult = run_tool(tools.web_search(print), "web_search", {"query": "cats"}, tenant="acme")
    print(result.text)
    assert_type(target.model, str | None)
