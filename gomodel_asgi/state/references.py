"""Which stored items a request's input refers to, told without parsing bodies that refer to none."""

from __future__ import annotations

import re

import msgspec

from ..envelope import Envelope
from ..settings import KIB

# An id of an item that we made: the response's own random part, then the item's place.
OURS = re.compile(r"[a-z_]{2,40}_([0-9a-f]{48})i?[0-9a-f]{2,}")

# A reference is known by its type, or by having an id and neither type nor role.
MARKS = (b'"item_reference"', b'"id"', b"\\u")

SMALL = 8 * KIB  # from here on, looking for three marks costs more than reading what kind of items there are


class Mention(msgspec.Struct):
    """An item as far as it tells what it is."""

    type: str | None = None
    role: str | None = None
    id: str | None = None


_mentions = msgspec.json.Decoder(list[Mention]).decode


def references(envelope: Envelope) -> list[str]:
    """The ids that the items of the input refer to, in order."""
    raw = envelope.members.get("input")
    if raw is None or (data := bytes(raw))[:1] != b"[":
        return []
    if len(data) < SMALL and not any(mark in data for mark in MARKS):
        return []
    try:
        found = _mentions(data)
    except (msgspec.MsgspecError, RecursionError):
        return []  # malformed: whoever reads it will say so
    return [one.id for one in found if one.id is not None and is_reference(one.type, one.role)]


def is_reference(type: object, role: object) -> bool:
    """Whether an item of this *type* and *role* stands for another one."""
    return type == "item_reference" or (type is None and role is None)


def response_of(item_id: str) -> str | None:
    """The response that an item of ours came with, None where the id is not one that we make."""
    match = OURS.fullmatch(item_id)
    return None if match is None else f"resp_{match[1]}"
