"""Ten times the load that fits. Goodput: answers that are whole and came within their time, per second.

Two kinds. `shed`: a provider with a concurrency limit, whose answers take a while, and requests that come at a rate
whatever becomes of them; what is over is turned away. `queued`: no limit but the CPU, ten times as many clients as are
served best.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from .. import serving
from ..client import Connection, body_of, connect, request_of
from ..replies import arriving_unary

IN_TIME = 2.0  # seconds after which nobody wants the answer
AT_A_TIME = 16  # requests that the limited provider takes
SERVICE = 100  # milliseconds that an answer of the limited provider takes
TICK = 0.005
CLIENTS = 32


@dataclass
class Counts:
    """Outcomes: `good`, `late` (over its time, or behind the end of the run), or a status."""

    port: int
    until: float
    request: bytes
    due: bytes
    found: Counter[str] = field(default_factory=Counter)
    idle: deque[Connection] = field(default_factory=deque)

    async def ask(self) -> None:
        began = time.perf_counter()
        connection = await self.connection()
        await connection.ask(self.request)
        now = time.perf_counter()
        good = connection.status == 200 and connection.whole and connection.body == self.due
        late = now - began > IN_TIME or now > self.until
        self.found["late" if good and late else "good" if good else str(connection.status)] += 1
        if connection.reusable:
            self.idle.append(connection)
        else:
            connection.abort()

    async def connection(self) -> Connection:
        while self.idle:
            if not (connection := self.idle.pop()).lost:
                return connection
        return await connect(self.port)

    def close(self) -> None:
        for connection in self.idle:
            connection.abort()


async def at_rate(port: int, rate: float, seconds: float) -> Counter[str]:
    """So many requests a second, whatever becomes of them."""
    began, sent, tasks = time.perf_counter(), 0, set[asyncio.Task[None]]()
    request = request_of(body_of(False, tag="w", wait_ms=SERVICE))
    counts = Counts(port, began + seconds, request, arriving_unary("w"))
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(int(elapsed * rate) - sent):
            task = asyncio.ensure_future(counts.ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(TICK)
    if tasks:
        await asyncio.wait(tasks, timeout=10)
    counts.close()
    return counts.found


async def with_clients(port: int, clients: int, seconds: float) -> Counter[str]:
    """So many clients, each asking again as soon as it is answered."""
    until = time.perf_counter() + seconds
    counts = Counts(port, until, request_of(body_of(False, tag="q")), arriving_unary("q"))

    async def repeat() -> None:
        while time.perf_counter() < until:
            await counts.ask()

    await asyncio.gather(*(repeat() for _ in range(clients)))
    counts.close()
    return counts.found


async def run(scale: float) -> bool:
    seconds = max(1.0, 10 * scale)
    with serving.upstream() as upstream:
        with serving.gateway(
            "benchmarks.strained:limited", upstream.port, env={"AT_A_TIME": str(AT_A_TIME)}
        ) as gateway:
            fits = AT_A_TIME / SERVICE * 1000
            await at_rate(gateway.port, fits / 2, 0.5)
            used = gateway.cpu()
            best = await at_rate(gateway.port, fits, seconds)
            best_used, used = gateway.cpu() - used, gateway.cpu()
            flood = await at_rate(gateway.port, fits * 10, seconds)
            flood_used = gateway.cpu() - used
        shed = told("shed", best, flood, seconds)
        print(f"         CPU {best_used / seconds:.0%} at its best, {flood_used / seconds:.0%} in the flood")
        with serving.gateway("benchmarks.app:app", upstream.port) as gateway:
            await with_clients(gateway.port, CLIENTS, 0.5)
            best = await with_clients(gateway.port, CLIENTS, seconds)
            flood = await with_clients(gateway.port, CLIENTS * 10, seconds)
        queued = told("queued", best, flood, seconds)
    return min(shed, queued) >= 0.8 or scale < 1


def told(kind: str, best: Counter[str], flood: Counter[str], seconds: float) -> float:
    """Print both, and give their ratio."""
    ratio = flood["good"] / max(1, best["good"])
    other = ", ".join(f"{count} x {name}" for name, count in sorted(flood.items()) if name != "good")
    print(f"{kind:8} best {best['good'] / seconds:.0f}/s, in the flood {flood['good'] / seconds:.0f}/s ({ratio:.0%}); "
          f"in the flood also: {other or 'nothing'}")  # fmt: skip
    return ratio
