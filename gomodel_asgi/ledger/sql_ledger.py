"""Rows in the host's own database, through its own SQLAlchemy engine."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from ..arguments import check_instance
from ..extras import missing
from .row import (
    COLUMNS,
    COUNTS,
    OPEN,
    PLACE,
    Attempt,
    Costs,
    Daily,
    Entry,
    Kept,
    Row,
    Selection,
    Tenants,
    aware,
    by_day,
    daily_of,
    first_day,
    first_id,
    now,
    plain,
)
from .sink import MOST, PAGE, STEPS, Limit, refusing, stopped

try:
    import sqlalchemy as sql
except ImportError as error:
    raise missing("ledger", "SqlLedger needs SQLAlchemy") from error

from sqlalchemy.dialects import postgresql, sqlite

from .tables import contents, daily, exchanges

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
TIMEOUT = sql.text("SELECT set_config('statement_timeout', :limit, true)")
"""Like SET LOCAL: it ends with the transaction, so that the host's connection goes back as it was."""


class SqlLedger:
    """Keeps rows in the tables of `gomodel_asgi.ledger.metadata`, in the database of *engine*: PostgreSQL 12 or SQLite
    3.35, or later. The tables are the host's to make (`metadata.create_all`, Alembic), the engine to close.

    Each write takes one connection of the engine's pool, for one transaction. An engine belongs to one event loop, as
    SQLAlchemy says; under trio there is none.

    :raises TypeError: *engine* is no `AsyncEngine`.
    :raises ValueError: it speaks to another database.
    """

    needs_asyncio = True

    def __init__(self, engine: AsyncEngine) -> None:
        from sqlalchemy.ext.asyncio import AsyncEngine

        wanted = "an AsyncEngine (sqlalchemy.ext.asyncio.create_async_engine)"
        check_instance("engine", engine, AsyncEngine, wanted)
        if engine.dialect.name not in INSERTS:
            raise ValueError(f"SqlLedger: PostgreSQL or SQLite, not {engine.dialect.name}.")
        self.engine = engine
        self._insert = INSERTS[engine.dialect.name]
        self._rows = self._closing()
        self._daily = self._adding()
        self._contents = self._insert(contents).on_conflict_do_nothing()

    def __repr__(self) -> str:
        return f"<SqlLedger {self.engine.dialect.name}>"

    def _closing(self) -> Any:
        """Adds a row, or closes the open one of its id; gives the ids of those that it has."""
        insert = self._insert(exchanges)
        new = {name: insert.excluded[name] for name in COLUMNS if name != "id"}
        closing = insert.on_conflict_do_update(
            index_elements=["id"],
            set_=new,
            where=sql.and_(exchanges.c.outcome == OPEN, insert.excluded["outcome"] != OPEN),
        )
        return closing.returning(exchanges.c.id)

    def _adding(self) -> Any:
        insert = self._insert(daily)
        new = {name: daily.c[name] + insert.excluded[name] for name in COUNTS}
        return insert.on_conflict_do_update(index_elements=["key"], set_=new)

    async def write(self, entries: Sequence[Entry]) -> int:
        """Adds *entries* in one transaction; see `Sink.write`. Returns how many rows were new."""
        if not entries:
            return 0
        by_id = {entry.row.id: entry for entry in sorted(entries, key=lambda entry: entry.row.id)}
        async with self.engine.begin() as connection:
            with refusing():
                return await self._write(connection, by_id)

    async def _write(self, connection: AsyncConnection, entries: dict[UUID, Entry]) -> int:
        new = await connection.execute(self._rows, [values_of(entry.row) for entry in entries.values()])
        written = [entries[id].row for id in new.scalars()]
        adds = [msgspec.structs.asdict(one) for one in by_day(written)]
        if adds:
            await connection.execute(self._daily, adds)
        kept = [msgspec.structs.asdict(entry.content) for entry in entries.values() if entry.content is not None]
        if kept:
            await connection.execute(self._contents, kept)
        return len(written)

    async def spent(self, tenant: str | None, since: datetime) -> Decimal:
        """Returns what *tenant* has cost *since*, in US dollars, from the roll-up and the rows of its first day."""
        async with self.engine.connect() as connection:
            days, rows = spending(tenant, since)
            whole = (await connection.execute(days)).scalar()
            first = None if rows is None else (await connection.execute(rows)).scalar()
        return (whole or Decimal(0)) + (first or Decimal(0))

    async def sums(self, wanted: Selection) -> list[Daily]:
        """Returns the sums that are *wanted*; see `Sink.sums`."""
        async with self.engine.connect() as connection:
            query = summing(wanted).order_by(*(daily.c[name] for name in wanted.by))
            found = (await connection.execute(query)).mappings().all()
        return [sum_of(row) for row in found if row["requests"] is not None]

    async def costs(self, wanted: Selection, most: int, seconds: float) -> Costs:
        """Returns the first *most* sums, and the total of all; see `Sink.costs`."""
        async with self._page(seconds) as connection:
            found = (await connection.execute(first_sums(wanted, most))).mappings().all()
        rows = [sum_of(row) for row in found if row["requests"] is not None]
        if not rows:
            return Costs(rows=[], total=daily_of({}), count=0)
        whole = sum_of({name: found[0][f"total_{name}"] for name in COUNTS})
        return Costs(rows=rows, total=whole, count=found[0]["places"])

    async def row(self, id: UUID, tenants: Tenants, seconds: float) -> Row | None:
        """Returns the row *id*, if it is there and of one of these tenants; see `Sink.row`."""
        async with self._page(seconds) as connection:
            found = (await connection.execute(one_row(id, tenants))).mappings().first()
        return None if found is None else row_of(found)

    @asynccontextmanager
    async def _page(self, seconds: float) -> AsyncIterator[AsyncConnection]:
        """A connection for one query, which the database itself stops after so many *seconds*.

        :raises TimeoutError: it did.
        """
        with stopped():
            async with self.engine.connect() as connection:
                if self.engine.dialect.name == "postgresql":
                    await connection.execute(TIMEOUT, {"limit": f"{max(1, round(seconds * 1000))}ms"})
                    yield connection
                    return
                limit = Limit()
                raw = await connection.get_raw_connection()
                await raw.driver_connection.set_progress_handler(limit, STEPS)  # type: ignore[union-attr]
                # It stays with the connection, without end but for this query: to take it off could be cancelled.
                limit.set(seconds)
                try:
                    yield connection
                except Exception:
                    limit.set(math.inf)
                    raise
                except BaseException:
                    limit.set(0)  # the query still runs; SQLAlchemy throws the connection away
                    raise
                limit.set(math.inf)

    async def rows(self, since: datetime, until: datetime, tenants: Tenants = None) -> AsyncGenerator[Row, None]:
        """Gives the rows that started in this time, by id, a page at a time."""
        of_time = exchanges.c.id < first_id(until, 1), exchanges.c.started >= since, exchanges.c.started < until
        query = sql.select(exchanges).where(*of_time, _one_of(exchanges.c.tenant, tenants))
        query = query.order_by(exchanges.c.id).limit(PAGE)
        last = first_id(since)
        while True:
            async with self.engine.connect() as connection:
                page = await connection.execute(query.where(exchanges.c.id > last))
                found = page.mappings().all()
            for row in found:
                yield row_of(row)
            if len(found) < PAGE:
                return
            last = found[-1]["id"]

    async def purge(self, before: datetime, batch: int, seconds: float) -> int:
        """Deletes what started *before*, and expired content, a transaction for each *batch*. Returns how many rows."""
        batch, deadline, gone = min(batch, MOST), time.monotonic() + seconds, 0
        old = oldest(before, batch)
        expired = sql.select(contents.c.id).where(contents.c.expires <= now()).limit(batch)
        last = UUID(int=0)
        while time.monotonic() < deadline:
            async with self.engine.begin() as connection:
                ids = list((await connection.execute(old.where(exchanges.c.id > last))).scalars())
                past = await connection.execute(sql.delete(contents).where(contents.c.id.in_(expired)))
                await connection.execute(sql.delete(contents).where(contents.c.id.in_(ids)))
                await connection.execute(sql.delete(exchanges).where(exchanges.c.id.in_(ids)))
            gone += len(ids)
            if len(ids) < batch and past.rowcount < batch:
                break
            last = ids[-1] if ids else last
        return gone

    async def content(self, id: UUID) -> Kept | None:
        """Returns what was kept of the exchange *id*."""
        async with self.engine.connect() as connection:
            row = (await connection.execute(sql.select(contents).where(contents.c.id == id))).mappings().first()
        return None if row is None else Kept(**row)

    async def forget(self, tenant: str | None) -> int:
        """Deletes all content of *tenant*. Returns of how many exchanges."""
        async with self.engine.begin() as connection:
            gone = await connection.execute(sql.delete(contents).where(_one_of(contents.c.tenant, (tenant,))))
        return gone.rowcount

    async def aclose(self) -> None:
        """The engine is the host's to close."""


def oldest(before: datetime, count: int) -> Any:
    """Returns the query of the ids of *count* rows that started *before*, kept from others who delete meanwhile."""
    # Ids sort by time: the old ones are one end of their index.
    found = sql.select(exchanges.c.id).where(exchanges.c.id < first_id(before, 1), exchanges.c.started < before)
    return found.order_by(exchanges.c.id).limit(count).with_for_update(skip_locked=True)


def spending(tenant: str | None, since: datetime) -> tuple[Any, Any]:
    """Returns the query of the whole days *since*, and that of the rest of the first one, None where it is whole."""
    start = aware(since)
    first, midnight = first_day(start)
    days = sql.select(sql.func.sum(daily.c.cost)).where(_one_of(daily.c.tenant, (tenant,)), daily.c.day >= first)
    if start == midnight:
        return days, None
    of_day = exchanges.c.started >= start, exchanges.c.started < midnight
    return days, sql.select(sql.func.sum(exchanges.c.cost)).where(_one_of(exchanges.c.tenant, (tenant,)), *of_day)


def summing(wanted: Selection) -> Any:
    """Returns the query of the sums that are *wanted*."""
    places = [daily.c[name] for name in wanted.by]
    counts = [sql.func.sum(daily.c[name]).label(name) for name in COUNTS]
    of_days = daily.c.day >= wanted.since, daily.c.day < wanted.until
    return sql.select(*places, *counts).where(*of_days, _one_of(daily.c.tenant, wanted.tenants)).group_by(*places)


def first_sums(wanted: Selection, most: int) -> Any:
    """Returns the query of the first *most* of these sums, each with the total over all of them."""
    sums = {name: sql.func.sum(daily.c[name]) for name in COUNTS}
    totals = [sql.func.sum(one).over().label(f"total_{name}") for name, one in sums.items()]
    query = summing(wanted).add_columns(*totals, sql.func.count().over().label("places"))
    first = [daily.c.day.desc()] if "day" in wanted.by else []
    rest = [daily.c[name].nulls_first() for name in wanted.by]
    return query.order_by(*first, sums["cost"].desc(), sums["requests"].desc(), *rest).limit(most)


def one_row(id: UUID, tenants: Tenants) -> Any:
    """Returns the query of one row, if it is of one of these tenants."""
    return sql.select(exchanges).where(exchanges.c.id == id, _one_of(exchanges.c.tenant, tenants))


def _one_of(column: Any, tenants: Tenants) -> Any:
    if tenants is None:
        return sql.true()
    named = [tenant for tenant in tenants if tenant is not None]
    found = column == named[0] if len(named) == 1 else column.in_(named)
    if None not in tenants:
        return found
    return sql.or_(found, column.is_(None)) if named else column.is_(None)


def values_of(row: Row) -> dict[str, Any]:
    """Returns the columns of *row*."""
    values = msgspec.structs.asdict(row)
    values["attempts"] = plain(row.attempts)
    return values


def row_of(values: Any) -> Row:
    """Returns the row that a mapping of columns holds."""
    attempts = msgspec.convert(values["attempts"], tuple[Attempt, ...])
    return Row(**{**values, "attempts": attempts})


def sum_of(values: Any) -> Daily:
    """Returns the day's sum that a mapping of columns holds."""
    counts = {name: values[name] if name == "cost" else int(values[name]) for name in COUNTS}
    return daily_of({**{name: values.get(name) for name in PLACE}, **counts})
