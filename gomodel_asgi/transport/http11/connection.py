"""One socket, one reply at a time.

Strategy: the event loop calls `data_received`, which feeds the reader and wakes whoever waits. There is at most one
waiter, made only when nothing is there to be taken, and at most one timer, which is not touched when a deadline
moves later: it looks at the deadline when it fires, and goes on or goes off. A request body that does not fit into
the socket is written from `resume_writing`, so that no task waits for it and an early answer is read at once.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from ...errors import UpstreamError, UpstreamProtocolError, UpstreamStale, UpstreamTruncated
from ...seams.transport import Listener
from ..request import unanswered
from .framing import ReplyReader

# Origins that have lost keep-alive.
#
# A byte too many on a connection is harmless where it is seen before the next request is sent on it: the connection
# is closed. Where it comes later, it is read as that request's answer, and no client of HTTP/1.1 can know. So whoever
# was once seen to send any is not given the opportunity again, for a while.


Key = tuple[str, str, int, str, str | None, bool]
"""scheme, host, port, credential, Unix socket, allow_private: what must agree for a connection to be shared."""
Origin = tuple[str, str, int, str | None]
"""scheme, host, port, Unix socket."""

PROBATION = 600.0
"""Seconds from the last such byte."""
MOST_SUSPECTS = 1024
"""Origins that are remembered for breaking keep-alive."""


def origin_of(key: Key) -> Origin:
    """Returns the part of a pool's key that keep-alive is lost by."""
    return key[0], key[1], key[2], key[4]


class Suspects:
    """Those of one transport, on all its event loops; *until* is when each is trusted again, on *clock*."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.until: OrderedDict[Origin, float] = OrderedDict()
        self.unreported: deque[str] = deque(maxlen=MOST_SUSPECTS)
        self.listeners: WeakSet[Listener] = WeakSet()

    def has(self, origin: Origin) -> bool:
        """Returns whether *origin* has lost keep-alive. Calls the listeners, so it must run in the task of a
        request."""
        while self.unreported:
            named = self.unreported.popleft()
            for listener in tuple(self.listeners):
                listener.keepalive_lost(named, PROBATION)
        return self._has(origin)

    def add(self, origin: Origin) -> None:
        """Notes that *origin* has sent bytes without a request; listeners are called with the next request."""
        if not self._has(origin):
            scheme, host, port, uds = origin
            self.unreported.append(f"{scheme}://{host}:{port}" if uds is None else f"{scheme}+unix://{uds}")
        self.until[origin] = self.clock() + PROBATION
        self.until.move_to_end(origin)
        if len(self.until) > MOST_SUSPECTS:
            self.until.popitem(last=False)

    def _has(self, origin: Origin) -> bool:
        until = self.until.get(origin)
        if until is not None and until <= self.clock():
            self.until.pop(origin, None)
            until = None
        return until is not None


HIGH_WATER = 64 * 1024
"""Payload bytes at which we stop reading. The loop hands over up to 256 KiB at once, so most that is ever held is
that much more."""
SMALL_BODY = 64 * 1024
"""Up to here one write of head and body is cheaper than two."""
SLICE = 256 * 1024
"""What the loop may copy when the socket is full: a slice, not the whole rest of the body."""


POLL = getattr(select, "poll", None)  # Windows has none
READABLE = getattr(select, "POLLIN", 0)


class Owner(Protocol):
    """Where a connection belongs: to *origin*, among others."""

    origin: Origin

    def give_back(self, connection: Connection) -> None:
        """Gives the connection back, whose exchange is over."""

    def drop(self, connection: Connection) -> None:
        """Closes an unused connection."""

    def distrust(self) -> None:
        """Notes that bytes have come after a complete reply."""

    def stray(self, connection: Connection) -> None:
        """Notes that something came on it, or that it was closed, out of turn."""


class Connection(asyncio.Protocol):
    """A connection of *pool*. *uses* counts the requests that it has carried."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Owner) -> None:
        self.loop = loop
        self.pool = pool
        self.reader = ReplyReader()
        self.uses = 0
        self.idle_since = 0.0
        self.socket = -1
        self.poll: Any = None
        """The poll object of the socket, made when it is first needed."""
        self.failure: UpstreamError | None = None
        self.closed = self.heard = self.reading_paused = self.writing_paused = False
        self.unsent: memoryview | None = None
        self.waiter: asyncio.Future[bool] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = self.deadline = 0.0

    # One exchange...

    def send(self, head: bytes, body: bytes | None, bodiless: bool) -> None:
        """Writes a request; what comes from now on is its reply. *bodiless*: the reply has no body (HEAD).

        Bytes that came before the first request (a proxy's "503", say) are its reply, and the connection's last one.
        """
        self.uses += 1
        if self.heard and self.uses == 1:
            self.reader.exact = False
        else:
            self.heard = False
            self.reader.begin(bodiless)
        if self.closed:
            return
        if not body:
            self.transport.write(head)
        elif len(body) <= SMALL_BODY:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.unsent = memoryview(body)
            self._send_more()

    def progress(self, deadline: float) -> asyncio.Future[bool]:
        """Returns a future that is True once anything has happened, False when loop time *deadline* has passed."""
        self.deadline = deadline
        if self.timer is None or deadline < self.timer_at:
            self._arm(deadline)
        self.waiter = self.loop.create_future()
        return self.waiter

    def resume_reading(self) -> None:
        """What had come has been taken: go on."""
        self.reading_paused = False
        if not self.closed:
            self.transport.resume_reading()

    @property
    def reusable(self) -> bool:
        """Whether the reply ended exactly, the peer keeps the connection, and our request is out."""
        reader = self.reader
        return reader.exact and reader.keep_alive and reader.done and self.unsent is None and self.healthy

    @property
    def healthy(self) -> bool:
        """Whether the connection is open and nothing has come on it out of turn."""
        return self.reader.exact and not self.closed and self.failure is None and not self.transport.is_closing()

    @property
    def quiet(self) -> bool:
        """Whether nothing has come that the event loop has not handed over yet. Asked of the system before an idle
        connection is used, since it would be read as the answer; what arrives later is not seen."""
        if self.poll is None:
            if POLL is None or self.socket < 0:
                return True
            self.poll = POLL()
            self.poll.register(self.socket, READABLE)
        return not self.poll.poll(0)

    @property
    def undecided(self) -> bool:
        """Whether the peer has announced that it closes (408), and has not closed yet."""
        after = self.reader.after
        return after is not None and after.open and not self.closed

    def end(self) -> UpstreamError:
        """Returns why the connection was closed, and forgets it: once raised, the error's traceback refers to us."""
        failure, self.failure = self.failure, None
        return failure or UpstreamTruncated("The connection to the upstream was closed.")

    def rest(self) -> None:
        """Makes the connection idle: whatever comes now is out of turn."""
        self.waiter = None
        if self.reader.chunks:
            self.reader.take()
        if self.reading_paused:
            self.resume_reading()

    def abort(self) -> None:
        """Closes at once, whatever is still to be sent or read."""
        self._close()
        self.unsent = None
        if self.failure is None:
            self.failure = UpstreamTruncated("The connection to the upstream was closed.")
        self.transport.abort()
        self._disarm()
        self._wake()

    # Called by the event loop...

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        self.socket = -1 if sock is None else sock.fileno()

    def data_received(self, data: bytes) -> None:
        """Feeds the reader and wakes the waiter; see `asyncio.Protocol`. Never raises: a refusal aborts the
        connection.
        """
        if self.closed:
            return
        reader = self.reader
        if not self.heard:
            self.heard = True
            if self.unsent is not None or self.transport.get_write_buffer_size():
                reader.exact = False  # answered before the request was out: used, but for the last time
        try:
            reader.feed(data)
        except UpstreamProtocolError as error:
            self.failure = error.with_traceback(None)
            self.abort()
            return
        if not reader.exact:
            if reader.after is not None and reader.after.stray:
                self.pool.distrust()
            self.pool.stray(self)
        if reader.size >= HIGH_WATER and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()
        waiter = self.waiter  # as `_wake` does, but here it is paid for each piece of a stream
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(True)

    def eof_received(self) -> None:
        """Closes the connection: half-closed ones are not used; see `asyncio.Protocol`."""
        self._end(None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._end(exc)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """Writes the rest of the request's body; see `asyncio.BaseProtocol`."""
        self.writing_paused = False
        if self.unsent is not None:
            self._send_more()

    # Underneath...

    def _send_more(self) -> None:
        unsent = self.unsent
        while unsent and not self.writing_paused and not self.closed:
            self.transport.write(unsent[:SLICE])
            unsent = unsent[SLICE:]
        if not self.closed:
            self.unsent = unsent or None

    def _end(self, exc: Exception | None) -> None:
        """The peer has closed, in order (*exc* None) or not."""
        if self.closed:
            return
        self._close()
        if exc is None:
            self.reader.eof()
        if (after := self.reader.after) is not None:
            after.eof()
            if after.stray:
                self.pool.distrust()
        if self.failure is None and not self.reader.done:
            self.failure = self._cut()
        self._disarm()
        self.pool.stray(self)
        self._wake()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reader.close()

    def _cut(self) -> UpstreamError:
        if self.reader.status:
            return UpstreamTruncated("The upstream closed the connection before the end of its reply.")
        if self.uses > 1 and not self.heard:
            return UpstreamStale("The upstream closed an idle connection.")
        return unanswered()

    def _wake(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(True)

    # One timer, moved lazily...

    def _arm(self, deadline: float) -> None:
        self._disarm()
        self.timer_at = deadline
        self.timer = self.loop.call_at(deadline, self._ring)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _ring(self) -> None:
        self.timer = None
        waiter = self.waiter
        if waiter is None or waiter.done():
            return
        if self.deadline > self.timer_at:
            self._arm(self.deadline)
        else:
            waiter.set_result(False)
