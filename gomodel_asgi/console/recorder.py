"""What the console remembers: the last exchanges of this process, those under way, and figures of the last half hour.

An observer of the gateway's. Who may see what is decided where something is taken out.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from ..ledger import Row
from ..observers import (
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    CacheChecked,
    Completed,
    Context,
    CredentialRefused,
    Disconnected,
    Ended,
    FirstEvent,
    Guarded,
    KeepAliveLost,
    LedgerWritten,
    PolicyDecided,
    QuotaChecked,
    Record,
    RequestStarted,
    ToolCalled,
    Warned,
)
from .series import Series
from .view import View

KEPT = 500
"""Exchanges that are remembered."""
MOST_UNDER_WAY = 10_000
MOST_PARTS = 50
"""Attempts of an exchange that are remembered, and calls of tools, and notes."""
MOST_EVENTS = 100
MOST_BOOKED = 100
"""Rows that wait for the end of their exchange, which comes at once: unless the gateway is another one."""
MOST_VIEWS = 50
"""Sets of tenants for which figures are kept, as long as somebody looks at them."""
UNSEEN = 1800.0
"""Seconds after which nobody looks at them any more."""


SALT = os.urandom(8)


@lru_cache(maxsize=1)
def token_of(process: int) -> str:
    """Returns what identifies the exchanges of this *process*, apart from those of one that was forked too."""
    return hashlib.blake2b(SALT + str(process).encode(), digest_size=4).hexdigest()


class Note(Struct, frozen=True):
    """Something that happened to an exchange, in words."""

    kind: str
    text: str


class Event(Struct, frozen=True):
    """Something that happened to the gateway, and belongs to no exchange."""

    at: datetime
    kind: str
    text: str
    provider: str | None = None
    model: str | None = None


class Attempt(Struct):
    """One upstream that was asked."""

    started: AttemptStarted
    ended: AttemptEnded | None = None


class Exchange(Struct, eq=False):
    """One exchange, put together from its records. *serial* numbers those that have ended, 0 while it is under way."""

    context: Context
    started: datetime
    began: float
    request: RequestStarted | None = None
    decided: PolicyDecided | None = None
    first_event: float | None = None
    attempts: list[Attempt] = []
    tools: list[ToolCalled] = []
    notes: list[Note] = []
    ended: Ended | None = None
    row: Row | None = None
    """What the ledger has booked of it."""
    serial: int = 0
    shown: dict[str, Any] | None = None
    """What is shown of it in a table, once it has ended."""
    html: str | None = None


class Recorder:
    """Remembers the records that it is called with. *on_close* is called where the gateway is closed, *clock* gives
    seconds."""

    def __init__(
        self, on_close: Callable[[], Awaitable[None]] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.on_close = on_close
        self.clock = clock
        self.since = _now()
        self.exchanges: deque[Exchange] = deque(maxlen=KEPT)
        self.under_way: dict[int, Exchange] = {}
        self.events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self.booked: OrderedDict[UUID, Row] = OrderedDict()
        self.serial = 0
        self.whole = Series()
        self.parts: OrderedDict[frozenset[str | None], Series] = OrderedDict()
        self.handlers: dict[type[Record], Callable[[Any], None]] = {
            RequestStarted: self._started,
            PolicyDecided: self._decided,
            AttemptStarted: self._asked,
            AttemptEnded: self._answered,
            FirstEvent: self._first_event,
            ToolCalled: self._tool,
            Warned: self._warned,
            QuotaChecked: self._quota,
            CacheChecked: self._cache,
            Guarded: self._guarded,
            Completed: self._ended,
            Disconnected: self._ended,
            BreakerChanged: self._breaker,
            CredentialRefused: self._credential,
            KeepAliveLost: self._keepalive_lost,
            LedgerWritten: self._ledger,
        }

    def __call__(self, record: Record) -> None:
        handler = self.handlers.get(type(record))
        if handler is not None:
            handler(record)

    async def aclose(self) -> None:
        """The gateway is closed on this event loop."""
        if self.on_close is not None:
            await self.on_close()

    # What is taken out...

    @property
    def token(self) -> str:
        """What marks the exchanges of this process."""
        return token_of(os.getpid())

    def latest(self, view: View, after: int = 0) -> list[Exchange]:
        """Returns the exchanges that *view* shows and that ended behind the one with the serial *after*, newest
        first."""
        found: list[Exchange] = []
        for exchange in reversed(tuple(self.exchanges)):
            if exchange.serial <= after:
                break
            if view.shows(exchange.context.tenant):
                found.append(exchange)
        return found

    def running(self, view: View) -> list[Exchange]:
        """Returns the exchanges under way that *view* shows, oldest first."""
        return [one for one in tuple(self.under_way.values()) if view.shows(one.context.tenant)]

    def find(self, view: View, id: str) -> Exchange | None:
        """Returns the newest exchange that *view* shows and that has this id, or request id, or response id."""
        for exchange in (*reversed(self.running(view)), *self.latest(view)):
            ended = exchange.ended
            known = (self.id_of(exchange), exchange.context.request_id, None if ended is None else ended.response_id)
            if id in known:
                return exchange
        return None

    def id_of(self, exchange: Exchange) -> str:
        """Returns the id of the exchange's row in the ledger, or one that no other process gives."""
        context = exchange.context
        return f"{self.token}-{context.exchange}" if context.row is None else str(context.row)

    def series(self, view: View) -> Series:
        """Returns the figures of what *view* shows."""
        tenants, now = view.named, self.clock()
        if tenants is None:
            return self.whole
        found = self.parts.get(tenants)
        if found is None:
            found = self.parts[tenants] = Series()
            for exchange in reversed(self.latest(view)):
                if exchange.ended is not None:
                    found.ended(exchange.began, exchange.ended)
                for call in exchange.tools:
                    found.called(call)
        found.looked_at = now
        self.parts.move_to_end(tenants)
        while len(self.parts) > MOST_VIEWS or next(iter(self.parts.values())).looked_at < now - UNSEEN:
            self.parts.popitem(last=False)
        return found

    # What comes in...

    def book(self, row: Row) -> None:
        """The ledger has booked *row*."""
        self.booked[row.id] = row
        if len(self.booked) > MOST_BOOKED:
            self.booked.popitem(last=False)

    def _open(self, context: Context) -> Exchange:
        """Returns the exchange of *context*, which has just begun, or of which only the end is recorded."""
        return Exchange(context, _now(), self.clock())

    def _known(self, record: Record) -> Exchange | None:
        """Returns the exchange of *record* while it is under way. What comes behind its end opens it no second time."""
        found = self.under_way.get(record.context.exchange)
        if found is not None:
            found.context = record.context
        return found

    def _started(self, record: RequestStarted) -> None:
        found = self.under_way[record.context.exchange] = self._open(record.context)
        found.request = record
        if len(self.under_way) > MOST_UNDER_WAY:
            self.under_way.pop(next(iter(self.under_way)))

    def _decided(self, record: PolicyDecided) -> None:
        if (found := self._known(record)) is not None:
            found.decided = record

    def _asked(self, record: AttemptStarted) -> None:
        found = self._known(record)
        if found is not None and len(found.attempts) < MOST_PARTS:
            found.attempts.append(Attempt(record))

    def _answered(self, record: AttemptEnded) -> None:
        found = self._known(record)
        for attempt in () if found is None else reversed(found.attempts):
            if attempt.started.number == record.number:
                attempt.ended = record
                return

    def _first_event(self, record: FirstEvent) -> None:
        if (found := self._known(record)) is not None:
            found.first_event = record.seconds

    def _tool(self, record: ToolCalled) -> None:
        found = self._known(record)
        if found is not None and len(found.tools) < MOST_PARTS:
            found.tools.append(record)
        for series in self._counting(record):
            series.called(record)

    def _warned(self, record: Warned) -> None:
        if record.context.exchange:
            self._note(record, "warning", record.message)
        else:
            self._happened(record, "warning", record.message)

    def _quota(self, record: QuotaChecked) -> None:
        if record.outcome != "admitted":
            self._note(record, "quota", f"{record.name} ({record.unit}): {record.outcome}")

    def _cache(self, record: CacheChecked) -> None:
        self._note(record, "cache", f"hit, {record.age:.0f} s old" if record.result == "hit" else record.result)

    def _guarded(self, record: Guarded) -> None:
        noted = f", noted {', '.join(record.noted)}" if record.noted else ""
        self._note(record, "guard", f"{record.guard} on {record.stage}: {record.verdict}, {record.count} texts{noted}")

    def _note(self, record: Record, kind: str, text: str) -> None:
        found = self._known(record) or self._over(record.context.exchange)
        if found is not None and len(found.notes) < MOST_PARTS:
            found.notes.append(Note(kind, text))

    def _over(self, number: int) -> Exchange | None:
        """Returns the exchange of this number, which has ended: something may still go wrong behind it."""
        return next((one for one in reversed(tuple(self.exchanges)) if one.context.exchange == number), None)

    def _ended(self, record: Ended) -> None:
        exchange = self._known(record) or self._open(record.context)
        self.under_way.pop(record.context.exchange, None)
        if exchange.request is None:
            exchange.started -= timedelta(seconds=record.seconds)
        exchange.ended = replace(record, raw_usage=None)
        if record.context.row is not None:
            exchange.row = self.booked.pop(record.context.row, None)
        for series in self._counting(record):
            series.ended(exchange.began, record)
        self.serial += 1
        exchange.serial = self.serial
        self.exchanges.append(exchange)

    def _counting(self, record: Record) -> list[Series]:
        """Returns the figures that *record* counts in."""
        return [self.whole, *(one for tenants, one in tuple(self.parts.items()) if record.tenant in tenants)]

    # What belongs to no exchange...

    def _breaker(self, record: BreakerChanged) -> None:
        self._happened(record, "breaker", f"{record.was} → {record.now}")

    def _credential(self, record: CredentialRefused) -> None:
        whose = "that a Target brought" if record.brought else "of the provider"
        self._happened(record, "credential", f"the credential {record.fingerprint} {whose} was refused")

    def _keepalive_lost(self, record: KeepAliveLost) -> None:
        text = f"{record.origin} sent bytes behind a reply: no connection is used twice for {record.seconds:.0f} s"
        self._happened(record, "keep-alive", text)

    def _ledger(self, record: LedgerWritten) -> None:
        if record.result != "written":
            self._happened(record, "ledger", f"{record.rows} rows {record.result}")

    def _happened(self, record: Record, kind: str, text: str) -> None:
        self.events.append(Event(_now(), kind, text, record.provider, record.target_model))


def _now() -> datetime:
    return datetime.now(UTC)
