"""What Gemini wants back on the next turn: thought signatures with the parts they belong to, and parts that no item of
the Responses API can hold.

It travels as a list of entries in the `encrypted_content` of reasoning items, each of them one of
- `{"part": {...}}`: a part as it came (thoughts, server tools, a signed empty text), to be put where the item stands;
- `{"call": call_id, "signature": ...}`: for the function call of that id, wherever it stands;
- `{"text": [start, length], "signature": ...}`: for that stretch of the text before the item, a part of its own;
- `{"image": true, "signature": ...}`: for the next image.

A signed part must come back unmerged with its unsigned neighbours (Gemini API, "Thought signatures").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..opaque_state import seal, unseal
from .models import bare

Json = dict[str, Any]


def of_part(part: Json) -> Json:
    return {"part": part}


def of_call(call_id: str, signature: str) -> Json:
    return {"call": call_id, "signature": signature}


def of_text(start: int, length: int, signature: str) -> Json:
    return {"text": [start, length], "signature": signature}


def of_image(signature: str) -> Json:
    return {"image": True, "signature": signature}


def pack(entries: list[Json], provider: str, model: str) -> str:
    """*entries* as `encrypted_content`."""
    return seal(provider, bare(model), {"entries": entries})


def unpack(encrypted: str | None, provider: str, model: str) -> list[Json]:
    """The entries of an `encrypted_content`, none where it is foreign: of another provider or model. What comes back is
    the client's word, so entries of another shape are left out."""
    payload = unseal(encrypted, provider, bare(model)) or {}
    entries = payload.get("entries")
    return [entry for entry in entries if is_entry(entry)] if isinstance(entries, list) else []


def is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    if isinstance(part := entry.get("part"), dict):
        return bool(part) and not part.keys() & {"functionCall", "functionResponse"}
    if not isinstance(entry.get("signature"), str):
        return False
    return isinstance(entry.get("call"), str) or entry.get("image") is True or _is_span(entry.get("text"))


def _is_span(span: Any) -> bool:
    return isinstance(span, list) and len(span) == 2 and all(type(number) is int and number >= 0 for number in span)


def divide(text: str, entries: list[Json]) -> Iterator[Json]:
    """*text* as parts: each signed stretch one, each unsigned stretch between them one."""
    at = 0
    for entry in entries:
        start, length = entry["text"]
        start = min(max(start, at), len(text))
        if text[at:start]:
            yield {"text": text[at:start]}
        at = min(start + length, len(text))
        yield {"text": text[start:at], "thoughtSignature": entry["signature"]}
    if text[at:]:
        yield {"text": text[at:]}
