"""The few events of a native stream that are opened: which they are, and what a failure among them says."""

from __future__ import annotations

import msgspec

from ..errors import GatewayError
from ..tree import SHORT, short, tree
from ..wire.sse import Event
from .failure import reported_failure

Members = dict[str, msgspec.Raw]

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
NULL = msgspec.Raw(b"null")
PREFIX = "response."  # of this API's types, but for `error`
NO_ERROR = (b"null", b"{}", b"[]", b'""', b"false")
DIGITS = 18  # of a number that is one

_members = msgspec.json.Decoder(Members).decode
_encode = msgspec.json.Encoder().encode


def opened(event: Event) -> tuple[Members, str | None]:
    """The members of *event*, none where it is no object, and its type: its own word, else the event's name where that
    is one of this API's. An event that is named `error` is one, whatever type but one of this API its data names."""
    try:
        members = _members(event.data)
    except UNREADABLE:
        members = {}
    type = short(members["type"]) if "type" in members else None
    if type is None and members.get("type", NULL) != NULL:
        members = {}
    if event.name == "error" and not (isinstance(type, str) and type.startswith(PREFIX)):
        return members, "error"
    if type is None:
        return members, event.name if event.name.startswith(PREFIX) else None
    return members, type if isinstance(type, str) else ""


def number(members: Members) -> int:
    """The event's `sequence_number`, -1 where it has none."""
    raw = members.get("sequence_number", NULL)
    return int(bytes(raw)) if len(raw) <= DIGITS and bytes(raw).isdigit() else -1


def is_failure(members: Members, type: str | None) -> bool:
    """Whether an event says that the upstream failed: by its type, or without one by an error that it holds."""
    return type == "error" or (type is None and bytes(members.get("error", b"null")) not in NO_ERROR)


def failure_of(data: bytes) -> GatewayError:
    """The failure in the *data* of such an event, which may be plain text."""
    try:
        value = tree(data) if len(data) <= SHORT else None
    except ValueError:
        value = data.decode("utf-8", "replace")
    if len(data) > SHORT and not data.lstrip().startswith(b"{"):
        value = data[:SHORT].decode("utf-8", "replace")
    return reported_failure(_encode({"message": value}) if isinstance(value, str) else data)
