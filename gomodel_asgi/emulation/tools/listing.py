"""What an MCP server says, made fit for a model: its list of tools, and what a call gave.

One bad schema has upstreams refuse a whole request, and what a server writes is read by a model. So a tool is shown as
it should have been written, or not at all. Values in, values out.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ...settings import KIB, MIB
from ...tools import Image
from ...wire.json_scan import tree
from .seams import MOST_TOOLS, Json, Listed, Outcome, Unlisted, failed, plain

MOST_NAME = 128
"""Characters (the protocol's own bound, revision 2025-11-25)."""
MOST_SCHEMA = 64 * KIB
"""Bytes of one tool's schema, as JSON."""
MOST_NODES = 2000
"""Schemas within a schema."""
DEEPEST = 32
"""Levels of a schema that are followed."""

TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
ONE = frozenset(
    "additionalItems additionalProperties contains else if not propertyNames then unevaluatedItems"
    " unevaluatedProperties".split()
)
"""Members of a schema (JSON Schema 2020-12) that are schemas themselves."""
SEVERAL = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
BY_NAME = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
WORDS = frozenset({"description", "title"})
LEFT_OUT = frozenset({"$schema", "$comment", "$id", "$anchor", "$vocabulary", "x-mcp-header"})
COMBINED = ("allOf", "anyOf", "oneOf")
MOST_REFERENCES = 8
"""References that are followed one after the other, since they may go round in a circle."""
MOST_LIST = 4 * MIB
"""Bytes of all names, descriptions and schemas of one server."""

T = TypeVar("T")
Notice = Callable[[str], None]
"""Takes what only the operator may know."""


class Unfit(Exception):
    """A tool that cannot be shown. The message says why, and quotes nothing of the server's."""


class Found:
    """The tools of one server, as they are found."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self.tools: dict[str, Listed] = {}
        self.size = 0

    def add(self, tool: Any) -> None:
        """One more of them, as `tools/list` has it.

        :raises Unlisted: they are too many, or too large.
        """
        shown = shown_or_none(tool, self.notice)
        if shown is None:
            return
        if shown["name"] in self.tools:
            self.notice(f"A second tool {shown['name']!r} is left out.")
            return
        self.size += len(repr(shown))
        if len(self.tools) == MOST_TOOLS or self.size > MOST_LIST:
            raise Unlisted(f"The server lists more than {MOST_TOOLS} tools, or {MOST_LIST // MIB} MiB of them.")
        only_reads = bool(shown.get("annotations"))
        self.tools[shown["name"]] = Listed(shown["name"], shown["inputSchema"], shown.get("description"), only_reads)


def shown_or_none(tool: Any, notice: Notice) -> Json | None:
    """*tool* as it may be shown; None for one that cannot be, of which the operator gets a notice."""
    try:
        return mended(tool)
    except Unfit as why:
        name = tool.get("name") if isinstance(tool, Mapping) else None
        notice(f"The tool {plain(str(name), 64)!r} is left out: {why}.")
        return None


def mended(tool: Any) -> Json:
    """A tool of `tools/list` as it may be shown: its name, description, schema and whether it only reads.

    :raises Unfit: it has no usable name, or a schema that cannot be mended.
    """
    if not isinstance(tool, Mapping):
        raise Unfit("it is no object")
    shown: Json = {"name": _name(tool.get("name")), "inputSchema": _of_arguments(tool.get("inputSchema"))}
    description = tool.get("description")
    if isinstance(description, str) and (plain_text := plain(description).strip()):
        shown["description"] = plain_text
    annotations = tool.get("annotations")
    if isinstance(annotations, Mapping) and annotations.get("readOnlyHint") is True:
        shown["annotations"] = {"readOnlyHint": True}
    return shown


def _name(name: Any) -> str:
    """Returns *name*, of a tool.

    :raises Unfit: it is no text, too long, or has characters that cannot be seen.
    """
    if not isinstance(name, str) or not name or len(name) > MOST_NAME:
        raise Unfit(f"its name is not of 1 to {MOST_NAME} characters")
    if plain(name, MOST_NAME) != name or not name.isprintable():
        raise Unfit("its name has characters that nobody sees")
    return name


# Its arguments...


def _of_arguments(given: Any) -> Json:
    """A schema of type object, from what the server gave.

    :raises Unfit: it is a schema of something else, or none.
    """
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise Unfit("its schema is no object")
    schema = Cleaner().schema(given, 0)
    assert isinstance(schema, dict)
    schema = _flattened(_referred(schema))
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise Unfit("its schema is not of an object")
    return _copied({**schema, "type": "object", "properties": schema.get("properties", {})})


def _referred(schema: Json) -> Json:
    """*schema*, where all of it is a reference to one of its own definitions: with that in its place.

    :raises Unfit: there is no such definition.
    """
    for _ in range(MOST_REFERENCES):
        if "$ref" not in schema:
            return schema
        found: Any = schema
        for step in schema["$ref"].removeprefix("#").split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            break
        rest = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**rest, **found}
    raise Unfit("its schema refers to nothing")


def _flattened(schema: Json) -> Json:
    """*schema* without alternatives at its top, which Anthropic and OpenAI refuse there: the properties of all of them
    are offered, and the server says what does not go together."""
    properties = dict(schema.get("properties", {}))
    for name in COMBINED:
        for branch in schema.get(name, ()):
            if isinstance(branch, dict):
                for key, value in branch.get("properties", {}).items():
                    properties.setdefault(key, value)
    kept = {name: value for name, value in schema.items() if name not in (*COMBINED, "not", "enum", "const")}
    return {**kept, "properties": properties}


def _copied(schema: Json) -> Json:
    """*schema* as other readers of JSON will see it.

    :raises Unfit: it is too large, or no JSON.
    """
    try:
        written = msgspec.json.encode(schema)
        if len(written) > MOST_SCHEMA:
            raise Unfit(f"its schema is larger than {MOST_SCHEMA // KIB} KiB")
        copied: Json = tree(written)
    except (TypeError, ValueError, RecursionError):
        raise Unfit("its schema is no JSON") from None
    return copied


class Cleaner:
    """Goes through one schema: cleans its words, mends what can be, and refuses the rest."""

    def __init__(self) -> None:
        self.nodes = 0

    def schema(self, given: Any, depth: int) -> Json | bool:
        """Returns *given*, a schema, cleaned.

        :raises Unfit: it is no schema.
        """
        self.nodes += 1
        if depth > DEEPEST or self.nodes > MOST_NODES:
            raise Unfit("its schema is too deep or too large")
        if isinstance(given, bool):
            return given
        if not isinstance(given, dict):
            raise Unfit("its schema has a part that is none")
        cleaned = {}
        for name, value in given.items():
            if name not in LEFT_OUT and (kept := self._member(name, value, depth + 1)) is not UNSET:
                cleaned[name] = kept
        return cleaned

    def _member(self, name: str, value: Any, depth: int) -> Any:
        """The member *name*; UNSET where it is to be left out."""
        if name in WORDS:
            return plain(value) if isinstance(value, str) else UNSET
        if name in ONE:
            return self.schema(value, depth)
        if name in SEVERAL or (name == "items" and isinstance(value, list)):
            return [self.schema(one, depth) for one in _checked(value, list, "list")]
        if name == "items":
            return self.schema(value, depth)
        if name in BY_NAME:
            return {key: self.schema(one, depth) for key, one in _checked(value, dict, "object").items()}
        return self._value(name, value)

    def _value(self, name: str, value: Any) -> Any:
        """Returns the *value* of one keyword, cleaned.

        :raises Unfit: no model can be shown it.
        """
        if name == "required":
            return self._required(value)
        if name == "type":
            kinds = value if isinstance(value, list) else [value]
            if not kinds or not all(isinstance(kind, str) and kind in TYPES for kind in kinds):
                raise Unfit("its schema has a type that is none")
        if name == "enum" and not _checked(value, list, "list"):
            raise Unfit("its schema allows no value")
        if name in ("$ref", "$dynamicRef") and not (isinstance(value, str) and value.startswith("#")):
            raise Unfit("its schema refers to another document")
        if name == "pattern" and not isinstance(value, str):
            raise Unfit("its schema has a pattern that is none")
        return value

    def _required(self, value: Any) -> list[str] | UnsetType:
        """Returns the names that are required; UNSET where each property says it of itself.

        :raises Unfit: one is no text.
        """
        if isinstance(value, bool):
            return UNSET  # as drafts before 4 wrote it
        if not all(isinstance(one, str) for one in _checked(value, list, "list")):
            raise Unfit("its schema requires what has no name")
        return list(value)


def _checked(value: Any, kind: type[T], what: str) -> T:
    """Returns *value*.

    :raises Unfit: it is no *kind*; *what* says what that is.
    """
    if not isinstance(value, kind):
        raise Unfit(f"its schema has no {what} where one must be")
    return value


# What a call of an MCP server gave, as an `Outcome`: content blocks become one text, and images for who sees.
#
# Text is joined; what is no text is named by a note; structured content stands in only where no text says the same (a
# server that gives both writes the text from it). Values in, values out.


FORMATS = frozenset({"png", "jpeg", "webp", "gif"})
"""Of images: what models take. SVG is a text to them at best."""
NOTHING_SAID = "The tool failed without saying why."


def outcome_of(result: Any) -> Outcome:
    """The outcome of a `CallToolResult` of the `mcp` SDK."""
    text = "\n".join(_said(block) for block in result.content)
    if not any(_has_words(block) for block in result.content) and result.structured_content is not None:
        written = msgspec.json.encode(result.structured_content, enc_hook=str).decode()
        text = f"{written}\n{text}" if text else written
    images = tuple(_images(result.content))
    if not result.is_error:
        return Outcome(text, images)
    return Outcome(text or NOTHING_SAID, images, failed(text or NOTHING_SAID))


def _said(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type in ("image", "audio"):
        return f"[{'An image' if block.type == 'image' else 'Audio'}: {block.mime_type}]"
    if block.type == "resource_link":
        return f"[A resource: {block.name} {block.uri}]"
    text = getattr(block.resource, "text", None)
    return f"[A file: {block.resource.mime_type or block.resource.uri}]" if text is None else str(text)


def _has_words(block: Any) -> bool:
    if block.type == "text":
        return bool(block.text)
    return block.type == "resource" and bool(getattr(block.resource, "text", None))


def _images(content: Iterable[Any]) -> Iterable[Image]:
    for block in content:
        kind = block.mime_type.lower().removeprefix("image/") if block.type == "image" else ""
        kind = "jpeg" if kind == "jpg" else kind
        if kind in FORMATS:
            try:
                data = binascii.a2b_base64("".join(block.data.split()), strict_mode=True)
                yield Image(data, kind)  # type: ignore[arg-type]  # one of FORMATS
            except ValueError:
                continue
