"""Which JSON Schemas Anthropic can hold a model to, and how many (documentation, "Structured outputs", limitations)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..refusals import Refused

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
    found = schema.get(holder) if isinstance(schema, Mapping) else None
    return list(found.items()) if isinstance(found, Mapping) else []


def parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    """*schema* and all schemas in it."""
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
