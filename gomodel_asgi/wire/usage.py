"""Usage objects: ours, and how those of other APIs are read as ours; and an estimate where nothing was counted.

The rules are the same for all: input includes cached and cache-written tokens, output includes reasoning, so that
nothing is counted twice and the total is a plain sum. They stand below the dialects: observers read such objects too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

from .json_scan import WINDOW, window_of

Json = dict[str, Any]

LARGEST = 2**53 - 1  # what every JSON reader holds exactly; no real count is near it


def usage(*, input: int, output: int, cached: int = 0, written: int = 0, reasoning: int = 0) -> Json:
    """Returns a usage object. *input* includes cached and cache-written tokens, *output* includes reasoning tokens."""
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    }


# Chat Completions.


def of_chat(raw: Any) -> Json | None:
    """Returns the usage object for *raw*, a chat `usage`; None where it counts nothing.

    Output tokens are the total less the prompt where that is more: xAI and Gemini's OpenAI endpoint count reasoning in
    the total only.
    """
    if not isinstance(raw, dict) or ("prompt_tokens" not in raw and "completion_tokens" not in raw):
        return None
    given, read = _details(raw, "completion_tokens_details"), _details(raw, "prompt_tokens_details")
    prompt, total = _count(raw, "prompt_tokens"), _count(raw, "total_tokens")
    return usage(
        input=prompt,
        output=max(_count(raw, "completion_tokens"), total - prompt),
        cached=_count(read, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"),
        written=_count(read, "cache_write_tokens"),
        reasoning=_count(given, "reasoning_tokens") or _count(raw, "reasoning_tokens"),
    )


def _details(raw: Json, name: str) -> Json:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _count(raw: Json, *names: str) -> int:
    """Returns the first of these members that counts something, or 0."""
    for name in names:
        value = raw.get(name)
        if isinstance(value, (int, float)) and value > 0:
            return min(int(value), LARGEST)
    return 0


# Anthropic Messages.


def of_anthropic(raw: Mapping[str, Any]) -> Json | None:
    """Returns our usage object, or None where nothing was counted.

    Anthropic's `input_tokens` count the uncached ones only, ours count all. A compaction is billed beside the answer:
    its tokens stand only in `iterations`. The tokens of an `advisor_message` belong to another model and are left out.
    """
    if not raw:
        return None
    rounds = [raw, *_compactions(raw.get("iterations"))]
    cached = _sum(rounds, "cache_read_input_tokens")
    written = _sum(rounds, "cache_creation_input_tokens")
    return usage(
        input=_sum(rounds, "input_tokens") + cached + written,
        output=_sum(rounds, "output_tokens"),
        cached=cached,
        written=written,
        reasoning=int((raw.get("output_tokens_details") or {}).get("thinking_tokens") or 0),
    )


def _compactions(iterations: Any) -> list[Mapping[str, Any]]:
    return [iteration for iteration in iterations or () if iteration.get("type") == "compaction"]


def _sum(rounds: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(each.get(name) or 0) for each in rounds)


# Gemini.


def of_gemini(metadata: Mapping[str, Any]) -> Json:
    """Returns the usage object of a `usageMetadata`: promptTokenCount includes cached tokens; those of tool results and
    thoughts are counted beside the others.

    :raises ValueError: something in it is no count.
    """

    def tokens(name: str) -> int:
        return count(metadata.get(name))

    return usage(
        input=tokens("promptTokenCount") + tokens("toolUsePromptTokenCount"),
        output=tokens("candidatesTokenCount") + tokens("thoughtsTokenCount"),
        cached=tokens("cachedContentTokenCount"),
        reasoning=tokens("thoughtsTokenCount"),
    )


def count(value: Any) -> int:
    """Returns a count, 0 for null; protobuf's JSON may write it as a string.

    :raises ValueError: it is of another type.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a count")
    return value


# About how many tokens a JSON body is, from its bytes alone.
#
# Four bytes of JSON text are one token, but no word is less than one. That is near for English and for code, and too
# low for scripts whose characters take three bytes; inline media counts `MEDIA` tokens a piece, whatever it holds.


BYTES_PER_TOKEN = 4
"""An English token has about four (OpenAI, "What are tokens")."""

# What a picture of middling size costs at most makers of models.
MEDIA = 1000

# Bytes of a string that is media: base64 of more than a paragraph, behind as much as `data:image/png;base64,` takes.
SHORTEST = 400
LONGEST_PREFIX = 80
"""Characters that may stand before base64, as `data:image/png;base64,` does."""
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

# Of two neighbouring quotes that are so far apart that media may stand between them, one such block has neither.
BLOCK = SHORTEST // 2


def estimated(body: bytes) -> Generator[None, None, int]:
    """Returns about how many tokens the JSON *body* has, counted a window at each step."""
    text, words, media, at = len(body), 0, 0, 0
    for end in range(WINDOW, len(body) + WINDOW, WINDOW):
        words += body.count(b" ", end - WINDOW, end)
        while at < min(end, len(body)):
            if body.find(b'"', at, at + BLOCK) < 0:
                start, at = body.rfind(b'"', 0, at) + 1, body.find(b'"', at)
                at = len(body) if at < 0 else at
                if (yield from _is_media(body, start, at)):
                    media += 1
                    text -= at - start + 2
                    words -= body.count(b" ", start, start + LONGEST_PREFIX)
            at += BLOCK
        yield
    return max(1, -(-text // BYTES_PER_TOKEN), words) + media * MEDIA


def _is_media(body: bytes, start: int, end: int) -> Generator[None, None, bool]:
    """Returns whether what stands from *start* to *end* is base64, but for its beginning."""
    behind = start + min(LONGEST_PREFIX, end - start - SHORTEST)
    if behind < start or b"\\" in body[start:behind]:
        return False
    size = window_of(len(body))
    for at in range(behind, end, size):
        if body[at : min(at + size, end)].translate(None, BASE64):
            return False
        yield
    return True
