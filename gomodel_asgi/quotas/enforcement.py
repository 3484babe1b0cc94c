"""The quotas of one gateway at work: what the pipeline asks of them for each request."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import anyio
from msgspec.structs import replace as changed

from ..errors import QuotaUnavailable, StoreUnavailable
from ..exchange.job import Job
from ..exchange.reply import Reply
from ..history.records import Records
from ..observers import Context, Observers, QuotaChecked, Trace, Usage, Warned
from ..providers.provider import Provider
from ..routing.target import Target
from ..seams.counters import Counters, Figures, Line, Reserved
from ..seams.store import Store, is_shared
from .available import AvailableCounters
from .estimate import Estimate, estimates_of
from .memory import MemoryCounters
from .prices import Prices, warn_of_unpriced
from .quota import MOST, Left, Quota
from .quotas import Quotas
from .refusal import Part, QuotaStatus, headers, left_of, refusal
from .rules import Keys
from .settlement import Hold, Pending, Reservation, Settlement, response_id_of, unpacked
from .windows import admits_at, window

SLOTS = 6
"""Slots of time that a request may take in all: what a process that died has held is free after one more."""
TIMEOUT = 0.25
"""Seconds that counters of the host's own have to answer; ours say it themselves."""
FAREWELL = 5.0
"""Seconds in which what is being booked may end when the gateway is closed."""

QuotasOf = Callable[[Any, str | None], Awaitable[tuple[str | None, tuple[Quota, ...]]]]


class Enforcement:
    """*quotas* for one gateway, which keeps what it must remember in *records*. No request takes more than *total*
    seconds. *quotas_of* asks the rules for a scope and a tenant.

    :raises ValueError: the counters are those of one process, beside a *store* that several share.
    """

    def __init__(
        self,
        quotas: Quotas,
        store: Store,
        records: Records,
        *,
        total: float,
        observers: Observers,
        providers: Iterable[Provider],
        quotas_of: QuotasOf,
    ) -> None:
        counters = quotas.counters
        if not counters.shared and is_shared(store) and not getattr(counters, "per_process", False):
            raise ValueError(
                "counters: several processes may share this store, and each would count alone; give RedisCounters(...) "
                "or PostgresCounters(...), or MemoryCounters(per_process=True) if you want each to."
            )
        self.quotas = quotas
        self.rules = quotas.rules
        self.shadow = quotas.shadow
        self.keys = Keys(store)
        self.slot = total / SLOTS
        self.total = total
        self.observers = observers
        self.quotas_of = quotas_of
        self.counters: Counters = counters
        self.prices = Prices(quotas.price)
        immediate = type(counters) is MemoryCounters  # one made of it may do anything
        self.away: Container[str] = ()
        """What was reserved in this process, since the counters did not answer."""
        if not immediate:
            seconds = getattr(counters, "timeout", TIMEOUT)
            self.counters = available = AvailableCounters(
                counters, timeout=seconds, on_unavailable=quotas.on_unavailable, warn=self._warn
            )
            self.away = available.stand_in
        self.settlement = Settlement(
            self.counters, quotas.weights, self.prices, immediate=immediate, now=self._now, free=quotas.free
        )
        self.pending = Pending(records, self.settlement)
        if quotas.price is None:
            warn_of_unpriced(providers)

    def __repr__(self) -> str:
        return f"<Enforcement of {self.quotas!r}>"

    def _now(self) -> float:
        return self.quotas.clock().timestamp()

    def _warn(self, message: str) -> None:
        """Something went wrong that belongs to no exchange."""
        self.observers.notify(Warned(Context(0, ""), message=message))

    # Before a request is sent...

    async def reserve(self, job: Job, target: Target, quotas: tuple[Quota, ...]) -> None:
        """Reserves what *job* may use in all of *quotas*, or refuses it. What it holds is settled when its trace ends.

        :raises QuotaExceeded: there is no room in one of them.
        :raises QuotaUnavailable: the counters do not answer.
        :raises InvalidRequest: the most that it may use is not known.
        :raises LookupError: no price is known for it, or the policy named an unknown provider.
        """
        trace = job.trace
        assert trace is not None
        if not quotas:
            return
        estimates = await self._estimates(job, target, quotas)
        moment = self.quotas.clock()
        id, now = f"{random.getrandbits(128):032x}", moment.timestamp()
        parts = self._parts(job.request.tenant, quotas, moment, estimates)
        try:
            self._check_sizes(parts, estimates, now, trace)
            parts = [_clamped(part) for part in parts]
            reserved = await self.counters.reserve(id, [part.line for part in parts], now)
            if reserved.refused is not None:
                parts = await self._refused(id, parts, reserved, now, trace)
        except QuotaUnavailable:
            self._report(trace, parts, None, "unavailable")
            raise
        held = _held(id, parts, target.model if target.model is not None else job.request.model)
        headers = self._headers(parts, reserved.figures, now) if reserved.refused is None else []
        job.hold = Hold(self.settlement, trace, held, headers)
        if reserved.refused is None:
            self._report(trace, parts, reserved.figures, "unavailable" if id in self.away else "admitted")

    async def _estimates(self, job: Job, target: Target, quotas: Iterable[Quota]) -> list[Estimate]:
        """Returns what *job* may use of each Target, where one of *quotas* counts it."""
        counted = False
        for quota in quotas:
            counted = counted or quota.tokens is not None or quota.money is not None
            if quota.money is not None:
                await self.prices.ready()
        if not counted:
            return []
        return await estimates_of(job, target, None if self.quotas.worst else self.quotas.expected_output)

    def _parts(
        self, tenant: str | None, quotas: Iterable[Quota], moment: datetime, estimates: Sequence[Estimate] | None
    ) -> list[Part]:
        """Each unit of *quotas*, with what *estimates* count of it; None: nothing is to be counted."""
        now = moment.timestamp()
        slot = int(now // self.slot)
        amounts = {} if estimates is not None else {"requests": 0, "tokens": 0, "money": 0}
        parts = []
        for quota in quotas:
            stretch = window(quota.per, moment, self.quotas.zone, self.quotas.week_starts)
            for unit, limit in quota.limits():
                if unit not in amounts:
                    amounts[unit] = self._amount(unit, estimates or (), now)
                key = self.keys.of(tenant, quota, unit)
                held = unit != "requests"
                line = Line(key, stretch, limit, amounts[unit], held, slot, slot - SLOTS, self.total)
                parts.append(Part(quota, unit, line))
        return parts

    def _amount(self, unit: str, estimates: Sequence[Estimate], now: float, *, firm: bool = False) -> int:
        """Returns what the dearest of *estimates* may use of *unit*; (*firm*) as far as that is not a guess."""
        if unit == "requests":
            return 1
        if unit == "tokens":
            return max(self.quotas.weights.tokens(one.firm if firm else one.usage) for one in estimates)
        return max(self._cost(one, one.firm if firm else one.usage, now) for one in estimates)

    def _cost(self, one: Estimate, usage: Usage, now: float) -> int:
        """Returns what *usage* may cost, in millionths of a US dollar.

        :raises LookupError: no price is known, and the host has not said that such a model is free.
        """
        cost = self.prices.guess(one, usage, now)
        if cost is not None:
            return cost
        if self.quotas.free or self.shadow:
            return 0
        raise LookupError(
            f"No price is known for the model {one.model!r} at the provider type {one.type!r}, which a quota of money "
            "needs: give Quotas(price=...) a function that knows it, or say on_unknown='free'."
        )

    def _check_sizes(self, parts: Sequence[Part], estimates: Sequence[Estimate], now: float, trace: Trace) -> None:
        """Refuses what is larger than a whole limit, and not by a guess alone.

        :raises QuotaExceeded: it never has room.
        """
        if self.shadow:
            return
        for part in parts:
            limit, unit = part.line.limit, part.unit
            if part.line.amount <= limit:
                continue
            amount = self._amount(unit, estimates, now, firm=True)
            if amount > limit or not limit:
                part = changed(part, line=changed(part.line, amount=max(amount, 1)))
                self._report(trace, [part], None, "refused")
                raise refusal(QuotaStatus(part, Figures(0, 0), 0.0), [])

    async def _refused(self, id: str, parts: list[Part], reserved: Reserved, now: float, trace: Trace) -> list[Part]:
        """The request has no room in one of *parts*; in the shadow it is counted all the same.

        :raises QuotaExceeded: elsewhere.
        """
        full = self._full(parts, reserved.figures, now)
        if not self.shadow:
            self._report(trace, [full.part], [full.figures], "refused")
            raise refusal(full, self._headers(parts, reserved.figures, now, full))
        self._report(trace, [full.part], [full.figures], "shadow")
        parts = [changed(part, line=changed(part.line, limit=MOST)) for part in parts]
        await self.counters.reserve(id, [part.line for part in parts], now)
        return parts

    def _full(self, parts: Sequence[Part], figures: Sequence[Figures], now: float) -> QuotaStatus:
        """Of the parts that have no room the one that has some last."""
        full = [
            QuotaStatus(part, one, self._seconds(part.line, one, now))
            for part, one in zip(parts, figures, strict=True)
            if one.spent + one.held + part.line.amount > part.line.limit
        ]
        return max(full, key=lambda status: status.seconds)

    def _seconds(self, line: Line, figures: Figures, now: float) -> float:
        """In how many seconds *line* has room if nothing else comes. What is held is free by then at the latest when
        its slot no longer counts."""
        at = admits_at(line, figures)
        seconds = math.inf if at is None else at - now
        if figures.spent + line.amount <= line.limit:
            seconds = min(seconds, (line.slot + SLOTS + 1) * self.slot - now)
        return max(0.0, round(seconds, 6))  # times of today are doubles of less than a microsecond

    def _headers(
        self, parts: Sequence[Part], figures: Sequence[Figures], now: float, full: QuotaStatus | None = None
    ) -> list[tuple[bytes, bytes]]:
        if not self.quotas.headers or self.shadow:
            return []
        return headers([
            full if full is not None and part is full.part else QuotaStatus(part, one, part.line.window.ends - now)
            for part, one in zip(parts, figures, strict=True)
        ])  # fmt: skip

    def _report(self, trace: Trace, parts: Iterable[Part], figures: Sequence[Figures] | None, outcome: Any) -> None:
        if not self.observers:
            return
        for number, part in enumerate(parts):
            spent, held = (0, 0) if figures is None else (figures[number].spent, figures[number].held)
            self.observers.notify(
                QuotaChecked(
                    trace.context, name=part.quota.name, unit=part.unit, outcome=outcome,
                    spent=spent, held=held, limit=part.line.limit,
                )
            )  # fmt: skip

    # What is worked on elsewhere...

    async def note_background(self, job: Job, reply: Reply) -> None:
        """Books the estimate of *job*, which an upstream works on in the background, until its end is seen.

        The end may show in this exchange, or in one that looks the response up: call `note_lookup` for those.
        """
        hold, trace = job.hold, job.trace
        id = response_id_of(reply)
        if not isinstance(hold, Hold) or hold.reservation is None or trace is None or id is None:
            return
        hold.hand_over()
        held = hold.reservation
        with anyio.CancelScope(shield=True):
            try:
                await self.counters.settle(held.id, held.lines, held.amounts, self._now())
                await self.pending.remember(job.request.tenant, id, held)
            except (QuotaUnavailable, StoreUnavailable) as error:
                job.warn([f"quotas: the estimate for a background response stays: {error.detail or error.message}"])
        self.note_lookup(job)

    def note_lookup(self, job: Job) -> None:
        """Has the reply to *job* looked at for the end of a background response."""
        if job.trace is not None:
            job.trace.ending.append(partial(self.pending.seen, job.request.tenant))

    def resume(self, packed: bytes, trace: Trace) -> None:
        """The exchange of *trace* works on what another one has reserved (`Hold.packed`), and settles it."""
        reservation = unpacked(packed) if packed else None
        if reservation is not None:
            Hold(self.settlement, trace, reservation, [])

    def orphaned(self, packed: bytes, *, begun: bool) -> None:
        """Nobody works any more on what has been reserved (*packed*): where that had *begun*, all of it is booked."""
        reservation = unpacked(packed) if packed else None
        if reservation is not None:
            if begun:
                self.settlement.book(reservation, reservation.amounts)
            else:
                self.settlement.release(reservation)

    # For the host...

    async def left(self, *, scope: Any = None, tenant: str | None = None) -> tuple[Left, ...]:
        """Returns what is left in the quotas that a request of *tenant* would count in, or of whoever *scope* says.

        :raises GatewayError: the rules refused, failed or took too long, or the counters do not answer.
        """
        tenant, quotas = await self.quotas_of(scope, tenant)
        moment = self.quotas.clock()
        parts = self._parts(tenant, quotas, moment, None)
        if not parts:
            return ()
        figures = await self.counters.figures([part.line for part in parts], moment.timestamp())
        return tuple(map(left_of, parts, figures))

    # Life...

    async def flush(self) -> None:
        """Waits until what has ended is booked, at most `FAREWELL` seconds."""
        await self.settlement.tasks.aclose(FAREWELL)

    async def aclose(self) -> None:
        """Books what has ended, then closes what this event loop has open of the counters."""
        await self.flush()
        await self.counters.aclose()


def _held(id: str, parts: Sequence[Part], model: str | None) -> Reservation | None:
    """Returns what of *parts* is held, if anything is."""
    holding = [part for part in parts if part.line.holds]
    if not holding:
        return None
    return Reservation(id, tuple(part.unit for part in holding), tuple(part.line for part in holding), model)


def _clamped(part: Part) -> Part:
    """*part*, which wants more than the whole limit by a guess alone, with all of it."""
    line = part.line
    return part if line.amount <= line.limit else changed(part, line=changed(line, amount=line.limit))
