"""Token counts in one form, whatever API they come from.

The rules are those of the dialects: input includes cached and cache-written tokens, output includes reasoning, so that
nothing is counted twice and `total` is a plain sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

BYTES_PER_TOKEN = 4  # of English text and JSON, roughly; other scripts need more tokens


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens of one answer.

    *input_tokens* include *cached_tokens* (read from a cache) and *cache_write_tokens* (written to one; of these
    *cache_write_1h_tokens* for an hour); *output_tokens* include *reasoning_tokens*.
    *estimated*: guessed from sizes, not reported.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def read_usage(raw: Any) -> Usage | None:
    """What *raw* counts: a usage object of Responses, Chat Completions, Anthropic Messages or Gemini, told apart by its
    members. None where it is none of them, or counts nothing."""
    if not isinstance(raw, Mapping):
        return None
    try:
        found = _in_our_form(dict(raw))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
    if found is None:
        return None
    read, given = _details(found, "input_tokens_details"), _details(found, "output_tokens_details")
    return Usage(
        input_tokens=_count(found, "input_tokens"),
        output_tokens=_count(found, "output_tokens"),
        cached_tokens=_count(read, "cached_tokens"),
        cache_write_tokens=_count(read, "cache_write_tokens"),
        cache_write_1h_tokens=_count(_details(raw, "cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=_count(given, "reasoning_tokens"),
    )


def estimate(request: int, text: int) -> Usage:
    """A guess from *request* bytes asked and *text* bytes answered, as English would have it."""
    return Usage(input_tokens=-(-request // BYTES_PER_TOKEN), output_tokens=-(-text // BYTES_PER_TOKEN), estimated=True)


def _in_our_form(raw: dict[str, Any]) -> Mapping[str, Any] | None:
    """*raw* as a Responses usage object. The dialects know how; each is imported when its kind is first seen."""
    if "promptTokenCount" in raw or "candidatesTokenCount" in raw:
        from ..dialects.gemini.finish import read_usage as of_gemini

        return of_gemini(raw)
    if "prompt_tokens" in raw or "completion_tokens" in raw:
        from ..dialects.chat.usage import read_usage as of_chat

        return of_chat(raw)
    if "input_tokens" not in raw and "output_tokens" not in raw:
        return None
    if "input_tokens_details" not in raw and ANTHROPIC & raw.keys():
        from ..dialects.anthropic.usage import counted as of_anthropic

        return of_anthropic(raw)
    return raw


ANTHROPIC = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "iterations"})
"""Members that only Anthropic's usage has; without them its counts mean what those of Responses mean."""


def _details(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return max(0, int(value)) if isinstance(value, int | float) and value == value and abs(value) < 2**53 else 0
