"""The ledger: a row for each exchange, in a place of the host's, written behind the requests."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

from starlette.types import Scope

from ..arguments import check_flags, check_function, check_instance, check_one_of, check_plain_functions, check_protocol
from ..deadline import DeadlineExceeded, within
from ..errors import LedgerUnavailable
from ..extras import to_install
from ..logs import log
from ..observers import Observers, Trace
from ..observers.records import Context, LedgerWritten
from ..observers.usage import Charge, Price, cost_of, price_list as prices
from ..routing.request import RoutingRequest
from ..settings import LITTLE
from ..threads import beside
from .booking import Booking, booking_of, spends
from .content import Content, Keep
from .row import PLACE, Costs, Daily, Entry, Kind, Row, Selection, aware, name_of, rounded
from .sink import ReadFailed, Sink
from .spill import Spill
from .writer import Result, Writer, Writers

AUDIT = 5.0
"""Seconds that a request waits for its open row."""
KEEPING = 10.0
"""Seconds that the host's function has to say whether to keep what is said."""
FLUSH = 10.0
"""Seconds in which a gateway that closes brings its rows to the sink, before they go into the spill."""
PAGE = 2.0
"""Seconds that what a page shows may take."""
QUERY = 0.75
"""The part of them that the database is given: it stops the query itself, and keeps its connection."""
T = TypeVar("T")


class Ledger:
    """Keeps a row of every exchange in *sink*: `JsonLines`, `SqlLedger`, `DjangoLedger`. Refused and failed ones have
    theirs, each turn on a WebSocket, each `respond()`, and what is used in the background one more.

    Rows are written behind the requests, which never wait for them. While the sink is away they wait in memory, 10,000
    for each event loop, or lie in the file *spill*, up to 1 GiB; both full, they are dropped and counted in `dropped`
    (*on_full* "drop"), or requests that cost money are refused with 503 `ledger_unavailable` ("refuse"). With *audit*
    each request waits until its row, still open, is in the sink or the spill, before an upstream is asked: for 5 s, and
    is then refused or not as *on_full* says. *content* keeps what is said too, for the requests that it names: a
    function, or a `Content`. *price* is a function of provider type, model and usage that returns US dollars or None
    (by default the price list of the extra `prices`).

    :raises ValueError: *on_full* is neither of the two, or the directory of *spill* is not there.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        content: Content | Keep | None = None,
        audit: bool = False,
        spill: str | os.PathLike[str] | None = None,
        on_full: Literal["drop", "refuse"] = "drop",
        price: Price | None = None,
    ) -> None:
        check_protocol("sink", sink, Sink, "a sink, such as JsonLines(...), SqlLedger(...) or DjangoLedger()")
        if content is not None and not isinstance(content, Content):
            check_function("content", content, "a function of the request, or Content(...)")
        check_flags(audit=audit)
        check_one_of("on_full", on_full, ("drop", "refuse"))
        check_plain_functions(price=price)
        self.sink = sink
        self.content = content if content is None or isinstance(content, Content) else Content(content, key=None)
        self.audit = audit
        self.on_full = on_full
        self.price = price
        self.dropped = 0
        """How many rows were lost."""
        self.observers = Observers()
        self.listeners: tuple[Callable[[Row], object], ...] = ()
        """Called with each row as it is booked, before observers hear that its exchange has ended."""
        self.writers = Writers(sink, _spill(spill), self._tell)
        self._has_failed = self._has_prices = False

    def __repr__(self) -> str:
        return f"<Ledger {self.sink!r}>"

    # What the gateway does with it...

    def attach(self, observers: Observers, price: Price | None = None) -> None:
        """Reports to *observers* what becomes of rows; prices them by *price* where the ledger has none of its own."""
        self.observers = observers
        self.price = self.price or price
        if self.price is None and price_list() is None:
            log("ledger_unpriced", how=to_install("prices"))

    def listen(self, listener: Callable[[Row], object]) -> None:
        """Calls *listener* with each row as it is booked. It must not raise."""
        self.listeners = (*self.listeners, listener)

    def check(self) -> None:
        """The gateway starts on this event loop.

        :raises RuntimeError: the sink does not run on it.
        """
        self.writers.here()

    def begin(self, trace: Trace, scope: Scope | None, kind: Kind = "exchange") -> None:
        """Books that an exchange begins.

        :raises RuntimeError: the sink does not run on this event loop.
        """
        booking = Booking(self, self.writers.here(), scope, kind)
        trace.ending.append(booking)
        trace.know(row=booking.id)

    async def admit(self, trace: Trace, request: RoutingRequest) -> None:
        """The policy has let *request* in, and an upstream is about to be asked.

        :raises LedgerUnavailable: it could not be written down, and must be.
        """
        booking = booking_of(trace)
        if booking is None:
            return
        if not self._has_prices:
            await self._read_prices()
        if self.on_full == "refuse" and booking.writer.is_full and spends(request.operation):
            raise LedgerUnavailable()
        if self.content is not None:
            await self._keep_content(self.content, booking, request, trace.context.request_id)
        if self.audit:
            await self._opened(booking, trace)

    async def _read_prices(self) -> None:
        """Imports the price list before it is asked: on the loop that would hold up everybody."""
        if self.price is None and price_list() is not None:
            await beside(LITTLE + 1, prices)
        self._has_prices = True

    async def _keep_content(self, content: Content, booking: Booking, request: RoutingRequest, id: str) -> None:
        try:
            life = await within(KEEPING, content.life_of(request))
        except (Exception, DeadlineExceeded) as error:
            log("ledger_content_failed", request_id=id, error=type(error).__name__)
            return
        if life is not None:
            booking.keep(request.envelope, life)

    async def _opened(self, booking: Booking, trace: Trace) -> None:
        """Writes down that the request begins, before it is sent.

        :raises LedgerUnavailable: that was not possible, and without it nothing may be sent.
        """
        writer = booking.writer
        if not writer.is_full and await writer.settled(writer.add(Entry(booking.opened(trace))), AUDIT):
            return
        if self.on_full == "refuse":
            raise LedgerUnavailable()
        log("ledger_unwritten", request_id=trace.context.request_id)

    def book(self, writer: Writer, entry: Entry) -> None:
        """Takes *entry*. With "refuse" what has cost money is taken even beyond the bound: it is bounded by the
        requests that were under way."""
        for listener in self.listeners:
            listener(entry.row)
        if writer.is_full and not (self.on_full == "refuse" and spends(entry.row.operation)):
            self.dropped += 1
            if self.dropped == 1:
                log("ledger_dropping", waiting=len(writer.waiting))
            self._tell(1, "dropped")
            return
        writer.add(entry)

    def cost(self, charge: Charge) -> Decimal | None:
        """Returns what *charge* cost, rounded, None where that is not known."""
        try:
            return rounded(cost_of(charge, self.price))
        except ImportError:
            return None
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                log("ledger_price_failed", error=type(error).__name__)
            return None

    def price_list(self) -> str | None:
        """Returns the version of the price list, `host` for prices of the host's own."""
        return price_list() if self.price is None else "host"

    def _tell(self, rows: int, result: Result) -> None:
        if rows:
            self.observers.notify(LedgerWritten(Context(0, ""), rows=rows, result=result))

    # What the host does with it...

    async def spent(self, tenant: str | None, since: datetime) -> Decimal:
        """Returns what *tenant* has cost *since* (aware), in US dollars, as far as it is written (a second or so).
        Rows of unknown cost are not in it. Whole days come from the roll-up, so it stays right when rows are purged.

        :raises ValueError: *since* has no time zone.
        """
        return await self.sink.spent(name_of(tenant), aware(since))

    async def sums(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[str] = ("day", "tenant", "model"),
        tenants: Sequence[str | None] | None = None,
    ) -> list[Daily]:
        """Returns sums over the days (UTC) from *since* to the one before *until*, one for each combination of *by*:
        some of `day`, `tenant`, `provider`, `model`, `labels`. *tenants*: of these only.

        :raises ValueError: *by* names something else.
        """
        return await self.sink.sums(_selection(since, until, by, tenants))

    def rows(
        self, since: datetime, until: datetime, *, tenants: Sequence[str | None] | None = None
    ) -> AsyncGenerator[Row, None]:
        """Gives the rows that started in this time (aware), oldest first. *tenants*: of these only.

        :raises ValueError: a time has no zone.
        """
        return self.sink.rows(aware(since), aware(until), _names(tenants))

    async def costs(
        self,
        since: date,
        until: date,
        *,
        by: Sequence[str] = ("day",),
        tenants: Collection[str | None] | None = None,
        most: int = 500,
        seconds: float = PAGE,
    ) -> Costs:
        """Returns sums as `sums` does, but only the first *most*, beside the total of all: by day the youngest, then
        those that cost most. It is one query of the roll-up.

        :raises ValueError: *by* names something else, or *most* is less than 1.
        :raises ReadFailed: it took longer than so many *seconds*, or the sink is away.
        """
        if most < 1:
            raise ValueError("most: at least 1.")
        return await _read(seconds, self.sink.costs(_selection(since, until, by, tenants), most, QUERY * seconds))

    async def row(
        self, id: UUID, *, tenants: Collection[str | None] | None = None, seconds: float = PAGE
    ) -> Row | None:
        """Returns the row *id*; None if there is none. *tenants*: only if it is of one of these.

        :raises ReadFailed: it took longer than so many *seconds*, or the sink is away.
        """
        return await _read(seconds, self.sink.row(id, _names(tenants), QUERY * seconds))

    async def purge(self, before: datetime, batch: int = 5000, seconds: float = 30) -> int:
        """Deletes the rows that started *before* (aware), with their content, and all content that has expired: how
        many rows. It goes on in batches until nothing is left or so many *seconds* have passed; the roll-up stays.

        :raises ValueError: *before* has no time zone, or *batch* is less than 1.
        """
        if batch < 1:
            raise ValueError("batch: at least 1.")
        return await self.sink.purge(aware(before), batch, seconds)

    async def content_of(self, id: UUID) -> tuple[bytes, bytes | None] | None:
        """Returns what was kept of the exchange *id*: of its request and its answer, JSON, unless it was cut off.

        :raises ValueError: it is sealed, and the ledger's content has not the key.
        """
        kept = await self.sink.content(id)
        if kept is None:
            return None
        return (self.content or Content(lambda request: False, key=None)).opened(kept)

    async def forget(self, tenant: str | None) -> int:
        """Deletes the content of *tenant*'s exchanges; returns of how many. Its rows stay."""
        return await self.sink.forget(name_of(tenant))

    async def flush(self, seconds: float = FLUSH) -> bool:
        """Brings what this event loop has booked to the sink or the spill now; returns whether that was done in
        time."""
        writer = self.writers.here()
        return await writer.settled(writer.added, seconds)

    async def aclose(self) -> None:
        """Brings what this event loop has booked to the sink, or else the spill, in a bounded time. The ledger can be
        used again; the sink's engine is the host's to close, afterwards."""
        if self.writers.runs_here():
            await self.writers.here().close(FLUSH)
        await self.sink.aclose()


async def _read(seconds: float, reading: Coroutine[Any, Any, T]) -> T:
    """Returns what *reading* returns, in time.

    :raises ReadFailed: it raised, or was not in time.
    """
    try:
        return await within(seconds, reading)
    except (DeadlineExceeded, TimeoutError) as error:
        raise ReadFailed(f"The ledger did not answer within {seconds:g} s.") from error
    except Exception as error:
        raise ReadFailed(f"The ledger cannot be read now ({type(error).__name__}).") from error


def _selection(since: date, until: date, by: Sequence[str], tenants: Collection[str | None] | None) -> Selection:
    """Returns the sums that are wanted.

    :raises ValueError: *by* names no place of the roll-up.
    """
    if not set(by) <= set(PLACE):
        raise ValueError(f"by: some of {', '.join(PLACE)}.")
    return Selection(since, until, by, _names(tenants))


def _names(tenants: Collection[str | None] | None) -> list[str | None] | None:
    return None if tenants is None else list(map(name_of, tenants))


def _spill(path: str | os.PathLike[str] | None) -> Spill | None:
    """Returns the file for what the sink does not take, if there is one.

    :raises ValueError: its directory does not exist.
    """
    if path is None:
        return None
    check_instance("spill", path, str | os.PathLike, "a path")
    whole = Path(path).absolute()
    if not whole.parent.is_dir():
        raise ValueError(f"spill: there is no directory {whole.parent}.")
    return Spill(whole)


@lru_cache(maxsize=1)
def price_list() -> str | None:
    """Returns the version of the installed price list, None where there is none."""
    try:
        return version("genai-prices")
    except PackageNotFoundError:
        return None
