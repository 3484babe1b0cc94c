"""The servers of one response: each opened in a task of its own, all at the same time, and closed together."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from ...deadline import clock
from .source import Listed, Session, Source, Unlisted, Visit

LATE = "it did not answer in time"
BROKEN = "it could not be asked"
MOST_TOOLS = 1000


class Held:
    """One server, from when it is opened."""

    def __init__(self, source: Source, visit: Visit) -> None:
        self.source = source
        self.visit = visit
        self.ready = anyio.Event()
        self.scope = anyio.CancelScope()
        self.session: Session | None = None
        self.tools: Sequence[Listed] = ()
        self.error: str | None = None
        """Why its tools could not be had, in words for the client."""
        self.cause: BaseException | None = None

    async def run(self, over: anyio.Event) -> None:
        """Open it, list its tools, and hold it until *over*."""
        try:
            with self.scope:
                async with self.source.open(self.visit) as session:
                    self.tools = (await session.list_tools())[:MOST_TOOLS]
                    self.session = session
                    self.ready.set()
                    # Always set when the response ends; a task that is cancelled instead leaves a ring of references.
                    with anyio.CancelScope(shield=True):
                        await over.wait()
        except Unlisted as error:
            self.error, self.cause = str(error), error
        except Exception as error:  # of the host's own server, or of an SDK: not for the client
            self.error, self.cause = BROKEN, error
        finally:
            if self.session is None and self.error is None:
                self.error = LATE
            self.ready.set()


class Sessions:
    """The open servers, by label. Use as a context manager; what its body raises is raised as it is."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.over = anyio.Event()
        self._group: TaskGroup | None = None

    async def listed(self, sources: Sequence[tuple[Source, Visit]]) -> None:
        """Open *sources* and have their tools; what cannot be had in time is given up."""
        assert self._group is not None
        for source, visit in sources:
            held = self.held[visit.label] = Held(source, visit)
            self._group.start_soon(held.run, self.over)
        for held in self.held.values():
            with anyio.move_on_after(held.visit.deadline - clock()):
                await held.ready.wait()
            if not held.ready.is_set():
                held.scope.cancel()
                await held.ready.wait()

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._group is not None
        self.over.set()
        if error is None or isinstance(error, Exception):
            # The body's own failure is passed on as it is, not as one of a group.
            await self._group.__aexit__(None, None, None)
            return None
        return await self._group.__aexit__(kind, error, traceback)
