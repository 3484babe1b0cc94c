"""Records as attributes: by the names of the conventions where there are any, with `gomodel.` before the rest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...observers import Completed, Disconnected, Ended, Record, ToolCalled

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
