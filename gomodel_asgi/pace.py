"""Work that would hold the event loop, done in steps or beside it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar, checkpoint

from .settings import KIB

T = TypeVar("T")

LITTLE = 128 * KIB
"""Bytes that any of our code goes through in a few milliseconds."""
THREADS = 2
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
    return await to_thread.run_sync(function, abandon_on_cancel=not ends, limiter=_of_this_loop())


def _of_this_loop() -> CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter
