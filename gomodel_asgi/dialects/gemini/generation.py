"""The `generationConfig` of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..losses import Losses, expect, malformed, optional_string, string
from ..members import integer, mapping, number
from .models import thinking

Json = dict[str, Any]

NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
INTEGERS = {"max_output_tokens": "maxOutputTokens", "seed": "seed"}
TIERS = {"auto": None, "default": None, "standard": "standard", "flex": "flex", "priority": "priority"}
LOGPROBS = "message.output_text.logprobs"


def render_generation(members: Mapping[str, Any], include: Any, model: str, losses: Losses) -> Json:
    """The settings in *members*; *include* is the request's list of additional output.

    :raises InvalidRequest: one is malformed, or a loss that is rejected.
    """
    config: Json = {to: number(members, name) for name, to in NUMBERS.items()}
    config |= {to: integer(members, name) for name, to in INTEGERS.items()}
    config |= _stop(members) | _logprobs(members, include) | _format(members, losses)
    config["thinkingConfig"] = _thinking(members, model, losses) or None
    return {name: value for name, value in config.items() if value is not None}


def service_tier(members: Mapping[str, Any], losses: Losses) -> Json:
    """The member `serviceTier`, if another than the usual one is asked for."""
    tier = members.get("service_tier")
    if tier is not None and expect(tier, str, "service_tier") not in TIERS:
        losses.add("service_tier", f"the service tier `{tier[:64]}`")
    return {"serviceTier": TIERS[tier]} if tier in TIERS and TIERS[tier] else {}


def _stop(members: Mapping[str, Any]) -> Json:
    stop = members.get("stop")
    if stop is None:
        return {}
    stop = [stop] if isinstance(stop, str) else expect(stop, list, "stop")
    return {"stopSequences": [expect(item, str, f"stop[{index}]") for index, item in enumerate(stop)]}


def _logprobs(members: Mapping[str, Any], include: Any) -> Json:
    top = integer(members, "top_logprobs")
    if not top and not (isinstance(include, list) and LOGPROBS in include):
        return {}
    return {"responseLogprobs": True, "logprobs": top or None}


def _format(members: Mapping[str, Any], losses: Losses) -> Json:
    text = mapping(members, "text")
    if text.get("verbosity") not in (None, "medium"):
        losses.add("text.verbosity", "`text.verbosity`")
    format = mapping(text, "format", "text")
    kind = string(format, "type", "text.format") if format else "text"
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"responseMimeType": "application/json"}
    if kind != "json_schema":
        raise malformed("text.format.type", "must be one of text, json_object, json_schema")
    schema = expect(format.get("schema"), dict, "text.format.schema")
    return {"responseMimeType": "application/json", "responseJsonSchema": schema}


def _thinking(members: Mapping[str, Any], model: str, losses: Losses) -> Json:
    reasoning = mapping(members, "reasoning")
    effort = optional_string(reasoning, "effort", "reasoning")
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    if reasoning.get("mode") not in (None, "standard"):
        losses.add("reasoning.mode", "`reasoning.mode`")
    return thinking(model, effort, bool(summary), losses)
