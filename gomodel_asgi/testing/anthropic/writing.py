"""What the model says, as a message and as its events (Anthropic, API reference, "Messages" and "Streaming")."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..model import Prompt, Speech, as_function, pieces, speech
from ..plan import Answer, Headers, Plan, Unplayable, chunked, unary
from ..responses.conversations import JSON
from .prompts import triggers
from .wire import event, hides_thinking

Json = dict[str, Any]

STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
REASONS: Mapping[str, str] = {"max_output_tokens": "max_tokens", "content_filter": "refusal"}
UNCACHED = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}


def signature_of(thought: str) -> str:
    """What proves that *thought* is the model's own and whole."""
    return "Eo" + base64.b64encode(hashlib.sha256(b"fake thinking: " + thought.encode()).digest()).decode()


def message(prompt: Prompt, answer: Answer, suffix: str, *, stream: bool) -> Plan:
    """The reply, as events or whole; *suffix* goes into its ids."""
    writer = Writer(prompt, answer, suffix)
    many = chunked(200, STREAM, tuple(map(event, writer.events())))
    try:
        value = writer.whole()
    except Unplayable:  # arguments that are no object can be streamed all the same
        if not stream:
            raise
        return many
    one = unary(200, JSON, json.dumps(value).encode())
    return Plan(many.steps, value, one) if stream else Plan(one.steps, value, many)


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, suffix: str) -> None:
        self.prompt = prompt
        self.said: Speech = speech(prompt, answer)
        self.about: Json = {"model": prompt.model, "id": f"msg_{suffix}", "type": "message", "role": "assistant"}
        self.suffix = suffix

    # The parts...

    @property
    def thought(self) -> list[str]:
        """The words of the thinking block: none where the model keeps them to itself."""
        thinking = self.prompt.body.get("thinking") or {}
        hidden = hides_thinking(self.prompt.model) and thinking.get("display") != "summarized"
        return [] if hidden else list(self.said.thought)

    @property
    def summary(self) -> str:
        """What was said, where the request wants a conversation of this length to be compacted; else empty."""
        if not any(trigger <= self.said.input for trigger in triggers(self.prompt.body)):
            return ""
        return "\n".join(message.text for message in self.prompt.messages)

    @property
    def uses(self) -> Iterator[tuple[Json, str]]:
        """Each call as a block without input, and its input as text."""
        for number, call in enumerate(self.said.calls):
            block = {"type": "tool_use", "id": call.call_id or f"toolu_{self.suffix}{number:02x}", "name": call.name}
            yield {**block, "input": {}, "caller": {"type": "direct"}}, as_function(self.prompt, call)

    @property
    def ending(self) -> Json:
        incomplete = self.said.incomplete
        reason = REASONS.get(incomplete, incomplete) if incomplete else ("tool_use" if self.said.calls else "end_turn")
        reason = "refusal" if self.said.refusal else reason
        details = {"type": "refusal", "category": None, "explanation": "".join(self.said.refusal) or None}
        stopped = details if reason == "refusal" else None
        return {"stop_reason": reason, "stop_sequence": None, "stop_details": stopped}

    @property
    def input_usage(self) -> Json:
        """Cached tokens are counted apart from the others."""
        said = self.said
        tokens = {"input_tokens": said.input - said.cached, "cache_creation_input_tokens": 0}
        return {**tokens, "cache_read_input_tokens": said.cached}

    @property
    def output_usage(self) -> Json:
        thinking = {"thinking_tokens": self.said.reasoning}
        usage = {"output_tokens": self.said.output, "output_tokens_details": thinking}
        if not self.summary:
            return usage
        # What compacting cost stands beside the usage of the answer, and only here.
        compaction = {"type": "compaction", "input_tokens": self.said.input, "output_tokens": 1}
        return {**usage, "iterations": [compaction, {"type": "message", **self.input_usage, **usage}]}

    # In one piece...

    def whole(self) -> Json:
        blocks: list[Json] = [{"type": "compaction", "content": self.summary}] if self.summary else []
        if self.said.thought:
            thought = "".join(self.thought)
            blocks.append({"type": "thinking", "thinking": thought, "signature": signature_of(thought)})
        if self.said.text:
            blocks.append({"type": "text", "text": "".join(self.said.text)})
        blocks += [{**block, "input": object_of(text)} for block, text in self.uses]
        served = {"cache_creation": UNCACHED, "service_tier": "standard", "inference_geo": "global"}
        usage = {**self.input_usage, **self.output_usage, **served}
        return {**self.about, "content": blocks, **self.ending, "usage": usage}

    # In events...

    def events(self) -> Iterator[Json]:
        begun: Json = {"content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None}
        served = {"cache_creation": UNCACHED, "output_tokens": 1, "service_tier": "standard", "inference_geo": "global"}
        usage = {**self.input_usage, **served}
        yield {"type": "message_start", "message": {**self.about, **begun, "usage": usage}}
        for index, (block, deltas) in enumerate(self.blocks()):
            yield {"type": "content_block_start", "index": index, "content_block": block}
            if index == 0:
                yield {"type": "ping"}
            for delta in deltas:
                yield {"type": "content_block_delta", "index": index, "delta": delta}
            yield {"type": "content_block_stop", "index": index}
        yield {"type": "message_delta", "delta": self.ending, "usage": {**self.input_usage, **self.output_usage}}
        yield {"type": "message_stop"}

    def blocks(self) -> Iterator[tuple[Json, list[Json]]]:
        """Each block as it begins, and its deltas."""
        if self.summary:
            yield {"type": "compaction", "content": None}, [{"type": "compaction_delta", "content": self.summary}]
        if self.said.thought:
            words = self.thought
            deltas: list[Json] = [{"type": "thinking_delta", "thinking": word} for word in words]
            signed = {"type": "signature_delta", "signature": signature_of("".join(words))}
            yield {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]
        if self.said.text:
            yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in self.said.text]
        for block, text in self.uses:
            parts = ["", *pieces("" if text == "{}" else text)]
            yield block, [{"type": "input_json_delta", "partial_json": part} for part in parts]


def object_of(text: str) -> Any:
    """The input of a whole block.

    :raises Unplayable: it is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unplayable(f"the Messages API can say the arguments {text!r} in a stream only")
    return value
