"""The ledger on real databases: stopped, written by several at once, read by its indexes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.ledger import Ledger, Selection, SqlLedger, first_id, metadata
from gomodel_asgi.ledger.row import OPEN, Entry
from gomodel_asgi.ledger.sql_ledger import oldest, spending
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.databases import PostgresServer
from ..support.driving import ask
from ..support.engines import new_postgres, running
from ..support.lab import ONCE, until
from ..support.ledgers import NOON, entries, row, rows_of, settled

pytestmark = pytest.mark.anyio
MONTH = date(2026, 11, 1), date(2026, 12, 1)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    server = new_postgres()
    with running(server):
        yield server


@pytest.mark.parametrize("spills", [False, True])
async def test_a_database_that_is_stopped_for_a_while_loses_no_row(
    own_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spills: bool
) -> None:
    monkeypatch.setattr("gomodel_asgi.ledger.writer.EVERY", 0.01)
    monkeypatch.setattr("gomodel_asgi.ledger.writer.PAUSES", (0.05,))
    engine = create_async_engine(f"postgresql+asyncpg://state@/postgres?host={own_server.directory}")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    ledger = Ledger(SqlLedger(engine), spill=tmp_path / "spill" if spills else None)
    writer, count = ledger.writers.here(), 0

    def book(rows: int) -> None:
        nonlocal count
        count += rows
        for _ in range(rows):
            ledger.book(writer, Entry(row()))

    book(700)
    assert await ledger.flush()
    own_server.stop()
    book(900)
    assert await ledger.flush(0.5) is spills
    own_server.start()
    book(5)
    assert await ledger.flush()
    await until(lambda: not list(tmp_path.iterdir()))
    assert len(await rows_of(ledger.sink)) == count
    (whole,) = await ledger.sums(*MONTH, by=())
    assert (whole.requests, whole.input_tokens, whole.cost) == (count, 10 * count, Decimal("0.001") * count)
    await ledger.aclose()
    await engine.dispose()


WRITING = """
import asyncio, sys
from datetime import timedelta
from sqlalchemy.ext.asyncio import create_async_engine
from gomodel_asgi.ledger import SqlLedger
from tests.support.ledgers import NOON, entries, row

async def main(url, number):
    engine = create_async_engine(url)
    sinks = [SqlLedger(engine) for _ in range(3)]
    tenants = [f"t{one}" for one in range(20)]
    if number % 2:
        tenants.reverse()
    async def write(sink):
        for _ in range(20):
            await sink.write(entries(*(row(tenant=tenant) for tenant in tenants)))
    async with asyncio.TaskGroup() as tasks:
        for sink in sinks:
            tasks.create_task(write(sink))
    await engine.dispose()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_processes_that_write_at_once_wait_for_each_other_and_count_every_row(
    postgres: AsyncEngine, ledger_database: str
) -> None:
    root = str(Path(__file__).parents[2])
    commands = [[sys.executable, "-c", WRITING, ledger_database, str(number)] for number in range(2)]
    async with anyio.create_task_group() as tasks:
        for command in commands:
            tasks.start_soon(partial(anyio.run_process, command, cwd=root, env=dict(os.environ)))
    (whole,) = await SqlLedger(postgres).sums(Selection(*MONTH, by=()))
    assert whole.requests == 2 * 3 * 20 * 20
    assert whole.cost == Decimal("0.001") * whole.requests
    async with postgres.connect() as connection:
        deadlocks = sql.text("SELECT deadlocks FROM pg_stat_database WHERE datname = 'ledger'")
        assert (await connection.execute(deadlocks)).scalar() == 0


async def test_the_same_rows_written_by_several_at_once_are_counted_once(postgres: AsyncEngine) -> None:
    batch = entries(*(row() for _ in range(100)))
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(SqlLedger(postgres).write, batch[number:] + batch[:number])
    (whole,) = await SqlLedger(postgres).sums(Selection(*MONTH, by=()))
    assert whole.requests == 100 and len(await rows_of(SqlLedger(postgres))) == 100


async def plan_of(connection: AsyncConnection, query: sql.Select[tuple[object]]) -> str:
    told = str(query.compile(dialect=postgres_dialect(), compile_kwargs={"literal_binds": True}))
    return "\n".join((await connection.execute(sql.text("EXPLAIN " + told.replace(":", "\\:")))).scalars())


def postgres_dialect() -> sql.Dialect:
    from sqlalchemy.dialects import postgresql

    return postgresql.dialect()  # type: ignore[no-untyped-call]


async def test_what_a_tenant_has_spent_is_read_by_index(postgres: AsyncEngine) -> None:
    sink = SqlLedger(postgres)
    for number in range(20):
        at = NOON - timedelta(days=number)
        await sink.write(entries(*(row(at, f"tenant-{one}") for one in range(400))))
    days, first = spending("tenant-7", NOON - timedelta(days=3, hours=1))
    async with postgres.connect() as connection:
        await connection.execute(sql.text("ANALYZE gomodel_exchanges, gomodel_daily"))
        assert "gomodel_tenant_day" in await plan_of(connection, days)
        assert "gomodel_tenant_started" in await plan_of(connection, first)
    assert await sink.spent("tenant-7", NOON - timedelta(days=3, hours=1)) == Decimal("0.004")


async def test_purging_reads_old_rows_only(postgres: AsyncEngine) -> None:
    sink = SqlLedger(postgres)
    for number in range(20):
        await sink.write(entries(*(row(NOON - timedelta(days=number)) for _ in range(400))))
    async with postgres.connect() as connection:
        await connection.execute(sql.text("ANALYZE gomodel_exchanges"))
        plan = await plan_of(connection, oldest(NOON - timedelta(days=15), 100))
    assert "gomodel_exchanges_pkey" in plan and "Sort" not in plan
    assert await sink.purge(NOON - timedelta(days=15), 100, 30) == 4 * 400


async def test_purging_ends_when_its_time_is_up(engine: AsyncEngine) -> None:
    sink = SqlLedger(engine)
    await sink.write(entries(*(row(NOON) for _ in range(50))))
    assert await sink.purge(datetime(2027, 1, 1, tzinfo=UTC), 10, 0) == 0
    assert await sink.purge(datetime(2027, 1, 1, tzinfo=UTC), 10, 30) == 50


async def test_tables_that_are_not_there_count_as_a_database_that_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite3'}", poolclass=NullPool)
    ledger = Ledger(SqlLedger(engine))
    ledger.book(ledger.writers.here(), Entry(row()))
    assert not await ledger.flush(0.2)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    ledger.writers.here().retry_at = ledger.writers.here().rests_until = 0.0
    await ledger.aclose()
    assert len(await rows_of(ledger.sink)) == 1
    assert "does not take rows: OperationalError" in caplog.text
    await engine.dispose()


def test_an_engine_that_cannot_serve_is_refused_at_the_start() -> None:
    with pytest.raises(TypeError, match="AsyncEngine"):
        SqlLedger(sql.create_engine("sqlite://"))  # type: ignore[arg-type]


@pytest.mark.parametrize("created", [1_700_000_000, -1, 1e300, 2**62])
async def test_whatever_an_upstream_says_can_be_written(
    provider: FakeProvider, engine: AsyncEngine, created: float
) -> None:
    """PostgreSQL takes no NUL in a text, and neither it nor SQLite a number beyond 63 bits."""
    odd = "a\0b" + "x" * 5000
    usage = {"input_tokens": 2**52, "output_tokens": 2**70, "total_tokens": -1}
    response = {"object": "response", "id": odd, "status": odd, "model": odd, "service_tier": odd, "output": []}
    provider.script(
        Reply(json.dumps(response | {"usage": usage, "created_at": created, "background": True})),
        Reply(json.dumps({"error": {"message": odd, "code": odd, "type": odd, "param": odd}}), status=400),
    )
    ledger = Ledger(SqlLedger(engine), price=lambda *given: Decimal("NaN"))
    providers = [Provider("fake", provider.base_url)]
    async with Gateway(
        providers=providers, ledger=ledger, tenant=lambda scope: odd + "\ud800", retries=ONCE
    ) as gateway:
        for _ in range(2):
            await ask(gateway, {"model": "m", "input": "hi"})
    rows = await rows_of(ledger.sink)
    assert [row.kind for row in rows].count("exchange") == 2
    assert sum(row.input_tokens for row in rows) == 2**52
    assert len({row.tenant for row in rows}) == 1 and len(str(rows[0].tenant)) < 300


async def test_a_table_in_partitions_by_month_is_written_and_dropped_by_partition(
    own_server: PostgresServer,
) -> None:
    engine = create_async_engine(f"postgresql+asyncpg://state@/postgres?host={own_server.directory}")
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11, 12)]
    async with engine.begin() as connection:
        await connection.run_sync(partitioned().create_all)
        for first, last in pairwise(months):
            await connection.execute(
                sql.text(
                    f"CREATE TABLE gomodel_exchanges_{first:%Y_%m} PARTITION OF gomodel_exchanges "
                    f"FOR VALUES FROM ('{first_id(first)}') TO ('{first_id(last)}')"
                )
            )
    sink = SqlLedger(engine)
    old, young = row(months[1] - timedelta(milliseconds=1)), row(months[1])
    for _ in range(2):
        assert await sink.write(entries(old, young)) in (2, 0)
    async with engine.begin() as connection:
        await connection.execute(sql.text("DROP TABLE gomodel_exchanges_2026_10"))
    assert await rows_of(sink) == [young]
    assert await sink.spent("acme", months[0]) == Decimal("0.002")
    await engine.dispose()


def partitioned() -> sql.MetaData:
    """The ledger's tables, with the first in partitions."""
    copy = sql.MetaData()
    for table in metadata.sorted_tables:
        table.to_metadata(copy)
    copy.tables["gomodel_exchanges"].dialect_options["postgresql"]["partition_by"] = "RANGE (id)"
    return copy


QUERY = re.compile(r"^```text\n(SELECT.*?)^```$", re.M | re.S)


async def test_the_queries_of_the_documentation_find_what_they_say(postgres: AsyncEngine) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
    sums, unsettled, left_open = [match.group(1) for match in QUERY.finditer(page)]
    done = settled("resp_done")
    await SqlLedger(postgres).write(
        entries(
            row(outcome="queued", response_id="resp_done", attempts=(), cost="0"),
            done,
            row(outcome="queued", response_id="resp_lost", attempts=(), cost="0"),
            row(outcome=OPEN, response_id=None, attempts=(), cost=None),
        )
    )
    async with postgres.connect() as connection:
        (whole,) = (await connection.execute(sql.text(sums))).all()
        assert (whole[0], whole[1], whole[2], whole[3]) == ("acme", "gpt-5", Decimal("0.001"), 10)
        assert list((await connection.execute(sql.text(unsettled))).scalars()) == ["resp_lost"]
        assert len((await connection.execute(sql.text(left_open))).all()) == 1
