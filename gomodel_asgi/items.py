"""The items of a response while they are being written: a handle each, that knows its events and closes once.

An item is announced when it is opened and ended by `close`; between the two its deltas leave as they come. The value
that `output` will hold is `value`, which is complete once the item is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .unwrap import StringMember

Json = dict[str, Any]
Emit = Callable[..., None]


def checked(text: str) -> str:
    """*text*, which an upstream sent and no type checker has seen.

    :raises TypeError: it is none; told now, since it would only be found when the pieces are joined.
    """
    if not isinstance(text, str):
        raise TypeError("a delta that is not text")
    return text


class Item:
    """One output item: *index* is its place in `response.output`."""

    def __init__(self, emit: Emit, index: int, value: Json) -> None:
        self.emit = emit
        self.index = index
        self.value = value
        self.closed = False
        emit("response.output_item.added", output_index=index, item=value)

    @property
    def where(self) -> Json:
        """What every event of this item says about its place."""
        return {"item_id": self.value["id"], "output_index": self.index}

    def close(self, status: str = "completed") -> None:
        """End the item; further calls do nothing."""
        if self.closed:
            return
        self.closed = True
        self.finish()
        self.value["status"] = status
        self.emit("response.output_item.done", output_index=self.index, item=self.value)

    def finish(self) -> None:
        """Write what is still due before the item ends."""

    def settle(self) -> None:
        """Make `value` hold what has come, without events: the response has failed."""
        if not self.closed:
            self.closed = True
            self.value["status"] = "incomplete"


class Message(Item):
    """An assistant message; text and refusal are parts of it, each opened when the first of its kind comes."""

    def __init__(self, emit: Emit, index: int, id: str, members: Json) -> None:
        value = {"id": id, "type": "message", "role": "assistant", "status": "in_progress", "content": [], **members}
        super().__init__(emit, index, value)
        self.pieces: list[str] = []
        self.part: Json | None = None
        self.part_type = ""

    @property
    def place(self) -> Json:
        return {**self.where, "content_index": len(self.value["content"])}

    def text(self, delta: str, logprobs: list[Any] | None = None) -> None:
        """More of the answer's text."""
        checked(delta)
        part = self._part("output_text", {"text": "", "annotations": [], "logprobs": []})
        self.pieces.append(delta)
        part["logprobs"].extend(logprobs or ())
        self.emit("response.output_text.delta", **self.place, delta=delta, logprobs=logprobs or [])

    def refusal(self, delta: str) -> None:
        """More of the model's refusal."""
        checked(delta)
        self._part("refusal", {"refusal": ""})
        self.pieces.append(delta)
        self.emit("response.refusal.delta", **self.place, delta=delta)

    def annotate(self, annotation: Json) -> None:
        """A citation of the text so far (`url_citation` and its kin)."""
        part = self._part("output_text", {"text": "", "annotations": [], "logprobs": []})
        number = len(part["annotations"])
        part["annotations"].append(annotation)
        self.emit("response.output_text.annotation.added", **self.place, annotation_index=number, annotation=annotation)

    def length(self) -> int:
        """Characters of the open part: where a citation of the next text begins."""
        return sum(map(len, self.pieces))

    def end_part(self) -> None:
        """End the open part; what follows begins another one."""
        if self.part is None:
            return
        text = "".join(self.pieces)
        if self.part_type == "output_text":
            self.part["text"] = text
            self.emit("response.output_text.done", **self.place, text=text, logprobs=self.part["logprobs"])
        else:
            self.part["refusal"] = text
            self.emit("response.refusal.done", **self.place, refusal=text)
        self.emit("response.content_part.done", **self.place, part=self.part)
        self._keep_part()

    def finish(self) -> None:
        self.end_part()

    def settle(self) -> None:
        if self.part is not None:
            self.part["text" if self.part_type == "output_text" else "refusal"] = "".join(self.pieces)
            self._keep_part()
        super().settle()

    def _part(self, type: str, members: Json) -> Json:
        if self.part is None or self.part_type != type:
            self.end_part()
            self.part, self.part_type = {"type": type, **members}, type
            self.emit("response.content_part.added", **self.place, part=self.part)
        return self.part

    def _keep_part(self) -> None:
        self.value["content"].append(self.part)
        self.part = None
        self.pieces.clear()


class Reasoning(Item):
    """A reasoning item: its text goes into `summary`, what the upstream wants back into `encrypted_content`."""

    def __init__(self, emit: Emit, index: int, id: str) -> None:
        super().__init__(emit, index, {"id": id, "type": "reasoning", "status": "in_progress", "summary": []})
        self.pieces: list[str] = []
        self.part: Json | None = None

    @property
    def place(self) -> Json:
        return {**self.where, "summary_index": len(self.value["summary"])}

    def text(self, delta: str) -> None:
        """More of the reasoning."""
        checked(delta)
        if self.part is None:
            self.part = {"type": "summary_text", "text": ""}
            self.emit("response.reasoning_summary_part.added", **self.place, part=self.part)
        self.pieces.append(delta)
        self.emit("response.reasoning_summary_text.delta", **self.place, delta=delta)

    def end_part(self) -> None:
        """End the open summary part; what follows begins another one."""
        if self.part is None:
            return
        self.part["text"] = "".join(self.pieces)
        self.emit("response.reasoning_summary_text.done", **self.place, text=self.part["text"])
        self.emit("response.reasoning_summary_part.done", **self.place, part=self.part)
        self._keep_part()

    def seal(self, encrypted_content: str) -> None:
        """What the upstream needs back on the next turn; complete by the time the item is closed."""
        self.value["encrypted_content"] = encrypted_content

    def finish(self) -> None:
        self.end_part()

    def settle(self) -> None:
        if self.part is not None:
            self.part["text"] = "".join(self.pieces)
            self._keep_part()
        super().settle()

    def _keep_part(self) -> None:
        self.value["summary"].append(self.part)
        self.part = None
        self.pieces.clear()


class FunctionCall(Item):
    """A call of a function tool; missing arguments are `{}`."""

    def __init__(self, emit: Emit, index: int, id: str, call_id: str, name: str, members: Json) -> None:
        value = {"id": id, "type": "function_call", "status": "in_progress", "call_id": call_id, "name": name}
        super().__init__(emit, index, {**value, "arguments": "", **members})
        self.pieces: list[str] = []

    def arguments(self, delta: str) -> None:
        """More of the arguments' JSON text."""
        if checked(delta):
            self.pieces.append(delta)
            self.emit("response.function_call_arguments.delta", **self.where, delta=delta)

    def finish(self) -> None:
        if not "".join(self.pieces).strip():
            self.arguments("{}")
        arguments = self.value["arguments"] = "".join(self.pieces)
        name = self.value["name"]
        self.emit("response.function_call_arguments.done", **self.where, name=name, arguments=arguments)

    def settle(self) -> None:
        self.value["arguments"] = self.value["arguments"] or "".join(self.pieces)
        super().settle()


class CustomCall(Item):
    """A call of a free-text tool. The upstream was given a function with one string member, `input`: its arguments
    are JSON text, out of which the string is taken as it comes."""

    def __init__(self, emit: Emit, index: int, id: str, call_id: str, name: str, members: Json) -> None:
        value = {"id": id, "type": "custom_tool_call", "status": "in_progress", "call_id": call_id, "name": name}
        super().__init__(emit, index, {**value, "input": "", **members})
        self.pieces: list[str] = []
        self.wrapped = StringMember("input")

    def arguments(self, delta: str) -> None:
        """More of the wrapping function's arguments."""
        self._more(self.wrapped.feed(checked(delta)))

    def _more(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self.emit("response.custom_tool_call_input.delta", **self.where, delta=text)

    def finish(self) -> None:
        self._more(self.wrapped.rest())
        text = self.value["input"] = "".join(self.pieces)
        self.emit("response.custom_tool_call_input.done", **self.where, input=text)

    def settle(self) -> None:
        self.value["input"] = "".join(self.pieces)
        super().settle()


class SearchCall(FunctionCall):
    """A search for deferred tools that the client runs. The upstream was given a function: its arguments are an object
    in the item, which no event tells of before it is whole."""

    def __init__(self, emit: Emit, index: int, id: str, call_id: str) -> None:
        value = {"id": id, "type": "tool_search_call", "status": "in_progress", "call_id": call_id}
        Item.__init__(self, emit, index, {**value, "execution": "client", "arguments": {}})
        self.pieces = []

    def arguments(self, delta: str) -> None:
        self.pieces.append(checked(delta))

    def finish(self) -> None:
        text = "".join(self.pieces)
        try:
            arguments = msgspec.json.decode(text or "{}")
        except (ValueError, RecursionError):
            arguments = None
        self.value["arguments"] = arguments if isinstance(arguments, dict) else {"raw_arguments": text}

    def settle(self) -> None:
        Item.settle(self)


class Whole(Item):
    """An item that came whole, such as a hosted tool's call; *phases* are event types between its start and end."""

    def __init__(self, emit: Emit, index: int, value: Json, phases: tuple[str, ...]) -> None:
        self.phases = phases
        self.status = value.get("status", "completed")
        super().__init__(emit, index, {**value, "status": "in_progress"})

    def finish(self) -> None:
        for phase in self.phases:
            self.emit(phase, **self.where)

    def close(self, status: str = "completed") -> None:
        super().close(self.status)
