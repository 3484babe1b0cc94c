"""What is done with a ledger from a command line: `python -m gomodel_asgi ledger`, `manage.py gomodel_ledger`."""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TextIO

from .ledger import Ledger
from .row import COLUMNS, COUNTS, PLACE, Daily, Row, encode, plain

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With what a spreadsheet takes a cell for a formula (OWASP, "CSV injection")."""


def add_arguments(command: ArgumentParser, of: str | None = None) -> None:
    """Adds the subcommands `purge`, `export` and `sums`, with their options. *of* describes an argument that names
    the ledger; None: there is none."""
    commands = command.add_subparsers(dest="ledger_command", required=True, metavar="purge | export | sums")
    purge = commands.add_parser("purge", help="delete old rows, and content that has expired; sums by day stay")
    export = commands.add_parser("export", help="write rows as CSV")
    sums = commands.add_parser("sums", help="write sums over days as CSV")
    for one in (purge, export, sums):
        if of is not None:
            one.add_argument("gateway", metavar="module:gateway", help=of)
        one.add_argument("--json", action="store_true", help="write JSON, for programs: a line for each")
    before = "what started before this day (UTC), or time with its zone"
    purge.add_argument("--before", type=moment, required=True, help=before)
    purge.add_argument("--batch", type=int, default=5000, help="rows of one transaction (default %(default)s)")
    purge.add_argument("--seconds", type=float, default=30, help="after which to stop (default %(default)s)")
    for one, kind in ((export, moment), (sums, day)):
        one.add_argument("--since", type=kind, required=True, help="the first day (UTC)")
        one.add_argument("--until", type=kind, help="the day behind the last one; by default the end")
        one.add_argument("--tenant", action="append", help="of this tenant only; may be given again")
    by = f"some of {','.join(PLACE)} (default day,tenant,model)"
    sums.add_argument("--by", type=_places, default=("day", "tenant", "model"), help=by)


async def carry_out(ledger: Ledger, given: Namespace, out: TextIO | None = None) -> None:
    """Does what *given* says, and writes what it finds to *out* (standard output)."""
    out = sys.stdout if out is None else out
    try:
        match given.ledger_command:
            case "purge":
                gone = await ledger.purge(given.before, given.batch, given.seconds)
                out.write(f'{{"deleted": {gone}}}\n' if given.json else f"{gone} rows are deleted.\n")
            case "export":
                await _export(ledger, given, _Table(out, COLUMNS, given.json))
            case _:
                await _sums(ledger, given, _Table(out, (*given.by, *COUNTS), given.json))
    finally:
        await let_go(ledger)


class _Table:
    """Writes things with *columns* to *out*: CSV with a head, or a line of JSON for each."""

    def __init__(self, out: TextIO, columns: Sequence[str], as_json: bool) -> None:
        self.out = out
        self.columns = columns
        self.csv = None if as_json else csv.writer(out)
        if self.csv is not None:
            self.csv.writerow(columns)

    def write(self, thing: Row | Daily) -> None:
        values = {name: getattr(thing, name) for name in self.columns}
        if self.csv is None:
            self.out.write(encode(values).decode() + "\n")
        else:
            self.csv.writerow([cell(value) for value in values.values()])


async def let_go(ledger: Ledger) -> None:
    """Closes the engine of a ledger whose process ends now."""
    engine: Any = getattr(ledger.sink, "engine", None)
    if engine is not None:
        await engine.dispose()


async def _export(ledger: Ledger, given: Namespace, table: _Table) -> None:
    until = given.until or datetime.now(UTC) + timedelta(days=1)
    async with aclosing(ledger.rows(given.since, until, tenants=given.tenant)) as rows:
        async for row in rows:
            table.write(row)


async def _sums(ledger: Ledger, given: Namespace, table: _Table) -> None:
    until = given.until or (datetime.now(UTC) + timedelta(days=1)).date()
    for one in await ledger.sums(given.since, until, by=given.by, tenants=given.tenant):
        table.write(one)


def cell(value: Any) -> str:
    """Returns *value* as a cell: nothing for what is unknown, money with all its digits, JSON for labels and attempts,
    text so that no spreadsheet takes it for a formula."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | tuple):
        return encode(plain(value)).decode()
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    return str(value)


def moment(text: str) -> datetime:
    """Returns the time that *text* (ISO 8601) names: with its zone, or the beginning of a day in UTC.

    :raises ArgumentTypeError: it names none.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no time; write 2026-11-30, or 2026-11-30T12:00+01:00.") from None
    if when.tzinfo is None and len(text) > len("2026-11-30"):
        raise ArgumentTypeError(f"{text!r} has no zone; write 2026-11-30T12:00+01:00.")
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when


def day(text: str) -> date:
    """Returns the day that *text* (ISO 8601) names.

    :raises ArgumentTypeError: it names none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day; write 2026-11-30.") from None


def _places(text: str) -> tuple[str, ...]:
    """Returns the columns that sums are split by.

    :raises ArgumentTypeError: *text* names another.
    """
    names = tuple(name for name in text.split(",") if name)
    if not set(names) <= set(PLACE):
        raise ArgumentTypeError(f"{text!r}: give some of {','.join(PLACE)}.")
    return names
