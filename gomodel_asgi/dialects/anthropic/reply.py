"""Reads a reply of the Messages API, event by event; a unary reply is turned into the events it would have been.

    message_start → ( content_block_start → content_block_delta* → content_block_stop )* → message_delta → message_stop

`ping` may stand anywhere; `error` ends the reply. Events and members that are not known are passed over, as Anthropic
asks of clients ("Versioning"). Only `message_stop` is a proper end: what closes before it was cut. A turn that pauses
there is continued: the next reply goes on with the same response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from ...errors import GatewayError, UpstreamRejected
from ...wire.event_writer import Emitter
from ...wire.json_scan import parser
from ...wire.response import Reason, added
from ...wire.usage import of_anthropic
from ..base import Call, Outgoing
from ..conversation import offered_tools
from ..failure import AUTH, STATUS_OF_NAME, refused_credentials
from ..tools import Tools
from .blocks import Block, open_block, show
from .request import MOST_ROUNDS, continued
from .tools import FAMILIES
from .turn import Turn

# What an answer cost and how it ended: Anthropic's usage and stop reasons in our terms.


INCOMPLETE: Mapping[str, Reason] = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
    "pause_turn": "max_output_tokens",  # of a turn that was continued as often as may be
}
"""Stop reasons of an answer that is not whole, and our `incomplete_details.reason` for them."""

COMPLETE = frozenset({"end_turn", "tool_use", "stop_sequence", "compaction"})

TIERS: Mapping[str, str] = {"standard": "default", "priority": "priority", "batch": "flex"}


def merged(usage: Mapping[str, Any], update: Any) -> Json:
    """*usage* with the non-null members of *update* in place of its own: message_delta's numbers are cumulative."""
    return {**usage, **{name: value for name, value in (update or {}).items() if value is not None}}


def end(emitter: Emitter, reason: str | None) -> None:
    """Ends the response as *reason* says. An unknown reason completes it, and warns observers."""
    if early := INCOMPLETE.get(reason or ""):
        emitter.incomplete(early)
        return
    if reason not in COMPLETE:
        emitter.warn(f"unknown stop_reason {reason!r}")
    emitter.complete()


Json = dict[str, Any]

decode = parser(Json)


class AnthropicTranslator:
    """Reads the reply to *call*."""

    def __init__(self, call: Call, emitter: Emitter) -> None:
        self.call = call
        self.emitter = emitter
        self.turn = Turn(call, emitter, _container(call))
        self.again: Outgoing | None = None
        self.round = 1
        self.container = ""
        """The id of the container that the provider's tools have used, as far as it is known."""
        self.blocks_so_far: list[Json] = []
        """The blocks of all rounds, as they came."""
        self.spent: Json = {}
        """The usage of the rounds before this one."""
        self.usage: Json = {}
        self.stop_reason: str | None = None
        self.stop_details: Json = {}
        self.blocks: dict[int, Block] = {}

    @cached_property
    def tools(self) -> Tools:
        """The tools of the request, for the way back from their flat names."""
        return offered_tools(self.call, FAMILIES)

    def feed(self, event: str, data: bytes) -> None:
        """Takes one event, or the body of a unary reply (*event* is then "").

        :raises ValueError: it is not what the Messages API sends.
        """
        if self.emitter.terminal is not None or self.again is not None:
            return
        message = decode(data)
        kind = message.get("type")
        handler = HANDLERS.get(kind) if isinstance(kind, str) else None
        if message.get("error"):
            handler = AnthropicTranslator.error
        elif handler is None and not event:
            raise ValueError("this is no reply of the Messages API")
        if handler is None:
            return
        try:
            handler(self, message)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{kind} is not as the Messages API has it: {error!r}") from error

    def close(self) -> None:
        """Nothing to do: a stream that closes without `message_stop` was cut."""

    # One method for each type of event...

    def message(self, message: Json) -> None:
        """Takes a unary reply, as the events that it would have come in.

        :raises ValueError: it has no content.
        """
        if not isinstance(message.get("content"), list):
            raise ValueError("a message without content")
        for event in as_events(message):
            HANDLERS[event["type"]](self, event)

    def message_start(self, event: Json) -> None:
        """Takes the model, the tier and the usage so far."""
        message = event["message"]
        self.container = self.turn.container = _id_of(message.get("container")) or self.turn.container
        if tier := TIERS.get((message.get("usage") or {}).get("service_tier") or ""):
            self.emitter.response["service_tier"] = tier
        self.emitter.begin(message["model"] if isinstance(message.get("model"), str) else None)
        self.count(message.get("usage"))

    def content_block_start(self, event: Json) -> None:
        """Opens the block at the event's index."""
        self.blocks[event["index"]] = open_block(self.turn, event["content_block"], self.tools)

    def content_block_delta(self, event: Json) -> None:
        """Hands the delta to its block."""
        self.blocks[event["index"]].delta(event["delta"])

    def content_block_stop(self, event: Json) -> None:
        """Ends the block at the event's index."""
        self.stop(event["index"])

    def message_delta(self, event: Json) -> None:
        """Takes the stop reason, the container and the usage."""
        delta = event.get("delta") or {}
        self.stop_reason = delta.get("stop_reason") or self.stop_reason
        self.stop_details = delta.get("stop_details") or self.stop_details
        self.container = _id_of(delta.get("container")) or self.container
        self.count(event.get("usage"))

    def message_stop(self, event: Json) -> None:
        """Ends the response, or asks for the rest of a paused turn."""
        for index in list(self.blocks):
            self.stop(index)
        if self.stop_reason == "pause_turn" and self.pause():
            return
        for use in self.turn.uses.values():
            show(self.turn, use, None)
        if self.stop_reason == "refusal":
            self.refuse()
        self.turn.settle()
        end(self.emitter, self.stop_reason)

    def error(self, message: Json) -> None:
        """Fails the response.

        :raises ValueError: the event describes no error.
        """
        error = error_of(message)
        if error is None:
            raise ValueError("an error without a message")
        self.emitter.fail(error)

    def ignore(self, event: Json) -> None:
        """Does nothing, as for `ping`."""

    # What several of them need...

    def stop(self, index: int) -> None:
        """Ends the block at *index*, if it is open."""
        block = self.blocks.pop(index)
        block.stop()
        if (whole := block.whole()) is not None:
            self.blocks_so_far.append(whole)

    def count(self, usage: Any) -> None:
        """Takes usage; its numbers replace earlier ones."""
        self.usage = merged(self.usage, usage)
        whole = added(self.spent, self.usage)
        self.emitter.usage(of_anthropic(whole), whole or None)

    def pause(self) -> bool:
        """Asks for another round; returns whether there will be one."""
        whole = added(self.spent, self.usage)
        spent = (of_anthropic(whole) or {}).get("output_tokens", 0)
        if self.round < MOST_ROUNDS:
            self.again = continued(self.call, self.blocks_so_far, self.container, spent)
        if self.again is None:
            return False
        self.round += 1
        self.spent, self.usage, self.stop_reason = whole, {}, None
        return True

    def refuse(self) -> None:
        """Writes the explanation of a refusal, if there is one."""
        explanation = self.stop_details.get("explanation")
        if explanation:
            self.turn.message().refusal(explanation)


Handler = Callable[[AnthropicTranslator, Json], None]

HANDLERS: dict[str, Handler] = {
    "message": AnthropicTranslator.message,
    "message_start": AnthropicTranslator.message_start,
    "content_block_start": AnthropicTranslator.content_block_start,
    "content_block_delta": AnthropicTranslator.content_block_delta,
    "content_block_stop": AnthropicTranslator.content_block_stop,
    "message_delta": AnthropicTranslator.message_delta,
    "message_stop": AnthropicTranslator.message_stop,
    "error": AnthropicTranslator.error,
    "ping": AnthropicTranslator.ignore,
}


def as_events(message: Json) -> Iterator[Json]:
    """Yields the events that would have brought the unary reply *message*.

    The container comes at the end, as in a stream, so that both give the same items.
    """
    start = {name: value for name, value in message.items() if name not in ("container", "content")}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"]):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_stop", "index": index}
    delta = {name: message.get(name) for name in ("stop_reason", "stop_details", "container")}
    yield {"type": "message_delta", "delta": delta, "usage": message.get("usage")}
    yield {"type": "message_stop"}


def _id_of(container: Any) -> str:
    return str(container["id"]) if container else ""


def _container(call: Call) -> str:
    """The container that the request names, "" where it leaves the choice to the provider."""
    for tool in call.body.get("tools") or ():
        if tool.get("type") == "code_interpreter" and isinstance(tool.get("container"), str):
            return str(tool["container"])
    return ""


# The reply of `/messages/count_tokens`: one number.


class CountTranslator:
    """Reads a count. What it leaves as the emitter's `response` is the whole answer, `response.input_tokens`."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def feed(self, event: str, data: bytes) -> None:
        """Reads the whole body.

        :raises ValueError: it is no count.
        """
        body = decode(data)
        if error := error_of(body):
            self.emitter.fail(error)
            return
        count = body.get("input_tokens")
        if not isinstance(count, int):
            raise ValueError("this is no count of tokens")
        self.emitter.complete()
        self.emitter.response = {"object": "response.input_tokens", "input_tokens": count}

    def close(self) -> None:
        """Nothing is left to say."""


# Errors, from HTTP bodies and from `error` events: one reading for both.
#
# Shape: `{"type": "error", "error": {"type", "message"}, "request_id"}` (API reference, "Errors").


def error_of(message: Any, status: int = 502) -> GatewayError | None:
    """Returns the error that the decoded JSON *message* describes, or None.

    *status* is for types that stand for no status of their own.
    """
    error = message.get("error") if isinstance(message, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    return _named(error, status)


def _named(error: Mapping[str, Any], status: int) -> GatewayError:
    kind, text = str(error.get("type") or "upstream_error"), error["message"]
    status = STATUS_OF_NAME.get(kind, status)
    if status in AUTH:
        return refused_credentials(text, status)
    rejected = UpstreamRejected(text, status=status, code=kind)
    rejected.kind = status
    return rejected
