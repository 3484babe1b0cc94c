"""What an upstream of each dialect answers, in its own form, and what a gateway in front of it is made of."""

from __future__ import annotations

import json
from typing import Any

from gomodel_asgi import Provider
from gomodel_asgi.testing import FakeProvider, Reply

Json = dict[str, Any]

EVENT_STREAM = "text/event-stream; charset=utf-8"
TRANSLATED = ["chat", "anthropic", "gemini"]
MODELS = {"responses": "gpt-5", "chat": "qwen3", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-pro"}


def provider_of(dialect: str, fake: FakeProvider, name: str | None = None, **options: Any) -> Provider:
    """A provider named after its dialect."""
    options.setdefault("api_key", "sk-canary-house-key")
    models = options.pop("models", (MODELS[dialect],))
    return Provider(name or dialect, fake.base_url, dialect=dialect, models=models, **options)  # type: ignore[arg-type]


def says(dialect: str, text: str, *, stream: bool = False) -> Reply:
    """A reply with *text*."""
    whole, events = {"chat": _chat, "anthropic": _anthropic, "gemini": _gemini}[dialect](text)
    if not stream:
        return Reply(whole)
    return Reply("".join(f"data: {event}\n\n" for event in events), content_type=EVENT_STREAM)


def _chat(text: str) -> tuple[Json, list[str]]:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    about = {"id": "chatcmpl-1", "created": 1, "model": "qwen3"}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    events = [
        {**about, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": message}]},
        {**about, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {**about, "object": "chat.completion.chunk", "choices": [], "usage": usage},
    ]
    whole = {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
    return whole, [*map(json.dumps, events), "[DONE]"]


def _anthropic(text: str) -> tuple[Json, list[str]]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "usage": usage}
    events = [
        {"type": "message_start", "message": {**about, "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    whole = {**about, "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
    return whole, list(map(json.dumps, events))


def _gemini(text: str) -> tuple[Json, list[str]]:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    content = {"role": "model", "parts": [{"text": text}]}
    whole = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage}
    return whole, [json.dumps(whole)]


def calls(dialect: str, name: str, arguments: Json) -> Reply:
    """A reply that calls a tool."""
    if dialect == "chat":
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return Reply({"id": "c", "model": "qwen3", "choices": [{"index": 0, "message": message}]})
    if dialect == "anthropic":
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}
        return Reply({**_anthropic("")[0], "content": [block], "stop_reason": "tool_use"})
    parts = [{"functionCall": {"name": name, "args": arguments}, "thoughtSignature": "c2ln"}]
    return Reply({"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]})


def texts_sent(fake: FakeProvider, number: int = -1) -> str:
    """The body of a request that the upstream received, as text to search in."""
    return fake.requests[number].body.decode()
