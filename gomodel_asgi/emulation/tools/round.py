"""What one round of a model has come to: its calls, its items and their parts, how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ...errors import GatewayError
from ...wire.calls import Call as WrittenCall, StringMember
from ...wire.event_writer import Emitter
from ...wire.items import Item, Part, Parted
from .citations import Citer, Found
from .seams import Begun, CallResult, Json, Shown, sound


@dataclass(slots=True, eq=False)
class HostedCall:
    """One call of a hosted tool. *answer* is what the model reads instead of a result, where it is known already;
    *begun* is None for a call that the client does not see, *item* until it is its turn to be seen."""

    call_id: str
    name: str
    shown: Shown | None = None
    id: str | None = None
    """That of its item."""
    item: Item | None = None
    answer: str | None = None
    pieces: list[str] = field(default_factory=list)
    reader: StringMember | None = None
    approves: bool = False
    """Whether it waits for the client's word."""
    approved: str | None = None
    """The request that the client has approved."""
    begun: Begun | None = None
    runs: bool = False
    """Whether its arguments are whole, and the host's function is called."""
    partials: list[str] = field(default_factory=list)
    """Images that were not finished, those empty that the client has."""
    result: CallResult | None = None

    @property
    def arguments(self) -> str:
        """Returns the arguments as far as the model has written them: JSON text."""
        return "".join(self.pieces)

    def begin(self, begun: Begun) -> None:
        """The call is going to be run: the client will see it."""
        assert self.shown is not None
        self.begun = begun
        if self.shown.family.text:
            self.reader = StringMember(self.shown.family.text)

    def announce(self, emitter: Emitter) -> None:
        """Opens its item, and emits what is known of it."""
        assert self.begun is not None and self.shown is not None
        self.item = item = emitter.open({"id": self.id, **self.shown.family.begun(self.begun)})
        self.id = item.value["id"]
        item.progress(self.shown.family.phases[0])
        for piece in self.pieces:
            self._emit_arguments(piece)
        if self.runs:
            self._emit_start(item)
        for number, encoded in enumerate(self.partials):
            _emit_partial(item, encoded, number)
        if self.result is not None:
            self._end(item, self.result)

    def write(self, text: str) -> None:
        """Adds a piece of its arguments."""
        self.pieces.append(text)
        self._emit_arguments(text)

    def start(self) -> None:
        """The host's function is about to be called, with the arguments as they are."""
        self.runs = True
        if self.item is not None:
            self._emit_start(self.item)

    def add_partial(self, encoded: str) -> None:
        """An image that is not finished."""
        if self.item is None:
            self.partials.append(encoded)
        elif not self.item.closed:
            _emit_partial(self.item, encoded, len(self.partials))
            self.partials.append("")

    def finish(self, result: CallResult) -> None:
        """Notes that the call has been answered."""
        self.result = result
        if self.item is not None:
            self._end(self.item, result)

    def _emit_arguments(self, text: str) -> None:
        if not isinstance(self.item, WrittenCall):
            return
        if self.reader is not None:
            text = self.reader.feed(text)
        if text:
            self.item.text(text)

    def _emit_start(self, item: Item) -> None:
        assert self.shown is not None
        if isinstance(item, WrittenCall):
            rest = self.reader.rest() if self.reader is not None else ""
            if rest:
                item.text(rest)
            item.end_text()
        for phase in self.shown.family.phases[1:]:
            item.progress(phase)

    def _end(self, item: Item, result: CallResult) -> None:
        assert self.shown is not None
        if result.status == "completed" or self.shown.family.has_failed_event:
            item.progress(result.status)
        item.close(result.status, result.members)


def _emit_partial(item: Item, encoded: str, number: int) -> None:
    item.progress("partial_image", partial_image_b64=encoded, partial_image_index=number)


@dataclass(slots=True)
class Round:
    """What one round has come to. *output* are its items as the upstream has them, to be sent to it again."""

    number: int
    calls: list[HostedCall] = field(default_factory=list)
    output: list[Json] = field(default_factory=list)
    status: str | None = None
    reason: Any = None
    usage: Json | None = None
    failure: GatewayError | None = None
    client_calls: int = 0


INDEX = {"content": "content_index", "summary": "summary_index"}
PLACED = frozenset({"item_id", "output_index", "sequence_number", "type"})
Place = tuple[str, int]
"""Of a part in its item: its container, and its index there."""


@dataclass(slots=True, eq=False)
class Slot:
    """An item of a round that is being emitted: one of the client's (*item*), or a hosted *call*. In the answer's own
    text what it cites of *found* is looked for."""

    found: Found
    item: Item | None = None
    call: HostedCall | None = None
    parts: dict[Place, Part] = field(default_factory=dict)
    citers: dict[Place, Citer] = field(default_factory=dict)

    def part(self, container: str, state: str, event: Json) -> None:
        """A part has begun or ended."""
        place = container, event[INDEX[container]]
        if not isinstance(self.item, Parted):
            return
        if state == "added" and place not in self.parts:
            self._open(self.item, place, event["part"])
        elif state == "done" and place in self.parts:
            self._end_part(place, event["part"])

    def text(self, container: str, type: str, state: str, event: Json) -> None:
        """More text of a part, or all of it."""
        place = container, event[INDEX[container]]
        if not isinstance(self.item, Parted):
            return
        if place not in self.parts:
            self._open(self.item, place, {"type": type})
        if state == "delta":
            rest = {name: value for name, value in event.items() if name not in PLACED | {"delta", "logprobs"}}
            rest.pop(INDEX[container], None)
            self._write(place, event["delta"], event.get("logprobs"), rest)
        elif state == "done":
            self._rest(place)
            self.parts[place].end_text()

    def annotate(self, event: Json) -> None:
        """Adds the upstream's own annotation."""
        place = "content", event[INDEX["content"]]
        if place in self.parts:
            self.parts[place].annotate(event["annotation"])

    def end_parts(self, written: Parted, item: Json) -> None:
        """The item has ended as *item*: with parts that no event has brought."""
        for container in written.containers:
            for number, part in enumerate(item.get(container) or ()):
                place = container, number
                if place not in self.parts:
                    opened = self._open(written, place, part)
                    if opened.kind is not None:
                        self._write(place, str(part.get(opened.kind.field) or ""), None, {})
                    for annotation in part.get("annotations") or ():
                        opened.annotate(annotation)
                self._end_part(place, part)

    def _open(self, item: Parted, place: Place, given: Json) -> Part:
        emptied = {name: value for name, value in given.items() if name not in ("annotations", "logprobs")}
        part = self.parts[place] = item.open_part(emptied, place[0])
        return part

    def _end_part(self, place: Place, given: Json) -> None:
        part = self.parts[place]
        if part.closed:
            return
        self._rest(place)
        hidden = ("annotations",) if part.listing else ()
        part.close({name: value for name, value in given.items() if name not in hidden})

    def _write(self, place: Place, text: str, logprobs: Any, rest: Json) -> None:
        part = self.parts[place]
        if not part.listing or not self.found:
            return part.text(text, logprobs, **rest) if part.listing else part.text(text, **rest)
        citer = self.citers.get(place)
        if citer is None:
            citer = self.citers[place] = Citer(self.found)
        self._cited(part, citer.feed(text), logprobs)

    def _rest(self, place: Place) -> None:
        if (citer := self.citers.pop(place, None)) is not None:
            self._cited(self.parts[place], citer.rest(), None)

    def _cited(self, part: Part, pieces: Iterable[str | Json], logprobs: Any) -> None:
        for one in pieces:
            if isinstance(one, str):
                part.text(one, logprobs)
                logprobs = None
            else:
                part.annotate(sound(one))
