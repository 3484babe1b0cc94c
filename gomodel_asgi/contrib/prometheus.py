"""Metrics for Prometheus, for those without OpenTelemetry.

    gateway = Gateway(..., observers=[PrometheusObserver()])
    GatewayCollector(gateway)  # what is looked at when it is scraped: breakers, dropped records

and `prometheus_client`'s own exposition: `start_http_server(9090)`, or `make_asgi_app()` mounted in the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Any

from ..arguments import check_count, check_instance, strings
from ..extras import missing
from ..gateway import Gateway
from ..observers import (
    AttemptEnded,
    AttemptStarted,
    BreakerChanged,
    CacheChecked,
    Charge,
    Completed,
    Cost,
    CredentialRefused,
    Disconnected,
    Ended,
    FirstEvent,
    Guarded,
    KeepAliveLost,
    LedgerWritten,
    PolicyDecided,
    QuotaChecked,
    Record,
    RequestStarted,
    ToolCalled,
    Warned,
)
from ..seams.health import BreakerHealth
from . import Bounded, charges_of

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise missing("prometheus", "PrometheusObserver needs prometheus-client") from error

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

__all__ = ["GatewayCollector", "PrometheusObserver"]


class PrometheusObserver:
    """Counts into *registry*. One for each registry: metrics of one name can be registered only once.

    *labels* adds labels to requests, tokens and cost: `"tenant"`, or names of a Target's labels. Of each label at most
    *values* distinct values are kept, all others are `other`. Tokens by type overlap as they do upstream: `cached` and
    `cache_write` are a part of `input`, `reasoning` is one of `output`. Estimated tokens are counted apart.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, labels: Iterable[str] = (), values: int = 100
    ) -> None:
        check_instance("registry", registry, CollectorRegistry, "a CollectorRegistry of prometheus_client")
        check_count("values", values, at_least=1)
        self.labels = strings("labels", labels)
        self.values = values
        self.bounds: dict[str, Bounded] = {}
        self.open: set[int] = set()
        self._make(registry)
        self.handlers: dict[type[Record], Callable[[Any], None]] = {
            RequestStarted: self._started,
            PolicyDecided: self._decided,
            AttemptStarted: self._attempt,
            AttemptEnded: self._attempted,
            FirstEvent: self._first,
            ToolCalled: self._tool,
            Completed: self._ended,
            Disconnected: self._ended,
            Warned: self._warned,
            KeepAliveLost: self._keepalive_lost,
            BreakerChanged: self._breaker,
            CredentialRefused: self._credential,
            QuotaChecked: self._quota,
            CacheChecked: self._cache,
            Guarded: self._guard,
            LedgerWritten: self._ledger,
        }

    def _make(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, buckets=SECONDS, registry=registry)
        names, provider = ("operation", "provider", "model", *self.labels), ("provider",)
        # Requests...
        self.requests = counter("gomodel_requests", "Requests that have ended.", (*names, "status", "outcome", "error"))
        self.seconds = histogram("gomodel_request_seconds", "From a request to the end of its answer.", names[:3])
        self.tokens = counter("gomodel_tokens", "Tokens that upstreams reported.", (*names[1:], "type", "estimated"))
        self.cost = counter("gomodel_cost_usd", "Cost, where `Priced` knows it.", names[1:])
        unpriced = "Attempts that used tokens and whose cost `Priced` does not know."
        self.unpriced = counter("gomodel_cost_unknown", unpriced, names[1:3])
        self.bytes = counter("gomodel_sent_bytes", "Bytes given to clients.", provider)
        self.in_flight = gauge("gomodel_requests_in_flight", "Requests in flight.")
        # Upstreams...
        self.policy = histogram("gomodel_policy_seconds", "Time that the policy took.", ("error",))
        attempts = "From an attempt to its first event or its failure."
        self.attempts = histogram("gomodel_attempt_seconds", attempts, ("provider", "error"))
        self.first_event = histogram("gomodel_first_event_seconds", "From a request to its first event.", names[1:3])
        tools = "Calls of hosted tools that the host runs."
        self.tools = histogram("gomodel_tool_seconds", tools, ("tool", "name", "outcome"))
        self.warnings = counter("gomodel_warnings", "Things left out or gone wrong.", provider)
        keepalive_lost = "Upstreams that sent bytes after a complete reply."
        self.keepalive_lost = counter("gomodel_keepalive_lost", keepalive_lost, ("origin",))
        # Resilience...
        tried = "Attempts at upstreams that have begun to answer or failed."
        self.tried = counter("gomodel_attempts", tried, ("provider", "kind", "error"))
        fallbacks = "Attempts at one provider instead of another, by the failure that led there."
        self.fallbacks = counter("gomodel_fallbacks", fallbacks, ("source", "target", "reason"))
        transitions = "Changes of circuit breakers."
        self.transitions = counter("gomodel_breaker_transitions", transitions, ("provider", "model", "to"))
        credentials = "Requests whose upstream refused the provider's own credential."
        self.credentials = counter("gomodel_credential_refusals", credentials, provider)
        # Quotas, guards, ledger and cache...
        self.quota_refusals = counter("gomodel_quota_refusals", "Requests that a quota refused.", ("quota", "unit"))
        self.guards = counter("gomodel_guard_verdicts", "What guards said.", ("guard", "stage", "verdict"))
        self.quota_errors = counter("gomodel_quota_errors", "Checks of quotas whose counters did not answer.")
        held = "What requests under way held of a quota when one was last checked, in its unit."
        self.quota_held = gauge("gomodel_quota_held", held, ("quota", "unit"))
        self.ledger_rows = counter("gomodel_ledger_rows", "Rows of the ledger, by what became of them.", ("result",))
        lookups = "New responses, by what the cache had of them."
        self.cache_lookups = counter("gomodel_cache_lookups", lookups, ("result",))
        for result in ("written", "spilled", "replayed", "dropped"):
            self.ledger_rows.labels(result)  # a count that begins at 0 is seen to rise
        for result in ("hit", "miss", "bypass"):
            self.cache_lookups.labels(result)

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

    def _attempt(self, record: AttemptStarted) -> None:
        if record.kind == "fallback":
            source, target = self._bound("provider", record.source), self._bound("provider", record.provider)
            self.fallbacks.labels(source, target, self._bound("error", record.reason)).inc()

    def _attempted(self, record: AttemptEnded) -> None:
        provider, error = self._bound("provider", record.provider), self._bound("error", record.error)
        self.attempts.labels(provider, error).observe(record.seconds)
        self.tried.labels(provider, record.kind, error).inc()

    def _first(self, record: FirstEvent) -> None:
        self.first_event.labels(self._bound("provider", record.provider), self._model(record)).observe(record.seconds)

    def _tool(self, record: ToolCalled) -> None:
        self.tools.labels(record.tool, self._bound("name", record.name), record.outcome).observe(record.seconds)

    def _warned(self, record: Warned) -> None:
        self.warnings.labels(self._bound("provider", record.provider)).inc()

    def _keepalive_lost(self, record: KeepAliveLost) -> None:
        self.keepalive_lost.labels(self._bound("origin", record.origin)).inc()

    def _breaker(self, record: BreakerChanged) -> None:
        self.transitions.labels(self._bound("provider", record.provider), self._model(record), record.now).inc()

    def _credential(self, record: CredentialRefused) -> None:
        if not record.brought:  # what a tenant's own key may do is its own affair
            self.credentials.labels(self._bound("provider", record.provider)).inc()

    def _quota(self, record: QuotaChecked) -> None:
        if record.outcome == "unavailable":
            return self.quota_errors.inc()
        labels = self._bound("quota", record.name), record.unit
        self.quota_held.labels(*labels).set(record.held)
        if record.outcome == "refused":
            self.quota_refusals.labels(*labels).inc()

    def _cache(self, record: CacheChecked) -> None:
        self.cache_lookups.labels(record.result).inc()

    def _guard(self, record: Guarded) -> None:
        self.guards.labels(self._bound("guard", record.guard), record.stage, record.verdict).inc()

    def _ledger(self, record: LedgerWritten) -> None:
        self.ledger_rows.labels(record.result).inc(record.rows)

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
        self._paid(record, more)

    def _paid(self, record: Ended, more: tuple[str, ...]) -> None:
        charges, cost = charges_of(record), record.cost
        costs = () if cost is None else cost.parts or (cost,)
        for charge, part in zip_longest(charges, costs[: len(charges)]):
            names = self._bound("provider", charge.provider), self._bound("model", charge.target_model)
            self._used(charge, (*names, *more))
            if part is not None:
                self._cost(part, names, more)

    def _cost(self, cost: Cost, names: tuple[str, str], more: tuple[str, ...]) -> None:
        if cost.total is None:
            self.unpriced.labels(*names).inc()
        else:
            self.cost.labels(*names, *more).inc(float(cost.total))

    def _used(self, charge: Charge, names: tuple[str, ...]) -> None:
        estimated = "true" if charge.usage.estimated else "false"
        for kind in ("input", "output", "cached", "cache_write", "reasoning"):
            if count := getattr(charge.usage, f"{kind}_tokens"):
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


STATES = ("closed", "half-open", "open")
LOOKS = 10
"""How often is looked again where a request came between, as it can where a thread of its own scrapes."""


class GatewayCollector(Collector):
    """What is looked at when *registry* is scraped: `gomodel_breaker_state`, 1 for the state of each provider and model
    and 0 for the others, and `gomodel_observer_dropped_total`. Of several credentials the worst state counts. At most
    *values* distinct models of each provider are named, all others are `other`. It costs requests nothing. One for each
    registry.
    """

    def __init__(self, gateway: Gateway, registry: CollectorRegistry = REGISTRY, *, values: int = 100) -> None:
        check_instance("gateway", gateway, Gateway, "a Gateway")
        check_instance("registry", registry, CollectorRegistry, "a CollectorRegistry of prometheus_client")
        check_count("values", values, at_least=1)
        self.gateway = gateway
        self.values = values
        self.providers = Bounded(values)
        self.models: dict[str, Bounded] = {}
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Returns the families that `collect` gives, without samples: registering does not look."""
        return [_states(), _dropped()]

    def collect(self) -> Iterator[Metric]:
        """Look."""
        states, dropped = _states(), _dropped()
        for (provider, model), worst in self._worst().items():
            for number, state in enumerate(STATES):
                states.add_metric([provider, model, state], float(number == worst))
        dropped.add_metric([], self.gateway.setup.observers.dropped)
        yield from (states, dropped)

    def _worst(self) -> dict[tuple[str, str], int]:
        worst: dict[tuple[str, str], int] = {}
        for one in self._breakers():
            provider = self.providers(one.provider)
            bound = self.models.setdefault(provider, Bounded(self.values))
            labels = provider, bound(one.model)
            worst[labels] = max(worst.get(labels, 0), STATES.index(one.state))
        return worst

    def _breakers(self) -> tuple[BreakerHealth, ...]:
        for _ in range(LOOKS):
            try:
                return self.gateway.health().breakers
            except RuntimeError:
                continue
        return ()


def _states() -> GaugeMetricFamily:
    labels = ("provider", "model", "state")
    return GaugeMetricFamily("gomodel_breaker_state", "Whether circuit breakers are in this state.", labels=labels)


def _dropped() -> CounterMetricFamily:
    text = "Records that observers with a queue of their own had no room for."
    return CounterMetricFamily("gomodel_observer_dropped", text, labels=())
