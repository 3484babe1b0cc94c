"""What OpenAI alone refuses in a chat request: members that it does not know, and settings of the wrong model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..model import objects
from ..responses.conversations import Refused

Json = Mapping[str, Any]

MEMBERS = frozenset(
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages"
    " metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key"
    " prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier"
    " stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity"
    " web_search_options".split()
)
MESSAGE = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset({"role", "content", "name", "audio", "refusal", "tool_calls", "function_call"}),
    "tool": frozenset({"role", "content", "tool_call_id"}),
}
FUNCTION = frozenset({"name", "description", "parameters", "strict"})
REASONING = re.compile(r"(o\d|gpt-5)")


def check_strictly(body: Json, messages: Sequence[Json]) -> None:
    """:raises Refused: OpenAI would not take the request, which keeps all other rules."""
    check_known(body, MEMBERS, "")
    check_filled(body, "tools", "")
    for at, message in enumerate(messages):
        check_known(message, MESSAGE[message["role"]], f"messages[{at}].")
        check_filled(message, "tool_calls", f"messages[{at}].")
    for at, tool in enumerate(objects(body, "tools")):
        if tool.get("type") not in ("function", "custom"):
            raise Refused(400, f"Missing required parameter: 'tools[{at}].type'.", param=f"tools[{at}].type")
        if tool["type"] == "function":
            check_known(tool["function"], FUNCTION, f"tools[{at}].function.")
            if tool["function"].get("strict"):
                name = tool["function"]["name"]
                where = f"function '{name}'"
                check_schema(tool["function"].get("parameters"), where, f"tools[{at}].function.parameters")
    check_format(body.get("response_format"), messages)
    if REASONING.match(body["model"]):
        check_reasoning_model(body)


def check_known(value: Json, known: frozenset[str], path: str) -> None:
    for name in value:
        if name not in known:
            raise Refused(400, f"Unknown parameter: '{path}{name}'.", code="unknown_parameter", param=path + name)


def check_filled(value: Json, name: str, path: str) -> None:
    if value.get(name) == []:
        message = f"Invalid '{path}{name}': empty array. Expected an array with minimum length 1."
        raise Refused(400, message, code="empty_array", param=path + name)


def check_format(form: Any, messages: Sequence[Json]) -> None:
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_object" and "json" not in json.dumps([message.get("content") for message in messages]).lower():
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise Refused(400, message, param="messages")
    if kind == "json_schema" and form["json_schema"].get("strict"):
        where = f"response_format '{form['json_schema'].get('name')}'"
        check_schema(form["json_schema"].get("schema"), where, "response_format")


def check_schema(schema: Any, where: str, param: str, path: tuple[str, ...] = ()) -> None:
    """A strict schema closes every object and requires all its members."""
    if not isinstance(schema, Mapping):
        return
    members = schema.get("properties")
    if schema.get("type") == "object":
        context = f"Invalid schema for {where}: In context={path!r}, "
        if schema.get("additionalProperties") is not False:
            problem = "'additionalProperties' is required to be supplied and to be false."
            raise Refused(400, context + problem, code="invalid_function_parameters", param=param)
        missing = [name for name in members or {} if name not in (schema.get("required") or [])]
        if missing:
            problem = (
                "'required' is required to be supplied and to be an array including every key in properties."
                f" Missing '{missing[0]}'."
            )
            raise Refused(400, context + problem, code="invalid_function_parameters", param=param)
    for holder in ("properties", "$defs", "definitions"):
        for name, member in (schema.get(holder) or {}).items():
            check_schema(member, where, param, (*path, holder, name))
    check_schema(schema.get("items"), where, param, (*path, "items"))
    for at, branch in enumerate(schema.get("anyOf") or []):
        check_schema(branch, where, param, (*path, "anyOf", str(at)))


def check_reasoning_model(body: Json) -> None:
    if body.get("max_tokens") is not None:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        raise Refused(400, message, code="unsupported_parameter", param="max_tokens")
    if body.get("temperature") not in (None, 1):
        message = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model."
            " Only the default (1) value is supported."
        )
        raise Refused(400, message, code="unsupported_value", param="temperature")
