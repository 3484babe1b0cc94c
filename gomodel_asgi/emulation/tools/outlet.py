"""The stream of a response that takes several rounds: written by the task of the loop, read by whoever asked.

The loop waits while more lies here than the client has fetched, so that a slow client slows the upstream; and whoever
lets go of the stream ends the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from ...dialects.reader import Reader
from ...errors import GatewayError
from ...observers import Trace
from ...tasks import Task

FAREWELL = 5.0
"""Seconds that a loop which is let go of may take to end."""


class Outlet:
    """See `exchange.reply.Stream`. At most about *most* bytes wait in it. *cancelled* ends the response of which the
    client has let go; whether there is anything of it to be kept."""

    def __init__(self, reader: Reader, most: int, trace: Trace | None, cancelled: Callable[[], bool]) -> None:
        self.reader = reader
        self.cancelled = cancelled
        self.most = most
        self.trace = trace
        self.ended = False
        self.before_end: Callable[[], Awaitable[object]] | None = None
        self.on_over: Callable[[], None] | None = None
        self.task: Task | None = None
        self.pieces: deque[tuple[bytes, bool]] = deque()
        self.size = 0
        self.over = False
        self.came = anyio.Event()
        self.taken = anyio.Event()

    # The loop's side...

    async def give(self, data: bytes, *, last: bool = False) -> None:
        """Put events into the stream; wait until there is room for more."""
        if data:
            self.pieces.append((data, last))
            self.size += len(data)
            self.came.set()
        while self.size > self.most and not self.ended:
            self.taken = anyio.Event()
            await self.taken.wait()

    def end(self) -> None:
        """Nothing more will come."""
        self.over = True
        self.came.set()

    # The reader's side...

    async def next(self) -> bytes:
        """See `Stream.next`."""
        while not self.pieces and not self.over and not self.ended:
            self.came = anyio.Event()
            await self.came.wait()
        if not self.pieces:
            self.ended = True
            self._told_over()
            return b""
        if self.pieces[0][1]:
            await self._ending()
        data, _ = self.pieces.popleft()
        self.size -= len(data)
        self.taken.set()
        if self.trace is not None:
            self.trace.measure.add(data)
        return data

    async def _ending(self) -> None:
        before_end, self.before_end = self.before_end, None
        if before_end is not None:
            await before_end()

    def final(self) -> bytes:
        """See `Stream.final`."""
        response = self.reader.final()
        if response is None:
            raise self.reader.failure or GatewayError("The response has not ended.")
        return response

    async def interrupt(self, error: GatewayError) -> bytes:
        """See `Stream.interrupt`: what was written before comes first."""
        await self._stopped()
        pieces = [data for data, _ in self.pieces]
        self.pieces.clear()
        events = b"".join(pieces) + (self.reader.fail(error) if self.reader.terminal is None else b"")
        self.ended = True
        if self.trace is not None:
            self.trace.failed(error)
            self.trace.measure.add(events)
        return events

    async def aclose(self) -> None:
        """See `Stream.aclose`."""
        before_end, self.before_end = self.before_end, None
        self.ended = True
        await self._stopped()
        if before_end is not None and (self.reader.terminal is not None or self.cancelled()):
            with anyio.move_on_after(FAREWELL, shield=True):
                await before_end()
        self.cancelled = _nothing_left  # which knows the whole response, and that knows us
        self._told_over()

    async def _stopped(self) -> None:
        task, self.task = self.task, None
        if task is None:
            return
        task.cancel()
        self.taken.set()
        with anyio.CancelScope(shield=True):
            await task.wait(FAREWELL)

    def _told_over(self) -> None:
        over, self.on_over = self.on_over, None
        if over is not None:
            over()


def _nothing_left() -> bool:
    return False
