"""Tool calls that come in pieces, several at a time.

Strategy: a slot for each call, found by `index`; in a whole reply each element is a call. What opens another slot under
a known index is another name, another id that comes with a name, or a name that comes again after whole arguments; a
different id alone is a server that makes up an id for each chunk. A slot opens its item when its name is known, and
keeps the arguments that came before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...wire.calls import AnyCall
from ...wire.json_scan import tree
from ..content import Json

Open = Callable[[str, str], AnyCall]


class Slot:
    """One call: *item* once its name has come."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.item: AnyCall | None = None
        self.pieces: list[str] = []

    def is_whole(self) -> bool:
        """Returns whether the arguments so far are a whole JSON object."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False  # without reading all of them anew with each piece
        try:
            tree("".join(self.pieces))
        except ValueError:
            return False
        return True


class Calls:
    """Hands the pieces of tool calls to their items."""

    def __init__(self) -> None:
        self.slots: dict[Any, Slot] = {}
        self.last: Any = None

    def feed(self, delta: Any, open: Open, whole: bool = False) -> str | None:
        """Takes one element of `tool_calls`, the *whole* of a call or a piece. Returns its item's `call_id`, None
        without a name.

        *open* opens an item by flat name and id ("" if none came).

        :raises ValueError: *delta* is no object.
        """
        if not isinstance(delta, dict):
            raise ValueError("tool_calls holds something that is not an object")
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        id, name, arguments = _string(delta.get("id")), _string(function.get("name")), _arguments(function)
        slot = self.added() if whole else self.slot(delta.get("index"), id, name, arguments)
        return self.more(slot, id, name, arguments, open)

    def added(self) -> Slot:
        """Returns a new slot, for a call that came whole."""
        slot = self.slots[f"whole:{len(self.slots)}"] = Slot()
        return slot

    def slot(self, index: Any, id: str, name: str, arguments: str) -> Slot:
        """Returns the slot that a piece belongs to, a new one where another call begins."""
        key = index if isinstance(index, int) else self.last
        known = self.slots.get(key)
        if known is None or self.is_other(known, id, name, arguments, index is None):
            key = key if isinstance(index, int) else len(self.slots)
            if known is not None and isinstance(index, int):
                self.slots[f"{index}:{len(self.slots)}"] = known
            known = self.slots[key] = Slot()
        self.last = key
        return known

    def is_other(self, known: Slot, id: str, name: str, arguments: str, unplaced: bool) -> bool:
        """Returns whether a piece begins another call than *known*; *unplaced*: it has no index."""
        if not name or known.item is None:
            return False
        if name != known.name:
            return True
        if id and known.id:
            return id != known.id
        return unplaced or (bool(arguments) and known.is_whole())

    def more(self, slot: Slot, id: str, name: str, arguments: str, open: Open) -> str | None:
        """Adds a piece to *slot*. Returns the `call_id` of its item, None while it has no name."""
        slot.id = slot.id or id
        if arguments:
            slot.pieces.append(arguments)
        if slot.item is None and name:
            slot.name = name
            slot.item = open(name, slot.id)
            arguments = "".join(slot.pieces)
        if slot.item is None:
            return None
        if arguments:
            slot.item.arguments(arguments)
        call_id: str = slot.item.value["call_id"]
        return call_id

    def nameless(self) -> int:
        """Returns how many calls never got a name, and so no item."""
        return sum(slot.item is None for slot in self.slots.values())


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(function: Json) -> str:
    """JSON text; some servers send the object itself."""
    value = function.get("arguments")
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return _string(value)
