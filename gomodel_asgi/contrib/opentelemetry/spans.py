"""An exchange as spans: one for all of it, one below for each attempt and each call of a tool."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace
from opentelemetry import context as contexts, metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ...observers import (
    AttemptEnded,
    AttemptStarted,
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
from ...seams.transport import Listener
from ...transport import DefaultTransport, Transport, UpstreamReply, UpstreamRequest, attach
from ...transport.slots import ConnectionLimit
from ...version import __version__
from .conventions import (
    provider_attributes,
    request_attributes,
    response_attributes,
    span_name,
    tool_attributes,
    wanted_names,
    without_none,
)
from .meters import Meters

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
        self.handlers: dict[type[Record], Callable[[Any], object]] = {
            RequestStarted: self._opened,
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
