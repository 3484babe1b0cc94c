"""The `generationConfig` of a request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..members import LOGPROBS, integer, mapping, number, reasoning_of
from ..unsupported import (
    COMBINATION,
    JSON_OBJECT,
    SERVICE_TIER,
    VERBOSITY,
    Unsupported,
    expect,
    malformed,
    optional_string,
    string,
)
from .models import combines, thinking

Json = dict[str, Any]

NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
INTEGERS = {"max_output_tokens": "maxOutputTokens", "seed": "seed"}
FORMATS = ("text", "json_object", "json_schema")
JSON = "application/json"
TIERS = {"auto": None, "default": None, "standard": "standard", "flex": "flex", "priority": "priority"}


def render_generation(
    members: Mapping[str, Any], include: Collection[str], model: str, unsupported: Unsupported
) -> Json:
    """The settings in *members* but for the form of the answer; *include* is what else the reply shall hold.

    :raises InvalidRequest: one is malformed, or refused.
    """
    config: Json = {to: number(members, name) for name, to in NUMBERS.items()}
    config |= {to: integer(members, name) for name, to in INTEGERS.items()}
    config |= _stop(members) | _logprobs(members, include)
    config["thinkingConfig"] = _thinking(members, model, unsupported) or None
    return {name: value for name, value in config.items() if value is not None}


def service_tier(members: Mapping[str, Any], unsupported: Unsupported) -> Json:
    """The member `serviceTier`, if another than the usual one is asked for."""
    tier = members.get("service_tier")
    if tier is not None and expect(tier, str, "service_tier") not in TIERS:
        unsupported.leave_out(SERVICE_TIER, "service_tier", f"the service tier `{tier[:64]}`")
    return {"serviceTier": TIERS[tier]} if tier in TIERS and TIERS[tier] else {}


def _stop(members: Mapping[str, Any]) -> Json:
    stop = members.get("stop")
    if stop is None:
        return {}
    stop = [stop] if isinstance(stop, str) else expect(stop, list, "stop")
    return {"stopSequences": [expect(item, str, f"stop[{index}]") for index, item in enumerate(stop)]}


def _logprobs(members: Mapping[str, Any], include: Collection[str]) -> Json:
    top = integer(members, "top_logprobs")
    if not top and LOGPROBS not in include:
        return {}
    return {"responseLogprobs": True, "logprobs": top or None}


@dataclass(frozen=True, slots=True)
class Form:
    """What shape the answer has: *config* goes into `generationConfig`; *instructed*: a JSON object is asked for in
    words, since the model does not take such a setting beside tools."""

    config: Json = field(default_factory=dict)
    instructed: bool = False


def render_form(members: Mapping[str, Any], model: str, has_tools: bool, unsupported: Unsupported) -> Form:
    """The form of the answer that `text` asks for; *has_tools*: the model is offered some.

    :raises InvalidRequest: it is malformed, or refused.
    """
    text = mapping(members, "text")
    if text.get("verbosity") not in (None, "medium"):
        unsupported.leave_out(VERBOSITY, "text.verbosity")
    format = mapping(text, "format", "text")
    kind = string(format, "type", "text.format") if format else "text"
    if kind not in FORMATS:
        raise malformed("text.format.type", f"must be one of {', '.join(FORMATS)}")
    free = combines(model) or not has_tools
    if kind == "text":
        return Form()
    if kind == "json_object":
        if free:
            return Form({"responseMimeType": JSON})
        what = "the format `json_object` beside tools with this model"
        return Form(instructed=unsupported.emulates(JSON_OBJECT, "text.format", what))
    schema = expect(format.get("schema"), dict, "text.format.schema")
    if free:
        return Form({"responseMimeType": JSON, "responseJsonSchema": schema})
    unsupported.leave_out(COMBINATION, "text.format", "a JSON schema beside tools with this model")
    return Form()


def _thinking(members: Mapping[str, Any], model: str, unsupported: Unsupported) -> Json:
    reasoning = reasoning_of(members, unsupported)
    effort = optional_string(reasoning, "effort", "reasoning")
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    return thinking(model, effort, bool(summary), unsupported)
