"""What a request holds of its quotas, and how it is settled: once, off the client's way, whatever became of it.

    reserved ──the exchange ends──► booked: what its attempts have used, each at its own model; nothing where none did
        ├─ handed over ──► a worker in the background settles it with its own end, or whoever finds that it never will
        └─ pending ──► an upstream works on it in the background: the estimate is booked, the first end that is seen
                       corrects it

The engine settles a hold once, however often it is called (`seams/counters.py`).

What is pending is remembered under the response's id. The first terminal answer that goes by (retrieve, its events,
cancel) books the difference: once, also where two workers see one at the same moment. A correction for a window that
has ended changes nothing, since nothing counts it any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..errors import StoreUnavailable
from ..exchange.reply import Reply
from ..history.records import SETTLEMENTS, Records
from ..history.replies import response_in
from ..logs import log
from ..observers import Charge, Ended, Trace
from ..seams.counters import Counters, Line
from ..stores.shared import available
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
    """Returns the reservation that *data* holds; None where that cannot be read."""
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
        """Returns what *charges* are in the units of *reservation*. Where a price is not known, what was reserved."""
        counted: dict[Unit, int] = {"tokens": sum(self.weights.tokens(charge.usage) for charge in charges)}
        if "money" in reservation.units:
            counted["money"] = self._money(reservation, charges)
        return [counted[unit] for unit in reservation.units]

    def _money(self, reservation: Reservation, charges: Sequence[Charge]) -> int:
        amounts = zip(reservation.units, reservation.amounts, strict=True)
        reserved = max(amount for unit, amount in amounts if unit == "money")
        try:
            cost = self.prices.cost(charges)
        except Exception as error:  # a price function of the host's: its text may quote anything
            log("price_failed", error=type(error).__name__)
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
        """Returns what another process needs to settle it; empty where nothing is held."""
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


# What upstreams work on in the background...


ENDS = frozenset({"completed", "incomplete", "failed", "cancelled"})
MARK = b"1"


class Named(Struct):
    """The member of a response that names it."""

    id: str | None = None


def response_id_of(reply: Reply) -> str | None:
    """Returns the id of the response that *reply* is, as far as it has been read."""
    if reply.stream is not None:
        return reply.stream.reader.response_id
    if reply.response_id is not None or reply.body is None:
        return reply.response_id
    response = response_in(reply.body)
    try:
        return None if response is None else msgspec.json.decode(response, type=Named).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Pending:
    """The responses that upstreams work on, in *records*."""

    def __init__(self, records: Records, settlement: Settlement) -> None:
        self.records = records
        self.settlement = settlement

    async def remember(self, tenant: str | None, id: str, reservation: Reservation) -> None:
        """Remembers that *reservation* was booked for the response *id* as it had been estimated.

        :raises StoreUnavailable: the store does not answer: the estimate stays.
        """
        await available(partial(self._put, tenant, id, reservation))

    async def _put(self, tenant: str | None, id: str, reservation: Reservation) -> None:
        key = await self.records.tenancy.key(tenant, id)
        await self.records.store.put(SETTLEMENTS, key, reservation.packed())

    def seen(self, tenant: str | None, trace: Trace, ended: Ended) -> None:
        """An exchange has ended in which a response went by."""
        answer, context = trace.answer(), ended.context
        if answer.response_id is None or answer.status not in ENDS or context.provider is None:
            return
        if answer.usage is None and answer.status != "failed":
            return  # cancelled, and who knows when: the estimate stays
        charges: list[Charge] = []
        if answer.usage is not None:
            provider, type, tier = context.provider, context.provider_type, answer.service_tier
            charges.append(Charge(0, provider, type, None, answer.model, tier, answer.usage))
        self.settlement.tasks.spawn(partial(self._corrected, tenant, answer.response_id, charges, trace))

    async def _corrected(self, tenant: str | None, id: str, charges: list[Charge], trace: Trace) -> None:
        try:
            await available(partial(self._correct, tenant, id, charges))
        except StoreUnavailable as error:
            trace.warn(f"quotas: the estimate for a background response stays: {error.detail or error.message}")

    async def _correct(self, tenant: str | None, id: str, charges: list[Charge]) -> None:
        store, tenancy = self.records.store, self.records.tenancy
        key = await tenancy.key(tenant, id)
        record = await store.get(SETTLEMENTS, key)
        reservation = None if record is None else unpacked(record.value)
        if reservation is None:
            return
        claimed = await tenancy.key(tenant, f"{id}/settled")
        if store.atomic and await store.add(SETTLEMENTS, claimed, MARK) is None:
            return
        if not await store.delete(SETTLEMENTS, key) and not store.atomic:
            return
        used = self.settlement.used(reservation, [replace(one, target_model=reservation.model) for one in charges])
        more = [one - booked for one, booked in zip(used, reservation.amounts, strict=True)]
        now = self.settlement.now()
        await self.settlement.counters.settle(f"{reservation.id}.end", reservation.lines, more, now)
