"""The network seam: one request out, one reply back. Everything above it is testable without a socket.

A transport gives status, headers and bytes as the upstream sent them, framing removed. It knows nothing of SSE, JSON,
providers or tenants; what it must keep apart it keeps apart by *credential*.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from ..settings import Timeouts

Headers = list[tuple[bytes, bytes]]


class UpstreamRequest(Struct, frozen=True):
    """One HTTP request to an upstream, complete but for framing headers.

    *scheme* is `http` or `https`; *host* is without brackets; *target* is path and query as they go on the wire.
    *headers* have lower-case names and hold neither `host` nor framing nor hop-by-hop headers: the transport adds
    `host`, `content-length` and `accept-encoding: identity`. *body* is None for a request without one.
    *credential* tells connections apart that must not be shared: any opaque value, never a secret itself.
    *deadline* bounds, in seconds from the call of `open`, everything up to the last header of the reply.
    *allow_private* False: only public addresses may be connected to, judged before they are; see `transport.request`.
    *uds* is the path of a Unix socket that is connected to instead of host and port. *fresh*: use no idle connection.
    *websocket*: the same may be asked in a frame on a WebSocket at the same place; transports of HTTP ignore it.
    """

    method: bytes
    scheme: str
    host: str
    port: int
    target: bytes
    headers: Headers
    body: bytes | None
    credential: str = ""
    timeouts: Timeouts = Timeouts()
    deadline: float = 120.0
    allow_private: bool = True
    uds: str | None = None
    fresh: bool = False
    websocket: bool = False

    def __repr__(self) -> str:
        place = self.host if self.uds is None else self.uds
        path = self.target.partition(b"?")[0]  # the query may hold a key
        return f"<UpstreamRequest {self.method!r} {self.scheme}://{place}:{self.port} {path!r}>"


class UpstreamReply(Protocol):
    """A reply whose headers have come. *headers* have lower-case names, hop-by-hop ones included."""

    status: int
    headers: Headers
    resumable: bool
    """Whether a `read` that timed out may be repeated without loss."""

    async def read(self, timeout: float) -> bytes:
        """Returns the next bytes of the body, at least one; `b""` once the body has ended as its framing promised.

        :raises UpstreamTimeout: nothing came within *timeout* seconds.
        :raises UpstreamTruncated: the connection closed before the body's end.
        :raises UpstreamProtocolError: the framing is broken.
        """

    async def aclose(self) -> None:
        """Releases the connection: back to its pool if the reply ended exactly, closed otherwise. Never raises; a
        cancellation waits for it, and it takes seconds at the most."""


class Listener(Protocol):
    """Notified of what happens to connections outside of any request."""

    def keepalive_lost(self, origin: str, seconds: float) -> None:
        """*origin* has sent bytes after a complete reply: none of its connections is used again for *seconds*."""


class Transport(Protocol):
    """Makes requests. One instance may serve several event loops, one after the other or at a time.

    One that opens connections by itself may have a method `attach(connections, listener)` beside these, by which a
    gateway says what it may open (a `ConnectionLimit`) and who listens (a `Listener`).
    """

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends *request* and waits for the reply's headers.

        :raises UpstreamUnreachable: no connection could be made.
        :raises UpstreamStale: a reused connection closed before one byte of the reply.
        :raises UpstreamTimeout: *deadline* passed; of kind `"connect"`, `timeouts.connect` did, and nothing was sent.
        :raises Overloaded: `timeouts.pool` passed, and nothing was sent.
        :raises UpstreamProtocolError: what came is not HTTP/1.1, or over the bounds; of kind `"closed"`, the connection
            closed before the headers' end.
        :raises ValueError: the request cannot be written safely (CR, LF, NUL; a header that is the transport's own).
        """

    async def aclose(self) -> None:
        """Closes every idle connection of the running loop. Never raises."""
