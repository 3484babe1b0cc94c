"""Keeps the event loop free: a host's plain functions run in worker threads, our own long work in steps or beside it.

Threads for the host are bounded by a limiter of our own, one per event loop. anyio's gives a slot back when the waiting
task is cancelled, although the thread still runs; ours comes back from the thread itself, so that policies which
overran can never pile up more threads than there are slots. When all slots are held by overrun calls nobody waits for
one.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar, checkpoint

from .arguments import is_coroutine_function
from .deadline import refuse_foreign
from .errors import PolicyTimeout
from .settings import LITTLE

T = TypeVar("T")

THREADS = 40
"""Worker threads of one event loop, as many as anyio has by itself."""
_slots: RunVar[Slots] = RunVar("gomodel_asgi_slots")

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
in_thread: ContextVar[InThread | None] = ContextVar("gomodel_asgi_in_thread", default=None)
"""How the host wants a plain function run in a thread: for frameworks whose resources belong to threads, as Django's
database connections do. None: as anyio does it. It must end when it is cancelled.
"""


class Slots:
    """The worker threads of one event loop."""

    def __init__(self) -> None:
        self.free = anyio.Semaphore(THREADS)
        self.overrun = 0
        self.limiter = anyio.CapacityLimiter(math.inf)
        self.soon = _thread_safe_scheduler()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls *function* in a thread.

        :raises PolicyTimeout: every slot is held by a call that has overrun.
        """
        if self.overrun >= THREADS:
            raise PolicyTimeout("The routing policy is overloaded; try again later.")
        await self.free.acquire()
        job = Job(self, function, args)
        try:
            host = in_thread.get()
            if host is not None:
                return await host(job.run)
            return await anyio.to_thread.run_sync(job.run, abandon_on_cancel=True, limiter=self.limiter)
        except BaseException:
            job.abandon()
            raise


class Job:
    """One call in a thread. Its slot is free again when the thread returns, even if the caller has gone; at once if the
    caller goes before a thread has begun with it."""

    def __init__(self, slots: Slots, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.slots = slots
        self.function = function
        self.args = args
        self.lock = threading.Lock()
        self.begun = False
        self.done = False
        self.abandoned = False

    def run(self) -> Any:
        """Runs the function, unless it was given up before the thread began with it."""
        with self.lock:
            if self.abandoned:
                return None
            self.begun = True
        try:
            return self.function(*self.args)
        finally:
            self._hand_back()

    def abandon(self) -> None:
        """Gives the call up: one that has begun keeps its thread until it returns."""
        with self.lock:
            self.abandoned = True
        if not self.begun:
            self.slots.free.release()
        elif not self.done:
            self.slots.overrun += 1

    def _hand_back(self) -> None:
        try:
            self.slots.soon(self._release)
        except RuntimeError:
            pass  # the loop has closed meanwhile, and its slots with it

    def _release(self) -> None:
        self.done = True
        self.slots.free.release()
        if self.abandoned:
            self.slots.overrun -= 1


def awaitable(function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """*function* as a coroutine function: itself if it is one, else run by `call`."""
    return function if is_coroutine_function(function) else functools.partial(call, function)


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Returns the answer of the host's *function*.

    :raises PolicyTimeout: it is a plain function and no thread is to be had.
    :raises ForeignCancellation: it awaited what somebody else has cancelled.
    """
    try:
        if is_coroutine_function(function):
            return await function(*args)
        answer = await of_this_loop(_slots, Slots).run(function, *args)
        return await answer if inspect.isawaitable(answer) else answer
    except asyncio.CancelledError as error:
        refuse_foreign(error)
        raise


def of_this_loop(own: RunVar[T], make: Callable[[], T]) -> T:
    """Returns what the running event loop has of its *own*, made when it is first needed."""
    try:
        return own.get()
    except LookupError:
        made = make()
        own.set(made)
        return made


def _thread_safe_scheduler() -> Callable[[Callable[[], None]], object]:
    """What a thread hands a function to, for the loop to run."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


# Work that would hold the event loop, done in steps or beside it.


PARSING_THREADS = 2
"""Threads that parse large bodies; more would only wait for the interpreter's lock."""
_limiter: RunVar[CapacityLimiter] = RunVar("gomodel_asgi_beside")


async def paced(steps: Generator[None, None, T]) -> T:
    """What *steps* return, with a pause behind each, in which others have their turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        await checkpoint()


async def beside(size: int, function: Callable[[], T], *, ends: bool = False) -> T:
    """What *function* returns that goes through *size* bytes in Python: if they are many, in a thread.

    The interpreter takes a thread its turn away every few milliseconds, so the loop goes on meanwhile. It does not
    while a thread is in a parser: what is parsed must be bounded before. Who is cancelled waits for the *function* only
    if it must have ended (*ends*), since it changes what is used afterwards.
    """
    if size <= LITTLE:
        return function()
    limiter = of_this_loop(_limiter, lambda: CapacityLimiter(PARSING_THREADS))
    return await to_thread.run_sync(function, abandon_on_cancel=not ends, limiter=limiter)
