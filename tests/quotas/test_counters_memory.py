"""Counters in memory: on every event loop, in every thread, and no more of them than are needed."""

from __future__ import annotations

import asyncio
import sys
import threading

from gomodel_asgi.quotas.memory import MemoryCounters
from gomodel_asgi.seams.counters import REPEATS, Counters

from .lines import KEEPS, NOON, SLOT, line


async def test_counting_is_one_step_on_every_event_loop() -> None:
    counters: Counters = MemoryCounters()
    for call in (
        counters.reserve("a", [line()], NOON),
        counters.settle("a", [line()], [1], NOON),
        counters.figures([line()], NOON),
        counters.aclose(),
    ):
        try:
            call.send(None)
        except StopIteration:
            continue
        raise AssertionError("it waited")


def test_threads_with_loops_of_their_own_count_together() -> None:
    counters = MemoryCounters()
    admitted: list[str] = []

    async def ask(worker: int) -> None:
        for number in range(200):
            hold = f"{worker}-{number}"
            lines = [line(key="a", limit=500), line(key="b", limit=500, holds=False)]
            if (await counters.reserve(hold, lines, NOON)).refused is None:
                admitted.append(hold)
                await counters.settle(hold, lines, [1, 1], NOON)

    threads = [threading.Thread(target=lambda worker=worker: asyncio.run(ask(worker))) for worker in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)

    assert len(admitted) == 500
    spent = asyncio.run(counters.figures([line(key="a"), line(key="b")], NOON))
    assert [(one.spent, one.held) for one in spent] == [(500, 0), (500, 0)]


async def test_counters_and_holds_go_when_they_are_needed_no_more() -> None:
    counters = MemoryCounters()
    for minute in range(600):
        now = NOON + 60 * minute
        lines = [line(now, key=key, per="minute", limit=1000) for key in ("a", "b", "c")]
        for number in range(3):
            hold = f"{minute}-{number}"
            await counters.reserve(hold, lines, now)
            if number:
                await counters.settle(hold, lines, [1, 1, 1], now)

    # A minute's counter is needed for another minute and KEEPS seconds; each call forgets twice as many as it makes.
    needed = (KEEPS + 120) / 60
    assert len(counters) <= 3 * (needed + 2)
    assert len(counters._ends) == len(counters)
    assert len(counters._open) <= (KEEPS + REPEATS) / 60 + 2
    assert len(counters._settled) <= 2 * (REPEATS / 60 + 2)
    assert f"{len(counters)}" in repr(counters)


async def test_forgetting_is_a_few_steps_for_each_call_however_much_has_ended() -> None:
    counters = MemoryCounters()
    for number in range(1000):
        await counters.reserve(f"{number}", [line(key=f"{number}", per="minute")], NOON)
    later = NOON + 10 * KEEPS
    await counters.reserve("later", [line(later, per="minute")], later)

    assert len(counters) == 1000 - 2 + 1
    assert len(counters._open) == 1000 - 2 + 1


async def test_a_counter_lives_as_long_as_whoever_needs_it_longest() -> None:
    counters = MemoryCounters()
    short, long = line(per="minute", amount=30), line(per="minute", amount=30)
    long = type(long)(long.key, long.window, long.limit, long.amount, True, long.slot, long.oldest, 10 * KEEPS)
    await counters.reserve("short", [short], NOON)
    await counters.reserve("long", [long], NOON)
    later = NOON + 5 * KEEPS
    for number in range(10):
        await counters.reserve(f"{number}", [line(later, key=f"{number}")], later)

    assert (await counters.figures([short], later))[0].held == 60


async def test_slots_of_holds_that_nobody_settles_do_not_pile_up() -> None:
    counters = MemoryCounters()
    for number in range(200):
        now = NOON + number * SLOT
        await counters.reserve(f"{number}", [line(now, limit=10**6)], now)
    (counter,) = [counters._counters["k", window] for window in ("month:2026-11",)]

    assert len(counter.held) <= 13


def test_that_each_process_counts_for_itself_has_to_be_said() -> None:
    assert MemoryCounters().per_process is False
    assert MemoryCounters(per_process=True).per_process is True
    assert MemoryCounters().shared is False


async def test_it_knows_which_holds_are_open() -> None:
    counters = MemoryCounters()
    await counters.reserve("a", [line()], NOON)
    await counters.reserve("refused", [line(amount=1000)], NOON)

    assert "a" in counters and "refused" not in counters
    await counters.settle("a", [line()], [1], NOON)
    assert "a" not in counters
