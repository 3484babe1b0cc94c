"""A session of an MCP server, in a task of its own: opened, kept open and closed there.

SDKs open scopes and task groups that only the task which opened them may close. The loop that uses a session may enter
it in one task and leave it in another, or open several at the same time; it never holds such a scope.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

import anyio

from ...deadline import clock
from ...tasks import Task, start
from .source import Session, Unlisted

logger = logging.getLogger("gomodel_asgi.tools")

CLOSING = 2.0
"""Seconds in which a session may say goodbye. A server that has gone may let that hang."""
GIVEN_UP = 1.0
"""Seconds in which it may end after it was cancelled."""
LATE = "The server did not answer in time."


class Owned:
    """Opens a session with *connect* by *deadline* (monotonic seconds), in a task of its own.

    Entering it raises `Unlisted` where that fails; leaving it never raises, and takes `CLOSING` and `GIVEN_UP` at the
    most.
    """

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[Session]], deadline: float) -> None:
        self.connect = connect
        self.deadline = deadline
        self.task = Task(self._own)
        self.settled = anyio.Event()
        self.leaving = anyio.Event()
        self.session: Session | None = None
        self.failure: Unlisted | None = None

    async def __aenter__(self) -> Session:
        start(self.task.run, self.task)
        try:
            with anyio.move_on_after(max(0.0, self.deadline - clock())):
                await self.settled.wait()
        except BaseException:
            await self._end(at_once=True)
            raise
        if self.session is None:
            await self._end(at_once=True)
            raise self.failure or Unlisted(LATE)
        return self.session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _own(self) -> None:
        try:
            async with self.connect() as session:
                self.session = session
                self.settled.set()
                await self.leaving.wait()
        except Unlisted as error:
            self.failure = error
        except Exception as error:  # of an SDK, which is to say of any kind; a call that it spoiled has its own
            logger.debug("An MCP session ended with %s.", type(error).__name__)
        finally:
            self.settled.set()

    async def _end(self, *, at_once: bool = False) -> None:
        self.leaving.set()
        if at_once:
            self.task.cancel()
        with anyio.CancelScope(shield=True):
            if await self.task.wait(CLOSING):
                return
            self.task.cancel()
            if not await self.task.wait(GIVEN_UP):
                logger.warning("An MCP session does not end although it was cancelled.")


async def apart(work: Callable[[], Awaitable[Any]]) -> Any:
    """What *work* gives, in a task of its own. Who waits can be cancelled although the work does not end, as where a
    server runs a plain function in a thread: its result is dropped then."""
    given: list[Any] = []
    failed: list[Exception] = []

    async def run() -> None:
        try:
            given.append(await work())
        except Exception as error:
            failed.append(error)

    task = Task(run)
    start(task.run, task)
    try:
        await task.over.wait()
    except BaseException:
        task.cancel()
        with anyio.CancelScope(shield=True):
            await task.wait(GIVEN_UP)
        raise
    if not given:
        raise failed[0] if failed else RuntimeError("The work was given up.")
    return given[0]
