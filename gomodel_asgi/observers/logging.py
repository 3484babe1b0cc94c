"""One line of standard logging for each request, and lines for what whoever is on call has to know."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ..arguments import check_instance, check_plain_function
from ..logs import log
from .records import (
    STORE,
    AttemptStarted,
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
REMINDS = 5 * MINUTE
"""Seconds after which a line says again that something goes on."""
MOST_REMEMBERED = 1000
"""Things of each kind that go on of which the beginning is remembered."""


class Repeats:
    """How often each of many things has happened since it was last logged; the least recent are forgotten."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.known: OrderedDict[Any, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.known)

    def count(self, key: object, now: float) -> dict[str, Any] | None:
        """Returns how often *key* has happened since it was last logged, as figures of a line, if it is to be logged
        now: the first time, and then at most once in `every` seconds."""
        said, count = self.known.get(key, (None, 0))
        if said is not None and now - said < self.every:
            self.known[key] = said, count + 1
            return None
        _remember(self.known, key, (now, 0))
        if said is None:
            return {"count": 1, "often": "for the first time"}
        return {"count": count + 1, "often": f"{count + 1} times in the last {now - said:.0f} s"}


class Outage(Struct):
    """A provider whose breakers are open: *since* when, how many of them, how many *probes* have failed."""

    since: float
    said: float
    breakers: int = 1
    probes: int = 0


class LoggingObserver:
    """Logs one line for each exchange, at its end, to *logger* (default `gomodel_asgi.requests`).

    At INFO where the client got what it asked for, at WARNING where the exchange failed. What whoever is on call has to
    know gets lines of its own (`gomodel_asgi.logs`): breakers that open and close, fallbacks, refused keys, counters of
    quotas that do not answer, guards that fail, upstreams that lose keep-alive. What goes on gets a line when it
    begins, then one with a count: a refused key once an hour, a guard once a minute, others once in five minutes.

    Every figure stands in the log record's `extra` too, under the names of `fields`, with the key of the line as
    `event`. A handler that writes to something slow blocks the event loop: put a `logging.handlers.QueueHandler` in
    front of it. *clock* gives seconds.
    """

    def __init__(self, logger: logging.Logger | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        if logger is not None:
            check_instance("logger", logger, logging.Logger | logging.LoggerAdapter, "a logging.Logger")
        check_plain_function("clock", clock)
        self.logger = logging.getLogger("gomodel_asgi.requests") if logger is None else logger
        self.clock = clock
        self.refused, self.fallbacks, self.failing = Repeats(HOUR), Repeats(REMINDS), Repeats(MINUTE)
        self.first_refused: OrderedDict[Any, str] = OrderedDict()
        """The request at which a credential was refused first since that was last logged."""
        self.away: OrderedDict[Any, float] = OrderedDict()
        """Quotas whose counters do not answer, and since when."""
        self.outages: OrderedDict[Any, Outage] = OrderedDict()
        self.handlers: dict[type[Record], Callable[[Any], None]] = {
            Completed: self._ended,
            Disconnected: self._ended,
            AttemptStarted: self._attempt,
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
            self.logger.log(level, "%s", line(found), extra={"event": "request", **found})

    def _attempt(self, record: AttemptStarted) -> None:
        if record.kind != "fallback":
            return
        found = {"source": record.source, "reason": record.reason, "provider": record.provider}
        due = self.fallbacks.count((record.source, record.provider, record.reason), self.clock())
        if due is not None:
            self._say("fallback", **found, **due)

    def _keepalive_lost(self, record: KeepAliveLost) -> None:
        self._say("keepalive_lost", origin=record.origin, seconds=record.seconds)

    def _breaker(self, record: BreakerChanged) -> None:
        key, now = (record.provider, record.target_model), self.clock()
        if record.now == "open":
            self._broken(key, now, again=record.was != "closed")
        elif record.now == "closed":
            outage = self.outages.get(key)
            since = now if outage is None else outage.since
            if outage is not None:
                outage.breakers -= 1
                if not outage.breakers:
                    del self.outages[key]
            self._say_of(key, "breaker_closed", "store_available", seconds=now - since)

    def _broken(self, key: tuple[str | None, str | None], now: float, *, again: bool) -> None:
        outage = self.outages.get(key)
        if not again or outage is None:
            if outage is None:
                _remember(self.outages, key, Outage(now, now))
            else:
                outage.breakers += 1
            self._say_of(key, "breaker_opened", "store_unavailable")
            return
        outage.probes += 1
        if now - outage.said >= REMINDS:
            outage.said = now
            figures = {"seconds": now - outage.since, "probes": outage.probes}
            self._say_of(key, "breaker_still_open", "store_unavailable", **figures)

    def _say_of(self, key: tuple[str | None, str | None], event: str, of_store: str, **figures: Any) -> None:
        """Logs *event* of the provider and model *key*, or *of_store* of the store, which is none."""
        self._say(of_store if key[0] == STORE else event, provider=key[0], target_model=key[1], **figures)

    def _credential(self, record: CredentialRefused) -> None:
        if record.brought:  # the caller's own key is the caller's to renew
            return
        key = record.provider, record.fingerprint
        if key not in self.first_refused:
            _remember(self.first_refused, key, record.request_id)
        due = self.refused.count(key, self.clock())
        if due is not None:
            first = self.first_refused.pop(key)
            found = {"provider": record.provider, "fingerprint": record.fingerprint, "request_id": first}
            self._say("credential_refused", **found, **due)

    def _quota(self, record: QuotaChecked) -> None:
        key, now = (record.name, record.unit), self.clock()
        if record.outcome != "unavailable":
            if self.away and key in self.away:
                self._say("quota_available", quota=key[0], unit=key[1], seconds=now - self.away.pop(key))
        elif key not in self.away:
            _remember(self.away, key, now)
            self._say("quota_unavailable", quota=key[0], unit=key[1])

    def _guard(self, record: Guarded) -> None:
        if record.verdict != "failed":
            return
        due = self.failing.count((record.guard, record.stage), self.clock())
        if due is not None:
            found = {"guard": record.guard, "stage": record.stage, "error": record.error}
            self._say("guard_failed", **found, request_id=record.request_id, **due)

    def _say(self, event: str, **figures: Any) -> None:
        log(event, to=self.logger, **figures)


def _remember(known: OrderedDict[Any, Any], key: object, value: object) -> None:
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
