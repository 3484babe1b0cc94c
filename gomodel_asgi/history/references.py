"""Which stored items a list of items refers to.

An upstream looks up what an item names by its id and does not bring along:

    {"type": "item_reference", "id": …}                 (the type may be missing)     a reference
    {"type": "image_generation_call", "id": …}          any type without its content: a reference too
    {"type": "reasoning", "id": …, "summary": […]}      without `encrypted_content`: its text is looked up
    {"type": "mcp_approval_response", "approval_request_id": …}                       names another item

One table has the members that are an item's content. Of a type that is not in it only an object or a list counts as
content, since an upstream passes over a member that it does not know.

Reasoning that nobody here may have looked up is left out, not refused: clients send the items of their whole history,
and one without its reasoning is as good. The items after it lose their ids with it, since OpenAI refuses an item that
followed reasoning ("was provided without its required 'reasoning' item"). It refuses reasoning with
`content` too, which other upstreams read it from: in neither case is anything looked up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw

from ..settings import KIB, MIB
from ..wire.ambiguity import ARRAY, OBJECT, QUOTE, Item, Shape, first, read_items, text_in
from ..wire.json_pieces import Members, Name

# An id of an item that we made: the response's own random part, then the item's place.
OURS = re.compile(r"[a-z_]{2,40}_([0-9a-f]{48})i?[0-9a-f]{2,}")

Kind = Literal["item", "reasoning", "approval"]
"""What a reference stands for: an item; reasoning, which may be left out; an approval, which only its issuer knows."""

REFERENCE = "item_reference"
CONTENT: dict[str, tuple[str, ...]] = {
    "message": ("content",),
    "function_call": ("arguments",),
    "custom_tool_call": ("input",),
    "image_generation_call": ("result",),
    "reasoning": ("encrypted_content", "content"),
    "compaction": ("encrypted_content",),
    "web_search_call": ("action",),
    "file_search_call": ("queries",),
    "code_interpreter_call": ("code",),
    "computer_call": ("action", "actions"),
    "local_shell_call": ("action",),
    "shell_call": ("action",),
    "mcp_call": ("output", "error"),
    "mcp_approval_request": ("arguments",),
    "program": ("code",),
    "program_output": ("result",),
    "tool_search_output": ("tools",),
}
"""The members of which one must hold something, by type; of any other `…_output` it is `output`."""

PLAIN = {b'"%s"' % type.encode(): names[0] for type, names in CONTENT.items() if type != "message"} | {
    b'"function_call_output"': "output",
    b'"message"': "content",
}
"""One of them, by the type as it is mostly written."""

# Members that identify an item, and are not its content.
ABOUT = frozenset({"id", "type", "status", "role", "phase"})
TOLD = frozenset({*ABOUT, *(name for names in CONTENT.values() for name in names)})

# Items that are known whole without an id, and what they are then.
CARRIED = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})

EMPTY = re.compile(rb"[\[{][ \t\r\n]*[\]}]")
NULL = ord("n")

# Bytes of an id that may be one, however it is spelled: 512 characters (`keys.valid_id`).
LONGEST_ID = 4 * KIB

# Bytes that are looked at in one step.
STEP = 8 * MIB

SPOKEN = REFERENCE.encode()
# Letters that are escaped, as no encoder writes them; what was escaped before it became part of a text looks the same.
ESCAPE = b"\\u00"
ESCAPED = re.compile(rb"\\u00(?:4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])")

_members = msgspec.json.Decoder(Members).decode
_raws = msgspec.json.Decoder(list[Raw]).decode


class Reference(msgspec.Struct, frozen=True):
    """What the element *index* of the list in *member* names: *id*, "" where that is none that anybody was given."""

    member: str
    index: int
    id: str
    kind: Kind


def references(items: Iterable[Item | None], member: str, start: int = 0) -> list[Reference]:
    """Returns what *items*, the elements of *member* from the place *start* on, refer to, in order."""
    found: list[Reference] = []
    for index, item in enumerate(items, start):
        if item is None:
            continue
        at = item[0].at
        if "approval_request_id" in at or ("id" in at and not _is_plainly_whole(item)):
            found += _references(_members_of(item), member, index)
    return found


def slim(item: Item) -> Item:
    """Returns what of *item* may refer to something, or be a compaction item."""
    members = _members_of(item)
    kinds = {one.kind for one in _references(members, "", 0)}
    named = {"id": kinds - {"approval"}, "approval_request_id": "approval" in kinds, "encrypted_content": True}
    names = [name for name, is_needed in named.items() if is_needed and name in members]
    if names:
        names += [name for name in ("type", "role", "approve") if name in members]
    at = {name: place for place, name in enumerate(names)}
    return Shape(tuple(names), at, plain=True), {Name(name): members[name] for name in names}


def _is_plainly_whole(item: Item) -> bool:
    """Returns whether *item* plainly brings its content, as nearly all with an id do."""
    shape, members = item
    if not shape.plain or "type" not in shape.at:
        return False
    values = [*members.values()]
    name = PLAIN.get(bytes(values[shape.at["type"]]))
    return name in shape.at and holds(values[shape.at[name]])


def only_named(output: Raw) -> list[str]:
    """Returns the ids of those items of a response's *output* that a client can give back by their ids alone.

    :raises InvalidRequest: they cannot be read, or can be read in two ways.
    """
    items = read_items(output, "output")
    ids = [one.id for one in references(items, "output") if one.kind == "item" and one.id]
    return ids + [id for item in items if item is not None and (id := _approval(item))]


def may_be_nested(raw: bytes) -> Generator[None, None, bool]:
    """Returns whether anywhere in the JSON *raw* an `item_reference` may be spoken of, however it is spelled."""
    for start in range(0, len(raw), STEP):
        end = start + STEP + len(SPOKEN)
        if raw.find(SPOKEN, start, end) >= 0:
            return True
        if raw.find(ESCAPE, start, end) >= 0 and ESCAPED.search(raw, start, end) is not None:
            return True
        if end < len(raw):
            yield
    return False


def nested(item: bytes) -> list[str]:
    """Returns the ids of `item_reference`s below *item* (JSON, an object or a list), where no API has any.

    :raises RecursionError: it is nested too deeply.
    """
    below: list[str] = []
    last: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        below.extend(last)  # objects end from the inside out, so that the item itself is the last one
        types = {_plain(value) for name, value in pairs if name.casefold() == "type" and isinstance(value, str)}
        last[:] = [str(value) for name, value in pairs if name.casefold() == "id"] if REFERENCE in types else []

    json.loads(item, object_pairs_hook=look, parse_int=str, parse_float=str, parse_constant=str)
    return below if item[0] == OBJECT else below + last


def without(raw: bytes, gone: Sequence[int]) -> bytes:
    """Returns the list *raw* without the reasoning at the places *gone*, nor the ids of what its response said after
    it; every other item as it was, byte for byte."""
    kept, behind = [], False
    for index, item in enumerate(map(bytes, _raws(raw))):
        if index in gone:
            behind = True
            continue
        behind = behind and not _is_clients(item)
        kept.append(_nameless(item) if behind else item)
    return b"[" + b",".join(kept) + b"]"


def response_of(item_id: str) -> str | None:
    """Returns the response that an item of ours came with, None where the id is not one that we make."""
    match = OURS.fullmatch(item_id)
    return None if match is None else f"resp_{match[1]}"


def _is_clients(item: bytes) -> bool:
    """Returns whether *item* is the client's own, and so begins something new."""
    if item[0] != OBJECT:
        return True
    members = _members(item)
    return text_in(members.get("role")) in ("user", "system", "developer") or (_type(members) or "").endswith("_output")


def _nameless(item: bytes) -> bytes:
    """*item* without its id, where an upstream takes it so."""
    members = _members(item)
    type = text_in(members.get("type")) or "message"
    if type not in CARRIED or members.pop("id", None) is None:
        return item
    return msgspec.json.encode(members)


# One item...


def _approval(item: Item) -> str | None:
    """The id of an item that asks for an approval, which answers name."""
    members = _members_of(item)
    return text_in(members.get("id")) if text_in(members.get("type")) == "mcp_approval_request" else None


def _members_of(item: Item) -> Members:
    """The members of *item*. Of what stands twice, or in another case too, the emptiest: some upstream takes that."""
    shape, members = item
    if shape.plain:
        return dict(zip(shape.names, members.values(), strict=True))
    first_ones: Members = {}
    for name, value in zip(shape.names, members.values(), strict=True):
        folded = name.casefold()
        name = folded if folded in TOLD else name
        if name not in first_ones or not holds(value):
            first_ones[name] = value
    return first_ones


def _references(members: Members, member: str, index: int) -> Iterable[Reference]:
    if "id" in members and (kind := _kind(members)) is not None:
        yield Reference(member, index, _id(members["id"]), kind)
    if "approval_request_id" in members and not _is_null(members["approval_request_id"]):
        yield Reference(member, index, _id(members["approval_request_id"]), "approval")


def _kind(members: Members) -> Kind | None:
    """Returns what the id of an item stands for; None where the item brings its own content."""
    type = _type(members)
    if type == REFERENCE:
        return "item"
    if _is_null(members["id"]):
        return None
    if type == "reasoning":
        return None if _has(members, CONTENT[type]) else "reasoning"
    return None if _is_whole(type, members) else "item"


def _is_whole(type: str | None, members: Members) -> bool:
    names = CONTENT.get(type or "")
    if names is None and type is not None and type.endswith("_output"):
        names = ("output",)
    if type == "mcp_approval_response":
        return "approve" in members
    if names is None:
        return any(first(value) != QUOTE and holds(value) for name, value in members.items() if name not in ABOUT)
    content = members.get("content")
    if type == "message" and content is not None and first(content) == ARRAY:
        return text_in(members.get("role")) != "assistant" or _has(members, names)
    return _has(members, names)


def _type(members: Members) -> str | None:
    """The item's type; None where it has none that is text."""
    if "type" not in members or _is_null(members["type"]):
        return REFERENCE if "role" not in members or _is_null(members["role"]) else "message"
    type = text_in(members["type"])
    return type if type is None or type in CONTENT else _plain(type)


def _plain(type: str) -> str:
    return type.strip().casefold()


def _has(members: Members, names: Iterable[str]) -> bool:
    return any(name in members and holds(members[name]) for name in names)


# One value...


def holds(value: Raw) -> bool:
    """Returns whether *value* is text, a list or an object, and not an empty one."""
    view = memoryview(value)
    if view[0] == QUOTE:
        return len(view) > 2
    return view[0] in (ARRAY, OBJECT) and EMPTY.fullmatch(view) is None


def _is_null(value: Raw) -> bool:
    return first(value) == NULL


def _id(value: Raw) -> str:
    return (text_in(value) or "") if len(value) <= LONGEST_ID else ""
