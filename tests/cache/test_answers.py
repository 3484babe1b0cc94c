"""Every answer to a request for a new response says what the cache was to it, and no cache elsewhere keeps any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gomodel_asgi import Gateway, MemoryStore, Provider, RateLimited, Target, tools
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.guards import Block, Guard, Texts
from gomodel_asgi.observers import CacheChecked
from gomodel_asgi.quotas import Quota
from gomodel_asgi.testing import Answer, Cut, FakeProvider, Status, ToolCall

from ..support.driving import Caller, ask
from ..support.seen import Seen
from ..support.spending import always as within
from ..support.websocket_client import connected
from .gateways import HELLO, KEPT_NOWHERE, always, asked, gateway_of, result

PRIVATE = [(b"cache-control", b"private, no-store"), (b"vary", b"authorization, cookie")]
STREAMED = [(b"cache-control", b"private, no-store, no-transform"), (b"vary", b"authorization, cookie")]
"""What RFC 9111 (5.2.2) and RFC 9110 (12.5.5) have a server say of an answer that is one caller's alone."""


@pytest.fixture
def chat() -> Any:
    with FakeProvider(dialect="chat").run_in_thread() as running:
        yield running


def privacy(caller: Caller) -> list[tuple[bytes, bytes]]:
    return [one for one in caller.messages[0]["headers"] if one[0] in (b"cache-control", b"vary")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_miss_and_a_hit_and_a_bypass_say_so_and_are_kept_by_nobody_else(
    upstream: FakeProvider, stream: bool
) -> None:
    body = KEPT_NOWHERE | {"stream": stream}
    async with gateway_of(upstream) as gateway:
        found = [await asked(gateway, body), await asked(gateway, body)]
        found.append(await asked(gateway, body, (b"cache-control", b"no-store")))
    assert [result(one) for one in found] == ["miss", "hit", "bypass"]
    assert [privacy(one) for one in found] == [STREAMED if stream else PRIVATE] * 3
    assert ["age" in one.headers for one in found] == [False, True, False]


def refusing(request: Any) -> Target:
    raise RateLimited("Slower.", retry_after=3)


def failing(request: Any) -> Target:
    raise ValueError("with a secret")


def no(given: Texts) -> Block:
    return Block("No.")


REFUSALS: dict[str, tuple[int, Any, Any, dict[str, Any]]] = {
    "a body that cannot be read": (400, "{", (), {}),
    "a type that is not JSON": (415, "{}", ((b"content-type", b"text/plain"),), {}),
    "the policy's refusal": (429, KEPT_NOWHERE, (), {"policy": refusing}),
    "the policy's failure": (500, KEPT_NOWHERE, (), {"policy": failing}),
    "a request of nobody": (401, KEPT_NOWHERE, (), {"tenant_required": True}),
    "a quota without room": (429, KEPT_NOWHERE, (), {"quotas": within(Quota("m", tokens=1, per="minute"))}),
    "a guard's refusal": (400, KEPT_NOWHERE, (), {"guards": [Guard("g", input=no)]}),
    "an unknown response": (400, HELLO | {"previous_response_id": "resp_x"}, (), {}),
}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", list(REFUSALS))
async def test_what_is_refused_before_the_cache_has_passed_it_by(chat: FakeProvider, name: str) -> None:
    status, body, headers, options = REFUSALS[name]
    async with gateway_of(chat, **options) as gateway:
        caller = await ask(gateway, body, headers=headers or ((b"content-type", b"application/json"),))
    assert (caller.status, result(caller), privacy(caller)) == (status, "bypass", PRIVATE)
    assert not chat.requests


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstreams_failure_says_that_the_cache_was_asked(upstream: FakeProvider, stream: bool) -> None:
    upstream.fail_next(Status(400))
    async with gateway_of(upstream) as gateway:
        caller = await asked(gateway, KEPT_NOWHERE | {"stream": stream})
    assert (caller.status, result(caller), privacy(caller)) == (400, "miss", PRIVATE)


async def test_a_policy_that_names_an_unknown_provider_fails_as_without_a_cache(chat: FakeProvider) -> None:
    async with gateway_of(chat, policy=lambda request: Target("nowhere")) as gateway:
        caller = await ask(gateway, KEPT_NOWHERE)
    assert (caller.status, result(caller)) == (500, "bypass")


async def test_a_response_in_the_background_bypasses_the_cache_and_says_so(chat: FakeProvider) -> None:
    async with gateway_of(chat) as gateway:
        found = [await asked(gateway, HELLO | {"background": True}) for _ in range(2)]
        replies = [await gateway.respond(HELLO | {"background": True})]
    assert [result(one) for one in found] == ["bypass", "bypass"]
    assert [one.headers["x-gomodel-cache"] for one in replies] == ["bypass"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("operation", ["retrieve", "input_tokens", "compact", "models"])
async def test_answers_to_other_operations_say_nothing_of_the_cache(chat: FakeProvider, operation: str) -> None:
    async with gateway_of(chat) as gateway:
        id = (await asked(gateway, HELLO)).json()["id"]
        match operation:
            case "retrieve":
                caller = await ask(gateway, method="GET", path=f"/v1/responses/{id}")
            case "models":
                caller = await ask(gateway, method="GET", path="/v1/models")
            case _:
                caller = await ask(gateway, HELLO, path=f"/v1/responses/{operation}")
    assert caller.status == 200 and "x-gomodel-cache" not in caller.headers and privacy(caller) == PRIVATE


async def test_the_hosts_own_routes_say_it_too(chat: FakeProvider) -> None:
    async with gateway_of(chat) as gateway:

        async def endpoint(request: Request) -> Response:
            return await gateway.endpoint(request)

        async def reply(request: Request) -> Response:
            return (await gateway.respond(await request.body())).response()

        app = Starlette(routes=[Route("/own", endpoint, methods=["POST"]), Route("/said", reply, methods=["POST"])])
        found = [await ask(app, KEPT_NOWHERE, path=path) for path in ("/own", "/own", "/said")]
        found.append(await ask(app, "{", path="/own"))
        with pytest.raises(GatewayError) as raised:
            chat.fail_next(Status(400))
            await gateway.respond(HELLO | {"input": "Other"})
    assert [result(one) for one in found] == ["miss", "hit", "hit", "bypass"]
    assert all(len([one for one in privacy(caller)]) == 2 for caller in found)
    assert raised.value.cache == "miss"


async def test_without_a_cache_nothing_is_said_of_one(upstream: FakeProvider) -> None:
    house = Provider("house", upstream.base_url, dialect=upstream.dialect)
    async with Gateway(providers=[house], public=True) as gateway:
        found = [await ask(gateway, KEPT_NOWHERE), await ask(gateway, "{")]
    assert [result(one) for one in found] == [None, None]
    assert [privacy(one) for one in found] == [PRIVATE, PRIVATE]


# What bypasses it...


async def test_turns_of_a_connection_are_neither_kept_nor_answered_from_the_cache(upstream: FakeProvider) -> None:
    seen = Seen()
    async with gateway_of(upstream, seen) as gateway:
        async with connected(gateway) as client:
            for _ in range(2):
                await client.talk("Hello", store=False)
        caller = await asked(gateway, KEPT_NOWHERE | {"stream": True})
        async with connected(gateway) as client:
            await client.talk("Hello", store=False)
    assert result(caller) == "miss" and len(upstream.requests) == 4
    assert [one.result for one in seen.of(CacheChecked)] == ["bypass", "bypass", "miss", "bypass"]


def search(call: tools.Call) -> list[tools.Page]:
    return [tools.Page("https://example.com/oslo", "Oslo", "Rain.")]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("whose", ["the client's", "the Target's", "nobody's"])
@pytest.mark.parametrize("stream", [False, True])
async def test_hosted_tools_bypass_the_cache_and_their_absence_does_not(
    upstream: FakeProvider, whose: str, stream: bool
) -> None:
    given = {"type": "web_search"}

    def policy(request: Any) -> Target:
        return Target("house", tools=[given] if whose == "the Target's" else ())

    body = KEPT_NOWHERE | {"stream": stream} | ({"tools": [given]} if whose == "the client's" else {})
    upstream.script(*[Answer(calls=[ToolCall("web_search", {"query": "Oslo"})]), Answer(text="Rain.")] * 2)
    hosted = [tools.web_search(search, use="always")]
    if whose == "nobody's":
        upstream.clear()
    async with gateway_of(upstream, policy=policy, tools=hosted) as gateway:
        found = [await asked(gateway, body) for _ in range(2)]
    expected = ["miss", "hit"] if whose == "nobody's" else ["bypass", "bypass"]
    assert [result(one) for one in found] == expected
    assert len(upstream.requests) == (1 if whose == "nobody's" else 4)


async def test_an_answer_that_continues_what_a_hosted_tool_has_said_is_not_cached(chat: FakeProvider) -> None:
    chat.script(Answer(calls=[ToolCall("web_search", {"query": "Oslo"})]), Answer(text="Rain."))
    async with gateway_of(chat, tools=[tools.web_search(search)]) as gateway:
        first = (await asked(gateway, KEPT_NOWHERE | {"tools": [{"type": "web_search"}]})).json()
        again = [{"role": "user", "content": "Hello"}, *first["output"], {"role": "user", "content": "Sure?"}]
        found = [await asked(gateway, KEPT_NOWHERE | {"input": again}) for _ in range(2)]
    assert [result(one) for one in found] == ["bypass", "bypass"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("fault", [Cut(after_events=3), Cut(after_events=1)])
async def test_a_stream_that_breaks_off_is_not_kept(upstream: FakeProvider, fault: Cut) -> None:
    upstream.fail_next(fault)
    async with gateway_of(upstream) as gateway:
        found = [await asked(gateway, KEPT_NOWHERE | {"stream": True}) for _ in range(2)]
    assert [result(one) for one in found] == ["miss", "miss"]


# What it costs...


class Keys:
    """A key that is asked for each time."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        return "sk-key-of-a-function"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("whose", ["the provider's", "the Target's"])
@pytest.mark.parametrize("cached", [False, True])
async def test_a_key_is_asked_for_once_for_each_request(upstream: FakeProvider, whose: str, cached: bool) -> None:
    keys = Keys()
    house = Provider("house", upstream.base_url, dialect=upstream.dialect, api_key=keys)
    own: Any = {} if whose == "the provider's" else {"api_key": keys}
    if own:
        house = Provider("house", upstream.base_url, dialect=upstream.dialect)
    cache = ResponseCache(when=always, scope=lambda request: "all") if cached else None
    options: dict[str, Any] = {"providers": [house], "policy": lambda request: Target("house", **own)}
    if not cached:
        async with Gateway(**options) as gateway:
            await ask(gateway, KEPT_NOWHERE)
        assert keys.calls == 1
        return
    async with gateway_of(upstream, cache=cache, **options) as gateway:
        for count, expected in enumerate(["miss", "hit"], 1):
            assert (result(await asked(gateway, KEPT_NOWHERE)), keys.calls) == (expected, count)
        assert result(await asked(gateway, KEPT_NOWHERE | {"tools": [{"type": "web_search"}]})) == "bypass"
        assert keys.calls == 3


Work = Callable[[Gateway], Awaitable[Any]]
WORKS: dict[str, tuple[dict[str, Any], str]] = {
    "a token count": (HELLO, "/v1/responses/input_tokens"),
    "a compaction": (HELLO, "/v1/responses/compact"),
    "a context that is looked at": (
        HELLO | {"context_management": [{"type": "compaction", "compact_threshold": 5000}]},
        "/v1/responses",
    ),
}


@pytest.mark.parametrize("name", list(WORKS))
async def test_a_key_is_asked_for_once_for_whatever_the_gateway_does_beside_the_request(
    chat: FakeProvider, name: str
) -> None:
    body, path = WORKS[name]
    keys = Keys()
    house = Provider("house", chat.base_url, dialect="chat", api_key=keys)
    async with Gateway(providers=[house], store=MemoryStore(), public=True) as gateway:
        assert (await ask(gateway, body, path=path)).status == 200
    assert keys.calls == 1


async def test_each_round_behind_a_hosted_tool_asks_for_the_key_anew(chat: FakeProvider) -> None:
    keys = Keys()
    house = Provider("house", chat.base_url, dialect="chat", api_key=keys)
    chat.script(Answer(calls=[ToolCall("web_search", {"query": "Oslo"})]), Answer(text="Rain."))
    async with gateway_of(chat, providers=[house], tools=[tools.web_search(search)]) as gateway:
        await asked(gateway, KEPT_NOWHERE | {"tools": [{"type": "web_search"}]})
    assert keys.calls == len(chat.requests) == 2
