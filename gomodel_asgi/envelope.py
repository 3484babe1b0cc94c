"""The body of a request, opened only as far as routing needs.

Strategy: msgspec reads the top-level members and leaves their values as the bytes that the client sent. What routing
does not touch is never parsed, so number spelling, escapes and the order inside values survive, and a body of
megabytes costs one pass. Duplicate members collapse to the last one: what the policy saw is what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import structs

from .errors import InvalidRequest

BOM = b"\xef\xbb\xbf"
Members = dict[str, msgspec.Raw]
NAMING_STATE = frozenset({"previous_response_id", "conversation", "background", "context_management"})

_members = msgspec.json.Decoder(Members).decode
_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode

OBJECT = re.compile(rb"\s*\{")
KEY = re.compile(rb'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def invalid_json(reason: str) -> InvalidRequest:
    """The 400 for a body that is not one JSON object; *reason* names the position where it is known."""
    return InvalidRequest(f"The request body is not a valid JSON object: {reason}", code="invalid_json")


def read_members(data: bytes) -> Members:
    """The top-level members of a JSON object, values as bytes.

    :raises InvalidRequest: *data* is not one JSON object in UTF-8 (RFC 8259), or nested too deeply to read.
    """
    try:
        data.decode()  # values are skipped, not read: nobody else looks at their encoding
        return _members(data)
    except UnicodeDecodeError as error:
        raise invalid_json(f"it is not UTF-8 (byte {error.start}).") from None
    except msgspec.MsgspecError as error:
        raise invalid_json(f"{_position(str(error), data)}.") from None
    except RecursionError:
        raise invalid_json("it is nested too deeply.") from None


def _position(message: str, data: bytes) -> str:
    return message if "(byte" in message else f"{message} (byte {len(data)})"


def span(data: bytes, name: str) -> tuple[int, int] | None:
    """Where the value of the top-level member *name* of the JSON object *data* stands: start and end.

    None where there is no such member, or where members are repeated and the place is therefore not certain.
    """
    try:
        members = _members(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return span_in(data, members, name)


def span_in(data: bytes, members: Members, name: str) -> tuple[int, int] | None:
    """The same where the *members* of *data* have been read already."""
    opening = OBJECT.match(data)
    at = opening.end() if opening else 0
    for key, value in members.items():
        match, raw = KEY.match(data, at), bytes(value)
        if match is None or not data.startswith(raw, match.end()):
            return None
        at = match.end() + len(raw)
        if key == name:
            return match.end(), at
    return None


class Envelope(msgspec.Struct, eq=False):
    """A client's body: *members* as sent, and the few of them that routing reads.

    *model* and *hint* are None where absent or null; *preferences* is true where `provider` is an object (OpenRouter's
    routing preferences), which is no hint. *names_state* says that a member may name what was said before, or asks
    for it to be compacted, or for work in the background.
    """

    raw: bytes
    members: Members
    model: str | None = None
    hint: str | None = None
    stream: bool = False
    preferences: bool = False
    names_state: bool = False
    parsed: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Envelope {len(self.raw)} bytes model={self.model!r}>"

    @classmethod
    def parse(cls, raw: bytes) -> Envelope:
        """Open a body.

        :raises InvalidRequest: not one JSON object, or `model`, `provider` or `stream` of a wrong type.
        """
        if raw.startswith(BOM):
            raw = raw[len(BOM) :]
        members = read_members(raw)
        self = cls(raw, members, names_state=not NAMING_STATE.isdisjoint(members))
        if "model" in members:
            self.model = _text(members, "model")
        if "stream" in members:
            self.stream = _flag(members, "stream")
        if "provider" in members:
            self._read_provider()
        return self

    @classmethod
    def empty(cls) -> Envelope:
        """The body of a request that has none."""
        return cls(b"", {})

    def with_members(self, members: Members) -> Envelope:
        """The same request with other *members*; what routing has read of it stays."""
        return structs.replace(self, raw=encode(members), members=members, parsed=None)

    def _read_provider(self) -> None:
        if bytes(self.members["provider"]).startswith(b"{"):
            self.preferences = True
        else:
            hint = _text(self.members, "provider")
            self.hint = None if hint is None else hint.strip() or None
            del self.members["provider"]

    def flag(self, name: str) -> bool:
        """Whether the member *name* is `true`."""
        value = self.members.get(name)
        return value is not None and bytes(value) == b"true"

    def text(self, name: str) -> str | None:
        """The member *name* if it is a string.

        :raises InvalidRequest: it holds what no string can: half a surrogate pair.
        """
        value = self.members.get(name)
        try:
            return None if value is None else _string(bytes(value))
        except msgspec.MsgspecError as error:
            raise invalid_json(f"{error}.") from None

    def has(self, name: str) -> bool:
        """Whether the member *name* is there and not null."""
        value = self.members.get(name)
        return value is not None and bytes(value) != b"null"

    @property
    def body(self) -> Mapping[str, Any]:
        """The parsed body without a string `provider`, read-only.

        :raises InvalidRequest: it holds what no parser can: a number out of range.
        """
        if self.parsed is None:
            self.parsed = MappingProxyType(parse_members(self.members))
        return self.parsed

    def render(self, *, model: str | None, params: Mapping[str, Any] | None, keep_preferences: bool) -> bytes:
        """The body for an upstream: the client's members with *model* and *params* (None removes one) put over them."""
        if params is None and model in (self.model, None) and (keep_preferences or not self.preferences):
            return encode(self.members)
        members: dict[str, Any] = dict(self.members)
        if self.preferences and not keep_preferences:
            members.pop("provider", None)
        if model is not None and model != self.model:
            members["model"] = model
        for name, value in (params or {}).items():
            if value is None:
                members.pop(name, None)
            else:
                members[name] = value
        return encode(members)


def parse_members(members: Members) -> dict[str, Any]:
    """The values of *members*, parsed.

    :raises InvalidRequest: one of them cannot be held (an exponent or a depth out of range).
    """
    try:
        return {name: _any(value) for name, value in members.items()}
    except msgspec.MsgspecError as error:
        raise invalid_json(f"{error}.") from None
    except RecursionError:
        raise invalid_json("it is nested too deeply.") from None


def check_depth(data: bytes, limit: int) -> None:
    """Refuse a body nested deeper than *limit* levels, before a tree is built of it.

    :raises InvalidRequest: it is.
    """
    depth = 0
    for match in NESTING.finditer(data):
        token = match.group()
        if token in b"[{":
            depth += 1
            if depth > limit:
                raise invalid_json(f"it is nested deeper than {limit} levels (byte {match.start()}).")
        elif token in b"]}":
            depth -= 1


def _string(value: bytes) -> str | None:
    if not value.startswith(b'"'):
        return None
    if b"\\" not in value:
        return value[1:-1].decode()
    text = _any(value)
    assert isinstance(text, str)
    return text


def _text(members: Members, name: str) -> str | None:
    value = bytes(members[name])
    if value.startswith(b'"') and b"\\" not in value:
        return value[1:-1].decode()
    if value == b"null":
        return None
    text = _string(value)
    if text is None:
        raise InvalidRequest(f"'{name}' must be a string.", param=name, code="invalid_type")
    return text


def _flag(members: Members, name: str) -> bool:
    value = bytes(members[name])
    if value not in (b"true", b"false", b"null"):
        raise InvalidRequest(f"'{name}' must be true or false.", param=name, code="invalid_type")
    return value == b"true"
