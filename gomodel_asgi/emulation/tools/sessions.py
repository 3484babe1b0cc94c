"""The MCP servers of one response: listed all at the same time, each opened when it is first needed, closed together.

SDKs open scopes and task groups that only the task which opened them may close. So each session has a task of its own,
in which it is opened, kept open and closed. The loop may use it in any task, and never holds such a scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self

import anyio

from ...deadline import clock
from ...errors import GatewayError
from ...logs import log
from ...tasks import Task, start
from ...tools import Call
from .seams import MOST_TOOLS, Json, Listed, Opening, Outcome, Session, Source, Unlisted, Visit, unreachable

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
        """Returns the session, once its own task has opened it.

        :raises Unlisted: it could not be opened, or not in time.
        """
        start(self.task.run, self.task)
        try:
            with anyio.move_on_after(max(0.0, self.deadline - clock())):
                await self.settled.wait()
        except BaseException:
            await self._end(at_once=True)
            raise
        if self.session is None:
            await self._end(at_once=True)
            raise self.failure or Unlisted(LATE, 504)
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
            log("session_ended", error=type(error).__name__)
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
                log("session_stuck")


async def apart(work: Callable[[], Awaitable[Any]]) -> Any:
    """What *work* gives, in a task of its own. Who waits can be cancelled although the work does not end, as where a
    server runs a plain function in a thread: its result is dropped then.

    :raises RuntimeError: the work was given up. What it raises itself is raised here too.
    """
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


BROKEN = "The server could not be asked."


class ServerSession:
    """One server of a response. Its *tools* are asked for, unless they are known already (*is_listed*)."""

    def __init__(self, source: Source, visit: Visit) -> None:
        self.source = source
        self.visit = visit
        self.tools: Sequence[Listed] = ()
        self.is_listed = False
        self.opening: Opening | None = None
        self.opened: AbstractAsyncContextManager[Session] | None = None
        self.session: Session | None = None
        self.lock = anyio.Lock()
        """One opens it, and others that call it at the same time wait."""
        self.error: str | None = None
        """Why its tools could not be had, in words for the client."""
        self.cause: BaseException | None = None
        self.refusal: GatewayError | None = None
        """Why it may not be asked."""

    async def prepare(self) -> None:
        """Has it admitted, and its tools listed. Raises nothing; what cannot be had in time is given up."""
        try:
            with anyio.move_on_after(max(0.0, self.visit.deadline - clock())):
                self.opening = await self.source.admit(self.visit)
                if not self.is_listed:
                    session = await self._opened(self.visit.deadline)
                    self.tools = (await session.list_tools())[:MOST_TOOLS]
                    self.is_listed = True
                return
            self.error = LATE
        except GatewayError as error:
            self.refusal = error
        except Unlisted as error:
            self.error, self.cause = str(error), error
        except Exception as error:  # of the host's own server, or of an SDK: not for the client
            self.error, self.cause = BROKEN, error

    async def call_tool(self, name: str, arguments: Json, call: Call) -> Outcome:
        """See `Session.call_tool`; the session is opened where it is not yet."""
        try:
            session = await self._opened(call.deadline)
        except Unlisted as error:
            return Outcome(str(error), error=unreachable(error.code, str(error)))
        return await session.call_tool(name, arguments, call)

    async def _opened(self, deadline: float) -> Session:
        assert self.opening is not None
        async with self.lock:
            if self.session is None:
                opened = self.opening(deadline)
                self.session = await opened.__aenter__()
                self.opened = opened
            return self.session

    async def close(self) -> None:
        """Closes the session, if it was opened."""
        if self.opened is not None:
            await self.opened.__aexit__(None, None, None)


class Sessions:
    """The servers of one response, by label. Use as a context manager, in any task."""

    def __init__(self) -> None:
        self.by_label: dict[str, ServerSession] = {}

    async def prepare(self, servers: Sequence[ServerSession]) -> None:
        """Has all *servers* admitted and listed, at the same time."""
        self.by_label = {held.visit.label: held for held in servers}
        async with anyio.create_task_group() as group:
            for held in servers:
                group.start_soon(held.prepare)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = [held for held in self.by_label.values() if held.opened is not None]
        self.by_label = {}  # visits know the response, and the response knows us
        if not opened:
            return
        with anyio.CancelScope(shield=True):  # each bounds itself
            async with anyio.create_task_group() as group:
                for held in opened:
                    group.start_soon(held.close)
