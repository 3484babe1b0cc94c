"""The pages as plain values: what a template shows, and what is given as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from anyio.lowlevel import checkpoint
from msgspec.structs import asdict

from ..emulation.tools.declarations import Toolbox
from ..errors import GatewayError
from ..explanation import Explanation
from ..ledger import ReadFailed
from ..observers import ToolCalled
from ..seams.health import BreakerHealth, ProviderHealth
from . import books, shown
from .page import Asked, Page, worker
from .recorder import Exchange
from .rendering import duration, row
from .series import MINUTE, RECENT, Figures, ToolTally
from .shown import Shown

BATCH = 50
"""Exchanges that are made ready to be shown before others have their turn."""


# Now...


async def now(asked: Asked) -> Page:
    """Returns what goes on: figures, what is under way, and the last exchanges of this process."""
    recorder = asked.recorder
    latest = recorder.latest(asked.view)
    data = now_live(asked, await books.today(asked.ledger, asked.view), await listed(asked, latest))
    return Page("now", "Now", data, exchanges=latest)


def now_live(asked: Asked, today: Shown, exchanges: list[Shown]) -> Shown:
    """Returns the same with the exchanges that are known, and what was spent *today*."""
    recorder, time = asked.recorder, asked.recorder.clock()
    running = recorder.running(asked.view)
    return {
        "worker": worker(asked),
        "figures": figures(asked, running, today),
        "today": today,
        "under_way": [shown.exchange(recorder.id_of(one), one, time) for one in running[:MOST_RUNNING]],
        "under_way_count": len(running),
        "providers": shown.summed(exchanges, "provider")[:MOST_NAMES],
        "models": shown.summed(exchanges, "model")[:MOST_NAMES],
        "exchanges": exchanges,
    }


MOST_RUNNING = 50
MOST_NAMES = 10


async def listed(asked: Asked, exchanges: Sequence[Exchange]) -> list[Shown]:
    """Returns what is shown of *exchanges* in a table, with pauses in which others have their turn."""
    recorder, found, new = asked.recorder, [], 0
    for one in exchanges:
        if one.shown is None:
            new += 1
            if new % BATCH == 0:
                await checkpoint()
        found.append(shown.exchange(recorder.id_of(one), one, 0.0))
        row(one)
    return found


def figures(asked: Asked, running: Sequence[Exchange], today: Shown) -> list[Shown]:
    """Returns the figures at the top: each with its *value* as of now and, where it has one, its course."""
    series, time = asked.recorder.series(asked.view), asked.recorder.clock()
    minute, recent, points = series.over(time, MINUTE), series.over(time, RECENT), series.points(time)
    errors = recent.failed / recent.requests if recent.requests else None
    latency = [part.quantile(0.5) for part in points], [part.quantile(0.95) for part in points]
    of = f"{recent.failed} of {recent.requests} in 5 min"
    return [
        _figure("requests", "Requests", minute.requests, "/min", "last minute", _counts(points, "requests")),
        _figure("errors", "Errors", errors, "%", of, [_failed(part) for part in points]),
        _figure("p50", "p50 time", recent.quantile(0.5), "s", "half within, 5 min", latency[0]),
        _figure("p95", "p95 time", recent.quantile(0.95), "s", "95 % within, 5 min", latency[1]),
        _figure("tokens", "Tokens", minute.tokens, "/min", "last minute", _counts(points, "tokens")),
        _figure("in_flight", "In flight", len(running), "", _oldest(running, time)),
        _figure("today", "Spent today", today["cost"], "", _unpriced(today)),
    ]


def _figure(
    key: str, name: str, value: Any, unit: str, note: str, course: Sequence[float | None] | None = None
) -> Shown:
    return {"key": key, "name": name, "value": value, "unit": unit, "note": note, "course": course}


def _counts(points: Sequence[Figures], name: str) -> list[float]:
    return [2 * getattr(part, name) for part in points]  # a part is half a minute


def _failed(part: Figures) -> float | None:
    return part.failed / part.requests if part.requests else None


def _oldest(running: Sequence[Exchange], time: float) -> str:
    return f"the oldest for {duration(max(0.0, time - running[0].began))}" if running else "now"


def _unpriced(today: Shown) -> str:
    if today["cost"] is None:
        return "not known, see Costs"
    return "UTC day" if not today["unpriced"] else f"and {today['unpriced']} of unknown price"


# Providers...


async def providers(asked: Asked) -> Page:
    """Returns how the providers are doing."""
    return Page("providers", "Providers", providers_live(asked))


def providers_live(asked: Asked) -> Shown:
    """Returns the same. Figures and models are everybody's, and shown to none but who sees everybody."""
    gateway, whole = asked.gateway, asked.view.is_whole
    health = gateway.health()
    known = gateway.setup.registry.by_name
    rows = [
        {
            "name": name,
            "type": known[name].type if name in known else None,
            "url": known[name].address if whole and name in known else None,
            "available": one.available,
            "state": one.state,
            "mood": BREAKER_MOODS[one.state],
        }
        | ({} if not whole else _counted(one) | {"failure_rate": one.failure_rate, "pace": one.first_event})
        for name, one in health.items()
    ]
    breakers = sorted(health.breakers, key=lambda one: (one.state == "closed", -one.requests))
    events = tuple(asked.recorder.events)
    return {
        "worker": worker(asked),
        "whole": whole,
        "available": health.available,
        "providers": rows,
        "breakers": [_breaker(one) for one in breakers[:MOST_BREAKERS]] if whole else [],
        "breakers_count": len(breakers) if whole else 0,
        "events": [asdict(one) | {"at": shown.stamp(one.at)} for one in reversed(events)] if whole else [],
    }


BREAKER_MOODS = {"closed": "good", "half-open": "warn", "open": "bad"}
MOST_BREAKERS = 100


def _counted(one: ProviderHealth | BreakerHealth) -> Shown:
    return {"in_flight": one.in_flight, "requests": one.requests, "failures": one.failures}


def _breaker(one: BreakerHealth) -> Shown:
    known = {
        "provider": one.provider,
        "model": one.model,
        "state": one.state,
        "mood": BREAKER_MOODS[one.state],
        "retry_after": round(one.retry_after, 1) if one.state == "open" else None,
        "shut_out": one.shut_out,
    }
    return known | _counted(one)


# One request...


async def request(asked: Asked) -> Page | None:
    """Returns one exchange with its attempts, as it is remembered here or as the ledger has it; None where there is
    none that the view shows."""
    seen = asked.recorder.find(asked.view, asked.id)
    if seen is not None:
        return Page("request", "Request", _remembered(asked, seen))
    try:
        row = await books.row(asked.ledger, asked.view, asked.id)
    except ReadFailed as error:
        return Page("problem", "Request", {"worker": worker(asked), "note": str(error)}, status=503)
    if row is None:
        return None
    data = {
        "worker": worker(asked),
        "from": "ledger",
        "exchange": shown.row(row) | {"principal": row.principal, "quota": row.quota, "tier": row.tier},
        "attempts": shown.attempts_written(row),
        "tools": [],
        "notes": [],
        "detail": None,
    }
    return Page("request", "Request", data)


def _remembered(asked: Asked, seen: Exchange) -> Shown:
    recorder, ended, detail = asked.recorder, seen.ended, asked.view.detail
    return {
        "worker": worker(asked),
        "from": "memory",
        "exchange": shown.exchange(recorder.id_of(seen), seen, recorder.clock())
        | {
            "bytes_in": None if seen.request is None else seen.request.bytes,
            "hint": None if seen.request is None else seen.request.hint,
            "policy_seconds": None if seen.decided is None else round(seen.decided.seconds, 6),
            "fallbacks": [] if seen.decided is None else list(seen.decided.fallbacks),
            "events": None if ended is None else ended.events,
            "bytes_out": None if ended is None else ended.bytes,
            "tier": None if ended is None else ended.service_tier,
            "conversation": None if ended is None else ended.conversation,
        },
        "attempts": shown.attempts_seen(seen, detail=detail),
        "tools": [_called(one, detail) for one in seen.tools],
        "notes": [{"kind": note.kind, "text": note.text} for note in seen.notes],
        "detail": ended.detail if detail and ended is not None else None,
    }


def _called(one: ToolCalled, detail: bool) -> Shown:
    facts = {name: getattr(one, name) for name in ("tool", "label", "name", "outcome", "bytes_in", "bytes_out")}
    mood = "good" if one.outcome == "completed" else "bad"
    return facts | {"mood": mood, "seconds": round(one.seconds, 6), "detail": one.detail if detail else None}


# Explain...


LONGEST_BODY = 16_384
"""Characters of a body that is explained: it stands in the URL."""


async def explain(asked: Asked) -> Page | None:
    """Returns what the policy would do with a request of a tenant of the view's; None where that may not be asked."""
    view, query = asked.view, asked.query
    if not view.explain:
        return None
    tenant = query.get("tenant") or None
    given = {name: query.get(name, "") for name in ("tenant", "model", "provider", "body")}
    data: Shown = {
        "worker": worker(asked),
        "given": given,
        "tenants": view.choices(books.MOST_ROWS),
        "note": None,
        "result": None,
    }
    page = Page("explain", "Explain", data)
    if not query:
        return page
    if not view.shows(tenant):
        data["note"] = "Choose a tenant that you may see."
        page.status = 404
        return page
    try:
        body = _body(given)
        data["result"] = _explained(await asked.gateway.explain(body, tenant=tenant))
    except (ValueError, LookupError) as error:
        data["note"], page.status = str(error), 400
    except GatewayError as error:
        data["note"], page.status = error.message, 400
    return page


def _body(given: dict[str, str]) -> Shown:
    """Returns the request that the form describes.

    :raises ValueError: what more it has is no JSON object.
    """
    text = given["body"].strip() or "{}"
    if len(text) > LONGEST_BODY:
        raise ValueError(f"The body is longer than {LONGEST_BODY} characters.")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ValueError("The body is not a JSON object.")
    named = {name: given[name] for name in ("model", "provider") if given[name]}
    return {"input": "", **body, **named}


def _explained(found: Explanation) -> Shown:
    target, error = found.target, found.error
    return {
        "model": found.model,
        "hint": found.hint,
        "labels": {} if target is None or not target.labels else {str(k): str(v) for k, v in target.labels.items()},
        "candidates": [dataclasses.asdict(one) | {"tools": dict(one.tools)} for one in found.candidates],
        "error": None
        if error is None
        else {"status": error.status, "code": error.code or error.type, "message": error.message},
    }


# Tools...


async def tools(asked: Asked) -> Page:
    """Returns the hosted tools, and what became of their calls."""
    return Page("tools", "Tools", tools_live(asked))


def tools_live(asked: Asked) -> Shown:
    """Returns the same."""
    series = asked.recorder.series(asked.view)
    tallies = sorted(series.tools.values(), key=lambda one: (-one.calls, one.tool, one.label or "", one.name))
    return {
        "worker": worker(asked),
        "configured": asked.tools,
        "calls": [_tallied(one) for one in tallies if one.calls],
    }


def _tallied(one: ToolTally) -> Shown:
    facts, broken = asdict(one), one.failed + one.timeout
    mean = facts.pop("seconds") / one.calls
    mood = "good" if not broken else "bad" if broken == one.calls else "warn"
    return facts | {"mean": round(mean, 6), "slowest": round(one.slowest, 6), "mood": mood}


def configured(toolbox: Toolbox) -> list[Shown]:
    """Returns the tools that the host runs, without functions, URLs and headers."""
    hosts: list[Shown] = [{"tool": family, "label": None, "runs": "a function"} for family in toolbox.hosts]
    servers: list[Shown] = [
        {"tool": "mcp", "label": label, "runs": _kind(server.source)} for label, server in toolbox.servers.items()
    ]
    if toolbox.client_named is not None:
        servers.append({"tool": "mcp", "label": None, "runs": "servers that clients name"})
    return hosts + servers


def _kind(source: Any) -> str:
    if isinstance(source, str):
        return "a server at a URL"
    if isinstance(source, tuple):
        return f"{len(source)} functions" if len(source) > 1 else "a function"
    return "a server in this process"
