"""What a page shows of the ledger: one query, of these tenants alone, for a bounded time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gomodel_asgi.ledger import Costs, Daily, JsonLines, Ledger, ReadFailed, Selection, Sink, SqlLedger, metadata
from gomodel_asgi.ledger.files import in_thread
from gomodel_asgi.ledger.row import COUNTS, PLACE, new_id

from ..support.databases import PostgresServer
from ..support.ledgers import NOON, entries, row

pytestmark = pytest.mark.anyio
DAY, NEXT, END = date(2026, 11, 5), date(2026, 11, 6), date(2026, 11, 7)
SOON = 0.2
BRIEF = f"did not answer within {SOON} s"


async def filled(sink: Sink) -> Ledger:
    """Costs of three tenants, one of them without a name, on two days."""
    rows = [
        *(row(NOON, "acme", "0.5", model_target=f"m{number}") for number in range(3)),
        row(NOON, "other", "0.25", outcome="failed"),
        row(NOON, None, "4", labels={"team": "b"}),
        row(NOON, "other", None),
        row(NOON + timedelta(days=1), "acme", "1"),
        row(NOON + timedelta(days=2), "acme", "64"),
    ]
    await sink.write(entries(*rows))
    return Ledger(sink)


# What they find...


async def test_a_page_has_the_first_sums_and_the_total_of_all(sink: Sink) -> None:
    ledger = await filled(sink)
    found = await ledger.costs(DAY, END, by=("tenant",), most=2)
    assert [(one.tenant, one.requests, one.cost) for one in found.rows] == [(None, 1, 4), ("acme", 4, Decimal("2.5"))]
    assert found.count == 3
    assert (found.total.requests, found.total.failed, found.total.unpriced) == (7, 1, 1)
    assert (found.total.input_tokens, found.total.cost) == (70, Decimal("6.75"))


async def test_days_come_youngest_first_and_within_them_what_cost_most(sink: Sink) -> None:
    ledger = await filled(sink)
    found = await ledger.costs(DAY, END, by=("day", "tenant"))
    assert [(one.day, one.tenant, one.cost) for one in found.rows] == [
        (NEXT, "acme", 1), (DAY, None, 4), (DAY, "acme", Decimal("1.5")), (DAY, "other", Decimal("0.25"))
    ]  # fmt: skip


@pytest.mark.parametrize("by", [(), *((name,) for name in PLACE), PLACE])
async def test_a_page_says_what_sums_say(sink: Sink, by: tuple[str, ...]) -> None:
    ledger = await filled(sink)
    for tenants in (None, ["acme"], ["acme", None], [None], ["nobody"], []):
        sums = [one for one in await ledger.sums(DAY, END, by=by, tenants=tenants) if one != Daily(key="")]
        found = await ledger.costs(DAY, END, by=by, tenants=tenants)
        assert sorted(map(repr, found.rows)) == sorted(map(repr, sums)) and found.count == len(sums)
        for name in COUNTS:
            assert getattr(found.total, name) == sum((getattr(one, name) for one in sums), Decimal(0))


async def test_a_page_of_days_without_a_row_is_empty(sink: Sink) -> None:
    assert await Ledger(sink).costs(DAY, END, by=("tenant",)) == Costs(rows=[], total=Daily(key=""), count=0)
    assert await Ledger(sink).costs(DAY, END, by=()) == Costs(rows=[], total=Daily(key=""), count=0)


async def test_one_row_is_found_by_its_id_for_its_own_tenant_alone(sink: Sink) -> None:
    mine, theirs, nobodys = row(tenant="acme"), row(tenant="other"), row(tenant=None)
    await sink.write(entries(mine, theirs, nobodys))
    ledger = Ledger(sink)
    assert await ledger.row(mine.id, tenants={"acme"}) == mine
    assert await ledger.row(mine.id) == mine
    assert await ledger.row(nobodys.id, tenants={None, "acme"}) == nobodys
    for tenants in ({"acme"}, {"acme", "more"}, set[str]()):
        assert await ledger.row(theirs.id, tenants=tenants) is None
        assert await ledger.row(nobodys.id, tenants=tenants) is None
    assert await ledger.row(new_id(NOON)) is None


async def test_a_tenant_with_a_name_that_no_column_takes_finds_its_own(sink: Sink) -> None:
    from gomodel_asgi.ledger.row import name_of

    name = "a\0" + "b" * 1000
    written = row(tenant=name_of(name))
    await sink.write(entries(written))
    assert await Ledger(sink).row(written.id, tenants={name}) == written
    assert (await Ledger(sink).costs(DAY, NEXT, tenants={name})).total.requests == 1


async def test_a_page_asks_for_what_there_is() -> None:
    ledger = Ledger(JsonLines("/nowhere/ledger.jsonl"))
    with pytest.raises(ValueError, match="by: some of day, tenant"):
        await ledger.costs(DAY, END, by=("password",))
    with pytest.raises(ValueError, match="most: at least 1"):
        await ledger.costs(DAY, END, most=0)


# How...


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that *engine* sends meanwhile."""
    seen: list[str] = []

    def see(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    sql.event.listen(engine.sync_engine, "before_cursor_execute", see)
    yield seen
    sql.event.remove(engine.sync_engine, "before_cursor_execute", see)


async def test_a_page_is_one_query_of_the_roll_up(engine: AsyncEngine) -> None:
    ledger = await filled(SqlLedger(engine))
    for by in ((), ("day",), PLACE):
        with statements(engine) as seen:
            await ledger.costs(DAY, END, by=by, tenants=["acme"])
        (query,) = [one for one in seen if "set_config" not in one]
        assert "gomodel_daily" in query and "gomodel_exchanges" not in query
    with statements(engine) as seen:
        await ledger.row(new_id(NOON), tenants=["acme"])
    assert len([one for one in seen if "set_config" not in one]) == 1


async def test_a_page_is_one_query_of_the_roll_up_in_django_too(django_sqlite: Sink) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from gomodel_asgi.ledger import django_ledger

    def asked(by: tuple[str, ...]) -> list[str]:
        with CaptureQueriesContext(connection) as seen:
            assert django_ledger._costs(Selection(DAY, END, by, ["acme"]), 500, 1.0).total.requests == 4
        return [one["sql"] for one in seen.captured_queries if "gomodel" in one["sql"]]

    await filled(django_sqlite)
    for by in ((), ("day",), PLACE):
        (query,) = await in_thread(django_ledger._connected, asked, by)
        assert "gomodel_daily" in query and "gomodel_exchanges" not in query


# For how long...


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
DAYS = "'2026-11-05'"
COUNTED = f"{ENDLESS[:-1]} LIMIT 300000) SELECT count(*) FROM n"


@pytest.fixture
async def endless_sqlite(tmp_path: Path) -> AsyncGenerator[AsyncEngine, None]:
    """A database of one connection, of which no page's query ends."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'endless.sqlite3'}", pool_size=1, max_overflow=0)
    async with engine.begin() as connection:
        for table in metadata.sorted_tables:
            columns = ", ".join(f"{DAYS if one.name == 'day' else 'i'} AS {one.name}" for one in table.columns)
            await connection.execute(sql.text(f"CREATE VIEW {table.name} AS {ENDLESS} SELECT {columns} FROM n"))
    yield engine
    await engine.dispose()


async def test_a_query_that_does_not_end_is_stopped_by_sqlite(endless_sqlite: AsyncEngine) -> None:
    sink = SqlLedger(endless_sqlite)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await sink.costs(Selection(date(1, 1, 1), date(9999, 1, 1), ()), 10, SOON)
        with pytest.raises(TimeoutError):
            await sink.row(new_id(NOON), None, SOON)
    async with endless_sqlite.connect() as connection:  # the one connection is free, and without a limit of time
        assert (await connection.execute(sql.text(COUNTED))).scalar() == 300_000


@contextmanager
def held(url: str) -> Iterator[None]:
    """Nobody else can read the tables meanwhile."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE gomodel_daily, gomodel_exchanges IN ACCESS EXCLUSIVE MODE")
        yield


async def waiting(engine: AsyncEngine) -> int:
    """How many statements wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event_type = 'Lock'"
    async with engine.connect() as connection:
        return int((await connection.execute(sql.text(query))).scalar() or 0)


@pytest.mark.parametrize("stops", ["server", "clock"])
async def test_a_query_that_waits_is_stopped_by_postgres_and_goes_on_nowhere(
    postgres: AsyncEngine, ledger_database: str, stops: str
) -> None:
    sink = SqlLedger(postgres)
    ledger = await filled(sink)
    url = ledger_database.replace("+asyncpg", "")
    for _ in range(3):
        with held(url):
            if stops == "server":
                with pytest.raises(TimeoutError):
                    await sink.costs(Selection(DAY, END, ("day",)), 10, SOON)
                with pytest.raises(TimeoutError):
                    await sink.row(new_id(NOON), None, SOON)
            else:
                with pytest.raises(ReadFailed, match=BRIEF):
                    await ledger.costs(DAY, END, seconds=SOON)
                with pytest.raises(ReadFailed, match=BRIEF):
                    await ledger.row(new_id(NOON), seconds=SOON)
            assert await waiting(postgres) == 0
    assert (await ledger.costs(DAY, END)).total.requests == 7
    async with postgres.connect() as connection:  # the host's own statements have its own limit
        assert (await connection.execute(sql.text("SHOW statement_timeout"))).scalar() == "0"


async def test_a_query_that_waits_is_stopped_in_django_too(
    django_postgres: Sink, postgres_server: PostgresServer
) -> None:
    ledger = await filled(django_postgres)
    with held(postgres_server.dsn):
        with pytest.raises(TimeoutError):
            await django_postgres.costs(Selection(DAY, END, ("day",)), 10, SOON)
        with pytest.raises(ReadFailed, match=BRIEF):
            await ledger.row(new_id(NOON), seconds=SOON)
    assert (await ledger.costs(DAY, END)).total.requests == 7


async def test_a_query_that_does_not_end_is_stopped_by_sqlite_in_django_too(
    django_sqlite: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gomodel_asgi.ledger import django_ledger

    monkeypatch.setattr(django_ledger, "_first_sums", lambda *given: endless_of_django())
    with pytest.raises(TimeoutError):
        await django_sqlite.costs(Selection(DAY, END, ("day",)), 10, SOON)
    monkeypatch.undo()
    assert (await (await filled(django_sqlite)).costs(DAY, END)).total.requests == 7


def endless_of_django() -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        return list(cursor.execute(f"{ENDLESS} SELECT count(*) FROM n"))


async def test_a_connection_that_the_pool_does_not_give_is_waited_for_as_long_and_no_longer(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'busy.sqlite3'}", pool_size=1, max_overflow=0)
    async with engine.connect():
        with pytest.raises(ReadFailed, match=BRIEF):
            await Ledger(SqlLedger(engine)).costs(DAY, END, seconds=SOON)
    await engine.dispose()


async def test_a_file_is_read_for_as_long_and_no_longer(tmp_path: Path) -> None:
    ledger = await filled(JsonLines(tmp_path / "ledger.jsonl"))
    with pytest.raises(ReadFailed, match="did not answer within 0 s"):
        await ledger.costs(DAY, END, seconds=0)
    with pytest.raises(ReadFailed, match="did not answer within 0 s"):
        await ledger.row(new_id(NOON), seconds=0)


async def test_a_sink_that_is_away_is_said_without_quoting_it(tmp_path: Path) -> None:
    engine = create_async_engine("postgresql+asyncpg://me:secret@127.0.0.1:1/db")
    with pytest.raises(ReadFailed, match=r"^The ledger cannot be read now \(\w+\)\.$"):
        await Ledger(SqlLedger(engine)).costs(DAY, END)
    await engine.dispose()


async def test_a_read_that_is_cancelled_leaves_the_connection_to_others(endless_sqlite: AsyncEngine) -> None:
    sink = SqlLedger(endless_sqlite)
    with anyio.move_on_after(SOON / 10):
        await sink.costs(Selection(date(1, 1, 1), date(9999, 1, 1), ()), 10, SOON)
    async with endless_sqlite.connect() as connection:
        assert (await connection.execute(sql.text(COUNTED))).scalar() == 300_000
