"""The items of one reply, as chat deltas make them.

Reasoning is closed when an item of the answer opens, and the message when a call does. Reasoning that comes in the
middle of a message closes nothing: a server that mixes the two makes one item more and not hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from ...errors import GatewayError, UpstreamRejected
from ...wire.calls import AnyCall
from ...wire.event_writer import Emitter
from ...wire.items import Message, Part, Reasoning, checked
from ...wire.json_scan import parsed
from ..base import Call, pack_state
from ..content import Json
from ..conversation import offered_tools
from ..failure import completed_shape, failure_in, is_openai_shaped, text_of
from ..tools import Tools
from ..values import object_in, objects
from .calls import Calls
from .opaque_state import Memory

# Reasoning that a model writes into its answer, between tags.
#
# Only a passage that opens the answer counts: a tag further on is text that speaks of tags. Whitespace before the
# passage and behind it is no part of the answer.


MOST_SPACE = 256  # characters of whitespace that may stand before the passage: held back, so bounded


class TaggedText:
    """Separates the reasoning and the text of one answer, which may be cut anywhere, in a tag too.

    *tags* open and close the passage; *reasoning* and *text* are called with the pieces of each.
    """

    def __init__(self, tags: tuple[str, str], reasoning: Callable[[str], None], text: Callable[[str], None]) -> None:
        self.opening, self.closing = tags
        self.reasoning = reasoning
        self.text = text
        self.pending = ""
        self.feed: Callable[[str], None] = self._before
        """Takes the next piece of the answer."""

    def end(self) -> None:
        """Takes the end of the answer: what was held back is reasoning inside the passage, else text."""
        pending, self.pending = self.pending, ""
        if pending.strip():
            (self.reasoning if self.feed == self._inside else self.text)(pending)

    def _before(self, piece: str) -> None:
        self.pending += piece
        begun = self.pending.lstrip()
        if begun.startswith(self.opening):
            self.pending, self.feed = "", self._inside
            self._inside(begun[len(self.opening) :])
        elif not self.opening.startswith(begun) or len(self.pending) > MOST_SPACE:
            pending, self.pending, self.feed = self.pending, "", self.text
            self.text(pending)

    def _inside(self, piece: str) -> None:
        self.pending += piece
        thought, tag, rest = self.pending.partition(self.closing)
        if tag:
            self.pending, self.feed = "", self._behind
        else:
            kept = _overlap(self.pending, self.closing)
            thought, self.pending = (self.pending[: len(self.pending) - kept], self.pending[len(self.pending) - kept :])
        if thought:
            self.reasoning(thought)
        if rest:
            self._behind(rest)

    def _behind(self, piece: str) -> None:
        if piece := piece.lstrip():
            self.feed = self.text
            self.text(piece)


def _overlap(text: str, tag: str) -> int:
    """Returns how many of the last characters of *text* may be the beginning of *tag*."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


IMAGE_PHASES = tuple(f"response.image_generation_call.{phase}" for phase in ("in_progress", "generating", "completed"))


class Output:
    """Writes the pieces of one reply as items of the response."""

    def __init__(self, call: Call, emitter: Emitter) -> None:
        self.call = call
        self.emitter = emitter
        self.memory = Memory()
        self.calls = Calls()
        self.message: Message | None = None
        self.part: Part | None = None
        """The part of the message that took text last."""
        self.open_reasoning: Reasoning | None = None
        self.tagged = (
            None
            if call.reasoning_tags is None
            else TaggedText(call.reasoning_tags, self.tagged_reasoning, self.plain_text)
        )

    @cached_property
    def tools(self) -> Tools:
        """The tools of the request, read again when one of them is called."""
        return offered_tools(self.call)

    def text(self, delta: str, logprobs: list[Json] | None = None) -> None:
        """Adds text of the answer, in which reasoning may stand between tags."""
        if self.tagged is not None:
            self.tagged.feed(checked(delta))
            return
        part = self.part
        if part is None or part.closed:
            part = self.part = self.open_message().part_of("output_text", "content")
        part.text(delta, logprobs)

    def plain_text(self, delta: str) -> None:
        """Adds text of the answer that stands behind the tags, or of one without them."""
        self.open_message().text(delta)

    def tagged_reasoning(self, delta: str) -> None:
        """Adds reasoning that stood between tags."""
        self.memory.text("tagged", delta)
        self.reasoning(delta)

    def refusal(self, delta: str) -> None:
        """Adds text of a refusal to the message."""
        self.open_message().refusal(delta)

    def annotate(self, annotation: Json) -> None:
        """Adds a citation of the message's text so far."""
        self.open_message().annotate(annotation)

    def reasoning(self, delta: str) -> None:
        """Adds reasoning, to a new item if the last one is closed."""
        if self.open_reasoning is None or self.open_reasoning.closed:
            self.open_reasoning = self.emitter.reasoning()
        self.open_reasoning.text(delta)

    def image(self, data: str, format: str) -> None:
        """Adds an image: base64 *data* in a *format* such as `png`."""
        self.close_reasoning()
        item = {"type": "image_generation_call", "status": "completed", "result": data, "output_format": format}
        self.emitter.item(item, *IMAGE_PHASES)

    def open_message(self) -> Message:
        """Returns the open message, a new one if none is."""
        if self.message is None or self.message.closed:
            if self.open_reasoning is not None:
                self.close_reasoning()
            self.message = self.emitter.message()
        return self.message

    def tool_call(self, delta: Any, whole: bool = False) -> str | None:
        """Takes one element of `tool_calls`; see `Calls.feed`."""
        return self.calls.feed(delta, self.open_call, whole)

    def open_call(self, name: str, id: str) -> AnyCall:
        """Opens the item of a call, and closes the message before it."""
        self.close_reasoning()
        if self.message is not None:
            self.message.close()
        return self.tools.open_call(self.emitter, name, id)

    def close_reasoning(self) -> None:
        """Closes the reasoning item, since something else opens."""
        if self.open_reasoning is not None and not self.open_reasoning.closed:
            self.attach_state(self.open_reasoning)
            self.open_reasoning.close()

    def attach_state(self, item: Reasoning) -> None:
        """Puts what the server wants back so far into *item*."""
        payload = self.memory.take()
        if payload:
            item.set_encrypted_content(pack_state(self.call.type, self.call.model, payload))

    def end(self) -> None:
        """Puts what the server wants back into an item, since nothing more comes."""
        if self.tagged is not None:
            self.tagged.end()
        if self.open_reasoning is not None and not self.open_reasoning.closed:
            self.attach_state(self.open_reasoning)
        payload = self.memory.take()
        if payload:
            self.emitter.reasoning().set_encrypted_content(pack_state(self.call.type, self.call.model, payload))
        if self.calls.slots and (nameless := self.calls.nameless()):
            self.emitter.warn(f"{nameless} tool calls without a name")


def logprobs_of(choice: Json) -> list[Json] | None:
    """Returns the log probabilities of a choice with the members that the Responses API requires, or None."""
    content = object_in(choice, "logprobs").get("content")
    return [*map(_logprob, objects(content))] if isinstance(content, list) else None


def _logprob(entry: Json) -> Json:
    return {**_token(entry), "top_logprobs": [*map(_token, objects(entry.get("top_logprobs")))]}


def _token(entry: Json) -> Json:
    token = str(entry.get("token", ""))
    given: Any = entry.get("bytes")
    data = given if isinstance(given, list) else list(token.encode("utf-8", "replace"))
    return {"token": token, "logprob": entry.get("logprob", 0.0), "bytes": data}


# Error bodies of chat servers.
#
# OpenAI's `{"error": {...}}`; `{"error": "text"}`; FastAPI's `{"detail": "text" | [...]}`; the bare `{"message":
# ...}` of vLLM and Mistral, whose message may itself hold a `detail`; Google's `[{"error": ...}]`; and MiniMax's
# `base_resp`, in a reply of status 200.


SIGNS = ("error", "message", "detail", "errors")
STATUS_OF_BASE_RESP = {
    1001: 504, 1002: 429, 1004: 401, 1008: 402, 1024: 500, 1026: 400, 1027: 400, 1033: 500, 1039: 400, 1041: 429,
    1042: 400, 2013: 400, 2042: 403, 2045: 429, 2049: 401, 2056: 429,
}  # fmt: skip
"""The HTTP status that a `base_resp.status_code` stands for (MiniMax, API reference, "Error codes")."""


def read_error(status: int, body: bytes) -> GatewayError | None:
    """Returns the error that *body* describes, with its own status or else *status*; see `Dialect.error`."""
    try:
        value = parsed(body)
    except (ValueError, RecursionError):
        return None
    error = error_of(value) or (status_error(value) if isinstance(value, dict) else None)
    if error is None:
        return None
    failure = failure_in(error, status)
    if isinstance(failure, UpstreamRejected) and is_openai_shaped(body):
        failure.raw = completed_shape(body)
    return failure


def status_error(value: Json) -> Json | None:
    """Returns the error in MiniMax's `base_resp`, in the form of `error_of`, or None."""
    base_resp = value.get("base_resp")
    code = base_resp.get("status_code") if isinstance(base_resp, dict) else None
    if not isinstance(base_resp, dict) or not isinstance(code, int) or code == 0:
        return None
    message = text_of(base_resp.get("status_msg")) or "The upstream reported an error."
    return {"message": f"{message} ({code})", "status": STATUS_OF_BASE_RESP.get(code, 502)}


def error_of(value: Any) -> Json | None:
    """Returns the error object in *value*, with a string `message`; None where *value* describes no error."""
    if isinstance(value, list):
        return error_of(value[0]) if value else None
    if not isinstance(value, dict) or not any(value.get(sign) for sign in SIGNS):
        return None
    inner = value.get("error")
    outer = {key: value[key] for key in ("status_code", "status") if key in value}
    error = outer | inner if isinstance(inner, dict) else {key: value[key] for key in value if key != "error"}
    text = (
        text_of(error.get("message")) or text_of(error.get("detail")) or text_of(error.get("errors")) or text_of(inner)
    )
    return {**error, "message": text or "The upstream reported an error."}
