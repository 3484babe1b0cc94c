"""How many connections to upstreams may be open at once, whoever opens them: a descriptor each, of which a process has
so many.

A connection takes a slot before it is made and gives it back when it is closed. One that is idle makes room for another
that is needed; where none is idle, whoever needs one waits. Each event loop has a count and a queue of its own, as it
can use no connection of another; the limit holds for all of them together.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakSet

import anyio

from ..deadline import on_trio
from ..errors import Overloaded

LEAST, MOST = 64, 16_384
UNKNOWN = 1024
"""Connections where the platform declares no limit of descriptors, as Windows does not."""


def half_of_descriptors() -> int:
    """Returns half of the process's descriptors; the other half is for clients, files and stores."""
    if sys.platform == "win32":
        return UNKNOWN
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(LEAST, min(soft // 2, MOST))


class Idle(Protocol):
    """A holder of unused connections."""

    def close_oldest(self) -> bool:
        """Closes the one that has been idle longest, which gives its slot back; returns False where there is none."""
        ...


class ConnectionLimit:
    """At most *limit* connections; None: `half_of_descriptors`, as it is at the first use."""

    def __init__(self, limit: int | None = None) -> None:
        self.given = limit
        self.figure = limit
        self.lock = threading.Lock()
        self.of_loops: dict[int, Slots] = {}
        self.recent: Slots | None = None

    @property
    def limit(self) -> int:
        """Connections that may be open at once, over all event loops."""
        if self.figure is None:
            self.figure = half_of_descriptors()
        return self.figure

    @property
    def open(self) -> int:
        """Slots taken, on all event loops."""
        return sum(slots.open for slots in list(self.of_loops.values()))

    @property
    def full(self) -> bool:
        """Whether no slot is left."""
        if self.open < self.limit:
            return False
        self._forget_closed()
        return self.open >= self.limit

    def lower(self, other: ConnectionLimit) -> ConnectionLimit:
        """Returns this one or *other*, whichever was given the lower figure."""
        if other.given is None or (self.given is not None and self.given <= other.given):
            return self
        return other

    def here(self) -> Slots:
        """Returns the slots of the running event loop."""
        loop, recent = running_loop(), self.recent
        if recent is None or recent.loop is not loop:
            with self.lock:
                recent = self.of_loops.get(id(loop))
                if recent is None or recent.loop is not loop:
                    self._forget_closed()
                    recent = self.of_loops[id(loop)] = Slots(self, loop)
            self.recent = recent
        return recent

    def others(self, slots: Slots) -> list[Slots]:
        """Returns the slots of the other event loops."""
        return [other for other in list(self.of_loops.values()) if other is not slots]

    def _forget_closed(self) -> None:
        """A loop that was closed with connections open has no use for them."""
        for number, slots in list(self.of_loops.items()):
            if slots is not self.recent and is_closed(slots.loop):
                del self.of_loops[number]


class Slots:
    """The slots of one event loop. *idle* are those whose connections can make room."""

    def __init__(self, limit: ConnectionLimit, loop: Any) -> None:
        self.limit = limit
        self.loop = loop
        self.open = 0
        self.idle: WeakSet[Idle] = WeakSet()
        self.waiting: OrderedDict[object, Callable[[], bool]] = OrderedDict()

    def take(self) -> bool:
        """Takes a slot and returns True, if there is one and no request waits for it. Pair with `give`."""
        if self.waiting:
            self.serve()  # who has stopped waiting is not in the way
        if self.waiting:
            return False
        return self._take() or (self._make_room() and self._take())

    def spare(self) -> bool:
        """Takes a slot and returns True, if no request waits for one. Pair with `give`."""
        return not self.waiting and self._take()

    def give(self) -> None:
        """Gives a slot back: to the longest waiter on this loop, else on another."""
        self.open -= 1
        self.serve()
        for other in self.limit.others(self):
            if other.waiting:
                soon(other.loop, other.serve)

    def serve(self) -> None:
        """Gives free slots to those who wait, first come first served."""
        while self.waiting and self._take():
            _, grant = self.waiting.popitem(last=False)
            if not grant():
                self.open -= 1

    def wait(self, key: object, grant: Callable[[], bool]) -> None:
        """Has *grant* called when it is *key*'s turn, perhaps at once: another loop may have made the room
        that it was asked for before this wait began.
        """
        self.waiting[key] = grant
        self.serve()

    async def enter(self, seconds: float) -> None:
        """Takes a slot, or waits for one. Pair with `give`.

        :raises Overloaded: there is none within *seconds*.
        """
        if self.take():
            return
        granted, key = anyio.Event(), object()

        def grant() -> bool:
            granted.set()
            return True

        self.wait(key, grant)
        try:
            with anyio.move_on_after(seconds):
                await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give()
            raise
        finally:
            self.waiting.pop(key, None)
        if not granted.is_set():
            raise too_many()

    def close_idle(self) -> bool:
        """Closes the connection that has been idle longest; returns False where there is none."""
        return any(holder.close_oldest() for holder in list(self.idle))

    def _take(self) -> bool:
        with self.limit.lock:
            if self.limit.full:
                return False
            self.open += 1
            return True

    def _make_room(self) -> bool:
        """Closes an idle connection of this loop and returns True, or asks the other loops to close one and returns
        False.
        """
        if self.close_idle():
            return True
        for other in self.limit.others(self):
            if other.open:
                soon(other.loop, other.close_idle)
        return False


def too_many() -> Overloaded:
    """Returns the error for a request that found no slot."""
    return Overloaded("Too many connections to upstreams at once.")


@lru_cache(maxsize=1)
def of_process() -> ConnectionLimit:
    """Returns the limit of those that were given none: they share the process's descriptors."""
    return ConnectionLimit()


def running_loop() -> Any:
    """Returns the running event loop, or what stands for it on trio."""
    if on_trio():
        import trio

        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def soon(loop: Any, function: Callable[[], object]) -> None:
    """Calls *function* on *loop*, from any thread; does nothing where the loop has ended."""
    call = loop.call_soon_threadsafe if isinstance(loop, asyncio.AbstractEventLoop) else loop.run_sync_soon
    try:
        call(function)
    except RuntimeError:  # trio's RunFinishedError is one too
        pass


def is_closed(loop: Any) -> bool:
    """Returns whether *loop* is over."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.is_closed()
    try:
        loop.run_sync_soon(_nothing, idempotent=True)
    except RuntimeError:
        return True
    return False


def _nothing() -> None:
    pass
