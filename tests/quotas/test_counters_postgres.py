"""Counters in PostgreSQL: tables, rights, rows that go, and requests that meet."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from gomodel_asgi.errors import QuotaUnavailable
from gomodel_asgi.quotas.postgres import BIGINT, LONGEST_NAME, MOST, PURGE_AFTER, PURGE_ROWS, PostgresCounters, ddl
from gomodel_asgi.seams.counters import REPEATS, Figures
from gomodel_asgi.stores.postgres_pool import LOCK

from ..support.clock import until
from ..support.databases import PostgresServer
from .engines import TIMEOUT
from .lines import KEEPS, NOON, SLOT, line


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def table() -> str:
    return f"t{os.urandom(8).hex()}"


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncGenerator[asyncpg.Pool, None]:
    async with asyncpg.create_pool(postgres_server.dsn, min_size=0, max_size=4) as pool:
        yield pool


@pytest.fixture
async def counters(postgres_server: PostgresServer, table: str) -> AsyncGenerator[PostgresCounters, None]:
    counters = PostgresCounters(postgres_server.dsn, table=table, timeout=TIMEOUT)
    yield counters
    await counters.aclose()


async def count(pool: asyncpg.Pool, table: str) -> int:
    found: int = await pool.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_a_pool_of_the_host_is_used_and_left_open(pool: asyncpg.Pool, table: str) -> None:
    counters = PostgresCounters(pool, table=table, timeout=TIMEOUT)
    await counters.reserve("a", [line(amount=40)], NOON)
    await counters.settle("a", [line(amount=40)], [30], NOON)
    await counters.aclose()

    assert await pool.fetchval(f"SELECT spent FROM {table}") == 30


async def test_workers_that_start_at_once_make_the_tables_once(postgres_server: PostgresServer, table: str) -> None:
    workers = [PostgresCounters(postgres_server.dsn, table=table, timeout=TIMEOUT) for _ in range(6)]
    await asyncio.gather(*(each.reserve(f"{n}", [line()], NOON) for n, each in enumerate(workers)))
    assert await workers[0].figures([line()], NOON) == (Figures(0, 6),)
    for worker in workers:
        await worker.aclose()


async def test_tables_that_appear_while_we_wait_to_make_them_are_used(
    pool: asyncpg.Pool, counters: PostgresCounters, table: str
) -> None:
    async with pool.acquire() as other:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            task = asyncio.create_task(counters.reserve("a", [line()], NOON))
            while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                assert not task.done()
            await other.execute(ddl(table))
    await task

    assert await count(pool, table) == 1


async def test_a_database_that_takes_longer_to_open_than_a_call_may_take_is_open_for_the_next(
    pool: asyncpg.Pool, postgres_server: PostgresServer, table: str
) -> None:
    counters = PostgresCounters(postgres_server.dsn, table=table, timeout=0.05)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        for _ in range(3):
            with pytest.raises(QuotaUnavailable):
                await counters.reserve("a", [line()], NOON)

    async def is_made() -> bool:
        return await pool.fetchval("SELECT to_regproc($1)", f"{table}_settle_1") is not None

    await until(is_made)
    await counters.aclose()


async def test_an_opening_that_is_closed_is_given_up(
    pool: asyncpg.Pool, postgres_server: PostgresServer, table: str
) -> None:
    counters = PostgresCounters(postgres_server.dsn, table=table, timeout=TIMEOUT)
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        waiting = asyncio.create_task(counters.reserve("a", [line()], NOON))
        while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            assert not waiting.done()
        await counters.aclose()
        with pytest.raises(QuotaUnavailable):
            await waiting
        assert len(asyncio.all_tasks()) <= 2, "this test, and the one that runs its fixtures"

    assert await pool.fetchval("SELECT to_regproc($1)", f"{table}_settle_1") is None


async def test_tables_that_the_host_made_need_no_right_to_create(
    pool: asyncpg.Pool, postgres_server: Any, table: str
) -> None:
    await pool.execute(f"CREATE SCHEMA s{table}; CREATE ROLE r{table} LOGIN;" + ddl(f"s{table}.counters"))
    await pool.execute(f"GRANT USAGE ON SCHEMA s{table} TO r{table}")
    await pool.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA s{table} TO r{table}")
    dsn = postgres_server.dsn.replace("state@", f"r{table}@")
    counters = PostgresCounters(dsn, table=f"s{table}.counters", timeout=TIMEOUT)
    counters._reserved = PURGE_AFTER
    await counters.reserve("a", [line()], NOON)
    await counters.settle("a", [line()], [1], NOON)

    assert await counters.figures([line()], NOON) == (Figures(1, 0),)
    await counters.aclose()


async def test_requests_with_the_same_keys_in_any_order_never_wait_for_each_other(
    postgres_server: PostgresServer, table: str
) -> None:
    workers = [PostgresCounters(postgres_server.dsn, table=table, timeout=2 * TIMEOUT) for _ in range(2)]

    async def ask(number: int) -> None:
        worker, keys = workers[number % 2], random.sample("abcdefgh", 5)
        # At the turn of a minute: new counters, and the ones before them, are locked in the same order.
        lines = [line(NOON + 60 * (number // 50), key=key, per="minute", limit=10**6) for key in keys]
        assert (await worker.reserve(f"{number}", lines, NOON)).refused is None
        await worker.settle(f"{number}", random.sample(lines, 5), [1] * 5, NOON)

    await asyncio.gather(*(ask(number) for number in range(200)))
    lines = [line(NOON + 60 * minute, key=key, per="minute") for key in "abcdefgh" for minute in range(4)]
    alone = [
        type(one)(one.key, type(one.window)(one.window.name, one.window.ends), 1, 1, True, 0, 0, 0) for one in lines
    ]
    found = await workers[0].figures(alone, NOON)
    for worker in workers:
        await worker.aclose()

    assert sum(one.spent for one in found) == 1000 and sum(one.held for one in found) == 0


async def test_each_call_is_one_statement(counters: PostgresCounters) -> None:
    lines = [line(key=key) for key in "abc"]
    sent: list[str] = []

    def note(query: Any) -> None:
        sent.append(query.query)

    for hold in ("a", "b"):  # with the first of each the library asks what types there are
        sent.clear()
        await counters.reserve(hold, lines, NOON)
        await counters.settle(hold, lines, [1, 1, 1], NOON)
        await counters.figures(lines, NOON)
        pool = await counters._databases.get().pool()
        async with pool.acquire() as connection:
            connection.add_query_logger(note)

    assert len(sent) == 3 and all("_1(" in statement for statement in sent)


async def test_a_counter_is_one_row_and_a_hold_is_another_until_they_are_needed_no_more(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    long_ago = NOON - 400 * 24 * 3600
    for number in range(30):
        await counters.reserve(f"{number}", [line(long_ago, amount=3)], long_ago)
        await counters.settle(f"{number}", [line(long_ago, amount=3)], [2], long_ago)
    assert await count(pool, table) == 1 and await count(pool, f"{table}_holds") == 30

    await purge(counters, long_ago + REPEATS - 1)
    assert await count(pool, f"{table}_holds") == 30
    await purge(counters, long_ago + REPEATS)
    assert await count(pool, table) == 1 and await count(pool, f"{table}_holds") == 0
    await purge(counters, line(long_ago).until)
    assert await count(pool, table) == 0


async def purge(counters: PostgresCounters, now: float) -> None:
    counters._reserved = PURGE_AFTER
    await counters._purge(now)


async def test_writers_delete_more_than_they_make_and_a_bounded_number_at_once(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    await counters.figures([line()], NOON)
    await pool.execute(f"INSERT INTO {table}_holds SELECT 'h' || n, true, 0 FROM generate_series(1, 5000) AS n")
    await pool.execute(f"INSERT INTO {table} SELECT 'k' || n, 'w', 0, '{{}}', 0 FROM generate_series(1, 5000) AS n")
    for number in range(PURGE_AFTER + 1):
        await counters.reserve(f"{number}", [line(limit=10**6)], NOON)
        if number < PURGE_AFTER - 1:
            await counters.settle(f"{number}", [line(limit=10**6)], [1], NOON)
    assert await count(pool, f"{table}_holds") == 5000 + PURGE_AFTER + 1
    await counters.settle("last", [line()], [1], NOON)

    assert PURGE_ROWS > PURGE_AFTER
    assert await count(pool, f"{table}_holds") == 5000 - PURGE_ROWS + PURGE_AFTER + 2
    assert await count(pool, table) == 5000 - PURGE_ROWS + 1


async def test_a_worker_whose_clock_is_ahead_deletes_nothing_that_others_need(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    far = 10 * 366 * 24 * 3600.0
    later = NOON + far
    await counters.reserve("a", [line(later)], later)
    await purge(counters, later + far)

    assert await count(pool, table) == 1 and await count(pool, f"{table}_holds") == 1


async def test_a_failed_deletion_does_not_fail_the_settlement(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    await counters.reserve("a", [line()], NOON)
    refuse = f"refuse_{table}"
    await pool.execute(f"CREATE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
    await pool.execute(f"CREATE TRIGGER refuse BEFORE DELETE ON {table} EXECUTE FUNCTION {refuse}()")
    counters._reserved = PURGE_AFTER
    await counters.settle("a", [line()], [1], NOON)

    assert await counters.figures([line()], NOON) == (Figures(1, 0),)


async def test_slots_of_holds_that_nobody_settles_do_not_pile_up(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    for number in range(40):
        now = NOON + number * SLOT
        await counters.reserve(f"{number}", [line(now, per="week", limit=10**6)], now)

    most = await pool.fetchval(f"SELECT max((SELECT count(*) FROM jsonb_object_keys(held))) FROM {table}")
    assert most <= 13


async def test_a_counter_is_not_kept_for_a_shorter_time_than_somebody_asked_for(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    short = line()
    long = type(short)(short.key, short.window, 100, 1, True, short.slot, short.oldest, 2 * KEEPS)
    for number, one in enumerate([short, long, short]):
        await counters.reserve(f"{number}", [one], NOON)
        await counters.settle(f"{number}", [one], [1], NOON)

    assert await pool.fetchval(f"SELECT until FROM {table}") == long.until


async def test_amounts_are_exact_up_to_the_largest_integer_of_the_database(counters: PostgresCounters) -> None:
    await counters.settle("a", [line(limit=MOST)], [MOST - 1], NOON)
    one = line(limit=MOST, amount=1)
    assert (await counters.reserve("b", [one], NOON)).figures == (Figures(MOST - 1, 1),)
    assert (await counters.reserve("c", [line(limit=MOST, amount=1, holds=False)], NOON)).refused == 0
    await counters.settle("b", [one], [2], NOON)

    assert await counters.figures([one], NOON) == (Figures(BIGINT, 0),)
    with pytest.raises(ValueError, match="PostgreSQL counts to 9,223,372,036,854,775,806: the limit"):
        await counters.reserve("d", [line(limit=MOST + 1)], NOON)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a;b", "A", "1a", "a.b.c", "a" * (LONGEST_NAME + 1)])
def test_a_table_name_that_would_need_quoting_or_leaves_no_room_for_others_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="table must"):
        PostgresCounters("postgresql://127.0.0.1/db", table=name)


def test_the_longest_name_fits_with_all_that_is_made_of_it() -> None:
    name = "a" * LONGEST_NAME
    words = ddl(f"schema.{name}").replace("(", " ").split()

    assert all(len(word.rpartition(".")[2]) <= 63 for word in words if name in word)
    PostgresCounters("postgresql://127.0.0.1/db", table=f"schema.{name}")


async def test_a_database_that_refuses_is_unavailable_and_its_words_are_not_told(
    counters: PostgresCounters, pool: asyncpg.Pool, table: str
) -> None:
    await counters.reserve("a", [line()], NOON)
    await pool.execute(f"ALTER TABLE {table} RENAME TO gone_{table}")
    with pytest.raises(QuotaUnavailable) as caught:
        await counters.settle("a", [line()], [1], NOON)

    assert (caught.value.status, caught.value.code, caught.value.detail) == (
        503,
        "quota_unavailable",
        "UndefinedTableError",
    )
    assert table not in f"{caught.value} {caught.value.payload}"
