"""Token counts as chat servers write them."""

from __future__ import annotations

from typing import Any

from ...wire.event_writer import usage
from ..parts import Json

LARGEST = 2**53 - 1  # what every JSON reader holds exactly; no real count is near it


def read_usage(raw: Any) -> Json | None:
    """The usage object for *raw*, a chat `usage`; None where it counts nothing.

    The output is what the total leaves beside the prompt where that is more: xAI and Gemini's OpenAI endpoint count
    reasoning in the total only.
    """
    if not isinstance(raw, dict) or ("prompt_tokens" not in raw and "completion_tokens" not in raw):
        return None
    given, read = _details(raw, "completion_tokens_details"), _details(raw, "prompt_tokens_details")
    prompt, total = _count(raw, "prompt_tokens"), _count(raw, "total_tokens")
    return usage(
        input=prompt,
        output=max(_count(raw, "completion_tokens"), total - prompt),
        cached=_count(read, "cached_tokens") or _count(raw, "prompt_cache_hit_tokens") or _flat_cached(raw),
        written=_count(read, "cache_write_tokens"),
        reasoning=_count(given, "reasoning_tokens") or _count(raw, "reasoning_tokens"),
    )


def _flat_cached(raw: Json) -> int:
    return _count(raw, "num_cached_tokens") or _count(raw, "cached_tokens")


def _details(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _count(raw: Json, name: str) -> int:
    value = raw.get(name)
    return min(max(0, int(value)), LARGEST) if isinstance(value, (int, float)) else 0
