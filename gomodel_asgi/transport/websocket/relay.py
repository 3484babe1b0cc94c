"""The upstream sockets of one client connection, as a transport: a frame goes out, a stream of events comes back.

Strategy: an upstream's WebSocket is made to look like a streaming HTTP reply, so that everything above it (attempts,
breakers, deadlines, the stamp, the end that an upstream did not send) is the same for both. One socket per provider and
credential carries all lanes; it is opened with the first create and again when it is found closed. What the upstream
remembered on the old one is gone then, and it says so itself when an id is named that it no longer knows.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import anyio

from ...errors import Overloaded, UpstreamTimeout
from ...seams.transport import Transport, UpstreamReply, UpstreamRequest
from ...settings import Limits
from ...threads import paced
from ...wire.json_body import encode
from ...wire.json_pieces import read_object
from ...wire.websocket_frames import Steer
from ..slots import ConnectionLimit
from .dial import connect
from .replies import WholeReply
from .upstream import Socket, Unclaimed

MOST_SOCKETS = 8
"""Upstream sockets of one client connection; a policy that spreads one conversation wider is not using them well."""

Key = tuple[str, str, int, str | None, bytes, str]


def key_of(request: UpstreamRequest) -> Key:
    """What a socket must have been made for to carry *request*."""
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
        """The transport of one create: sockets for upstreams that have them, *http* for the others."""
        return Lane(self, http, lane, generate)

    async def ask(
        self, request: UpstreamRequest, lane: str | None, generate: bool, context: ssl.SSLContext | None
    ) -> UpstreamReply:
        """Send *request* as a frame; *context* is for https. A refused upgrade is the reply that it is."""
        with anyio.move_on_after(request.deadline) as scope:
            frame = await _frame(request, lane, generate)
            socket = await self._socket(request, context)
            if isinstance(socket, WholeReply):
                return socket
            return await socket.ask(frame, lane)
        assert scope.cancelled_caught
        raise UpstreamTimeout("The upstream did not answer in time.")

    async def steer(self, steer: Steer) -> bool:
        """Hand *steer* to the socket that its response came from; False where there is none."""
        for socket in self.sockets.values():
            if steer.target in socket.response_ids and not socket.closed:
                await socket.send(steer.raw)
                return True
        return False

    async def aclose(self) -> None:
        """Close every socket."""
        for socket in self.sockets.values():
            await socket.aclose()
        self.sockets.clear()

    async def _socket(self, request: UpstreamRequest, context: ssl.SSLContext | None) -> Socket | WholeReply:
        """The socket for *request*: lanes that need the same one open it once, others do not wait for it."""
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
        if not request.websocket:
            return await self.http.open(request)
        context = getattr(self.http, "ssl_context", None)
        return await self.relay.ask(request, self.lane, self.generate, context)

    async def aclose(self) -> None:
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
