"""`Provider(discover=…)`: `{prefix}/models` lists what upstreams list themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.from_thread
import pytest
from starlette.authentication import SimpleUser

from gomodel_asgi import Gateway, Limits, Provider, RoutingRequest, Target
from gomodel_asgi.errors import GatewayError, UpstreamStale
from gomodel_asgi.observers import Record, Warned
from gomodel_asgi.server import models
from gomodel_asgi.server.models import KnownList
from gomodel_asgi.testing import Cut, FakeProvider, Reply, Slow, Stall, Status
from gomodel_asgi.testing.provider import Dialect
from gomodel_asgi.transport import DefaultTransport, UpstreamReply, UpstreamRequest
from gomodel_asgi.upstream import listed_models

from ..support.driving import TIMEOUT, Caller, ask
from ..support.requests import until
from ..support.scripted_upstream import Peer, Upstream

KEY = "sk-canary-of-the-house"
LONG = 3600.0  # seconds: never out of date while a test runs
AT_ONCE = 1e-9  # seconds: out of date whenever it is asked for again
PATH = {"responses": "/v1/models", "chat": "/v1/models", "anthropic": "/v1/models", "gemini": "/v1beta/models"}
AUTH = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits waits until what it waits for has come, on however slow a machine."""
    monkeypatch.setattr(models, "FIRST_WAIT", TIMEOUT)


@pytest.fixture
def stalled(provider: FakeProvider) -> Iterator[FakeProvider]:
    """A provider that does not answer its first request until it is released."""
    provider.fail_next(Stall())
    yield provider
    provider.release()


def listing(provider: FakeProvider, name: str = "east", **options: Any) -> Provider:
    return Provider(name, provider.base_url, **{"dialect": provider.dialect, "discover": LONG, **options})


def answering(*names: str, **members: Any) -> Reply:
    return Reply({"object": "list", "data": [{"id": name, "created": 5, **members} for name in names]})


async def get(gateway: Gateway, path: str = "/v1/models", **options: Any) -> Caller:
    with anyio.fail_after(TIMEOUT):
        return await ask(gateway, path=path, method="GET", headers=[], **options)


async def names(gateway: Gateway, **options: Any) -> list[str]:
    answer = await get(gateway, **options)
    assert answer.status == 200, answer.content
    return [entry["id"] for entry in answer.json()["data"]]


async def idle(gateway: Gateway) -> None:
    """Wait until nothing is asked for any more."""
    await until(lambda: not any(one.reading for one in gateway.discovery.lists.values()))


async def answered(stalled: FakeProvider, one: KnownList) -> None:
    """Release what *stalled* holds back, as soon as it does, until nobody asks for this list any more."""

    def is_idle() -> bool:
        stalled.release()
        return not one.reading

    await until(is_idle)


# What is listed...


@pytest.mark.parametrize("dialect", ["responses", "chat", "anthropic", "gemini"])
async def test_what_an_upstream_lists_is_listed_under_the_houses_key_in_each_dialect(dialect: Dialect) -> None:
    auth = AUTH.get(dialect, "bearer")
    with FakeProvider(dialect=dialect, models=["large", "small"], api_key=KEY).run_in_thread() as upstream:
        async with Gateway(providers=[listing(upstream, auth=auth, api_key=KEY)]) as gateway:
            answer = await get(gateway)
            one = await get(gateway, "/v1/models/small")
        assert [request.path for request in upstream.requests] == [PATH[dialect]]
    entries = answer.json()["data"]
    assert [(entry["id"], entry["object"], entry["owned_by"]) for entry in entries] == [
        ("large", "model", "east"),
        ("small", "model", "east"),
    ]
    assert all(list(entry) == ["id", "object", "created", "owned_by"] for entry in entries)
    assert [entry["created"] > 0 for entry in entries] == [dialect != "gemini"] * 2
    assert one.json() == entries[1]
    assert answer.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("dialect, pages", [("anthropic", 3), ("gemini", 3), ("responses", 1)])
async def test_all_pages_of_a_list_are_read(dialect: Dialect, pages: int) -> None:
    models = [f"model-{number:04}" for number in range(2_500)]
    with FakeProvider(dialect=dialect, models=models).run_in_thread() as upstream:
        async with Gateway(providers=[listing(upstream)]) as gateway:
            assert await names(gateway) == models
        assert len(upstream.requests) == pages


async def test_the_providers_patterns_choose_and_what_is_configured_comes_first_in_its_order(
    provider: FakeProvider,
) -> None:
    provider.script(answering("gpt-9", "o1", "dall-e", "gpt-5", "gpt-5"))
    gateway = Gateway(
        providers=[
            listing(provider, models=["o*", "gpt-*", "gpt-5", "mine"]),
            Provider("west", "http://127.0.0.1:9/v1"),
        ],
        policy=_naming("smart"),
    )
    async with gateway:
        answer = await get(gateway)
    assert [(entry["id"], entry["created"]) for entry in answer.json()["data"]] == [
        ("gpt-5", 5),
        ("mine", 0),
        ("smart", 0),
        ("gpt-9", 5),
        ("o1", 5),
    ]


def _naming(*models: str) -> Any:
    async def policy(request: RoutingRequest) -> Target:
        return Target("east")

    policy.models = models  # type: ignore[attr-defined]
    return policy


async def test_every_name_that_is_listed_leads_to_the_provider_that_lists_it(provider: FakeProvider) -> None:
    """One without patterns is reached by a hint, unless it is the only one."""
    with FakeProvider(name="other").run_in_thread() as other:
        provider.script(answering("small", "org/large"))
        async with Gateway(
            providers=[listing(provider), Provider("west", other.base_url, models=["small"])]
        ) as gateway:
            listed = await get(gateway)
            for entry in listed.json()["data"]:
                await (await gateway.respond({"model": entry["id"], "input": "hi"})).read()
        assert [entry["id"] for entry in listed.json()["data"]] == ["small", "east/org/large", "east/small"]
        assert [request.json()["model"] for request in provider.requests[1:]] == ["org/large", "small"]
        assert [request.json()["model"] for request in other.requests] == ["small"]


async def test_a_name_with_a_slash_that_was_discovered_is_found_escaped_or_not(provider: FakeProvider) -> None:
    provider.script(answering("org/large"))
    async with Gateway(providers=[listing(provider)]) as gateway:
        for raw in (b"/v1/models/org/large", b"/v1/models/org%2Flarge", None):
            assert (await get(gateway, "/v1/models/org/large", raw_path=raw)).json()["id"] == "org/large"


async def test_a_function_of_the_hosts_replaces_the_list_and_no_upstream_is_asked(provider: FakeProvider) -> None:
    async with Gateway(providers=[listing(provider)], models=lambda request: ["mine"]) as gateway:
        assert await names(gateway) == ["mine"]
    assert not provider.requests


async def test_whom_the_policy_refuses_has_no_upstream_asked(provider: FakeProvider) -> None:
    def policy(request: RoutingRequest) -> Target:
        raise GatewayError("No.", status=403)

    async with Gateway(providers=[listing(provider)], policy=policy) as gateway:
        assert (await get(gateway)).status == 403
    assert not provider.requests


async def test_a_provider_that_a_target_brings_is_never_asked_and_no_key_of_a_target_goes_out(
    provider: FakeProvider,
) -> None:
    with FakeProvider(name="own").run_in_thread() as own:

        def policy(request: RoutingRequest) -> Target:
            if request.tenant == "ada":
                return Target(listing(own, "own", api_key="sk-canary-of-ada"))
            return Target("east", api_key="sk-canary-of-bob")

        async with Gateway(providers=[listing(provider, api_key=KEY)], policy=policy) as gateway:
            for tenant in ("ada", "bob"):
                assert await names(gateway, user=SimpleUser(tenant)) == ["fake-model"]
        assert not own.requests
    assert [request.header("authorization") for request in provider.requests] == [f"Bearer {KEY}"]


async def test_a_key_that_the_upstream_quotes_as_a_name_is_not_listed(provider: FakeProvider) -> None:
    provider.script(answering(KEY, "gpt-5"))
    async with Gateway(providers=[listing(provider, api_key=KEY)]) as gateway:
        assert KEY.encode() not in (await get(gateway)).content


async def test_nothing_of_the_request_that_asks_first_reaches_the_one_for_the_list(provider: FakeProvider) -> None:
    """The list is everybody's: a key that a function of the host's takes from its context would be one tenant's."""
    whose: ContextVar[str] = ContextVar("whose", default="sk-canary-of-the-house")

    async with Gateway(
        providers=[listing(provider, api_key=whose.get, forward_headers=["x-org"], headers={"x-own": "1"})]
    ) as gateway:
        whose.set("sk-canary-of-ada")
        with anyio.fail_after(TIMEOUT):
            await ask(gateway, path="/v1/models", method="GET", headers=[(b"x-org", b"adas")], query=b"limit=1")
    (asked,) = provider.requests
    assert asked.header("authorization") == "Bearer sk-canary-of-the-house"
    assert (asked.header("x-org"), asked.header("x-own"), asked.query) == (None, "1", b"")


# When it is asked for...


async def test_a_list_is_asked_for_once_however_many_ask(provider: FakeProvider) -> None:
    async with Gateway(providers=[listing(provider)]) as gateway:
        async with anyio.create_task_group() as callers:
            for _ in range(20):
                callers.start_soon(names, gateway)
        await names(gateway)
    assert len(provider.requests) == 1


async def test_a_list_that_is_out_of_date_is_given_and_renewed_beside_the_request(provider: FakeProvider) -> None:
    provider.script(answering("old"), answering("new"))
    async with Gateway(providers=[listing(provider, discover=AT_ONCE)]) as gateway:
        assert await names(gateway) == ["old"]
        assert await names(gateway) == ["old"]
        await idle(gateway)
        assert await names(gateway) == ["new"]


async def test_a_request_that_is_renewed_beside_does_not_wait_for_it(provider: FakeProvider) -> None:
    provider.script(answering("old"))
    async with Gateway(providers=[listing(provider, discover=AT_ONCE)]) as gateway:
        await names(gateway)
        provider.fail_next(Stall())
        for _ in range(5):
            assert await names(gateway) == ["old"]
        with anyio.fail_after(TIMEOUT):
            await provider.received(2)
        assert len(provider.requests) == 2
        await answered(provider, *gateway.discovery.lists.values())


async def test_the_last_known_list_stays_while_the_upstream_is_away_and_observers_are_warned(
    provider: FakeProvider,
) -> None:
    told: list[Record] = []
    provider.script(answering("known"))
    gateway = Gateway(providers=[listing(provider, discover=AT_ONCE)], observers=[told.append])
    async with gateway:
        await names(gateway)
        for fault in (Status(503), Status(401), Cut(), Status(200)):
            provider.fail_next(fault)
        for _ in range(4):
            assert await names(gateway) == ["known"]
            await idle(gateway)
        assert [type(record) for record in told].count(Warned) == 3  # not the first: nothing had failed by then
        assert "are listed as they were before. It answered 503 without a list" in _warnings(told)[0]
        provider.script(answering("back"))
        await names(gateway)
        await idle(gateway)
        told.clear()
        assert await names(gateway) == ["back"]
        assert not _warnings(told)


def _warnings(told: list[Record]) -> list[str]:
    return [record.message for record in told if isinstance(record, Warned)]


@pytest.mark.parametrize(
    "broken, said",
    [
        (Status(401), "It answered 401 without a list of models."),
        (Status(302), "It answered 302 without a list of models."),
        (Reply({"error": "no"}), "It answered 200 without a list of models."),
        (Reply("[" * 200 + "]" * 200), "It answered 200 without a list of models."),
        (Reply("not json"), "It answered 200 without a list of models."),
    ],
)
async def test_an_upstream_that_gives_no_list_leaves_the_others_and_is_warned_of(
    provider: FakeProvider, broken: Any, said: str
) -> None:
    told: list[Record] = []
    provider.script(broken) if isinstance(broken, Reply) else provider.fail_next(broken)
    with FakeProvider(models=["there"]).run_in_thread() as other:
        providers = [listing(provider, models=["mine", "*"]), listing(other, "west", models=["*"])]
        async with Gateway(providers=providers, observers=[told.append]) as gateway:
            for _ in range(2):  # the second does not wait for it, and does not have it asked again so soon
                assert await names(gateway) == ["mine", "there"]
    assert _warnings(told) == [f"The models of 'east' are not listed. {said}"] * 2
    assert len(provider.requests) == 1


async def test_an_upstream_that_is_not_there_or_a_key_that_cannot_be_had_is_warned_of_without_any_secret() -> None:
    def broken() -> str:
        raise LookupError("sk-canary-in-an-exception")

    told: list[Record] = []
    gone = Provider("gone", "http://127.0.0.1:9/v1?key=sk-canary-query", api_key=KEY, discover=LONG)
    locked = Provider("locked", "http://127.0.0.1:9/v1", api_key=broken, discover=LONG)
    odd = Provider("odd", "http://127.0.0.1:9/v1", api_key="two words", discover=LONG)
    async with Gateway(providers=[gone, locked, odd], observers=[told.append]) as gateway:
        assert await names(gateway) == []
    warnings = _warnings(told)
    assert [warning.partition("'")[2].partition("'")[0] for warning in warnings] == ["gone", "locked", "odd"]
    assert warnings[1].endswith("Its key could not be had, or cannot be sent: LookupError.")
    assert "canary" not in "".join(warnings)


async def test_the_first_caller_waits_for_a_while_and_gets_the_list_without_it(
    stalled: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FIRST_WAIT", 0.01)
    told: list[Record] = []
    async with Gateway(providers=[listing(stalled, models=["mine", "*"])], observers=[told.append]) as gateway:
        for _ in range(3):
            assert await names(gateway) == ["mine"]
        assert _warnings(told) == ["The models of 'east' are not listed. It has not answered yet."] * 3
        await answered(stalled, *gateway.discovery.lists.values())
        assert await names(gateway) == ["mine", "fake-model"]
    assert len(stalled.requests) == 1


async def test_a_list_that_does_not_come_in_time_is_given_up(
    stalled: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_models, "DEADLINE", 0.05)
    told: list[Record] = []
    async with Gateway(providers=[listing(stalled)], observers=[told.append]) as gateway:
        assert await names(gateway) == []
    assert len(_warnings(told)) == 1 and "has not answered yet" not in _warnings(told)[0]


async def test_a_list_that_comes_bit_by_bit_is_given_up_too(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_models, "DEADLINE", 0.2)
    provider.fail_next(Slow(pause=0.05))
    async with Gateway(providers=[listing(provider)]) as gateway:
        assert await names(gateway) == []


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_list_over_the_bounds_is_refused_before_it_is_read(provider: FakeProvider, encoding: str) -> None:
    long = {"data": [{"id": "x"}], "padding": "x" * listed_models.LARGEST}
    many = {"data": [{"id": f"m{number}"} for number in range(listed_models.MOST_MODELS + 1)]}
    for value in (long, many):
        told: list[Record] = []
        body = json.dumps(value).encode()
        headers = {"content-type": "application/json"}
        if encoding == "gzip":
            import gzip

            body, headers = gzip.compress(body), {**headers, "content-encoding": "gzip"}
        provider.script(Reply(body, headers=headers))
        async with Gateway(providers=[listing(provider)], observers=[told.append]) as gateway:
            assert await names(gateway) == []
        assert "larger than the limit" in _warnings(told)[0]


async def test_the_pages_of_a_list_are_bounded_together() -> None:
    part = {"data": [{"id": "x"}], "last_id": "x", "padding": "x" * (listed_models.LARGEST * 2 // 3)}
    with FakeProvider(dialect="anthropic").run_in_thread() as upstream:
        upstream.script(Reply({**part, "has_more": True}), Reply({**part, "has_more": False}))
        async with Gateway(providers=[listing(upstream)]) as gateway:
            assert await names(gateway) == []
        assert len(upstream.requests) == 2


async def test_pages_without_an_end_are_given_up() -> None:
    endless = {"data": [{"id": "x"}], "has_more": True, "last_id": "x"}
    with FakeProvider(dialect="anthropic").run_in_thread() as upstream:
        upstream.script(*[Reply(endless)] * (listed_models.MOST_PAGES + 1))
        async with Gateway(providers=[listing(upstream)]) as gateway:
            assert await names(gateway) == []
        assert len(upstream.requests) == listed_models.MOST_PAGES


async def test_a_list_of_more_values_than_may_be_parsed_is_none(provider: FakeProvider) -> None:
    provider.script(answering(*map(str, range(100))))
    async with Gateway(providers=[listing(provider)], limits=Limits(values=50)) as gateway:
        assert await names(gateway) == []


async def test_an_address_inside_is_not_connected_to_where_that_is_refused(provider: FakeProvider) -> None:
    async with Gateway(providers=[listing(provider, allow_private=False)]) as gateway:
        assert await names(gateway) == []
    assert not provider.connections


async def test_an_idle_connection_that_has_closed_costs_a_silent_second_try() -> None:
    reply = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 23\r\n\r\n{"data":[{"id":"gpt"}]}'

    def once(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(reply)
            if peer.request() is not None:
                peer.reset()

    upstream = Upstream(once)
    provider = Provider("east", f"http://127.0.0.1:{upstream.port}/v1", discover=AT_ONCE)
    try:
        told: list[Record] = []
        async with Gateway(providers=[provider], observers=[told.append]) as gateway:
            for _ in range(3):
                assert await names(gateway) == ["gpt"]
                await idle(gateway)
        assert not _warnings(told)
    finally:
        upstream.close()


async def test_the_second_try_uses_no_idle_connection(provider: FakeProvider) -> None:
    class Stale(DefaultTransport):
        async def open(self, request: UpstreamRequest) -> UpstreamReply:
            if not request.fresh:
                raise UpstreamStale("It was closed.")
            return await super().open(request)

    async with Gateway(providers=[listing(provider)], transport=Stale()) as gateway:
        assert await names(gateway) == ["fake-model"]


# The gateway's life...


async def test_a_reload_keeps_the_list_of_an_equal_provider_and_forgets_the_others(provider: FakeProvider) -> None:
    provider.script(answering("one"), answering("two"))
    async with Gateway(providers=[listing(provider)]) as gateway:
        assert await names(gateway) == ["one"]
        gateway.reload(providers=[listing(provider)])
        assert await names(gateway) == ["one"]
        gateway.reload(providers=[listing(provider, api_key=KEY)])
        assert await names(gateway) == ["two"]
        assert len(gateway.discovery.lists) == 1
        gateway.reload(providers=[listing(provider, discover=None)])
        assert await names(gateway) == []
        assert not gateway.discovery.lists
    assert len(provider.requests) == 2


async def test_what_a_provider_that_a_reload_took_away_answers_later_is_not_listed(
    stalled: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FIRST_WAIT", 0.0)
    async with Gateway(providers=[listing(stalled)]) as gateway:
        assert await names(gateway) == []
        (taken,) = gateway.discovery.lists.values()
        with anyio.fail_after(TIMEOUT):
            await stalled.received()
        gateway.reload(providers=[listing(stalled, "west", models=["mine"])])
        await answered(stalled, taken)
        assert taken.models
        assert "east/fake-model" not in await names(gateway)


async def test_closing_ends_what_is_asked_for_and_the_gateway_can_be_used_again(
    stalled: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(models, "FAREWELL", 10 * TIMEOUT)
    gateway = Gateway(providers=[listing(stalled)])
    assert await names(gateway) == []
    with anyio.fail_after(TIMEOUT):
        await stalled.received()
        await gateway.aclose()
    assert not any(one.reading for one in gateway.discovery.lists.values())
    monkeypatch.setattr(models, "FIRST_WAIT", TIMEOUT)
    assert await names(gateway) == ["fake-model"]
    await gateway.aclose()


def test_event_loops_share_what_is_known_and_each_ends_its_own(provider: FakeProvider) -> None:
    gateway = Gateway(providers=[listing(provider)])

    async def listed() -> list[str]:
        found = await names(gateway)
        await gateway.aclose()
        return found

    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(listed, backend=backend) == ["fake-model"]
    assert len(provider.requests) == 1


def test_a_loop_that_ended_in_the_middle_does_not_keep_others_from_asking(
    stalled: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway(providers=[listing(stalled)])

    async def leave() -> None:
        monkeypatch.setattr(models, "FIRST_WAIT", 0.0)
        await names(gateway)
        await stalled.received()

    async def listed() -> list[str]:
        monkeypatch.setattr(models, "FIRST_WAIT", TIMEOUT)
        found = await names(gateway)
        await gateway.aclose()
        return found

    anyio.run(leave)
    assert anyio.run(listed) == ["fake-model"]


def test_a_loop_that_finds_another_one_asking_for_the_first_time_asks_itself(stalled: FakeProvider) -> None:
    gateway = Gateway(providers=[listing(stalled)])

    async def listed() -> list[str]:
        found = await names(gateway)
        await gateway.aclose()
        return found

    with anyio.from_thread.start_blocking_portal() as portal:
        first = portal.start_task_soon(listed)
        portal.call(stalled.received)
        assert anyio.run(listed) == ["fake-model"]
        (one,) = gateway.discovery.lists.values()
        portal.call(answered, stalled, one)
        assert first.result(TIMEOUT) == ["fake-model"]
    assert len(stalled.requests) == 2
