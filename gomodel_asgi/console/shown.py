"""What is shown of an exchange, be it remembered here or a row of the ledger: plain values, for a page and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from ..ledger.row import TOKENS, Row, name_of
from ..observers import Completed, Disconnected, Ended, Usage
from .recorder import Exchange

Shown = dict[str, Any]

RUNNING = "running"
BAD = ("failed", "refused")
WARNED = ("gone", "stalled", "cancelled", "incomplete")
WAITING = (RUNNING, "open", "queued", "in_progress")


def mood(outcome: str) -> str:
    """Returns the colour that goes with *outcome*."""
    if outcome in BAD:
        return "bad"
    if outcome in WARNED:
        return "warn"
    return "busy" if outcome in WAITING else "good"


def exchange(id: str, seen: Exchange, now: float) -> Shown:
    """Returns what is shown of *seen* in a table; kept with it once it has ended."""
    if seen.shown is not None:
        return seen.shown
    context, ended = seen.context, seen.ended
    shown = {
        "id": id,
        "serial": seen.serial,
        "started": stamp(seen.started),
        "tenant": name_of(context.tenant),
        **{name: getattr(context, name) for name in ASKED},
        "other_model": other(context.model, context.target_model, context.served_model),
        "labels": {name_of(str(name)) or "": name_of(str(value)) or "" for name, value in context.labels.items()},
        "attempts": len(seen.attempts) if ended is None else ended.attempts,
    }
    if ended is None:
        return shown | _unended(seen, now)
    seen.shown = shown | _ended(ended, seen.row)
    return seen.shown


ASKED = ("operation", "stream", "model", "target_model", "served_model", "provider", "request_id")
ENDED = ("status", "error", "cached", "response_id")


def other(asked: str | None, target: str | None, served: str | None) -> str | None:
    """Returns the model that has answered where it is another one than was *asked* for, and not a dated name of it."""
    found = served or target
    if found is None or asked is None or found == asked or found.startswith(f"{asked}-"):
        return None
    return found


def _unended(seen: Exchange, now: float) -> Shown:
    return dict.fromkeys((*ENDED, "usage", "cost")) | {
        "outcome": RUNNING,
        "mood": mood(RUNNING),
        "seconds": round(max(0.0, now - seen.began), 3),
        "first_event": seen.first_event,
        "cached": False,
    }


def _ended(ended: Ended, row: Row | None) -> Shown:
    outcome = ended.outcome if isinstance(ended, Completed) else "failed"
    if isinstance(ended, Disconnected):
        outcome = ended.reason
    return {name: getattr(ended, name) for name in ENDED} | {
        "outcome": outcome,
        "mood": mood(outcome),
        "seconds": round(ended.seconds, 6),
        "first_event": None if ended.first_event is None else round(ended.first_event, 6),
        "usage": usage(ended.usage),
        "cost": money(_cost(ended, row)),
    }


def _cost(ended: Ended, row: Row | None) -> Decimal | None:
    if row is not None:
        return row.cost if row.attempts else None
    return None if ended.cost is None else ended.cost.total


def row(found: Row) -> Shown:
    """Returns what is shown of a row of the ledger."""
    counts = Usage(**{name: getattr(found, name) for name in TOKENS}, estimated=found.estimated)
    return {name: getattr(found, name) for name in SAME} | {
        "id": str(found.id),
        "serial": 0,
        "started": stamp(found.started),
        "model": found.model_asked,
        "target_model": found.model_target,
        "served_model": found.model_served,
        "other_model": other(found.model_asked, found.model_target, found.model_served),
        "labels": dict(found.labels),
        "attempts": len(found.attempts),
        "mood": mood(found.outcome),
        "error": found.error_code,
        "usage": usage(counts) if any(one.usage is not None for one in found.attempts) else None,
        "cost": money(found.cost),
    }


SAME = (
    "tenant", "operation", "stream", "provider", "request_id", "outcome", "status", "seconds", "first_event", "cached",
    "response_id",
)  # fmt: skip
"""The columns that are shown under their own names."""


# One exchange in full...


def attempts_seen(seen: Exchange, *, detail: bool) -> list[Shown]:
    """Returns what is shown of the attempts of an exchange; in the upstreams' own words only with *detail*."""
    used = {} if seen.ended is None else {charge.number: charge.usage for charge in seen.ended.charges}
    costs = {} if seen.row is None else {number: one.cost for number, one in enumerate(seen.row.attempts, start=1)}
    shown: list[Shown] = []
    for attempt in seen.attempts:
        started, ended = attempt.started, attempt.ended
        outcome = RUNNING if ended is None else _outcome(ended.error)
        shown.append({
            "number": started.number,
            "provider": started.provider,
            "model": started.target_model,
            "kind": started.kind,
            "why": why(started.kind, started.reason, started.source, started.number),
            "status": None if ended is None else ended.status,
            "error": None if ended is None else ended.error,
            "seconds": None if ended is None else round(ended.seconds, 6),
            "usage": usage(used.get(started.number)),
            "cost": money(costs.get(started.number)),
            "outcome": outcome,
            "mood": mood(outcome),
            "detail": ended.detail if detail and ended is not None else None,
        })  # fmt: skip
    return shown


def attempts_written(found: Row) -> list[Shown]:
    """Returns what is shown of the attempts that a row of the ledger names."""
    shown: list[Shown] = []
    reason = source = None
    for number, attempt in enumerate(found.attempts, start=1):
        outcome = _outcome(attempt.code)
        shown.append({
            "number": number,
            **{name: getattr(attempt, name) for name in ("provider", "model", "kind", "status", "seconds")},
            "why": why(attempt.kind, reason, source, number),
            "error": attempt.code,
            "usage": usage(attempt.usage),
            "cost": money(attempt.cost),
            "outcome": outcome,
            "mood": mood(outcome),
            "detail": None,
        })  # fmt: skip
        reason, source = attempt.code, attempt.provider
    return shown


def _outcome(error: str | None) -> str:
    return "answered" if error is None else "failed"


def why(kind: str, reason: str | None, source: str | None, number: int) -> str:
    """Returns the sentence that says why an upstream was asked."""
    cause = "" if reason is None else f": {reason}"
    if kind == "fallback":
        return f"Fallback, since {source or 'the one before'} did not answer{cause}."
    if kind == "retry":
        return f"The same again, since attempt {number - 1} failed{cause}."
    return "What the policy named." if number == 1 else "The next round of a model that has called tools."


# Values...


def usage(found: Usage | None) -> Shown | None:
    """Returns the tokens of *found* by kind."""
    if found is None:
        return None
    kinds = ("input", "cached", "cache_write", "output", "reasoning")
    return {kind: getattr(found, f"{kind}_tokens") for kind in kinds} | {"estimated": found.estimated}


def money(cost: Decimal | None) -> str | None:
    """Returns US dollars, exactly."""
    return None if cost is None else format(cost, "f")


def stamp(when: datetime) -> str:
    """Returns *when* (aware, in UTC) as RFC 3339 has it, to the millisecond."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


def summed(shown: Iterable[Shown], by: str) -> list[Shown]:
    """Returns what is *shown*, summed by one of its members, the one with the most requests first."""
    found: dict[str | None, Shown] = {}
    for one in shown:
        name = one[by]
        if name not in found:
            found[name] = {"name": name, "requests": 0, "failed": 0, "tokens": 0, "slowest": 0.0}
        part = found[name]
        part["requests"] += 1
        part["failed"] += one["mood"] == "bad"
        if one["usage"] is not None:
            part["tokens"] += one["usage"]["input"] + one["usage"]["output"]
        part["slowest"] = max(part["slowest"], one["seconds"])
    return sorted(found.values(), key=lambda part: (-part["requests"], part["name"] or ""))
