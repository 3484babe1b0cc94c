"""Settings of the Messages API that exclude each other, or that a model does not take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model import objects
from ..refusals import Refused
from .schemas import check_schema
from .versions import adapts, compacts, one_sampler, prefills, samples, takes_budget

Json = Mapping[str, Any]

LEAST_BUDGET = 1024
USUAL_TRIGGER = 150_000
LEAST_TRIGGER = 50_000
EFFORTS = ("low", "medium", "high", "xhigh", "max")
LONGEST_USER = 256


def invalid(message: str) -> Refused:
    return Refused(400, message)


def check_settings(body: Json) -> None:
    """:raises Refused: a setting cannot be kept."""
    check_sampling(body)
    thinking = body.get("thinking")
    if thinking is not None:
        check_thinking(body, thinking)
    config = body.get("output_config") or {}
    if config.get("effort") not in (None, *EFFORTS):
        raise invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
    form = config.get("format")
    if form is not None:
        if form.get("type") != "json_schema" or not isinstance(form.get("schema"), Mapping):
            raise invalid("output_config.format: Input should be a JSON schema")
        check_schema(form["schema"], "output_config.format.schema")
    if triggers(body) and not compacts(body["model"]):
        raise invalid("context_management.edits.0: compact_20260112 is not supported by this model")
    for at, trigger in enumerate(triggers(body)):
        if trigger < LEAST_TRIGGER:
            path = f"context_management.edits.{at}.compact_20260112"
            raise invalid(f"{path}: trigger.value must be at least {LEAST_TRIGGER}")
    if body["messages"][-1]["role"] == "assistant" and not prefills(body["model"]):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if any(not str(text).strip() for text in body.get("stop_sequences") or []):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    if len(str((body.get("metadata") or {}).get("user_id") or "")) > LONGEST_USER:
        raise invalid(f"metadata.user_id: String should have at most {LONGEST_USER} characters")


def triggers(body: Json) -> list[int]:
    """From how many tokens on the conversation is to be compacted, for each edit that says so."""
    edits = objects(body.get("context_management"), "edits")
    compactions = [edit for edit in edits if edit.get("type") == "compact_20260112"]
    return [(edit.get("trigger") or {}).get("value", USUAL_TRIGGER) for edit in compactions]


def check_sampling(body: Json) -> None:
    given = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    if given and not samples(body["model"]):
        raise invalid(f"`{given[0]}` is deprecated for this model.")
    if {"temperature", "top_p"} <= set(given) and one_sampler(body["model"]):
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for name in ("temperature", "top_p"):
        if name in given and not 0 <= body[name] <= 1:
            raise invalid(f"{name}: range: 0..1")


def check_thinking(body: Json, thinking: Json) -> None:
    kind = thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        raise invalid(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "disabled":
        return
    if kind == "adaptive" and not adapts(body["model"]):
        raise invalid("adaptive thinking is not supported on this model")
    if kind == "enabled":
        check_budget(body, thinking)
    choice = (body.get("tool_choice") or {}).get("type")
    if choice in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature") not in (None, 1):
        raise invalid("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if body.get("top_p") is not None and body["top_p"] < 0.95:
        raise invalid("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if body.get("top_k") is not None:
        raise invalid("`top_k` must be unset when thinking is enabled.")


def check_budget(body: Json, thinking: Json) -> None:
    budget = thinking.get("budget_tokens")
    if not takes_budget(body["model"]):
        raise invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and'
            ' "output_config.effort" to control thinking behavior.'
        )
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < LEAST_BUDGET:
        raise invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}")
    if "max_tokens" in body and body["max_tokens"] <= budget:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")
