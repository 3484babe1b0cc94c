"""The body of a request, opened only as far as routing needs.

Strategy: msgspec reads the top-level members and leaves their values as the bytes that the client sent. What routing
does not touch is never parsed, so number spelling, escapes and the order inside values survive, and a body of
megabytes costs one pass. Duplicate members collapse to the last one: what the policy saw is what is sent.

What a body may hold is counted first (`json_scan.py`), and a large one is read in pieces (`json_pieces.py`), in steps
of which none takes long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import structs

from ..errors import InvalidRequest
from ..settings import KIB, MIB, Limits
from .json_pieces import SMALL, Found, Members, read_object, too_many, unreadable
from .json_scan import UNREADABLE, Scan, Unreadable, check, check_utf8, may_exceed, parsed, run, windows

BOM = b"\xef\xbb\xbf"
BRACE = ord("{")
NULL, TRUE, FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"true"), msgspec.Raw(b"false")
NAMING_STATE = frozenset({"previous_response_id", "conversation", "background", "context_management"})
LISTS = ("input", "items")
"""The members that hold items: of a response, of a conversation."""

LONGEST_TEXT = MIB
"""Bytes of a member that is read as text."""
LONGEST_NAME = KIB
"""Bytes of a member's name whose place is looked for."""
DEFAULT = Limits()

_members = msgspec.json.Decoder(Members).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode

OBJECT = re.compile(rb"\s*\{")
KEY = re.compile(rb'[\s,]*"[^"\\]*+(?:\\.[^"\\]*+)*+"\s*:\s*')


def invalid_json(reason: str) -> InvalidRequest:
    """The 400 for a body that is not one JSON object; *reason* names the position where it is known."""
    return InvalidRequest(f"The request body is not a valid JSON object: {reason}", code="invalid_json")


def opening(data: bytes, limits: Limits = DEFAULT) -> Generator[None, None, Found]:
    """The top-level members of a client's JSON object, values as bytes; a pause may be made at each step.

    :raises InvalidRequest: *data* is not one JSON object in UTF-8 (RFC 8259), is nested too deeply to read, or holds
        more than *limits* allow.
    """
    try:
        found = yield from read_object(data, depth=limits.depth, values=limits.values, most=limits.items)
    except Unreadable as error:
        raise invalid_json(str(error)) from None
    if found.scan is None or found.scan.commas[2] >= limits.items:
        for name in LISTS:
            if name in found.members and len(found.members[name]) > 2 * limits.items:
                yield from _check_items(found.members[name], name, limits)
    return found


def _check_items(raw: msgspec.Raw, name: str, limits: Limits) -> Generator[None, None, None]:
    """Refuses a list of more items than may be, before it is one.

    :raises InvalidRequest: it has more.
    """
    scan = Scan(limits.depth, (1,), limits.items)
    for window in windows(memoryview(raw)):
        if scan.depth == 0 and not window.startswith(b"["):
            return
        scan.feed(window)
        if scan.commas[1] >= limits.items:
            message = f"'{name}' holds more than {limits.items} items."
            raise InvalidRequest(message, param=name, code="too_many_items")
        yield


def span(data: bytes, name: str) -> tuple[int, int] | None:
    """Where the value of the top-level member *name* of the JSON object *data* stands: start and end.

    None where there is no such member, or where members are repeated and the place is therefore not certain.
    """
    try:
        members = _members(data)
    except UNREADABLE:
        return None
    return span_in(data, members, name)


def span_in(data: bytes, members: Members, name: str) -> tuple[int, int] | None:
    """The same where the *members* of *data* have been read already."""
    opening = OBJECT.match(data)
    at = opening.end() if opening else 0
    for key, value in members.items():
        match, raw = KEY.match(data, at) if len(key) <= LONGEST_NAME else None, bytes(value)
        if match is None or not data.startswith(raw, match.end()):
            return None
        at = match.end() + len(raw)
        if key == name:
            return match.end(), at
    return None


def with_member(data: bytes, name: str, value: str) -> bytes:
    """Returns the JSON object *data* with the string member *name* as its first, or in the place of its own one."""
    key = b'"%s"' % name.encode()
    # Where the word does not stand at all there is no member of that name, and no need to look for its place.
    if key in data and (place := span(data, name)) is not None:
        return data[: place[0]] + encode(value) + data[place[1] :]
    if data.startswith(b'{"'):  # as nearly every one begins: no need to look further
        return b"{%s:%s,%s" % (key, encode(value), data[1:])
    head, _, rest = data.partition(b"{")
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return b"%s{%s:%s%s%s" % (head, key, encode(value), comma, rest)


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
    limits: Limits = DEFAULT
    deep: bool | None = None
    """Whether it is nested too deeply to be parsed; None where nobody has looked yet."""
    commas: int | None = None
    """At least as many as it has; None where nobody has looked."""

    def __repr__(self) -> str:
        return f"<Envelope {len(self.raw)} bytes model={self.model!r}>"

    @classmethod
    def parse(cls, raw: bytes, limits: Limits = DEFAULT) -> Envelope:
        """Opens a body in one step.

        :raises InvalidRequest: as `opening`.
        """
        if raw.startswith(BOM):
            raw = raw[len(BOM) :]
        size = len(raw)
        if size > SMALL or size > limits.values:
            return run(cls.opening(raw, limits))
        try:
            if not raw.isascii():
                check_utf8(raw)
            members = _members(raw)
        except (Unreadable, *UNREADABLE) as error:
            raise invalid_json(str(unreadable(error, size))) from None
        if len(members) > limits.items:
            raise invalid_json(str(too_many(limits.items, "members")))
        commas = size
        if size > 2 * limits.items:
            commas = raw.count(b",") if may_exceed(raw, b",", limits.items - 1) else limits.items - 1
            if commas >= limits.items:
                return run(cls.opening(raw, limits))
        return cls.of(raw, members, limits, commas=commas)

    @classmethod
    def opening(cls, raw: bytes, limits: Limits = DEFAULT) -> Generator[None, None, Envelope]:
        """Opens a body; a pause may be made at each step.

        :raises InvalidRequest: not one JSON object, more of one than *limits* allow, or `model`, `provider` or
            `stream` of a wrong type.
        """
        if raw.startswith(BOM):
            raw = raw[len(BOM) :]
        members, scan = yield from opening(raw, limits)
        return cls.of(raw, members, limits, None if scan is None else scan.deep)

    @classmethod
    def of(
        cls, raw: bytes, members: Members, limits: Limits, deep: bool | None = None, commas: int | None = None
    ) -> Envelope:
        """The body *raw*, whose *members* have been read.

        :raises InvalidRequest: `model`, `provider` or `stream` of a wrong type.
        """
        state = not NAMING_STATE.isdisjoint(members)
        self = cls(raw, members, names_state=state, limits=limits, deep=deep, commas=commas)
        if "model" in members:
            self.model = self.text("model")
            if self.model is None and members["model"] != NULL:
                raise _no("a string", "model")
        if "stream" in members:
            if (value := members["stream"]) not in (TRUE, FALSE, NULL):
                raise _no("true or false", "stream")
            self.stream = value == TRUE
        if "provider" in members:
            if memoryview(members["provider"])[0] == BRACE:
                self.preferences = True
            else:
                hint = self.text("provider")
                if hint is None and members["provider"] != NULL:
                    raise _no("a string", "provider")
                self.hint = None if hint is None else hint.strip() or None
                del members["provider"]
        return self

    @classmethod
    def empty(cls) -> Envelope:
        """The body of a request that has none."""
        return cls(b"", {})

    def with_members(self, members: Members) -> Envelope:
        """The same request with other *members*; what routing has read of it stays."""
        new = (value for name, value in members.items() if value is not self.members.get(name))
        deep = self.deep if all(len(value) < self.limits.depth for value in new) else None
        return structs.replace(self, raw=encode(members), members=members, parsed=None, deep=deep, commas=None)

    def flag(self, name: str) -> bool:
        """Returns whether the member *name* is `true`."""
        value = self.members.get(name)
        return value is not None and value == TRUE

    def text(self, name: str) -> str | None:
        """Returns the member *name*, None where it is absent or no string.

        :raises InvalidRequest: it is longer than any that means something.
        """
        member = self.members.get(name)
        if member is None:
            return None
        if len(member) > LONGEST_TEXT:
            message = f"'{name}' is longer than {LONGEST_TEXT} bytes."
            raise InvalidRequest(message, param=name, code="invalid_value")
        value = bytes(member)
        if not value.startswith(b'"'):
            return None
        return value[1:-1].decode() if b"\\" not in value else str(parsed(value))

    def has(self, name: str) -> bool:
        """Returns whether the member *name* is there and not null."""
        value = self.members.get(name)
        return value is not None and value != NULL

    @property
    def body(self) -> Mapping[str, Any]:
        """The parsed body without a string `provider`, read-only.

        :raises InvalidRequest: it holds what no parser can, a number out of range, or is deeper than `limits.depth`.
        """
        if self.parsed is None:
            if 0 < len(self.raw) <= SMALL:
                self._check_depth()
                found = _value(self.raw)
                if "provider" not in self.members:
                    found.pop("provider", None)
                self.parsed = MappingProxyType(found)
            else:
                run(self.parsing())
            assert self.parsed is not None
        return self.parsed

    def parsing(self) -> Generator[None, None, None]:
        """Parses `body`, of which each item is a step.

        :raises InvalidRequest: as `body`.
        """
        self._check_depth()
        parsed: dict[str, Any] = {}
        for name, value in self.members.items():
            if name in LISTS and len(value) > SMALL and bytes(memoryview(value)[:1]) == b"[":
                parsed[name] = []
                for item in _items(value):
                    parsed[name].append(_value(item))
                    yield
            else:
                parsed[name] = _value(value)
        self.parsed = MappingProxyType(parsed)

    def values(self, names: Collection[str]) -> dict[str, Any]:
        """The members of these *names* that there are, parsed.

        :raises InvalidRequest: as `body`.
        """
        self._check_depth()
        return {name: _value(self.members[name]) for name in names if name in self.members}

    def _check_depth(self) -> None:
        """Checks that the body is not nested too deeply to be parsed.

        :raises InvalidRequest: it is.
        """
        if self.deep is None:
            try:
                check(self.raw, depth=self.limits.depth, values=len(self.raw))
                self.deep = False
            except Unreadable:
                self.deep = True
        if self.deep:
            raise invalid_json(f"it is nested deeper than {self.limits.depth} levels.")

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


def _value(raw: bytes | msgspec.Raw) -> Any:
    """Nothing else makes a tree of what a client sent.

    :raises InvalidRequest: it holds what no parser can: a number out of range.
    """
    try:
        return parsed(raw)
    except msgspec.MsgspecError as error:
        raise invalid_json(f"{error}.") from None
    except RecursionError:
        raise invalid_json("it is nested too deeply.") from None


def _no(wanted: str, name: str) -> InvalidRequest:
    return InvalidRequest(f"'{name}' must be {wanted}.", param=name, code="invalid_type")
