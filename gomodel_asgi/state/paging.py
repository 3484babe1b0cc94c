"""Pages of items, as the lists of the Responses API have them: `after`, `limit` and `order`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidRequest

Json = dict[str, Any]

MOST = 100
USUAL = 20


def asked_of(query: str) -> dict[str, str]:
    """The members of a raw query, the last of each."""
    return dict(parse_qsl(query, keep_blank_values=True))


def whole_number(asked: dict[str, str], name: str, least: int, most: int) -> int | None:
    """The member *name*, None where it is absent.

    :raises InvalidRequest: it is no number from *least* to *most*.
    """
    value = asked.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18 and least <= int(value) <= most):
        raise InvalidRequest(f"'{name}' must be a number from {least} to {most}.", param=name, code="invalid_value")
    return int(value)


def page(items: Sequence[Json], query: str) -> Json:
    """The page of *items* (oldest first, each with an `id`) that *query* asks for; by default the 20 latest, the
    latest first.

    :raises InvalidRequest: a member of the query is not usable.
    """
    asked = asked_of(query)
    limit = whole_number(asked, "limit", 1, MOST) or USUAL
    order = asked.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order", code="invalid_value")
    ordered = list(items) if order == "asc" else list(items)[::-1]
    start = _after(ordered, asked.get("after"))
    found = ordered[start : start + limit]
    return listed(found, has_more=start + len(found) < len(ordered))


def listed(items: Sequence[Json], *, has_more: bool = False) -> Json:
    """*items* as a list object."""
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return {"object": "list", "data": list(items), **ends, "has_more": has_more}


def _after(ordered: Sequence[Json], after: str | None) -> int:
    if after is None:
        return 0
    # Behind the last of that id: clients choose ids, and a page that begins where it began would be asked for for ever.
    for number in range(len(ordered), 0, -1):
        if ordered[number - 1]["id"] == after:
            return number
    raise InvalidRequest("'after' names no item of this list.", param="after", code="invalid_value")
