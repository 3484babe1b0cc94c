"""Reads recorded replies of the Messages API on its own, to judge the translation by.

It shares no code with the dialect: its own frames, its own joining of deltas, its own arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"

Json = dict[str, Any]


@dataclass
class Facts:
    """What a reply says: *finish* is (status, reason), *usage* (input, output, cached, written, reasoning)."""

    text: str
    reasoning: str
    calls: list[tuple[str, str, Json]]
    finish: tuple[str, str | None]
    usage: tuple[int, int, int, int, int]
    cited: list[str]


WRONG: tuple[Any, ...] = (None, 5, "", "x", [], {}, [None], {"type": "x"}, True)
"""A value of every JSON type, to stand where another one is expected."""


def damaged(value: Any) -> Iterator[Any]:
    """Copies of the JSON *value*, each with another one of its inner values replaced by a value of another type."""
    for path in _paths(value):
        for wrong in WRONG:
            copy = json.loads(json.dumps(value))
            inner = copy
            for name in path[:-1]:
                inner = inner[name]
            inner[path[-1]] = wrong
            yield copy


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _paths(each, (*path, name))


def exchanges(name: str = "anthropic") -> list[Json]:
    """The recorded exchanges of a file, in order; none where the recordings are not there."""
    path = RECORDED / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def frames(stream: str) -> list[Json]:
    """The data of each event of an event stream, `ping` left out."""
    found = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data:")]
    return [event for event in found if event["type"] != "ping"]


def assembled(stream: str) -> Json:
    """The unary message that a stream amounts to."""
    message: Json = {}
    partial: dict[int, str] = {}
    for event in frames(stream):
        if event["type"] == "message_start":
            message = {**event["message"], "content": []}
        elif event["type"] == "content_block_start":
            message["content"].append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            apply_delta(message["content"][event["index"]], event["delta"], event["index"], partial)
        elif event["type"] == "message_delta":
            message.update(event["delta"])
            message["usage"] = message["usage"] | {k: v for k, v in event["usage"].items() if v is not None}
    for index, text in partial.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    return message


def apply_delta(block: Json, delta: Json, index: int, partial: dict[int, str]) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        block["text"] += delta["text"]
    elif kind == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = block.get("signature", "") + delta["signature"]
    elif kind == "citations_delta":
        block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    elif kind == "input_json_delta":
        partial[index] = partial.get(index, "") + delta["partial_json"]
    else:
        raise AssertionError(f"a delta this reader does not know: {kind}")


def facts_of(message: Json) -> Facts:
    """What the unary *message* says."""
    content = message["content"]
    usage = message["usage"]
    cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    partial = {"max_tokens": "max_output_tokens", "refusal": "content_filter", "pause_turn": "pause_turn"}
    reason = partial.get(message["stop_reason"])
    return Facts(
        text="".join(block["text"] for block in content if block["type"] == "text"),
        reasoning="".join(block["thinking"] for block in content if block["type"] == "thinking"),
        calls=[(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"],
        finish=("incomplete" if reason else "completed", reason),
        usage=(usage["input_tokens"] + cached + written, usage["output_tokens"], cached, written, thought),
        cited=[found["url"] for block in content for found in block.get("citations") or [] if "url" in found],
    )
