"""Members that two parsers may read in two ways: such a body is refused, since what was examined must be what is read.

Some upstreams know names without regard to case (Go's `encoding/json`, which folds by Unicode's simple rules), some
take the first of two members of one name. At the top level the last of two is the one that is sent, and nothing else;
an element of a list of items goes on as it came, so there a name may stand only once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from operator import call

import msgspec
from msgspec import Raw, Struct

from ..errors import InvalidRequest
from ..operations import BODY, Body
from ..settings import LITTLE
from .json_body import invalid_json
from .json_pieces import SMALL, Members, Name
from .json_scan import Scan, may_exceed, windows

ROUTING = frozenset({"model", "provider", "stream", "store", "background", "tools", "prompt"})
TOP = ROUTING | {*BODY.members, *BODY.items, *(member for member, _ in BODY.nested)}
FRAME = TOP | {"type", "stream_id", "generate"}
ITEM = frozenset({"type", "id", "role", "encrypted_content", "approval_request_id"})
NAMING = frozenset({"id", "encrypted_content", "approval_request_id"})
"""The members without one of which an item stands for no other and bears no mark."""

OBJECT, ARRAY, QUOTE = b'{["'


All = dict[Name, Raw]
"""The members of an object, all of them, in order."""


class Shape(Struct, frozen=True):
    """The *names* of an item's members, in order, and the place *at* which each stands; *plain* if each stands once and
    in lower case."""

    names: tuple[str, ...]
    at: dict[str, int]
    plain: bool


_shapes: dict[str, Shape] = {}
MOST_KEPT, LONGEST_KEPT = 1024, 256
"""Shapes that are kept, whoever sent the items, and the characters of all names of one: half a megabyte at the most."""

MOST_MEMBERS = 10_000
"""Of an element of a list, as of the body."""

Item = tuple[Shape, All]
"""An element of a list, which most items of the list have the shape of."""

# `call` makes a Name of a str without a step of Python's.
_items = msgspec.json.Decoder(list[All], dec_hook=call).decode
_item = msgspec.json.Decoder(All, dec_hook=call).decode
_raws = msgspec.json.Decoder(list[Raw]).decode
_string = msgspec.json.Decoder(str).decode


def brings(body: Body, members: Members) -> bool:
    """Returns whether a body has anything that may mention something; most have not."""
    for name in body.items:
        if name in members and memoryview(members[name])[0] in (ARRAY, OBJECT):
            return True
    for name, _ in body.nested:
        if name in members:
            return True
    return False


def check_names(members: Members, guarded: frozenset[str] = TOP) -> None:
    """Looks at the top level of a body, or of a frame.

    :raises InvalidRequest: a *guarded* member is written in another case; `param` is it as written.
    """
    names = "".join(members)
    if names.isascii() and names.islower():
        return
    for name in members:
        if name not in guarded and name.casefold() in guarded:
            raise ambiguous(name, name)


def read_items(raw: Raw, member: str) -> list[Item | None]:
    """Returns the elements of the list *raw*, the value of *member*; None for each that is no object.

    :raises InvalidRequest: it cannot be examined, or a guarded member of an element is written in another case or
        stands there twice; `param` is its path, as written.
    """
    return _shaped(_decoded(raw), member)


def _decoded(raw: Raw) -> Sequence[All | None]:
    try:
        return _items(raw)
    except (msgspec.MsgspecError, RecursionError):
        with examined():  # among the elements is one that is no object, or that cannot be read
            return [_item(one) if first(one) == OBJECT else None for one in _raws(raw)]


def _shaped(decoded: Sequence[All | None], member: str) -> list[Item | None]:
    found: list[Item | None] = []
    for number, members in enumerate(decoded):
        found.append(None if members is None else (_shape(members, member, number), members))
    return found


def _shape(members: All, member: str, number: int) -> Shape:
    written = ",".join(members)
    shape = _shapes.get(written)
    if shape is None or len(shape.names) != len(members):  # names may have commas in them
        shape = _shape_of(members, f"{member}[{number}]")
        if written.count(",") == len(members) - 1 and len(written) <= LONGEST_KEPT:
            _keep(written, shape)
    return shape


def _name_nothing(decoded: Sequence[All | None]) -> bool:
    """Returns whether none of the elements has a name that makes it stand for something, without a step for each:
    most have the members of one that has been looked at."""
    if None in decoded:
        return False
    kinds = {*zip(map(",".join, decoded), map(len, decoded), strict=True)}  # type: ignore[arg-type]
    for written, count in kinds:
        shape = _shapes.get(written)
        if shape is None or len(shape.names) != count or not NAMING.isdisjoint(shape.names):
            return False
    return True


def reading(
    raw: Raw, member: str, slim: Callable[[Item], Item], *, sparse: bool = False
) -> Generator[None, None, list[Item | None]]:
    """Those elements of a list that may stand for something or bear a mark, in steps where *raw* is large: of each what
    *slim* leaves of it, since members take forty times as much memory as their text. None at all where no element has a
    name that could. *sparse*: it is known to have fewer commas than `MOST_MEMBERS`.

    :raises InvalidRequest: as `read_items`, or an element has more than `MOST_MEMBERS`.
    """
    few = sparse or len(raw) <= LITTLE
    if few or (len(raw) <= SMALL and not may_exceed(bytes(raw), b":", MOST_MEMBERS)):
        decoded = _decoded(raw)
        return [] if _name_nothing(decoded) else _shaped(decoded, member)
    found: list[Item | None] = []
    since = 0
    for number, one in enumerate(elements(raw)):
        item = None
        if first(one) == OBJECT:
            if len(one) > LITTLE:
                yield from _check_members(one, f"{member}[{number}]")
            with examined():
                members = _item(one)
            item = slim((_shape(members, member, number), members))
        found.append(item)
        since += len(one)
        if since > LITTLE:
            since = 0
            yield
    return found


def _check_members(raw: Raw, place: str) -> Generator[None, None, None]:
    """Checks that *raw*, an object, has few enough members to be looked at.

    :raises InvalidRequest: it has more.
    """
    commas = 0
    for window in windows(memoryview(raw)):
        commas += window.count(b",")
        yield
    if commas < MOST_MEMBERS:
        return
    scan = Scan(len(raw), (1,), MOST_MEMBERS)
    for window in windows(memoryview(raw)):
        scan.feed(window)
        if scan.commas[1] >= MOST_MEMBERS:
            raise InvalidRequest(f"'{place}' has more than {MOST_MEMBERS} members.", param=place, code="invalid_json")
        yield


def _keep(written: str, shape: Shape) -> None:
    if len(_shapes) >= MOST_KEPT:
        _shapes.clear()
    _shapes[written] = shape


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
        members = _item(raw)
    _check_once(map(str, members), frozenset({name}), place)
    return next((value for key, value in members.items() if str(key) == name), None)


def text_in(raw: Raw | None) -> str | None:
    """The text *raw*; None where it is something else.

    :raises InvalidRequest: it cannot be read.
    """
    if raw is None or first(raw) != QUOTE:
        return None
    try:
        return _string(raw)
    except msgspec.MsgspecError as error:
        raise invalid_json(f"{error}.") from None


def first(raw: Raw) -> int:
    """Returns the first byte of a value, which says its kind."""
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


def _shape_of(members: All, place: str) -> Shape:
    names = tuple(map(str, members))
    _check_once(names, ITEM, place)
    at = {name: number for number, name in enumerate(names)}
    return Shape(names, at, len(at) == len(names) and all(map(str.islower, names)))


def _check_once(names: Iterable[str], guarded: frozenset[str], place: str) -> None:
    """Checks that each of the *guarded* names is written as such, and once.

    :raises InvalidRequest: parsers could differ on which one counts.
    """
    seen: set[str] = set()
    for name in names:
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
