"""Brings rows to the sink, behind the requests: one task for each event loop.

    waiting ──batch──► sink                            taken out of `waiting` once the sink has it
       └──sink away──► spill (a file) ──replay──► sink

A batch leaves when it is full or a second old. While the sink is away, what comes goes into the spill at once, if there
is one, and else waits; the sink is asked again after growing pauses. Nothing that happens to the task loses rows that
could still be brought anywhere: it is cancelled, its loop is closed under it (the next loop's task takes over).
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Literal

import anyio

from ..deadline import clock, on_trio
from ..logs import log
from ..tasks import loop_token
from .row import Entry
from .sink import RowsRefused, Sink
from .spill import Claim, Spill

BATCH = 500
"""Rows that go to the sink at once."""
EVERY = 1.0
"""Seconds that a row waits for others at most, and between two attempts at a sink that failed."""
QUEUE = 10_000
"""Rows that wait; what comes beyond is dropped."""
IN_MEMORY = f"They wait in memory, at most {QUEUE}; what comes beyond is dropped. Ledger(spill=...) would keep it."
WRITING = 10.0
"""Seconds that the sink has for a batch."""
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds until a sink that was away is asked again."""
REMINDS = 300.0
"""Seconds after which it is said again that rows cannot be spilled."""
LOOKS = 60.0
"""Seconds between two looks for what a killed process has spilled."""
FAREWELL = 5.0
"""Seconds that the task takes, when it is cancelled, to bring what waits to the sink, and then to the spill."""

Result = Literal["written", "replayed", "spilled", "dropped"]
Report = Callable[[int, Result], None]


class Writer:
    """The rows of one event loop, and their task. *report* is called with what became of how many rows."""

    def __init__(self, sink: Sink, spill: Spill | None, report: Report) -> None:
        self.sink = sink
        self.spill = spill
        self.report = report
        self.waiting: deque[Entry] = deque()
        self.added = self.gone = 0
        """How many rows have come, and how many of them are no longer here."""
        self.urgent = 0
        """Of the rows, counted as they came: up to which somebody waits for them."""
        self.away = 0
        """How often in a row the sink has failed."""
        self.retry_at = self.rests_until = 0.0
        self.reminds_at = 0.0
        """Until when it is not said again that the spill takes no rows."""
        self.looks_at = 0.0
        """When the spill is to be looked at; at first at once."""
        self.wake = anyio.Event()
        self.progress = anyio.Event()
        self.closing = False
        self.running = False
        self.scope = anyio.CancelScope()
        self.task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more can wait."""
        return len(self.waiting) >= QUEUE

    def add(self, entry: Entry) -> int:
        """Takes *entry*, and returns its number."""
        self.waiting.append(entry)
        self.added += 1
        if not self.running:
            self.start()
        elif len(self.waiting) in (1, BATCH):
            self.wake.set()
        return self.added

    async def settled(self, number: int, seconds: float) -> bool:
        """Waits at most so long until the sink or the spill has the row of this *number*, and all before it: whether
        that is so."""
        with anyio.move_on_after(seconds):
            while self.gone < number and (self.running or self.start()):
                self.urgent = max(self.urgent, number)
                self.wake.set()
                await self.progress.wait()
        return self.gone >= number

    async def close(self, seconds: float) -> None:
        """Ends the task; what waits is brought where it can be, within so many seconds. Never raises."""
        if not self.running:
            if not self.waiting:
                return
            self.start()
        self.closing = True
        self.wake.set()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(seconds):
                await self._over()
            self.scope.cancel()
            with anyio.move_on_after(3 * FAREWELL):
                await self._over()

    async def _over(self) -> None:
        while self.running:
            await self.progress.wait()

    # The task...

    def start(self) -> bool:
        """Starts the task on the running event loop, outside of any request's own context."""
        self.running, self.closing = True, False
        self.scope, self.wake, self.progress = anyio.CancelScope(), anyio.Event(), anyio.Event()
        if on_trio():
            import trio

            trio.lowlevel.spawn_system_task(self._run, context=contextvars.Context())
        else:
            self.task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        return True

    async def _run(self) -> None:
        try:
            with self.scope:
                while await self._due():
                    await self._step()
                    self._progressed()
                    if self.closing and self.away:
                        break
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await self._farewell()
            finally:
                self.running = False
                self._progressed()

    def _progressed(self) -> None:
        self.progress.set()
        self.progress = anyio.Event()

    async def _due(self) -> bool:
        """Waits until there is something to do; False at the end."""
        replay = None if self.spill is None else max(0.0, (self.retry_at if self.away else self.looks_at) - clock())
        await self._until(lambda: self.closing or bool(self.waiting), replay)
        if self.waiting:
            await self._until(self._is_wanted, EVERY)
            await self._until(lambda: self.closing, self.rests_until - clock())
        return bool(self.waiting) or not self.closing

    def _is_wanted(self) -> bool:
        """Returns whether what waits has to go before its time."""
        return self.closing or self.urgent > self.gone or len(self.waiting) >= BATCH

    async def _until(self, condition: Callable[[], bool], seconds: float | None) -> None:
        """Waits at most so long until *condition* holds; what changes it sets `wake`."""
        with anyio.move_on_after(seconds):
            while not condition():
                self.wake = anyio.Event()
                await self.wake.wait()

    async def _step(self) -> None:
        """Brings the next batch where it can be brought, and then what lies in the spill."""
        if self.waiting and not (self._asks_sink() and await self._next_put()) and self.spill is not None:
            await self._next_spilled(self.spill)
        if self.spill is not None and self._asks_sink() and (self.away or clock() >= self.looks_at):
            await self._replay(self.spill)

    def _asks_sink(self) -> bool:
        return not self.away or clock() >= self.retry_at

    async def _next_put(self) -> bool:
        """Gives the next batch to the sink; returns whether it took it."""
        batch = list(islice(self.waiting, BATCH))
        done = await self._put(batch, "written")
        if done:
            self._taken(len(batch))
        return done

    def _taken(self, count: int) -> None:
        for _ in range(count):
            self.waiting.popleft()
        self.gone += count

    async def _put(self, batch: Sequence[Entry], result: Result) -> bool:
        """Gives *batch* to the sink; returns whether it took it."""
        try:
            with anyio.fail_after(WRITING):
                # Of an id that is there twice the last counts: it closes an open row.
                rows = await self.sink.write([*{entry.row.id: entry for entry in batch}.values()])
        except RowsRefused as error:
            return await self._parted(batch, result, error)
        except Exception as error:
            self._is_away(error)
            return False
        if self.away:
            log("ledger_available", sink=repr(self.sink), failures=self.away)
            self.away, self.looks_at = 0, 0.0
        self.report(rows, result)
        return True

    async def _parted(self, batch: Sequence[Entry], result: Result, error: RowsRefused) -> bool:
        """A row of *batch* can never be written: the others can."""
        if len(batch) == 1:
            where = await self._set_aside(batch[0])
            log("ledger_row_refused", sink=repr(self.sink), row=str(batch[0].row.id), reason=str(error), where=where)
            self.report(1, "dropped")
            return True
        half = len(batch) // 2
        return await self._put(batch[:half], result) and await self._put(batch[half:], result)

    def _is_away(self, error: Exception) -> None:
        # Its type only: its text may quote addresses, users and statements.
        name, sink = type(error).__name__, repr(self.sink)
        if self.away:
            log("ledger_still_unavailable", sink=sink, error=name, failures=self.away + 1)
        else:
            where = IN_MEMORY if self.spill is None else f"Rows are kept in {self.spill.path} until it does."
            log("ledger_unavailable", sink=sink, error=name, where=where)
        self.retry_at = clock() + PAUSES[min(self.away, len(PAUSES) - 1)]
        self.away += 1
        if self.spill is None:
            self.rests_until = self.retry_at

    # The spill...

    async def _set_aside(self, entry: Entry) -> str:
        """Keeps *entry*, which the sink refuses, for somebody to look at; returns where."""
        if self.spill is not None:
            with suppress(OSError, ValueError):
                return f"It lies in {await self.spill.set_aside(entry)}."
        return "It is lost."

    async def _next_spilled(self, spill: Spill) -> bool:
        """Puts the next batch into the spill; returns whether it lies there."""
        batch = list(islice(self.waiting, BATCH))
        try:
            await spill.put(batch)
        except Exception as error:
            if clock() >= self.reminds_at:
                self.reminds_at = clock() + REMINDS
                waiting = len(self.waiting)
                log("ledger_spill_failed", path=str(spill.path), error=type(error).__name__, waiting=waiting)
            self.rests_until = clock() + EVERY
            return False
        self.report(len(batch), "spilled")
        self._taken(len(batch))
        return True

    async def _replay(self, spill: Spill) -> None:
        """Brings what lies in the spill to the sink: all of it, or as much as it takes."""
        try:
            while (claim := await spill.claim()) is not None:
                try:
                    if not await self._replayed(claim):
                        return
                finally:
                    claim.release()
            self.away = 0  # nothing is left to try it with; the next batch does
        except Exception as error:
            log("ledger_spill_unreadable", path=str(spill.path), error=type(error).__name__)
        self.looks_at = clock() + LOOKS

    async def _replayed(self, claim: Claim) -> bool:
        """Brings *claim* to the sink, and what comes meanwhile; returns whether all of it is there."""
        while entries := await claim.read(BATCH):
            if not await self._put(entries, "replayed"):
                return False
            if self.waiting and not await self._next_put():
                return False
        await claim.done()
        return True

    async def _farewell(self) -> None:
        """The task ends: what waits goes to the sink or else into the spill, in a bounded time."""
        with anyio.move_on_after(FAREWELL):
            while self.waiting and (self.spill is None or not self.away) and await self._next_put():
                pass
        with anyio.move_on_after(FAREWELL):
            while self.waiting and self.spill is not None and await self._next_spilled(self.spill):
                pass
        if self.waiting:
            log("ledger_rows_left", rows=len(self.waiting))


# The writers of a process...


class Writers:
    """A writer for each event loop; the rows of loops that have closed go to whichever is asked for next."""

    def __init__(self, sink: Sink, spill: Spill | None, report: Report) -> None:
        self.sink = sink
        self.spill = spill
        self.report = report
        self._held: dict[tuple[int, object], Writer] = {}
        self._lock = threading.Lock()

    def here(self) -> Writer:
        """Returns the running loop's writer.

        :raises RuntimeError: the sink needs asyncio, and this is trio.
        """
        # A forked process has its parent's rows in memory, which are the parent's to write.
        key = os.getpid(), loop_token()
        found = self._held.get(key)
        return self._made(key) if found is None else found

    def runs_here(self) -> bool:
        """Returns whether the sink can be written on the running event loop."""
        return not (self.sink.needs_asyncio and on_trio())

    def _made(self, key: tuple[int, object]) -> Writer:
        """Returns a new writer for this event loop, with what those of closed loops have left.

        :raises RuntimeError: the sink does not run on trio.
        """
        if not self.runs_here():
            raise RuntimeError(f"The ledger's {self.sink!r} runs on asyncio only; under trio use JsonLines.")
        writer = Writer(self.sink, self.spill, self.report)
        with self._lock:
            for other in [other for other in self._held if other[0] != key[0] or _is_closed(other[1])]:
                orphan = self._held.pop(other)
                if other[0] == key[0]:
                    writer.waiting.extend(orphan.waiting)
            writer.added = len(writer.waiting)
            self._held[key] = writer
        return writer


def _is_closed(loop: object) -> bool:
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()
