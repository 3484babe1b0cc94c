"""A storm of clients that leave: in the body, before the answer, in the stream. Every upstream stream must close."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time

from .. import serving
from ..client import body_of, connect, control, once, request_of
from ..replies import arriving_unary

AT_A_TIME = 128
CALM = 0.01  # seconds between two clients
ALLOWED = 0.25  # seconds from the client's leaving to the upstream's connection being closed


async def client(port: int, tags: list[str], left: dict[str, float]) -> None:
    while tags:
        tag = tags.pop()
        chance = random.Random(tag)
        connection = await connect(port)
        data = request_of(body_of(True, tag=tag, events=100, gap_ms=100))
        where = chance.randrange(4)
        connection.begin(data[: chance.randrange(len(data))] if where == 0 else data)
        if where > 1:
            await connection.begun()
        if where > 2:
            await asyncio.sleep(chance.random() / 5)
        connection.abort()
        left[tag] = time.monotonic()


async def storm(port: int, tags: list[str]) -> dict[str, float]:
    """Every one of *tags* as fast as may be; when each left."""
    left: dict[str, float] = {}
    await asyncio.gather(*(client(port, tags, left) for _ in range(AT_A_TIME)))
    return left


async def calm(port: int, tags: list[str]) -> dict[str, float]:
    """The same at a rate at which no process is busy."""
    left: dict[str, float] = {}
    tasks = []
    while tags:
        tasks.append(asyncio.ensure_future(client(port, [tags.pop()], left)))
        await asyncio.sleep(CALM)
    await asyncio.gather(*tasks)
    return left


async def emptied(port: int) -> int:
    """How many streams the upstream still has, when it has none or after 5 s."""
    for _ in range(50):
        if not (streams := int(await control(port, "streams"))):
            break
        await asyncio.sleep(0.1)
    return streams


def tell(kind: str, left: dict[str, float], closed: dict[str, float]) -> None:
    delays = [at - left[tag] for tag, at in closed.items() if tag in left]
    cuts = statistics.quantiles(delays, n=100) if len(delays) > 1 else [0.0] * 99
    late = sum(delay > ALLOWED for delay in delays)
    print(f"{kind}: {len(left)} clients left, {len(delays)} upstream streams were cut after: median "
          f"{cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f}, most {max(delays, default=0.0) * 1e3:.0f}; "
          f"{late} over {ALLOWED * 1e3:.0f} ms")  # fmt: skip


async def run(scale: float) -> bool:
    count = max(200, int(10_000 * scale))
    with serving.upstream() as upstream, serving.gateway("benchmarks.app:app", upstream.port) as gateway:
        await once(gateway.port, request_of(body_of(False, tag="before")))
        start = await asyncio.to_thread(gateway.settled_sockets, 0, 6.0)
        begin = gateway.rss()
        stormy = await storm(gateway.port, [f"s{number}" for number in range(count)])
        calmly = await calm(gateway.port, [f"c{number}" for number in range(count // 10)])
        streams = await emptied(upstream.port)
        closed: dict[str, float] = json.loads(await control(upstream.port, "closed"))
        after = await once(gateway.port, request_of(body_of(False, tag="after")))
        rss, sockets = gateway.rss(), await asyncio.to_thread(gateway.settled_sockets, start)
    tell("storm", stormy, closed)
    tell("calm", calmly, closed)
    print(f"{streams} upstream streams go on; memory {begin / 1e6:.1f} MB before, {rss / 1e6:.1f} after; "
          f"sockets {start} before, {sockets} after")  # fmt: skip
    return streams == 0 and sockets <= start and after.body == arriving_unary("after")
