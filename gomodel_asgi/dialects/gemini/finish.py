"""How a Gemini reply ends, and what it cost (GenerateContentResponse: finishReason, promptFeedback, usageMetadata)."""

from __future__ import annotations

from typing import Any

from ...errors import UpstreamRejected
from ...wire.event_writer import Emitter, usage
from . import wire

Json = dict[str, Any]

TIERS = {"standard": "default", "flex": "flex", "priority": "priority"}
"""Service tiers of `usageMetadata` as the Responses API calls them."""

FILTERED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)

BROKEN = frozenset(
    {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE"}
)
"""What was to come did not: what came before it is no answer, since a call was meant to follow."""

EMPTY = frozenset({"UNEXPECTED_TOOL_CALL", "OTHER", "LANGUAGE", "NO_IMAGE", "IMAGE_OTHER"})
"""Failures only where nothing usable came."""


def end(emitter: Emitter, reason: str, message: str, *, usable: bool) -> None:
    """End the response. *usable*: it holds text, an image or a call."""
    if reason == "STOP":
        emitter.complete()
    elif reason == "MAX_TOKENS":
        emitter.incomplete("max_output_tokens")
    elif reason in FILTERED:
        emitter.incomplete("content_filter")
    elif reason in BROKEN or (reason in EMPTY and not usable):
        text = message or f"The model stopped without an answer ({reason})."
        emitter.fail(UpstreamRejected(text, status=502, code=reason))
    else:
        emitter.warn(f"finishReason {reason}: {message}" if message else f"finishReason {reason}")
        emitter.complete()


def read_usage(metadata: Json) -> Json:
    """The usage object of a `usageMetadata`. promptTokenCount includes cached tokens; tokens of tool results and
    thoughts are counted beside the others."""

    def tokens(name: str) -> int:
        return wire.count(metadata.get(name))

    return usage(
        input=tokens("promptTokenCount") + tokens("toolUsePromptTokenCount"),
        output=tokens("candidatesTokenCount") + tokens("thoughtsTokenCount"),
        cached=tokens("cachedContentTokenCount"),
        reasoning=tokens("thoughtsTokenCount"),
    )
