"""Which stored items a request's input refers to, told without parsing bodies that refer to none.

An upstream looks up what an item names by its id and does not bring along. Three forms of that are known:

    {"type": "item_reference", "id": …}                 (the type may be missing)     a reference
    {"type": "image_generation_call", "id": …}          any type without its substance: a reference too
    {"type": "reasoning", "id": …, "summary": […]}      without `encrypted_content`: its text is looked up

Reasoning that nobody here may have looked up is left out, not refused: clients send the items of their whole history,
and one without its reasoning is as good. What was said after it loses its id with it, since OpenAI refuses an item that
it knows to have followed reasoning ("was provided without its required 'reasoning' item"). It refuses reasoning with
`content` too, which other upstreams read it from: in neither case is anything looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..envelope import Envelope
from ..settings import KIB

# An id of an item that we made: the response's own random part, then the item's place.
OURS = re.compile(r"[a-z_]{2,40}_([0-9a-f]{48})i?[0-9a-f]{2,}")

# A reference has an id.
MARKS = (b'"id"', b"\\u")

SMALL = 8 * KIB  # from here on, looking for the marks costs more than reading what kind of items there are

# Types whose items no upstream takes without their substance.
WHOLE = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})

# Members that tell which item it is, and not what is in it.
ABOUT = frozenset({"id", "type", "status"})

EMPTY = (b"", b"null", b'""', b"[]", b"{}")

REFERENCE, REASONING = False, True
"""What an id in the input stands for; whether it may be left out."""

NOTHING = msgspec.Raw(b"")


class Mention(msgspec.Struct):
    """An item as far as it tells what it is; what is no text tells nothing."""

    type: Any = None
    role: Any = None
    id: Any = None
    content: msgspec.Raw = NOTHING
    encrypted_content: msgspec.Raw = NOTHING


_mentions = msgspec.json.Decoder(list[Mention]).decode
_mention = msgspec.json.Decoder(Mention).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def references(envelope: Envelope) -> dict[str, bool]:
    """The ids that the items of the input refer to, in order, each with whether it may be left out."""
    raw = envelope.members.get("input")
    if raw is None or (data := bytes(raw))[:1] != b"[":
        return {}
    if len(data) < SMALL and not any(mark in data for mark in MARKS):
        return {}
    try:
        return _told(data, _mentions(data))
    except msgspec.ValidationError:
        return _told_one_by_one(data)  # among the items is one that is none: whoever reads it will say so
    except (msgspec.MsgspecError, RecursionError):
        return {}


def without(raw: bytes, ids: Iterable[str]) -> bytes:
    """The input *raw* without the reasoning that *ids* name, nor the ids of what its response said after it; every
    other item as it was, byte for byte."""
    gone, kept, behind = {*ids}, [], False
    for item in map(bytes, _raws(raw)):
        if not _told_one_by_one(b"[%b]" % item).keys().isdisjoint(gone):
            behind = True
            continue
        behind = behind and not _is_clients(item)
        kept.append(_nameless(item) if behind else item)
    return b"[" + b",".join(kept) + b"]"


def is_reference(item: Mapping[str, Any]) -> bool:
    """Whether *item* stands for another one."""
    type = item.get("type")
    if type == "item_reference" or (type is None and item.get("role") is None):
        return True
    may_be = type is not None and str(type) not in WHOLE and type != "reasoning" and isinstance(item.get("id"), str)
    return may_be and not any(value for name, value in item.items() if name not in ABOUT)


def response_of(item_id: str) -> str | None:
    """The response that an item of ours came with, None where the id is not one that we make."""
    match = OURS.fullmatch(item_id)
    return None if match is None else f"resp_{match[1]}"


def _told(data: bytes, mentions: list[Mention]) -> dict[str, bool]:
    raws: list[msgspec.Raw] = []
    found: dict[str, bool] = {}
    for number, one in enumerate(mentions):
        type = str(one.type) if one.type is not None else None
        if not isinstance(one.id, str) or type in WHOLE or (type is None and one.role is not None):
            continue
        if type == "reasoning":
            if _is_empty(one.encrypted_content) and _is_empty(one.content):
                found.setdefault(one.id, REASONING)
            continue
        if type not in (None, "item_reference"):
            raws = raws or _raws(data)
            if not _is_bare(raws[number]):
                continue
        found[one.id] = REFERENCE
    return found


def _told_one_by_one(data: bytes) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for raw in _raws(data):
        try:
            told = _told(b"[%b]" % raw, [_mention(raw)])
        except msgspec.ValidationError:
            continue
        found |= {id: found.get(id, True) and may_go for id, may_go in told.items()}
    return found


def _is_clients(item: bytes) -> bool:
    """Whether *item* is the client's own word, and so begins something new."""
    try:
        one = _mention(item)
    except msgspec.ValidationError:
        return True
    return one.role in ("user", "system", "developer") or str(one.type).endswith("_output")


def _nameless(item: bytes) -> bytes:
    """*item* without its id, where an upstream takes it so."""
    members = _members(item)
    if str(_mention(item).type or "message") not in WHOLE or members.pop("id", None) is None:
        return item
    return msgspec.json.encode(members)


def _is_bare(raw: msgspec.Raw) -> bool:
    return all(_is_empty(value) for name, value in _members(raw).items() if name not in ABOUT)


def _is_empty(raw: msgspec.Raw) -> bool:
    data = bytes(raw)
    return data in EMPTY or (data[:1] in (b"[", b"{") and data[1:-1].isspace())
