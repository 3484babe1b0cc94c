"""What the pages read of the ledger: bounded in time, and for no other tenants than the view's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from ..ledger import Costs, JsonLines, Ledger, ReadFailed, Row
from .shown import Shown, money
from .view import View

NONE = (
    "This gateway keeps no ledger, so nobody adds up what was spent. Give it one with an engine of your database:"
    " Gateway(ledger=Ledger(SqlLedger(engine)))."
)
FILE = (
    "This ledger is a file of JSON lines, which keeps no sums: all of it has to be read for them. Use SqlLedger or"
    " DjangoLedger to have them here, or `python -m gomodel_asgi ledger sums`."
)


class Unread(Exception):
    """The ledger has no answer for a page; the text says why, and what to do."""


async def costs(
    ledger: Ledger | None,
    since: date,
    until: date,
    by: Sequence[str],
    tenants: Collection[str | None] | None,
    most: int,
) -> Costs:
    """Returns what was spent on the days from *since* to the one before *until*, in one query of the roll-up.

    :raises Unread: there is no ledger, or it does not answer in time.
    """
    if ledger is None:
        raise Unread(NONE)
    try:
        return await ledger.costs(since, until, by=by, tenants=tenants, most=most)
    except ReadFailed as error:
        raise Unread(f"{error} {FILE if isinstance(ledger.sink, JsonLines) else ''}".strip()) from None


async def today(ledger: Ledger | None, view: View) -> Shown:
    """Returns what was spent today (UTC), in one query; `cost` is None and `note` says why where that is unknown."""
    day = datetime.now(UTC).date()
    if ledger is not None and isinstance(ledger.sink, JsonLines):
        return {"day": day.isoformat(), "cost": None, "unpriced": 0, "note": FILE}
    try:
        found = await costs(ledger, day, day + timedelta(days=1), (), view.named, 1)
    except Unread as error:
        return {"day": day.isoformat(), "cost": None, "unpriced": 0, "note": str(error)}
    whole = found.total
    return {"day": day.isoformat(), "cost": money(whole.cost), "unpriced": whole.unpriced, "note": None}


async def row(ledger: Ledger | None, view: View, id: str) -> Row | None:
    """Returns the row of this id, if *view* shows it.

    :raises Unread: the ledger does not answer in time.
    """
    try:
        key = UUID(id)
    except ValueError:
        return None
    if ledger is None:
        return None
    try:
        return await ledger.row(key, tenants=view.named)
    except ReadFailed as error:
        raise Unread(str(error)) from None
