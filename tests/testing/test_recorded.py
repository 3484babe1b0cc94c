"""The fake provider beside recorded exchanges with the real APIs: it takes what they took, and its streams have the
members that theirs have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gomodel_asgi.testing import Answer, FakeProvider, ToolCall
from gomodel_asgi.testing.anthropic_rules import signature_of as anthropic_signature
from gomodel_asgi.testing.gemini_prompt import signature_of as gemini_signature
from gomodel_asgi.testing.provider import Dialect
from gomodel_asgi.wire.sse import Decoder

FOLDER = Path(__file__).parents[3] / "shared" / "recorded"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the recorded exchanges are not here")
DIALECTS: tuple[Dialect, ...] = ("chat", "anthropic", "gemini")
"""The Responses API is written by the package's own emitter, which has tests of its own."""
HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "mcp-client-2025-11-20,compact-2026-01-12"}


def recorded(dialect: Dialect) -> list[dict[str, Any]]:
    file = FOLDER / f"{dialect}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def signed(value: Any) -> Any:
    """*value* with signatures that a fake provider would have given."""
    if isinstance(value, list):
        return [signed(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: signed(member) for name, member in value.items()}
    if found.get("type") == "thinking" and "signature" in found:
        found["signature"] = anthropic_signature(found["thinking"])
    for name in ("thoughtSignature", "thought_signature"):
        if name in found:
            found[name] = gemini_signature("recorded")
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_request_that_the_real_api_answered_is_answered(dialect: Dialect) -> None:
    refused = []
    with FakeProvider(dialect=dialect).run_in_thread() as fake, httpx.Client(base_url=fake.origin) as http:
        for number, exchange in enumerate(recorded(dialect)):
            reply = http.post(exchange["path"], json=signed(exchange["request"]), headers=HEADERS)
            if exchange["status"] == 200 and reply.status_code != 200:
                refused.append((number, exchange["host"], reply.text))

    assert refused == []


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of each member in *value*; what is in a list has the path of the list."""
    if isinstance(value, list):
        for each in value:
            yield from paths(each, path)
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield f"{path}.{name}"
            if name not in FREE:
                yield from paths(member, f"{path}.{name}")


FREE = ("args", "arguments", "input", "tools", "text_format", "output")
"""Members whose content is the client's or the model's own."""


def members(stream: str, dialect: Dialect) -> set[str]:
    """The paths of all members in the events of a stream, by type of event where it has one."""
    found: set[str] = set()
    for event in Decoder().feed(stream.encode()):
        if event.data == b"[DONE]":
            continue
        value = json.loads(event.data)
        found |= set(paths(value, value.get("type", "") if dialect != "chat" else ""))
    return found


def asked(dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """A request for a stream of everything that the fake provider can say."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    match dialect:
        case "chat":
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
            return "/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}
        case "anthropic":
            tools = [{"name": "weather", "input_schema": schema}]
            body = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "messages": [{"role": "user", "content": "hi"}]}
            thinking = {"type": "enabled", "budget_tokens": 1024}
            return "/v1/messages", {**body, "stream": True, "tools": tools, "thinking": thinking}
    path = "/v1beta/models/gemini-3-flash-preview:streamGenerateContent?alt=sse"
    config = {"thinkingConfig": {"includeThoughts": True}}
    return path, {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": config}


KNOWN: Mapping[Dialect, set[str]] = {
    "chat": {".choices.delta.reasoning_content"},  # DeepSeek, Z.ai: recorded in unary replies only
    "anthropic": {
        # In the SDK's types; the recordings are older.
        "message_delta.usage.output_tokens_details",
        "message_delta.usage.output_tokens_details.thinking_tokens",
    },
    "gemini": {
        ".candidates.content.parts.thought",
        ".candidates.content.parts.functionCall.id",
        ".candidates.finishMessage",
        ".usageMetadata.cachedContentTokenCount",
    },
}
"""Members that the APIs document and no recorded stream happens to have."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_event_of_a_stream_has_a_member_that_real_ones_lack(dialect: Dialect) -> None:
    real: set[str] = set()
    for exchange in recorded(dialect):
        if isinstance(exchange["reply"], str):
            real |= members(exchange["reply"], dialect)
    said = Answer(text="One two.", reasoning="Three.", calls=[ToolCall("weather", {"city": "Oslo"})], cached=1)
    path, body = asked(dialect)
    made: set[str] = set()
    with FakeProvider(dialect=dialect).run_in_thread() as fake:
        for answer in (said, Answer(text="One.")):
            fake.script(answer)
            made |= members(httpx.post(fake.origin + path, json=body, headers=HEADERS).text, dialect)

    assert made - real - KNOWN[dialect] == set()


ALWAYS: Mapping[Dialect, set[str]] = {
    "chat": {".id", ".object", ".created", ".model", ".choices.index", ".choices.delta", ".choices.finish_reason"},
    "anthropic": {"message_start.message.usage.input_tokens", "message_delta.delta.stop_reason", "ping.type"},
    "gemini": {".candidates.content.role", ".usageMetadata.promptTokenCount", ".modelVersion", ".responseId"},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_members_that_every_real_stream_has_are_there(dialect: Dialect) -> None:
    path, body = asked(dialect)
    with FakeProvider(dialect=dialect).run_in_thread() as fake:
        made = members(httpx.post(fake.origin + path, json=body, headers=HEADERS).text, dialect)
    streams = [members(each["reply"], dialect) for each in recorded(dialect) if isinstance(each["reply"], str)]

    assert ALWAYS[dialect] <= made
    assert ALWAYS[dialect] <= set().union(*streams)
