"""Plays plans on real sockets, as a small HTTP/1.1 server that is exact to the byte; or for an ASGI server.

One task reads a connection, another plays the replies. The reader goes on while a reply is being played, so that a
client that leaves is noticed at once, in the middle of a stall too. Everything is bounded: connections, requests that
wait on one of them, the size of a body, the time a connection may idle.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import anyio
import httptools
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.types import Receive, Scope, Send

from .plan import Body, Close, End, Fill, Head, Hold, Pause, Plan, Raw, Step
from .received import ReceivedRequest, Signal

MAX_CONNECTIONS = 16_384
"""Above the 10,000 streams that a load test opens; a connection more is closed at once."""
MAX_BODY = 64 << 20
"""Twice the largest request that the gateway lets through."""
MAX_PIPELINED = 16
"""Requests that wait on one connection; further ones stay in the socket."""
IDLE = 600.0
"""Seconds without a request after which a connection is closed."""

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)
"""What a connection raises when its client has left; `TimeoutError`, after `IDLE`, is an OSError too."""

BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

Handler = Callable[[ReceivedRequest], Plan]
Incoming = tuple[ReceivedRequest, bool] | None
"""A request and whether its connection may be kept; None for bytes that are not HTTP."""


class Parser:
    """Collects requests out of bytes; httptools calls the `on_` methods."""

    def __init__(self, connection: int) -> None:
        self.connection = connection
        self.finished: list[tuple[ReceivedRequest, bool]] = []
        self.parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> list[tuple[ReceivedRequest, bool]]:
        """Returns the requests that *data* completes, each with whether its connection may be kept.

        :raises httptools.HttpParserError: not HTTP, or over `MAX_BODY`.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # the request is complete; nothing here is upgraded to
            pass
        finished, self.finished = self.finished, []
        return finished

    def on_message_begin(self) -> None:
        """The parser begins a request."""
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    def on_url(self, url: bytes) -> None:
        """The parser has read a piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header."""
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        """The parser has read a piece of the body.

        :raises ValueError: the body is over `MAX_BODY` bytes.
        """
        self.body += body
        if len(self.body) > MAX_BODY:
            raise ValueError("the request's body is over the bound")

    def on_message_complete(self) -> None:
        """The parser has read the end of a request."""
        path, _, query = self.url.partition(b"?")
        method = self.parser.get_method().decode("ascii")
        body = bytes(self.body)
        request = ReceivedRequest(method, path.decode("latin-1"), query, self.headers, body, self.connection)
        self.finished.append((request, self.parser.should_keep_alive()))


@dataclass
class Server:
    """Answers each request with the plan that *handler* makes for it; *released* gives what a `Hold` waits for."""

    handler: Handler
    released: Callable[[], Signal]
    max_connections: int = MAX_CONNECTIONS
    connections: int = 0
    """Connections accepted so far."""
    open_connections: int = 0
    """Those open now."""

    @asynccontextmanager
    async def listen(self, host: str, port: int) -> AsyncIterator[int]:
        """Serves until the block is left, and yields the port.

        :raises OSError: the address cannot be listened on.
        """
        failure: Exception | None = None
        listener = await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=4096)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._connection)
            try:
                yield listener.extra(SocketAttribute.local_port)
            except Exception as exc:  # raised below, where no task group wraps the test's own failure
                failure = exc
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _connection(self, stream: SocketStream) -> None:
        async with stream:
            if self.open_connections >= self.max_connections:
                return
            self.connections += 1
            self.open_connections += 1
            try:
                await self._converse(stream, self.connections)
            finally:
                self.open_connections -= 1

    async def _converse(self, stream: SocketStream, connection: int) -> None:
        send, receive = anyio.create_memory_object_stream[Incoming](MAX_PIPELINED)
        left = Signal()
        async with send, receive, anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, stream, Parser(connection), send, left)
            try:
                await self._answer(stream, receive, left)
            except GONE:
                pass
            tasks.cancel_scope.cancel()

    async def _read(
        self,
        stream: SocketStream,
        parser: Parser,
        requests: MemoryObjectSendStream[Incoming],
        left: Signal,
    ) -> None:
        async with requests:
            try:
                while True:
                    for request in parser.feed(await stream.receive()):
                        await requests.send(request)
            except httptools.HttpParserError:
                await requests.send(None)
            except GONE:
                left.set()

    async def _answer(
        self,
        stream: SocketStream,
        requests: MemoryObjectReceiveStream[Incoming],
        left: Signal,
    ) -> None:
        while True:
            with anyio.fail_after(IDLE):
                incoming = await requests.receive()
            if incoming is None:
                await stream.send(BAD_REQUEST)
                return
            if not await self._play_or_notice(stream, *incoming, left):
                return

    async def _play_or_notice(self, stream: SocketStream, request: ReceivedRequest, keep: bool, left: Signal) -> bool:
        """Answers *request* to the end or until the client leaves; returns whether the connection may be used again."""
        plan = self.handler(request)
        player = Player(stream, keep, request.method == "HEAD", self.released())
        async with anyio.create_task_group() as tasks:

            async def notice_disconnect() -> None:
                await left.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(notice_disconnect)
            try:
                await player.play(plan)
            except GONE:
                pass
            tasks.cancel_scope.cancel()
        (request.answered if player.ended else request.disconnected).set()
        return player.ended and player.keep


class Player:
    """Plays one plan on one connection."""

    def __init__(self, stream: SocketStream, keep: bool, silent: bool, released: Signal) -> None:
        self.stream = stream
        self.keep = keep
        self.silent = silent
        self.released = released
        self.chunked = False
        self.ended = False

    async def play(self, plan: Plan) -> None:
        """Plays *plan*; then `ended` is whether it came to its end, `keep` whether the connection is still good."""
        for step in plan.steps:
            match step:
                case Head():
                    await self._head(step)
                case Body(data):
                    await self._body(data)
                case Fill():
                    for piece in step.pieces():
                        await self._body(piece)
                case Raw(data):
                    self.keep = False
                    await self.stream.send(data)
                case Hold():
                    await self.released.wait()
                case Pause(seconds):
                    await anyio.sleep(seconds)
                case Close():
                    await self._close(step)
                case _:
                    await self._end()
        self.ended = True

    async def _head(self, head: Head) -> None:
        lines = [b"HTTP/1.1 %d %s\r\n" % (head.status, _phrase(head.status))]
        lines += [b"%s: %s\r\n" % header for header in head.headers]
        self.silent = self.silent or head.bodiless
        self.keep = self.keep and not head.framed
        if not head.framed and not head.bodiless:
            self.chunked = head.length is None
            framing = b"transfer-encoding: chunked" if head.length is None else b"content-length: %d" % head.length
            lines.append(framing + b"\r\n")
        if not self.keep:
            lines.append(b"connection: close\r\n")
        await self.stream.send(b"".join(lines) + b"\r\n")

    async def _body(self, data: bytes) -> None:
        if self.silent or not data:
            return
        await self.stream.send(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    async def _close(self, close: Close) -> None:
        self.keep = False
        if close.partial:
            size = b"%x\r\n" % (2 * len(close.partial)) if self.chunked else b""
            await self.stream.send(size + close.partial)
        if close.reset:
            linger = struct.pack("ii", 1, 0)
            self.stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def _end(self) -> None:
        if self.chunked and not self.silent:
            await self.stream.send(b"0\r\n\r\n")


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Scripted"


# For an ASGI server, where the fake provider is not its own server.


class ScriptedCut(ConnectionAbortedError):
    """The script breaks the connection off here: the server has to, since an ASGI app cannot."""


async def received(scope: Scope, receive: Receive) -> ReceivedRequest | None:
    """Returns the request in *scope*, None if its client left before it was whole."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope.get("raw_path") or scope["path"].encode()
    headers = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
    return ReceivedRequest(scope["method"], path.decode("latin-1"), scope["query_string"], headers, bytes(body))


async def send_plan(request: ReceivedRequest, plan: Plan, released: Signal, receive: Receive, send: Send) -> None:
    """Answers *request* with *plan*, until its end or until the client leaves.

    :raises ScriptedCut: the script breaks the connection.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:

        async def notice_disconnect() -> None:
            await receive()  # after the body's end there is nothing but `http.disconnect`
            request.disconnected.set()
            tasks.cancel_scope.cancel()

        tasks.start_soon(notice_disconnect)
        try:
            for step in plan.steps:
                await _play(step, released, send)
        except Exception as exc:  # raised below, where no task group wraps it
            failure = exc
        if failure is None or isinstance(failure, ScriptedCut):
            request.answered.set()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _play(step: Step, released: Signal, send: Send) -> None:
    """Does one step of a plan.

    :raises ScriptedCut: it is to break the connection off.
    """
    match step:
        case Head():
            await send({"type": "http.response.start", "status": step.status, "headers": _headers(step)})
        case Body(data):
            await send({"type": "http.response.body", "body": data, "more_body": True})
        case Fill():
            for piece in step.pieces():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        case Hold():
            await released.wait()
        case Pause(seconds):
            await anyio.sleep(seconds)
        case End():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        case _:  # Raw, Close
            raise ScriptedCut("the script breaks the connection off")


def _headers(head: Head) -> list[tuple[bytes, bytes]]:
    length = [] if head.length is None or head.framed or head.bodiless else [(b"content-length", b"%d" % head.length)]
    return [*head.headers, *length]
