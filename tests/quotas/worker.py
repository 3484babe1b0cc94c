"""A worker process that counts: it does one thing, as its arguments say, and tells what came of it.

python -m tests.quotas.worker ENGINE ADDRESS NAME STREAMS NUMBER

When it reads a line, it reserves for so many streams at once and tells which of them had room. When it reads another
one, it settles these with twice as much, and ends. It can be killed at any time.
"""

from __future__ import annotations

import asyncio
import json
import sys

from gomodel_asgi.quotas.postgres import PostgresCounters
from gomodel_asgi.quotas.redis import RedisCounters
from gomodel_asgi.seams.counters import Counters

from .engines import PATIENCE
from .lines import NOON, line

LIMIT = 10


def counters_of(engine: str, address: str, name: str) -> Counters:
    if engine == "redis":
        return RedisCounters(address, prefix=name, timeout=PATIENCE)
    return PostgresCounters(address, table=name, timeout=PATIENCE)


def tell(what: object) -> None:
    print(json.dumps(what), flush=True)


async def work(engine: str, address: str, name: str, streams: str, number: str) -> None:
    counters = counters_of(engine, address, name)
    lines = [line(limit=LIMIT, per="month"), line(limit=LIMIT, per="hour")]
    if int(number) % 2:
        lines.reverse()  # two workers name the same counters in two orders
    await counters.figures(lines, NOON)
    tell("ready")
    await asyncio.to_thread(sys.stdin.readline)
    holds = [f"{number}-{stream}" for stream in range(int(streams))]
    answers = await asyncio.gather(*(counters.reserve(hold, lines, NOON) for hold in holds))
    admitted = [hold for hold, answer in zip(holds, answers, strict=True) if answer.refused is None]
    tell(admitted)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(counters.settle(hold, lines, [2, 2], NOON) for hold in admitted))
    await counters.aclose()
    tell("settled")


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
