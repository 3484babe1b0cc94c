"""A deadline for a coroutine of the host's, at no cost where it does not wait.

Most policies answer without ever suspending. So the coroutine's first step is run before a timer is made; only one
that waits gets a deadline, and is then resumed inside it. `asyncio.timeout` is used rather than a cancel scope: scopes
that the coroutine opened in its first step would not nest with one that is opened after them.
"""

from __future__ import annotations

import asyncio
import sys
import time
import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import anyio

# Which event loop runs us, found without a system call where trio was never imported.


def on_trio() -> bool:
    """Returns whether the running task is trio's; if not, it is asyncio's."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


Answer = TypeVar("Answer")
clock = time.monotonic


class DeadlineExceeded(Exception):
    """The coroutine did not end in time, and was cancelled."""


class ForeignCancellation(Exception):
    """A task or future that the host's code awaited was cancelled, and not the request that runs this code."""


def refuse_foreign(error: asyncio.CancelledError) -> None:
    """Let through, it would be taken for a cancellation by the server, which then answers nothing. (Under trio each
    `Cancelled` is of the task itself.)

    :raises ForeignCancellation: *error* cancels something else than the running task.
    """
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise ForeignCancellation("What the host's code awaited was cancelled.") from error


async def within(seconds: float, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """What *coroutine* returns.

    :raises DeadlineExceeded: it took longer than *seconds*.
    :raises ForeignCancellation: it awaited what somebody else has cancelled.
    """
    if "trio" in sys.modules and on_trio():
        return await _in_scope(seconds, coroutine)
    try:
        waits_for = coroutine.send(None)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer
    except asyncio.CancelledError as error:
        refuse_foreign(error)
        raise
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await _resumed(coroutine, waits_for)
    except TimeoutError:
        if deadline.expired():
            raise DeadlineExceeded from None
        raise
    except asyncio.CancelledError as error:
        refuse_foreign(error)
        raise


async def _in_scope(seconds: float, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Returns what *coroutine* gives, on the event loop's own scope.

    :raises DeadlineExceeded: it took longer than so many *seconds*.
    """
    with anyio.move_on_after(seconds) as scope:
        return await coroutine
    assert scope.cancelled_caught
    raise DeadlineExceeded


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, Answer], waits_for: Any) -> Generator[Any, Any, Answer]:
    """The rest of a coroutine that has been started: what it waits for is handed to the loop as its own would be."""
    while True:
        thrown: BaseException | None = None
        sent: Any = None
        try:
            sent = yield waits_for
        except BaseException as error:
            thrown = error
        try:
            waits_for = coroutine.send(sent) if thrown is None else coroutine.throw(thrown)
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer
        finally:
            thrown = None  # its traceback holds this frame: what was waited for would outlive us, and a body with it
