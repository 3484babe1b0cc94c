"""Lists as the Responses API has them: items with ids, and pages of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from ..plan import Plan
from ..refusals import Refused, answered

Json = dict[str, Any]


def items_of(input: Any, prefix: str) -> list[Json]:
    """*input* as items, each with an id."""
    if isinstance(input, str):
        input = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": input}]}]
    items = [item for item in input or [] if isinstance(item, dict)]
    return [{"id": f"{prefix}{number:02x}", **item} for number, item in enumerate(items)]


def asked_of(query: bytes) -> dict[str, str]:
    """The members of a query, the last of each."""
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}


def whole_number(text: str) -> int:
    """*text* as a number; -1 where it is none, or one that nobody counts to."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1


def listed(items: Sequence[Json], *, has_more: bool = False) -> Plan:
    """*items* as a list object."""
    ends = {"first_id": items[0]["id"] if items else None, "last_id": items[-1]["id"] if items else None}
    return answered({"object": "list", "data": list(items), **ends, "has_more": has_more})


def page(items: Sequence[Json], query: bytes) -> Plan:
    """The page of *items* (oldest first) that *query* asks for, the latest first unless `order=asc`."""
    asked = asked_of(query)
    ordered = items[:: 1 if asked.get("order") == "asc" else -1]
    limit = whole_number(asked.get("limit", "20"))
    if not 1 <= limit <= 100:
        raise Refused(400, "'limit' must be between 1 and 100.", param="limit")
    ids = [item["id"] for item in ordered]
    if "after" in asked and asked["after"] not in ids:
        raise Refused(400, "'after' names no item of this list.", param="after")
    start = len(ids) - ids[::-1].index(asked["after"]) if "after" in asked else 0
    found = ordered[start : start + limit]
    return listed(found, has_more=start + len(found) < len(ordered))
