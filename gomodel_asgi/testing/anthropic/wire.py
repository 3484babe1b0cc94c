"""Errors and streams of the Messages API (Anthropic, API reference, "Errors" and "Streaming messages")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..responses.conversations import Refused
from ..wire import Failure, Json

TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
PADDING = 16


def event(value: Mapping[str, Any]) -> bytes:
    """*value* as an event named by its type, with spaces after the JSON as Anthropic sends them."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: %s\ndata: %s%s\n\n" % (value["type"].encode(), data, b" " * (len(data) % PADDING))


@dataclass(frozen=True, slots=True)
class AnthropicWire:
    """Errors say their type and the request; inside a stream they are an `error` event."""

    request_id: str = ""

    endless = (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"',
        b'"}}\n\n',
    )
    terminal = b"event: message_delta", b"event: message_stop"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"request-id": self.request_id}

    def error(self, failure: Failure) -> Json:
        usual = TYPES.get(failure.status) or ("api_error" if failure.status >= 500 else "invalid_request_error")
        error = {"type": failure.type or usual, "message": failure.message}
        return {"type": "error", "error": error, "request_id": self.request_id}

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        value = self.error(failure)
        if form == "body":
            return {"error": value["error"]}
        if form is not None:
            raise ValueError(f"the Messages API has no error of the form '{form}'")
        return value

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        return event(value) if form is None else b"data: %s\n\n" % json.dumps(value).encode()

    def ends(self, event: bytes) -> bool:
        return event.startswith(self.terminal)


# What the models of the Messages API take, by the version in their name (Anthropic, migration guides).


NAME = re.compile(r"claude-(?:[a-z]+-)?(\d)(?:[-.](\d{1,2})(?!\d))?")


def version_of(model: str) -> tuple[int, int]:
    """The version of a Claude, (0, 0) for any other model."""
    found = NAME.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def samples(model: str) -> bool:
    """Whether temperature, top_p and top_k may be set."""
    return version_of(model) < (4, 7)


def one_sampler(model: str) -> bool:
    """Whether temperature and top_p exclude each other."""
    return version_of(model) >= (4, 1)


def prefills(model: str) -> bool:
    """Whether the last message may be the beginning of the answer."""
    return version_of(model) < (4, 6)


def takes_budget(model: str) -> bool:
    """Whether thinking may be given a budget of tokens."""
    return version_of(model) < (4, 7)


def adapts(model: str) -> bool:
    """Whether thinking may be adaptive; models of other makers may do as they like."""
    return version_of(model) >= (4, 6) or version_of(model) == (0, 0)


def compacts(model: str) -> bool:
    """Whether a long context can be compacted, and gone on from."""
    return version_of(model) >= (4, 6)


def hides_thinking(model: str) -> bool:
    """Whether thinking comes without its text unless the request wants it summarized."""
    return version_of(model) >= (4, 7)


def takes_system_messages(model: str) -> bool:
    """Whether instructions may stand among the messages."""
    return "opus" in model and version_of(model) >= (4, 8)


# Which JSON Schemas Anthropic can hold a model to, and how many (documentation, "Structured outputs", limitations).


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
