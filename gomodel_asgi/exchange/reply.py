"""What an exchange ends in: one reply, read by whoever asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import msgspec

from ..dialects.reader import Reader
from ..errors import GatewayError, UpstreamProtocolError
from ..routing.target import ResolvedTarget
from ..settings import Limits
from ..threads import paced
from ..wire.headers import CACHE_CONTROL, CACHE_CONTROL_OF_STREAMS, VARY, Headers, named
from ..wire.json_pieces import SMALL
from ..wire.json_scan import counted, tree
from ..wire.sse import Decoder

if TYPE_CHECKING:
    from starlette.responses import Response


LIMITS = Limits()
NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Stream(Protocol):
    """A reply as it comes, through one reader."""

    reader: Reader
    ended: bool
    before_end: Callable[[], Awaitable[object]] | None
    """Awaited, once, before the client gets the event that ends the response."""

    async def next(self) -> bytes:
        """Returns the next whole events for the client, `b""` at the end.

        :raises Broken: the upstream died inside an event that was already given in part.
        """

    def final(self) -> bytes:
        """Returns the response object that ended the stream.

        :raises GatewayError: none did.
        """

    async def interrupt(self, error: GatewayError) -> bytes:
        """Ends the stream from our side: the failure in band, the upstream released."""

    async def aclose(self) -> None:
        """Releases the upstream, whatever state it is in. Never raises."""


class Broken(Exception):
    """The upstream died inside an event that the client has in part: its connection has to be broken off."""


class Reply(msgspec.Struct, kw_only=True, eq=False):
    """An answered request: *status* and *headers* (lower-case names), then either a whole body or a stream.

    *provider* and *model* say who answered, *attempts* how many requests it took. Read it once, in one way: `json()`
    or `read()` for the whole body, `async for event in reply` for a stream's events, `response()` to hand it on.
    Use it as an async context manager, or call `aclose()`, when it may not be read to its end.
    """

    status: int
    raw_headers: Headers
    provider: str
    model: str | None
    attempts: int
    labels: Mapping[str, str] = NO_LABELS
    body: bytes | None = None
    stream: Stream | None = None
    candidate: ResolvedTarget | None = None
    response_id: str | None = None
    """The response's id, where a whole body was seen to hold one."""
    before_end: Callable[[], Awaitable[object]] | None = None
    """Awaited before the client gets the last byte of a whole body."""
    remembered: Callable[[], bytes] | None = None
    """What later turns have to know of its hosted tools, once the reply has ended; None where the host ran none. Where
    it did, no upstream has the response: it lives here."""
    guards: tuple[str, ...] = ()
    """The names of the host's guards that have let it pass already."""
    make_response: ClassVar[Callable[[Any], Any]]
    """Made by the server's room, which knows ASGI."""
    closing: tuple[Callable[[], None], ...] = ()
    """Called once, when the reply is closed or its client has left."""

    def __post_init__(self) -> None:
        cache_control = CACHE_CONTROL
        for name, value in self.raw_headers:
            if name == b"content-type" and value.startswith(b"text/event-stream"):
                cache_control = CACHE_CONTROL_OF_STREAMS
        self.raw_headers = [*self.raw_headers, cache_control, VARY]  # here, so that no reply can be made without them

    def __repr__(self) -> str:
        kind = "stream" if self.stream is not None else f"{len(self.body or b'')} bytes"
        return f"<Reply {self.status} {kind} provider={self.provider!r} model={self.model!r}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a client would get, the last of each name."""
        return {name.decode("ascii"): value.decode("latin-1") for name, value in self.raw_headers}

    async def next(self) -> bytes:
        """Returns the next whole events of a stream, or the whole body; `b""` at the end. Never raises for the
        upstream's failures, which are reported in band."""
        if self.stream is not None:
            return await self.stream.next()
        if self.before_end is not None:
            await self.before_end()
        data, self.body = self.body or b"", b""
        return data

    async def read(self) -> bytes:
        """Returns the whole body (of a stream: all its events as sent)."""
        pieces = []
        while data := await self.next():
            pieces.append(data)
        await self.aclose()
        return b"".join(pieces)

    async def json(self) -> Any:
        """Returns the body, parsed. Of a stream: the response object that ended it.

        :raises GatewayError: the stream failed before it had one, or it holds more than may be parsed.
        """
        body = await self.read()
        return await parsed(body if self.stream is None else self.stream.final())

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream as dicts, `[DONE]` left out; of a unary reply, its body as the only one."""
        decoder = Decoder(limit=2**62)
        try:
            while data := await self.next():
                if self.stream is None:
                    yield await parsed(data)
                    continue
                for event in decoder.feed(data):
                    if event.data != b"[DONE]":
                        yield await parsed(event.data)
        finally:
            await self.aclose()

    def response(self) -> Response:
        """Returns a Starlette response that sends this reply, streaming where it streams."""
        response: Response = type(self).make_response(self)
        return response

    async def aclose(self) -> None:
        """Releases the upstream. Never raises; further calls do nothing."""
        if self.stream is not None:
            await self.stream.aclose()
        self.left()

    def left(self) -> None:
        """Releases what its client occupied, since it has left; the reply itself may still be read on."""
        functions, self.closing = self.closing, ()
        for function in functions:
            function()

    def on_close(self, function: Callable[[], None]) -> None:
        """Calls *function* once the reply has been closed."""
        self.closing = (function, *self.closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def parsed(data: bytes) -> Any:
    """Returns JSON that an upstream has sent as a value.

    :raises UpstreamProtocolError: it is malformed, or more than may be parsed.
    """
    try:
        if len(data) > SMALL:
            await paced(counted(data, depth=LIMITS.depth, values=LIMITS.values))
        return tree(data)
    except ValueError as error:
        raise UpstreamProtocolError("The upstream sent what cannot be read.") from error


class Failed(Reply, kw_only=True, eq=False):
    """A reply that reports a failure; *error* is what failed, detached."""

    provider: str = ""
    model: str | None = None
    attempts: int = 0
    error: GatewayError


JSON_TYPE = (b"content-type", b"application/json")
STREAM_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
STREAM_HEADERS: Headers = [(b"x-accel-buffering", b"no")]


def json_reply(value: Any, provider: str, model: str | None) -> Reply:
    """Returns *value* (JSON, or bytes of it) as the reply; *provider* and *model* are those that once gave it."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return _of_no_upstream(body, [JSON_TYPE], provider, model)


def streamed(events: bytes, provider: str, model: str | None) -> Reply:
    """Returns *events* as the reply."""
    return _of_no_upstream(events, [STREAM_TYPE, *STREAM_HEADERS], provider, model)


def _of_no_upstream(body: bytes, headers: Headers, provider: str, model: str | None) -> Reply:
    headers = [*headers, *named(provider, (model or "")[:257], 0)]
    return Reply(status=200, raw_headers=headers, provider=provider, model=model, attempts=0, body=body)
