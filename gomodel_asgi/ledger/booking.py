"""One exchange on its way into the ledger: drawn up when it begins, booked when its trace ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace
from starlette.types import Scope

from ..observers import Ended, Trace
from ..observers.answer import UNREADABLE, Answer
from ..observers.records import Completed, Context, Disconnected
from ..observers.usage import Charge
from ..operations import ROWS
from ..routing.request import identity
from ..wire.json_body import Envelope
from .content import Content
from .row import Attempt, Entry, Kept, Kind, Row, at_time, name_of, new_id, now, settled_id, tokens, total
from .writer import Writer

BACKGROUND = re.compile(rb'"background"\s*:\s*true')
UNDER_WAY = ("queued", "in_progress")
LATEST = 2.0**32
"""Seconds since 1970: what an upstream dates later is no time at which it has begun."""


class Books(Protocol):
    """What a booking asks of its ledger."""

    content: Content | None

    def cost(self, charge: Charge) -> Decimal | None:
        """Returns what *charge* cost, None where that is not known."""
        ...

    def price_list(self) -> str | None:
        """Returns the price list that the costs come from."""
        ...

    def book(self, writer: Writer, entry: Entry) -> None:
        """Takes *entry*."""
        ...


class Behind(msgspec.Struct):
    """What a response says of work in the background."""

    id: str
    status: str
    created_at: float
    background: bool


_behind = msgspec.json.Decoder(Behind).decode


class Booking:
    """One exchange, from its beginning. *writer* is that of the loop that it began on."""

    __slots__ = ("books", "envelope", "id", "kind", "life", "scope", "started", "writer")

    def __init__(self, books: Books, writer: Writer, scope: Scope | None, kind: Kind) -> None:
        self.books = books
        self.writer = writer
        self.scope = scope
        self.kind = kind
        self.started = now()
        self.id = new_id(self.started)
        self.life: timedelta | None = None
        """How long what is said is kept; None: not at all."""
        self.envelope: Envelope | None = None

    def keep(self, envelope: Envelope, life: timedelta) -> None:
        """What is said is to be kept for so long."""
        self.envelope, self.life = envelope, life

    def opened(self, trace: Trace) -> Row:
        """Returns the row of an exchange of which nothing more is known than that it began."""
        return Row(id=self.id, kind=self.kind, started=self.started, **self._who(trace.context))

    def __call__(self, trace: Trace, ended: Ended) -> None:
        """Books it: its trace has ended."""
        charges, behind = list(ended.charges), _background(trace)
        if behind is not None and self.kind == "exchange":
            answer = trace.answer()
            charges = self._settled(trace, ended, charges, answer, behind)
        row = self._row(trace, ended, charges)
        self.books.book(self.writer, Entry(row, self._content(trace, row)))

    def _settled(
        self, trace: Trace, ended: Ended, charges: list[Charge], answer: Answer, behind: Behind
    ) -> list[Charge]:
        """Books what the upstream has used in the background, once that is known, in a row of its own, which is the
        same whichever request sees it: the *charges* that are left."""
        last = trace.attempts[-1]
        if answer.usage is not None and behind.status not in UNDER_WAY:
            charge = replace(last.charge(answer.usage), served_model=answer.model, service_tier=answer.service_tier)
            row = self._row(trace, ended, [charge])
            tenant, created = row.tenant, at_time(behind.created_at)
            row = replace(
                row,
                id=settled_id(created, tenant, behind.id),
                kind="settled",
                started=created,
                seconds=0.0,
                first_event=None,
                outcome=answer.status or "completed",
                attempts=tuple(one for one in row.attempts if one.usage is not None),
            )
            self.books.book(self.writer, Entry(row))
        return [charge for charge in charges if charge.number != last.number]

    def _row(self, trace: Trace, ended: Ended, charges: Sequence[Charge]) -> Row:
        used = {charge.number: charge for charge in charges}
        costs = {number: self.books.cost(charge) for number, charge in used.items()}
        attempts = tuple(
            Attempt(
                provider=step.provider,
                model=step.target_model or (used[step.number].served_model if step.number in used else None),
                status=step.status,
                code=step.error,
                seconds=round(step.seconds, 6),
                usage=used[step.number].usage if step.number in used else None,
                cost=costs.get(step.number),
                kind=step.kind,
            )
            for step in trace.attempts
        )
        return Row(
            id=self.id,
            kind=self.kind,
            started=self.started,
            seconds=round(ended.seconds, 6),
            first_event=None if ended.first_event is None else round(ended.first_event, 6),
            response_id=ended.response_id,
            outcome=_outcome(ended),
            status=ended.status,
            error_code=ended.error,
            attempts=attempts,
            cost=total(costs.values()),
            cached=ended.cached,
            price_list=self.books.price_list() if used else None,
            tier=ended.service_tier,
            quota=getattr(trace.error, "quota", None),
            **tokens([charge.usage for charge in charges]),
            **self._who(ended.context),
        )

    def _who(self, context: Context) -> dict[str, Any]:
        """Returns the columns that say who asked whom for what."""
        return {
            "request_id": context.request_id,
            "tenant": name_of(context.tenant),
            "principal": self._principal(),
            "labels": {name_of(name) or "": name_of(str(value)) or "" for name, value in context.labels.items()},
            "operation": context.operation,
            "stream": context.stream,
            "model_asked": context.model,
            "model_target": context.target_model,
            "model_served": context.served_model,
            "provider": context.provider,
        }

    def _principal(self) -> str | None:
        """Returns the authenticated user's id, None where the host has put none that has one."""
        user = None if self.scope is None else self.scope.get("user")
        if user is None:
            return None
        try:
            return name_of(identity(user))
        except Exception:  # the host's own code; the tenant's look-up reports it
            return None

    def _content(self, trace: Trace, row: Row) -> Kept | None:
        content, life, envelope = self.books.content, self.life, self.envelope
        if content is None or life is None or envelope is None:
            return None
        secrets = tuple(secret for step in trace.attempts for secret in step.secrets)
        return content.kept(row.id, row.tenant, row.started + life, envelope, _final(trace), secrets)


def booking_of(trace: Trace) -> Booking | None:
    """Returns the booking of the exchange of *trace*."""
    return next((one for one in trace.ending if isinstance(one, Booking)), None)


def _outcome(ended: Ended) -> str:
    if isinstance(ended, Completed):
        return ended.outcome
    return ended.reason if isinstance(ended, Disconnected) else "failed"


def _final(trace: Trace) -> bytes | None:
    """Returns the last response object of *trace*."""
    if trace.source is None:
        return trace.body
    try:
        return trace.source.final()
    except UNREADABLE:
        return None


def _background(trace: Trace) -> Behind | None:
    """Returns what an upstream's answer says of its work in the background; None where there is none."""
    if not trace.attempts or (final := _final(trace)) is None:
        return None
    at = final.find(b'"background"')
    if at < 0 or BACKGROUND.search(final, at) is None:
        return None
    try:
        found = _behind(final)
    except UNREADABLE:
        return None
    return found if found.background and 0 < found.created_at < LATEST else None


def spends(operation: str) -> bool:
    """Returns whether *operation* costs money."""
    row = ROWS.get(operation)  # type: ignore[call-overload]
    return row is not None and row.billed
