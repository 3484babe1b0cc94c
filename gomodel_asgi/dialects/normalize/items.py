"""Items of a reply that is being repaired: a handle each, which takes what comes and knows what is still due.

Deltas are what the client already has, so they are the truth: the text of a `done` event, of a part or of an item is
used for what it has beyond them, which is sent as one more delta, and where it contradicts them they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .kinds import CALL_OF_ITEM, CONTAINERS, DEFAULT_PARTS, PART_EVENTS, PLACES, TEXT_OF_PART, CallKind, TextKind
from .values import Json, call_text, listed, repaired_item, repaired_part

Write = Callable[[str, Json], None]


class Text:
    """Text that comes in pieces, and whether its end has been told."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.told = False

    def __str__(self) -> str:
        return "".join(self.pieces)

    def beyond(self, whole: Any) -> str:
        """What *whole* has more than has come; "" if it is not the same text."""
        return whole[len(str(self)) :] if isinstance(whole, str) and whole.startswith(str(self)) else ""


class Part(Text):
    """A content or summary part at *index* of its container; *kind* is None where we do not know its type."""

    def __init__(self, container: str, index: int, value: Json) -> None:
        super().__init__()
        self.container = container
        self.index = index
        self.value = value
        self.kind: TextKind | None = TEXT_OF_PART.get(value["type"]) if "type" in value else None
        self.closed = False

    def begun(self) -> Json:
        """As it is when nothing of it has come."""
        emptied = {"text": "", "refusal": "", "annotations": [], "logprobs": []}
        if self.kind is None:
            return self.value
        return {name: emptied.get(name, member) for name, member in self.value.items()}

    def whole(self, given: Json | None = None) -> Json:
        """As it is now; *given* is the part as the upstream has it at the end."""
        if self.kind is None:
            return self.value if given is None else given
        value = self.value if given is None else {**self.value, **filled(given)}
        return {**value, self.kind.field: str(self)}


def filled(value: Json) -> Json:
    """The members of *value* that say something."""
    return {name: member for name, member in value.items() if member not in (None, "", [], {})}


class Item:
    """One output item at *index* of the output; *given* is how the upstream announced it."""

    def __init__(self, write: Write, index: int, given: Json, id: str, event: Json) -> None:
        self.write = write
        self.index = index
        self.given = given
        self.value = repaired_item({**given, **self._nothing(given)}, id)
        self.type: str = given["type"]
        self.parts: dict[str, list[Part]] = {container: [] for container in CONTAINERS.get(self.type, ())}
        self.places: dict[tuple[str, int], Part] = {}
        self.text = Text()
        self.closed = False
        number = event.get("output_index")
        self.number: int | None = number if isinstance(number, int) else None
        """The upstream's own index of it, if it gave one."""
        self.named = False
        """Whether an event has named it by an id that is its own."""
        write("response.output_item.added", {**event, "output_index": index, "item": self.value})

    @staticmethod
    def _nothing(given: Json) -> Json:
        """What of *given* is empty when it is announced, since events bring it."""
        call = CALL_OF_ITEM.get(given["type"])
        field = {call.field: ""} if call is not None and call.due else {}
        return {container: [] for container in CONTAINERS.get(given["type"], ()) if container in given} | field

    @property
    def where(self) -> Json:
        return {"item_id": self.value["id"], "output_index": self.index}

    def at(self, part: Part) -> Json:
        return {**self.where, PLACES[part.container]: part.index}

    # Parts...

    def part_added(self, container: str, event: Json) -> None:
        """A part is announced; one that is open at its place already was so by its own text."""
        part = self._placed(container, event)
        given = self._part_of(container, event)
        if part is None or part.closed or part.value.get("type") != given.get("type"):
            self._open(container, event.get(PLACES[container]), given, event)

    def part_done(self, container: str, event: Json) -> None:
        """A part has ended."""
        given = self._part_of(container, event)
        part = self._placed(container, event) or self._open(container, event.get(PLACES[container]), given, {})
        self._end(part, given if "part" in event else None, event)

    def text_delta(self, kind: TextKind, event: Json) -> None:
        """More text of a part, which is opened if it was not announced."""
        delta = event.get("delta")
        if delta is None:
            return
        if not isinstance(delta, str):
            raise ValueError("a delta that is not text")
        self._delta(self._part(kind, event), kind, event)

    def text_done(self, kind: TextKind, event: Json) -> None:
        """The text of a part has ended; what comes twice is told once."""
        part = self._placed(kind.container, event)
        if part is None or part.kind is None or part.kind.part != kind.part:
            part = self._part(kind, event)
        if not part.told:
            self._more(part, event.get(kind.field))
            self._told(part, event)

    def annotation(self, event: Json) -> None:
        """A citation in a text."""
        part = self._part(TEXT_OF_PART["output_text"], event)
        number = len(part.value["annotations"])
        part.value["annotations"].append(event.get("annotation"))
        self.write(event["type"], {**event, **self.at(part), "annotation_index": number})

    def _part_of(self, container: str, event: Json) -> Json:
        part = event.get("part")
        return repaired_part(part if isinstance(part, dict) else {}, DEFAULT_PARTS[self.type, container])

    def _placed(self, container: str, event: Json) -> Part | None:
        number, parts = event.get(PLACES[container]), self.parts[container]
        if isinstance(number, int):
            return self.places.get((container, number))
        return parts[-1] if parts else None

    def _part(self, kind: TextKind, event: Json) -> Part:
        """The open part that an event of *kind* speaks of."""
        part = self._placed(kind.container, event)
        if part is not None and not part.told and part.kind is not None and part.kind.part == kind.part:
            return part
        if part is not None:
            self._end(part)
        value = repaired_part({"type": kind.part}, kind.part)
        part = self._open(kind.container, event.get(kind.place), value, {})
        part.kind = kind
        return part

    def _open(self, container: str, number: Any, given: Json, event: Json) -> Part:
        parts = self.parts[container]
        part = Part(container, len(parts), given)
        parts.append(part)
        self.places[container, number if isinstance(number, int) else part.index] = part
        self.write(f"{PART_EVENTS[container]}.added", {**event, **self.at(part), "part": part.begun()})
        return part

    def _more(self, part: Part, whole: Any) -> None:
        """The rest of a text that its end brings, or that was there when it was announced."""
        assert part.kind is not None
        if not part.pieces and not whole:
            whole = part.value.get(part.kind.field)
        if rest := part.beyond(whole):
            self._delta(part, part.kind, {"delta": rest})

    def _delta(self, part: Part, kind: TextKind, event: Json) -> None:
        part.pieces.append(event["delta"])
        logprobs: Json = {}
        if kind.part == "output_text":
            logprobs["logprobs"] = listed(event.get("logprobs"))
            part.value["logprobs"].extend(logprobs["logprobs"])
        self.write(f"{kind.name}.delta", {**event, **self.at(part), **logprobs})

    def _told(self, part: Part, event: Json) -> None:
        assert part.kind is not None
        part.told = True
        logprobs: Json = {}
        if part.kind.part == "output_text":
            logprobs["logprobs"] = listed(event.get("logprobs")) or part.value["logprobs"]
        self.write(f"{part.kind.name}.done", {**event, **self.at(part), part.kind.field: str(part), **logprobs})

    def _end(self, part: Part, given: Json | None = None, event: Json | None = None) -> None:
        if part.closed:
            return
        if part.kind is not None and not part.told:
            self._more(part, None if given is None else given.get(part.kind.field))
            self._told(part, {})
        part.closed = part.told = True
        part.value = part.whole(given)
        self.write(f"{PART_EVENTS[part.container]}.done", {**(event or {}), **self.at(part), "part": part.value})

    # Calls...

    def call_delta(self, kind: CallKind, event: Json) -> None:
        """More of a call's text."""
        delta = event.get("delta")
        if isinstance(delta, str) and not self.text.told:
            self.text.pieces.append(delta)
            self.write(f"{kind.name}.delta", {**event, **self.where})

    def call_done(self, kind: CallKind, event: Json) -> None:
        """A call's text has ended; of a function, one without arguments has an empty object of them."""
        if self.text.told:
            return
        rest = self.text.beyond(call_text(event, kind.field) or call_text(self.given, kind.field))
        if kind.item == "function_call" and not (str(self.text) + rest).strip():
            rest = "{}"
        if rest:
            self.call_delta(kind, {"delta": rest})
        self.text.told = True
        name = {"name": event.get("name") or self.value["name"]} if kind.item == "function_call" else {}
        self.write(f"{kind.name}.done", {**event, **self.where, **name, kind.field: str(self.text)})

    # The end...

    def close(self, given: Json | None, status: str, event: Json | None = None) -> None:
        """End the item; *given* is how the upstream has it at the end, *status* counts where that has none."""
        if self.closed:
            return
        self.given = {**self.given, **(given or {})}
        whole = self._whole()
        for container, parts in self.parts.items():
            self._end_all(container, whole.get(container, []))
            whole |= {container: [part.value for part in parts]} if parts or container in self.value else {}
        if (call := CALL_OF_ITEM.get(self.type)) is not None and (call.due or self.text.pieces):
            self.call_done(call, {call.field: whole.get(call.field), "name": whole.get("name")})
            whole[call.field] = str(self.text)
        whole["status"] = self._status(status)
        self.value, self.closed = whole, True
        self.write("response.output_item.done", {**(event or {}), "output_index": self.index, "item": whole})

    def settle(self) -> None:
        """Make `value` hold what has come, without events: the response has failed."""
        if self.closed:
            return
        self.closed = True
        self.value = self._whole() | {"status": self._status("incomplete")}
        for container, parts in self.parts.items():
            if parts:
                self.value[container] = [part.whole() for part in parts]
        if (call := CALL_OF_ITEM.get(self.type)) is not None and self.text.pieces:
            self.value[call.field] = str(self.text)

    def complement(self, given: Json) -> None:
        """Take from the final object what the item's own end left out."""
        self.given = {**self.given, **given}
        whole, own = self._whole(), filled(self.value)
        for container in own.keys() & self.parts.keys():
            last = list(whole.get(container, []))
            own[container] = [{**part, **_taken(last, part), **filled(part)} for part in own[container]]
        self.value = {**self.value, **whole, **own}

    def _status(self, otherwise: str) -> str:
        own = self.given.get("status")
        return own if isinstance(own, str) and own not in ("", "in_progress") else otherwise

    def _whole(self) -> Json:
        """The item as it was given, under the identity that was announced."""
        whole = repaired_item(self.given, self.value["id"])
        if "call_id" in self.value:
            whole["call_id"] = self.value["call_id"]
        if self.value.get("name"):
            whole["name"] = whole.get("name") or self.value["name"]
        return whole

    def _end_all(self, container: str, given: list[Json]) -> None:
        """End the parts of *container*, and tell those of *given* that have not come."""
        left = list(self.parts[container])
        for value in given:
            part = next((part for part in left if part.value.get("type") == value.get("type")), None)
            if part is None:
                part = self._open(container, None, value, {})
            else:
                left.remove(part)
            if part.closed:
                part.value = {**value, **filled(part.value)}
            else:
                self._end(part, value)
        for part in left:
            self._end(part)


def _taken(parts: list[Json], like: Json) -> Json:
    """The first of *parts* that is of the type of *like*, taken out; an empty one if there is none."""
    found = next((part for part in parts if part.get("type") == like.get("type")), None)
    if found is not None:
        parts.remove(found)
    return found or {}
