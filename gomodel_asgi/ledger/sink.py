"""What the ledger asks of the place where its rows lie."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from .row import Daily, Entry, Kept, Row


class RowsRefused(Exception):
    """The sink is there, and does not take one of these rows: it never will."""


UNWRITABLE = ("22", "23")
"""Classes of SQLSTATE, of data and of constraints, that say so of a row and not of the database (SQL, 24.1)."""


@contextmanager
def refusing() -> Iterator[None]:
    """Tells what a library raises at rows that it cannot write, while connected, from all else that it may raise.

    :raises RowsRefused: it was at the rows.
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
        """What *tenant* has cost *since*, in US dollars; rows of unknown cost are not in it."""
        ...

    async def sums(
        self, since: date, until: date, by: Sequence[str], tenant: Sequence[str | None] | None = None
    ) -> list[Daily]:
        """The roll-up from the day *since* to the day before *until*, summed *by* some of its places, in their order;
        the others are None. *tenant*: of these tenants only."""
        ...

    def rows(
        self, since: datetime, until: datetime, tenant: Sequence[str | None] | None = None
    ) -> AsyncGenerator[Row, None]:
        """The rows that started in this time, by id."""
        ...

    async def purge(self, before: datetime, batch: int, seconds: float) -> int:
        """Deletes what started *before*, and all content that has expired, *batch* rows at a time, until nothing is
        left or so many *seconds* have passed: how many rows."""
        ...

    async def content(self, id: UUID) -> Kept | None:
        """What was kept of the exchange *id*."""
        ...

    async def forget(self, tenant: str | None) -> int:
        """Deletes all content of *tenant*; returns of how many exchanges. Rows stay."""
        ...

    async def aclose(self) -> None:
        """Closes what is the sink's own."""
        ...
