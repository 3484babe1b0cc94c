"""Rows as lines of JSON in a file: for one machine, and for whoever ships logs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec

from ..arguments import check_instance
from .files import append, in_thread, rewrite
from .row import (
    COUNTS,
    OPEN,
    PLACE,
    Costs,
    Daily,
    Entry,
    Kept,
    Row,
    Selection,
    Tenants,
    by_day,
    daily_of,
    decode_row,
    encode,
    now,
    total,
)
from .sink import Limit, refusing

_decode_kept = msgspec.json.Decoder(Kept).decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
LINES = 100
"""Lines that are read between two looks at the clock."""


class JsonLines:
    """Keeps rows in the file at *path*, one line each, with the columns as keys; costs are strings, so that they stay
    exact. What is kept of what was said lies beside it in `<path>.contents`.

    Several processes may write one file on a local disk, and a program that rotates it may rename it. A row that was
    written again, after a crash, stands there twice under one id: readers take the last that is not open. Sums are read
    from the whole file: of what is purged nothing is left, and beyond some 100,000 rows a database is better.
    """

    needs_asyncio = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_instance("path", path, str | os.PathLike, "a path")
        self.path = Path(path).absolute()
        self.contents = self.path.with_name(self.path.name + ".contents")

    def __repr__(self) -> str:
        return f"<JsonLines {str(self.path)!r}>"

    async def write(self, entries: Sequence[Entry]) -> int:
        """Adds *entries*; when it returns they are on the disk. Returns how many.

        :raises RowsRefused: one of them can never be written.
        :raises OSError: the file cannot be written.
        """
        await in_thread(self._write, list(entries))
        return len(entries)

    def _write(self, entries: list[Entry]) -> None:
        with refusing():
            rows = b"".join(encode(entry.row) + b"\n" for entry in entries)
            kept = b"".join(encode(entry.content) + b"\n" for entry in entries if entry.content is not None)
        if kept:
            append(self.contents, kept)
        append(self.path, rows)

    async def spent(self, tenant: str | None, since: datetime) -> Decimal:
        """Returns what *tenant* has cost *since*, in US dollars."""
        return await in_thread(self._spent, tenant, since)

    def _spent(self, tenant: str | None, since: datetime) -> Decimal:
        rows = (row for row in self._read(since, None) if row.tenant == tenant)
        return total(row.cost for row in rows if row.cost is not None) or Decimal(0)

    async def sums(self, wanted: Selection) -> list[Daily]:
        """Returns the sums that are *wanted*; see `Sink.sums`."""
        return await in_thread(self._sums, wanted)

    async def costs(self, wanted: Selection, most: int, seconds: float) -> Costs:
        """Returns the first *most* sums, and the total of all; see `Sink.costs`."""
        return await in_thread(self._costs, wanted, most, seconds)

    def _costs(self, wanted: Selection, most: int, seconds: float) -> Costs:
        days, by = self._days(wanted, Limit(seconds)), wanted.by
        rows, whole = summed(days, by), summed(days, ())
        rows.sort(key=lambda one: (one.cost, one.requests), reverse=True)
        if "day" in by:
            rows.sort(key=lambda one: one.day or wanted.since, reverse=True)
        return Costs(rows=rows[:most], total=whole[0] if whole else daily_of({}), count=len(rows))

    async def row(self, id: UUID, tenants: Tenants, seconds: float) -> Row | None:
        """Returns the row *id*, if it is there and of one of these tenants; see `Sink.row`."""
        return await in_thread(self._row, id, tenants, Limit(seconds))

    def _row(self, id: UUID, tenants: Tenants, limit: Limit) -> Row | None:
        for row in self._read(None, None, limit, str(id).encode()):
            if row.id == id and (tenants is None or row.tenant in tenants):
                return row
        return None

    def _sums(self, wanted: Selection) -> list[Daily]:
        return summed(self._days(wanted), wanted.by)

    def _days(self, wanted: Selection, limit: Limit | None = None) -> list[Daily]:
        first, end = (datetime.combine(day, datetime.min.time(), UTC) for day in (wanted.since, wanted.until))
        tenants, rows = wanted.tenants, self._read(first, end, limit)
        return by_day(row for row in rows if tenants is None or row.tenant in tenants)

    async def rows(self, since: datetime, until: datetime, tenants: Tenants = None) -> AsyncGenerator[Row, None]:
        """Gives the rows that started in this time, by id."""
        for row in await in_thread(self._in_order, since, until):
            if tenants is None or row.tenant in tenants:
                yield row

    def _in_order(self, since: datetime, until: datetime) -> list[Row]:
        return sorted(self._read(since, until), key=lambda row: row.id)

    def _read(
        self, since: datetime | None, until: datetime | None, limit: Limit | None = None, part: bytes = b""
    ) -> Iterator[Row]:
        """Each row of this time once, if its line has *part*.

        :raises TimeoutError: *limit* was over before.
        """
        found: dict[UUID, Row] = {}
        for number, line in enumerate(lines(self.path)):
            if limit is not None and number % LINES == 0 and limit():
                raise TimeoutError
            if part not in line:
                continue
            try:
                row = decode_row(line)
            except UNREADABLE:
                continue  # cut off by a crash: what was in it was not yet acknowledged, and came again
            if (since is not None and row.started < since) or (until is not None and row.started >= until):
                continue
            if row.id not in found or found[row.id].outcome == OPEN:
                found[row.id] = row
        return iter(found.values())

    async def purge(self, before: datetime, batch: int, seconds: float) -> int:
        """Writes the file anew without what started *before*, and that of the contents without what has expired.
        Returns how many rows are gone: 0 if it took longer than so many *seconds*, and then nothing is."""
        return await in_thread(self._purge, before, time.monotonic() + seconds, ends=True)

    def _purge(self, before: datetime, deadline: float) -> int:
        present, gone = now(), set[UUID]()

        def stays(line: bytes) -> bool:
            if time.monotonic() > deadline:
                raise TimeoutError
            try:
                row = decode_row(line)
            except UNREADABLE:
                return False
            if row.started < before:
                gone.add(row.id)
            return row.started >= before

        try:
            rewrite(self.path, stays)
            rewrite(
                self.contents,
                lambda line: (kept := _kept(line)) is not None and kept.expires > present and kept.id not in gone,
            )
        except TimeoutError:
            return 0
        return len(gone)

    async def content(self, id: UUID) -> Kept | None:
        """Returns what was kept of the exchange *id*."""
        return await in_thread(self._content, id)

    def _content(self, id: UUID) -> Kept | None:
        return next((kept for kept in map(_kept, lines(self.contents)) if kept is not None and kept.id == id), None)

    async def forget(self, tenant: str | None) -> int:
        """Deletes all content of *tenant*. Returns of how many exchanges."""
        return await in_thread(partial(rewrite, self.contents, partial(_is_others, tenant)), ends=True)

    async def aclose(self) -> None:
        """Nothing is open between two writes."""


def summed(daily: Sequence[Daily], by: Sequence[str]) -> list[Daily]:
    """Returns *daily* summed by the places *by*, in their order; what has no name comes first."""
    found: dict[tuple[object, ...], Daily] = {}
    for one in daily:
        place = tuple(getattr(one, name) if name in by else None for name in PLACE)
        if place not in found:
            found[place] = daily_of(dict(zip(PLACE, place, strict=True)))
        for name in COUNTS:
            setattr(found[place], name, getattr(found[place], name) + getattr(one, name))
    return sorted(found.values(), key=lambda one: [str(getattr(one, name) or "") for name in by])


def lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of the file at *path*; none where there is no file."""
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        return
    with file:
        yield from file


def _kept(line: bytes) -> Kept | None:
    try:
        return _decode_kept(line)
    except UNREADABLE:
        return None


def _is_others(tenant: str | None, line: bytes) -> bool:
    kept = _kept(line)
    return kept is not None and kept.tenant != tenant
