"""The items of one reply, as chat deltas make them.

Reasoning is closed when an item of the answer opens, and the message when a call does. Reasoning that comes in the
middle of a message closes nothing: a server that mixes the two makes one item more and not hundreds.
"""

from __future__ import annotations

from typing import Any

from ...wire.event_writer import Emitter
from ...wire.items import AnyCall, Message, Reasoning, checked
from ..base import Call
from ..opaque_state import seal
from ..parts import Json
from ..tools import Tools
from .calls import Calls
from .opaque_state import Memory
from .reasoning_tags import TaggedText

IMAGE_PHASES = tuple(f"response.image_generation_call.{phase}" for phase in ("in_progress", "generating", "completed"))


class Output:
    """Where the pieces of a reply go."""

    def __init__(self, call: Call, emitter: Emitter, tools: Tools) -> None:
        self.call = call
        self.emitter = emitter
        self.tools = tools
        self.memory = Memory()
        self.calls = Calls()
        self.message: Message | None = None
        self.thought: Reasoning | None = None
        self.tagged = None if call.reasoning_tags is None else TaggedText(call.reasoning_tags, self.aside, self.say)

    def text(self, delta: str, logprobs: list[Json] | None = None) -> None:
        if self.tagged is None:
            self.say(delta, logprobs)
        else:
            self.tagged.feed(checked(delta))

    def say(self, delta: str, logprobs: list[Json] | None = None) -> None:
        self.speaking().text(delta, logprobs)

    def aside(self, delta: str) -> None:
        """Reasoning that stood between tags."""
        self.memory.text("tagged", delta)
        self.reasoning(delta)

    def refusal(self, delta: str) -> None:
        self.speaking().refusal(delta)

    def annotate(self, annotation: Json) -> None:
        self.speaking().annotate(annotation)

    def reasoning(self, delta: str) -> None:
        if self.thought is None or self.thought.closed:
            self.thought = self.emitter.reasoning()
        self.thought.text(delta)

    def image(self, data: str, format: str) -> None:
        self.leave_reasoning()
        item = {"type": "image_generation_call", "status": "completed", "result": data, "output_format": format}
        self.emitter.item(item, *IMAGE_PHASES)

    def speaking(self) -> Message:
        if self.message is None or self.message.closed:
            self.leave_reasoning()
            self.message = self.emitter.message()
        return self.message

    def tool_call(self, delta: Any, whole: bool = False) -> str | None:
        """One element of `tool_calls`; see `Calls.feed`."""
        return self.calls.feed(delta, self.open_call, whole)

    def open_call(self, name: str, id: str) -> AnyCall:
        self.leave_reasoning()
        if self.message is not None:
            self.message.close()
        return self.tools.open_call(self.emitter, name, id)

    def leave_reasoning(self) -> None:
        """Something else opens."""
        if self.thought is not None and not self.thought.closed:
            self.seal(self.thought)
            self.thought.close()

    def seal(self, item: Reasoning) -> None:
        payload = self.memory.take()
        if payload:
            item.seal(seal(self.call.type, self.call.model, payload))

    def end(self) -> None:
        """Nothing more comes: what the server wants back must be in an item by now."""
        if self.tagged is not None:
            self.tagged.end()
        if self.thought is not None and not self.thought.closed:
            self.seal(self.thought)
        payload = self.memory.take()
        if payload:
            self.emitter.reasoning().seal(seal(self.call.type, self.call.model, payload))
        if nameless := self.calls.nameless():
            self.emitter.warn(f"{nameless} tool calls without a name")


def logprobs_of(choice: Json) -> list[Json] | None:
    """The log probabilities that came with a choice, with the members that the Responses API requires."""
    value = choice.get("logprobs")
    content = value.get("content") if isinstance(value, dict) else None
    return [_logprob(entry) for entry in content if isinstance(entry, dict)] if isinstance(content, list) else None


def _logprob(entry: Json) -> Json:
    top = entry.get("top_logprobs")
    others = [_token(other) for other in top if isinstance(other, dict)] if isinstance(top, list) else []
    return {**_token(entry), "top_logprobs": others}


def _token(entry: Json) -> Json:
    token = str(entry.get("token", ""))
    given: Any = entry.get("bytes")
    data = given if isinstance(given, list) else list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": entry.get("logprob", 0.0), "bytes": data}
