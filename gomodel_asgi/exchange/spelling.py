"""Members that two parsers may read in two ways: such a body is refused, since what was examined must be what is read.

Some upstreams know names without regard to case (Go's `encoding/json`, which folds by Unicode's simple rules), some
take the first of two members of one name. At the top level the last of two is the one that is sent, and nothing else;
an element of a list of items goes on as it came, so there a name may stand only once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from operator import call

import msgspec
from msgspec import Raw

from ..envelope import Members, invalid_json
from ..errors import InvalidRequest
from .operations import BODY

ROUTING = frozenset({"model", "provider", "stream", "store", "background", "tools", "prompt"})
TOP = ROUTING | {*BODY.members, *BODY.items, *(member for member, _ in BODY.nested)}
FRAME = TOP | {"type", "stream_id", "generate"}
ITEM = frozenset({"type", "id", "role", "encrypted_content", "approval_request_id"})

OBJECT, ARRAY, QUOTE = b'{["'


class Name(str):
    """A member's name that equals itself alone, so that a dict keeps two members of one name."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


Item = dict[Name, Raw]
"""The members of an object, all of them, in order."""

# `call` makes a Name of a str without a step of Python's.
_items = msgspec.json.Decoder(list[Item], dec_hook=call).decode
_item = msgspec.json.Decoder(Item, dec_hook=call).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_string = msgspec.json.Decoder(str).decode


def check_names(members: Members, guarded: frozenset[str] = TOP) -> None:
    """Look at the top level of a body, or of a frame.

    :raises InvalidRequest: a *guarded* member is written in another case; `param` is it as written.
    """
    names = "".join(members)
    if names.isascii() and names.islower():
        return
    for name in members:
        if name not in guarded and name.casefold() in guarded:
            raise ambiguous(name, name)


def read_items(raw: Raw, member: str) -> list[Item | None]:
    """The elements of the list *raw*, the value of *member*; None for what is no object.

    :raises InvalidRequest: it cannot be examined, or a guarded member of an element is written in another case or
        stands there twice; `param` is its path, as written.
    """
    found: list[Item | None]
    with examined():
        try:
            found = [*_items(raw)]
        except msgspec.ValidationError:  # among the elements is one that is no object
            found = [_item(one) if first(one) == OBJECT else None for one in _raws(raw)]
    _check_items(found, member)
    return found


def elements(raw: Raw) -> list[Raw]:
    """The elements of the list *raw* as they came.

    :raises InvalidRequest: it cannot be examined.
    """
    with examined():
        return _raws(raw)


def member_of(raw: Raw, place: str, name: str) -> Raw | None:
    """The member *name* of the object *raw*, the value of *place*; None where there is none.

    :raises InvalidRequest: as `read_items`.
    """
    with examined():
        item = _item(raw)
    _check_once(item, frozenset({name}), place)
    return next((value for key, value in item.items() if str(key) == name), None)


def text_in(raw: Raw | None) -> str | None:
    """The text *raw*; None where it is something else.

    :raises InvalidRequest: it cannot be read.
    """
    if raw is None or first(raw) != QUOTE:
        return None
    with examined():
        return _string(raw)


def first(raw: Raw) -> int:
    """The first byte of a value, which tells its kind."""
    return memoryview(raw)[0]


@contextmanager
def examined() -> Generator[None, None, None]:
    """What cannot be read is refused.

    :raises InvalidRequest: 400, in place of the parser's exception.
    """
    try:
        yield
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid_json(f"{error}.") from None
    except RecursionError:
        raise invalid_json("it is nested too deeply.") from None


def _check_items(items: Iterable[Item | None], member: str) -> None:
    known: set[str] = set()
    for number, item in enumerate(items):
        if item is None:
            continue
        names = ",".join(item)  # most items of a body have the same few members
        if names not in known or names.count(",") != len(item) - 1:
            _check_once(item, ITEM, f"{member}[{number}]")
            known.add(names)


def _check_once(item: Item, guarded: frozenset[str], place: str) -> None:
    seen: set[str] = set()
    for name in map(str, item):
        if name in guarded or name.casefold() in guarded:
            if name not in guarded or name in seen:
                raise ambiguous(name, f"{place}.{name}")
            seen.add(name)


def ambiguous(name: str, param: str) -> InvalidRequest:
    """The 400 for a member that not every parser reads alike."""
    return InvalidRequest(
        f"'{name}' stands where it can be read in two ways; write it in lower case, and once.",
        code="invalid_parameter",
        param=param,
    )
