"""What the pages read of the ledger, and the page of costs: bounded in time, and only for the tenants of the view."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from ..ledger import Costs, JsonLines, Ledger, ReadFailed, Row
from ..ledger.row import COUNTS
from .page import Asked, Page, worker
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


async def _sums(
    ledger: Ledger | None,
    since: date,
    until: date,
    by: Sequence[str],
    tenants: Collection[str | None] | None,
    most: int,
) -> Costs:
    """Returns what was spent on the days from *since* to the one before *until*, in one query of the roll-up.

    :raises ReadFailed: there is no ledger, or it does not answer in time.
    """
    if ledger is None:
        raise ReadFailed(NONE)
    try:
        return await ledger.costs(since, until, by=by, tenants=tenants, most=most)
    except ReadFailed as error:
        raise ReadFailed(f"{error} {FILE if isinstance(ledger.sink, JsonLines) else ''}".strip()) from None


async def today(ledger: Ledger | None, view: View) -> Shown:
    """Returns what was spent today (UTC), in one query; `cost` is None and `note` says why where that is unknown."""
    day = datetime.now(UTC).date()
    if ledger is not None and isinstance(ledger.sink, JsonLines):
        return {"day": day.isoformat(), "cost": None, "unpriced": 0, "note": FILE}
    try:
        found = await _sums(ledger, day, day + timedelta(days=1), (), view.named, 1)
    except ReadFailed as error:
        return {"day": day.isoformat(), "cost": None, "unpriced": 0, "note": str(error)}
    whole = found.total
    return {"day": day.isoformat(), "cost": money(whole.cost), "unpriced": whole.unpriced, "note": None}


async def row(ledger: Ledger | None, view: View, id: str) -> Row | None:
    """Returns the row of this id, if *view* shows it.

    :raises ReadFailed: the ledger does not answer in time.
    """
    try:
        key = UUID(id)
    except ValueError:
        return None
    if ledger is None:
        return None
    return await ledger.row(key, tenants=view.named)


# The page of costs...


PLACES = {"day": "Day", "tenant": "Tenant", "provider": "Provider", "model": "Model", "label": "Label"}
MOST_ROWS = 200
LONGEST = 366
DAYS = 30


async def costs(asked: Asked) -> Page:
    """Returns what was spent by day, tenant, provider, model or label: one query of the roll-up."""
    query, today = asked.query, datetime.now(UTC).date()
    by = query.get("by", "day")
    month = today - timedelta(days=DAYS - 1)
    first, last = _day(query.get("since"), month), _day(query.get("until"), today)
    tenant = query.get("tenant") or None
    data: Shown = {
        "worker": worker(asked),
        "by": by,
        "places": PLACES,
        "since": (first or month).isoformat(),
        "until": (last or today).isoformat(),
        "tenant": tenant,
        "tenants": asked.view.choices(MOST_ROWS),
        "note": None,
        "total": None,
        "rows": [],
        "count": 0,
    }
    page = Page("costs", "Costs", data)
    if by not in PLACES or first is None or last is None or not 0 <= (last - first).days < LONGEST:
        data["note"] = (
            f"Give by as one of {', '.join(PLACES)}, and since and until as days (2026-11-29), at most a year."
        )
        page.status = 400
        return page
    tenants = asked.view.named if tenant is None else [one for one in (tenant,) if asked.view.shows(one)]
    try:
        place = ("labels",) if by == "label" else (by,)
        found = await _sums(asked.ledger, first, last + timedelta(days=1), place, tenants, MOST_ROWS)
    except ReadFailed as error:
        data["note"] = str(error)
        return page
    data["total"] = _sum(found.total, None)
    data["rows"] = [_sum(one, by) for one in found.rows]
    data["count"] = found.count
    return page


def _day(text: str | None, default: date) -> date | None:
    """Returns the day that *text* names, None where it names none."""
    if not text:
        return default
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day < date.max else None  # there is a day behind it


def _sum(one: Any, by: str | None) -> Shown:
    name = None
    if by == "label":
        labels = json.loads(one.labels) if one.labels else {}
        name = ", ".join(f"{key}={value}" for key, value in labels.items()) or None
    elif by is not None:
        value = getattr(one, by)
        name = value.isoformat() if isinstance(value, date) else value
    return {"name": name, **{count: getattr(one, count) for count in COUNTS}, "cost": money(one.cost)}
