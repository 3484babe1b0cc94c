"""A client that costs little: one connection, one exchange at a time, nothing interpreted that need not be."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import httptools

HEAD = (
    b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"authorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s"
)


def body_of(stream: bool, model: str = "bench", **knobs: object) -> bytes:
    """A request's body; *knobs* go to the upstream in `metadata`."""
    metadata = {name: str(value) for name, value in knobs.items()}
    return json.dumps({"model": model, "input": "hello", "stream": stream, "metadata": metadata}).encode()


def request_of(body: bytes, key: str = "sk-client") -> bytes:
    return HEAD % (key.encode(), len(body), body)


class Connection(asyncio.Protocol):
    """`ask` sends a request and waits for its end. *status* is 0 until the head has come; *whole* says that the reply
    ended as HTTP demands, *lost* that the connection was closed."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.lost = False
        self.waiter: asyncio.Future[None] | None = None
        self._reset()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def reusable(self) -> bool:
        return not self.lost and self.whole and self.parser.should_keep_alive()

    async def ask(self, data: bytes) -> None:
        """Send, and wait until the reply is whole or the connection lost."""
        self.begin(data)
        await self.ended()

    def begin(self, data: bytes) -> None:
        self._reset()
        self.transport.write(data)

    async def begun(self) -> None:
        """Wait for the first byte of the reply's body."""
        while not (self.chunks or self.whole or self.lost):
            await self._more()

    async def ended(self) -> None:
        while not (self.whole or self.lost):
            await self._more()

    def abort(self) -> None:
        self.transport.abort()

    # From the event loop...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._wake()

    # From the parser...

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        self.whole = True

    def _reset(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.whole = False
        self.chunks: list[bytes] = []

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def _more(self) -> None:
        self.waiter = self.loop.create_future()
        await self.waiter


async def connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Connection, "127.0.0.1", port))[1]


async def once(port: int, data: bytes) -> Connection:
    """One request on a connection of its own, which is closed afterwards."""
    connection = await connect(port)
    try:
        await connection.ask(data)
    finally:
        connection.abort()
    return connection


async def control(port: int, word: str) -> bytes:
    """Ask our own upstream something about itself: `release`, `closed` or `streams`."""
    return (await once(port, b"GET /control/%s HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n" % word.encode())).body
