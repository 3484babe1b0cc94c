"""What a body mentions of earlier requests, beside what its policy may see, and which upstream may look it up.

No I/O: `Admission` finds in the store what is known of it, and notes it in `Referrals`."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from copy import copy
from typing import Any, Self

from msgspec import Raw, Struct, field

from ..errors import InvalidRequest
from ..operations import Body
from ..settings import LITTLE, MIB
from ..wire.ambiguity import ARRAY, MOST_MEMBERS, OBJECT, Item, elements, examined, first, member_of, reading, text_in
from ..wire.json_pieces import Members
from ..wire.json_scan import Unreadable, counted
from .compaction_item import begins_marked, is_marked
from .records import unknown_item
from .references import Reference, holds, may_be_nested, nested, references, slim

# Items of one request that may be references: each costs a look into the store.
MOST_REFERENCES = 1000

# Bytes and values of an item that are looked through for references below it, where there may be any: tens of
# milliseconds' work.
MOST_LOOKED_THROUGH = 8 * MIB
MOST_VALUES = 50_000
"""Values in one item of which a tree is built, on the event loop."""

# Items that are looked at in one step.
AT_ONCE = 1000

Lists = dict[str, list[Item | None]]


class Mentions(Struct, frozen=True):
    """*references* are those of the items, *others* responses by the path of the member that names them, *below* the
    ids of references that stand where no item can."""

    references: list[Reference] = field(default_factory=list)
    others: list[tuple[str, str | None]] = field(default_factory=list)
    below: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.references or self.others or self.below)


def lists_of(body: Body, members: Members, commas: int | None = None) -> Generator[None, None, Lists]:
    """The lists of items in a body that has at most so many *commas*, by member; see `reading`.

    :raises InvalidRequest: one of them cannot be examined, or can be read in two ways.
    """
    found: Lists = {}
    for name in body.items:
        if name in members and first(members[name]) == ARRAY:
            sparse = commas is not None and commas < MOST_MEMBERS
            found[name] = yield from reading(members[name], name, slim, sparse=sparse)
    return found


def marked(lists: Lists) -> list[str]:
    """The contents of the items that claim to be compaction items of ours. Text that speaks of their mark is text.

    :raises InvalidRequest: one of the items cannot be examined.
    """
    found = [_marked(item) for items in lists.values() for item in items if item is not None]
    return [content for content in found if content is not None]


def _marked(item: Item) -> str | None:
    shape, members = item
    if "encrypted_content" not in shape.at or "type" not in shape.at:
        return None
    values = [*members.values()]
    raw = values[shape.at["encrypted_content"]]  # megabytes, of which the first few bytes suffice
    content = text_in(raw) if begins_marked(raw) else None
    return content if content is not None and is_marked(text_in(values[shape.at["type"]]), content) else None


def mentions_of(
    body: Body, members: Members, raw: bytes, lists: Lists, *, strict: bool, tenants: bool = True
) -> Generator[None, None, Mentions]:
    """What the body *raw*, with *lists*, mentions; in steps. *strict*: the caller has a tenant; *tenants*: some may.

    :raises InvalidRequest: there is too much of it, or something stands where nobody can identify it.
    """
    found: list[Reference] = []
    for name, items in lists.items():
        for start in range(0, len(items), AT_ONCE):
            found += references(items[start : start + AT_ONCE], name, start)
            if start + AT_ONCE < len(items):
                yield
    alone = [(name, members[name]) for name in body.items if name in members and first(members[name]) == OBJECT]
    for name, value in alone:
        found += yield from _references_alone(name, value)
    if len(found) > MOST_REFERENCES:
        raise InvalidRequest(f"'input' refers to more than {MOST_REFERENCES} stored items.", param="input")
    if tenants:
        _check_elements(members, lists)
    below: list[str] = []
    if (lists or alone) and tenants and (yield from may_be_nested(raw)):
        below = yield from _below(body, members, strict)
    return Mentions(found, _others(body, members), below)


def check_steer(body: Body, members: Members, raw: bytes) -> Generator[None, None, None]:
    """Refuses a steer that names anything but the response that it steers: it has the user's input, and no more (API
    reference, `response.steer`). It goes on as it came, past all that could resolve a name.

    :raises InvalidRequest: it names something, or cannot be examined.
    """
    for name in body.members:
        if name in members and name != "previous_response_id" and bytes(members[name]) != b"null":
            raise InvalidRequest(f"A steer takes no '{name}'.", param=name, code="invalid_parameter")
    lists = yield from lists_of(body, members)
    mentions = yield from mentions_of(body, members, raw, lists, strict=True)
    if mentions.others:
        raise InvalidRequest("A steer names no other response.", param=mentions.others[0][0], code="invalid_parameter")
    if mentions:
        raise unknown_item()


def _references_alone(name: str, value: Raw) -> Generator[None, None, list[Reference]]:
    """What a single item, where there should be a list, refers to: it goes to who knows it, or nowhere."""
    items = yield from reading(Raw(b"[%b]" % bytes(value)), name, slim)
    return [Reference(name, 0, one.id, "approval") for one in references(items, name)]


def _check_elements(members: Members, lists: Lists) -> None:
    """A list in a list of items is none: nobody could say what in it an upstream would look up.

    :raises InvalidRequest: there is one.
    """
    for name, items in lists.items():
        for index, one in enumerate(elements(members[name]) if None in items else ()):
            if first(one) == ARRAY and holds(one):
                place = f"{name}[{index}]"
                raise InvalidRequest(f"'{place}' must be an item.", param=place, code="invalid_type")


def _others(body: Body, members: Members) -> list[tuple[str, str | None]]:
    found = []
    for name, below in body.nested:
        if name in members and first(members[name]) == OBJECT:
            raw = member_of(members[name], name, below)
            if raw is not None and bytes(raw) != b"null":
                found.append((f"{name}.{below}", text_in(raw)))
    return found


def _below(body: Body, members: Members, strict: bool) -> Generator[None, None, list[str]]:
    """Gives the ids that items of *members* refer to below their own level. *strict*: none may.

    :raises InvalidRequest: one does.
    """
    ids: list[str] = []
    since = 0
    given = [(name, members[name]) for name in body.items if name in members]
    for name, raw in given:
        for index, one in enumerate(elements(raw) if first(raw) == ARRAY else [raw]):
            place = f"{name}[{index}]"
            found = yield from _nested(bytes(one), place)
            since += len(one)
            if since > LITTLE:
                since = 0
                yield
            if found and strict:
                raise InvalidRequest(
                    f"An 'item_reference' stands below '{place}', where none can stand.",
                    param=place,
                    code="invalid_parameter",
                )
            ids += found
    return ids


def _nested(item: bytes, place: str) -> Generator[None, None, list[str]]:
    """Gives the ids to which references below *item* refer.

    :raises InvalidRequest: it is too large, or nested too deeply, to be looked through.
    """
    if item[0] not in (ARRAY, OBJECT) or not (yield from may_be_nested(item)):
        return []
    try:
        if len(item) > MOST_LOOKED_THROUGH:
            raise Unreadable("it is too large.")
        yield from counted(item, depth=len(item), values=MOST_VALUES)
    except Unreadable:
        message = f"'{place}' is too large to be examined."
        raise InvalidRequest(message, param=place, code="invalid_parameter") from None
    with examined():
        return nested(item)


# The items that a request refers to: which of them are known, and which upstream may look which up...

Json = dict[str, Any]
Warn = Callable[[Iterable[str]], None]


class Referred(Struct, frozen=True):
    """A stored item that an `item_reference` names. *item* is None where only the upstream account has its content."""

    item: Json | None
    account: str
    type: str


class Referrals:
    """What one request refers to. *trusted*: the caller has no tenant, so ids without a record may go upstream."""

    def __init__(self, *, trusted: bool, warn: Warn) -> None:
        self.trusted = trusted
        self.warn = warn
        self.references: list[Reference] = []
        self.known: dict[str, Referred] = {}
        """Those that are found in the store, by id."""
        self.foreign: dict[str, set[str]] = {}
        """Ids that are a tenant's, by upstream: no trusted caller's."""

    def without_approvals(self, answered: Container[str]) -> Self:
        """Returns the same without those that name one of *answered*."""
        made = copy(self)
        made.references = [one for one in self.references if one.kind != "approval" or one.id not in answered]
        return made

    @property
    def required(self) -> list[Reference]:
        """What may not be left out: all but reasoning."""
        return [one for one in self.references if one.kind != "reasoning"]

    def item(self, reference: Reference) -> Json | None:
        """Returns the item that *reference* stands for; None where its content is not known here."""
        found = self.known.get(reference.id)
        return found.item if found is not None and reference.kind == "item" else None

    def may_pass(self, id: str | None, upstream: str) -> bool:
        """Returns whether *id*, of which nothing is known, may go to *upstream*."""
        return self.trusted and id is not None and id not in self.foreign.get(upstream, ())

    def lies_at(self, reference: Reference, account: str, upstream: str) -> bool:
        """Returns whether *account* at *upstream* may look *reference* up."""
        found = self.known.get(reference.id)
        return self.may_pass(reference.id, upstream) if found is None else found.account == account

    def left_out(self, member: str, account: str, upstream: str) -> list[int]:
        """Returns the places of reasoning that *account* would look up, and that it has not issued for this tenant."""
        soft = [one for one in self.references if one.member == member and one.kind == "reasoning"]
        gone = [one.index for one in soft if not self.lies_at(one, account, upstream)]
        if gone:
            self.warn(["reasoning without its content: left out, since it is not known to lie at this provider"])
        return gone

    def resolved(self, reference: Reference, item: Json, account: str, upstream: str | None) -> Json:
        """Returns *item*, or what it stands for; a reference stays one at the *account* that knows it. *upstream* is
        None for one that looks nothing up.

        :raises InvalidRequest: it is known neither here nor there (404).
        """
        found, content = self.known.get(reference.id), self.item(reference)
        if found is not None and upstream is not None and account == found.account:
            return item
        if content is not None:
            return content
        if upstream is None or (found is None and self.may_pass(reference.id, upstream)):
            if reference.kind == "approval" or is_item(item):
                return item  # nobody looks it up: the upstream's dialect says what becomes of it
        raise unknown_item()


def is_item(item: Json) -> bool:
    """Returns whether *item* is one of its own, if an empty one."""
    return item.get("type") not in (None, "item_reference")
