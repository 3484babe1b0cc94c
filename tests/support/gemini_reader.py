"""Reads a recorded Gemini reply on its own: what any translation of it must say. Shares nothing with the dialect."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

RECORDED = Path(__file__).parents[2].parent / "shared" / "recorded"
WHY_SKIPPED = "the recorded exchanges are not beside this project (../shared/recorded)"


def exchanges(name: str) -> list[Json]:
    """The recorded exchanges of an API, none where the recordings are missing."""
    path = RECORDED / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def chunks(exchange: Json) -> list[Json]:
    """The reply as the objects it is made of."""
    if not isinstance(exchange["reply"], str):
        return [exchange["reply"]]
    lines = exchange["reply"].replace("\r\n", "\n").split("\n")
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


@dataclass
class Reading:
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Json]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    finish: str = ""
    usage: tuple[int, int, int, int] | None = None
    parts: list[Json] = field(default_factory=list)
    """As the model must get them back: unsigned texts that follow each other are one, empty ones none."""


def read(objects: list[Json]) -> Reading:
    reading = Reading()
    for item in objects:
        if "usageMetadata" in item:
            tokens = item["usageMetadata"]
            reading.usage = (
                tokens.get("promptTokenCount", 0) + tokens.get("toolUsePromptTokenCount", 0),
                tokens.get("candidatesTokenCount", 0) + tokens.get("thoughtsTokenCount", 0),
                tokens.get("cachedContentTokenCount", 0),
                tokens.get("thoughtsTokenCount", 0),
            )
        for candidate in item.get("candidates", []):
            reading.finish = candidate.get("finishReason", reading.finish)
            for part in candidate.get("content", {}).get("parts", []):
                read_part(reading, part)
    return reading


def read_part(reading: Reading, part: Json) -> None:
    if "text" in part and part.get("thought"):
        reading.reasoning += part["text"]
    elif "text" in part:
        reading.text += part["text"]
    elif "functionCall" in part:
        reading.calls.append((part["functionCall"]["name"], part["functionCall"].get("args", {})))
    elif "inlineData" in part:
        reading.images.append(part["inlineData"]["data"])
    last = reading.parts[-1] if reading.parts else {}
    if part == {"text": ""}:
        return
    if part.keys() == last.keys() and part.keys() in ({"text"}, {"text", "thought"}):
        last["text"] += part["text"]
    else:
        reading.parts.append(dict(part))


def unary(objects: list[Json]) -> Json:
    """A stream's objects as the one object that a unary call would have got."""
    whole: Json = {}
    candidate: Json = {"content": {"role": "model", "parts": []}}
    for item in objects:
        whole |= {name: value for name, value in item.items() if name != "candidates"}
        for piece in item.get("candidates", []):
            candidate["content"]["parts"] += piece.get("content", {}).get("parts", [])
            candidate |= {name: value for name, value in piece.items() if name != "content"}
    return {"candidates": [candidate], **whole}
