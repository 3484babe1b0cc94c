"""Metrics for Prometheus, for those without OpenTelemetry.

    Gateway(..., observers=[PrometheusObserver()])

and `prometheus_client`'s own exposition: `start_http_server(9090)`, or `make_asgi_app()` mounted in the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..observers import (
    AttemptEnded,
    Completed,
    Disconnected,
    Ended,
    FirstEvent,
    KeepAliveLost,
    PolicyDecided,
    Record,
    RequestStarted,
    ToolCalled,
    Warned,
)
from . import Bounded

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ImportError as error:
    raise ImportError("Prometheus metrics need the extra: pip install 'gomodel-asgi[prometheus]'.") from error

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class PrometheusObserver:
    """Counts into *registry*. One for each registry: metrics of one name can be registered only once.

    *labels* adds labels to requests, tokens and cost: `"tenant"`, or names of a Target's labels. Of each label at most
    *values* distinct values are kept, all others are `other`. Tokens by type overlap as they do upstream: `cached` and
    `cache_write` are a part of `input`, `reasoning` is one of `output`. Estimated tokens are counted apart.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, labels: Iterable[str] = (), values: int = 100
    ) -> None:
        self.labels = tuple(labels)
        self.values = values
        self.bounds: dict[str, Bounded] = {}
        self.open: set[int] = set()
        self._requests(registry)
        self._upstreams(registry)
        self.handlers: dict[type[Record], Callable[[Any], None]] = {
            RequestStarted: self._started,
            PolicyDecided: self._decided,
            AttemptEnded: self._attempted,
            FirstEvent: self._first,
            ToolCalled: self._tool,
            Completed: self._ended,
            Disconnected: self._ended,
            Warned: self._warned,
            KeepAliveLost: self._keepalive_lost,
        }

    def _requests(self, registry: CollectorRegistry) -> None:
        names = ("operation", "provider", "model", *self.labels)
        self.requests = Counter(
            "gomodel_requests", "Requests that have ended.", (*names, "status", "outcome", "error"), registry=registry
        )
        self.seconds = Histogram(
            "gomodel_request_seconds", "From a request to the end of its answer.", names[:3], buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.tokens = Counter(
            "gomodel_tokens", "Tokens that upstreams reported.", (*names[1:], "type", "estimated"), registry=registry
        )
        self.cost = Counter("gomodel_cost_usd", "Cost, where `Priced` knows it.", names[1:], registry=registry)
        self.bytes = Counter("gomodel_sent_bytes", "Bytes given to clients.", ("provider",), registry=registry)
        self.in_flight = Gauge("gomodel_requests_in_flight", "Requests in flight.", registry=registry)

    def _upstreams(self, registry: CollectorRegistry) -> None:
        self.policy = Histogram(
            "gomodel_policy_seconds", "Time that the policy took.", ("error",), buckets=SECONDS, registry=registry
        )
        self.attempts = Histogram(
            "gomodel_attempt_seconds", "From an attempt to its first event or its failure.", ("provider", "error"),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.first_event = Histogram(
            "gomodel_first_event_seconds", "From a request to its first event.", ("provider", "model"),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.tools = Histogram(
            "gomodel_tool_seconds", "Calls of hosted tools that the host runs.", ("tool", "name", "outcome"),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.warnings = Counter("gomodel_warnings", "Things left out or gone wrong.", ("provider",), registry=registry)
        self.keepalive_lost = Counter(
            "gomodel_keepalive_lost", "Upstreams that sent bytes after a complete reply.", ("origin",),
            registry=registry,
        )  # fmt: skip

    def __call__(self, record: Record) -> None:
        handler = self.handlers.get(type(record))
        if handler is not None:
            handler(record)

    # Each record...

    def _started(self, record: RequestStarted) -> None:
        self.open.add(record.context.exchange)
        self.in_flight.set(len(self.open))

    def _decided(self, record: PolicyDecided) -> None:
        self.policy.labels(self._bound("error", record.error)).observe(record.seconds)

    def _attempted(self, record: AttemptEnded) -> None:
        labels = self._bound("provider", record.provider), self._bound("error", record.error)
        self.attempts.labels(*labels).observe(record.seconds)

    def _first(self, record: FirstEvent) -> None:
        self.first_event.labels(self._bound("provider", record.provider), self._model(record)).observe(record.seconds)

    def _tool(self, record: ToolCalled) -> None:
        self.tools.labels(record.tool, self._bound("name", record.name), record.outcome).observe(record.seconds)

    def _warned(self, record: Warned) -> None:
        self.warnings.labels(self._bound("provider", record.provider)).inc()

    def _keepalive_lost(self, record: KeepAliveLost) -> None:
        self.keepalive_lost.labels(self._bound("origin", record.origin)).inc()

    def _ended(self, record: Ended) -> None:
        self.open.discard(record.context.exchange)
        self.in_flight.set(len(self.open))
        provider, model = self._bound("provider", record.provider), self._model(record)
        more = tuple(self._bound(name, self._value(name, record)) for name in self.labels)
        outcome = record.outcome if isinstance(record, Completed) else "disconnected"
        names = (record.operation, provider, model)
        status, error = self._bound("status", str(record.status or "")), self._bound("error", record.error)
        self.requests.labels(*names, *more, status, self._bound("outcome", outcome), error).inc()
        self.seconds.labels(*names).observe(record.seconds)
        self.bytes.labels(provider).inc(record.bytes)
        self._paid(record, (provider, model, *more))

    def _paid(self, record: Ended, names: tuple[str, ...]) -> None:
        usage, cost = record.usage, record.cost
        if cost is not None and cost.total is not None:
            self.cost.labels(*names).inc(float(cost.total))
        if usage is None:
            return
        counts = {
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cached": usage.cached_tokens,
            "cache_write": usage.cache_write_tokens,
            "reasoning": usage.reasoning_tokens,
        }
        estimated = "true" if usage.estimated else "false"
        for kind, count in counts.items():
            if count:
                self.tokens.labels(*names, kind, estimated).inc(count)

    def _bound(self, name: str, value: str | None) -> str:
        bound = self.bounds.get(name)
        if bound is None:
            bound = self.bounds[name] = Bounded(self.values)
        return bound(value)

    def _model(self, record: Record) -> str:
        """Returns what the upstream was asked for: a refused request names no model, since a client could name any."""
        return self._bound("model", record.target_model)

    def _value(self, name: str, record: Record) -> str | None:
        return record.tenant if name == "tenant" else record.labels.get(name)
