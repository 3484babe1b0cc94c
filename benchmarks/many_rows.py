"""How long the console's pages take over a ledger of many rows, without and with requests behind them.

    python -m benchmarks.many_rows [--rows 1000000] [--rate 1000] [--rounds 20] [--postgres URL]

Fills a SQLite file (in WAL mode) and a PostgreSQL (one of its own, or the empty database at URL, which keeps the
tables) with rows of 90 days, 200 tenants, 4 models and 3 labels, and the roll-up with them. Then one uvicorn serves
gateway and console, and every page is asked for in turn: first with nothing else to do, then with so many requests a
second behind it, each of which is answered at once (no upstream) and has its row written. Milliseconds on the clock of
a client on the loopback, median and worst of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sql
import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from starlette.applications import Starlette

from gomodel_asgi import Gateway, GoModelMiddleware, Provider
from gomodel_asgi.console import Console, View
from gomodel_asgi.ledger import Ledger, SqlLedger, metadata
from gomodel_asgi.ledger.row import digest
from gomodel_asgi.ledger.tables import daily, exchanges

from . import serving
from .client import Connection, body_of, connect, request_of
from .observers import Instant

DAYS = 90
TENANTS = 200
MODELS = 4
LABELS = 3
CLIENTS = 16
PAGES = {
    "now": "",
    "providers": "providers",
    "costs by day": "costs",
    "costs by tenant": "costs?by=tenant",
    "costs by provider": "costs?by=provider",
    "costs by model": "costs?by=model",
    "costs by label": "costs?by=label",
    "costs of one tenant": "costs?by=model&tenant=t7",
    "costs of all the days": "costs?by=tenant&since={first}",
    "one request": "requests/{id}",
    "tools": "tools",
    "explain": "explain?model=m&tenant=t7",
}

# Filling...

ROWS = """
INSERT INTO gomodel_exchanges (id, kind, started, seconds, first_event, request_id, response_id, tenant, principal,
  labels, operation, stream, model_asked, model_target, model_served, provider, outcome, status, attempts,
  input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, estimated, cost, price_list, tier,
  cached)
SELECT {id}, 'exchange', {started}, 0.5, 0.1, 'req', 'resp', 't' || (n % {tenants}), 'ada',
  {labels}, 'create', true, 'm' || (n % {models}), 'm' || (n % {models}), 'm' || (n % {models}), 'p' || (n % 2),
  CASE WHEN n % 97 = 0 THEN 'failed' ELSE 'completed' END, 200, {attempts},
  100 + n % 100, 10, 0, 20, 5, false, {cost}, '1', 'default', false
FROM {series}
"""
SERIES = {
    "postgresql": "(SELECT n, CAST(CAST(:first AS float8) + n * CAST(:step AS float8) AS bigint) AS ms "
    "FROM generate_series(1, CAST(:rows AS int)) AS n) AS numbered",
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :rows) "
    "SELECT n, CAST(:first + n * :step AS INTEGER) AS ms FROM s)",
}
LABEL = "'{\"team\": \"' || (n % {labels}) || '\"}'"
ATTEMPT = (
    '{"provider": "p", "model": "m", "status": 200, "code": null, "seconds": 0.5, "usage": null, "cost": null, '
    '"kind": "first"}'
)
PARTS = {
    "postgresql": {
        "id": "(lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))"
        "::uuid",
        "started": "to_timestamp(ms / 1000.0)",
        "labels": f"({LABEL})::jsonb",
        "attempts": f"'[{ATTEMPT}]'::jsonb",
        "cost": "0.0025",
    },
    "sqlite": {
        "id": "printf('%012x7%03x8%015x', ms, n % 4096, n)",
        "started": "strftime('%Y-%m-%d %H:%M:%f', ms / 1000.0, 'unixepoch') || '000'",
        "labels": LABEL,
        "attempts": f"'[{ATTEMPT}]'",
        "cost": "2500000",
    },
}


def series_of(rows: int) -> tuple[datetime, float]:
    """When the first of so many rows started, and the milliseconds between two."""
    first = datetime.now(UTC) - timedelta(days=DAYS)
    return first, DAYS * 86_400_000 / rows


async def fill(connection: AsyncConnection, rows: int) -> UUID:
    """Put so many rows into the empty tables, evenly over the days, and what they add to the roll-up. Returns the id
    of one in the middle."""
    dialect = connection.dialect.name
    first, step = series_of(rows)
    parts = {name: part.replace("{labels}", str(LABELS)) for name, part in PARTS[dialect].items()}
    text = ROWS.format(series=SERIES[dialect], tenants=TENANTS, models=MODELS, **parts).replace('": ', '"\\: ')
    given = {"first": first.timestamp() * 1000, "step": step, "rows": rows}
    await connection.execute(sql.text(text), given)
    await _roll_up(connection)
    middle = sql.select(exchanges.c.id).order_by(exchanges.c.id).offset(rows // 2).limit(1)
    found: UUID = (await connection.execute(middle)).scalar_one()
    return found


async def _roll_up(connection: AsyncConnection) -> None:
    day = sql.cast(exchanges.c.started, sql.Date) if connection.dialect.name == "postgresql" else _day_in_sqlite()
    places = [day.label("day"), exchanges.c.tenant, exchanges.c.provider, exchanges.c.model_target.label("model")]
    labels = sql.cast(exchanges.c.labels, sql.Text).label("labels")
    summed = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost")
    counts = [sql.func.sum(exchanges.c[name]).label(name) for name in summed]
    failed = sql.func.sum(sql.case((exchanges.c.outcome == "failed", 1), else_=0)).label("failed")
    query = sql.select(*places, labels, sql.func.count().label("requests"), failed, *counts)
    found = (await connection.execute(query.group_by(*places, labels))).mappings()
    rolled = [_daily(dict(one)) for one in found]
    for start in range(0, len(rolled), 10_000):
        await connection.execute(daily.insert(), rolled[start : start + 10_000])


def _day_in_sqlite() -> Any:
    return sql.type_coerce(sql.func.substr(sql.cast(exchanges.c.started, sql.Text), 1, 10), sql.Date)


def _daily(one: dict[str, Any]) -> dict[str, Any]:
    labels = one["labels"].replace(" ", "")
    key = digest(one["day"].isoformat(), one["tenant"], one["provider"], one["model"], labels).hex()
    return {**one, "labels": labels, "key": key, "unpriced": 0}


@asynccontextmanager
async def filled(url: str, rows: int) -> AsyncIterator[tuple[AsyncEngine, UUID]]:
    """An engine with so many rows, and the id of one of them."""
    engine = create_async_engine(url)
    try:
        if engine.dialect.name == "sqlite":
            await _beside(engine, "PRAGMA journal_mode=WAL")  # readers and the writer do not wait for each other
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            id = await fill(connection, rows)
        await _beside(engine, "ANALYZE")
        yield engine, id
    finally:
        await engine.dispose()


async def _beside(engine: AsyncEngine, statement: str) -> None:
    """Runs *statement* outside any transaction."""
    async with engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(sql.text(statement))


# Serving...


def app() -> Starlette:
    """Gateway and console over the ledger at the URL `LEDGER`, for uvicorn's `--factory`."""
    engine = create_async_engine(os.environ["LEDGER"])
    gateway = Gateway(
        providers=[Provider("p0", "http://127.0.0.1:9/v1", api_key="k"), Provider("p1", "http://127.0.0.1:9/v1")],
        transport=Instant(),
        tenant=lambda scope: "t7",
        public=True,
        ledger=Ledger(SqlLedger(engine), price=lambda *used: Decimal("0.0025")),
    )
    host = Starlette()
    host.add_middleware(GoModelMiddleware, gateway=gateway)
    host.mount("/ops", Console(gateway, allow=_everything))
    return host


async def _everything(request: object) -> View:
    return View(View.ALL, detail=True, explain=True)


# Measuring...


async def look(connection: Connection, path: str) -> float:
    """Milliseconds that a page takes."""
    request = f"GET /ops/{path} HTTP/1.1\r\nhost: x\r\naccept: text/html\r\n\r\n".encode()
    began = time.perf_counter()
    await connection.ask(request)
    if connection.status != 200 or not connection.whole:
        raise SystemExit(f"/{path}: {connection.status} {connection.body[:300]!r}")
    return (time.perf_counter() - began) * 1000


async def pages(port: int, id: UUID, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each page in each round."""
    first = (datetime.now(UTC) - timedelta(days=DAYS)).date()
    connection, taken = await connect(port), dict[str, list[float]]()
    for number in range(rounds + 1):
        for name, path in PAGES.items():
            found = await look(connection, path.format(id=id, first=first))
            if number:  # the first round warms up
                taken.setdefault(name, []).append(found)
    connection.abort()
    return taken


class Behind:
    """Requests that come *rate* times a second, as far as they are answered."""

    def __init__(self, port: int, rate: float) -> None:
        self.port = port
        self.rate = rate
        self.done = 0
        self.began = time.perf_counter()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        connection, request = await connect(self.port), request_of(body_of(False))
        due = time.perf_counter() + number / self.rate
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + CLIENTS / self.rate, time.perf_counter() - 1)
            await connection.ask(request)
            self.done += 1

    @property
    def reached(self) -> float:
        """Answers a second."""
        return self.done / (time.perf_counter() - self.began)


async def measure(url: str, id: UUID, rate: float, rounds: int) -> tuple[dict[str, list[float]], ...]:
    """The pages' milliseconds without and with requests behind them."""
    port = serving.free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.many_rows:app", "--factory", "--port", str(port)]
    with serving.Server([*command, *serving.UVICORN], port, {"LEDGER": url}):
        alone = await pages(port, id, rounds)
        behind = Behind(port, rate)
        task = asyncio.create_task(behind.run())
        busy = await pages(port, id, rounds)
        print(f"{behind.reached:.0f} requests a second behind the pages, {rate:.0f} asked for")
        task.cancel()
        await asyncio.wait([task])
    return alone, busy


async def main(rows: int, rate: float, rounds: int, postgres: str | None) -> None:
    with tempfile.TemporaryDirectory() as directory, given(postgres) as url:
        for name, where in (
            ("SQLite", f"sqlite+aiosqlite:///{Path(directory) / 'ledger.sqlite3'}"),
            ("PostgreSQL", url),
        ):
            began = time.perf_counter()
            async with filled(where, rows) as (_, id):
                print(f"\n{name}: {rows:,} rows in {time.perf_counter() - began:.0f} s")
            alone, busy = await measure(where, id, rate, rounds)
            print(f"{'page':24}{'alone':>20}{'behind requests':>20}   ms, median (worst)")
            for page in PAGES:
                print(f"{page:24}{told(alone[page]):>20}{told(busy[page]):>20}")


def told(taken: list[float]) -> str:
    return f"{statistics.median(taken):.1f} ({max(taken):.1f})"


@contextmanager
def given(postgres: str | None) -> Iterator[str]:
    """The URL of the database that is given, or of one in a server that ends with us."""
    if postgres is not None:
        yield postgres
        return
    from tests.support.engines import new_postgres, running

    server = new_postgres()
    with running(server):
        yield f"postgresql+asyncpg://state@/postgres?host={server.directory}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--postgres")
    options = parser.parse_args()
    uvloop.run(main(options.rows, options.rate, options.rounds, options.postgres))
