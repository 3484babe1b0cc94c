"""Spans and metrics by OpenTelemetry's conventions for generative AI.

    Gateway(..., observers=[OpenTelemetryObserver()])

One span for each exchange, a child of whatever span the host has open (Starlette's or FastAPI's own instrumentation
makes the HTTP server span; none is made here), and below it one for each attempt. No prompt, answer, header or error
message is recorded. The trace is continued upstream only through `PropagatingTransport`.

Conventions: https://github.com/open-telemetry/semantic-conventions-genai (status: development). Their earlier names are
the default; with `gen_ai_latest_experimental` in the environment's `OTEL_SEMCONV_STABILITY_OPT_IN`, a list with commas,
the newer ones are used instead, as the conventions want it.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from ..extras import missing
from ..observers import (
    AttemptEnded,
    AttemptStarted,
    Charge,
    Completed,
    Disconnected,
    Ended,
    FirstEvent,
    KeepAliveLost,
    PolicyDecided,
    Record,
    RequestStarted,
    ToolCalled,
    Usage,
    Warned,
)
from ..operations import BILLED
from ..seams.transport import Listener
from ..transport import DefaultTransport, Transport, UpstreamReply, UpstreamRequest, attach
from ..transport.slots import ConnectionLimit
from ..version import __version__
from . import Bounded, charges_of

try:
    from opentelemetry import context as contexts, metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise missing("opentelemetry", "OpenTelemetryObserver needs opentelemetry-api") from error

__all__ = ["OpenTelemetryObserver", "PropagatingTransport"]

# Records as attributes: the conventions' names where there are any, `gomodel.` for the rest.


Attributes = dict[str, Any]

PROVIDERS: Mapping[str, str] = MappingProxyType(
    {
        "gemini": "gcp.gemini",
        "azure": "azure.ai.openai",
        "bedrock": "aws.bedrock",
        "mistral": "mistral_ai",
        "xai": "x_ai",
    }
)
"""Our provider types under the well-known values of `gen_ai.provider.name`, where these differ."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the conventions call things: *operations* of ours, the metrics of time, and an attribute of usage."""

    operations: Mapping[str, str]
    duration: str
    first: str
    chunk: str
    cache_write: str
    counts_all: bool
    """Whether the metrics of time are of all operations, and not only of those that infer."""

    def operation(self, record: Record) -> str:
        """Returns the record's operation."""
        return self.operations.get(record.operation, record.operation)


EARLIER = Names(
    operations=MappingProxyType({"create": "chat"}),
    duration="gen_ai.client.operation.duration",
    first="gen_ai.client.operation.time_to_first_chunk",
    chunk="gen_ai.client.operation.time_per_output_chunk",
    cache_write="gen_ai.usage.cache_creation.input_tokens",
    counts_all=True,
)
LATEST = Names(
    operations=MappingProxyType({"create": "chat", "retrieve": "fetch_response"}),
    duration="gen_ai.client.inference.duration",
    first="gen_ai.client.inference.time_to_first_chunk",
    chunk="gen_ai.client.inference.time_per_output_chunk",
    cache_write="gen_ai.usage.cache_write.input_tokens",
    counts_all=False,
)


def wanted_names() -> Names:
    """Returns those that the environment asks for."""
    asked = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return LATEST if "gen_ai_latest_experimental" in (one.strip() for one in asked) else EARLIER


def span_name(record: Record, names: Names) -> str:
    """Returns the name of the exchange's span: operation and model, as the conventions say."""
    operation = names.operation(record)
    model = record.target_model or record.model
    return f"{operation} {model}" if model else operation


def provider_attributes(record: Record) -> Attributes:
    """Returns the provider under the conventions' name, or nothing where it is not known."""
    kind = record.context.provider_type or record.provider
    return without_none({"gen_ai.provider.name": None if kind is None else PROVIDERS.get(kind, kind)})


def request_attributes(record: Record, names: Names) -> Attributes:
    """Returns the attributes of an exchange that are known from its start."""
    context = record.context
    labels = {f"gomodel.label.{name}": value for name, value in context.labels.items()}
    return provider_attributes(record) | labels | without_none(
        {
            "gen_ai.operation.name": names.operation(record),
            "gen_ai.request.model": context.target_model or context.model,
            "gen_ai.request.stream": context.stream,
            "gomodel.provider": context.provider,
            "gomodel.request_id": context.request_id,
            "gomodel.tenant": context.tenant,
        }
    )  # fmt: skip


def tool_attributes(record: ToolCalled) -> Attributes:
    """Returns the attributes of one call of a tool."""
    return without_none(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.name,
            "gen_ai.tool.type": "extension",
            "gomodel.tool": record.tool,
            "gomodel.tool.label": record.label,
            "gomodel.tool.bytes_in": record.bytes_in,
            "gomodel.tool.bytes_out": record.bytes_out,
            "error.type": record.outcome if record.outcome != "completed" else None,
        }
    )


def response_attributes(record: Ended, names: Names) -> Attributes:
    """Returns the attributes of an exchange that are known at its end."""
    usage, cost = record.usage, record.cost
    found = {
        "gen_ai.response.id": record.response_id,
        "gen_ai.response.model": record.served_model,
        "gen_ai.conversation.id": record.conversation,
        "gen_ai.response.finish_reasons": (record.outcome,) if isinstance(record, Completed) else None,
        "http.response.status_code": record.status,
        "error.type": error_type(record),
        "gomodel.attempts": record.attempts,
        "gomodel.cost_usd": None if cost is None or cost.total is None else float(cost.total),
    }
    if usage is not None:
        found |= {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            names.cache_write: usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "gomodel.usage.estimated": usage.estimated,
        }
    return without_none(found)


def error_type(record: Ended) -> str | None:
    """Returns the value of `error.type`, or None where nothing failed."""
    return f"client_{record.reason}" if isinstance(record, Disconnected) else record.error


def without_none(attributes: Attributes) -> Attributes:
    """Returns *attributes* without those that are None."""
    return {name: value for name, value in attributes.items() if value is not None}


# The metrics of the conventions. Buckets are those that they advise.


DURATIONS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
FIRST_CHUNKS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
CHUNKS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
CALLED = frozenset({"gen_ai.operation.name", "gen_ai.tool.type", "gomodel.tool", "error.type"})
TOKENS = [float(4**power) for power in range(14)]


class TokenHistogram:
    """Tokens by the earlier conventions: input and output in one metric."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.tokens = histogram(meter, "gen_ai.client.token.usage", "{token}", TOKENS)

    def add(self, usage: Usage, attributes: Attributes) -> None:
        """Counts what was used."""
        self.tokens.record(usage.input_tokens, {**attributes, "gen_ai.token.type": "input"})
        self.tokens.record(usage.output_tokens, {**attributes, "gen_ai.token.type": "output"})


class TokenCounters:
    """Tokens by the newer conventions: a counter for each kind, two of them within the input and one within the output,
    and a histogram for each operation's input and output."""

    def __init__(self, meter: metrics.Meter) -> None:
        def counter(name: str) -> metrics.Counter:
            return meter.create_counter(f"gen_ai.client.inference.usage.{name}", "{token}")

        self.input = counter("input_tokens")
        self.output = counter("output_tokens")
        self.parts = (
            (counter("cache_read.input_tokens"), "cached_tokens"),
            (counter("cache_write.input_tokens"), "cache_write_tokens"),
            (counter("reasoning.output_tokens"), "reasoning_tokens"),
        )
        self.of_input = histogram(meter, "gen_ai.client.inference.operation.input_tokens", "{token}", TOKENS)
        self.of_output = histogram(meter, "gen_ai.client.inference.operation.output_tokens", "{token}", TOKENS)

    def add(self, usage: Usage, attributes: Attributes) -> None:
        """Counts what was used. Upstreams do not say of all tokens whether they are text."""
        by_modality = {**attributes, "gen_ai.token.modality": "unknown"}
        self.input.add(usage.input_tokens, by_modality)
        self.output.add(usage.output_tokens, by_modality)
        for counter, name in self.parts:
            if count := getattr(usage, name):
                counter.add(count, by_modality)
        self.of_input.record(usage.input_tokens, attributes)
        self.of_output.record(usage.output_tokens, attributes)


def histogram(meter: metrics.Meter, name: str, unit: str, buckets: list[float]) -> metrics.Histogram:
    """Returns a histogram with the conventions' *buckets*."""
    return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)


class Meters:
    """The metrics of the conventions, with bounded attributes."""

    def __init__(self, meter: metrics.Meter, names: Names) -> None:
        self.convention = names
        self.duration = histogram(meter, names.duration, "s", DURATIONS)
        self.first = histogram(meter, names.first, "s", FIRST_CHUNKS)
        self.chunk = histogram(meter, names.chunk, "s", CHUNKS)
        self.tokens = TokenCounters(meter) if names is LATEST else TokenHistogram(meter)
        self.lost = meter.create_counter("gomodel_asgi.upstream.keepalive_lost", "{upstream}")
        self.tools = histogram(meter, "gen_ai.execute_tool.duration", "s", DURATIONS)
        self.origins = Bounded(1000)
        self.names = Bounded(1000)
        self.bounds = {name: Bounded(1000) for name in ("gen_ai.request.model", "gen_ai.response.model", "error.type")}

    def keepalive_lost(self, record: KeepAliveLost) -> None:
        """Counts an upstream that sent bytes after a complete reply."""
        self.lost.add(1, {"gomodel_asgi.upstream.origin": self.origins(record.origin)})

    def called(self, record: ToolCalled) -> None:
        """Counts one call of a tool."""
        attributes = {name: value for name, value in tool_attributes(record).items() if name in CALLED}
        self.tools.record(record.seconds, attributes | {"gen_ai.tool.name": self.names(record.name)})

    def ended(self, record: Ended) -> None:
        """Counts one exchange that has ended."""
        if not self.convention.counts_all and record.operation not in BILLED:
            return
        attributes = self._attributes(record)
        self.duration.record(record.seconds, attributes)
        if record.context.stream and record.first_event is not None:
            self.first.record(record.first_event, attributes)
            if record.events > 1:
                self.chunk.record((record.seconds - record.first_event) / (record.events - 1), attributes)
        for charge in charges_of(record):
            if not charge.usage.estimated:
                self.tokens.add(charge.usage, self._charged(charge, attributes))

    def _charged(self, charge: Charge, attributes: Attributes) -> Attributes:
        """*attributes* of an exchange as those of one of its attempts, which has not the exchange's error."""
        kind = charge.provider_type or charge.provider
        own = {
            "gen_ai.provider.name": PROVIDERS.get(kind, kind),
            "gen_ai.request.model": self._bound("gen_ai.request.model", charge.target_model),
            "gen_ai.response.model": self._bound("gen_ai.response.model", charge.served_model),
            "error.type": None,
        }
        return without_none({**attributes, **own})

    def _bound(self, name: str, value: str | None) -> str | None:
        return None if value is None else self.bounds[name](value)

    def _attributes(self, record: Ended) -> Attributes:
        attributes = provider_attributes(record) | {
            "gen_ai.operation.name": self.convention.operation(record),
            "gen_ai.request.model": self._bound("gen_ai.request.model", record.target_model),
            "gen_ai.response.model": self._bound("gen_ai.response.model", record.served_model),
            "error.type": self._bound("error.type", error_type(record)),
        }
        return without_none(attributes)


MOST_OPEN = 100_000  # spans of exchanges that never ended, because a host dropped a reply, do not pile up beyond this


@dataclass(slots=True)
class Open:
    """The spans of an exchange in flight."""

    span: trace.Span
    attempt: trace.Span | None = None
    token: Any = None


class OpenTelemetryObserver:
    """Makes spans and metrics with the given providers, by default the global ones.

    `time_per_output_chunk` gets one value a stream, the mean: observers do not see single events. Estimated tokens
    stand on the span, marked, and are not counted as usage.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
    ) -> None:
        self.names = wanted_names()
        self.tracer = trace.get_tracer("gomodel_asgi", __version__, tracer_provider)
        self.meters = Meters(metrics.get_meter("gomodel_asgi", __version__, meter_provider), self.names)
        self.open: OrderedDict[int, Open] = OrderedDict()
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
            KeepAliveLost: self.meters.keepalive_lost,
        }

    def __call__(self, record: Record) -> None:
        handler = self.handlers.get(type(record))
        if handler is not None:
            handler(record)

    # The exchange...

    def _started(self, record: RequestStarted) -> None:
        self._opened(record)

    def _opened(self, record: Record) -> Open:
        span = self.tracer.start_span(
            span_name(record, self.names),
            kind=trace.SpanKind.CLIENT,
            attributes=request_attributes(record, self.names),
        )
        opened = self.open[record.context.exchange] = Open(span)
        if len(self.open) > MOST_OPEN:
            self.open.popitem(last=False)[1].span.end()
        return opened

    def _decided(self, record: PolicyDecided) -> None:
        found = self.open.get(record.context.exchange)
        if found is not None:
            found.span.add_event(
                "gomodel.policy", without_none({"gomodel.seconds": record.seconds, "error.type": record.error})
            )

    def _first(self, record: FirstEvent) -> None:
        found = self.open.get(record.context.exchange)
        if found is not None and record.context.stream:
            found.span.set_attribute("gen_ai.response.time_to_first_chunk", record.seconds)

    def _tool(self, record: ToolCalled) -> None:
        """One call, as a span that has ended."""
        self.meters.called(record)
        found = self.open.get(record.context.exchange)
        if found is None:
            return
        ended = time.time_ns()
        began = ended - int(record.seconds * 1e9)
        parent, attributes = trace.set_span_in_context(found.span), tool_attributes(record)
        span = self.tracer.start_span(f"execute_tool {record.name}", parent, attributes=attributes, start_time=began)
        if record.outcome != "completed":
            span.set_status(trace.Status(trace.StatusCode.ERROR, record.outcome))
        span.end(ended)

    def _warned(self, record: Warned) -> None:
        found = self.open.get(record.context.exchange)
        if found is not None:
            found.span.add_event("gomodel.warning")

    def _ended(self, record: Ended) -> None:
        # What was refused before it was read has no start: its span is all of it.
        found = self.open.get(record.context.exchange) or self._opened(record)
        del self.open[record.context.exchange]
        found.span.update_name(span_name(record, self.names))
        found.span.set_attributes(request_attributes(record, self.names) | response_attributes(record, self.names))
        if record.error is not None:
            found.span.set_status(trace.Status(trace.StatusCode.ERROR, record.error))
        found.span.end()
        self.meters.ended(record)

    # Its attempts...

    def _attempt(self, record: AttemptStarted) -> None:
        found = self.open.get(record.context.exchange)
        if found is None:
            return
        parent = trace.set_span_in_context(found.span)
        attributes = provider_attributes(record) | {"gomodel.attempt": record.number, "gomodel.kind": record.kind}
        if record.reason is not None:
            attributes["gomodel.reason"] = record.reason
        kind = trace.SpanKind.CLIENT
        found.attempt = self.tracer.start_span(f"attempt {record.provider}", parent, kind, attributes)
        # Current while the upstream is asked, for what the transport may add: its own span, or `traceparent`.
        found.token = contexts.attach(trace.set_span_in_context(found.attempt, parent))

    def _attempted(self, record: AttemptEnded) -> None:
        found = self.open.get(record.context.exchange)
        if found is None or found.attempt is None:
            return
        contexts.detach(found.token)
        found.attempt.set_attributes(
            without_none({"http.response.status_code": record.status, "error.type": record.error})
        )
        if record.error is not None:
            found.attempt.set_status(trace.Status(trace.StatusCode.ERROR, record.error))
        found.attempt.end()
        found.attempt = found.token = None


# Continues the trace at the upstream, where that is wanted.


class PropagatingTransport:
    """Sends the W3C trace context (`traceparent`, `tracestate`) to upstreams, over *transport* (default: the gateway's
    own default). Baggage is not sent: it may hold what the host keeps from others."""

    def __init__(self, transport: Transport | None = None) -> None:
        self.transport: Transport = DefaultTransport() if transport is None else transport
        self.propagator = TraceContextTextMapPropagator()

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """Hands on the limit and listener of a gateway, as `Http11Transport.attach` takes them."""
        attach(self.transport, connections, listener)

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        """Sends *request* with the trace context of the current span; see `Transport.open`."""
        carrier: dict[str, str] = {}
        self.propagator.inject(carrier)
        if carrier:
            traced = [(name.encode(), value.encode("ascii", "ignore")) for name, value in carrier.items()]
            kept = [header for header in request.headers if header[0] not in (b"traceparent", b"tracestate")]
            request = replace(request, headers=kept + traced)
        return await self.transport.open(request)

    async def aclose(self) -> None:
        """Closes the transport below."""
        await self.transport.aclose()
