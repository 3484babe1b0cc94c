"""One line of standard logging for each request, and for what whoever is on call has to know."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..arguments import check_function, check_instance
from .records import (
    BreakerChanged,
    Completed,
    CredentialRefused,
    Disconnected,
    Ended,
    Guarded,
    KeepAliveLost,
    QuotaChecked,
    Record,
)

HOUR = 3600.0
MINUTE = 60.0
MOST_REMEMBERED = 1000
"""Fingerprints, and quotas, of which it is remembered that they were told."""


class LoggingObserver:
    """Logs one line for each exchange, at its end, to *logger* (default `gomodel_asgi.requests`).

    At INFO where the client got what it asked for, at WARNING where the exchange failed, and where an upstream lost
    keep-alive. A circuit breaker that opens is a WARNING, and one that closes an INFO; a provider's own credential that
    was refused an ERROR, once an hour for each; counters of quotas that do not answer a WARNING, once until they do; a
    guard that fails a WARNING, once a minute for each.
    Every figure stands in the log record's `extra` too, under the names of `fields`. A handler that writes to something
    slow blocks the event loop: put a `logging.handlers.QueueHandler` in front of it. *clock* gives seconds.
    """

    def __init__(self, logger: logging.Logger | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if logger is not None:
            check_instance("logger", logger, logging.Logger | logging.LoggerAdapter, "a logging.Logger")
        check_function("clock", clock)
        self.logger = logging.getLogger("gomodel_asgi.requests") if logger is None else logger
        self.clock = clock
        self.refused: OrderedDict[tuple[str | None, str], float] = OrderedDict()
        """When a credential's refusal was told last."""
        self.away: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Quotas whose counters do not answer."""
        self.failing: OrderedDict[tuple[str | None, str], float] = OrderedDict()
        """When a guard's failure was told last."""
        self.handlers: dict[type[Record], Callable[[Any], None]] = {
            Completed: self._ended,
            Disconnected: self._ended,
            KeepAliveLost: self._keepalive_lost,
            BreakerChanged: self._breaker,
            CredentialRefused: self._credential,
            QuotaChecked: self._quota,
            Guarded: self._guard,
        }

    def __call__(self, record: Record) -> None:
        handler = self.handlers.get(type(record))
        if handler is not None:
            handler(record)

    def _ended(self, record: Ended) -> None:
        level = logging.WARNING if record.error is not None else logging.INFO
        if self.logger.isEnabledFor(level):
            found = fields(record)
            self.logger.log(level, "%s", line(found), extra=found)

    def _keepalive_lost(self, record: KeepAliveLost) -> None:
        self._say(logging.WARNING, "keepalive_lost", {"origin": record.origin, "seconds": record.seconds})

    def _breaker(self, record: BreakerChanged) -> None:
        found = {"provider": record.provider, "target_model": record.target_model}
        if record.now == "open":
            self._say(logging.WARNING, "breaker_opened", found)
        elif record.now == "closed":
            self._say(logging.INFO, "breaker_closed", found)

    def _credential(self, record: CredentialRefused) -> None:
        key, now = (record.provider, record.fingerprint), self.clock()
        if record.brought or now - self.refused.get(key, -HOUR) < HOUR:
            return
        _remember(self.refused, key, now)
        found = {"provider": record.provider, "fingerprint": record.fingerprint, "request_id": record.request_id}
        self._say(logging.ERROR, "credential_refused", found)

    def _quota(self, record: QuotaChecked) -> None:
        key, found = (record.name, record.unit), {"quota": record.name, "unit": record.unit}
        if record.outcome != "unavailable":
            if self.away and key in self.away:
                del self.away[key]
                self._say(logging.INFO, "quota_available", found)
        elif key not in self.away:
            _remember(self.away, key, None)
            self._say(logging.WARNING, "quota_unavailable", found)

    def _guard(self, record: Guarded) -> None:
        key, now = (record.guard, record.stage), self.clock()
        if record.verdict == "failed" and now - self.failing.get(key, -MINUTE) >= MINUTE:
            _remember(self.failing, key, now)
            found = {"guard": record.guard, "stage": record.stage, "error": record.error}
            self._say(logging.WARNING, "guard_failed", {**found, "request_id": record.request_id})

    def _say(self, level: int, what: str, found: dict[str, Any]) -> None:
        self.logger.log(level, "%s %s", what, line(found), extra=found)


def _remember(known: OrderedDict[Any, Any], key: tuple[str | None, str], value: float | None) -> None:
    """Keep *value* as the newest, the oldest going beyond what is kept."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > MOST_REMEMBERED:
        known.popitem(last=False)


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
        "advice": record.advice,
        "tenant": context.tenant,
        "provider": context.provider,
        "asked_model": context.model,
        "served_model": context.served_model or context.target_model,
        "attempts": record.attempts,
        "cached": record.cached,
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
