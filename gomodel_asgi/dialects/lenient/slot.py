"""One item of the upstream's while it is read, and the item that is written of it.

Deltas are what the client already has, so they are the truth: the text of a `done` event, of a part or of an item is
used for what it has beyond them, which is sent as one more delta, and where it contradicts them they stand.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ...wire.calls import CLIENT_CALLS, Call
from ...wire.event_writer import Emitter
from ...wire.items import LISTS, TEXT_OF_ITEM, TEXT_OF_PART, Item, Json
from ...wire.response import encode
from ..values import objects, string_in

CONTAINERS = {
    "message": {"content": "output_text"},
    "reasoning": {"summary": "summary_text", "content": "reasoning_text"},
}
"""The members of items that hold parts, and the type of a part that says none."""
NAMED = frozenset({"function_call", "custom_tool_call"})
"""Calls whose text is written in any case, and under a name."""
IDENTITY = ("id", "call_id", "status")
"""Members in which two accounts of one item may differ."""


@dataclass(frozen=True, slots=True)
class TextPlace:
    """Text of a part of type *part*, which stands in *container* of an item of type *item*."""

    item: str
    container: str
    part: str


def remainder(pieces: list[str], whole: Any) -> str:
    """Returns what *whole* has beyond the pieces that have come, "" if it does not begin with them."""
    text = "".join(pieces)
    return whole[len(text) :] if isinstance(whole, str) and whole.startswith(text) else ""


def content_of(given: Json) -> Hashable:
    """Returns what an item says, in a form that can be compared; None for items without text.

    The texts of parts are sorted, since some servers send parts in another order than they list them.
    """
    type: str = given["type"]
    if type in TEXT_OF_ITEM:
        return type, string_in(given, "name"), _comparable(type, call_text(given.get(TEXT_OF_ITEM[type].field)))
    if type not in CONTAINERS:
        return None
    parts = [parts_of(given.get(container), default) for container, default in CONTAINERS[type].items()]
    return type, tuple(sorted(text_of(part) for part in chain.from_iterable(parts)))


def _comparable(type: str, text: str) -> str:
    return text.strip() or "{}" if type == "function_call" else text


def text_of(part: Json) -> str:
    """Returns the text of a repaired part, "" where its type has none."""
    kind = TEXT_OF_PART.get(part.get("type", ""))
    return "" if kind is None else part[kind.field]


def call_text(value: Any) -> str:
    """Returns the text of a call, also where a server sends the arguments as an object."""
    if value is None or isinstance(value, str):
        return value or ""
    return encode(value).decode()


def parts_of(value: Any, default: str) -> list[Json]:
    """Returns the parts in a member of an item, also of a bare string. *default* is the type of a part without one."""
    if isinstance(value, str):
        value = [{"text": value}] if value else []
    return [repaired_part(part, default) for part in objects(value)]


def repaired_part(part: Json, default: str) -> Json:
    """Returns a content or summary part with all its members."""
    type = part.get("type")
    type = default if not isinstance(type, str) or type == "text" else type
    if default != "output_text" and type == "output_text":  # vLLM announces the text of reasoning so
        part, type = {name: part[name] for name in part if name not in LISTS}, default
    if type not in TEXT_OF_PART:
        return part
    field = TEXT_OF_PART[type].field
    text = part.get(field)
    repaired = {**part, "type": type, field: text if isinstance(text, str) else ""}
    if type == "output_text":
        repaired |= {name: listed(part.get(name)) for name in LISTS}
    return repaired


def listed(value: Any) -> list[Any]:
    """Returns a copy of *value* if it is a list, else an empty list."""
    return list(value) if isinstance(value, list) else []


def filled(value: Json) -> Json:
    """Returns the members of *value* that are not empty."""
    return {name: member for name, member in value.items() if member not in (None, "", [], {})}


class Slot:
    """An item of *type*, at the upstream's own index *number* if it gave one, of which *given* is known."""

    def __init__(self, type: str, number: int | None, given: Json) -> None:
        self.type = type
        self.number = number
        self.given = given
        """What the upstream has said of it outside of deltas."""
        self.item: Item | None = None
        """None while it cannot be announced: a call whose name or call id has not come."""
        self.waiting: list[str] = []
        """The text of a call that has not been announced."""
        self.announced = False
        """Whether the upstream has announced it, and not only spoken of it."""
        self.named = False
        """Whether an event has named it by an id of its own."""

    def open(self, emitter: Emitter, event: Json) -> Item:
        """Announces the item."""
        given = {name: value for name, value in self.given.items() if name != "status"}
        if self.type in NAMED:
            given["name"] = self.name
        self.item = emitter.open({**given, "type": self.type}, **event)
        if isinstance(self.item, Call):
            for delta in self.waiting:
                self.item.text(delta)
            self.waiting = []
        return self.item

    def can_open(self) -> bool:
        """Returns whether all is known that its announcement needs."""
        needed: tuple[str, ...] = ("call_id",) if self.type in CLIENT_CALLS else ()
        needed += ("name",) if self.type in NAMED else ()
        return all(string_in(self.given, name) for name in needed)

    def learn(self, given: Json) -> None:
        """Takes over the members of *given*; an empty one does not replace what is known."""
        self.given = {**given, **self.given, **filled(given)}

    def can_be(self, given: Json) -> bool:
        """Returns whether *given* can be this item: it has the type, and no other name."""
        own, other = self.given.get("name"), given.get("name")
        return self.type == given["type"] and not (own and other and own != other)

    def repeats(self, given: Json) -> bool:
        """Returns whether *given* is this item once more, and not another one under the same index or id."""
        own, other = self.given.get("call_id"), given.get("call_id")
        if not self.announced and own and other and own != other:
            return False
        content = self.content()
        if content is None:
            return self.announced or all(self.given.get(name) == given[name] for name in given if name not in IDENTITY)
        return self.can_be(given) and content == content_of(given)

    def is_beginning_of(self, given: Json) -> bool:
        """Returns whether *given* says what has come, and perhaps more."""
        if self.type in TEXT_OF_ITEM:
            return call_text(given.get(TEXT_OF_ITEM[self.type].field)).startswith("".join(self.pieces))
        return True

    @property
    def pieces(self) -> list[str]:
        """The text of a call, as it came."""
        return self.item.pieces if isinstance(self.item, Call) else self.waiting

    def content(self) -> Hashable:
        """What it has said, in the form of `content_of`."""
        if self.type not in TEXT_OF_ITEM:
            return None
        text = "".join(self.pieces) or call_text(self.given.get(TEXT_OF_ITEM[self.type].field))
        return self.type, self.name, _comparable(self.type, text)

    # Calls...

    def call_delta(self, delta: str, event: Json) -> None:
        """Takes more of a call's text."""
        if not isinstance(self.item, Call):
            self.waiting.append(delta)
        elif not self.item.text_ended:
            self.item.text(delta, **event)

    def call_done(self, text: Any, event: Json) -> None:
        """Takes the end of a call's text."""
        if not isinstance(self.item, Call):
            self.given[TEXT_OF_ITEM[self.type].field] = call_text(text) or "".join(self.waiting)
        elif not self.item.text_ended:
            whole = call_text(text) or call_text(self.given.get(self.item.kind.field))
            if rest := remainder(self.item.pieces, whole):
                self.item.text(rest)
            self.item.end_text(**event)

    @property
    def name(self) -> str:
        """The name that a call is known by, "" while it has none."""
        return string_in(self.given, "name")

    # The end...

    def close(self, status: str, event: Json) -> None:
        """Ends the item as it was given; *status* counts where the upstream has sent none."""
        assert self.item is not None
        self.end_content()
        own = self.given.get("status")
        own = own if isinstance(own, str) and own not in ("", "in_progress") else status
        self.item.close(own, self.whole(), **event)

    def end_content(self) -> None:
        """Writes what is left of its text."""
        if isinstance(self.item, Call) and (self.type in NAMED or self.item.pieces):
            self.call_done(None, {})

    def settle(self) -> None:
        """Makes the item hold what is known of it, without events, since the response has failed."""
        if self.item is not None and not self.item.closed:
            self.item.adopt(self.whole())

    def complement(self, given: Json) -> None:
        """Takes over what the final object says beyond the item's own end."""
        if self.item is None:
            return
        self.learn(given)
        value, own = self.item.value, filled(self.item.value)
        value.update({name: member for name, member in self.whole().items() if name not in own})

    def whole(self) -> Json:
        """Returns the item as the upstream gave it, under the name that was announced."""
        whole = dict(self.given)
        if isinstance(self.item, Call) and self.item.kind.field in whole:
            whole[self.item.kind.field] = call_text(whole[self.item.kind.field])
        if self.item is not None and "name" in self.item.value:
            whole["name"] = self.item.value["name"] or self.name
        return whole
