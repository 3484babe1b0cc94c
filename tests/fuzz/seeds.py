"""What each target begins with: the smallest inputs that reach its every room, and recorded replies where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"
LONGEST = 16 * 1024  # bytes of a recorded reply; a longer one costs more executions than it finds


def wire(*events: Json, named: bool = False, done: bool = False) -> bytes:
    blocks = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join(blocks).encode() + (b"data: [DONE]\n\n" if done else b"")


CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CHAT_USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CHAT = [
    wire(
        {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "Hm"}}]},
        {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hi"}}]},
        {"id": "x", "choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
        {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"id": "x", "choices": [], "usage": CHAT_USAGE},
        done=True,
    ),
    wire({"error": {"message": "No.", "type": "server_error", "code": 500}}),
    json.dumps(
        {
            "choices": [{"message": {"content": "Hi", "refusal": None, "tool_calls": [CALL]}, "finish_reason": "stop"}],
            "usage": CHAT_USAGE,
        }
    ).encode(),
]

BLOCKS: list[Json] = [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": ""}]
TOOL_USE: Json = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
DELTAS: list[Json] = [
    {"type": "thinking_delta", "thinking": "Hm"},
    {"type": "text_delta", "text": "Hi"},
    {"type": "input_json_delta", "partial_json": '{"a":1}'},
]
MESSAGE: Json = {"id": "m", "type": "message", "role": "assistant", "content": [], "stop_reason": None}
ANTHROPIC = [
    wire(
        {"type": "message_start", "message": {**MESSAGE, "usage": {"input_tokens": 3, "output_tokens": 0}}},
        *(
            event
            for index, (block, delta) in enumerate(zip([*BLOCKS, TOOL_USE], DELTAS, strict=True))
            for event in (
                {"type": "content_block_start", "index": index, "content_block": block},
                {"type": "content_block_delta", "index": index, "delta": delta},
                {"type": "content_block_stop", "index": index},
            )
        ),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
        named=True,
    ),
    wire({"type": "error", "error": {"type": "overloaded_error", "message": "No."}}, named=True),
    json.dumps({**MESSAGE, "content": [*BLOCKS, TOOL_USE], "stop_reason": "end_turn", "usage": {}}).encode(),
]

PARTS = [{"text": "Hm", "thought": True}, {"text": "Hi"}, {"functionCall": {"name": "f", "args": {"a": 1}}}]
TOKENS = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
ANSWER: Json = {
    "candidates": [{"index": 0, "content": {"role": "model", "parts": PARTS}, "finishReason": "STOP"}],
    "usageMetadata": TOKENS,
}
GEMINI = [
    wire({"candidates": [{"content": {"parts": PARTS[:1]}}]}, ANSWER),
    wire({"error": {"code": 503, "message": "No.", "status": "UNAVAILABLE"}}),
    wire({"promptFeedback": {"blockReason": "SAFETY"}}),
    json.dumps(ANSWER).encode(),
]

TEXT: Json = {"type": "output_text", "text": "Hi", "annotations": []}
ITEM: Json = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [TEXT]}
PLACE: Json = {"item_id": "msg", "output_index": 0, "content_index": 0}
RESPONSE: Json = {"id": "resp_1", "object": "response", "status": "in_progress", "output": [], "provider": "p"}
WHOLE: Json = {**RESPONSE, "status": "completed", "output": [ITEM], "usage": {"input_tokens": 3, "output_tokens": 2}}
FAILED: Json = {**RESPONSE, "status": "failed", "error": {"code": "server_error", "message": "No."}}
NATIVE = [
    wire(
        {"type": "response.created", "sequence_number": 0, "response": RESPONSE},
        {
            "type": "response.output_item.added",
            "sequence_number": 1,
            "output_index": 0,
            "item": {**ITEM, "content": []},
        },
        {"type": "response.content_part.added", "sequence_number": 2, **PLACE, "part": {**TEXT, "text": ""}},
        {"type": "response.output_text.delta", "sequence_number": 3, **PLACE, "delta": "Hi"},
        {"type": "response.output_text.done", "sequence_number": 4, **PLACE, "text": "Hi"},
        {"type": "response.output_item.done", "sequence_number": 5, "output_index": 0, "item": ITEM},
        {"type": "response.completed", "sequence_number": 6, "response": WHOLE},
        named=True,
        done=True,
    ),
    wire({"type": "response.output_text.delta", "delta": "Hi"}, {"type": "response.failed", "response": FAILED}),
    wire({"type": "error", "error": {"message": "No.", "code": "rate_limit_exceeded"}}, done=True),
    json.dumps(WHOLE).encode(),
]

SEEDS: dict[str, list[bytes]] = {
    "envelope": [
        b'{"model":"m","provider":"openai","stream":true,"input":"Hi","temperature":1e-7}',
        b'\xef\xbb\xbf { "provider" : {"only":["a"]}, "a\\u0041" : [1.0,-0,1E400,"\\ud83d\\ude00"] , "model":null }',
    ],
    "sse": [b"\xef\xbb\xbfevent: a\r\ndata: 1\r\n\r\ndata:2\n\n: c\n\rdata\r\rdata: [DONE]", *CHAT[:1]],
    "headers": [
        b"provider=openai&a=b\nx-gomodel-provider\nopenai\nretry-after\n7\nx-request-id\nreq_1",
        b"a=%70rovider&%70rovider=a%0Ab+c\nx-ratelimit-a\n\xff\nhost\na\nhost\nb",
    ],
    "chat": CHAT,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "native": NATIVE,
    "lenient": NATIVE,
}
FILES = {"chat": "chat", "anthropic": "anthropic", "gemini": "gemini", "native": "responses", "lenient": "responses"}


def seeds(target: str) -> list[bytes]:
    """The inputs that *target* begins with."""
    return SEEDS[target] + recorded(FILES.get(target, ""))


def recorded(name: str) -> list[bytes]:
    path = RECORDED / f"{name}.jsonl"
    replies = [json.loads(line)["reply"] for line in path.read_text().splitlines()] if path.exists() else []
    found = [(reply if isinstance(reply, str) else json.dumps(reply)).encode() for reply in replies]
    return [reply for reply in found if len(reply) <= LONGEST]
