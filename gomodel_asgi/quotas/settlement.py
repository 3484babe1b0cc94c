"""What a request holds of its quotas, and how it is settled: once, off the client's way, whatever became of it.

    reserved ──the exchange ends──► booked: what its attempts have used, each at its own model; nothing where none did
        ├─ handed over ──► a worker in the background settles it with its own end, or whoever finds that it never will
        └─ pending ──► an upstream works on it in the background: the estimate is booked, the first end that is seen
                       corrects it (`native.py`)

The engine settles a hold once, however often it is asked to (`seams/counters.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from msgspec import Struct

from ..logs import log
from ..observers import Charge, Ended, Trace
from ..seams.counters import Counters, Line
from ..tasks import Tasks
from ..wire.headers import Headers
from .estimate import Weights
from .prices import Prices
from .quota import Unit

encode = msgspec.msgpack.Encoder().encode


class Reservation(Struct, frozen=True):
    """What one request holds: the *lines* that do, and what each of them counts. *model* is the one that was asked for;
    a price may be known of it where none is of what the upstream calls it."""

    id: str
    units: tuple[Unit, ...]
    lines: tuple[Line, ...]
    model: str | None = None

    @property
    def amounts(self) -> list[int]:
        """Returns what is reserved of each line, in its unit."""
        return [line.amount for line in self.lines]

    def packed(self) -> bytes:
        """It as bytes, for `unpacked`."""
        return encode(self)


_decode = msgspec.msgpack.Decoder(Reservation).decode


def unpacked(data: bytes) -> Reservation | None:
    """The reservation that *data* holds; None where that cannot be read."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Settlement:
    """Books reservations in *counters*, by *weights* and *prices*. *immediate* says that the counters never wait."""

    def __init__(
        self,
        counters: Counters,
        weights: Weights,
        prices: Prices,
        *,
        immediate: bool,
        now: Callable[[], float],
        free: bool,
    ) -> None:
        self.counters = counters
        self.weights = weights
        self.prices = prices
        self.immediate = immediate
        self.now = now
        self.free = free
        """Whether what has no known price costs nothing."""
        self.tasks = Tasks()

    def ended(self, reservation: Reservation, trace: Trace, ended: Ended) -> None:
        """Settles the exchange, which is over."""
        self.book(reservation, self.used(reservation, ended.charges))

    def used(self, reservation: Reservation, charges: Sequence[Charge]) -> list[int]:
        """What *charges* are in the units of *reservation*. Where a price is not known, what was reserved."""
        counted: dict[Unit, int] = {"tokens": sum(self.weights.tokens(charge.usage) for charge in charges)}
        if "money" in reservation.units:
            counted["money"] = self._money(reservation, charges)
        return [counted[unit] for unit in reservation.units]

    def _money(self, reservation: Reservation, charges: Sequence[Charge]) -> int:
        reserved = max(line.amount for line, unit in _pairs(reservation) if unit == "money")
        try:
            cost = self.prices.cost(charges)
        except Exception as error:  # a price function of the host's: its text may quote anything
            log("price_failed", error=_name(error))
            return reserved
        if cost is not None:
            return cost
        if self.free:
            return 0
        log("price_unknown")
        return reserved

    def book(self, reservation: Reservation, amounts: Sequence[int]) -> None:
        """Releases what *reservation* holds and books *amounts*, beside everything else."""
        work = partial(self.counters.settle, reservation.id, reservation.lines, amounts, self.now())
        self.do(work)

    def release(self, reservation: Reservation | None) -> None:
        """Releases what *reservation* holds: nothing was used."""
        if reservation is not None:
            self.book(reservation, [0] * len(reservation.lines))

    def do(self, work: Callable[[], Awaitable[object]]) -> None:
        """Does *work* here if that takes no time, else in a task of its own, which outlives the request."""
        if self.immediate:
            run_at_once(work)
        else:
            self.tasks.spawn(work)


class Hold:
    """A *reservation* that the exchange of *trace* settles when it ends, until somebody else does. *headers* are those
    of its reply."""

    def __init__(self, settlement: Settlement, trace: Trace, reservation: Reservation | None, headers: Headers) -> None:
        self.settlement = settlement
        self.trace = trace
        self.reservation = reservation
        self.headers = headers
        self.end: Callable[[Trace, Ended], None] | None = None
        if reservation is not None:
            self.end = partial(settlement.ended, reservation)
            trace.ending.append(self.end)

    def packed(self) -> bytes:
        """What another process needs to settle it; empty where nothing is held."""
        return b"" if self.reservation is None else self.reservation.packed()

    def hand_over(self) -> None:
        """Leaves the settlement to whoever has the hold `packed`."""
        if self.end is not None and self.end in self.trace.ending:
            self.trace.ending.remove(self.end)


def run_at_once(work: Callable[[], Awaitable[object]]) -> None:
    """Does *work*, which never waits.

    :raises RuntimeError: it waited.
    """
    steps = work().__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise RuntimeError("Counters that say they are immediate have waited.")


def _pairs(reservation: Reservation) -> zip[tuple[Line, Unit]]:
    return zip(reservation.lines, reservation.units, strict=True)


def _name(error: Exception) -> str:
    return type(error).__name__
