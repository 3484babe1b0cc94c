"""Streams cut at random into pieces, hashed at both ends: none may be lost, reordered or altered."""

from __future__ import annotations

import asyncio
import time
from hashlib import blake2b

from .. import serving
from ..client import body_of, connect, request_of
from ..replies import arriving

AT_A_TIME = 64
DELTAS = 98  # and the two events that open and close a response


async def client(port: int, tags: list[str], wrong: list[str]) -> None:
    connection = await connect(port)
    while tags:
        tag = tags.pop()
        if not connection.reusable and connection.status:
            connection.abort()
            connection = await connect(port)
        await connection.ask(request_of(body_of(True, tag=tag, events=DELTAS)))
        due = blake2b(arriving(tag, DELTAS)).digest()
        if not connection.whole or connection.status != 200 or blake2b(connection.body).digest() != due:
            wrong.append(tag)
    connection.abort()


async def run(scale: float) -> bool:
    count = max(100, int(10_000 * scale))
    tags, wrong = [f"s{number}" for number in range(count)], list[str]()
    with serving.upstream() as upstream, serving.gateway("benchmarks.app:app", upstream.port) as gateway:
        began = time.perf_counter()
        await asyncio.gather(*(client(gateway.port, tags, wrong) for _ in range(AT_A_TIME)))
        seconds, cpu, rss = time.perf_counter() - began, gateway.cpu(), gateway.rss()
    events = count * (DELTAS + 2)
    print(f"{count} streams of {DELTAS + 2} events in {seconds:.0f} s: {len(wrong)} lost or altered")
    print(f"{cpu / events * 1e6:.1f} us of CPU an event, start of the server included; {rss / 1e6:.1f} MB at the end")
    return not wrong
