"""Which operation of the chat API a request asks for, by method and path, below any prefix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..api import Api, Settings, check_model, no_such_path, object_of, only, openai_models, path_pattern
from ..model import EPOCH, Model, Prompt, Speech, as_function, pieces, speech
from ..plan import Answer, Headers, Plan, ToolCall, chunked, unary
from ..responses.conversations import JSON, answered
from ..server import ReceivedRequest
from ..wire import unnamed
from .rules import check
from .wire import ChatWire, prompt_of

# What the model says, as a chat completion and as its chunks (OpenAI, API reference, "Chat completions").


Json = dict[str, Any]

STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
DONE = b"data: [DONE]\n\n"
REASONS: Mapping[str, str] = {"max_output_tokens": "length"}


def completion(prompt: Prompt, answer: Answer, made: int, suffix: str) -> Plan:
    """The reply in the form that the request asks for; *made* numbers it, *suffix* goes into its ids."""
    writer = Writer(prompt, answer, made, suffix)
    value = writer.whole()
    one = unary(200, JSON, json.dumps(value).encode(), value)
    many = chunked(200, STREAM, (*map(unnamed, writer.chunks()), DONE), value)
    chosen, other = (many, one) if prompt.body.get("stream") is True else (one, many)
    return Plan(chosen.steps, value, other)


class Writer:
    """Writes one answer in both forms."""

    def __init__(self, prompt: Prompt, answer: Answer, made: int, suffix: str) -> None:
        self.prompt = prompt
        self.said: Speech = speech(prompt, answer)
        self.speaks = answer.text is not None
        self.suffix = suffix
        self.about = {"id": f"chatcmpl-{suffix}", "created": EPOCH + made, "model": prompt.model}
        self.calls = [self.call(call, number) for number, call in enumerate(self.said.calls)]

    def call(self, call: ToolCall, number: int) -> Json:
        tool = self.prompt.tool(call.name)
        about: Json = {"id": call.call_id or f"call_{self.suffix}{number:02x}"}
        if call.custom and tool is not None and tool.custom:
            return {**about, "type": "custom", "custom": {"name": call.name, "input": call.text()}}
        function = {"name": call.name, "arguments": as_function(self.prompt, call)}
        return {**about, "type": "function", "function": function}

    @property
    def finish_reason(self) -> str:
        if self.said.incomplete is not None:
            return REASONS.get(self.said.incomplete, self.said.incomplete)
        return "tool_calls" if self.calls else "stop"

    @property
    def usage(self) -> Json:
        said = self.said
        return {
            "prompt_tokens": said.input,
            "completion_tokens": said.output,
            "total_tokens": said.input + said.output,
            "prompt_tokens_details": {"cached_tokens": said.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": said.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    # In one piece...

    def whole(self) -> Json:
        message: Json = {"role": "assistant", "content": "".join(self.said.text) if self.speaks else None}
        if self.said.thought:
            message["reasoning_content"] = "".join(self.said.thought)
        message |= {"refusal": "".join(self.said.refusal) or None, "annotations": []}
        if self.calls:
            message["tool_calls"] = self.calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        rest = {"usage": self.usage, "service_tier": "default", "system_fingerprint": "fp_fake"}
        return {**self.about, "object": "chat.completion", "choices": [choice], **rest}

    # In chunks...

    def chunks(self) -> Iterator[Json]:
        counted = (self.prompt.body.get("stream_options") or {}).get("include_usage") is True
        for chunk in self.choices():
            yield {**chunk, "usage": None} if counted else chunk
        if counted:
            yield {**self.chunk([]), "usage": self.usage}

    def choices(self) -> Iterator[Json]:
        opening: Json = {"role": "assistant", "content": "" if self.speaks else None, "refusal": None}
        for number, delta in enumerate(self.deltas()):
            yield self.choice({**opening, **delta} if number == 0 else delta)
        yield self.choice({}, self.finish_reason)

    def deltas(self) -> Iterator[Json]:
        """What is said, bit by bit. The role comes with the first of it, and before a text."""
        for word in self.said.thought:
            yield {"reasoning_content": word}
        if not self.said.thought and (self.speaks or not self.calls):
            yield {}
        for word in self.said.text:
            yield {"content": word}
        for word in self.said.refusal:
            yield {"refusal": word}
        for index, call in enumerate(self.calls):
            yield from self.call_deltas(index, call)

    def call_deltas(self, index: int, call: Json) -> Iterator[Json]:
        kind = call["type"]
        member = "input" if kind == "custom" else "arguments"
        value = call[kind]
        yield {"tool_calls": [{"index": index, **call, kind: {**value, member: ""}}]}
        for piece in pieces(value[member]):
            yield {"tool_calls": [{"index": index, kind: {member: piece}}]}

    def choice(self, delta: Json, finish_reason: str | None = None) -> Json:
        return self.chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}])

    def chunk(self, choices: list[Json]) -> Json:
        about = {"object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": "fp_fake"}
        return {**self.about, **about, "choices": choices}


COMPLETIONS = path_pattern("/chat/completions")
MODELS = path_pattern("/models(?:/(?P<id>.+))?")


class ChatApi(Api):
    """Chat Completions. It remembers nothing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.made = 0

    def wire(self, request: ReceivedRequest, request_id: str) -> ChatWire:
        return ChatWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        if COMPLETIONS.fullmatch(request.path):
            return self._complete(request, model)
        if match := MODELS.fullmatch(request.path):
            return answered(openai_models(self.settings, request, match["id"]))
        raise no_such_path(request)

    def _complete(self, request: ReceivedRequest, model: Model) -> Plan:
        only("POST", request)
        body = object_of(request)
        check(body, self.settings)
        check_model(self.settings, body["model"])
        self.made += 1
        prompt = prompt_of(body)
        return completion(prompt, model(prompt), self.made, f"{self.settings.name}{self.made:08x}")
