"""The metrics of the conventions. Buckets are those that they advise."""

from __future__ import annotations

from opentelemetry import metrics

from ...observers import Ended, KeepAliveLost
from ..cardinality import Bounded
from .attributes import OPERATIONS, Attributes, dropped, error_type, provider_of

DURATIONS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
FIRST_CHUNKS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
CHUNKS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
TOKENS = [float(4**power) for power in range(14)]


class Meters:
    """The metrics of the conventions, with bounded attributes."""

    def __init__(self, meter: metrics.Meter) -> None:
        def histogram(name: str, unit: str, buckets: list[float]) -> metrics.Histogram:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)

        self.duration = histogram("gen_ai.client.operation.duration", "s", DURATIONS)
        self.first = histogram("gen_ai.client.operation.time_to_first_chunk", "s", FIRST_CHUNKS)
        self.chunk = histogram("gen_ai.client.operation.time_per_output_chunk", "s", CHUNKS)
        self.tokens = histogram("gen_ai.client.token.usage", "{token}", TOKENS)
        self.lost = meter.create_counter("gomodel_asgi.upstream.keepalive_lost", "{upstream}")
        self.origins = Bounded(1000)
        self.bounds = {name: Bounded(1000) for name in ("gen_ai.request.model", "gen_ai.response.model", "error.type")}

    def keepalive_lost(self, record: KeepAliveLost) -> None:
        """Count an upstream that sent bytes after a complete reply."""
        self.lost.add(1, {"gomodel_asgi.upstream.origin": self.origins(record.origin)})

    def ended(self, record: Ended) -> None:
        """Count one exchange."""
        attributes = self._attributes(record)
        self.duration.record(record.seconds, attributes)
        if record.context.stream and record.first_event is not None:
            self.first.record(record.first_event, attributes)
            if record.events > 1:
                self.chunk.record((record.seconds - record.first_event) / (record.events - 1), attributes)
        usage = record.usage
        if usage is not None and not usage.estimated:
            self.tokens.record(usage.input_tokens, {**attributes, "gen_ai.token.type": "input"})
            self.tokens.record(usage.output_tokens, {**attributes, "gen_ai.token.type": "output"})

    def _attributes(self, record: Ended) -> Attributes:
        attributes = provider_of(record) | {
            "gen_ai.operation.name": OPERATIONS.get(record.operation, record.operation),
            "gen_ai.request.model": record.target_model,
            "gen_ai.response.model": record.served_model,
            "error.type": error_type(record),
        }
        for name, bound in self.bounds.items():
            if attributes[name] is not None:
                attributes[name] = bound(attributes[name])
        return dropped(attributes)
