"""JSON Schema as Anthropic's structured output takes it (API guide, "Structured outputs", JSON Schema limitations).

Types and structure are kept to by the API. Bounds (`minimum`, `maxLength`, most formats) are refused there: they go
into the description, for the model to keep. Objects must forbid what they do not name.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..unsupported import BOUNDS, Unsupported

Json = dict[str, Any]

SUBSCHEMAS = ("items",)
LISTS_OF_SCHEMAS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
"""Members that hold schemas, and as what they are sent."""
MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions")
KEPT = frozenset({"$ref", "type", "enum", "const", "required", "description", "title", "default", "pattern"})
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
MEANINGLESS = frozenset({"$schema", "$id", "$comment", "additionalProperties", "unevaluatedProperties", "examples"})
"""Members that say nothing of a value, or are set here."""


def keepable(schema: Json, path: str, unsupported: Unsupported) -> Json | None:
    """*schema*, which stands at *path*, as the API takes it; None where it lets objects have members of any name, which
    the API refuses.

    :raises InvalidRequest: it has bounds, and emulations are refused.
    """
    if _is_open(schema):
        return None
    bounded: list[str] = []
    found: Json = _kept(schema, bounded, tell=True)
    if bounded and not unsupported.emulates(BOUNDS, path, f"`{bounded[0]}` in a JSON schema"):
        found = _kept(schema, bounded, tell=False)
    return found


def _is_open(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_is_open, schema))
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and not schema.get("properties"):
        if schema.get("additionalProperties", False) is not False or "patternProperties" in schema:
            return True
    names = (*SUBSCHEMAS, *LISTS_OF_SCHEMAS)
    below = [value for name in MAPS_OF_SCHEMAS for value in (schema.get(name) or {}).values()]
    return any(_is_open(schema.get(name)) for name in names) or any(map(_is_open, below))


def _kept(schema: Any, bounded: list[str], tell: bool) -> Any:
    if not isinstance(schema, dict):
        return schema  # `true` is a schema too
    found: Json = {}
    bounds: Json = {}
    for name, value in schema.items():
        if name in KEPT or (name == "format" and value in FORMATS) or (name == "minItems" and value in (0, 1)):
            found[name] = value
        elif name in SUBSCHEMAS:
            found[name] = _kept(value, bounded, tell)
        elif name in LISTS_OF_SCHEMAS and isinstance(value, list):
            found[LISTS_OF_SCHEMAS[name]] = [_kept(each, bounded, tell) for each in value]
        elif name in MAPS_OF_SCHEMAS and isinstance(value, dict):
            found[name] = {key: _kept(each, bounded, tell) for key, each in value.items()}
        elif name not in MEANINGLESS:
            bounds[name] = value
    if found.get("type") == "object" or "properties" in found:
        found["additionalProperties"] = False
    bounded += bounds
    if bounds and tell:
        words = ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in bounds.items())
        found["description"] = f"{found['description']}\n\n{{{words}}}" if "description" in found else f"{{{words}}}"
    return found
