"""What of a conversation another upstream can be given.

A native one gets messages, calls of the client's own tools and their results. What only its issuer can read is left out
by rule, and named: encrypted reasoning, compactions, calls of hosted tools, ids of files and containers; the ids of
items stay behind too, since it would resolve them. A translated one gets all items but for such files: its dialect
tells the model in words what it has no item for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .turns import Line

Json = dict[str, Any]

CARRIED = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
CONTENT = ("content", "output")


def carried(lines: Iterable[Line], account: str, type: str, native: bool, left: set[str]) -> list[Json]:
    """The items of *lines* for the upstream *account* of this provider *type*; what is left out is added to *left*.

    *native* upstreams know the items that they issued; the others read those of their type.
    """
    items: list[Json] = []
    for line in lines:
        at_home = line.account == account if native else line.type == type
        items += line.items if at_home else abroad(line.items, native, left)
    return items


def abroad(items: Iterable[Json], native: bool, left: set[str]) -> list[Json]:
    """Those *items* that any upstream can be given."""
    taken = []
    for item in items:
        kind = item.get("type")
        if not native:
            taken.append(_without_files(item, left))
        elif kind in CARRIED:
            taken.append(_without_files({name: value for name, value in item.items() if name != "id"}, left))
        else:
            left.add(f"items of type `{str(kind)[:64]}`")
    return taken


def _without_files(item: Json, left: set[str]) -> Json:
    for name in CONTENT:
        parts = item.get(name)
        if isinstance(parts, list) and any(_is_file(part) for part in parts):
            left.add("file ids")
            item = {**item, name: [part for part in parts if not _is_file(part)]}
    return item


def _is_file(part: Any) -> bool:
    return isinstance(part, dict) and part.get("file_id") is not None
