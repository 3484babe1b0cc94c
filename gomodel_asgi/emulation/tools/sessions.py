"""The servers of one response: opened and listed all at the same time, and closed together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio

from ...deadline import clock
from .source import MOST_TOOLS, Listed, Session, Source, Unlisted, Visit

LATE = "It did not answer in time."
BROKEN = "It could not be asked."


class Held:
    """One server, from when it is opened."""

    def __init__(self, source: Source, visit: Visit) -> None:
        self.source = source
        self.visit = visit
        self.opened: AbstractAsyncContextManager[Session] | None = None
        self.session: Session | None = None
        self.tools: Sequence[Listed] = ()
        self.error: str | None = None
        """Why its tools could not be had, in words for the client."""
        self.cause: BaseException | None = None

    async def open(self) -> None:
        """Open it, and list its tools. Raises nothing; what cannot be had in time is given up."""
        try:
            with anyio.move_on_after(max(0.0, self.visit.deadline - clock())):
                opening = self.source.open(self.visit)
                session = await opening.__aenter__()
                self.opened = opening
                self.tools = (await session.list_tools())[:MOST_TOOLS]
                self.session = session
        except Unlisted as error:
            self.error, self.cause = str(error), error
        except Exception as error:  # of the host's own server, or of an SDK: not for the client
            self.error, self.cause = BROKEN, error
        if self.session is None and self.error is None:
            self.error = LATE

    async def close(self) -> None:
        if self.opened is not None:
            await self.opened.__aexit__(None, None, None)


class Sessions:
    """The open servers, by label. Use as a context manager, in any task."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}

    async def listed(self, sources: Sequence[tuple[Source, Visit]]) -> None:
        """Open *sources* and have their tools."""
        self.held = {visit.label: Held(source, visit) for source, visit in sources}
        async with anyio.create_task_group() as group:
            for held in self.held.values():
                group.start_soon(held.open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = [held for held in self.held.values() if held.opened is not None]
        self.held = {}  # visits know the response, and the response knows us
        if not opened:
            return
        with anyio.CancelScope(shield=True):  # each bounds itself
            async with anyio.create_task_group() as group:
                for held in opened:
                    group.start_soon(held.close)
