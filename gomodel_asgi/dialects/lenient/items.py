"""The items of one reply, and the events of the Responses API that speak of them, as sloppy upstreams write both.

Strategy: an event is taken for what it means ("here is text of a message", "this item has ended") and handed to the
item that it speaks of; nothing that the upstream says about order or numbering is relied on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ...wire.event_writer import Emitter
from ...wire.items import TEXT_OF_ITEM, Json
from ...wire.response import PREFIX, TERMINAL
from .parts import PartedSlot
from .roster import Roster
from .slot import CONTAINERS, Slot, TextPlace

NAMELESS = frozenset({"function_call", "custom_tool_call", "mcp_call"})
"""Calls that are of no use without a name."""
STATES = frozenset({"created", "queued", "in_progress"})
ENDS = frozenset({*TERMINAL, "response.done", "response.cancelled"})
"""What says that the response has ended; the last two mean what its status says."""
PARTS = {
    "response.content_part": ("message", "content"),
    "response.reasoning_part": ("reasoning", "content"),  # vLLM's name
    "response.reasoning_summary_part": ("reasoning", "summary"),
}
"""What announces and ends a part: the item that it is of, and the member that it stands in."""
TEXTS = {
    "response.output_text": TextPlace("message", "content", "output_text"),
    "response.refusal": TextPlace("message", "content", "refusal"),
    "response.reasoning_text": TextPlace("reasoning", "content", "reasoning_text"),
    "response.reasoning": TextPlace("reasoning", "content", "reasoning_text"),  # Open Responses' name
    "response.reasoning_summary_text": TextPlace("reasoning", "summary", "summary_text"),
}
PROGRESS = re.compile(r"response\.(\w+_call|mcp_list_tools|compaction)\.(\w+)")
"""How a hosted tool's call gets on."""


def type_of(name: str, event: Json) -> str | None:
    """Returns the type of an event, None where nothing says it: its member `type`, else what the event holds, else
    *name*.

    An event that is named `error` is an error unless its `type` is one of this API's.
    """
    given = event.get("type")
    if isinstance(given, str) and given:
        return "error" if name == "error" and not given.startswith(PREFIX) else given
    if event.get("object") == "response":
        return ended_as(event.get("status"))
    if event.get("error") and not name.startswith(PREFIX):
        return "error"
    return name if name and name != "message" else None


def ended_as(status: Any) -> str:
    """Returns the type of the event that a response in *status* comes in."""
    if status in ("queued", "in_progress"):
        return f"response.{status}"
    return f"response.{status}" if status in ("incomplete", "failed") else "response.completed"


def is_item(value: Any) -> bool:
    """Returns whether *value* is an item."""
    return isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != ""


def item_of(value: Any) -> Json:
    """Returns *value*, which should be an item.

    :raises ValueError: it is none.
    """
    if not is_item(value):
        raise ValueError("an item without a type")
    item: Json = value
    return item


def without(event: Json, *names: str) -> Json:
    """Returns the members of *event* but for those of these *names*."""
    return {name: value for name, value in event.items() if name not in names}


class LenientItems:
    """The items of one reply, written as the upstream's events bring them."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
        self.roster = Roster(dict.fromkeys(CONTAINERS, PartedSlot))

    # One method for each kind of event...

    def text_delta(self, event: Json, kind: TextPlace) -> None:
        """Takes more text of a part.

        :raises ValueError: the delta is not text.
        """
        delta = event.pop("delta", None)
        if delta is None:
            return
        if not isinstance(delta, str):
            raise ValueError("a delta that is not text")
        slot, number = self.place(event, kind.item, kind.container, begins=True)
        if slot is not None:
            logprobs = event.pop("logprobs", None) if kind.part == "output_text" else None
            slot.text_delta(kind, number, delta, logprobs, event)

    def text_done(self, event: Json, kind: TextPlace) -> None:
        """Takes the end of a part's text."""
        text = event.pop("refusal" if kind.part == "refusal" else "text", None)
        slot, number = self.place(event, kind.item, kind.container)
        if slot is not None:
            logprobs = event.pop("logprobs", None) if kind.part == "output_text" else None
            slot.text_done(kind, number, text, logprobs, event)

    def part_added(self, event: Json, kind: tuple[str, str]) -> None:
        """Takes the announcement of a part."""
        part = event.pop("part", None)
        slot, number = self.place(event, self.holder(event, kind[0], part, begins=True), kind[1], begins=True)
        if slot is not None:
            slot.part_added(kind[1], number, part, event)

    def part_done(self, event: Json, kind: tuple[str, str]) -> None:
        """Takes the end of a part."""
        part = event.pop("part", None)
        slot, number = self.place(event, self.holder(event, kind[0], part), kind[1])
        if slot is not None:
            slot.part_done(kind[1], number, part, event)

    def annotation(self, event: Json, _: None) -> None:
        """Takes a citation of a message's text."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, "message") or self.open_unannounced("message", number, id)
        assert isinstance(slot, PartedSlot)
        event.pop("annotation_index", None)
        slot.annotation(event.pop("content_index", None), event.pop("annotation", None), event)

    def call_delta(self, event: Json, kind: tuple[str, str]) -> None:
        """Takes more of a call's text."""
        delta = event.pop("delta", None)
        slot = self.call(event, kind[0], begins=True)
        if isinstance(delta, str) and slot in self.roster.open:
            slot.call_delta(delta, event)

    def call_done(self, event: Json, kind: tuple[str, str]) -> None:
        """Takes the end of a call's text."""
        text, slot = event.pop(kind[1], None), self.call(event, kind[0])
        name = event.pop("name", None) if kind[0] == "function_call" else None
        if slot in self.roster.open:
            slot.given |= {"name": name} if name and not slot.given.get("name") else {}
            slot.call_done(text, event)

    def item_added(self, event: Json, _: None) -> None:
        """Takes the announcement of an item, which is written as soon as enough is known of it."""
        given = item_of(event.pop("item", None))
        slot = self.roster.announced(event.pop("output_index", None), given)
        if slot is not None and slot.item is None and slot.can_open():
            slot.open(self.emitter, event)

    def item_done(self, event: Json, _: None) -> None:
        """Takes the end of an item."""
        given, number = item_of(event.pop("item", None)), event.pop("output_index", None)
        slot = self.roster.ended(number, given)
        if slot is None:
            slot = self.roster.add(given["type"], number, given)
        if slot in self.roster.open:
            self.closed(slot, given, "completed", event)
        else:
            slot.complement(given)

    def progress(self, type: str, phase: str, event: Json) -> None:
        """Takes a phase of a hosted tool's call."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, type) or self.open_unannounced(type, number, id)
        self.emitter.meaningful = True
        if slot in self.roster.open and slot.item is not None:
            slot.item.progress(phase, **event)

    def unknown(self, type: str, event: Json) -> None:
        """Passes on an event that we do not know, at the place of its item."""
        known = self.roster.known(event.get("output_index"), event.get("item_id"))
        place = known.item.where if known is not None and known.item is not None else {}
        self.emitter.meaningful = True
        self.emitter.emit(type, **event | {name: value for name, value in place.items() if name in event})

    # Which item an event speaks of...

    def holder(self, event: Json, type: str, part: Any, *, begins: bool = False) -> str:
        """Returns the type of the item that a part belongs to, *type* unless the event speaks of reasoning.

        Some servers announce the parts of reasoning as those of a message. A part that *begins* belongs to an open
        reasoning item only if neither its index nor its id says otherwise.
        """
        number, id = event.get("output_index"), event.get("item_id")
        known = self.roster.known(number, id)
        is_thought = known is not None and known.type == "reasoning" and known in self.roster.open
        if known is not None and begins:
            is_elsewhere = isinstance(number, int) and known.number != number
            is_thought = is_thought and not is_elsewhere and id in (None, "", known.given.get("id"))
        named = isinstance(part, dict) and part.get("type") == "reasoning_text"
        return "reasoning" if named or is_thought else type

    def place(self, event: Json, type: str, container: str, *, begins: bool = False) -> tuple[PartedSlot | None, Any]:
        """Returns the open item that an event speaks of, and the number of the part.

        An item that was not announced is opened. The item is None where the event comes too late.
        """
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, type, begins=begins)
        if slot is None:
            slot = self.open_unannounced(type, number, id)
        elif slot not in self.roster.open:
            return None, event.pop("summary_index" if container == "summary" else "content_index", None)
        assert isinstance(slot, PartedSlot)  # as every slot of a type that has parts
        return slot, event.pop("summary_index" if container == "summary" else "content_index", None)

    def open_unannounced(self, type: str, number: Any, id: Any) -> Slot:
        """An item that was not announced."""
        slot = self.roster.unannounced(type, number, id)
        slot.open(self.emitter, {})
        return slot

    def call(self, event: Json, type: str, *, begins: bool = False) -> Slot:
        """Returns the call that an event speaks of. One that was not announced is written when its name comes."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        return self.roster.find(number, id, type, begins=begins) or self.roster.unannounced(type, number, id)

    # The end...

    def closed(self, slot: Slot, given: Json, status: str, event: Json) -> None:
        """Ends an item as *given*; one that could not be announced until now is announced first."""
        slot.learn(given)
        if slot.item is None:
            slot.open(self.emitter, {})
        slot.close(status, event)
        self.roster.open.pop(slot, None)

    def adopt(self, output: Any, status: str) -> None:
        """Writes what the final *output* holds beyond the events."""
        found = [item for item in output if is_item(item)] if isinstance(output, list) else []
        for given, slot in self.roster.paired(found):
            if slot is None and self.emitter.failure is not None:
                continue  # behind the error event nothing can be announced any more
            slot = slot or self.roster.add(given["type"], None, given)
            if slot not in self.roster.open:
                slot.complement(given)
            elif status != "failed":
                self.closed(slot, given, status if given is found[-1] else "completed", {})
            else:
                slot.learn(given)
                if slot.item is None and self.emitter.failure is None:
                    slot.open(self.emitter, {})

    def close_all(self, status: str) -> None:
        """Ends the items that the upstream has not ended; of an incomplete response the last one is incomplete."""
        for slot in list(self.roster.open):
            if slot.item is None and slot.type in NAMELESS and not slot.given.get("name"):
                self.emitter.warn(f"a {slot.type} without a name")
            else:
                last = slot.item is None or slot.item is self.emitter.items[-1]
                self.closed(slot, {}, status if last else "completed", {})


def _handlers() -> dict[str, tuple[Callable[[LenientItems, Json, Any], None], Any]]:
    """What is done with each event that has a part in the grammar, and for what."""
    of = LenientItems
    found: dict[str, tuple[Callable[[LenientItems, Json, Any], None], Any]] = {
        "response.output_item.added": (of.item_added, None),
        "response.output_item.done": (of.item_done, None),
        "response.output_text.annotation.added": (of.annotation, None),
    }
    for stem, text in TEXTS.items():
        found |= {f"{stem}.delta": (of.text_delta, text), f"{stem}.done": (of.text_done, text)}
    for type, call in TEXT_OF_ITEM.items():
        place = (type, call.field)
        found |= {call.delta: (of.call_delta, place), call.done: (of.call_done, place)}
    for stem, part in PARTS.items():
        found |= {f"{stem}.added": (of.part_added, part), f"{stem}.done": (of.part_done, part)}
    return found


HANDLERS = _handlers()
