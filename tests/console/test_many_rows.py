"""The console's pages over a ledger of many rows: how often they ask it, and what the database reads for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.requests import Request

from benchmarks.many_rows import PAGES, fill
from gomodel_asgi import Gateway, Provider
from gomodel_asgi.console import Console, View
from gomodel_asgi.ledger import Ledger, SqlLedger, metadata

from ..support.driving import ask
from ..support.ledgers import ledger_database

__all__ = ["ledger_database"]
pytestmark = pytest.mark.anyio
ROWS = 20_000
HTML = (b"accept", b"text/html")
ALL = View(View.ALL, detail=True, explain=True)
Asked = list[tuple[str, Any]]


@dataclass(frozen=True)
class Many:
    """A database, and the id of one of its rows."""

    engine: AsyncEngine
    id: UUID


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('many') / 'ledger.sqlite3'}"
    return str(request.getfixturevalue("ledger_database"))


@pytest.fixture(scope="module")
async def many(url: str, anyio_backend: str) -> AsyncIterator[Many]:
    """A ledger of many rows, which no test changes."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
        id = await fill(connection, ROWS)
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sql.text("ANALYZE"))
    yield Many(engine, id)
    await engine.dispose()


@asynccontextmanager
async def viewed(engine: AsyncEngine, view: View = ALL) -> AsyncIterator[Console]:
    """A console over *engine*."""

    async def allow(request: Request) -> View:
        return view

    gateway = Gateway(
        providers=[Provider("p0", "http://127.0.0.1:9/v1", api_key="sk-canary-house-key")],
        ledger=Ledger(SqlLedger(engine), price=lambda *used: None),
        public=True,
    )
    yield Console(gateway, allow=allow)
    await gateway.aclose()


@contextmanager
def asked(engine: AsyncEngine) -> Iterator[Asked]:
    """The queries that are sent meanwhile, with their values."""
    seen: Asked = []

    def see(connection: Any, cursor: Any, statement: str, values: Any, *rest: Any) -> None:
        if "set_config" not in statement:
            seen.append((statement, values))

    sql.event.listen(engine.sync_engine, "before_cursor_execute", see)
    yield seen
    sql.event.remove(engine.sync_engine, "before_cursor_execute", see)


async def plan(engine: AsyncEngine, statement: str, values: Any) -> str:
    """How the database would do it."""
    explain = "EXPLAIN " if engine.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    async with engine.connect() as connection:
        found = await connection.exec_driver_sql(explain + statement, values)
        return "\n".join(str(row[-1]) for row in found)


async def look(console: Console, path: str) -> str:
    where, _, query = path.partition("?")
    found = await ask(console, path=f"/{where}", method="GET", query=query.encode(), headers=[HTML])
    assert found.status == 200, found.content
    return found.content.decode()


async def test_each_page_is_at_most_one_query_and_reads_no_table_of_exchanges(many: Many) -> None:
    first = (datetime.now(UTC) - timedelta(days=90)).date()
    async with viewed(many.engine) as console:
        for name, path in PAGES.items():
            with asked(many.engine) as seen:
                html = await look(console, path.format(id=many.id, first=first))
            assert len(seen) == (1 if name in ("now", "one request") or name.startswith("costs") else 0), name
            for statement, values in seen:
                how = await plan(many.engine, statement, values)
                if name == "one request":
                    assert "gomodel_exchanges_pkey" in how or "sqlite_autoindex_gomodel_exchanges" in how, how
                else:
                    assert "gomodel_daily" in how and "gomodel_exchanges" not in how, how
            assert "cannot be read" not in html and "did not answer" not in html


@pytest.mark.parametrize("tenants", [None, {"t7"}, {"t7", "t8", None}])
@pytest.mark.parametrize("by", ["day", "tenant", "model"])
async def test_a_week_of_costs_is_read_by_an_index(many: Many, tenants: set[str | None] | None, by: str) -> None:
    since = (datetime.now(UTC) - timedelta(days=6)).date()
    view = ALL if tenants is None else View(tenants)
    async with viewed(many.engine, view) as console:
        with asked(many.engine) as seen:
            await look(console, f"costs?by={by}&since={since}")
    ((statement, values),) = seen
    how = await plan(many.engine, statement, values)
    assert "gomodel_day" in how or "gomodel_tenant_day" in how, how
    assert "Seq Scan" not in how and "SCAN gomodel_daily" not in how, how


async def test_a_page_of_many_places_shows_the_first_and_the_total_of_all(many: Many) -> None:
    async with viewed(many.engine) as console:
        headers = [(b"accept", b"application/json")]
        first = (datetime.now(UTC) - timedelta(days=91)).date()
        query = f"by=tenant&since={first}".encode()
        found = await ask(console, path="/costs", method="GET", query=query, headers=headers)
    page = found.json()
    assert page["total"]["requests"] == ROWS
    assert len(page["rows"]) == page["count"] == 200
    assert sum(one["requests"] for one in page["rows"]) == ROWS


async def test_a_page_says_that_the_ledger_cannot_be_read_and_is_whole_otherwise(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'without_tables.sqlite3'}")
    async with viewed(engine) as console:
        assert "The ledger cannot be read now (OperationalError)." in await look(console, "costs")
        assert "The last requests" in await look(console, "")
        found = await ask(console, path=f"/requests/{UUID(int=7)}", method="GET", headers=[HTML])
        assert found.status == 503 and b"The ledger cannot be read now (OperationalError)." in found.content
    await engine.dispose()
