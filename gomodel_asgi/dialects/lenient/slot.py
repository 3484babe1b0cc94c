"""One item of the upstream's while it is read, and the item that is written of it.

Deltas are what the client already has, so they are the truth: the text of a `done` event, of a part or of an item is
used for what it has beyond them, which is sent as one more delta, and where it contradicts them they stand.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ...wire.calls import Call
from ...wire.event_writer import Emitter
from ...wire.items import CLIENT_CALLS, LISTS, TEXT_OF_ITEM, TEXT_OF_PART, Item, Part, Parted
from .values import Json, call_text, filled, listed, name_of, parts_of, repaired_part

CONTAINERS = {
    "message": {"content": "output_text"},
    "reasoning": {"summary": "summary_text", "content": "reasoning_text"},
}
"""The members of items that hold parts, and the type of a part that says none."""
NAMED = frozenset({"function_call", "custom_tool_call"})
"""Calls whose text is told in any case, and under a name."""
WHO = ("id", "call_id", "status")
"""Members in which two accounts of one item may differ."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """Text of a part of type *part*, which stands in *container* of an item of type *item*."""

    item: str
    container: str
    part: str


def beyond(pieces: list[str], whole: Any) -> str:
    """What *whole* has more than has come; "" if it is not the same text."""
    text = "".join(pieces)
    return whole[len(text) :] if isinstance(whole, str) and whole.startswith(text) else ""


def content_of(given: Json) -> Hashable:
    """What an item says, in a form that can be compared; None for items that do not say anything. Parts may be told in
    another order than they stand in."""
    type: str = given["type"]
    if type in TEXT_OF_ITEM:
        return type, name_of(given, "name"), _said(type, call_text(given.get(TEXT_OF_ITEM[type].field)))
    if type not in CONTAINERS:
        return None
    parts = [parts_of(given.get(container), default) for container, default in CONTAINERS[type].items()]
    return type, tuple(sorted(_text_of(part) for part in chain.from_iterable(parts)))


def _said(type: str, text: str) -> str:
    return text.strip() or "{}" if type == "function_call" else text


def _text_of(part: Json) -> str:
    kind = TEXT_OF_PART.get(part.get("type", ""))
    return "" if kind is None else part[kind.field]


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
        self.parts: dict[tuple[str, int], Part] = {}
        self.latest: dict[str, Part] = {}
        self.begun: dict[Part, str] = {}
        """The texts that parts had when they were announced."""
        self.ahead: dict[Part, tuple[str, int]] = {}
        """What the end of a text had beyond its deltas, and how much of that has come late."""
        self.mixed = False
        """Whether parts have shared an index."""

    def open(self, emitter: Emitter, event: Json) -> Item:
        """Announce it."""
        given = {name: value for name, value in self.given.items() if name != "status"}
        if self.type in NAMED:
            given["name"] = self._name()
        self.item = emitter.open({**given, "type": self.type}, **event)
        if isinstance(self.item, Call):
            for delta in self.waiting:
                self.item.text(delta)
            self.waiting = []
        return self.item

    def can_open(self) -> bool:
        """Whether all is known that must be known when it is announced."""
        needed: tuple[str, ...] = ("call_id",) if self.type in CLIENT_CALLS else ()
        needed += ("name",) if self.type in NAMED else ()
        return all(name_of(self.given, name) for name in needed)

    def learn(self, given: Json) -> None:
        """Remember what *given* says of it; that it leaves a member empty says nothing."""
        self.given = {**given, **self.given, **filled(given)}

    def akin(self, given: Json) -> bool:
        """Whether *given* can be this item: of its type, and not a call of something else."""
        own, other = self.given.get("name"), given.get("name")
        return self.type == given["type"] and not (own and other and own != other)

    def repeats(self, given: Json) -> bool:
        """Whether *given* is this item once more, and not another one under the same index or id."""
        own, other = self.given.get("call_id"), given.get("call_id")
        if not self.announced and own and other and own != other:
            return False
        content = self.content()
        if content is None:
            return self.announced or all(self.given.get(name) == given[name] for name in given if name not in WHO)
        return self.akin(given) and content == content_of(given)

    def goes_on_as(self, given: Json) -> bool:
        """Whether *given* says what has come, and perhaps more."""
        if self.type in TEXT_OF_ITEM:
            return call_text(given.get(TEXT_OF_ITEM[self.type].field)).startswith("".join(self.pieces))
        if not isinstance(self.item, Parted):
            return True
        told, texts = "", ""
        for container in CONTAINERS[self.type]:
            told += "".join("".join(part.pieces) for part in self.item.parts if part.container == container)
            texts += "".join(map(_text_of, self._parts_of(given, container)))
        return texts.startswith(told)

    @property
    def pieces(self) -> list[str]:
        """The text of a call, as it came."""
        return self.item.pieces if isinstance(self.item, Call) else self.waiting

    def content(self) -> Hashable:
        """What it has said, as `content_of` tells it."""
        if self.type in TEXT_OF_ITEM:
            told = "".join(self.pieces) or call_text(self.given.get(TEXT_OF_ITEM[self.type].field))
            return self.type, self._name(), _said(self.type, told)
        if not isinstance(self.item, Parted):
            return None
        return self.type, tuple(sorted("".join(part.pieces) for part in self.item.parts))

    # Parts...

    def text_delta(self, kind: Spoken, number: Any, delta: str, logprobs: Any, event: Json) -> None:
        """More text of a part, which is opened if it was not announced."""
        part = self._placed(kind.container, number, kind.part)
        if part is None or part.told or part.type != kind.part:
            if part is not None and part.type == kind.part and self._is_late(part, delta):
                return
            part = self._next(kind, number)
        part.text(delta, listed(logprobs) if logprobs else None, **event)

    def text_done(self, kind: Spoken, number: Any, text: Any, logprobs: Any, event: Json) -> None:
        """The text of a part has ended; what comes twice is told once."""
        part = self._placed(kind.container, number, kind.part)
        if part is None or part.type != kind.part:
            part = self._next(kind, number)
        if not part.told:
            self._more(part, text)
            if logprobs and part.listing:
                part.value["logprobs"] = listed(logprobs)
            part.end_text(**event)

    def part_added(self, container: str, number: Any, given: Any, event: Json) -> None:
        """A part is announced; one that is open at its place already was so by its own text."""
        part, given = self._placed(container, number), self._repaired(container, given)
        if part is None or part.closed or part.type != given.get("type"):
            self._open_part(container, number, given, event)

    def part_done(self, container: str, number: Any, given: Any, event: Json) -> None:
        """A part has ended."""
        value = self._repaired(container, given)
        part = self._placed(container, number, value.get("type"), ends=True)
        part = part or self._open_part(container, number, value, {})
        self._end(part, value if given is not None else {}, event)

    def annotation(self, number: Any, annotation: Any, event: Json) -> None:
        """A citation of a text; one that comes late stands in the output alone."""
        part = self._placed("content", number, "output_text", ends=True)
        if part is None or not part.listing:
            if self.item is None or self.item.closed:
                return
            part = self._next(Spoken("message", "content", "output_text"), number)
        if part.closed:
            part.value["annotations"].append(annotation)
        else:
            part.annotate(annotation, **event)

    def _repaired(self, container: str, part: Any) -> Json:
        return repaired_part(part if isinstance(part, dict) else {}, CONTAINERS[self.type][container])

    def _placed(self, container: str, number: Any, type: Any = None, ends: bool = False) -> Part | None:
        """The part that an event speaks of. Where no part has its number it goes on with the latest one, if that is of
        its *type* and open, or merely not closed where it *ends* it: vLLM numbers each delta."""
        latest = self.latest.get(container)
        if not isinstance(number, int):
            return latest
        part = self.parts.get((container, number))
        if part is None and latest is not None and latest.type == type:
            return None if latest.closed or (latest.told and not ends) else latest
        return part

    def _is_late(self, part: Part, delta: str) -> bool:
        """Whether the end of the part's text has brought this delta already."""
        text, at = self.ahead.get(part, ("", 0))
        if not delta or not text.startswith(delta, at):
            return False
        self.ahead[part] = text, at + len(delta)
        return True

    def _next(self, kind: Spoken, number: Any) -> Part:
        """A part that was not announced; what stands at its place has ended."""
        part = self._placed(kind.container, number)
        if part is not None:
            self._end(part, {}, {})
        return self._open_part(kind.container, number, repaired_part({}, kind.part), {})

    def _open_part(self, container: str, number: Any, given: Json, event: Json) -> Part:
        assert isinstance(self.item, Parted)
        index = number if isinstance(number, int) else self.item.counts[container]
        self.mixed = self.mixed or (container, index) in self.parts
        part = self.item.open_part(given, container, **event)
        self.parts[container, index] = self.latest[container] = part
        if part.kind is not None and (text := given.get(part.kind.field)):
            self.begun[part] = text
        return part

    def _more(self, part: Part, whole: Any) -> None:
        """The rest of a text that its end brings, or that was there when it was announced."""
        if not part.pieces and not whole:
            whole = self.begun.get(part)
        if rest := beyond(part.pieces, whole):
            part.text(rest)
            self.ahead[part] = rest, 0

    def _end(self, part: Part, given: Json, event: Json) -> None:
        if part.closed:
            return
        if part.kind is not None and not part.told:
            self._more(part, given.get(part.kind.field))
        part.close(filled(given) if part.kind is not None else given, **event)

    # Calls...

    def call_delta(self, delta: str, event: Json) -> None:
        """More of a call's text."""
        if not isinstance(self.item, Call):
            self.waiting.append(delta)
        elif not self.item.told:
            self.item.text(delta, **event)

    def call_done(self, text: Any, event: Json) -> None:
        """A call's text has ended."""
        if not isinstance(self.item, Call):
            self.given[TEXT_OF_ITEM[self.type].field] = call_text(text) or "".join(self.waiting)
        elif not self.item.told:
            whole = call_text(text) or call_text(self.given.get(self.item.kind.field))
            if rest := beyond(self.item.pieces, whole):
                self.item.text(rest)
            self.item.end_text(**event)

    def _name(self) -> str:
        return name_of(self.given, "name")

    # The end...

    def close(self, status: str, event: Json) -> None:
        """End the item as it was given; *status* counts where the upstream has said none."""
        assert self.item is not None
        if isinstance(self.item, Parted):
            for container in self.item.containers:
                self._end_parts(container)
        elif isinstance(self.item, Call) and (self.type in NAMED or self.item.pieces):
            self.call_done(None, {})
        own = self.given.get("status")
        own = own if isinstance(own, str) and own not in ("", "in_progress") else status
        self.item.close(own, self._whole(), **event)

    def settle(self) -> None:
        """Make the item hold what is known of it, without events: the response has failed."""
        if self.item is None or self.item.closed:
            return
        self.item.adopt(self._whole())
        if isinstance(self.item, Parted):
            for container in self.item.containers:
                if parts := self._parts_of(self.given, container):
                    self.item.value[container] = parts

    def complement(self, given: Json) -> None:
        """Take from the final object what the item's own end left out."""
        if self.item is None:
            return
        self.learn(given)
        value, own = self.item.value, filled(self.item.value)
        value.update({name: member for name, member in self._whole().items() if name not in own})
        if isinstance(self.item, Parted):
            for container in self.item.containers:
                parts = self._parts_of(given, container)
                if parts or own.get(container):
                    value[container] = _complemented(own.get(container, []), parts)

    def _whole(self) -> Json:
        """The item as it was given, under the name that was announced."""
        whole = dict(self.given)
        if isinstance(self.item, Call) and self.item.kind.field in whole:
            whole[self.item.kind.field] = call_text(whole[self.item.kind.field])
        if self.item is not None and "name" in self.item.value:
            whole["name"] = self.item.value["name"] or self._name()
        return whole

    def _parts_of(self, given: Json, container: str) -> list[Json]:
        return parts_of(given.get(container), CONTAINERS[self.type][container])

    def _end_parts(self, container: str) -> None:
        """End the parts of *container*, and tell those that have not come."""
        assert isinstance(self.item, Parted)
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
        told = _joined((part.type, "".join(part.pieces)) for part in self.item.parts if part.container == container)
        texts = _joined((value.get("type"), _text_of(value)) for value in given)
        for number, value in enumerate(given):
            part = pairs[number]
            if part is None and (like := by_type[value.get("type")]):
                part = like.popleft()
                del left[part]
            is_silent = part is None or not (part.pieces or part.closed)
            if is_silent and _text_of(value) and told[value["type"]] == texts[value["type"]]:
                if part is not None:
                    self._end(part, {}, {})
                continue  # it was told as one with another part
            if part is None:
                part = self._open_part(container, None, value, {})
            self._end(part, value, {}) if not part.closed else self._amend(part, value)
        for part in left:
            self._end(part, {}, {})

    def _amend(self, part: Part, given: Json) -> None:
        """The item's end says more than the part's own end: of text that is another part, since it must be told."""
        part.adopt({name: value for name, value in given.items() if name not in filled(part.value)})
        if part.kind is not None and (rest := beyond(part.pieces, given[part.kind.field])):
            self._end(self._open_part(part.container, None, {**given, part.kind.field: rest}, {}), {}, {})


def _joined(texts: Iterable[tuple[Any, str]]) -> defaultdict[Any, str]:
    """All text of each type."""
    pieces: defaultdict[Any, list[str]] = defaultdict(list)
    for type, text in texts:
        pieces[type].append(text)
    return defaultdict(str, {type: "".join(found) for type, found in pieces.items()})


def _complemented(own: list[Json], given: list[Json]) -> list[Json]:
    """The parts *own* with what *given* says beyond them of the same text; all that is given where there are none."""
    by_text: defaultdict[Hashable, deque[Json]] = defaultdict(deque)
    for part in given:
        by_text[part.get("type"), _text_of(part)].append(part)
    found = []
    for part in own:
        same = by_text[part.get("type"), _text_of(part)]
        last = same.popleft() if same else {}
        lists = {name: last[name] for name in LISTS if len(last.get(name, ())) > len(part.get(name, ()))}
        found.append({**part, **last, **filled(part), **lists})
    return found or given
