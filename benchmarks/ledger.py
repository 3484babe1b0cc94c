"""What a row of the ledger costs: on the loop, for each request, and in the sink, for each row of a batch.

    python -m benchmarks.ledger [ROUNDS] [SQLALCHEMY-URL of PostgreSQL, whose ledger is emptied]

The requests go through `benchmarks.observers`' gateway without sockets, by turns; the figure is the median of the
rounds' differences to the gateway that has no ledger, and that of one that is merely observed, which has the same
trace. A sink is given batches of 500 rows; its figures are CPU of this process and time on the clock.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.ledger import Attempt, JsonLines, Ledger, Row, Sink, SqlLedger, metadata
from gomodel_asgi.ledger.row import Entry, new_id
from gomodel_asgi.observers import Usage

from .observers import Instant, ignore, spent

BATCH = 500
USAGE = Usage(input_tokens=100, output_tokens=20)
PRICE = Decimal("0.001")


class Nowhere(JsonLines):
    """A sink that takes everything and keeps nothing."""

    async def write(self, entries: Sequence[Entry]) -> int:
        return len(entries)


def price(type: str, model: str, usage: Usage) -> Decimal:
    return PRICE


def row() -> Row:
    at = datetime.now(UTC)
    attempt = Attempt(
        provider="openai", model="gpt-5", status=200, code=None, seconds=0.5, usage=USAGE, cost=PRICE, kind="first"
    )
    return Row(
        id=new_id(at), kind="exchange", started=at, seconds=0.5, first_event=0.2, request_id="req_1",
        response_id="resp_1", tenant="acme", principal="ada", labels={"team": "a"}, operation="create", stream=True,
        model_asked="gpt-5", model_target="gpt-5", model_served="gpt-5-2025", provider="openai", outcome="completed",
        status=200, attempts=(attempt,), input_tokens=100, output_tokens=20, cost=PRICE, price_list="1", tier="default",
    )  # fmt: skip


async def requests(rounds: int, nowhere: Path) -> None:
    """Print what a request costs more with a ledger."""
    provider = Provider("openai", "http://127.0.0.1:9/v1", api_key="k")
    given: dict[str, dict[str, Any]] = {
        "without": {},
        "without again (noise)": {},
        "observed by a function that does nothing": {"observers": [ignore]},
        "ledger, a host's prices": {"ledger": Ledger(Nowhere(nowhere), price=price)},
        "ledger, genai-prices": {"ledger": Ledger(Nowhere(nowhere))},
    }
    gateways = {name: Gateway(providers=[provider], transport=Instant(), **one) for name, one in given.items()}
    figures: dict[str, list[float]] = {name: [] for name in gateways}
    for number in range(rounds + 1):
        for name, gateway in gateways.items():
            cost = await spent(gateway, False)
            if number:  # the first round warms up
                figures[name].append(cost)
    for name, found in figures.items():
        extra = (
            found if name == "without" else [one - other for one, other in zip(found, figures["without"], strict=True)]
        )
        print(f"{name:42} {'' if name == 'without' else '+'}{statistics.median(extra):7.1f} us of CPU a request")
    for gateway in gateways.values():
        await gateway.aclose()


@asynccontextmanager
async def tables(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with the ledger's tables, empty."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN")  # or each statement waits for the disk, several times
            await connection.run_sync(metadata.drop_all)
            await connection.run_sync(metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


async def rows(rounds: int, name: str, sink: Sink) -> None:
    """Print what a row costs in *sink*."""
    cpu, clock = [], []
    for number in range(rounds + 1):
        batch = [Entry(row()) for _ in range(BATCH)]
        began, worked = time.perf_counter(), time.process_time()
        await sink.write(batch)
        if number:
            clock.append((time.perf_counter() - began) / BATCH * 1e6)
            cpu.append((time.process_time() - worked) / BATCH * 1e6)
    print(f"{name:42} {statistics.median(cpu):8.1f} us of CPU a row, {statistics.median(clock):8.1f} us on the clock")


async def main(rounds: int, postgres: str | None) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        await requests(rounds, place / "nowhere")
        await rows(rounds, "JsonLines", JsonLines(place / "ledger.jsonl"))
        async with tables(f"sqlite+aiosqlite:///{place / 'ledger.sqlite3'}") as engine:
            await rows(rounds, "SqlLedger, SQLite", SqlLedger(engine))
        if postgres is not None:
            async with tables(postgres) as engine:
                await rows(rounds, "SqlLedger, PostgreSQL", SqlLedger(engine))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2] if len(sys.argv) > 2 else None))
