"""Which settings a model of the Messages API takes: sampling, thinking, compaction, and JSON Schemas.

The rules are those of Anthropic's migration guides and of its documentation, "Structured outputs", limitations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .api import Problems, invalid
from .model import objects

Json = Mapping[str, Any]

LEAST_BUDGET = 1024
USUAL_TRIGGER = 150_000
LEAST_TRIGGER = 50_000
EFFORTS = ("low", "medium", "high", "xhigh", "max")
LONGEST_USER = 256


def of_settings(body: Json) -> Problems:
    """Yields the settings that cannot be kept."""
    yield from of_sampling(body)
    yield from of_thinking(body)
    model, config = body["model"], body.get("output_config") or {}
    if config.get("effort") not in (None, *EFFORTS):
        yield invalid(f"output_config.effort: Input should be one of {', '.join(EFFORTS)}")
    form = config.get("format")
    if form is not None:
        if form.get("type") != "json_schema" or not isinstance(form.get("schema"), Mapping):
            yield invalid("output_config.format: Input should be a JSON schema")
        yield from of_schema(form["schema"], "output_config.format.schema")
    if triggers(body) and version_of(model) < (4, 6):
        yield invalid("context_management.edits.0: compact_20260112 is not supported by this model")
    for at, trigger in enumerate(triggers(body)):
        if trigger < LEAST_TRIGGER:
            path = f"context_management.edits.{at}.compact_20260112"
            yield invalid(f"{path}: trigger.value must be at least {LEAST_TRIGGER}")
    if body["messages"][-1]["role"] == "assistant" and version_of(model) >= (4, 6):
        yield invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if any(not str(text).strip() for text in body.get("stop_sequences") or []):
        yield invalid("stop_sequences: each stop sequence must contain non-whitespace")
    if len(str((body.get("metadata") or {}).get("user_id") or "")) > LONGEST_USER:
        yield invalid(f"metadata.user_id: String should have at most {LONGEST_USER} characters")


def triggers(body: Json) -> list[int]:
    """Returns for each edit that compacts the number of tokens from which on it does."""
    edits = objects(body.get("context_management"), "edits")
    compactions = [edit for edit in edits if edit.get("type") == "compact_20260112"]
    return [(edit.get("trigger") or {}).get("value", USUAL_TRIGGER) for edit in compactions]


def of_sampling(body: Json) -> Problems:
    """Yields temperature, top_p and top_k that the model does not take, or not together, or that are out of range."""
    given = [name for name in ("temperature", "top_p", "top_k") if body.get(name) is not None]
    version = version_of(body["model"])
    if given and version >= (4, 7):
        yield invalid(f"`{given[0]}` is deprecated for this model.")
    if {"temperature", "top_p"} <= set(given) and version >= (4, 1):
        yield invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    for name in ("temperature", "top_p"):
        if name in given and not 0 <= body[name] <= 1:
            yield invalid(f"{name}: range: 0..1")


def of_thinking(body: Json) -> Problems:
    """Yields ways of thinking that the model does not know, and the settings that thinking excludes."""
    thinking: Any = body.get("thinking")
    kind = "disabled" if thinking is None else thinking.get("type")
    if kind not in ("enabled", "adaptive", "disabled"):
        yield invalid(f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags")
    if kind == "disabled":
        return
    if kind == "adaptive" and (0, 0) < version_of(body["model"]) < (4, 6):  # other makers' models may do as they like
        yield invalid("adaptive thinking is not supported on this model")
    if kind == "enabled":
        yield from of_budget(body, thinking.get("budget_tokens"))
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        yield invalid("Thinking may not be enabled when tool_choice forces tool use.")
    if body.get("temperature") not in (None, 1):
        yield invalid("`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.")
    if body.get("top_p") is not None and body["top_p"] < 0.95:
        yield invalid("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if body.get("top_k") is not None:
        yield invalid("`top_k` must be unset when thinking is enabled.")


def of_budget(body: Json, budget: Any) -> Problems:
    """Yields a budget of thinking (tokens) that the model does not take, or of a wrong size."""
    if version_of(body["model"]) >= (4, 7):
        yield invalid(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and'
            ' "output_config.effort" to control thinking behavior.'
        )
    if not isinstance(budget, int):
        yield invalid("thinking.enabled.budget_tokens: Field required")
    if budget < LEAST_BUDGET:
        yield invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}")
    if "max_tokens" in body and body["max_tokens"] <= budget:
        yield invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


# What each model takes, by the version in its name.


NAME = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?")


def version_of(model: str) -> tuple[int, int]:
    """Returns the version of a Claude, (0, 0) for any other model."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def hides_thinking(model: str) -> bool:
    """Returns whether thinking comes without its text unless the request asks for a summary."""
    return version_of(model) >= (4, 7)


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


def of_schemas(strict: Sequence[Any], form: Any) -> Problems:
    """Yields the bounds that the schemas of *strict* functions and of the answer (*form*) exceed together."""
    if len(strict) > MOST_STRICT:
        yield invalid(f"Too many strict tools ({len(strict)}). The maximum number supported is {MOST_STRICT}.")
    parts = [part for schema in (*strict, form) for part in parts_of(schema)]
    optional = sum(name not in (part.get("required") or ()) for part in parts for name, _ in named(part, "properties"))
    if optional > MOST_OPTIONAL:
        message = f"Schemas contains too many optional parameters ({optional}) (limit: {MOST_OPTIONAL})."
        yield invalid(message)
    unions = sum("anyOf" in part or isinstance(part.get("type"), list) for part in parts)
    if unions > MOST_UNIONS:
        message = f"Schemas contains too many parameters with union types ({unions}) (limit: {MOST_UNIONS})."
        yield invalid(message)


def of_schema(schema: Any, where: str) -> Problems:
    """Yields objects that are open to other members, bounds that cannot be kept, definitions that are a part of
    themselves, and patterns that are no regular language."""
    yield from circular(schema, where)
    for each in parts_of(schema):
        if BEYOND_REGULAR.search(str(each.get("pattern", ""))):
            yield invalid(f"{where}: The pattern {each['pattern']!r} is not supported")
        kind = each.get("type")
        if kind == "object" and each.get("additionalProperties") is not False:
            problem = "'additionalProperties' must be explicitly set to false"
            if "additionalProperties" in each:
                problem = "'additionalProperties: true' is not supported. Please set 'additionalProperties' to false"
            yield invalid(f"{where}: For 'object' type, {problem}")
        found = sorted(name for name in UNSUPPORTED.get(str(kind), ()) if name in each)
        if found:
            yield invalid(f"{where}: For '{kind}' type, properties {', '.join(found)} are not supported")


def circular(schema: Any, where: str) -> Problems:
    """Yields references in *schema* that do not come to an end when they are followed."""
    definitions = {f"#/{holder}/{name}": each for holder in HOLDERS for name, each in named(schema, holder)}
    if any(part.get("$ref") == "#" for part in parts_of(schema)):
        yield invalid(f"{where}: Circular reference detected in schema definitions")
    reached = {place: {part.get("$ref") for part in parts_of(each)} for place, each in definitions.items()}
    for place in definitions:
        seen, ahead = set[Any](), set[Any]((place,))
        while ahead:
            ahead = {target for each in ahead for target in reached.get(each, ())} - seen
            seen |= ahead
        if place in seen:
            yield invalid(f"{where}: Circular reference detected in schema definitions: {place} -> {place}")


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
