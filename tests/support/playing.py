"""Plays conversations over one dialect, and reads what went upstream in one form for all dialects."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from gomodel_asgi import Gateway, NoStore, Provider
from gomodel_asgi.observers import Record, Warned
from gomodel_asgi.testing import FakeProvider, Reply

from .driving import Caller, ask

Json = dict[str, Any]
MOST_REQUESTS = 10
"""That one step makes of the upstream: each gets the step's reply."""
DIALECTS = ("chat", "anthropic", "gemini")
MODELS = {"chat": "qwen3", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash"}
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_form = pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])


@dataclass
class Played:
    """What became of a conversation: *callers* have the answers, *sent* are the bodies that went upstream."""

    callers: list[Caller] = field(default_factory=list)
    sent: list[Json] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    @property
    def caller(self) -> Caller:
        return self.callers[-1]

    @property
    def responses(self) -> list[Json]:
        """The response object that each request ended with; each must have been answered."""
        found = []
        for caller in self.callers:
            assert caller.status == 200, caller.content
            streams = caller.headers["content-type"].startswith("text/event-stream")
            found.append(caller.events()[-1]["response"] if streams else caller.json())
        return found

    @property
    def response(self) -> Json:
        return self.responses[-1]

    @property
    def left_out(self) -> str:
        """What observers were told was left out."""
        return " ".join(record.message for record in self.records if isinstance(record, Warned))


async def play(upstream: FakeProvider, provider: Provider, steps: list[Json], **options: Any) -> Played:
    """The *steps*, each a client's request and the upstream's reply to it."""
    found = Played()
    gateway = Gateway(providers=[provider], observers=[found.records.append], **options)
    async with gateway:
        for step in steps:
            request = json.loads(json.dumps(step["request"]))
            if request.get("previous_response_id") == "$prev":
                request["previous_response_id"] = found.response["id"]
            upstream.script([_reply(step["reply"])] * MOST_REQUESTS)
            found.callers.append(await ask(gateway, request))
            found.sent += [json.loads(received.body) for received in upstream.requests]
            upstream.clear()
    return found


def _reply(reply: Json) -> Reply:
    kind = "text/event-stream" if reply.get("stream") else "application/json"
    headers = tuple((reply.get("headers") or {}).items())
    return Reply(reply["body"], status=reply.get("status", 200), content_type=kind, headers=headers)


def said(dialect: str, body: Json) -> list[tuple[str, Any]]:
    """The conversation in *body*: (role, text), ("call", (id, arguments)) and ("output", (id, text)) in order."""
    return {"chat": _chat, "anthropic": _anthropic, "gemini": _gemini}[dialect](body)


def _chat(body: Json) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            found.append(("output", (message["tool_call_id"], message["content"])))
            continue
        if message["content"]:
            found.append((message["role"], message["content"]))
        for call in message.get("tool_calls", ()):
            found.append(("call", (call["id"], json.loads(call["function"]["arguments"]))))
    return found


def _anthropic(body: Json) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("system", block["text"]) for block in body.get("system", ())]
    for message in body["messages"]:
        for block in message["content"]:
            if block["type"] == "tool_use":
                found.append(("call", (block["id"], block["input"])))
            elif block["type"] == "tool_result":
                found.append(("output", (block["tool_use_id"], block["content"][0]["text"])))
            else:
                found.append((message["role"], block["text"]))
    return found


def _gemini(body: Json) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("system", part["text"]) for part in _parts(body.get("systemInstruction"))]
    for content in body["contents"]:
        for part in content["parts"]:
            if "functionCall" in part:
                found.append(("call", (part["functionCall"].get("id"), part["functionCall"]["args"])))
            elif "functionResponse" in part:
                response = part["functionResponse"]
                found.append(("output", (response.get("id"), response["response"]["output"])))
            else:
                found.append(({"model": "assistant"}.get(content["role"], content["role"]), part["text"]))
    return found


def _parts(content: Json | None) -> list[Json]:
    return content["parts"] if content else []


def kinds(dialect: str, body: Json) -> list[str]:
    return [kind for kind, _ in said(dialect, body)]


def values(dialect: str, body: Json, kind: str) -> list[Any]:
    return [value for found, value in said(dialect, body) if found == kind]


def tools_of(dialect: str, body: Json) -> list[str]:
    """The names of the tools that are offered."""
    tools = body.get("tools") or []
    if dialect == "chat":
        return [tool["function"]["name"] for tool in tools]
    if dialect == "anthropic":
        return [tool["name"] for tool in tools]
    functions = [function["name"] for tool in tools for function in tool.get("functionDeclarations", ())]
    return functions + [name for tool in tools for name in tool if name != "functionDeclarations"]


def answer(dialect: str, stream: bool) -> Json:
    """An upstream's reply that says "ok"."""
    events, body = ANSWERS[dialect]
    if not stream:
        return {"body": body}
    done = "data: [DONE]\n\n" if dialect == "chat" else ""
    return {"stream": True, "body": "".join(f"data: {json.dumps(event)}\n\n" for event in events) + done}


async def asked(
    upstream: FakeProvider, dialect: Any, stream: bool, request: Json, *, model: str | None = None, **options: Any
) -> Played:
    """One request with default settings, but for *options* of the provider."""
    provider = Provider("up", upstream.base_url, dialect=dialect, api_key="sk-canary", **options)
    body = {"model": model or MODELS[dialect], "stream": stream, **request}
    found = await play(upstream, provider, [{"request": body, "reply": answer(dialect, stream)}], store=NoStore())
    upstream.clear()
    return found


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


ANSWERS: dict[str, tuple[list[Json], Json]] = {
    "chat": (
        [
            {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        ],
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]},
    ),
    "anthropic": (
        [
            {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "ok"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ],
        {
            "type": "message",
            "model": "m",
            "content": [{"type": "text", "text": "ok"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
    ),
    "gemini": (
        [{"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]}],
        {"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}]},
    ),
}
