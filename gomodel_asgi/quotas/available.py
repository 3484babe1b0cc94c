"""Counters that may be away: who asks them waits for a bounded time, and what could not be booked is booked later.

    reserve ──away──► lines that only count go on in this process, at the same figures; what holds is refused
    settle  ──away──► queued, tried again with back-off, and flushed in the end

A reservation whose answer was lost may have been booked. Its hold is settled all the same, once they answer: by its
request if that goes on, with nothing if it does not (`seams/counters.py` says why this is exact).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import anyio

from ..deadline import DeadlineExceeded, within
from ..errors import QuotaUnavailable
from ..logs import log
from ..resilience.retry import backoff
from ..seams.counters import Counters, Figures, Line, Reserved, quota_unavailable
from ..stores.circuit_breaker import Circuit
from ..tasks import Task, Tasks, loop_token
from .memory import MemoryCounters

T = TypeVar("T")

OnUnavailable = Literal["refuse", "admit"]

# Settlements that wait to be booked, each of some hundred bytes.
MOST_WAITING = 10_000

# Reservations that may have been booked and whose request was refused. Forgotten ones free themselves.
MOST_RELEASES = 1_000

FAREWELL = 5.0
"""Seconds in which what waits is booked when all is closed."""


class NotAsked(QuotaUnavailable):
    """The counters were left alone, so they can have booked nothing."""


class Late(NamedTuple):
    """A settlement that has to be booked in the counters."""

    hold: str
    lines: Sequence[Line]
    actual: Sequence[int]
    now: float


class AvailableCounters:
    """*counters* that are asked within *timeout* seconds, and not at all while they hang.

    *on_unavailable* says what becomes of a reservation meanwhile: of `None`, one whose lines hold nothing goes on in
    this process at the same figures and others raise `QuotaUnavailable`; with `admit` all go on so, with `refuse` none.
    A settlement never fails: it waits, with at most *most* others. *warn* is called for each that has to, and for each
    that is lost. *pause* gives the seconds before a retry, by how many have failed in a row.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        timeout: float = 0.25,
        on_unavailable: OnUnavailable | None = None,
        warn: Callable[[str], object] | None = None,
        most: int = MOST_WAITING,
        pause: Callable[[int], float] = backoff,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shared = counters.shared
        self.circuit = Circuit(clock, engine="quota counters", unavailable=_not_asked)
        self.stand_in = MemoryCounters(per_process=True)
        """Counts in this process what the counters could not be asked about."""
        self._counters = counters
        self._timeout = timeout
        self._on_unavailable = on_unavailable
        self._warn = warn
        self._most = most
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Late] = OrderedDict()
        self._releases: OrderedDict[str, Late] = OrderedDict()
        self._tasks = Tasks()
        self._retrying: dict[object, Task] = {}
        """What books what waits, on each event loop."""
        self._away = False

    def __repr__(self) -> str:
        return f"<AvailableCounters {self._counters!r} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        """How many settlements wait to be booked."""
        return len(self._waiting)

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        """Reserves all *lines* for *hold*, or none: in this process where the counters are away and that is allowed.

        :raises QuotaUnavailable: they are away, and it is not.
        """
        try:
            return await self._ask(self._counters.reserve, hold, lines, now)
        except QuotaUnavailable as error:
            was_asked = not isinstance(error, NotAsked)
            if self._stands_in_for(lines):
                reserved = await self.stand_in.reserve(hold, lines, now)
                if reserved.refused is not None and was_asked:
                    self._release(hold, lines, now)
                return reserved
            if was_asked:
                self._release(hold, lines, now)
            raise
        except Exception:
            raise  # it cannot be counted at all
        except BaseException:  # cancelled: nobody will settle it
            self._release(hold, lines, now)
            raise

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        """Books *actual* for *hold*, now or as soon as the counters answer."""
        if hold in self.stand_in:
            await self.stand_in.settle(hold, lines, actual, now)
        with self._lock:
            if hold in self._waiting or hold in self._releases:
                return  # settled already, though the counters do not know it yet
        late = Late(hold, lines, actual, now)
        try:
            await self._ask(self._counters.settle, *late)
        except QuotaUnavailable as error:
            self._wait(late, error.detail)
        except Exception:
            raise  # it would fail again
        except BaseException:
            self._wait(late, "cancelled")
            raise

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        """Returns what each line has spent and held.

        :raises QuotaUnavailable: the counters are away.
        """
        return await self._ask(self._counters.figures, lines, now)

    async def aclose(self) -> None:
        """Books what waits, within `FAREWELL` seconds, and closes what this event loop has open. All stay usable."""
        task = self._retrying.get(loop_token())
        with anyio.move_on_after(FAREWELL, shield=True):
            if task is not None:
                task.cancel()
                await task.wait(FAREWELL)
            # They are asked even if they have been left alone: there is no later.
            await self._book_all(self._in_time)
        if self._waiting:
            self._report(f"quotas: what {self.waiting} requests have used could not be booked.")
        with anyio.move_on_after(FAREWELL, shield=True):
            await self._counters.aclose()

    # Asking...

    async def _ask(self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        try:
            answer: T = await self.circuit.ask(self._in_time, call, *arguments)
        except QuotaUnavailable as error:
            if not self._away and not isinstance(error, NotAsked):
                self._away = True
                log("counters_unavailable", detail=error.detail)
            raise
        if self._away:
            self._away = False
            log("counters_available", waiting=self.waiting)
        if self._waiting or self._releases:
            self._retry()
        return answer

    async def _in_time(self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Returns what *call* returns.

        :raises QuotaUnavailable: it did not answer in time.
        """
        try:
            return await within(self._timeout, call(*arguments))
        except DeadlineExceeded:
            raise quota_unavailable("TimeoutError") from TimeoutError()

    def _stands_in_for(self, lines: Sequence[Line]) -> bool:
        if self._on_unavailable is None:
            return not any(line.holds for line in lines)
        return self._on_unavailable == "admit"

    # Booking later...

    def _release(self, hold: str, lines: Sequence[Line], now: float) -> None:
        """*hold* may be reserved, and nobody will settle it."""
        self._wait(Late(hold, lines, [0] * len(lines), now), "")

    def _wait(self, late: Late, why: str | None) -> None:
        lost = False
        with self._lock:
            queue = self._queue_of(late)
            if queue is self._releases and len(queue) >= MOST_RELEASES:
                queue.popitem(last=False)
            elif queue is self._waiting and len(queue) >= self._most:
                lost = True
            if not lost:
                queue[late.hold] = late
        if lost:
            self._report(f"quotas: what a request has used is lost, since {self._most} others wait to be booked: {why}")
        elif queue is self._waiting:
            self._report(f"quotas: what a request has used is booked later: {why}")
        self._retry()

    def _queue_of(self, late: Late) -> OrderedDict[str, Late]:
        return self._waiting if any(late.actual) else self._releases

    def _retry(self) -> None:
        """Books what waits, beside everything else."""
        token = loop_token()
        if token not in self._retrying:
            self._retrying[token] = self._tasks.spawn(self._book_waiting)

    async def _book_waiting(self) -> None:
        try:
            await self._book_all(self._ask)
        finally:
            self._retrying.pop(loop_token(), None)

    async def _book_all(self, ask: Callable[..., Coroutine[Any, Any, None]]) -> None:
        failures = 0
        while (late := self._first()) is not None:
            if await self._book(late, ask):
                failures = 0
            else:
                await anyio.sleep(self._pause(failures))
                failures += 1

    def _first(self) -> Late | None:
        """Returns what has waited longest, which is from now on the caller's to book; spend before what is released."""
        with self._lock:
            for queue in (self._waiting, self._releases):
                if queue:
                    return queue.popitem(last=False)[1]
        return None

    async def _book(self, late: Late, ask: Callable[..., Coroutine[Any, Any, None]]) -> bool:
        """Returns whether *late* waits no longer."""
        done = False
        try:
            await ask(self._counters.settle, *late)
            done = True
        except QuotaUnavailable:
            pass
        except Exception as error:
            done = True
            self._report(f"quotas: what a request has used could not be booked: {type(error).__name__}")
        finally:
            if not done:
                with self._lock:
                    queue = self._queue_of(late)
                    queue[late.hold] = late
                    queue.move_to_end(late.hold, last=False)
        return done

    def _report(self, message: str) -> None:
        if self._warn is not None:
            self._warn(message)


def _not_asked(detail: str) -> NotAsked:
    error = quota_unavailable(detail)
    return NotAsked(error.message, detail=detail)
