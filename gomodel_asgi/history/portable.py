"""What of a conversation another upstream can be given.

A native one gets messages, calls of the client's own functions and their results; as text the calls and results of
other tools, and that there was a compaction, since it might refuse such items of another's. What only its issuer can
read is left out, and named: encrypted reasoning, ids of files; the ids of items stay behind too, since it would resolve
them. A translated one gets all items but for such files: its dialect puts into words what it has no item for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..dialects.emulations import as_message
from ..errors import InvalidRequest
from .compaction_item import is_ours
from .turns import Line

Json = dict[str, Any]

CARRIED = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
CONTENT = ("content", "output")
LEFT_OUT = frozenset({"reasoning", "tool_search_call", "tool_search_output", "item_reference"})
"""Types of no use to another model: thoughts of another, and tools that the request offers anew."""


def since_compaction(lines: Iterable[Line], expand: Callable[[Json], list[Json]], left: set[str]) -> list[Line]:
    """Returns what *lines* say from the last compaction on: what came before that is in it. *expand* gives the items
    that a compaction item of ours stands for; what does not open is left out, and added to *left*."""
    kept: list[Line] = []
    for line in lines:
        items: list[Json] = []
        for item in line.items:
            if not is_ours(item):
                items.append(item)
                continue
            try:
                items = expand(item)
                kept.clear()
                left.clear()
            except InvalidRequest:  # another secret made it, or it is kept no longer: the rest is as good
                left.add("compaction items that do not open")
        kept.append(Line(items, line.account, line.type))
    return kept


def carried(
    lines: Iterable[Line], account: str, type: str, native: bool, left: set[str], files: bool = False
) -> list[Json]:
    """Returns the items of *lines* for the *account* of this provider *type*, and adds what is left out to *left*.

    *native* upstreams know the items that they issued; the others read those of their type. *files*: the host gives the
    bytes of files, so that an id means something beyond who issued it.
    """
    items: list[Json] = []
    for line in lines:
        at_home = line.account == account if native else line.type == type
        items += line.items if at_home else portable(line.items, native, left, files)
    return items


def portable(items: Iterable[Json], native: bool, left: set[str], files: bool = False) -> list[Json]:
    """Returns those *items* that any upstream can be given."""
    taken = []
    for item in items:
        kind = item.get("type")
        if not native:
            taken.append(item if files else _without_files(item, left))
        elif kind in CARRIED:
            taken.append(_without_files({name: value for name, value in item.items() if name != "id"}, left))
        elif (message := _as_text(item)) is not None:
            taken.append(message)
        else:
            left.add(f"items of type `{str(kind)[:64]}`")
    return taken


def _as_text(item: Json) -> Json | None:
    """Returns *item* as a message, None where there is nothing in it for a model."""
    kind = item.get("type")
    if not isinstance(kind, str) or kind in LEFT_OUT:
        return None
    return as_message(item)


def _without_files(item: Json, left: set[str]) -> Json:
    for name in CONTENT:
        parts = item.get(name)
        if isinstance(parts, list) and any(_is_file(part) for part in parts):
            left.add("file ids")
            item = {**item, name: [part for part in parts if not _is_file(part)]}
    return item


def _is_file(part: Any) -> bool:
    return isinstance(part, dict) and part.get("file_id") is not None
