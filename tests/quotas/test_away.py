"""While shared counters do not answer: closed for tokens and money, in this process for requests, and nothing lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.errors import QuotaUnavailable
from gomodel_asgi.observers import QuotaChecked, Warned
from gomodel_asgi.quotas import MemoryCounters, Quota, Quotas, RedisCounters
from gomodel_asgi.seams.counters import Line, Reserved
from gomodel_asgi.testing import FakeProvider, Stall

from ..support.databases import RedisServer
from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.engines import new_redis, running
from ..support.lab import ONCE, until
from ..support.seen import Seen, native
from ..support.spending import always, left, month, released, settled

HELLO = {"model": "m", "input": "Hello"}


class Elsewhere(MemoryCounters):
    """Counters of this process that can be away: *back*, if set, is waited for by each call, *answers* False refuses
    them."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = True
        self.back: anyio.Event | None = None
        self.asked = 0

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        reserved = await super().reserve(hold, lines, now)
        await self._check()
        return reserved

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        await self._check()
        await super().settle(hold, lines, actual, now)

    async def _check(self) -> None:
        self.asked += 1
        if self.back is not None:
            await self.back.wait()
        if not self.answers:
            raise QuotaUnavailable("Away.", detail="ConnectionError")


class Remote:
    """*counters*, as if they were in another process."""

    shared = True
    timeout = TIMEOUT

    def __init__(self, counters: Elsewhere) -> None:
        self.reserve, self.settle = counters.reserve, counters.settle
        self.figures, self.aclose = counters.figures, counters.aclose


def gateway_of(provider: FakeProvider, quotas: Quotas, *observers: Any) -> Gateway:
    return Gateway(providers=[native(provider)], observers=observers, quotas=quotas, retries=ONCE)


def minute(**options: Any) -> Quotas:
    return always(Quota("minute", per="minute", requests=2), **options)


async def test_tokens_and_money_are_refused_while_counters_are_away(provider: FakeProvider) -> None:
    counters, seen = Elsewhere(), Seen()
    async with gateway_of(provider, month(counters=Remote(counters)), seen) as gateway:
        counters.answers = False
        refused = await ask(gateway, HELLO)
        assert (refused.status, refused.error["code"]) == (503, "quota_unavailable")
        assert refused.headers["retry-after"] == "1" and provider.requests == []
        assert {one.outcome for one in seen.of(QuotaChecked)} == {"unavailable"}
        counters.answers = True
        assert (await ask(gateway, HELLO)).status == 200
        assert (await settled(gateway))[0] > 0  # and nothing is held of the reservation whose answer was lost


async def test_request_rates_go_on_in_this_process_at_the_same_figures(provider: FakeProvider) -> None:
    counters, seen = Elsewhere(), Seen()
    async with gateway_of(provider, minute(counters=Remote(counters)), seen) as gateway:
        counters.answers = False
        assert [(await ask(gateway, HELLO)).status for _ in range(3)] == [200, 200, 429]
        counters.answers = True  # or closing would wait for them
    assert [one.outcome for one in seen.of(QuotaChecked)] == ["unavailable", "unavailable", "refused"]


@pytest.mark.parametrize(("say", "statuses"), [("admit", [200, 200, 429]), ("refuse", [503, 503, 503])])
async def test_the_host_may_say_otherwise(provider: FakeProvider, say: Any, statuses: list[int]) -> None:
    counters = Elsewhere()
    quotas = always(
        Quota("minute", per="minute", requests=2, tokens=100_000), counters=Remote(counters), on_unavailable=say
    )
    async with gateway_of(provider, quotas) as gateway:
        counters.answers = False
        assert [(await ask(gateway, HELLO)).status for _ in range(3)] == statuses
        counters.answers = True


async def test_in_the_shadow_nothing_is_refused_either(provider: FakeProvider) -> None:
    counters = Elsewhere()
    async with gateway_of(provider, month(counters=Remote(counters), shadow=True)) as gateway:
        counters.answers = False
        assert (await ask(gateway, HELLO)).status == 200
        counters.answers = True


async def test_a_client_that_leaves_while_counters_are_asked_leaves_nothing_held(provider: FakeProvider) -> None:
    counters = Elsewhere()
    async with gateway_of(provider, month(counters=Remote(counters))) as gateway:
        counters.back = anyio.Event()
        async with anyio.create_task_group() as group:
            caller = Caller(scope_of(), [encoded(HELLO)])
            group.start_soon(caller.run, gateway)
            await until(lambda: counters.asked == 1)
            assert (await left(gateway)).held > 0
            caller.leave()
        counters.back.set()
        assert await settled(gateway) == (0, 0) and provider.requests == []


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may freeze."""
    server = new_redis()
    with running(server):
        yield server
        server.signal(signal.SIGCONT)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stream_that_ends_while_redis_is_stopped_is_booked_when_it_is_back(
    provider: FakeProvider, redis: RedisServer
) -> None:
    seen = Seen()
    provider.fail_next(Stall(after_events=3))
    async with gateway_of(provider, month(counters=RedisCounters(redis.url)), seen) as gateway:
        async with anyio.create_task_group() as group:
            caller = Caller(scope_of(), [encoded(HELLO | {"stream": True})])
            group.start_soon(caller.run, gateway)
            await caller.until(2)
            assert (await left(gateway)).held > 0
            redis.signal(signal.SIGSTOP)
            await released(provider, lambda: caller.complete)
        total = caller.events()[-1]["response"]["usage"]["total_tokens"]
        refused = await ask(gateway, HELLO)
        assert (refused.status, refused.error["code"]) == (503, "quota_unavailable")
        await until(lambda: seen.of(Warned))
        redis.signal(signal.SIGCONT)
        with anyio.fail_after(TIMEOUT):
            while True:
                try:
                    if await settled(gateway) == (total, total):
                        break
                except QuotaUnavailable:
                    await anyio.sleep(0.05)
    assert [one.message for one in seen.of(Warned)] == ["quotas: what a request has used is booked later: TimeoutError"]
