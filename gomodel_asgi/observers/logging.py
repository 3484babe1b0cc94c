"""One line of standard logging for each request."""

from __future__ import annotations

import logging
from typing import Any

from .records import Completed, Disconnected, Ended, KeepAliveLost, Record


class LoggingObserver:
    """Logs one line for each exchange, at its end, to *logger* (default `gomodel_asgi.requests`).

    At INFO where the client got what it asked for, at WARNING where the exchange failed, and where an upstream lost
    keep-alive. Every figure stands in the log record's `extra` too, under the names of `fields`. A handler that writes
    to something slow blocks the event loop: put a `logging.handlers.QueueHandler` in front of it.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logging.getLogger("gomodel_asgi.requests") if logger is None else logger

    def __call__(self, record: Record) -> None:
        if isinstance(record, KeepAliveLost):
            found = {"origin": record.origin, "seconds": record.seconds}
            return self.logger.warning("keepalive_lost %s", line(found), extra=found)
        if not isinstance(record, Ended):
            return
        level = logging.WARNING if record.error is not None else logging.INFO
        if self.logger.isEnabledFor(level):
            found = fields(record)
            self.logger.log(level, "%s", line(found), extra=found)


def fields(record: Ended) -> dict[str, Any]:
    """Returns the figures of a line by name; times in seconds, cost in US dollars."""
    context, usage, cost = record.context, record.usage, record.cost
    return {
        "request_id": context.request_id,
        "operation": context.operation,
        "outcome": outcome(record),
        "status": record.status,
        "error": record.error,
        "detail": record.detail,
        "tenant": context.tenant,
        "provider": context.provider,
        "asked_model": context.model,
        "served_model": context.served_model or context.target_model,
        "attempts": record.attempts,
        "response_id": record.response_id,
        "seconds": round(record.seconds, 6),
        "first_event": None if record.first_event is None else round(record.first_event, 6),
        "events": record.events,
        "bytes": record.bytes,
        "input_tokens": None if usage is None else usage.input_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "cache_write_tokens": None if usage is None else usage.cache_write_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "reasoning_tokens": None if usage is None else usage.reasoning_tokens,
        "estimated": None if usage is None else usage.estimated,
        "cost": None if cost is None or cost.total is None else str(cost.total),
        "labels": dict(context.labels),
    }


def outcome(record: Ended) -> str:
    """Returns how the exchange ended, in one word."""
    if isinstance(record, Disconnected):
        return f"disconnected_{record.reason}"
    return record.outcome if isinstance(record, Completed) else "ended"


QUIET: tuple[object, ...] = (None, "", 0, {}, False)


def line(found: dict[str, Any]) -> str:
    """Returns `name=value` for each figure that says something; `detail`, which quotes an upstream, is left out."""
    shown = {name: value for name, value in found.items() if name != "detail" and value not in QUIET}
    return " ".join(f"{name}={_shown(value)}" for name, value in shown.items())


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{_shown(name)}:{_shown(one)}" for name, one in value.items())
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return repr(text) if not text.isprintable() or " " in text else text
