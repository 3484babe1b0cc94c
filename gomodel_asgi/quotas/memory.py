"""Counters of this process alone."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Sequence

from ..arguments import check_flags
from ..seams.counters import REPEATS, Figures, Line, Reserved, open_for, require_distinct, reserved, share

Place = tuple[str, str]


class Counter:
    """What one key has *spent* and *held* (by slot) in one window. It is needed *until* that Unix second."""

    __slots__ = ("held", "spent", "until")

    def __init__(self, until: float) -> None:
        self.spent = 0
        self.held: dict[int, int] = {}
        self.until = until

    def counting(self, oldest: int) -> int:
        """Returns what is held in slots that still count."""
        total = 0
        for slot, amount in self.held.items():
            if slot >= oldest:
                total += amount
        return total

    def hold(self, line: Line) -> None:
        """Holds the amount of *line*, and forgets slots that have not counted for long."""
        held = self.held
        held[line.slot] = held.get(line.slot, 0) + line.amount
        if len(held) > 1:
            for slot in [slot for slot in held if slot < line.forgotten]:
                del held[slot]

    def release(self, line: Line) -> None:
        """Holds the amount of *line* no longer, if its slot is not forgotten."""
        left = self.held.get(line.slot, 0) - line.amount
        if left > 0:
            self.held[line.slot] = left
        else:
            self.held.pop(line.slot, None)


class MemoryCounters:
    """Counts in this process, for all its threads, event loops and async libraries. With several processes each counts
    for itself: beside a shared store that is refused, unless *per_process* says that it is meant.

    A counter goes when it is no longer needed, a few with each call. All is lost with the process.
    """

    shared = False

    def __init__(self, *, per_process: bool = False) -> None:
        check_flags(per_process=per_process)
        self.per_process = per_process
        self._lock = threading.Lock()
        self._counters: dict[Place, Counter] = {}
        self._ends: list[tuple[float, Place]] = []
        """A heap of the counters, the one first that is needed for the shortest time."""
        self._open: OrderedDict[str, float] = OrderedDict()
        """The holds that are not settled, and until when that may come."""
        self._settled: OrderedDict[str, float] = OrderedDict()
        """Those that are, and until when they may be settled again."""

    def __repr__(self) -> str:
        return f"<MemoryCounters counters={len(self._counters)} open={len(self._open)}>"

    def __contains__(self, hold: object) -> bool:
        """Returns whether *hold* is reserved and not settled."""
        return hold in self._open

    def __len__(self) -> int:
        """Counters kept, those that have ended and that no call has met included."""
        return len(self._counters)

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        """Reserves all *lines* for *hold*, or none. Returns which one had no room, and the figures.

        :raises ValueError: two of *lines* have the same key and window.
        """
        require_distinct(lines)
        with self._lock:
            self._forget(now, len(lines))
            figures = [self._figures(line) for line in lines]
            if hold in self._open or hold in self._settled:
                return Reserved(None, tuple(figures))
            for index, (line, found) in enumerate(zip(lines, figures, strict=True)):
                if found.spent + found.held + line.amount > line.limit:
                    return Reserved(index, tuple(figures))
            self._open[hold] = now + open_for(lines)
            return Reserved(None, tuple(map(self._reserved, lines, figures)))

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        """Releases what *hold* holds in each of *lines* and books *actual*, once."""
        with self._lock:
            self._forget(now, len(lines))
            if hold in self._settled:
                return
            reserved = self._open.pop(hold, None) is not None
            self._settled[hold] = now + REPEATS
            for line, amount in zip(lines, actual, strict=True):
                self._settle(line, amount, reserved)

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        """Returns what each line has spent and held."""
        with self._lock:
            return tuple(map(self._figures, lines))

    async def aclose(self) -> None:
        """Does nothing: counters live as long as the process."""

    # Under the lock...

    def _figures(self, line: Line) -> Figures:
        window, oldest = line.window, line.oldest
        here = self._counters.get((line.key, window.name))
        spent, held = (0, 0) if here is None else (here.spent, here.counting(oldest))
        before = None if window.before is None else self._counters.get((line.key, window.before))
        if before is None:
            return Figures(spent, held)
        # What is held is rounded together with what is spent: once, and not twice.
        parts, total = window.parts, before.spent + before.counting(oldest)
        spent_then = share(before.spent, parts)
        return Figures(spent + spent_then, held + share(total, parts) - spent_then, total)

    def _reserved(self, line: Line, found: Figures) -> Figures:
        counter = self._counter(line)
        if line.holds:
            counter.hold(line)
        else:
            counter.spent += line.amount
        return reserved(line, found)

    def _settle(self, line: Line, actual: int, reserved: bool) -> None:
        counter = self._counter(line)
        if reserved and line.holds:
            counter.release(line)
        elif reserved:
            actual -= line.amount
        counter.spent = max(0, counter.spent + actual)

    def _counter(self, line: Line) -> Counter:
        place, until = (line.key, line.window.name), line.until
        counter = self._counters.get(place)
        if counter is None:
            counter = self._counters[place] = Counter(until)
            heapq.heappush(self._ends, (until, place))
        elif until > counter.until:
            counter.until = until
        return counter

    def _forget(self, now: float, made: int) -> None:
        """Forgets what is needed no more: more of it than a call makes, so that it never piles up, and no more."""
        for holds in (self._open, self._settled):
            for _ in range(2):
                if not holds or next(iter(holds.values())) > now:
                    break
                holds.popitem(last=False)
        ends = self._ends
        for _ in range(2 * made):
            if not ends or ends[0][0] > now:
                return
            place = ends[0][1]
            until = self._counters[place].until
            if until > now:
                heapq.heapreplace(ends, (until, place))
            else:
                heapq.heappop(ends)
                del self._counters[place]
