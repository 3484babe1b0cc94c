"""What the ledger asks of the place where its rows lie."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from .row import Costs, Daily, Entry, Kept, Row, Selection, Tenants


class RowsRefused(Exception):
    """The sink is there, and does not take one of these rows: it never will."""


class ReadFailed(Exception):
    """What a page shows could not be read: the sink is away, or took too long. Its text may be shown to whoever looks
    at the page: it quotes nobody."""


UNWRITABLE = ("22", "23")
"""Classes of SQLSTATE, of data and of constraints, that say so of a row and not of the database (SQL, 24.1)."""


@contextmanager
def refusing() -> Iterator[None]:
    """Turns what a library raises for rows that it cannot write, while connected, into `RowsRefused`.

    :raises RowsRefused: instead of such an error; any other passes.
    """
    try:
        yield
    except Exception as error:
        if any(_is_about_rows(one) for one in _causes(error)):
            raise RowsRefused(type(error).__name__) from error
        raise


def _is_about_rows(error: BaseException) -> bool:
    state = getattr(error, "sqlstate", None)
    if state is not None:
        return str(state)[:2] in UNWRITABLE
    return isinstance(error, ValueError | OverflowError) or type(error).__name__ in ("DataError", "IntegrityError")


PAGE = 500
"""Rows that one query of a database reads."""
MOST = 20_000
"""Rows that one of its statements names: their ids are its parameters, of which it takes some 32,000."""
CANCELED = "57014"
"""SQLSTATE of a statement that was stopped, by `statement_timeout` too (PostgreSQL, appendix A)."""
STEPS = 10_000
"""Steps of SQLite's machine between two looks at the clock: some 0.1 ms."""


@contextmanager
def stopped() -> Iterator[None]:
    """Turns what a library raises for a query that its time limit has stopped into a `TimeoutError`.

    :raises TimeoutError: instead of such an error; any other passes.
    """
    try:
        yield
    except Exception as error:
        if any(_says_stopped(one) for one in _causes(error)):
            raise TimeoutError from error
        raise


def _says_stopped(error: BaseException) -> bool:
    return CANCELED == getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT"


class Limit:
    """When a query has to end. SQLite asks, as its progress handler, every `STEPS`: it knows no time limit."""

    def __init__(self, seconds: float = math.inf) -> None:
        self.set(seconds)

    def __call__(self) -> bool:
        return time.monotonic() >= self._end

    def set(self, seconds: float) -> None:
        """From now on so many *seconds*; without end for `math.inf`."""
        self._end = time.monotonic() + seconds


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


class Sink(Protocol):
    """A table, or what stands for one. Whatever `write` raises but `RowsRefused` means that it is away: it is given the
    same rows again."""

    needs_asyncio: bool

    async def write(self, entries: Sequence[Entry]) -> int:
        """Adds *entries*, all or none, and counts what is new by day: how many were. A row whose id is there already
        changes nothing, unless that one is open: then it is closed with this one.

        :raises RowsRefused: one of them can never be written.
        """
        ...

    async def spent(self, tenant: str | None, since: datetime) -> Decimal:
        """Returns what *tenant* has cost *since*, in US dollars; rows of unknown cost are not in it."""
        ...

    async def sums(self, wanted: Selection) -> list[Daily]:
        """Returns the sums that are *wanted*, in the order of what they are by."""
        ...

    async def costs(self, wanted: Selection, most: int, seconds: float) -> Costs:
        """Returns the first *most* of the sums that are *wanted*, in one query: by day the youngest, then those that
        cost most.

        :raises TimeoutError: it was stopped after so many *seconds*.
        """
        ...

    async def row(self, id: UUID, tenants: Tenants, seconds: float) -> Row | None:
        """Returns the row *id*, if it is there and of one of these tenants.

        :raises TimeoutError: it was stopped after so many *seconds*.
        """
        ...

    def rows(self, since: datetime, until: datetime, tenants: Tenants = None) -> AsyncGenerator[Row, None]:
        """Yields the rows that started in this time, by id."""
        ...

    async def purge(self, before: datetime, batch: int, seconds: float) -> int:
        """Deletes what started *before*, and all content that has expired, *batch* rows at a time, until nothing is
        left or so many *seconds* have passed: how many rows."""
        ...

    async def content(self, id: UUID) -> Kept | None:
        """Returns what was kept of the exchange *id*."""
        ...

    async def forget(self, tenant: str | None) -> int:
        """Deletes all content of *tenant*; returns of how many exchanges. Rows stay."""
        ...

    async def aclose(self) -> None:
        """Closes what is the sink's own."""
        ...
