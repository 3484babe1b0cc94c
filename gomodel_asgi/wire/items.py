"""The items of a response while they are being written: a handle each, that knows its events and closes once.

An item is announced when it is opened and ended by `close`; between the two its deltas leave as they come. The value
that `output` will hold is `value`, which is complete once the item is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

Json = dict[str, Any]
DeltaFrame = tuple[bytes, bytes, bytes]
"""The bytes of a delta event before its number, between that and its text, and behind the text."""

encode = msgspec.json.Encoder().encode


class Writer(Protocol):
    """What items write to: the emitter, which numbers the events."""

    def emit(self, type: str, /, **members: Any) -> None:
        """Writes one event of this type."""
        ...

    def delta(self, frame: DeltaFrame, text: str) -> None:
        """Writes one delta event that brings *text*."""
        ...


def delta_frame(type: str, place: Json, tail: bytes = b"}\n\n") -> DeltaFrame:
    """Returns the bytes that all deltas of one text have in common: its events' *type* and *place*, and the *tail*."""
    name, members = type.encode(), encode({**place, "delta": ""})
    return b'event: %s\ndata: {"type":"%s","sequence_number":' % (name, name), b"," + members[1:-3], tail


@dataclass(frozen=True, slots=True)
class TextKind:
    """How a text is written: *delta* events bring it, a *done* event ends it, *field* of its part or item holds it."""

    delta: str
    done: str
    field: str


def _kind(stem: str, field: str) -> TextKind:
    return TextKind(f"{stem}.delta", f"{stem}.done", field)


TEXT_OF_PART = {
    "output_text": _kind("response.output_text", "text"),
    "refusal": _kind("response.refusal", "refusal"),
    "reasoning_text": _kind("response.reasoning_text", "text"),
    "summary_text": _kind("response.reasoning_summary_text", "text"),
}
"""The parts whose text comes in deltas, by their type."""
TEXT_OF_ITEM = {
    "function_call": _kind("response.function_call_arguments", "arguments"),
    "custom_tool_call": _kind("response.custom_tool_call_input", "input"),
    "mcp_call": _kind("response.mcp_call_arguments", "arguments"),
    "code_interpreter_call": _kind("response.code_interpreter_call_code", "code"),
}
"""The items that have such a text themselves."""
PLACES = {"content": "content_index", "summary": "summary_index"}
"""The members of items that hold parts, and the event member that numbers them."""
PART_EVENTS = {"content": "response.content_part", "summary": "response.reasoning_summary_part"}
LISTS = ("annotations", "logprobs")
"""What an `output_text` part has beside its text."""
IDENTITY = frozenset({"id", "type", "call_id", "status"})
"""Members that an item keeps from its beginning, or that its end decides."""
STATUSLESS = frozenset(
    {"additional_tools", "compaction", "mcp_approval_request", "mcp_approval_response", "mcp_list_tools", "program"}
)
"""Items that have no `status` (OpenAI, Responses API reference)."""


NO_TEXT = "a delta that is not text"


def checked(text: str) -> str:
    """Returns *text*, which an upstream sent and no type checker has seen.

    :raises TypeError: it is no text. Raised at once, since it would only be found when the pieces are joined.
    """
    if not isinstance(text, str):
        raise TypeError(NO_TEXT)
    return text


class Item:
    """One output item: *index* is its place in `response.output`, *value* the item as it is announced. *event* are more
    members of the event that a call writes; here and below."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        self.writer = writer
        self.emit = writer.emit
        self.index = index
        self.value = value
        self.closed = False
        self.where: Json = {"item_id": value["id"], "output_index": index}
        """What every event of this item says about its place."""
        writer.emit("response.output_item.added", **event, output_index=index, item=value)

    @property
    def owned(self) -> tuple[str, ...]:
        """The members of `value` that events bring."""
        return ()

    def progress(self, phase: str, /, **event: Any) -> None:
        """Writes a phase of a hosted tool's call: `searching`, or `partial_image` with its members."""
        self.emit(f"response.{self.value['type']}.{phase}", **self.where, **event)

    def adopt(self, given: Json) -> None:
        """Takes over the members of *given*, but for those that events bring and those that identify the item."""
        fixed = IDENTITY.union(self.owned)
        self.value.update({name: value for name, value in given.items() if name not in fixed})

    def close(self, status: str = "completed", given: Json | None = None, /, **event: Any) -> None:
        """Ends the item, with the members of *given*; further calls do nothing."""
        if self.closed:
            return
        self.closed = True
        self.finish()
        if given:
            self.adopt(given)
        if "status" in self.value:
            self.value["status"] = status
        self.emit("response.output_item.done", **event, output_index=self.index, item=self.value)

    def finish(self) -> None:
        """Writes what is still due before the item ends."""

    def settle(self) -> None:
        """Makes `value` hold what has come, without events, since the response has failed."""
        if not self.closed:
            self.closed = True
            if "status" in self.value:
                self.value["status"] = "incomplete"


class Part:
    """A part of *item*, at *index* of its *container*; *given* is the part as it will be, but for its text."""

    def __init__(self, item: Item, container: str, index: int, given: Json, /, **event: Any) -> None:
        self.writer = item.writer
        self.emit = item.emit
        self.container = container
        self.type: str = given.get("type", "")
        self.kind = TEXT_OF_PART.get(self.type)
        """None where parts of this type have no text that comes in deltas."""
        self.listing = self.type == "output_text"
        self.value = announced = given if self.kind is None else {**given, self.kind.field: ""}
        if self.listing:
            announced = {**announced, "annotations": [], "logprobs": []}
            annotations, logprobs = given.get("annotations") or (), given.get("logprobs") or ()
            self.value = {**announced, "annotations": [*annotations], "logprobs": [*logprobs]}
        self.place = {**item.where, PLACES[container]: index}
        self.frame: DeltaFrame | None = None
        self.pieces: list[str] = []
        self.size = 0
        """Characters of its text."""
        self.text_ended = False
        """Whether its text has ended."""
        self.closed = False
        self.emit(f"{PART_EVENTS[container]}.added", **event, **self.place, part=announced)

    def text(self, delta: str, logprobs: list[Any] | None = None, /, **event: Any) -> None:
        """Adds *delta* to its text.

        :raises TypeError: it is no text.
        """
        assert self.kind is not None
        if not isinstance(delta, str):
            raise TypeError(NO_TEXT)
        self.pieces.append(delta)
        self.size += len(delta)
        if not logprobs and not event:
            if self.frame is None:
                tail = b',"logprobs":[]}\n\n' if self.listing else b"}\n\n"
                self.frame = delta_frame(self.kind.delta, self.place, tail)
            self.writer.delta(self.frame, delta)
        elif not self.listing:
            self.emit(self.kind.delta, **self.place, delta=delta, **event)
        else:
            self.value["logprobs"].extend(logprobs or ())
            self.emit(self.kind.delta, **self.place, delta=delta, logprobs=logprobs or [], **event)

    def annotate(self, annotation: Json, /, **event: Any) -> None:
        """Adds a citation of the text so far (`url_citation` and its kin)."""
        number = len(self.value["annotations"])
        self.value["annotations"].append(annotation)
        where = {**self.place, "annotation_index": number}
        self.emit("response.output_text.annotation.added", **where, annotation=annotation, **event)

    def end_text(self, /, **event: Any) -> None:
        """Ends its text; further calls do nothing."""
        if self.text_ended or self.kind is None:
            return
        self.text_ended = True
        text = self.value[self.kind.field] = "".join(self.pieces)
        lists = {"logprobs": self.value["logprobs"]} if self.listing else {}
        self.emit(self.kind.done, **self.place, **{self.kind.field: text}, **lists, **event)

    def adopt(self, given: Json) -> None:
        """Takes over the members of *given*, but for its type and the text that events bring."""
        fixed = {"type"} if self.kind is None else {"type", self.kind.field}
        self.value.update({name: value for name, value in given.items() if name not in fixed})

    def close(self, given: Json | None = None, /, **event: Any) -> None:
        """Ends the part, with the members of *given*; further calls do nothing."""
        if self.closed:
            return
        self.end_text()
        self.closed = True
        if given:
            self.adopt(given)
        self.emit(f"{PART_EVENTS[self.container]}.done", **self.place, part=self.value, **event)

    def settle(self) -> None:
        """Makes `value` hold what has come, without events."""
        if self.kind is not None and not self.text_ended:
            self.value[self.kind.field] = "".join(self.pieces)
        self.closed = self.text_ended = True


class Parted(Item):
    """An item that consists of parts; several may be open at once. `text` and its kin write to the latest one."""

    containers: tuple[str, ...] = ("content",)
    """The members that hold parts; the first is always there."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        for container in self.containers:
            if container == self.containers[0] or container in value:
                value[container] = []
        super().__init__(writer, index, value, **event)
        self.parts: list[Part] = []
        self.part: Part | None = None
        self.counts = dict.fromkeys(self.containers, 0)

    @property
    def owned(self) -> tuple[str, ...]:
        """The members that hold parts."""
        return self.containers

    @property
    def pieces(self) -> list[str]:
        """The text of the open part, as it came."""
        return self.part.pieces if self.part is not None else []

    def open_part(self, given: Json, container: str, /, **event: Any) -> Part:
        """Opens a part beside those that are open."""
        part = Part(self, container, self.counts[container], given, **event)
        self.counts[container] += 1
        self.parts.append(part)
        return part

    def end_part(self) -> None:
        """Ends the latest part; what follows begins another one."""
        if self.part is not None:
            self.part.close()
            self.part = None

    def finish(self) -> None:
        """Ends all parts, and puts them into `value`."""
        self.part = None
        for part in self.parts:
            part.close()
        self._gather()

    def settle(self) -> None:
        """Makes `value` hold the parts as far as they have come, without events."""
        if not self.closed:
            for part in self.parts:
                part.settle()
            self._gather()
        super().settle()

    def part_of(self, type: str, container: str) -> Part:
        """Returns the latest part, if it is one of *type*, else a new one in *container*."""
        part = self.part
        if part is None or part.type != type:
            if part is not None:
                self.end_part()
            part = self.part = self.open_part({"type": type}, container)
        return part

    def _gather(self) -> None:
        values: dict[str, list[Json]] = {}
        for part in self.parts:
            values.setdefault(part.container, []).append(part.value)
        self.value |= values


class Message(Parted):
    """An assistant message; text and refusal are parts of it, each opened when the first of its kind comes."""

    def __init__(self, writer: Writer, index: int, value: Json, /, **event: Any) -> None:
        value["role"] = value.get("role") or "assistant"
        super().__init__(writer, index, value, **event)

    def text(self, delta: str, logprobs: list[Any] | None = None) -> None:
        """Adds to the answer's text.

        :raises TypeError: *delta* is no text.
        """
        part = self.part
        if part is None or part.type != "output_text":
            checked(delta)  # before a part is opened for it
            part = self.part_of("output_text", "content")
        part.text(delta, logprobs)

    def refusal(self, delta: str) -> None:
        """Adds to the model's refusal.

        :raises TypeError: *delta* is no text.
        """
        self.part_of("refusal", "content").text(checked(delta))

    def annotate(self, annotation: Json) -> None:
        """A citation of the text so far (`url_citation` and its kin)."""
        self.part_of("output_text", "content").annotate(annotation)

    def length(self) -> int:
        """Returns the characters of the open part, which is where a citation of the next text begins."""
        return 0 if self.part is None else self.part.size


class Reasoning(Parted):
    """A reasoning item: its text goes into `summary`, what the upstream wants back into `encrypted_content`."""

    containers = ("summary", "content")

    def text(self, delta: str) -> None:
        """Adds to the reasoning.

        :raises TypeError: *delta* is no text.
        """
        part = self.part
        if part is None:
            checked(delta)  # before a part is opened for it
            part = self.part_of("summary_text", "summary")
        part.text(delta)

    def set_encrypted_content(self, encrypted_content: str) -> None:
        """Sets what the upstream needs back on the next turn. Call it before the item is closed."""
        self.value["encrypted_content"] = encrypted_content
