"""The seam of counters: amounts that are held before a request and booked after it, under keys, in windows of time.

An engine knows numbers only: no tenant, no price, no clock of its own, so that what it does is the same in memory, in
Redis and in PostgreSQL. Whoever calls it turns quotas into lines, and says what time it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from ..errors import QuotaUnavailable

PARTS = 1_000_000
"""A weight counts in so many parts, so that every engine reckons with integers and comes to the same figures."""

REPEATS = 900.0
"""Seconds for which an engine knows at least that a hold was settled: a call may be repeated for as long."""


class Window(Struct, frozen=True):
    """The stretch of time that counts: *name* is unique among the windows of a key (`month:2026-11`), *ends* its end in
    Unix seconds. A window that slides has a *length* in seconds, and counts *weight* (0 to 1) of the one *before* it
    too."""

    name: str
    ends: float
    before: str | None = None
    weight: float = 0.0
    length: float = 0.0

    @property
    def parts(self) -> int:
        """Returns the weight in `PARTS`."""
        return round(self.weight * PARTS)


class Line(Struct, frozen=True):
    """*amount* units of *limit* that a request wants under *key* in *window*.

    *holds* says that the amount is held until it is settled; else it is booked as spent at once. What is held is kept
    by *slot*, the number of the stretch of time in which it was reserved, so that holds whose process died free
    themselves: those of slots before *oldest* count no more. *keeps* is how many seconds after its window's end a
    counter is still needed: for as long as a request may take to settle.
    """

    key: str
    window: Window
    limit: int
    amount: int
    holds: bool
    slot: int
    oldest: int
    keeps: float

    @property
    def until(self) -> float:
        """The Unix second from which its counter is needed no more."""
        return self.window.ends + self.window.length + self.keeps

    @property
    def forgotten(self) -> int:
        """Holds of slots before this one may be forgotten. They have not counted for as long as they had counted
        before, so a worker whose clock is ahead frees nobody else's."""
        return 2 * self.oldest - self.slot


class Figures(Struct, frozen=True):
    """What a line has *spent* and *held*, the weighted share of the window before (rounded up) included. *before* is
    all that the window before has, unweighted; 0 where the window does not slide."""

    spent: int
    held: int
    before: int = 0


class Reserved(Struct, frozen=True):
    """The answer to a reservation: *refused* is the index of the first line without room (None: all were reserved), and
    *figures* are those of each line after it (of a refused reservation: as they are)."""

    refused: int | None
    figures: tuple[Figures, ...]


class Counters(Protocol):
    """Counts for many requests at once; where it is `shared`, for many processes.

    Every method is one atomic step, raises `errors.QuotaUnavailable` where the engine does not answer, and may be
    repeated by its caller after that: a hold is reserved once and settled once, however often it is asked for, and not
    reserved after it was settled. No two of *lines* may have the same key and window.
    """

    shared: bool

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        """Reserves all *lines* for *hold*, or none: a line has room where spent + held + amount is at most its
        limit."""

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        """Releases what *hold* holds in each of *lines* and books what was really used, which may be more, less or
        nothing. Of a line that does not hold, the difference to its amount is booked.

        Where *hold* was never reserved here (its reservation was lost, or it corrects what another one has booked) all
        of *actual* is booked; to correct downwards it may be negative, and a counter stops at 0.
        """

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        """Returns what each line has spent and held."""

    async def aclose(self) -> None:
        """Closes what this event loop has open."""


def share(amount: int, parts: int) -> int:
    """Returns *parts* of `PARTS` of *amount*, rounded up."""
    return -(-amount * parts // PARTS)


def require_distinct(lines: Sequence[Line]) -> None:
    """Refuses lines that would count twice in one counter.

    :raises ValueError: two of *lines* have the same key and window.
    """
    if len({(line.key, line.window.name) for line in lines}) < len(lines):
        raise ValueError("Two lines of one reservation have the same key and window.")


def require_countable(lines: Sequence[Line], most: int, engine: str) -> None:
    """Refuses limits that *engine* cannot count to.

    :raises ValueError: a limit of *lines* is more than *most*.
    """
    for line in lines:
        if line.limit > most:
            raise ValueError(f"{engine} counts to {most:,}: the limit {line.limit:,} is more.")


def reserved(line: Line, found: Figures) -> Figures:
    """Returns the figures of *line* once it is reserved, of those *found* before."""
    if line.holds:
        return Figures(found.spent, found.held + line.amount, found.before)
    return Figures(found.spent + line.amount, found.held, found.before)


def open_for(lines: Sequence[Line]) -> float:
    """Returns the seconds for which a hold of *lines* may wait to be settled, repetitions included."""
    return max([line.keeps for line in lines], default=0.0) + REPEATS


def quota_unavailable(detail: str) -> QuotaUnavailable:
    """Returns the error of counters that do not answer."""
    return QuotaUnavailable("The gateway cannot check your quota right now; try again later.", detail=detail)
