"""Which JSON Schemas Anthropic can hold a model to (documentation, "Structured outputs", limitations)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..refusals import Refused

UNSUPPORTED = {
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems"),
}


def check_schema(schema: Any, where: str) -> None:
    """:raises Refused: an object is open to other members, or something is bounded that cannot be."""
    for each in parts_of(schema):
        kind = each.get("type")
        if kind == "object" and each.get("additionalProperties") is not False:
            problem = "'additionalProperties' must be explicitly set to false"
            if "additionalProperties" in each:
                problem = "'additionalProperties: true' is not supported. Please set 'additionalProperties' to false"
            raise Refused(400, f"{where}: For 'object' type, {problem}")
        found = sorted(name for name in UNSUPPORTED.get(str(kind), ()) if name in each)
        if found:
            raise Refused(400, f"{where}: For '{kind}' type, properties {', '.join(found)} are not supported")


def parts_of(schema: Any) -> Iterator[Mapping[str, Any]]:
    """*schema* and all schemas in it."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for holder in ("properties", "$defs", "definitions"):
        for member in (schema.get(holder) or {}).values():
            yield from parts_of(member)
    for holder in ("anyOf", "allOf", "oneOf"):
        for member in schema.get(holder) or []:
            yield from parts_of(member)
    yield from parts_of(schema.get("items"))
