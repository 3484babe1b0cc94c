"""One WebSocket to an upstream: frames sorted by lane, each lane's frames read as a streaming HTTP reply.

The protocol is that of the `websockets` library, its part without I/O; the bytes are moved here, by anyio. So it runs
on asyncio and trio, connects by our own rules (addresses, no redirects, nothing read from the environment), and reads
no faster than its replies are read: what is held of one of them is bounded, and then the socket is left alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio.abc import ByteStream

from ..errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamTruncated
from ..seams.transport import Headers
from ..settings import Limits
from ..wire.json_scan import Unreadable, check_utf8, short
from ..wire.response import TERMINAL
from ..wire.websocket_frames import id_of, text_of
from .request import unanswered

if TYPE_CHECKING:
    from websockets.client import ClientProtocol


LINGER = 2.0
"""Seconds that an upstream has for `response.failed` after an error in a response; not all send one."""
ERROR_MEMBERS = ("type", "status", "error", "code", "message", "param")
"""The members of an error that are passed on."""
EVENTS: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]


class WholeReply:
    """A reply that came at once; see `UpstreamReply`."""

    resumable = True

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def read(self, timeout: float) -> bytes:
        """Returns the whole body at once, then `b""`."""
        body, self.body = self.body, b""
        return body

    async def aclose(self) -> None:
        """Does nothing: a reply that came at once holds nothing."""


class LaneReply:
    """The frames of one response as server-sent events; see `UpstreamReply`."""

    status = 200
    resumable = True

    def __init__(self, socket: Socket, lane: str | None) -> None:
        self.socket = socket
        self.lane = lane
        self.headers = EVENTS
        self.frames: deque[bytes] = deque()
        self.size = 0
        self.ended = self.erred = False
        self.failure: UpstreamError | None = None
        self.changed = anyio.Event()

    async def first(self) -> LaneReply | WholeReply:
        """Returns this reply once it has a frame, or a reply with a status where the first frame is an error."""
        while not self.frames:
            await self._change()
        error = _error(self.frames[0])
        if error is None:
            return self
        self.socket.leave(self, whole=True)
        status = error.get("status")
        body = msgspec.json.encode({"error": error.get("error") or error})
        return WholeReply(status if isinstance(status, int) and 400 <= status < 600 else 500, JSON, body)

    async def read(self, timeout: float) -> bytes:
        """Returns the frames that have come, as server-sent events, or `b""` at the end.

        :raises UpstreamTimeout: no frame came within *timeout* seconds.
        :raises UpstreamTruncated: the socket closed before the response ended.
        """
        with anyio.move_on_after(min(timeout, LINGER) if self.erred else timeout):
            while not self.frames and not self.ended:
                await self._change()
            return self._taken()
        if self.erred:
            self.end()
            return b""
        raise UpstreamTimeout("The upstream sent nothing for too long.")

    async def aclose(self) -> None:
        """Leaves the lane; if the response has not ended, its socket is not used for others."""
        self.socket.leave(self, whole=self.ended)

    async def _change(self) -> None:
        """Waits until something has come.

        :raises GatewayError: the socket has failed.
        """
        if self.failure is not None:
            raise self.failure
        self.changed = anyio.Event()
        await self.changed.wait()

    def _taken(self) -> bytes:
        # JSON has line ends only between its tokens, where spaces serve as well.
        lines = (frame.replace(b"\r", b" ").replace(b"\n", b" ") for frame in self.frames)
        events = b"".join(b"data: %s\n\n" % line for line in lines)
        self.frames.clear()
        self.size = 0
        self.socket.drained.set()
        return events

    # Called by the socket...

    def add(self, frame: bytes, type: str) -> None:
        """Adds a frame of this response."""
        self.erred = self.erred or type == "error"
        self.frames.append(frame)
        self.size += len(frame)
        self.changed.set()

    def end(self, failure: UpstreamError | None = None) -> None:
        """Notes that nothing more will come."""
        self.ended = self.ended or failure is None
        self.failure = failure
        self.changed.set()


_decoded = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(frame: bytes) -> dict[str, msgspec.Raw] | None:
    """Returns the members of *frame* as they stand in it, None where it is no JSON object."""
    try:
        return _decoded(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _error(frame: bytes) -> dict[str, Any] | None:
    members = (_members(frame) if b"error" in frame else None) or {}
    if short(members.get("type", b"")) != "error":
        return None
    return {name: value for name in ERROR_MEMBERS if (value := short(members.get(name, b""))) is not None}


PING = 20.0
"""Seconds of silence after which the upstream gets a ping; after as many more the connection is taken for dead."""
MOST_IDS = 256
"""Responses of a socket that can be steered: the latest ones."""
CLOSING = 1.0
"""Seconds."""

Unclaimed = Callable[[bytes], Awaitable[None]]


class Socket:
    """One open connection. *replies* are those in progress, by lane; `run` must be running beside them."""

    def __init__(self, stream: ByteStream, protocol: ClientProtocol, limits: Limits, unclaimed: Unclaimed) -> None:
        self.stream = stream
        self.protocol = protocol
        self.limits = limits
        self.unclaimed = unclaimed
        self.early: Sequence[Any] = ()
        """Frames that came with the answer to the upgrade."""
        self.replies: dict[str | None, LaneReply] = {}
        self.response_ids: OrderedDict[str, None] = OrderedDict()
        self.writing = anyio.Lock()
        self.drained = anyio.Event()
        self.closed = self.abandoned = False
        self.on_close: Callable[[], None] | None = None
        """Called once its stream has been closed."""
        self.message = bytearray()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self.closed and not self.abandoned

    async def ask(self, frame: bytes, lane: str | None) -> LaneReply | WholeReply:
        """Sends *frame* and returns its reply once the first frame of it has come.

        :raises UpstreamProtocolError: of kind `"closed"`, the socket closed before that.
        """
        reply = self.replies[lane] = LaneReply(self, lane)
        try:
            await self.send(frame)
            return await reply.first()
        except UpstreamTruncated as error:
            self.leave(reply, whole=True)
            raise unanswered("The upstream closed its WebSocket without an answer.") from error
        except BaseException:
            self.leave(reply, whole=False)
            raise

    async def send(self, frame: bytes) -> None:
        """Sends one text frame.

        :raises UpstreamTruncated: the socket is closed.
        """
        if self.closed:
            raise _closed_early()
        self.protocol.send_text(frame)
        await self._flush()

    def leave(self, reply: LaneReply, *, whole: bool) -> None:
        """Nobody reads *reply* any longer. If it is not *whole* the socket is not used for others: what is still to
        come on its lane could be taken for the next response's."""
        if self.replies.get(reply.lane) is reply:
            del self.replies[reply.lane]
            self.abandoned = self.abandoned or not whole
        self.drained.set()

    async def aclose(self) -> None:
        """Closes the socket, within `CLOSING` seconds. Never raises."""
        if not self.closed:
            self.closed = True
            with anyio.move_on_after(CLOSING, shield=True):
                try:
                    self.protocol.send_close(1000)
                    await self._flush()
                except (UpstreamError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass
        await self._close_stream()

    # Reading...

    async def run(self) -> None:
        """Reads until it closes. Never raises but when cancelled."""
        try:
            for event in self.early:
                await self._frame(event)
            while not self.protocol.close_expected():
                data = await self._received()
                self.protocol.receive_data(data) if data else self.protocol.receive_eof()
                await self._flush()
                for event in self.protocol.events_received():
                    await self._frame(event)
                if not data:
                    break
        except (UpstreamError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass
        finally:
            self.closed = True
            for reply in self.replies.values():
                reply.end(_closed_early())
            await self._close_stream()

    async def _close_stream(self) -> None:
        """Closes the stream, whatever state it is in."""
        with anyio.CancelScope(shield=True):
            try:
                await anyio.aclose_forcefully(self.stream)
            finally:
                on_close, self.on_close = self.on_close, None
                if on_close is not None:
                    on_close()

    async def _received(self) -> bytes:
        """Returns the next bytes, or `b""` at the end. A silent upstream gets a ping."""
        for pinged in (False, True):
            with anyio.move_on_after(PING):
                try:
                    return await self.stream.receive()
                except anyio.EndOfStream:
                    return b""
            if not pinged:
                self.protocol.send_ping(b"")
                await self._flush()
        return b""

    async def _flush(self) -> None:
        """Sends what the protocol has to send.

        :raises UpstreamTruncated: the connection is closed.
        """
        async with self.writing:
            try:
                for data in self.protocol.data_to_send():
                    if data:
                        await self.stream.send(data)
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                self.closed = True
                raise _closed_early() from error

    async def _frame(self, event: Any) -> None:
        """A frame of the protocol; those of one message are put together. Binary ones are not part of the API.

        :raises UpstreamProtocolError: a text frame is not UTF-8.
        """
        if event.opcode.name in ("TEXT", "CONT"):
            self.message += event.data
            if event.fin:
                message, self.message = bytes(self.message), bytearray()
                try:
                    check_utf8(message)
                except Unreadable as error:  # RFC 6455, 8.1: fail such a connection
                    raise UpstreamProtocolError("The upstream sent a frame that is no text.") from error
                await self._message(message)

    async def _message(self, frame: bytes) -> None:
        known = b'"response' in frame or b'"stream_id"' in frame or b"error" in frame
        members = _members(frame) if known else {}
        if members is None:
            return
        lane, type = text_of(members.get("stream_id")), text_of(members.get("type")) or ""
        response_id = id_of(members["response"]) if type.endswith(".created") and "response" in members else None
        if response_id is not None:
            self.response_ids[response_id] = None
            if len(self.response_ids) > MOST_IDS:
                self.response_ids.popitem(last=False)
        if type.startswith("response.steer."):
            return await self.unclaimed(frame)
        while lane in self.replies and self.replies[lane].ended:  # what follows must not overtake it
            await self._drained()
        replies = [self.replies[lane]] if lane in self.replies else []
        if not replies and lane is None and type == "error":  # without a lane it belongs to all of them
            replies = list(self.replies.values())
        for reply in replies:
            await self._deliver(reply, frame, type)
        # An error that belongs to no reply is the upstream's farewell: the next create reconnects.
        if not replies and type != "error":
            await self.unclaimed(frame)

    async def _deliver(self, reply: LaneReply, frame: bytes, type: str) -> None:
        while reply.size > self.limits.buffer and self.replies.get(reply.lane) is reply:
            await self._drained()
        reply.add(frame, type)
        if type in TERMINAL:
            reply.end()

    async def _drained(self) -> None:
        """Waits until something has been read, or a reply has been left."""
        self.drained = anyio.Event()
        await self.drained.wait()


def _closed_early() -> UpstreamTruncated:
    return UpstreamTruncated("The upstream's WebSocket closed before the response was complete.")
