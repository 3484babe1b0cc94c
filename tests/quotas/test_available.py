"""Counters that are away: nobody waits long, rates are still counted, and nothing that was used is forgotten."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import pytest

from gomodel_asgi.errors import QuotaUnavailable
from gomodel_asgi.quotas import available
from gomodel_asgi.quotas.available import MOST_RELEASES, AvailableCounters, OnUnavailable
from gomodel_asgi.quotas.memory import MemoryCounters
from gomodel_asgi.quotas.redis import RedisCounters
from gomodel_asgi.seams.counters import Counters, Figures, Line, Reserved, quota_unavailable
from gomodel_asgi.stores.circuit_breaker import FIRST

from ..support.clock import Clock
from ..support.databases import RedisServer, Server
from ..support.lab import until
from .engines import opener
from .lines import NOON, line

TOKENS = line(key="tokens", amount=40)
REQUESTS = line(key="requests", amount=1, limit=3, holds=False)

Before = Callable[[], Awaitable[object]]


async def fail() -> None:
    raise quota_unavailable("ConnectionError")


class Engine:
    """Counters of the host's that do what the test says *before* and *after* each call, and count the calls."""

    shared = True

    def __init__(self) -> None:
        self.inner = MemoryCounters()
        self.before: Before = anyio.lowlevel.checkpoint
        self.after: Before = anyio.lowlevel.checkpoint
        self.calls = 0
        self.closed = False

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        self.calls += 1
        await self.before()
        answer = await self.inner.reserve(hold, lines, now)
        await self.after()
        return answer

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        self.calls += 1
        await self.before()
        await self.inner.settle(hold, lines, actual, now)
        await self.after()

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        self.calls += 1
        await self.before()
        return await self.inner.figures(lines, now)

    async def aclose(self) -> None:
        self.closed = True

    def away(self) -> None:
        """Refuse at once, as where nobody listens."""
        self.before = fail

    def hangs(self) -> None:
        self.before = anyio.sleep_forever

    def forgets_to_answer(self) -> None:
        """Do what is asked, and break the connection."""
        self.before, self.after = anyio.lowlevel.checkpoint, fail

    def back(self) -> None:
        self.before = self.after = anyio.lowlevel.checkpoint


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def warned() -> list[str]:
    return []


def at_once(failures: int) -> float:
    """No pause before a retry."""
    return 0.0


def around(
    engine: Counters,
    warned: list[str],
    *,
    on_unavailable: OnUnavailable | None = None,
    most: int = 100,
    pause: Callable[[int], float] = at_once,
    timeout: float = 0.05,
    clock: Clock | None = None,
) -> AvailableCounters:
    return AvailableCounters(
        engine,
        timeout=timeout,
        on_unavailable=on_unavailable,
        warn=warned.append,
        most=most,
        pause=pause,
        clock=clock or Clock(),
    )


async def read(counters: Counters, one: Line = TOKENS) -> tuple[int, int]:
    (found,) = await counters.figures([one], NOON)
    return found.spent, found.held


# There...


async def test_what_the_counters_answer_is_passed_on(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned)
    assert await counters.reserve("a", [TOKENS, REQUESTS], NOON) == Reserved(None, (Figures(0, 40), Figures(1, 0)))
    assert (await counters.reserve("b", [line(key="tokens", amount=61)], NOON)).refused == 0
    await counters.settle("a", [TOKENS, REQUESTS], [30, 1], NOON)

    assert await read(counters) == (30, 0)
    assert counters.shared is True and not warned and counters.waiting == 0
    await counters.aclose()
    assert engine.closed


# Away: reservations...


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_while_they_are_away_what_holds_is_refused_and_rates_go_on_at_the_same_figures(
    engine: Engine, warned: list[str], how: str
) -> None:
    counters = around(engine, warned)
    getattr(engine, how)()
    for lines in ([TOKENS], [REQUESTS, TOKENS]):
        with pytest.raises(QuotaUnavailable) as caught:
            await counters.reserve("a", lines, NOON)
        assert (caught.value.status, caught.value.code) == (503, "quota_unavailable")
    refused = [(await counters.reserve(f"{number}", [REQUESTS], NOON)).refused for number in range(5)]

    assert refused == [None, None, None, 0, 0]
    await cancelled(counters)


async def cancelled(counters: AvailableCounters) -> None:
    """Leave nothing running behind a test that leaves the counters away."""
    for task in list(counters._retrying.values()):
        task.cancel()
        await task.wait(20)


@pytest.mark.parametrize(
    ("told", "holds", "rates"), [(None, False, True), ("admit", True, True), ("refuse", False, False)]
)
async def test_the_host_says_what_goes_on_while_they_are_away(
    engine: Engine, warned: list[str], told: OnUnavailable | None, holds: bool, rates: bool
) -> None:
    counters = around(engine, warned, on_unavailable=told)
    engine.away()
    for one, goes_on in ((TOKENS, holds), (REQUESTS, rates)):
        try:
            assert (await counters.reserve("a" if one.holds else "b", [one], NOON)).refused is None
        except QuotaUnavailable:
            assert not goes_on
        else:
            assert goes_on
    await cancelled(counters)


async def test_even_where_all_is_admitted_this_process_keeps_to_the_limits(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, on_unavailable="admit")
    engine.away()
    admitted = [(await counters.reserve(f"{number}", [TOKENS], NOON)).refused for number in range(3)]
    assert admitted == [None, None, 0]
    await counters.settle("0", [TOKENS], [10], NOON)

    assert (await counters.reserve("4", [TOKENS], NOON)).refused is None
    await cancelled(counters)


async def test_what_is_left_cannot_be_told_while_they_are_away(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned)
    engine.away()
    with pytest.raises(QuotaUnavailable):
        await counters.figures([REQUESTS], NOON)


async def test_counters_that_hang_cost_one_time_out_and_not_each_request(engine: Engine, warned: list[str]) -> None:
    clock = Clock()
    counters = around(engine, warned, clock=clock)
    engine.hangs()
    await counters.reserve("a", [REQUESTS], NOON)
    before = engine.calls
    for number in range(20):
        await counters.reserve(f"{number}", [REQUESTS], NOON)
        with pytest.raises(QuotaUnavailable) as caught:
            await counters.reserve(f"t{number}", [TOKENS], NOON)
        assert caught.value.retry_after == FIRST
    assert engine.calls == before and not counters._releases, "what was not asked has booked nothing"

    engine.back()
    clock.now += FIRST
    assert (await counters.reserve("again", [TOKENS], NOON)).figures == (Figures(0, 40),)
    await cancelled(counters)


async def test_a_reservation_whose_answer_was_lost_is_released_when_they_are_back(
    engine: Engine, warned: list[str]
) -> None:
    counters = around(engine, warned)
    engine.forgets_to_answer()
    with pytest.raises(QuotaUnavailable):
        await counters.reserve("a", [TOKENS, REQUESTS], NOON)
    assert await read(engine.inner) == (0, 40)
    engine.back()
    await until(lambda: not counters._releases and not counters._retrying)

    assert await read(engine.inner) == (0, 0) and await read(engine.inner, REQUESTS) == (0, 0)
    assert not warned, "nothing is lost"


async def test_a_reservation_that_is_refused_here_is_released_there(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned)
    engine.away()
    for number in range(3):
        assert (await counters.reserve(f"{number}", [REQUESTS], NOON)).refused is None
    engine.forgets_to_answer()
    assert (await counters.reserve("refused", [REQUESTS], NOON)).refused == 0
    assert await read(engine.inner, REQUESTS) == (1, 0)
    engine.back()
    await until(lambda: not counters._releases and not counters._retrying)

    assert await read(engine.inner, REQUESTS) == (0, 0)


async def test_a_request_that_went_on_here_is_booked_once_whether_its_reservation_was_or_not(
    engine: Engine, warned: list[str]
) -> None:
    counters = around(engine, warned, on_unavailable="admit")
    lines = [TOKENS, line(key="requests", limit=100, holds=False)]
    for hold, how in (("lost", engine.forgets_to_answer), ("never", engine.away)):
        how()
        assert (await counters.reserve(hold, lines, NOON)).refused is None
        engine.back()
        await counters.settle(hold, lines, [30, 1], NOON)

    assert await read(engine.inner) == (60, 0) and await read(engine.inner, lines[1]) == (2, 0)
    assert await read(counters.stand_in) == (60, 0)


async def test_who_is_cancelled_while_it_reserves_holds_nothing(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, timeout=60)
    engine.after = anyio.sleep_forever
    async with anyio.create_task_group() as group:
        group.start_soon(counters.reserve, "a", [TOKENS], NOON)
        await until(lambda: "a" in engine.inner)
        engine.back()
        group.cancel_scope.cancel()
    await until(lambda: not counters._retrying)

    assert await read(engine.inner) == (0, 0)


# Away: settlements...


@pytest.mark.parametrize("how", ["away", "hangs", "forgets_to_answer"])
async def test_a_settlement_that_fails_is_booked_once_when_they_are_back(
    engine: Engine, warned: list[str], how: str
) -> None:
    clock = Clock()
    counters = around(engine, warned, clock=clock)
    await counters.reserve("a", [TOKENS], NOON)
    getattr(engine, how)()
    await counters.settle("a", [TOKENS], [30], NOON)
    assert counters.waiting == 1 or how == "forgets_to_answer"
    assert len(warned) == 1 and warned[0].startswith("quotas: what a request has used is booked later: ")
    engine.back()
    clock.now += 60
    await until(lambda: not counters._retrying)

    assert counters.waiting == 0 and await read(counters) == (30, 0)


async def test_a_settlement_is_tried_again_with_longer_and_longer_pauses_until_it_is_booked(
    engine: Engine, warned: list[str]
) -> None:
    asked: list[int] = []

    def pause(failures: int) -> float:
        asked.append(failures)
        if failures == 4:
            engine.back()
        return 0.0

    counters = around(engine, warned, pause=pause)
    engine.away()
    await counters.settle("a", [TOKENS], [30], NOON)
    await until(lambda: not counters._retrying)

    assert asked == [0, 1, 2, 3, 4] and await read(engine.inner) == (30, 0)
    assert len(warned) == 1, "told once"


async def test_settlements_are_booked_in_their_order_and_one_that_is_asked_for_again_waits_once(
    engine: Engine, warned: list[str]
) -> None:
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.away()
    for actual in (10, 20, 30):
        await counters.settle("a", [TOKENS], [actual], NOON)
    await counters.settle("b", [TOKENS], [7], NOON)
    await until(lambda: len(counters._waiting) == 2)
    assert list(counters._waiting) == ["a", "b"] and len(warned) == 2
    engine.back()
    await counters.aclose()

    assert await read(engine.inner) == (17, 0)


async def test_what_has_waited_longest_is_booked_first_however_often_it_has_failed(
    engine: Engine, warned: list[str]
) -> None:
    pauses = iter([0.0] * 7)
    counters = around(engine, warned, pause=lambda failures: next(pauses, 3600.0))
    engine.away()
    for number in range(3):
        await counters.settle(f"{number}", [TOKENS], [1], NOON)
    calls = engine.calls
    await until(lambda: engine.calls == max(calls, 11) and counters.waiting == 3)

    assert list(counters._waiting) == ["0", "1", "2"]
    await cancelled(counters)


async def test_what_waits_is_bounded_and_what_is_lost_is_told(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, most=5, pause=lambda failures: 3600.0)
    engine.away()
    for number in range(8):
        await counters.settle(f"{number}", [TOKENS], [1], NOON)
        await anyio.lowlevel.checkpoint()
    await until(lambda: counters.waiting == 5)
    lost = [message for message in warned if "lost, since 5 others wait" in message]
    assert len(lost) == 3 or len(lost) == 2  # one may have been at the counters in that moment
    engine.back()
    await counters.aclose()

    assert (await read(engine.inner))[0] == 8 - len(lost)


async def test_releases_are_bounded_and_never_push_out_what_was_used(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.away()
    await counters.settle("a", [TOKENS], [30], NOON)
    for number in range(MOST_RELEASES + 50):
        with pytest.raises(QuotaUnavailable):
            await counters.reserve(f"{number}", [TOKENS], NOON)
    assert len(counters._releases) == MOST_RELEASES and counters.waiting == 1
    engine.back()
    await counters.aclose()

    assert await read(engine.inner) == (30, 0)


async def test_what_waits_is_booked_when_all_is_closed_even_if_they_have_been_left_alone(
    engine: Engine, warned: list[str]
) -> None:
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.hangs()
    await counters.settle("a", [TOKENS], [30], NOON)
    assert counters.circuit.is_open
    engine.back()
    await counters.aclose()

    assert await read(engine.inner) == (30, 0) and counters.waiting == 0
    assert not counters._retrying and engine.closed


async def test_closing_takes_a_bounded_time_and_tells_what_is_lost(
    engine: Engine, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "FAREWELL", 0.1)
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.hangs()
    for number in range(3):
        await counters.settle(f"{number}", [TOKENS], [30], NOON)
    with anyio.fail_after(20):
        await counters.aclose()

    assert warned[-1] == "quotas: what 3 requests have used could not be booked."
    assert counters.waiting == 3 and engine.closed


async def test_closing_that_is_cancelled_books_all_the_same(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.away()
    await counters.settle("a", [TOKENS], [30], NOON)
    engine.back()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await counters.aclose()

    assert await read(engine.inner) == (30, 0) and engine.closed


async def test_who_is_cancelled_while_it_settles_has_settled(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, timeout=60)
    await counters.reserve("a", [TOKENS], NOON)
    engine.hangs()
    async with anyio.create_task_group() as group:
        group.start_soon(counters.settle, "a", [TOKENS], [30], NOON)
        await until(lambda: engine.calls == 2)
        engine.back()
        group.cancel_scope.cancel()
    await until(lambda: not counters._retrying)

    assert await read(engine.inner) == (30, 0)


async def test_a_settlement_that_can_never_succeed_is_told_and_not_repeated(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned)
    engine.away()
    await counters.settle("a", [TOKENS], [30], NOON)

    async def break_down() -> None:
        raise LookupError("canary of an engine")

    engine.before = break_down
    await until(lambda: not counters._retrying)
    assert warned[-1] == "quotas: what a request has used could not be booked: LookupError"
    with pytest.raises(LookupError):
        await counters.settle("b", [TOKENS], [30], NOON)
    assert counters.waiting == 0


async def test_going_away_and_coming_back_are_each_logged_once(
    engine: Engine, warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    counters = around(engine, warned)
    for _ in range(2):
        engine.away()
        for number in range(3):
            await counters.reserve(f"{number}", [REQUESTS], NOON)
        engine.back()
        for number in range(3):
            await counters.reserve(f"{number}", [REQUESTS], NOON)
    told = [(one.levelno, one.getMessage()) for one in caplog.records if one.name == "gomodel_asgi.quotas"]

    away, back = "The quota counters do not answer: ConnectionError. ", "The quota counters answer again; "
    assert [level for level, _ in told] == [logging.WARNING, logging.INFO] * 2
    assert all(line.startswith(words) for (_, line), words in zip(told, [away, back] * 2, strict=True))


def test_what_waited_on_a_loop_that_has_closed_is_booked_by_the_next(engine: Engine, warned: list[str]) -> None:
    counters = around(engine, warned, pause=lambda failures: 3600.0)
    engine.away()

    async def first() -> None:
        await counters.settle("a", [TOKENS], [30], NOON)

    async def second() -> None:
        await counters.reserve("b", [REQUESTS], NOON)
        await until(lambda: not counters.waiting and not counters._retrying)

    asyncio.run(first())
    engine.back()
    asyncio.run(second())

    assert asyncio.run(read(engine.inner)) == (30, 0)


# Real ones...


@pytest.fixture(params=["redis", "postgres"])
async def real(request: pytest.FixtureRequest) -> AsyncGenerator[tuple[Server, Counters], None]:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    open_counters = opener(request.param, request)
    patient, counters = open_counters(), open_counters(timeout=2.0)
    await patient.figures([TOKENS], NOON)  # makes the tables
    await patient.aclose()
    await counters.figures([TOKENS], NOON)  # opens a connection
    yield server, counters
    await counters.aclose()


class Unreliable:
    """A relay to *server* that breaks one connection in five, before it has passed a call on or after."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.drawn = random.Random(20)
        self.broken = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self.server.socket)

        async def back() -> None:
            while data := await upstream_reader.read(65536):
                if not self.breaks():
                    writer.write(data)
                else:
                    break
            writer.close()
            upstream_writer.close()

        answering = asyncio.create_task(back())
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self.breaks():
                    break
                upstream_writer.write(data)
        for each in (writer, upstream_writer):
            each.close()
        await answering

    def breaks(self) -> bool:
        broken = self.drawn.random() < 0.1
        self.broken += broken
        return broken


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_however_often_connections_break_each_request_is_booked_exactly_once(
    redis_server: RedisServer, warned: list[str]
) -> None:
    relay, name = Unreliable(redis_server), f"t{os.urandom(8).hex()}:"
    plenty = [line(key="tokens", amount=40, limit=10**6), line(key="requests", limit=10**6, holds=False)]
    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        counters = around(RedisCounters(url, prefix=name, timeout=20), warned, on_unavailable="admit", timeout=20)

        async def request(number: int) -> int:
            await counters.reserve(f"{number}", plenty, NOON)
            await counters.settle(f"{number}", plenty, [number, 1], NOON)
            return number

        used = [sum(await asyncio.gather(*map(request, range(start, start + 25)))) for start in range(0, 300, 25)]
        await until(lambda: not counters.waiting and not counters._retrying)
        await counters.aclose()
    direct = RedisCounters(redis_server.url, prefix=name, timeout=20)
    found = await direct.figures(plenty, NOON)
    await direct.aclose()

    assert relay.broken > 20 and warned
    assert found == (Figures(sum(used), 0), Figures(300, 0))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_server_that_freezes_in_the_middle_of_a_settlement_has_booked_it_once_when_it_is_back(
    real: tuple[Server, Counters], warned: list[str]
) -> None:
    server, engine = real
    counters = around(engine, warned, timeout=20)
    for number in range(5):
        await counters.reserve(f"{number}", [line(key="tokens", amount=10)], NOON)
    counters._timeout = 0.2
    server.signal(signal.SIGSTOP)
    try:
        for number in range(5):
            await counters.settle(f"{number}", [line(key="tokens", amount=10)], [7], NOON)
        with pytest.raises(QuotaUnavailable):
            await counters.reserve("t", [TOKENS], NOON)
        assert (await counters.reserve("r", [REQUESTS], NOON)).refused is None
    finally:
        server.signal(signal.SIGCONT)
    counters._timeout = 20
    await counters.aclose()

    assert await read(engine) == (35, 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_server_that_stops_in_the_middle_of_a_settlement_is_told_when_it_is_back(
    real: tuple[Server, Counters], warned: list[str]
) -> None:
    """Redis has no disk here, and has forgotten what was before."""
    server, engine = real
    counters = around(engine, warned, timeout=20)
    await counters.reserve("a", [TOKENS], NOON)
    settling = asyncio.create_task(counters.settle("a", [TOKENS], [30], NOON))
    await asyncio.sleep(0)
    await asyncio.to_thread(server.stop)
    try:
        await settling
        for number in range(5):
            await counters.settle(f"{number}", [TOKENS], [1], NOON)
    finally:
        await asyncio.to_thread(server.start)
    await counters.aclose()
    spent, held = await read(engine)

    assert held == 0 and spent in (35, 5)
    assert spent == 35 or "redis" in repr(engine).lower(), "booked before it stopped, and forgotten with the rest"
    assert counters.waiting == 0
