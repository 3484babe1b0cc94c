"""Spans and metrics by OpenTelemetry's conventions for generative AI.

    Gateway(..., observers=[OpenTelemetryObserver()])

One span for each exchange, a child of whatever span the host has open (Starlette's or FastAPI's own instrumentation
makes the HTTP server span; none is made here), and below it one for each attempt. No prompt, answer, header or error
message is recorded. The trace is continued upstream only through `PropagatingTransport`.

Conventions: https://github.com/open-telemetry/semantic-conventions-genai (status: development).
"""

try:
    import opentelemetry.trace  # noqa: F401
except ImportError as error:
    raise ImportError("OpenTelemetry needs the extra: pip install 'gomodel-asgi[opentelemetry]'.") from error

from .observer import OpenTelemetryObserver, PropagatingTransport

__all__ = ["OpenTelemetryObserver", "PropagatingTransport"]
