"""An upstream that answers as the request asks it to: well, slowly, or wrongly.

    python -m benchmarks.upstream PORT

The body's `metadata` steers it: *tag* names the reply (`replies.py`), *events* is the number of deltas, *gap_ms* the
pause after each, *hold* stops a stream after its first delta until `/control/release`, *wait_ms* delays a unary reply,
*fault* names one of `faults.py`. `/control/closed` tells when each stream was closed by its client, on the clock that
all processes of the machine share; `/control/streams` how many streams are open.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import cast

import uvloop

from .faults import CLOSE, FAULTS, HOLD, Reply, Step, chunk, head, sized
from .replies import events, unary

PAUSE = 0.001  # seconds between two pieces, so that they are read one by one

released = asyncio.Event()
closed: dict[str, float] = {}
streams: set[asyncio.Task[None]] = set()


class Upstream(asyncio.Protocol):
    """One connection of a gateway."""

    def __init__(self) -> None:
        self.buffer = b""
        self.tag = ""
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.task is not None and not self.task.done():
            closed[self.tag] = time.monotonic()
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = int(self.buffer[:end].lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
            if len(self.buffer) < end + 4 + length:
                return
            line, body = self.buffer[:end], self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            if b" /control/" in line:
                self.control(line.split(b" ")[1].rpartition(b"/")[2])
            else:
                self.answer(json.loads(body or b"{}"))

    def control(self, word: bytes) -> None:
        if word == b"release":
            released.set()
        told = closed if word == b"closed" else len(streams)
        self.write(sized(json.dumps(told).encode()))

    def answer(self, request: dict[str, object]) -> None:
        knobs = cast("dict[str, str]", request.get("metadata") or {})
        self.tag = knobs.get("tag", "bench")
        if request.get("stream") or "fault" in knobs or "wait_ms" in knobs:
            self.task = asyncio.ensure_future(self.talk(bool(request.get("stream")), knobs))
            streams.add(self.task)
            self.task.add_done_callback(streams.discard)
        else:
            self.write(sized(unary(self.tag)))

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def talk(self, stream: bool, knobs: dict[str, str]) -> None:
        if "fault" in knobs:
            reply = Reply(stream, self.tag, events(self.tag, int(knobs.get("events", "5"))), unary(self.tag))
            return await self.perform(FAULTS[knobs["fault"]].script(reply))
        if not stream:
            await asyncio.sleep(float(knobs["wait_ms"]) / 1000)
            return self.write(sized(unary(self.tag)))
        told = events(self.tag, int(knobs.get("events", "200")))
        if "gap_ms" in knobs:
            return await self.paced(told, float(knobs["gap_ms"]) / 1000)
        if "hold" in knobs:
            self.write(head() + chunk(b"".join(told[:2])))
            await released.wait()
            return self.write(chunk(b"".join(told[2:])) + chunk(b""))
        await self.scattered(b"".join(told))

    async def paced(self, told: list[bytes], gap: float) -> None:
        self.write(head() + chunk(told[0]))
        for event in told[1:]:
            self.write(chunk(event))
            await asyncio.sleep(gap)
        self.write(chunk(b""))

    async def scattered(self, told: bytes) -> None:
        """The stream in pieces that know nothing of events or characters."""
        chance, at = random.Random(self.tag), 0
        self.write(head())
        while at < len(told):
            size = chance.choice((1, 7, 100, 700, 1500, 4000))
            self.write(chunk(told[at : at + size]))
            at += size
            await asyncio.sleep(PAUSE)
        self.write(chunk(b""))

    async def perform(self, steps: list[Step]) -> None:
        for step in steps:
            if step is HOLD:
                await asyncio.sleep(60)
            elif step is CLOSE:
                self.transport.close()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, bytes):
                self.write(step)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
