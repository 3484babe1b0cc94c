"""The metrics of the conventions, with bounded attributes, and the buckets that they advise."""

from __future__ import annotations

from opentelemetry import metrics

from ...observers import Charge, Ended, KeepAliveLost, ToolCalled, Usage
from ...operations import BILLED
from .. import Bounded, charges_of
from .conventions import (
    LATEST,
    PROVIDERS,
    Attributes,
    Names,
    error_type,
    provider_attributes,
    tool_attributes,
    without_none,
)

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
        """Returns *attributes* of an exchange as those of one of its attempts, which has not the exchange's error."""
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
