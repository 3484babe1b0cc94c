"""Thousands of streams open at once, each in the middle of its events, then all of them ended together."""

from __future__ import annotations

import asyncio
import time

from .. import serving
from ..client import Connection, body_of, connect, control, request_of
from ..replies import arriving

CONNECTING = 200  # at a time, so that no listen queue is what is measured
DELTAS = 5


async def opened(port: int, number: int, gate: asyncio.Semaphore) -> Connection:
    async with gate:
        connection = await connect(port)
        connection.begin(request_of(body_of(True, tag=f"o{number}", events=DELTAS, hold=1)))
        await connection.begun()
    return connection


async def run(scale: float) -> bool:
    count = max(50, int(5_000 * scale))
    gate = asyncio.Semaphore(CONNECTING)
    with serving.upstream() as upstream, serving.gateway("benchmarks.app:app", upstream.port) as gateway:
        start, before = gateway.sockets(), gateway.rss()
        began = time.perf_counter()
        streams = await asyncio.gather(*(opened(gateway.port, number, gate) for number in range(count)))
        seconds, held = time.perf_counter() - began, int(await control(upstream.port, "streams"))
        sockets, rss = gateway.sockets(), gateway.rss()
        await control(upstream.port, "release")
        await asyncio.gather(*(stream.ended() for stream in streams))
        ended = time.perf_counter() - began - seconds
        whole = sum(stream.whole and stream.body == arriving(f"o{n}", DELTAS) for n, stream in enumerate(streams))
        for stream in streams:
            stream.abort()
        left = await asyncio.to_thread(gateway.settled_sockets, start)
    print(f"{held} of {count} streams open at once after {seconds:.1f} s: {sockets} sockets, {rss / 1e6:.1f} MB, "
          f"{(rss - before) / count / 1024:.1f} KiB a stream")  # fmt: skip
    print(f"{whole} whole, {ended:.1f} s after their release; sockets {start} before, {left} after")
    return held == whole == count and left <= start
