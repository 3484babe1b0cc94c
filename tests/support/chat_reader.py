"""What a recorded chat exchange says, read straight from the recording. Shares no code with the dialect."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded"
WHY_SKIPPED = f"no recordings at {RECORDED.name}/ beside the repository"


@dataclass
class Reading:
    """*calls* are [id, name, arguments]; *usage* is (input, output, cached, reasoning)."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)
    finish: str | None = None
    usage: tuple[int, int, int, int] | None = None
    model: str | None = None
    failed: bool = False


def exchanges(name: str) -> list[Json]:
    path = RECORDED / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    return [json.loads(line) for line in lines if line]


def data_lines(reply: str) -> list[str]:
    return [line[5:].strip() for line in reply.splitlines() if line.startswith("data:")]


def read(reply: Any) -> Reading:
    reading = Reading()
    if not isinstance(reply, str):
        take(reading, reply, "message")
        return reading
    for line in data_lines(reply):
        if line != "[DONE]":
            take(reading, json.loads(line), "delta")
    return reading


def take(reading: Reading, value: Json, where: str) -> None:
    if value.get("error"):
        reading.failed = True
        return
    counts = value.get("usage")
    if counts is None and value.get("x_groq"):
        counts = value["x_groq"].get("usage")
    if counts:
        reading.usage = read_counts(counts)
    for choice in value.get("choices", []):
        reading.model = reading.model or value.get("model")
        reading.finish = choice.get("finish_reason") or reading.finish
        take_message(reading, choice.get(where) or {})


def read_counts(counts: Json) -> tuple[int, int, int, int]:
    cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or counts.get("num_cached_tokens") or 0
    reasoning = (counts.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    prompt, completion = counts["prompt_tokens"], counts["completion_tokens"]
    if counts["total_tokens"] > prompt + completion:
        completion = counts["total_tokens"] - prompt
    return prompt, completion, cached, reasoning


def take_message(reading: Reading, message: Json) -> None:
    content = message.get("content") or ""
    if isinstance(content, str):
        reading.text += content
    else:
        for part in content:
            if part["type"] == "text":
                reading.text += part["text"]
            elif part["type"] == "thinking":
                reading.reasoning += "".join(piece["text"] for piece in part["thinking"])
    reading.reasoning += thought(message)
    for position, call in enumerate(message.get("tool_calls") or []):
        index = call.get("index", position)
        if index == len(reading.calls):
            reading.calls.append(["", "", ""])
        for at, piece in enumerate((call.get("id"), call["function"].get("name"), call["function"]["arguments"])):
            reading.calls[index][at] += piece or ""


def thought(message: Json) -> str:
    for name in ("reasoning_content", "reasoning"):
        if message.get(name):
            return str(message[name])
    details = message.get("reasoning_details") or []
    return "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
