"""Continues the trace at the upstream, where that is wanted."""

from __future__ import annotations

from msgspec.structs import replace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ...seams.transport import Listener
from ...transport import Transport, UpstreamReply, UpstreamRequest
from ...transport.default import DefaultTransport, attach
from ...transport.slots import ConnectionLimit


class PropagatingTransport:
    """Sends the W3C trace context (`traceparent`, `tracestate`) to upstreams, over *transport* (default: the gateway's
    own default). Baggage is not sent: it may hold what the host would not tell others."""

    def __init__(self, transport: Transport | None = None) -> None:
        self.transport: Transport = DefaultTransport() if transport is None else transport
        self.propagator = TraceContextTextMapPropagator()

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """Hand on what a gateway tells its transport."""
        attach(self.transport, connections, listener)

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        carrier: dict[str, str] = {}
        self.propagator.inject(carrier)
        if carrier:
            traced = [(name.encode(), value.encode("ascii", "ignore")) for name, value in carrier.items()]
            kept = [header for header in request.headers if header[0] not in (b"traceparent", b"tracestate")]
            request = replace(request, headers=kept + traced)
        return await self.transport.open(request)

    async def aclose(self) -> None:
        await self.transport.aclose()
