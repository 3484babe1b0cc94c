"""Follows a sloppy event stream and tells the event writer what it means.

Strategy: nothing that the upstream says about order or numbering is relied on. Every event is taken for what it means
("here is text of a message", "this item has ended") and given to the item that it speaks of; the writer puts before it
whatever the grammar wants. What has not been told when the response ends is told then, from its final object. The rule
for the end itself is strict: a terminal event, or `[DONE]` after an item. A stream that merely closes was cut, however
whole it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ...errors import UpstreamAuthError, UpstreamTruncated
from ...wire.event_writer import Emitter
from ...wire.items import CLIENT_CALLS
from ...wire.json_scan import parsed
from ..failure import reported_failure
from .events import CALLS, ENDS, PARTS, PROGRESS, STATES, TEXTS, ended_as, is_item, item_of, type_of, without
from .parts import PartedSlot
from .roster import Roster
from .slot import Slot, TextPlace
from .values import Identity, Json, UpstreamResponse, repaired_error

NAMELESS = frozenset({"function_call", "custom_tool_call", "mcp_call"})
"""Calls that are of no use without a name."""
ITEM_STATUS = {"completed": "completed", "in_progress": "in_progress"}
"""The status of items that say none, by that of their response; of all others it is incomplete."""
EARLY = 64  # events that we do not know before the response has begun; more are left out

encode = msgspec.json.Encoder().encode


class LenientTranslator:
    """Reads one reply; see `Translator`. *identity* counts as far as the upstream does not say who it is."""

    def __init__(self, emitter: Emitter, identity: Identity) -> None:
        self.emitter = emitter
        self.upstream = UpstreamResponse(emitter, identity)
        self.roster = Roster()
        self.unary = False
        """Whether the reply is one response, and no stream."""
        self.early: list[tuple[str, Json]] = []
        """Events that we do not know, and that came before the response had a name."""

    def feed(self, event: str, data: bytes) -> None:
        if not data.startswith(b"{"):
            if not (data := data.strip()):
                return
            if data == b"[DONE]":
                return self.done()
        found = parsed(data)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        if self.unary:
            return self.whole(found)
        type = type_of(event, found)
        if type is None:
            raise ValueError("an event without a type")
        found.pop("type", None)
        found.pop("sequence_number", None)
        self.event(type, found)

    def close(self) -> None:
        """A stream that merely closes was cut, however whole it looks."""
        self.settle()

    def event(self, type: str, event: Json) -> None:
        """One event, whose number and type are not among its members any more."""
        known = HANDLERS.get(type)
        if known is None and type in ENDS:
            return self.end(type, event)
        if self.emitter.failure is not None:
            return  # behind an error only the failed response has a meaning
        if known is None:
            return self.rare(type, event)
        if "in_progress" not in self.emitter.announced:
            self.begin(event)
            self.emitter.begin()
        self.emitter.meaningful = True
        known[0](self, event, known[1])

    def rare(self, type: str, event: Json) -> None:
        """An event that brings no text and no item."""
        stem, _, state = type.rpartition(".")
        if type == "error":
            self.emitter.report(reported_failure(encode(event)))
        elif stem == "response" and state in STATES:
            self.upstream.learn(event)
            members = {} if "object" in event else without(event, "response")
            self.begin(event, members if state == "created" else {})
            self.upstream.announce(state, members)
        elif not type.isprintable():
            raise ValueError("a type that would break the line")
        elif (hosted := PROGRESS.fullmatch(type)) is not None and hosted[1] not in CLIENT_CALLS:
            self.begin(event)
            self.emitter.begin()
            self.progress(hosted[1], hosted[2], event)
        elif self.emitter.begun:
            self.unknown(type, event)
        elif len(self.early) < EARLY:
            self.early.append((type, event))

    def done(self) -> None:
        """`[DONE]`: the upstream says that this was all."""
        if self.emitter.failure is not None:
            self.settle()
            self.emitter.fail(self.emitter.failure)
        elif self.roster.slots:
            self.end("response.completed", {})
        else:
            self.emitter.fail(UpstreamTruncated("The upstream's stream ended without a response."))

    def begin(self, event: Json, members: Json | None = None) -> None:
        """See that the response is announced, under the id that *event* may name."""
        if self.upstream.begin(event, members or {}):
            for type, early in self.early:
                self.unknown(type, early)
            self.early.clear()

    # What stands between...

    def text_delta(self, event: Json, kind: TextPlace) -> None:
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
        text = event.pop("refusal" if kind.part == "refusal" else "text", None)
        slot, number = self.place(event, kind.item, kind.container)
        if slot is not None:
            logprobs = event.pop("logprobs", None) if kind.part == "output_text" else None
            slot.text_done(kind, number, text, logprobs, event)

    def part_added(self, event: Json, kind: tuple[str, str]) -> None:
        part = event.pop("part", None)
        slot, number = self.place(event, self.holder(event, kind[0], part, begins=True), kind[1], begins=True)
        if slot is not None:
            slot.part_added(kind[1], number, part, event)

    def part_done(self, event: Json, kind: tuple[str, str]) -> None:
        part = event.pop("part", None)
        slot, number = self.place(event, self.holder(event, kind[0], part), kind[1])
        if slot is not None:
            slot.part_done(kind[1], number, part, event)

    def annotation(self, event: Json, _: None) -> None:
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, "message") or self.opened("message", number, id)
        assert isinstance(slot, PartedSlot)
        event.pop("annotation_index", None)
        slot.annotation(event.pop("content_index", None), event.pop("annotation", None), event)

    def call_delta(self, event: Json, kind: tuple[str, str]) -> None:
        delta = event.pop("delta", None)
        slot = self.call(event, kind[0], begins=True)
        if isinstance(delta, str) and slot in self.roster.open:
            slot.call_delta(delta, event)

    def call_done(self, event: Json, kind: tuple[str, str]) -> None:
        text, slot = event.pop(kind[1], None), self.call(event, kind[0])
        name = event.pop("name", None) if kind[0] == "function_call" else None
        if slot in self.roster.open:
            slot.given |= {"name": name} if name and not slot.given.get("name") else {}
            slot.call_done(text, event)

    def holder(self, event: Json, type: str, part: Any, *, begins: bool = False) -> str:
        """The type of the item that a part is of: those of reasoning may be told as those of a message are. A part that
        *begins* is of it only if neither its index nor its id says something else."""
        number, id = event.get("output_index"), event.get("item_id")
        known = self.roster.known(number, id)
        is_thought = known is not None and known.type == "reasoning" and known in self.roster.open
        if known is not None and begins:
            is_elsewhere = isinstance(number, int) and known.number != number
            is_thought = is_thought and not is_elsewhere and id in (None, "", known.given.get("id"))
        named = isinstance(part, dict) and part.get("type") == "reasoning_text"
        return "reasoning" if named or is_thought else type

    def place(self, event: Json, type: str, container: str, *, begins: bool = False) -> tuple[PartedSlot | None, Any]:
        """The open item that an event speaks of, opened if it was not announced, and the number of the part. No item
        where the event comes too late."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, type, begins=begins)
        if slot is None:
            slot = self.opened(type, number, id)
        elif slot not in self.roster.open:
            return None, event.pop("summary_index" if container == "summary" else "content_index", None)
        assert isinstance(slot, PartedSlot)  # as every slot of a type that has parts
        return slot, event.pop("summary_index" if container == "summary" else "content_index", None)

    def opened(self, type: str, number: Any, id: Any) -> Slot:
        """An item that was not announced."""
        slot = self.roster.unannounced(type, number, id)
        slot.open(self.emitter, {})
        return slot

    def call(self, event: Json, type: str, *, begins: bool = False) -> Slot:
        """The call that an event speaks of. One that was not announced has no name yet: it is when its item comes."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        return self.roster.find(number, id, type, begins=begins) or self.roster.unannounced(type, number, id)

    def progress(self, type: str, phase: str, event: Json) -> None:
        """A hosted tool's call gets on."""
        number, id = event.pop("output_index", None), event.pop("item_id", None)
        slot = self.roster.find(number, id, type) or self.opened(type, number, id)
        self.emitter.meaningful = True
        if slot in self.roster.open and slot.item is not None:
            slot.item.progress(phase, **event)

    def unknown(self, type: str, event: Json) -> None:
        """An event that we do not know goes on, at the place of its item."""
        known = self.roster.known(event.get("output_index"), event.get("item_id"))
        place = known.item.where if known is not None and known.item is not None else {}
        self.emitter.meaningful = True
        self.emitter.emit(type, **event | {name: value for name, value in place.items() if name in event})

    # Items...

    def item_added(self, event: Json, _: None) -> None:
        given = item_of(event.pop("item", None))
        slot = self.roster.announced(event.pop("output_index", None), given)
        if slot is not None and slot.item is None and slot.can_open():
            slot.open(self.emitter, event)

    def item_done(self, event: Json, _: None) -> None:
        given, number = item_of(event.pop("item", None)), event.pop("output_index", None)
        slot = self.roster.ended(number, given)
        if slot is None:
            slot = self.roster.add(given["type"], number, given)
        if slot in self.roster.open:
            self.closed(slot, given, "completed", event)
        else:
            slot.complement(given)

    def closed(self, slot: Slot, given: Json, status: str, event: Json) -> None:
        """An item has ended as *given*; one that could not be announced until now is."""
        slot.learn(given)
        if slot.item is None:
            slot.open(self.emitter, {})
        slot.close(status, event)
        self.roster.open.pop(slot, None)

    # The end...

    def end(self, type: str, event: Json) -> None:
        """A terminal event, or what stands for one."""
        self.upstream.learn(event)
        self.begin(event)
        self.emitter.begin()
        status = self.upstream.ending(type)
        self.adopt(self.upstream.given.get("output"), status)
        members = {} if "object" in event else without(event, "response", "usage")
        if status == "failed":
            return self.failed(members)
        self.close_all(status)
        self.upstream.end(status, members)

    def adopt(self, output: Any, status: str) -> None:
        """Tell of the items in the final *output* what has not been told."""
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
        """End the items that the upstream has not ended; of an incomplete response the last one is incomplete."""
        for slot in list(self.roster.open):
            if slot.item is None and slot.type in NAMELESS and not slot.given.get("name"):
                self.emitter.warn(f"a {slot.type} without a name")
            else:
                last = slot.item is None or slot.item is self.emitter.items[-1]
                self.closed(slot, {}, status if last else "completed", {})

    def failed(self, members: Json) -> None:
        """The upstream says that the response has failed, in an error event before or in its last one."""
        error = self.emitter.failure or reported_failure(encode(self.upstream.given))
        given = self.upstream.given.get("error")
        self.settle()
        own = None if isinstance(error, UpstreamAuthError) or not isinstance(given, dict) else repaired_error(given)
        self.emitter.report(error)
        self.emitter.fail(error, own, **members)

    def settle(self) -> None:
        """Let the response and the items that are open hold what is known of them: nothing more comes."""
        for slot in self.roster.open:
            slot.settle()
        if self.emitter.begun and self.emitter.terminal is None:
            self.upstream.describe("failed", usage=True)

    # Replies that come whole...

    def whole(self, response: Json) -> None:
        """A response that came whole, in whatever state it is."""
        if response.get("object") != "response" and not isinstance(response.get("output"), list):
            raise ValueError("not a response")
        status = response.get("status")
        if not isinstance(status, str) or not status:
            status = "incomplete" if response.get("incomplete_details") else "completed"
        if self.emitter.stream:
            return self.event(ended_as(status), {"response": response})
        self.upstream.learn({"response": response})
        self.begin({})
        self.emitter.begin()
        self.adopt(self.upstream.given.get("output"), ITEM_STATUS.get(status, "incomplete"))
        self.upstream.describe(status, usage=True)
        self.emitter.rest(status)


def _handlers() -> dict[str, tuple[Callable[[LenientTranslator, Json, Any], None], Any]]:
    """What is done with each event that has a part in the grammar, and for what."""
    of = LenientTranslator
    found: dict[str, tuple[Callable[[LenientTranslator, Json, Any], None], Any]] = {
        "response.output_item.added": (of.item_added, None),
        "response.output_item.done": (of.item_done, None),
        "response.output_text.annotation.added": (of.annotation, None),
    }
    for stem, text in TEXTS.items():
        found |= {f"{stem}.delta": (of.text_delta, text), f"{stem}.done": (of.text_done, text)}
    for stem, call in CALLS.items():
        found |= {f"{stem}.delta": (of.call_delta, call), f"{stem}.done": (of.call_done, call)}
    for stem, part in PARTS.items():
        found |= {f"{stem}.added": (of.part_added, part), f"{stem}.done": (of.part_done, part)}
    return found


HANDLERS = _handlers()
