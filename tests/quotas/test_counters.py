"""What every engine of counters has to do."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import anyio
import msgspec
import pytest

from gomodel_asgi.quotas.windows import LENGTHS, Per, admits_at, window
from gomodel_asgi.seams.counters import PARTS, REPEATS, Counters, Figures, Line, Reserved

from .engines import ENGINES, Open, opener
from .lines import KEEPS, NOON, SLOT, line

HALF = NOON + 30
"""Half a minute after noon: the minute before counts half."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=ENGINES)
def open_counters(request: pytest.FixtureRequest) -> Open:
    return opener(request.param, request)


@pytest.fixture
async def counters(open_counters: Open) -> AsyncGenerator[Counters, None]:
    counters = open_counters()
    yield counters
    await counters.aclose()


async def read(counters: Counters, one: Line, now: float = NOON) -> tuple[int, int]:
    """What the line has spent and held."""
    (found,) = await counters.figures([one], now)
    return found.spent, found.held


async def used(counters: Counters, hold: str, one: Line, actual: int, now: float = NOON) -> None:
    """A request from its beginning to its end."""
    assert (await counters.reserve(hold, [one], now)).refused is None
    await counters.settle(hold, [one], [actual], now)


# Reserve...


async def test_what_nobody_has_used_is_nothing(counters: Counters) -> None:
    assert await read(counters, line()) == (0, 0)
    assert await counters.figures([], NOON) == ()


async def test_a_line_that_holds_is_held_and_another_one_is_spent(counters: Counters) -> None:
    lines = [line(key="tokens", amount=40), line(key="requests", amount=1, holds=False)]
    reserved = await counters.reserve("a", lines, NOON)

    assert reserved == Reserved(None, (Figures(0, 40), Figures(1, 0)))
    assert await counters.figures(lines, NOON) == reserved.figures


async def test_a_line_has_room_up_to_its_limit_and_not_beyond(counters: Counters) -> None:
    assert (await counters.reserve("a", [line(amount=60)], NOON)).refused is None
    assert (await counters.reserve("b", [line(amount=41)], NOON)).refused == 0
    assert (await counters.reserve("c", [line(amount=40)], NOON)).refused is None
    assert (await counters.reserve("d", [line(amount=1)], NOON)).refused == 0
    assert (await counters.reserve("e", [line(amount=0)], NOON)).refused is None


async def test_all_lines_are_reserved_or_none(counters: Counters) -> None:
    lines = [line(key="a", amount=10), line(key="b", amount=101), line(key="c", amount=102, holds=False)]
    reserved = await counters.reserve("a", lines, NOON)

    assert reserved == Reserved(1, (Figures(0, 0), Figures(0, 0), Figures(0, 0)))
    assert await counters.figures(lines, NOON) == reserved.figures


async def test_a_refusal_leaves_no_trace_of_its_hold(counters: Counters) -> None:
    await counters.reserve("a", [line(amount=101)], NOON)
    assert (await counters.reserve("a", [line(amount=100)], NOON)).refused is None
    await counters.settle("a", [line(amount=100)], [7], NOON)

    assert await read(counters, line()) == (7, 0)


async def test_what_others_hold_leaves_less_room_and_is_told_apart_from_what_is_spent(counters: Counters) -> None:
    await used(counters, "a", line(amount=30), 50)
    await counters.reserve("b", [line(amount=45)], NOON)
    refused = await counters.reserve("c", [line(amount=6)], NOON)

    assert refused == Reserved(0, (Figures(50, 45),))


async def test_keys_and_windows_count_apart(counters: Counters) -> None:
    december = NOON + 5 * 24 * 3600
    for number, one in enumerate([line(), line(key="other"), line(per="day"), line(december)]):
        assert (await counters.reserve(f"{number}", [one], NOON)).figures == (Figures(0, 1),)


async def test_no_lines_are_always_reserved(counters: Counters) -> None:
    assert await counters.reserve("a", [], NOON) == Reserved(None, ())
    await counters.settle("a", [], [], NOON)


async def test_two_lines_that_would_count_in_one_counter_are_refused(counters: Counters) -> None:
    with pytest.raises(ValueError, match="same key and window"):
        await counters.reserve("a", [line(amount=1), line(amount=2, holds=False)], NOON)


# Settle...


@pytest.mark.parametrize("actual", [0, 7, 40, 60, 500])
async def test_what_was_really_used_takes_the_place_of_what_was_held(counters: Counters, actual: int) -> None:
    await used(counters, "a", line(amount=40), actual)

    assert await read(counters, line()) == (actual, 0)


async def test_of_a_line_that_does_not_hold_the_difference_is_booked(counters: Counters) -> None:
    one = line(holds=False, amount=5)
    for hold, actual, spent in (("a", 5, 5), ("b", 0, 5), ("c", 9, 14)):
        await used(counters, hold, one, actual)
        assert await read(counters, one) == (spent, 0)


async def test_each_hold_releases_its_own(counters: Counters) -> None:
    await counters.reserve("a", [line(amount=30)], NOON)
    await counters.reserve("b", [line(amount=40)], NOON)
    await counters.settle("a", [line(amount=30)], [10], NOON)

    assert await read(counters, line()) == (10, 40)


async def test_what_is_settled_late_counts_in_the_window_of_its_reservation(counters: Counters) -> None:
    before, after = line(amount=40), line(NOON + 3 * 24 * 3600)
    await counters.reserve("a", [before], NOON)
    await counters.settle("a", [before], [30], NOON + 3 * 24 * 3600)

    assert await read(counters, before) == (30, 0)
    assert await read(counters, after) == (0, 0)


async def test_a_hold_that_was_never_reserved_books_all_of_it(counters: Counters) -> None:
    lines = [line(key="tokens", amount=40), line(key="requests", amount=1, holds=False)]
    await counters.reserve("other", lines, NOON)
    await counters.settle("lost", lines, [30, 1], NOON)

    assert await counters.figures(lines, NOON) == (Figures(30, 40), Figures(2, 0))


async def test_a_correction_may_be_negative_and_a_counter_stops_at_nothing(counters: Counters) -> None:
    await used(counters, "a", line(amount=40), 40)
    await counters.settle("first correction", [line(amount=0)], [-15], NOON)
    assert await read(counters, line()) == (25, 0)
    await counters.settle("second correction", [line(amount=0)], [-50], NOON)

    assert await read(counters, line()) == (0, 0)


# Again...


async def test_a_reservation_that_is_repeated_counts_once(counters: Counters) -> None:
    lines = [line(key="tokens", amount=60), line(key="requests", amount=1, holds=False)]
    first = await counters.reserve("a", lines, NOON)

    assert await counters.reserve("a", lines, NOON) == first
    await counters.settle("a", lines, [50, 1], NOON)
    assert await counters.figures(lines, NOON) == (Figures(50, 0), Figures(1, 0))


async def test_a_reservation_that_is_repeated_is_not_refused_for_want_of_room(counters: Counters) -> None:
    await counters.reserve("a", [line(amount=100)], NOON)

    assert (await counters.reserve("a", [line(amount=100)], NOON)).refused is None


async def test_a_settlement_that_is_repeated_books_once(counters: Counters) -> None:
    lines = [line(key="tokens", amount=60), line(key="requests", amount=1, holds=False)]
    await counters.reserve("a", lines, NOON)
    for _ in range(3):
        await counters.settle("a", lines, [50, 3], NOON + REPEATS - 1)

    assert await counters.figures(lines, NOON) == (Figures(50, 0), Figures(3, 0))


async def test_a_settlement_that_is_repeated_with_another_figure_books_the_first(counters: Counters) -> None:
    await used(counters, "a", line(amount=60), 50)
    await counters.settle("a", [line(amount=60)], [10], NOON)

    assert await read(counters, line()) == (50, 0)


async def test_a_reservation_that_comes_after_its_settlement_reserves_nothing(counters: Counters) -> None:
    await counters.settle("a", [line(amount=60)], [0], NOON)

    assert await counters.reserve("a", [line(amount=60)], NOON) == Reserved(None, (Figures(0, 0),))
    assert await read(counters, line()) == (0, 0)


# Holds that nobody settles...


async def test_a_hold_counts_no_more_from_the_slot_on_that_lies_a_lifetime_later(counters: Counters) -> None:
    await counters.reserve("a", [line(amount=60)], NOON)
    last = NOON + 7 * SLOT - 1
    assert await read(counters, line(last), last) == (0, 60)

    assert await read(counters, line(last + 1), last + 1) == (0, 0)
    assert (await counters.reserve("b", [line(last + 1, amount=100)], last + 1)).figures == (Figures(0, 100),)


@pytest.mark.parametrize("slots", [7, 20])
async def test_a_hold_that_counts_no_more_is_booked_all_the_same_and_releases_nobody_elses(
    counters: Counters, slots: int
) -> None:
    first, now = line(amount=60), NOON + slots * SLOT
    await counters.reserve("dead", [first], NOON)
    await counters.reserve("alive", [line(now, amount=70)], now)
    await counters.settle("dead", [first], [50], now)
    assert await read(counters, line(now), now) == (50, 70)

    await counters.settle("alive", [line(now, amount=70)], [10], now)
    assert await read(counters, line(now), now) == (60, 0)


async def test_a_worker_whose_clock_is_ahead_frees_nobody_elses_holds(counters: Counters) -> None:
    await counters.reserve("a", [line(amount=60)], NOON)
    ahead = NOON + 7 * SLOT
    await counters.reserve("b", [line(ahead, amount=10)], ahead)
    assert await read(counters, line()) == (0, 70)

    await counters.settle("a", [line(amount=60)], [20], NOON)
    assert await read(counters, line()) == (20, 10)


# Windows that slide...


async def test_the_window_before_counts_by_its_weight_rounded_up(counters: Counters) -> None:
    await used(counters, "a", line(NOON - 1, per="minute", amount=50), 51)
    assert await read(counters, line(HALF, per="minute"), HALF) == (26, 0)
    assert await read(counters, line(NOON, per="minute")) == (51, 0)
    assert await read(counters, line(NOON + 60, per="minute"), NOON + 60) == (0, 0)


async def test_what_the_window_before_holds_counts_by_its_weight_too(counters: Counters) -> None:
    await counters.reserve("a", [line(NOON - 1, per="minute", amount=51)], NOON - 1)
    await used(counters, "b", line(NOON - 1, per="minute", amount=20), 20)
    reserved = await counters.reserve("c", [line(HALF, per="minute", amount=5)], HALF)

    # 71 are weighted and rounded up together: 36, of which 10 are spent.
    assert reserved.figures == (Figures(10, 31, 71),)
    assert (await counters.reserve("d", [line(HALF, per="minute", amount=60)], HALF)).refused == 0
    assert (await counters.reserve("d", [line(HALF, per="minute", amount=59)], HALF)).refused is None


async def test_a_hold_of_the_window_before_is_released_there(counters: Counters) -> None:
    before = line(NOON - 1, per="minute", amount=100)
    await counters.reserve("a", [before], NOON - 1)
    await counters.settle("a", [before], [10], HALF)

    assert await read(counters, line(HALF, per="minute"), HALF) == (5, 0)


@pytest.mark.parametrize("per", sorted(LENGTHS))
async def test_a_refused_line_is_admitted_at_the_very_second_that_is_told(counters: Counters, per: Per) -> None:
    drawn = random.Random(per)
    for number in range(40):
        key, limit = f"k{number}", drawn.choice([10, 1000, 10**9])
        now = NOON + drawn.random() * LENGTHS[per]
        before, here = (drawn.randint(0, limit) for _ in range(2))
        await used(counters, f"{key} before", line(now - LENGTHS[per], key=key, per=per, limit=limit), before)
        await counters.settle(f"{key} here", [line(now, key=key, per=per, limit=limit)], [here], now)
        wanted = line(now, key=key, per=per, limit=limit, amount=drawn.randint(1, limit), holds=drawn.random() < 0.5)
        told = await counters.reserve("wanted", [wanted], now)
        if told.refused is None:
            await counters.settle("wanted", [wanted], [0], now)
            continue
        then = admits_at(wanted, told.figures[0])
        assert then is not None and then > now
        too_early, in_time = (
            msgspec.structs.replace(wanted, window=window(per, datetime.fromtimestamp(moment, UTC)))
            for moment in (then - 0.000_001, then)
        )
        assert (await counters.reserve(f"{key} early", [too_early], then)).refused == 0
        assert (await counters.reserve(f"{key} then", [in_time], then)).refused is None


# Size...


async def test_amounts_are_exact_up_to_the_bound_of_every_engine(counters: Counters) -> None:
    most = 2**53 - 1
    one = line(limit=most, amount=most - 2)
    assert (await counters.reserve("a", [one], NOON)).figures == (Figures(0, most - 2),)
    assert (await counters.reserve("b", [line(limit=most, amount=3)], NOON)).refused == 0
    await counters.settle("a", [one], [most - 1], NOON)
    assert await read(counters, one) == (most - 1, 0)
    assert (await counters.reserve("c", [line(limit=most, amount=2)], NOON)).refused == 0

    assert (await counters.reserve("d", [line(limit=most, amount=1)], NOON)).figures == (Figures(most - 1, 1),)
    assert (await counters.reserve("e", [line(key="e", limit=most, amount=2**70)], NOON)).refused == 0


async def test_what_is_left_of_large_holds_is_exact(counters: Counters) -> None:
    most, large = 2**53 - 1, 2**52 - 3
    for hold in ("a", "b"):
        await counters.reserve(hold, [line(limit=most, amount=large)], NOON)
    await counters.settle("a", [line(limit=most, amount=large)], [0], NOON)

    assert await read(counters, line(limit=most)) == (0, large)


@pytest.mark.parametrize("parts", [1, 333_333, 999_999, PARTS])
async def test_a_share_is_exact_where_its_product_is_not_a_double(counters: Counters, parts: int) -> None:
    most = 2**53 - 1
    await counters.settle("a", [line(NOON - 1, per="minute", limit=most)], [most], NOON)
    one = line(NOON, per="minute", limit=most)
    one = msgspec.structs.replace(one, window=msgspec.structs.replace(one.window, weight=parts / PARTS))

    assert await read(counters, one) == (-(-most * parts // PARTS), 0)


async def test_what_is_used_beyond_all_measure_uses_up_the_counter_and_breaks_nothing(counters: Counters) -> None:
    await used(counters, "a", line(amount=40), 10**30)
    assert (await counters.reserve("b", [line(amount=1)], NOON)).refused == 0
    await counters.settle("c", [line()], [10**30], NOON)
    ((spent, held),) = [await read(counters, line())]

    assert spent >= 2**53 - 1 and held == 0
    await counters.settle("d", [line()], [-(10**31)], NOON)
    assert await read(counters, line()) == (0, 0)


# Many at once...


async def test_of_many_requests_at_once_exactly_as_many_are_admitted_as_have_room(open_counters: Open) -> None:
    workers = [open_counters() for _ in range(2)]
    admitted: list[str] = []

    async def ask(hold: str, worker: Counters) -> None:
        lines = [line(key=key, limit=10, amount=1) for key in random.sample(["a", "b", "c"], 3)]
        if (await worker.reserve(hold, lines, NOON)).refused is None:
            admitted.append(hold)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ask, f"{number}", workers[number % 2])
    assert len(admitted) == 10
    assert [await read(workers[0], line(key=key)) for key in "abc"] == [(0, 10)] * 3
    for worker in workers:
        await worker.aclose()


async def test_a_counter_is_kept_as_long_as_a_request_may_take_after_its_window(counters: Counters) -> None:
    one = line(per="day", amount=40)
    await counters.reserve("a", [one], NOON)
    last = one.window.ends + KEEPS - 1
    for number in range(20):
        await counters.reserve(f"{number}", [line(last, key="other", limit=10**6)], last)

    assert await read(counters, one, last) == (0, 40)


def test_no_engine_shows_an_address_in_its_repr(open_counters: Open) -> None:
    assert "://" not in repr(open_counters())
