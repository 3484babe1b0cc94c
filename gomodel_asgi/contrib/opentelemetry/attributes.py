"""Records as attributes: the conventions' names where there are any, `gomodel.` for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry import metrics

from ...observers import Completed, Disconnected, Ended, KeepAliveLost, Record, ToolCalled
from ..cardinality import Bounded

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

OPERATIONS: Mapping[str, str] = MappingProxyType({"create": "chat"})


def name_of(record: Record) -> str:
    operation = OPERATIONS.get(record.operation, record.operation)
    model = record.target_model or record.model
    return f"{operation} {model}" if model else operation


def provider_of(record: Record) -> Attributes:
    kind = record.context.provider_type or record.provider
    return dropped({"gen_ai.provider.name": None if kind is None else PROVIDERS.get(kind, kind)})


def asked(record: Record) -> Attributes:
    """What is known of an exchange at any time."""
    context = record.context
    labels = {f"gomodel.label.{name}": value for name, value in context.labels.items()}
    return provider_of(record) | labels | dropped(
        {
            "gen_ai.operation.name": OPERATIONS.get(context.operation, context.operation),
            "gen_ai.request.model": context.target_model or context.model,
            "gen_ai.request.stream": context.stream,
            "gomodel.provider": context.provider,
            "gomodel.request_id": context.request_id,
            "gomodel.tenant": context.tenant,
        }
    )  # fmt: skip


def called(record: ToolCalled) -> Attributes:
    """What is known of the call of a tool."""
    failed = record.outcome != "completed"
    return dropped(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": record.name,
            "gen_ai.tool.type": "extension",
            "gomodel.tool": record.tool,
            "gomodel.tool.label": record.label,
            "gomodel.tool.bytes_in": record.bytes_in,
            "gomodel.tool.bytes_out": record.bytes_out,
            "error.type": record.outcome if failed else None,
        }
    )


def answered(record: Ended) -> Attributes:
    """What is known at its end."""
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
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            "gomodel.usage.estimated": usage.estimated,
        }
    return dropped(found)


def error_type(record: Ended) -> str | None:
    return f"client_{record.reason}" if isinstance(record, Disconnected) else record.error


def dropped(attributes: Attributes) -> Attributes:
    """*attributes* without those that are None."""
    return {name: value for name, value in attributes.items() if value is not None}


# The metrics of the conventions. Buckets are those that they advise.


DURATIONS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
FIRST_CHUNKS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
CHUNKS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
CALLED = frozenset({"gen_ai.operation.name", "gen_ai.tool.type", "gomodel.tool", "error.type"})
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
        self.tools = histogram("gen_ai.execute_tool.duration", "s", DURATIONS)
        self.origins = Bounded(1000)
        self.names = Bounded(1000)
        self.bounds = {name: Bounded(1000) for name in ("gen_ai.request.model", "gen_ai.response.model", "error.type")}

    def keepalive_lost(self, record: KeepAliveLost) -> None:
        """Count an upstream that sent bytes after a complete reply."""
        self.lost.add(1, {"gomodel_asgi.upstream.origin": self.origins(record.origin)})

    def called(self, record: ToolCalled) -> None:
        """Count one call of a tool."""
        attributes = {name: value for name, value in called(record).items() if name in CALLED}
        self.tools.record(record.seconds, attributes | {"gen_ai.tool.name": self.names(record.name)})

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
