"""The upstream sockets of one client connection, as a transport: a frame goes out, a stream of events comes back.

Strategy: an upstream's WebSocket is made to look like a streaming HTTP reply, so that everything above it (attempts,
breakers, deadlines, the stamp, the end that an upstream did not send) is the same for both. One socket per provider and
credential carries all lanes; it is opened with the first create and again when it is found closed. What the upstream
remembered on the old one is gone then, and it refuses an id that it no longer knows by itself.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from ..errors import Overloaded, UpstreamTimeout
from ..extras import missing
from ..seams.transport import Transport, UpstreamReply, UpstreamRequest
from ..settings import Limits
from ..threads import paced
from ..wire.json_body import encode
from ..wire.json_pieces import read_object
from ..wire.websocket_frames import Steer
from .request import addresses_of, race, unanswered, unconnected, unreachable
from .slots import ConnectionLimit, Slots
from .websocket_socket import Socket, Unclaimed, WholeReply

if TYPE_CHECKING:
    from websockets.client import ClientProtocol


# From a request to an open WebSocket: its address, TLS, the upgrade (RFC 6455, 4).


NOT_SENT = frozenset({b"content-type", b"accept", b"idempotency-key"})
"""Headers of a request that belong to one request, and not to a connection for many."""
UNANSWERED = "The upstream did not answer the upgrade to a WebSocket."
REFUSAL = 64 * 1024
"""Bytes of the body of a refused upgrade that are read as its error."""

# The library logs whole headers, keys among them.
SILENT = logging.getLogger("gomodel_asgi.server.websocket.protocol")
SILENT.setLevel(logging.CRITICAL + 1)


async def connect(
    request: UpstreamRequest, limits: Limits, unclaimed: Unclaimed, slots: Slots, context: ssl.SSLContext | None = None
) -> Socket | WholeReply:
    """Returns an open socket for *request*, or the reply by which the upstream refused it.

    It has one of the *slots* while it is open. *context* is for https; by default one that trusts certifi's roots.

    :raises Overloaded: there was no slot within `timeouts.pool`.
    :raises UpstreamUnreachable: no connection could be made.
    :raises UpstreamTimeout: of kind `"connect"`, it took longer than `timeouts.connect`.
    :raises UpstreamProtocolError: what came is no answer to an upgrade.
    :raises ImportError: the `websockets` library is not installed.
    """
    await slots.enter(request.timeouts.pool)
    socket: Socket | WholeReply | None = None
    try:
        with anyio.move_on_after(request.timeouts.connect):
            stream = await _dialled(request, slots, context)
            try:
                socket = await _upgraded(request, stream, limits, unclaimed)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
            return socket
    finally:
        if isinstance(socket, Socket):
            socket.on_close = slots.give
        else:
            slots.give()
    raise unconnected("The upstream did not take the connection in time.")


async def _dialled(request: UpstreamRequest, slots: Slots, context: ssl.SSLContext | None) -> ByteStream:
    """Returns a connection, with TLS for https.

    :raises UpstreamUnreachable: none can be made.
    """
    try:
        if request.scheme != "https":
            return await _tcp(request, slots)
        if context is None:
            context = await anyio.to_thread.run_sync(_shared_context)
        return await _secured(await _tcp(request, slots), request.host.rstrip("."), context)
    except (OSError, ValueError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise unreachable(f"{type(error).__name__}: {error}") from error


async def _secured(stream: ByteStream, name: str, context: ssl.SSLContext) -> ByteStream:
    try:
        return await TLSStream.wrap(stream, hostname=name, ssl_context=context, standard_compatible=False)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


async def _tcp(request: UpstreamRequest, slots: Slots) -> ByteStream:
    """Returns a connection without TLS.

    :raises OSError: none can be made.
    """
    if request.uds is not None:
        if not request.allow_private:
            raise OSError("A Unix socket is not a public address.")
        return await anyio.connect_unix(request.uds)

    async def dial(address: str) -> ByteStream:
        return await anyio.connect_tcp(address, request.port)

    return await race(await addresses_of(request), dial, slots, anyio.aclose_forcefully)


@lru_cache(maxsize=1)
def _shared_context() -> ssl.SSLContext:
    """Returns the context of all sockets: made once, in a thread, since that reads files."""
    from .http11.client import default_context

    return default_context()


async def _upgraded(
    request: UpstreamRequest, stream: ByteStream, limits: Limits, unclaimed: Unclaimed
) -> Socket | WholeReply:
    """Returns the socket, or the reply that came in its place.

    :raises ImportError: the extra `websockets` is not installed.
    :raises UpstreamProtocolError: the connection was closed without an answer.
    """
    try:
        from websockets.client import ClientProtocol
        from websockets.protocol import State
        from websockets.uri import WebSocketURI
    except ImportError as error:
        raise missing("websockets", "Provider(websocket=True) needs websockets, 14 or later") from error
    # Not parsed from a text: what does not like a part of that quotes it whole, and a key may stand in the query.
    path, _, query = request.target.decode("ascii").partition("?")
    uri = WebSocketURI(request.scheme == "https", request.host, request.port, path, query)
    protocol = ClientProtocol(uri, max_size=limits.event, logger=SILENT)
    upgrade = protocol.connect()
    for name, value in request.headers:
        if name not in NOT_SENT:
            upgrade.headers[name.decode("ascii")] = value.decode("ascii")
    protocol.send_request(upgrade)
    try:
        await stream.send(b"".join(protocol.data_to_send()))
        while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
            await _read(stream, protocol)
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise unanswered(UNANSWERED) from error
    events = protocol.events_received()
    if protocol.handshake_exc is None:
        socket = Socket(stream, protocol, limits, unclaimed)
        socket.early = events[1:]
        return socket
    await anyio.aclose_forcefully(stream)
    return _refusal(events)


async def _read(stream: ByteStream, protocol: ClientProtocol) -> None:
    try:
        protocol.receive_data(await stream.receive())
    except anyio.EndOfStream:
        protocol.receive_eof()


def _refusal(events: list[Any]) -> WholeReply:
    """Returns the HTTP response that came instead of an upgrade, as a reply.

    :raises UpstreamProtocolError: nothing came.
    """
    if not events:
        raise unanswered(UNANSWERED)
    response = events[0]
    pairs = response.headers.raw_items()
    headers = [(name.lower().encode("ascii", "replace"), value.encode("latin-1", "replace")) for name, value in pairs]
    # A body is only read where its length is declared; the status says enough without it.
    return WholeReply(response.status_code, headers, bytes(response.body or b"")[:REFUSAL])


MOST_SOCKETS = 8
"""Upstream sockets of one client connection; a policy that spreads one conversation wider is not using them well."""

Key = tuple[str, str, int, str | None, bytes, str]


def key_of(request: UpstreamRequest) -> Key:
    """Returns the key of the sockets that can carry *request*."""
    return request.scheme, request.host, request.port, request.uds, request.target, request.credential


class Relay:
    """Opens sockets, runs them with *start*, and gives what belongs to no reply to *unclaimed*."""

    def __init__(
        self, start: Callable[..., Any], unclaimed: Unclaimed, limits: Limits, connections: ConnectionLimit
    ) -> None:
        self.start = start
        self.unclaimed = unclaimed
        self.limits = limits
        self.connections = connections
        self.sockets: dict[Key, Socket] = {}
        self.opening: dict[Key, anyio.Lock] = {}

    def transport(self, http: Transport, lane: str | None, generate: bool) -> Transport:
        """Returns the transport of one create: a socket for upstreams that have one, *http* for the others."""
        return Lane(self, http, lane, generate)

    async def ask(
        self, request: UpstreamRequest, lane: str | None, generate: bool, context: ssl.SSLContext | None
    ) -> UpstreamReply:
        """Sends *request* as a frame and returns its reply; a refused upgrade is a reply too. *context* is for https.

        :raises UpstreamTimeout: no reply began within `request.deadline` seconds.
        :raises Overloaded: too many upstreams are in use, or there was no slot within `timeouts.pool`.
        :raises UpstreamError: as `connect` and `Socket.ask`.
        """
        with anyio.move_on_after(request.deadline) as scope:
            frame = await _frame(request, lane, generate)
            socket = await self._socket(request, context)
            if isinstance(socket, WholeReply):
                return socket
            return await socket.ask(frame, lane)
        assert scope.cancelled_caught
        raise UpstreamTimeout("The upstream did not answer in time.")

    async def steer(self, steer: Steer) -> bool:
        """Sends *steer* on the socket that its response came from; returns False where there is none."""
        for socket in self.sockets.values():
            if steer.target in socket.response_ids and not socket.closed:
                await socket.send(steer.raw)
                return True
        return False

    async def aclose(self) -> None:
        """Closes every socket."""
        for socket in self.sockets.values():
            await socket.aclose()
        self.sockets.clear()

    async def _socket(self, request: UpstreamRequest, context: ssl.SSLContext | None) -> Socket | WholeReply:
        """Returns the socket for *request*: lanes that need the same one open it once, others do not wait for it."""
        key = key_of(request)
        lock = self.opening.setdefault(key, anyio.Lock())
        try:
            async with lock:
                found = self.sockets.get(key)
                return found if found is not None and found.usable else await self._opened(key, request, context)
        finally:
            if not lock.locked():
                self.opening.pop(key, None)

    async def _opened(self, key: Key, request: UpstreamRequest, context: ssl.SSLContext | None) -> Socket | WholeReply:
        await self._make_room()
        socket = await connect(request, self.limits, self.unclaimed, self.connections.here(), context)
        if isinstance(socket, Socket):
            self.sockets[key] = socket
            self.start(socket.run)
        return socket

    async def _make_room(self) -> None:
        """Closes an unused socket, if there are as many as there may be.

        :raises Overloaded: all are in use.
        """
        for key, socket in list(self.sockets.items()):
            if not socket.replies and (not socket.usable or len(self.sockets) >= MOST_SOCKETS):
                del self.sockets[key]
                await socket.aclose()
        if len(self.sockets) >= MOST_SOCKETS or len(self.opening) > MOST_SOCKETS:
            raise Overloaded("This connection uses too many upstreams at once; try again shortly.")


class Lane:
    """The transport of one create; see `Transport`."""

    def __init__(self, relay: Relay, http: Transport, lane: str | None, generate: bool) -> None:
        self.relay = relay
        self.http = http
        self.lane = lane
        self.generate = generate

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends *request* on a socket where its provider has them, else by HTTP; see `Transport.open`."""
        if not request.websocket:
            return await self.http.open(request)
        context = getattr(self.http, "ssl_context", None)
        return await self.relay.ask(request, self.lane, self.generate, context)

    async def aclose(self) -> None:
        """Does nothing: the sockets are the relay's."""
        return None


async def _frame(request: UpstreamRequest, lane: str | None, generate: bool) -> bytes:
    body = request.body or b"{}"
    found = await paced(read_object(body, depth=0, values=len(body), most=len(body)))
    members: dict[str, Any] = {"type": "response.create", **found.members}
    del members["stream"]
    if lane is not None:
        members["stream_id"] = lane
    if not generate:
        members["generate"] = False
    return encode(members)
