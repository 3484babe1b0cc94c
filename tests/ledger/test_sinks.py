"""What every sink must do: a row once, sums that add up, exact money, deletion by age."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from gomodel_asgi.ledger import Daily, RowsRefused, Selection, Sink
from gomodel_asgi.ledger.row import OPEN, Entry, Kept, new_id

from ..support.ledgers import NOON, entries, row, rows_of, settled

pytestmark = pytest.mark.anyio
DAY = date(2026, 11, 5)
NEXT = date(2026, 11, 6)
MIDNIGHT = datetime(2026, 11, 5, tzinfo=UTC)


async def day(sink: Sink, by: tuple[str, ...] = ()) -> list[Daily]:
    return await sink.sums(Selection(DAY, NEXT, by))


async def test_a_row_comes_back_as_it_was_written(sink: Sink) -> None:
    written = row(cost="123456.123456789", labels={"team": "ü\"'"}, quota="month", error_code="x", estimated=True)
    assert await sink.write(entries(written)) == 1
    assert await rows_of(sink) == [written]


async def test_a_row_of_which_little_is_known_comes_back_as_it_was_written(sink: Sink) -> None:
    refused = row(
        tenant=None, principal=None, labels={}, attempts=(), cost=None, response_id=None, first_event=None, status=None,
        provider=None, model_asked=None, model_target=None, model_served=None, tier=None, price_list=None,
    )  # fmt: skip
    await sink.write(entries(refused))
    assert await rows_of(sink) == [refused]


async def test_a_batch_that_is_written_again_changes_nothing(sink: Sink) -> None:
    batch = entries(*(row(NOON + timedelta(seconds=number)) for number in range(20)))
    await sink.write(batch)
    first = await day(sink)
    await sink.write(batch)
    await sink.write(batch[:5] + entries(row(NOON + timedelta(minutes=1))))
    assert len(await rows_of(sink)) == 21
    (once,), (again,) = first, await day(sink)
    assert (once.requests, again.requests) == (20, 21)
    assert (once.input_tokens, again.input_tokens) == (200, 210)
    assert (once.cost, again.cost) == (Decimal("0.020"), Decimal("0.021"))


async def test_an_open_row_is_closed_once_and_counted_when_it_is(sink: Sink) -> None:
    closed = row()
    opened = replace(closed, outcome=OPEN, attempts=(), input_tokens=0, cached_tokens=0, output_tokens=0, cost=None)
    await sink.write(entries(opened))
    assert [one.outcome for one in await rows_of(sink)] == [OPEN]
    assert sum(one.requests for one in await day(sink)) == 0
    for _ in range(2):
        await sink.write(entries(closed))
        await sink.write(entries(opened))
        assert await rows_of(sink) == [closed]
        assert [one.requests for one in await day(sink)] == [1]


async def test_sums_over_days_are_the_sums_of_the_rows(sink: Sink) -> None:
    rows = [
        row(NOON, "acme"),
        row(NOON, "acme", labels={}),
        row(NOON, None, "0.5"),
        row(NOON, "other", outcome="failed"),
        row(NOON, "acme", cost=None),
        row(NOON + timedelta(days=1), "acme"),
    ]
    await sink.write(entries(*rows))
    (whole,) = await sink.sums(Selection(DAY, NEXT + timedelta(days=1), ()))
    assert whole.requests == 6 and whole.failed == 1 and whole.unpriced == 1
    assert whole.input_tokens == sum(one.input_tokens for one in rows)
    assert whole.cost == sum((one.cost for one in rows if one.cost is not None), Decimal(0))
    by = await sink.sums(Selection(DAY, NEXT + timedelta(days=1), ("day", "tenant")))
    assert sorted((one.day, one.tenant or "", one.requests) for one in by) == [
        (DAY, "", 1), (DAY, "acme", 3), (DAY, "other", 1), (NEXT, "acme", 1)
    ]  # fmt: skip
    named = await sink.sums(Selection(DAY, NEXT, ("tenant",), ["acme", None]))
    assert {one.tenant for one in named} == {"acme", None}
    assert await sink.sums(Selection(NEXT + timedelta(days=1), NEXT + timedelta(days=9), ())) in ([], [Daily(key="")])


async def test_what_an_upstream_that_failed_has_used_counts_as_its_own(sink: Sink) -> None:
    answered = row()
    (attempt,) = answered.attempts
    failed = replace(attempt, provider="first", model="dear", cost=Decimal("2"), code="upstream_timeout")
    both = replace(
        answered, attempts=(failed, attempt), input_tokens=20, cached_tokens=10, output_tokens=6, cost=Decimal("2.001")
    )
    await sink.write(entries(both))
    found = {(one.provider, one.model): one for one in await day(sink, ("provider", "model"))}
    assert found["first", "dear"].cost == 2 and found["first", "dear"].requests == 0
    assert found["fake", "gpt-5"].cost == Decimal("0.001") and found["fake", "gpt-5"].requests == 1
    assert sum(one.input_tokens for one in found.values()) == 20


async def test_what_settles_a_response_counts_its_tokens_and_no_request(sink: Sink) -> None:
    await sink.write(
        entries(settled("resp_9"), row(attempts=(), input_tokens=0, output_tokens=0, cached_tokens=0, cost="0"))
    )
    await sink.write(entries(settled("resp_9")))
    (whole,) = await day(sink)
    assert (whole.requests, whole.input_tokens, whole.cost) == (1, 10, Decimal("0.001"))
    assert len(await rows_of(sink)) == 2


async def test_money_adds_up_to_the_last_digit(sink: Sink) -> None:
    await sink.write(entries(*(row(cost="0.000000001") for _ in range(1001)), row(cost="999999998.999999999")))
    assert await sink.spent("acme", MIDNIGHT) == Decimal("999999999.000001000")


@pytest.mark.parametrize("hours", [0, 3, 12, 13])
async def test_spent_counts_from_the_very_second(sink: Sink, hours: int) -> None:
    since = MIDNIGHT + timedelta(hours=hours)
    times = [MIDNIGHT, NOON - timedelta(microseconds=1), NOON, NOON + timedelta(hours=6), NOON + timedelta(days=2)]
    await sink.write(entries(*(row(at) for at in times), row(NOON, "other"), row(NOON, None), row(NOON, cost=None)))
    assert await sink.spent("acme", since) == sum((Decimal("0.001") for at in times if at >= since), Decimal(0))
    assert await sink.spent(None, since) == (Decimal("0.001") if since <= NOON else 0)
    assert await sink.spent("nobody", since) == 0


async def test_rows_are_purged_by_their_start_and_sums_stay(sink: Sink) -> None:
    old = [row(NOON - timedelta(days=1, seconds=number)) for number in range(25)]
    young = [row(NOON), row(NOON + timedelta(milliseconds=1))]
    await sink.write(entries(*old, *young))
    assert await sink.purge(NOON, 10, 30) == 25
    assert await rows_of(sink) == young
    assert await sink.purge(NOON, 10, 30) == 0
    assert await sink.spent("acme", NOON) == Decimal("0.002")


async def test_rows_come_back_in_pages_oldest_first(sink: Sink) -> None:
    rows = [row(NOON + timedelta(milliseconds=number)) for number in range(1203)]
    await sink.write(entries(*reversed(rows[:700])))
    await sink.write(entries(*rows[700:]))
    assert await rows_of(sink) == rows
    assert await rows_of(sink, ["other"]) == []


def kept(id: UUID, tenant: str | None = "acme", expires: datetime = datetime(2100, 1, 1, tzinfo=UTC)) -> Kept:
    return Kept(
        id=id,
        tenant=tenant,
        expires=expires,
        request=b"{}",
        response=b"\x00\xff",
        truncated=False,
        encrypted=True,
    )


async def test_content_goes_with_its_row_or_when_it_expires_or_when_its_tenant_is_forgotten(sink: Sink) -> None:
    rows = [row(NOON - timedelta(days=1)), row(), row(), row(tenant="other")]
    gone, past, forgotten, stays = rows
    contents = [kept(gone.id), kept(past.id, expires=NOON), kept(forgotten.id), kept(stays.id, "other")]
    if datetime.now(UTC) < NOON:
        contents[1] = kept(past.id, expires=datetime(2026, 1, 1, tzinfo=UTC))
    await sink.write([Entry(one, content) for one, content in zip(rows, contents, strict=True)])
    assert await sink.content(gone.id) == contents[0]
    assert await sink.purge(NOON, 100, 30) == 1
    assert [await sink.content(one.id) is None for one in rows] == [True, True, False, False]
    assert await sink.forget("acme") == 1
    assert [await sink.content(one.id) is None for one in rows] == [True, True, True, False]
    assert len(await rows_of(sink)) == 3


def test_ids_sort_by_time_and_are_of_version_7() -> None:
    ids = [new_id(NOON + timedelta(milliseconds=number)) for number in range(100)]
    assert ids == sorted(ids) and len(set(ids)) == 100
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}


async def test_a_row_is_found_from_its_very_microsecond(sink: Sink) -> None:
    times = [NOON + timedelta(microseconds=number * 997) for number in range(40)]
    await sink.write(entries(*map(row, times)))
    for since in times:
        async with aclosing(sink.rows(since, times[-1])) as found:
            assert sorted([one.started async for one in found]) == [at for at in times[:-1] if at >= since]


@pytest.mark.parametrize("facts", [{"request_id": "a\0b"}, {"input_tokens": 2**70}, {"request_id": "\ud800"}])
async def test_a_row_that_can_never_be_written_is_refused_and_takes_no_other_with_it(
    sink: Sink, facts: dict[str, Any]
) -> None:
    """Or is written: SQLite takes a NUL, and a file any number. It is never taken for a sink that is away."""
    good, bad = row(), row(**facts)
    try:
        await sink.write(entries(good, bad))
    except RowsRefused:
        assert await rows_of(sink) == []
        await sink.write(entries(good))
        assert await rows_of(sink) == [good]
    else:
        assert len(await rows_of(sink)) == 2
