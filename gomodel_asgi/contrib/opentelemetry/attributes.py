"""Records as attributes: the conventions' names where there are any, `gomodel.` for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ...observers import Completed, Disconnected, Ended, Record

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
