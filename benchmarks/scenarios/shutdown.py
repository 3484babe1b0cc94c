"""SIGTERM while streams are open: each ends in its own way within the grace, or is told so in band.

uvicorn waits `--timeout-graceful-shutdown` seconds and then cancels. Half of the streams end within that time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from .. import serving
from ..client import Connection, body_of, connect, request_of
from ..replies import arriving

GRACE = 5
SHORT, LONG = 30, 3000  # deltas, 100 ms apart
TIMEOUT = 60


async def opened(port: int, number: int) -> Connection:
    connection = await connect(port)
    deltas = LONG if number % 2 else SHORT
    connection.begin(request_of(body_of(True, tag=f"x{number}", events=deltas, gap_ms=100)))
    await connection.begun()
    return connection


def ending(connection: Connection, number: int) -> str:
    """How a stream ended; anything in capitals must not be."""
    body = connection.body
    if body == arriving(f"x{number}", SHORT):
        return "its own end" if connection.whole else "ITS OWN END, THEN BROKEN"
    if not body.endswith(b"data: [DONE]\n\n") or b"response.failed" not in body or b"server_shutdown" not in body:
        return "BROKEN OFF"
    return "the error event" if connection.whole else "the error event, not the end of the chunks"


async def run(scale: float) -> bool:
    count = max(20, int(500 * scale))
    with serving.upstream() as upstream:
        options = ("--timeout-graceful-shutdown", str(GRACE))
        gateway = serving.gateway("benchmarks.app:app", upstream.port, *options)
        streams = await asyncio.gather(*(opened(gateway.port, number) for number in range(count)))
        began = time.perf_counter()
        gateway.terminate()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*(stream.ended() for stream in streams))
        seconds = time.perf_counter() - began
        status = await asyncio.to_thread(gateway.process.wait, TIMEOUT)
    found = Counter(ending(stream, number) for number, stream in enumerate(streams))
    print(f"{count} streams, all ended {seconds:.1f} s after SIGTERM (grace {GRACE} s); exit status {status}")
    for name, number in sorted(found.items()):
        print(f"  {number:6} {name}")
    return not any(name.split()[0].isupper() for name in found)
