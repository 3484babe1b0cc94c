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

from ...extras import missing

try:
    from opentelemetry import trace as trace  # the name alone may be there without the API
except ImportError as error:
    raise missing("opentelemetry", "OpenTelemetryObserver needs opentelemetry-api") from error

from .spans import OpenTelemetryObserver, PropagatingTransport

__all__ = ["OpenTelemetryObserver", "PropagatingTransport"]
