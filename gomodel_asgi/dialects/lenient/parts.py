"""The parts of one message or reasoning item, while it is read.

Strategy: a part is found by its number in the container, or is the latest one of its type, since some servers number
each delta. What a `done` event, a part's end or the item's end says beyond the deltas is sent as one more delta; parts
that no event has brought are written when the item ends.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from typing import Any

from ...wire.items import LISTS, Json, Part, Parted
from .slot import CONTAINERS, Slot, TextPlace, filled, listed, parts_of, remainder, repaired_part, text_of


class PartedSlot(Slot):
    """A slot of a message or of reasoning."""

    item: Parted | None

    def __init__(self, type: str, number: int | None, given: Json) -> None:
        super().__init__(type, number, given)
        self.parts: dict[tuple[str, int], Part] = {}
        self.latest: dict[str, Part] = {}
        self.begun: dict[Part, str] = {}
        """The texts that parts had when they were announced."""
        self.surplus: dict[Part, tuple[str, int]] = {}
        """What the end of a text had beyond its deltas, and how much of that has come late."""
        self.mixed = False
        """Whether parts have shared an index."""

    def is_beginning_of(self, given: Json) -> bool:
        """Returns whether *given* holds the text that has been written, and perhaps more."""
        if self.item is None:
            return True
        written, texts = "", ""
        for container in CONTAINERS[self.type]:
            written += "".join("".join(part.pieces) for part in self.item.parts if part.container == container)
            texts += "".join(map(text_of, self._parts_of(given, container)))
        return texts.startswith(written)

    def content(self) -> Hashable:
        """Returns the texts of its parts, in the form of `content_of`."""
        if self.item is None:
            return None
        return self.type, tuple(sorted("".join(part.pieces) for part in self.item.parts))

    # What events bring...

    def text_delta(self, kind: TextPlace, number: Any, delta: str, logprobs: Any, event: Json) -> None:
        """Takes more text of a part, which is opened if it was not announced."""
        part = self._placed(kind.container, number, kind.part)
        if part is None or part.text_ended or part.type != kind.part:
            if part is not None and part.type == kind.part and self._is_late(part, delta):
                return
            part = self._next(kind, number)
        part.text(delta, listed(logprobs) if logprobs else None, **event)

    def text_done(self, kind: TextPlace, number: Any, text: Any, logprobs: Any, event: Json) -> None:
        """Takes the end of a part's text; a second end is ignored."""
        part = self._placed(kind.container, number, kind.part)
        if part is None or part.type != kind.part:
            part = self._next(kind, number)
        if not part.text_ended:
            self._more(part, text)
            if logprobs and part.listing:
                part.value["logprobs"] = listed(logprobs)
            part.end_text(**event)

    def part_added(self, container: str, number: Any, given: Any, event: Json) -> None:
        """Takes the announcement of a part. Its own text may have opened it already."""
        part, given = self._placed(container, number), self._repaired(container, given)
        if part is None or part.closed or part.type != given.get("type"):
            self._open_part(container, number, given, event)

    def part_done(self, container: str, number: Any, given: Any, event: Json) -> None:
        """Takes the end of a part."""
        value = self._repaired(container, given)
        part = self._placed(container, number, value.get("type"), ends=True)
        part = part or self._open_part(container, number, value, {})
        self._end(part, value if given is not None else {}, event)

    def annotation(self, number: Any, annotation: Any, event: Json) -> None:
        """Takes a citation of a text; a late one stands in the output alone."""
        part = self._placed("content", number, "output_text", ends=True)
        if part is None or not part.listing:
            if self.item is None or self.item.closed:
                return
            part = self._next(TextPlace("message", "content", "output_text"), number)
        if part.closed:
            part.value["annotations"].append(annotation)
        else:
            part.annotate(annotation, **event)

    def _repaired(self, container: str, part: Any) -> Json:
        return repaired_part(part if isinstance(part, dict) else {}, CONTAINERS[self.type][container])

    def _placed(self, container: str, number: Any, type: Any = None, ends: bool = False) -> Part | None:
        """Returns the part that an event speaks of, or None.

        An unknown number means the latest part, since vLLM numbers each delta: if it is of this *type* and open, or
        merely not closed where the event *ends* it.
        """
        latest = self.latest.get(container)
        if not isinstance(number, int):
            return latest
        part = self.parts.get((container, number))
        if part is None and latest is not None and latest.type == type:
            return None if latest.closed or (latest.text_ended and not ends) else latest
        return part

    def _is_late(self, part: Part, delta: str) -> bool:
        """Returns whether the end of the part's text has brought this delta already."""
        text, at = self.surplus.get(part, ("", 0))
        if not delta or not text.startswith(delta, at):
            return False
        self.surplus[part] = text, at + len(delta)
        return True

    def _next(self, kind: TextPlace, number: Any) -> Part:
        """Returns a new part that was not announced. What stands at its place has ended."""
        part = self._placed(kind.container, number)
        if part is not None:
            self._end(part, {}, {})
        return self._open_part(kind.container, number, repaired_part({}, kind.part), {})

    def _open_part(self, container: str, number: Any, given: Json, event: Json) -> Part:
        assert self.item is not None
        index = number if isinstance(number, int) else self.item.counts[container]
        self.mixed = self.mixed or (container, index) in self.parts
        part = self.item.open_part(given, container, **event)
        self.parts[container, index] = self.latest[container] = part
        if part.kind is not None and (text := given.get(part.kind.field)):
            self.begun[part] = text
        return part

    def _more(self, part: Part, whole: Any) -> None:
        """Writes the rest of a text that its end brings, or that was there when it was announced."""
        if not part.pieces and not whole:
            whole = self.begun.get(part)
        if rest := remainder(part.pieces, whole):
            part.text(rest)
            self.surplus[part] = rest, 0

    def _end(self, part: Part, given: Json, event: Json) -> None:
        if part.closed:
            return
        if part.kind is not None and not part.text_ended:
            self._more(part, given.get(part.kind.field))
        part.close(filled(given) if part.kind is not None else given, **event)

    # The end...

    def end_content(self) -> None:
        """Ends its parts, and writes those that no event has brought."""
        assert self.item is not None
        for container in self.item.containers:
            self._end_parts(container)

    def settle(self) -> None:
        """Makes the item hold the parts that are known of it, without events."""
        super().settle()
        if self.item is None or self.item.closed:
            return
        for container in self.item.containers:
            if parts := self._parts_of(self.given, container):
                self.item.value[container] = parts

    def complement(self, given: Json) -> None:
        """Takes from the final object what the item's own end left out, parts included."""
        own = {} if self.item is None else filled(self.item.value)
        super().complement(given)
        if self.item is None:
            return
        for container in self.item.containers:
            parts = self._parts_of(given, container)
            if parts or own.get(container):
                self.item.value[container] = _complemented(own.get(container, []), parts)

    def _parts_of(self, given: Json, container: str) -> list[Json]:
        return parts_of(given.get(container), CONTAINERS[self.type][container])

    def _end_parts(self, container: str) -> None:
        """Ends the parts of *container*, and writes those that have not come."""
        assert self.item is not None
        given = self._parts_of(self.given, container)
        left = {part: None for part in self.item.parts if part.container == container}
        pairs: list[Part | None] = [None] * len(given)
        for number, value in enumerate(given):
            part = self.parts.get((container, number))
            if part in left and not self.mixed and part.type == value.get("type"):
                pairs[number] = part
                del left[part]
        by_type: defaultdict[Hashable, deque[Part]] = defaultdict(deque)
        for part in left:
            by_type[part.type].append(part)
        announced = _joined(
            (part.type, "".join(part.pieces)) for part in self.item.parts if part.container == container
        )
        texts = _joined((value.get("type"), text_of(value)) for value in given)
        for number, value in enumerate(given):
            part = pairs[number]
            if part is None and (like := by_type[value.get("type")]):
                part = like.popleft()
                del left[part]
            is_silent = part is None or not (part.pieces or part.closed)
            if is_silent and text_of(value) and announced[value["type"]] == texts[value["type"]]:
                if part is not None:
                    self._end(part, {}, {})
                continue  # it was written as one with another part
            if part is None:
                part = self._open_part(container, None, value, {})
            self._end(part, value, {}) if not part.closed else self._amend(part, value)
        for part in left:
            self._end(part, {}, {})

    def _amend(self, part: Part, given: Json) -> None:
        """Takes what the item's end says beyond the part's own end. Further text becomes another part, since it must be
        written.
        """
        part.adopt({name: value for name, value in given.items() if name not in filled(part.value)})
        if part.kind is not None and (rest := remainder(part.pieces, given[part.kind.field])):
            self._end(self._open_part(part.container, None, {**given, part.kind.field: rest}, {}), {}, {})


def _joined(texts: Iterable[tuple[Any, str]]) -> defaultdict[Any, str]:
    """All text of each type."""
    pieces: defaultdict[Any, list[str]] = defaultdict(list)
    for type, text in texts:
        pieces[type].append(text)
    return defaultdict(str, {type: "".join(found) for type, found in pieces.items()})


def _complemented(own: list[Json], given: list[Json]) -> list[Json]:
    """Returns the parts *own*, with what *given* adds to the same text; all of *given* where there are none."""
    by_text: defaultdict[Hashable, deque[Json]] = defaultdict(deque)
    for part in given:
        by_text[part.get("type"), text_of(part)].append(part)
    found = []
    for part in own:
        same = by_text[part.get("type"), text_of(part)]
        last = same.popleft() if same else {}
        lists = {name: last[name] for name in LISTS if len(last.get(name, ())) > len(part.get(name, ()))}
        found.append({**part, **last, **filled(part), **lists})
    return found or given
