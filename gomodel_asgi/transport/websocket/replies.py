"""What comes back from an upstream's socket, as replies that an exchange can read."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import anyio
import msgspec

from ...errors import UpstreamError, UpstreamTimeout
from ...seams.transport import Headers
from ...wire.json_scan import short

LINGER = 2.0
"""Seconds that an upstream has for `response.failed` after an error in a response; not all send one."""
TOLD = ("type", "status", "error", "code", "message", "param")
"""The members of an error that are passed on."""
EVENTS: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Source(Protocol):
    """Where a reply's frames come from."""

    drained: anyio.Event

    def leave(self, reply: LaneReply, *, whole: bool) -> None:
        """Nobody reads *reply* any longer; *whole* says that nothing more of it will come."""
        ...


class WholeReply:
    """A reply that came at once; see `UpstreamReply`."""

    resumable = True

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    async def read(self, timeout: float) -> bytes:
        body, self.body = self.body, b""
        return body

    async def aclose(self) -> None:
        return None


class LaneReply:
    """The frames of one response as server-sent events; see `UpstreamReply`."""

    status = 200
    resumable = True

    def __init__(self, socket: Source, lane: str | None) -> None:
        self.socket = socket
        self.lane = lane
        self.headers = EVENTS
        self.frames: deque[bytes] = deque()
        self.size = 0
        self.ended = self.erred = False
        self.failure: UpstreamError | None = None
        self.changed = anyio.Event()

    async def first(self) -> LaneReply | WholeReply:
        """This reply once it has a frame; an error that comes instead of a response is a reply with its status."""
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
        with anyio.move_on_after(min(timeout, LINGER) if self.erred else timeout):
            while not self.frames and not self.ended:
                await self._change()
            return self._taken()
        if self.erred:
            self.over()
            return b""
        raise UpstreamTimeout("The upstream sent nothing for too long.")

    async def aclose(self) -> None:
        self.socket.leave(self, whole=self.ended)

    async def _change(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.changed = anyio.Event()
        await self.changed.wait()

    def _taken(self) -> bytes:
        events = b"".join(b"data: %s\n\n" % _one_line(frame) for frame in self.frames)
        self.frames.clear()
        self.size = 0
        self.socket.drained.set()
        return events

    # What the socket says...

    def came(self, frame: bytes, type: str) -> None:
        """A frame of this response."""
        self.erred = self.erred or type == "error"
        self.frames.append(frame)
        self.size += len(frame)
        self.changed.set()

    def over(self, failure: UpstreamError | None = None) -> None:
        """Nothing more will come."""
        if failure is None:
            self.ended = True
        self.failure = failure
        self.changed.set()


def _error(frame: bytes) -> dict[str, Any] | None:
    if b"error" not in frame:
        return None
    try:
        members = _members(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if short(members.get("type", b"")) != "error":
        return None
    return {name: value for name in TOLD if (value := short(members.get(name, b""))) is not None}


def _one_line(frame: bytes) -> bytes:
    """*frame* without line ends: JSON has them only between its tokens."""
    return frame.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in frame or b"\r" in frame else frame
