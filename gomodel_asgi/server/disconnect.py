"""Stops a request's work when its client leaves, or when the host must go down.

Strategy: the work runs in the request's own task, so nothing is paid where it is quick; only work that lasts gets a
listener for `http.disconnect` beside it (servers that announce ASGI 2.3 do not raise from `send`). Stopping cancels the
work and keeps the reason: a cancellation by the server has none, and passes on.
A watch owns what it starts: at its exit the listener, the timers and what they started have ended.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import anyio.lowlevel
from starlette.types import Receive

from ..deadline import on_trio

if TYPE_CHECKING:
    import trio


# One timer of the event loop for all requests, instead of one for each: nearly every request ends before its client
# could be missed, and a timer of its own would cost it more than a place in a set does.


ROUND = 0.03  # seconds; who waits is overdue after one to two of them


class Timed(Protocol):
    """A request that is called once it has lasted for a while."""

    def overdue(self) -> None:
        """Called once, after one to two rounds of waiting."""


class DeadlineTimer:
    """Calls the requests of one event loop that have lasted for one to two rounds. Its timer runs only while there are
    any. Put one into `young`, and `start` the timer where it is not `ticking`; when it has ended, take it out of both
    sets."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.young: set[Timed] = set()
        self.old: set[Timed] = set()
        self.ticking = False

    def start(self) -> None:
        """Starts a round."""
        self.ticking = True
        self.loop.call_later(ROUND, self._tick)

    def _tick(self) -> None:
        due, self.old, self.young = self.old, self.young, set()
        self.ticking = bool(self.old)
        if self.ticking:
            self.loop.call_later(ROUND, self._tick)
        for timed in due:
            timed.overdue()


class _Recent(threading.local):
    """A thread runs one loop at a time, and nearly always the same."""

    deadline_timer: DeadlineTimer | None = None


_recent = _Recent()


def deadline_timer(loop: asyncio.AbstractEventLoop) -> DeadlineTimer:
    """Returns the timer of *loop*, which is running."""
    found = _recent.deadline_timer
    if found is None or found.loop is not loop:
        found = _recent.deadline_timer = DeadlineTimer(loop)
    return found


Reason = Literal["gone", "stalled", "shutdown"]
GoesOn = Callable[[], bool]


class Watch(Protocol):
    """`async with` the work of one request; *reason* is why it was stopped, None where it was not.

    *answered* is set before the last message is sent. Servers that close the connection with it
    report a disconnect while they send it: that must not cancel them in the middle.
    """

    reason: Reason | None
    answered: bool

    def stop(self, reason: Reason) -> None:
        """Cancels the work. Only the first call counts."""

    def spawn(self, function: Callable[[], Awaitable[object]]) -> None:
        """Runs *function* beside the work, at most until its end."""

    def every(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls *function* again and again until the work ends."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...


def watch(receive: Receive | None, goes_on: GoesOn | None = None, among: set[Watch] | None = None) -> Watch:
    """Returns a watch for the running event loop, put *among* others; without *receive* nobody can leave. When the
    client has left, *goes_on* returns whether the work does."""
    on = TrioWatch if "trio" in sys.modules and on_trio() else AsyncioWatch
    made: Watch = on(receive, goes_on)
    if among is not None:
        among.add(made)
    return made


async def client_left(receive: Receive) -> bool:
    """Waits until the client has left. Returns False, at once, where *receive* cannot tell.

    A host's middleware that has read the body often gives it again to each call, without ever waiting. A body ends
    once: whoever ends it twice says nothing of the client, and waiting for more would keep the event loop for good.
    """
    ended = False
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return True
        if not message.get("more_body", False):
            if ended:
                return False
            ended = True
        await anyio.lowlevel.checkpoint()  # a `receive` that never waits must not keep the loop either


class AsyncioWatch:
    """Uses the task's own cancellation, as `asyncio.timeout` does: a cancel scope would cost more than the work."""

    __slots__ = ("answered", "goes_on", "loop", "open", "reason", "receive", "task", "tasks", "ticker", "timer")

    def __init__(self, receive: Receive | None, goes_on: GoesOn | None = None) -> None:
        self.receive = receive
        self.goes_on = goes_on
        self.reason: Reason | None = None
        self.answered = False
        self.tasks: tuple[asyncio.Task[object], ...] = ()
        self.ticker: asyncio.TimerHandle | None = None
        self.open = False

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        task = asyncio.current_task(self.loop)
        assert task is not None
        self.task, self.open = task, True
        if self.receive is not None:
            found = _recent.deadline_timer
            if found is None or found.loop is not self.loop:
                found = deadline_timer(self.loop)
            self.timer = found
            found.young.add(self)
            if not found.ticking:
                found.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.open = False
        if self.receive is not None:
            self.timer.young.discard(self)
            self.timer.old.discard(self)
        if self.ticker is not None:
            self.ticker.cancel()
        if self.tasks:
            await self._reap()
            self.tasks = ()  # a cancelled task keeps its error, whose traceback holds us
        if self.reason is None:
            return False
        return await self._consumed(kind)

    def stop(self, reason: Reason) -> None:
        """See `Watch`."""
        if self.open and self.reason is None:
            self.reason = reason
            self.task.cancel()

    def spawn(self, function: Callable[[], Awaitable[object]]) -> None:
        """See `Watch`."""
        running = (task for task in self.tasks if not task.done())
        self.tasks = (*running, self.loop.create_task(_run(function)))

    def every(self, seconds: float, function: Callable[[], None]) -> None:
        """See `Watch`."""
        self.ticker = self.loop.call_later(seconds, self._tick, seconds, function)

    def overdue(self) -> None:
        """Listens for the client's leaving from now on, since the work lasts."""
        self.spawn(partial(_listen, self))

    def _tick(self, seconds: float, function: Callable[[], None]) -> None:
        function()
        self.every(seconds, function)

    async def _reap(self) -> None:
        """Ends what was started. The next await delivers a cancellation that comes in between."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            if not task.done():
                await asyncio.wait([task], timeout=1.0)

    async def _consumed(self, kind: type[BaseException] | None) -> bool:
        """Returns whether our own cancellation, and nothing but it, ended the work."""
        if kind is None:
            try:
                await asyncio.sleep(0)  # it was cancelled in the work's last step: let that come
            except asyncio.CancelledError:
                pass
            return self.task.uncancel() == 0
        return self.task.uncancel() == 0 and issubclass(kind, asyncio.CancelledError)


async def _listen(on: AsyncioWatch | TrioWatch) -> None:
    """Stops the work when the client has left, unless it goes on without."""
    assert on.receive is not None
    left = await client_left(on.receive)
    if left and not on.answered and (on.goes_on is None or not on.goes_on()):
        on.stop("gone")


async def _run(function: Callable[[], Awaitable[object]]) -> object:
    return await function()


class TrioWatch:
    """The same with trio's cancel scopes; what runs beside the work are system tasks, cancelled at the exit."""

    def __init__(self, receive: Receive | None, goes_on: GoesOn | None = None) -> None:
        import trio

        self.trio = trio
        self.receive = receive
        self.goes_on = goes_on
        self.reason: Reason | None = None
        self.answered = False
        self.scope = trio.CancelScope()
        self.beside: list[tuple[trio.CancelScope, trio.Event]] = []
        self.open = False

    async def __aenter__(self) -> Self:
        self.scope.__enter__()
        self.open = True
        if self.receive is not None:
            self.spawn(partial(_listen, self))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.open = False
        with self.trio.CancelScope(shield=True):
            for scope, ended in self.beside:
                scope.cancel()
                await ended.wait()
        return bool(self.scope.__exit__(kind, error, traceback))

    def stop(self, reason: Reason) -> None:
        """See `Watch`."""
        if self.open and self.reason is None:
            self.reason = reason
            self.scope.cancel()

    def spawn(self, function: Callable[[], Awaitable[object]]) -> None:
        """See `Watch`."""
        scope, ended = self.trio.CancelScope(), self.trio.Event()
        self.beside.append((scope, ended))

        async def run() -> None:
            try:
                with scope:
                    await function()
            except Exception:
                pass  # a server whose `receive` fails: the work goes on unwatched
            finally:
                ended.set()

        self.trio.lowlevel.spawn_system_task(run)

    def every(self, seconds: float, function: Callable[[], None]) -> None:
        """See `Watch`."""

        async def ticks() -> None:
            while True:
                await self.trio.sleep(seconds)
                function()

        self.spawn(ticks)
