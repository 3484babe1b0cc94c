"""What an answer cost and how it ended: Anthropic's usage and stop reasons in our terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...wire.event_writer import Emitter, Reason, usage

Json = dict[str, Any]

INCOMPLETE: Mapping[str, Reason] = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
    "pause_turn": "max_output_tokens",  # of a turn that was continued as often as may be
}
"""Stop reasons of an answer that is not whole, and our `incomplete_details.reason` for them."""

COMPLETE = frozenset({"end_turn", "tool_use", "stop_sequence", "compaction"})

TIERS: Mapping[str, str] = {"standard": "default", "priority": "priority", "batch": "flex"}


def merged(usage: Mapping[str, Any], update: Any) -> Json:
    """*usage* with the non-null members of *update* in place of its own: message_delta's numbers are cumulative."""
    return {**usage, **{name: value for name, value in (update or {}).items() if value is not None}}


def counted(raw: Mapping[str, Any]) -> Json | None:
    """Our usage object, None where nothing was counted.

    Anthropic's `input_tokens` are the uncached ones only, ours are all. A compaction is billed beside the answer: its
    tokens stand only in `iterations`. Those of an `advisor_message` belong to another model and are left out.
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


def added(first: Mapping[str, Any], second: Mapping[str, Any]) -> Json:
    """The usage of two requests together, in Anthropic's own form."""
    return {name: _added(first.get(name), second.get(name)) for name in {**first, **second}}


def _added(first: Any, second: Any) -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        return added(first, second)
    if isinstance(first, list) and isinstance(second, list):
        return first + second
    if isinstance(first, int) and isinstance(second, int):
        return first + second
    return first if second is None else second


def _compactions(iterations: Any) -> list[Mapping[str, Any]]:
    return [iteration for iteration in iterations or () if iteration.get("type") == "compaction"]


def _sum(rounds: Iterable[Mapping[str, Any]], name: str) -> int:
    return sum(int(each.get(name) or 0) for each in rounds)


def end(emitter: Emitter, reason: str | None) -> None:
    """End the response as *reason* says; a reason nobody knows ends it as completed, and observers are told."""
    if early := INCOMPLETE.get(reason or ""):
        emitter.incomplete(early)
        return
    if reason not in COMPLETE:
        emitter.warn(f"unknown stop_reason {reason!r}")
    emitter.complete()
