"""The request's body, read within bounds, and what its headers must say first."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from types import CoroutineType

import anyio.lowlevel
from starlette.types import Message, Receive, Scope

from ..deadline import DeadlineExceeded, clock, within
from ..errors import InvalidRequest, RequestTimeout
from ..settings import KIB, Limits
from ..threads import paced
from ..wire.json_body import Envelope
from ..wire.json_pieces import SMALL

STARLETTE_LIMIT = "starlette.max_body_size"
"""The scope key in which Starlette's RequestBodyLimitMiddleware puts its limit."""


MOST_DIGITS = 18
"""Digits of a `content-length`: more than any limit has, and fewer than `int` refuses to read."""


SLOWEST = 16 * KIB
"""Bytes a second that a body must average: 32 MiB may take 34 minutes, a byte now and then a minute."""


class ClientDisconnected(Exception):
    """The client has gone; nobody is left to answer."""


def check_content_type(headers: Mapping[bytes, bytes]) -> None:
    """Checks that the body is JSON in UTF-8, without a content encoding. A missing type is refused too: a browser sends
    such a request to other sites without a preflight.

    :raises InvalidRequest: 415.
    """
    type, _, parameters = headers.get(b"content-type", b"").lower().partition(b";")
    type = type.strip()
    if type != b"application/json" and not (type.startswith(b"application/") and type.endswith(b"+json")):
        raise _unsupported("Send a JSON object as the body, with the header `content-type: application/json`.")
    for parameter in filter(None, map(bytes.strip, parameters.split(b";"))):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip().strip(b'"') not in (b"utf-8", b"utf8"):
            raise _unsupported("Send the body in UTF-8.")
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise _unsupported("Send the body without a content-encoding.")


def _unsupported(message: str) -> InvalidRequest:
    return InvalidRequest(message, status=415, code="unsupported_media_type")


def limit_of(scope: Scope, own: int) -> int:
    """Returns how many bytes a body may have: the gateway's own limit, or the host's where that is lower."""
    host = scope.get(STARLETTE_LIMIT)
    return min(own, host) if isinstance(host, int) else own


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int, seconds: float) -> bytes:
    """Returns the whole body. No piece may be later than *seconds* after the one before, and the whole may fall behind
    `SLOWEST` by no more than that.

    :raises InvalidRequest: 413 at the first sign of more than *limit* bytes.
    :raises RequestTimeout: it comes too slowly.
    :raises ClientDisconnected: the client left before the body's end.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > MOST_DIGITS or int(length) > limit):
        raise too_large(limit)
    pieces: list[bytes] = []
    size, pace = 0, None
    while True:
        coming = receive()
        if not isinstance(coming, CoroutineType):
            coming = _received(coming)
        try:
            message = await within(seconds if pace is None else pace.left(clock()), coming)
        except DeadlineExceeded:
            raise RequestTimeout from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join((*pieces, piece)) if pieces else bytes(piece)
        pace = pace or Pace(seconds, clock())
        pace.came(len(piece), clock())
        if piece:
            pieces.append(piece)
        elif not pace.left(clock()):
            raise RequestTimeout
        await anyio.lowlevel.checkpoint()  # pieces that a middleware has at hand, however many, must not keep the loop


async def _received(coming: Awaitable[Message]) -> Message:
    return await coming  # what a server calls `receive` need not be a coroutine function


class Pace:
    """Bounds the wait for each piece of a body, by the last one and by the average. The first wait begins at *now*."""

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.last = now
        self.average: float | None = None

    def came(self, size: int, now: float) -> None:
        """Counts a piece of *size* bytes, come at *now*. An empty one does not count."""
        if size:
            self.average = (now + self.seconds if self.average is None else self.average) + size / SLOWEST
            self.last = now

    def left(self, now: float) -> float:
        """Returns the seconds that the next piece may take, 0 where none are left."""
        until = self.last + self.seconds
        if self.average is not None and self.average < until:
            until = self.average
        return max(0.0, until - now)


async def opened(raw: bytes, limits: Limits) -> Envelope:
    """Returns the body *raw* as an envelope, without holding the event loop for long.

    :raises InvalidRequest: as `Envelope.opening`.
    """
    return Envelope.parse(raw, limits) if len(raw) <= SMALL else await paced(Envelope.opening(raw, limits))


def too_large(limit: int) -> InvalidRequest:
    """Returns the 413."""
    return InvalidRequest(
        f"The body is larger than the {limit} bytes that are accepted here.", status=413, code="request_too_large"
    )
