"""What it costs to count: microseconds for each request that reserves three lines and settles them, for each engine.

    python -m benchmarks.counters [ROUNDS]

One process, one request after another, a Redis and a PostgreSQL of its own on sockets of this machine, where they are
installed. Engines take turns, so that a noisy machine troubles all of them alike. The figures are medians of the
rounds: what the clock says, and in brackets the CPU that this process and the server have spent. A guarded engine is
one with the time limit, circuit breaker and stand-in around it that a gateway gives it. A trip is the floor: the least
that can be asked of the server, through the same pool, once for each call.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from gomodel_asgi.quotas.available import AvailableCounters
from gomodel_asgi.quotas.memory import MemoryCounters
from gomodel_asgi.quotas.postgres import PostgresCounters
from gomodel_asgi.quotas.redis import RedisCounters
from gomodel_asgi.quotas.windows import window
from gomodel_asgi.seams.counters import Counters, Figures, Line, Reserved
from tests.support.databases import PostgresServer, RedisServer, Server, postgres_binaries

REQUESTS = 200  # of each engine in a round
PATIENCE = 20.0


def lines_at(now: datetime) -> list[Line]:
    """What a request asks for: a rate, tokens of a minute, and money of a month."""
    minute, month = window("minute", now), window("month", now)
    slot = int(now.timestamp() // 600)
    return [
        Line("requests", minute, 10**9, 1, False, slot, slot - 6, 3600.0),
        Line("tokens", minute, 10**12, 5000, True, slot, slot - 6, 3600.0),
        Line("money", month, 10**15, 12_000, True, slot, slot - 6, 3600.0),
    ]


@contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.remove()


class Trips:
    """Counters that go to the server and back for each call, and count nothing."""

    shared = True

    def __init__(self, trip: Callable[[], Awaitable[object]]) -> None:
        self.trip = trip

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        await self.trip()
        return Reserved(None, ())

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        await self.trip()

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        return ()

    async def aclose(self) -> None:
        return None


class Engine(NamedTuple):
    """Counters, and the process in which they are if not in this one."""

    counters: Counters
    server: Server | None = None

    def cpu(self) -> float:
        """The microseconds of CPU that its server has spent."""
        if self.server is None or self.server.process is None:
            return 0.0
        main = self.server.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        ticks = ticks_of(main, ended_children=True) + sum(ticks_of(int(child)) for child in children)
        return ticks * 1_000_000 / os.sysconf("SC_CLK_TCK")


def ticks_of(process: int, *, ended_children: bool = False) -> int:
    """User and system time of *process* (proc(5): fields 14 to 17)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13]))


def engines(stack: ExitStack) -> dict[str, Engine]:
    found = {"memory": Engine(MemoryCounters())}
    if shutil.which("redis-server"):
        redis = RedisServer()
        stack.enter_context(running(redis))
        on_redis = RedisCounters(redis.url, timeout=PATIENCE)
        plain: Counters = on_redis
        found["redis, trip"] = Engine(Trips(lambda: on_redis._clients.get().ping()), redis)
        found["redis"] = Engine(plain, redis)
        found["redis, guarded"] = Engine(AvailableCounters(plain, timeout=PATIENCE), redis)
    binaries = postgres_binaries()
    if binaries is not None:
        postgres = PostgresServer(binaries)
        stack.enter_context(running(postgres))
        on_postgres = PostgresCounters(postgres.dsn, timeout=PATIENCE)
        plain = on_postgres

        async def trip() -> None:
            async with on_postgres._connection() as connection:
                await connection.fetchval("SELECT 1")

        found["postgres, trip"] = Engine(Trips(trip), postgres)
        found["postgres"] = Engine(plain, postgres)
        found["postgres, guarded"] = Engine(AvailableCounters(plain, timeout=PATIENCE), postgres)
    return found


async def one_round(engine: Engine, name: str, *, settles: bool) -> tuple[float, float, float]:
    """Returns the microseconds of each request: passed, of CPU here, of CPU there."""
    now = datetime.now(UTC)
    lines, second, counters = lines_at(now), now.timestamp(), engine.counters
    began, here, there = time.perf_counter(), time.process_time(), engine.cpu()
    for number in range(REQUESTS):
        hold = f"{name}-{number}"
        await counters.reserve(hold, lines, second)
        if settles:
            await counters.settle(hold, lines, [1, 1234, 3456], second)
    scale = 1_000_000 / REQUESTS
    passed, spent = time.perf_counter() - began, time.process_time() - here
    return passed * scale, spent * scale, (engine.cpu() - there) / REQUESTS


async def measure(found: dict[str, Engine], rounds: int) -> None:
    seen: dict[tuple[str, bool], list[tuple[float, float, float]]] = {}
    for number in range(rounds + 1):
        for name, engine in found.items():
            for settles in (True, False):
                took = await one_round(engine, f"{name}-{number}-{settles}", settles=settles)
                if number:  # the first opens connections, makes tables, and is not counted
                    seen.setdefault((name, settles), []).append(took)
    print(f"{'engine':18} {'reserve + settle (here + server)':>36} {'reserve alone':>36}")
    for name in found:
        cells = []
        for settles in (True, False):
            passed, here, there = (statistics.median(column) for column in zip(*seen[name, settles], strict=True))
            cells.append(f"{passed:9.1f} us ({here:7.1f} + {there:7.1f})")
        print(f"{name:18} {cells[0]:>36} {cells[1]:>36}")
    for engine in found.values():
        await engine.counters.aclose()


def main(rounds: int) -> None:
    with ExitStack() as stack:
        asyncio.run(measure(engines(stack), rounds))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
