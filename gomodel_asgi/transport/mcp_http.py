"""HTTP for the official `mcp` SDK: an `httpx2.AsyncClient` whose requests go through a `Transport` of ours.

Strategy: the SDK learns neither the server's address nor its credentials. It talks to a stand-in URL; here the real
ones are put in, and taken out of what comes back, so that no log and no exception of the SDK or of
httpx2 can hold them. Which addresses may be connected to is the Transport's rule (`allow_private`), as for upstreams.

A request that fails gets a reply all the same: an exception would end the SDK's session, and all its other calls. What
went wrong is noted in the `Asking` of the caller, which the SDK carries along as the context of its tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2
import msgspec

from ..deadline import clock
from ..errors import (
    GatewayError,
    Overloaded,
    UpstreamProtocolError,
    UpstreamStale,
    UpstreamTimeout,
    UpstreamTruncated,
    UpstreamUnreachable,
)
from ..seams.transport import Headers, Transport, UpstreamReply, UpstreamRequest
from ..settings import CLOSED, MIB
from ..version import __version__
from ..wire.redaction import redactor_of
from ..wire.sse import Framer, split
from .request import DEFAULT_PORTS, Place

Decoded = TypeVar("Decoded")

STAND_IN = "http://server.invalid/"
"""What the SDK takes for the server's URL (RFC 6761: no such name is ever found)."""
MOST_REPLY = 4 * MIB
"""Bytes of one reply, all events of a stream together. The SDK bounds the events of a stream alone, and 4 MiB are what
a response may tell the model of its tools in all."""
MOST_EVENTS = 1000
"""Of one stream. Nobody here asks for progress or logs, and the SDK takes a quarter of a millisecond for each."""
MOST_REDIRECTS = 3
"""Redirects within one server that are followed."""
UNASKED = 2.0
"""Seconds for what the SDK sends by itself: that the session has begun, that a call is cancelled, that it is over."""

OWN = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding", b"cookie", b"user-agent"}
)
"""Headers of httpx2 that do not go out: the Transport has its own, and cookies are not kept."""
SESSION = b"mcp-session-id"
STAND_IN_SESSION = b"kept-elsewhere"
"""What the SDK, which logs it, takes for the session's id: the real one is a credential."""
KEPT = (b"content-type", SESSION)
"""Headers of a reply that the SDK reads. None else passes: no cookie, no redirect, no content coding."""
REDIRECTS = (301, 302, 303, 307, 308)
SAME_METHOD = (307, 308)


class Failure(msgspec.Struct, frozen=True):
    """Why a request came to nothing: an HTTP status, or the one that fits. *message* may be read by clients, *detail*
    is for the operator; neither holds the URL."""

    code: int
    message: str
    detail: str | None = None


class Asking:
    """One operation on a server, perhaps of several requests, which ends by *deadline* (monotonic seconds). *failure*
    is that of the last request."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.failure: Failure | None = None

    @property
    def remaining(self) -> float:
        """Returns how many seconds are left; never less than 0."""
        return max(0.0, self.deadline - clock())


asking: ContextVar[Asking | None] = ContextVar("gomodel_asgi_mcp_asking", default=None)
"""The operation of the running task."""


def client_of(place: Place, transport: Transport) -> httpx2.AsyncClient:
    """Returns a client for one session with the server at *place*, which is where it goes, whatever URL it is given."""
    return httpx2.AsyncClient(transport=Through(place, transport), trust_env=False)


class Broken(Exception):
    """A reply that cannot be used."""

    def __init__(self, code: int, message: str) -> None:
        self.failure = Failure(code, message)


class Message(msgspec.Struct):
    """The part of a JSON-RPC 2.0 message that matters here."""

    method: str | None = None
    id: int | str | None = None

    @property
    def expects_reply(self) -> bool:
        """Returns whether this is a request: a notification has no id, and a reply no method (JSON-RPC 2.0)."""
        return self.method is not None and self.id is not None


class Sending(NamedTuple):
    """One request of the SDK, and what it is part of."""

    request: httpx2.Request
    body: bytes
    message: Message
    current: Asking


class RpcError(msgspec.Struct):
    """The `error` of a JSON-RPC reply, without its `data`."""

    code: int
    message: str


class ErrorReply(msgspec.Struct):
    """A JSON-RPC error, which may come with any HTTP status."""

    error: RpcError


read_message = msgspec.json.Decoder(Message).decode
read_error = msgspec.json.Decoder(ErrorReply).decode


class Through(httpx2.AsyncBaseTransport):
    """See the module. *target* changes where the server redirects within itself, *session* is the id that it gave."""

    def __init__(self, place: Place, transport: Transport) -> None:
        self.place = place
        self.transport = transport
        self.target = place.target
        self.session = b""
        self.redactor = redactor_of(place.secrets)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`."""
        if request.method == "GET" and "last-event-id" not in request.headers:
            return httpx2.Response(405)  # a stream of what the server sends unrequested would cost a connection
        body = await request.aread()
        message = _decoded(body, read_message) or Message()
        current = (asking.get() if message.expects_reply else None) or Asking(clock() + UNASKED)
        current.failure = None
        try:
            return await self._answered(Sending(request, body, message, current))
        except (Broken, GatewayError) as error:
            current.failure = failure_of(error)
        except ValueError:
            current.failure = Failure(502, "The request cannot be written: a header is not one.")
        return httpx2.Response(502)

    async def _answered(self, sending: Sending) -> httpx2.Response:
        """Returns the reply, whole or as a stream of events.

        :raises Broken: it is neither JSON nor such a stream.
        """
        reply, current = await self._open(sending), sending.current
        if reply.status == 200 and _content_type(reply) == b"text/event-stream":
            return httpx2.Response(200, headers=self._kept(reply), stream=Events(reply, self.redactor.of, current))
        data = self.redactor.of(await _whole(reply, current))
        if reply.status >= 300:
            if _decoded(data, read_error) is None:  # else the SDK reads what the server says
                current.failure = Failure(reply.status, f"The server answered with HTTP status {reply.status}.")
        elif sending.message.expects_reply and _content_type(reply) != b"application/json":
            raise Broken(502, "The server's reply is neither JSON nor a stream of events.")
        return httpx2.Response(reply.status, headers=self._kept(reply), content=data)

    async def _open(self, sending: Sending) -> UpstreamReply:
        """Returns the reply, redirects within the server followed.

        :raises Broken: they do not end.
        """
        for _ in range(MOST_REDIRECTS + 1):
            try:
                reply = await self.transport.open(self._translated(sending))
            except UpstreamStale:
                if sending.message.method == "tools/call":  # which may have arrived, and must not be made twice
                    raise
                reply = await self.transport.open(self._translated(sending, fresh=True))
            if reply.status not in REDIRECTS:
                return reply
            await reply.aclose()
            self.target = self._moved(reply, sending.request.method)
        raise Broken(502, "The server redirects without an end.")

    def _moved(self, reply: UpstreamReply, method: str) -> bytes:
        """Returns the target that a redirect names.

        :raises Broken: it is not of the same origin, or the method would have to change.
        """
        place = self.place
        location = next((value for name, value in reply.headers if name == b"location"), b"")
        try:
            url = urlsplit(urljoin(place.origin + self.target.decode("latin-1"), location.decode("ascii")))
            origin = url.scheme, url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            same = origin == (place.scheme, place.host, place.port) and "@" not in url.netloc
        except ValueError:
            same, target = False, ""
        sound = target.isascii() and target.isprintable() and " " not in target
        if not same or not sound or (reply.status not in SAME_METHOD and method != "GET"):
            raise Broken(reply.status, "The server redirects to another place, which is not followed.")
        return target.encode("ascii")

    def _kept(self, reply: UpstreamReply) -> Headers:
        kept = [(name, value) for name, value in reply.headers if name in KEPT]
        self.session = next((value for name, value in kept if name == SESSION), self.session)
        return [(name, STAND_IN_SESSION if name == SESSION else value) for name, value in kept]

    def _translated(self, sending: Sending, *, fresh: bool = False) -> UpstreamRequest:
        place, request = self.place, sending.request
        given = {name for name, _ in place.headers}
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        headers = [(name, value) for name, value in headers if name not in OWN and name not in given]
        headers = [(name, self.session if name == SESSION else value) for name, value in headers]
        if b"user-agent" not in given:
            headers.append((b"user-agent", f"gomodel-asgi/{__version__}".encode()))
        return UpstreamRequest(
            method=request.method.encode("ascii"),
            scheme=place.scheme,
            host=place.host,
            port=place.port,
            target=self.target,
            headers=[*headers, *place.headers],
            body=sending.body or None,
            credential=place.credential,
            deadline=sending.current.remaining,
            allow_private=place.allow_private,
            fresh=fresh,
        )


class Events(httpx2.AsyncByteStream):
    """A stream of events, given whole one by one, so that no credential passes in two halves."""

    def __init__(self, reply: UpstreamReply, redacted: Any, current: Asking) -> None:
        self.reply = reply
        self.redacted = redacted
        self.current = current
        self.framer = Framer(buffer=MOST_REPLY, limit=MOST_REPLY)
        self.size = self.events = 0
        self.over = False

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> bytes:
        """Returns the next whole events, without the server's secrets.

        :raises ReadError: of httpx2, the stream broke off; the library expects that of a connection.
        :raises StopAsyncIteration: the stream has ended.
        """
        while not self.over:
            try:
                data = await self._next()
            except (Broken, GatewayError) as error:
                self.over = True
                self.current.failure = failure_of(error)  # for the session to know why
                raise httpx2.ReadError(self.current.failure.message) from None
            if data:
                return bytes(self.redacted(data))
        raise StopAsyncIteration

    async def _next(self) -> bytes:
        """Returns the next whole events, b"" if none has ended yet.

        :raises Broken: the stream has too many events.
        """
        data = await _next_of(self.reply, self.current, self.size)
        self.over = not data
        self.size += len(data)
        events = self.framer.feed(data) if data else bytes(self.framer.pending)
        self.events += sum(1 for _ in split(events))
        if self.events > MOST_EVENTS:
            raise Broken(502, f"The server's reply is a stream of more than {MOST_EVENTS} events.")
        return events

    async def aclose(self) -> None:
        """Closes the reply, of which no more is read."""
        self.over = True
        await self.reply.aclose()


async def _whole(reply: UpstreamReply, current: Asking) -> bytes:
    """Returns the body of *reply*, and closes it."""
    data = bytearray()
    try:
        while chunk := await _next_of(reply, current, len(data)):
            data += chunk
    finally:
        await reply.aclose()
    return bytes(data)


async def _next_of(reply: UpstreamReply, current: Asking, size: int) -> bytes:
    """Returns the next piece of *reply*, of which *size* bytes have come.

    :raises Broken: it is too large.
    """
    data = await reply.read(current.remaining)
    if size + len(data) > MOST_REPLY:
        raise Broken(502, f"The server's reply is larger than {MOST_REPLY // MIB} MiB.")
    return data


WITHOUT_REPLY = "The server closed the connection without a reply."
MEANINGS: tuple[tuple[type[GatewayError], str], ...] = (
    (UpstreamUnreachable, "No connection to the server could be made."),
    (UpstreamTimeout, "The server did not answer in time."),
    (UpstreamStale, WITHOUT_REPLY),
    (UpstreamTruncated, "The server closed the connection before the end of its reply."),
    (UpstreamProtocolError, "The server's reply is not proper HTTP."),
    (Overloaded, "Too many connections are open."),
)
"""What a failure of the Transport is called where there is no upstream."""


def failure_of(error: Broken | GatewayError) -> Failure:
    """Returns what *error* means to a caller of the server."""
    if isinstance(error, Broken):
        return error.failure
    closed = getattr(error, "kind", None) == CLOSED
    found = (meaning for kind, meaning in MEANINGS if isinstance(error, kind))
    message = WITHOUT_REPLY if closed else next(found, "The server could not be asked.")
    return Failure(error.status, message, error.detail)


def _decoded(data: bytes, decode: Callable[[bytes], Decoded]) -> Decoded | None:
    try:
        return decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _content_type(reply: UpstreamReply) -> bytes:
    value = next((value for name, value in reply.headers if name == b"content-type"), b"")
    return value.partition(b";")[0].strip().lower()
