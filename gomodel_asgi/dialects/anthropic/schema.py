"""JSON Schema as Anthropic's structured output takes it (API guide, "Structured outputs", JSON Schema limitations and
schema complexity limits).

Types and structure are kept to by the API. Bounds (`minimum`, `maxLength`, most formats) are refused there: they go
into the description, for the model to keep. Objects must forbid what they do not name, and no schema may hold itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from ..unsupported import BOUNDS, Unsupported

Json = dict[str, Any]

SUBSCHEMAS = ("items",)
LISTS_OF_SCHEMAS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
"""Members that hold schemas, and as what they are sent."""
DEFINITIONS = ("$defs", "definitions")
MAPS_OF_SCHEMAS = ("properties", *DEFINITIONS)
KEPT = frozenset({"$ref", "type", "enum", "const", "required", "description", "title", "default"})
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
MEANINGLESS = frozenset({"$schema", "$id", "$comment", "additionalProperties", "unevaluatedProperties", "examples"})
"""Members that say nothing of a value, or are set here."""
IRREGULAR = re.compile(r"\(\?<?[=!]|\\[1-9bB]")
"""What a pattern must not hold: looks ahead and back, references to a group, ends of words."""


@dataclass
class Room:
    """How much one request may be held to: strict functions, and, in these and the form of the answer together, members
    that need not be there and values of more than one type."""

    functions: int = 20
    optional: int = 24
    unions: int = 16

    def form(self, schema: Json) -> None:
        """Counts the form of the answer, which a client cannot do without."""
        optional, unions = _complexity(schema)
        self.optional -= optional
        self.unions -= unions

    def function(self, schema: Json) -> bool:
        """Returns whether a function of this *schema* may be strict too; then it is counted."""
        optional, unions = _complexity(schema)
        if self.functions < 1 or optional > max(0, self.optional) or unions > max(0, self.unions):
            return False
        self.functions -= 1
        self.optional -= optional
        self.unions -= unions
        return True


def _complexity(schema: Json) -> tuple[int, int]:
    """How many members of objects are optional in *schema*, and how many values have several types."""
    optional = unions = 0
    for each in _all(schema):
        required, properties = each.get("required"), each.get("properties")
        names = required if isinstance(required, list) else []
        optional += len(properties.keys() - {name for name in names if isinstance(name, str)}) if properties else 0
        unions += "anyOf" in each or isinstance(each.get("type"), list)
    return optional, unions


def keepable(schema: Json, path: str, unsupported: Unsupported) -> Json | None:
    """*schema*, which stands at *path*, as the API takes it; None where it lets objects have members of any name, or
    refers to itself or out of itself, which the API refuses.

    :raises InvalidRequest: it has bounds, and emulations are refused.
    """
    if any(map(_is_open, _all(schema))) or not _ends(schema):
        return None
    bounded: list[str] = []
    found: Json = _kept(schema, bounded, tell=True)
    if bounded and not unsupported.emulates(BOUNDS, path, f"`{bounded[0]}` in a JSON schema"):
        found = _kept(schema, bounded, tell=False)
    return found


def _all(schema: Any) -> Iterator[Json]:
    """*schema* and all schemas in it, those that a client has put where none belongs passed over."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in SUBSCHEMAS:
        yield from _all(schema.get(name))
    for name in LISTS_OF_SCHEMAS:
        for each in value if isinstance(value := schema.get(name), list) else ():
            yield from _all(each)
    for name in MAPS_OF_SCHEMAS:
        for each in value.values() if isinstance(value := schema.get(name), dict) else ():
            yield from _all(each)


def _is_object(schema: Json) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _is_open(schema: Json) -> bool:
    """Returns whether an object of this *schema* may have members of any name, and need have no others."""
    if not _is_object(schema) or schema.get("properties"):
        return False
    return schema.get("additionalProperties", False) is not False or "patternProperties" in schema


def _ends(schema: Json) -> bool:
    """Returns whether no definition is a part of itself, and none lies elsewhere."""
    places = {"#": schema}
    for holder in DEFINITIONS:
        for name, each in value.items() if isinstance(value := schema.get(holder), dict) else ():
            places[f"#/{holder}/{name.replace('~', '~0').replace('/', '~1')}"] = each
    named = {place: _references(each) for place, each in places.items()}
    if not all(reference.startswith("#") for reference in named["#"]):
        return False
    try:
        TopologicalSorter({place: found & places.keys() for place, found in named.items()}).prepare()
    except CycleError:
        return False
    return True


def _references(schema: Any) -> set[str]:
    return {each["$ref"] for each in _all(schema) if isinstance(each.get("$ref"), str)}


def _kept(schema: Any, bounded: list[str], tell: bool) -> Any:
    if not isinstance(schema, dict):
        return schema  # `true` is a schema too
    found: Json = {}
    bounds: Json = {}
    for name, value in schema.items():
        if _is_kept(name, value):
            found[name] = value
        elif name in SUBSCHEMAS and isinstance(value, (dict, bool)):
            found[name] = _kept(value, bounded, tell)
        elif name in LISTS_OF_SCHEMAS and isinstance(value, list):
            found[LISTS_OF_SCHEMAS[name]] = [_kept(each, bounded, tell) for each in value]
        elif name in MAPS_OF_SCHEMAS and isinstance(value, dict):
            found[name] = {key: _kept(each, bounded, tell) for key, each in value.items()}
        elif name not in MEANINGLESS:
            bounds[name] = value
    if _is_object(found) or "properties" in found:
        found["additionalProperties"] = False
    bounded += bounds
    if bounds and tell:
        words = ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in bounds.items())
        found["description"] = f"{found['description']}\n\n{{{words}}}" if "description" in found else f"{{{words}}}"
    return found


def _is_kept(name: str, value: Any) -> bool:
    """Returns whether the API takes the member *name* of this *value* as it is."""
    if name in ("pattern", "format"):
        regular = isinstance(value, str) and IRREGULAR.search(value) is None
        return regular and (name == "pattern" or value in FORMATS)
    return name in KEPT or (name == "minItems" and value in (0, 1))
