"""Which settings a model of the Messages API takes: sampling, thinking, compaction, and JSON Schemas.

The rules are those of Anthropic's migration guides and of its documentation, "Structured outputs", limitations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .api import Refused
from .model import objects

Json = Mapping[str, Any]

LEAST_BUDGET = 1024
USUAL_TRIGGER = 150_000
LEAST_TRIGGER = 50_000
EFFORTS = ("low", "medium", "high", "xhigh", "max")
LONGEST_USER = 256


def invalid(message: str) -> Refused:
    """Returns the refusal of an invalid request."""
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
    """Returns the number of tokens from which on the conversation is compacted, for each edit that says so."""
    edits = objects(body.get("context_management"), "edits")
    compactions = [edit for edit in edits if edit.get("type") == "compact_20260112"]
    return [(edit.get("trigger") or {}).get("value", USUAL_TRIGGER) for edit in compactions]


def check_sampling(body: Json) -> None:
    """Checks temperature, top_p and top_k.

    :raises Refused: the model does not take one, or not together, or it is out of range.
    """
    given = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    if given and not samples(body["model"]):
        raise invalid(f"`{given[0]}` is deprecated for this model.")
    if {"temperature", "top_p"} <= set(given) and one_sampler(body["model"]):
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for name in ("temperature", "top_p"):
        if name in given and not 0 <= body[name] <= 1:
            raise invalid(f"{name}: range: 0..1")


def check_thinking(body: Json, thinking: Json) -> None:
    """Checks `thinking`, and the settings that it excludes.

    :raises Refused: the model cannot think so, or another setting forbids it.
    """
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
    """Checks the budget of thinking, in tokens.

    :raises Refused: the model takes none, or it is missing, too small, or above `max_tokens`.
    """
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


# What each model takes, by the version in its name.


NAME = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?")


def version_of(model: str) -> tuple[int, int]:
    """Returns the version of a Claude, (0, 0) for any other model."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def samples(model: str) -> bool:
    """Returns whether temperature, top_p and top_k may be set."""
    return version_of(model) < (4, 7)


def one_sampler(model: str) -> bool:
    """Returns whether temperature and top_p exclude each other."""
    return version_of(model) >= (4, 1)


def prefills(model: str) -> bool:
    """Returns whether the last message may be the beginning of the answer."""
    return version_of(model) < (4, 6)


def takes_budget(model: str) -> bool:
    """Returns whether thinking may be given a budget of tokens."""
    return version_of(model) < (4, 7)


def adapts(model: str) -> bool:
    """Returns whether thinking may be adaptive; models of other makers may do as they like."""
    return version_of(model) >= (4, 6) or version_of(model) == (0, 0)


def compacts(model: str) -> bool:
    """Returns whether a long context can be compacted, and gone on from."""
    return version_of(model) >= (4, 6)


def hides_thinking(model: str) -> bool:
    """Returns whether thinking comes without its text unless the request wants it summarized."""
    return version_of(model) >= (4, 7)


def takes_system_messages(model: str) -> bool:
    """Returns whether instructions may stand among the messages."""
    return "opus" in model and version_of(model) >= (4, 8)


# Which JSON Schemas a model can be held to, and how many.


UNSUPPORTED = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
}
MOST_STRICT, MOST_OPTIONAL, MOST_UNIONS = 20, 24, 16
HOLDERS = ("$defs", "definitions")
BEYOND_REGULAR = re.compile(r"\(\?(=|!|<=|<!)|\\[bB\d]")


def check_schemas(strict: Sequence[Any], form: Any) -> None:
    """:raises Refused: together the *strict* functions' schemas and the *form* of the answer, if any, are too much."""
    if len(strict) > MOST_STRICT:
        raise Refused(400, f"Too many strict tools ({len(strict)}). The maximum number supported is {MOST_STRICT}.")
    parts = [part for schema in (*strict, form) for part in parts_of(schema)]
    optional = sum(name not in (part.get("required") or ()) for part in parts for name, _ in named(part, "properties"))
    if optional > MOST_OPTIONAL:
        message = f"Schemas contains too many optional parameters ({optional}) (limit: {MOST_OPTIONAL})."
        raise Refused(400, message)
    unions = sum("anyOf" in part or isinstance(part.get("type"), list) for part in parts)
    if unions > MOST_UNIONS:
        message = f"Schemas contains too many parameters with union types ({unions}) (limit: {MOST_UNIONS})."
        raise Refused(400, message)


def check_schema(schema: Any, where: str) -> None:
    """:raises Refused: an object is open to other members, something is bounded that cannot be, a definition is a part
    of itself, or a pattern is no regular language."""
    check_references(schema, where)
    for each in parts_of(schema):
        if BEYOND_REGULAR.search(str(each.get("pattern", ""))):
            raise Refused(400, f"{where}: The pattern {each['pattern']!r} is not supported")
        kind = each.get("type")
        if kind == "object" and each.get("additionalProperties") is not False:
            problem = "'additionalProperties' must be explicitly set to false"
            if "additionalProperties" in each:
                problem = "'additionalProperties: true' is not supported. Please set 'additionalProperties' to false"
            raise Refused(400, f"{where}: For 'object' type, {problem}")
        found = sorted(name for name in UNSUPPORTED.get(str(kind), ()) if name in each)
        if found:
            raise Refused(400, f"{where}: For '{kind}' type, properties {', '.join(found)} are not supported")


def check_references(schema: Any, where: str) -> None:
    """:raises Refused: following the references in *schema* does not come to an end."""
    definitions = {f"#/{holder}/{name}": each for holder in HOLDERS for name, each in named(schema, holder)}
    for part in parts_of(schema):
        if part.get("$ref") == "#":
            raise Refused(400, f"{where}: Circular reference detected in schema definitions")
    reached = {place: {part.get("$ref") for part in parts_of(each)} for place, each in definitions.items()}
    for place in definitions:
        seen, ahead = set[Any](), set[Any]((place,))
        while ahead:
            ahead = {target for each in ahead for target in reached.get(each, ())} - seen
            seen |= ahead
        if place in seen:
            raise Refused(400, f"{where}: Circular reference detected in schema definitions: {place} -> {place}")


def named(schema: Any, holder: str) -> list[tuple[str, Any]]:
    """Returns the schemas in the object *holder* of *schema*, with their names."""
    found = schema.get(holder) if isinstance(schema, Mapping) else None
    return list(found.items()) if isinstance(found, Mapping) else []


def parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yields *schema* and all schemas in it."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for holder in ("properties", *HOLDERS):
        for member in (schema.get(holder) or {}).values():
            yield from parts_of(member)
    for holder in ("anyOf", "allOf", "oneOf"):
        for member in schema.get(holder) or []:
            yield from parts_of(member)
    yield from parts_of(schema.get("items"))
