"""Reads the members of a large JSON object in pieces, so that no step of it takes long.

The parser reads a text from its beginning to its end in one step, and is slower by ten times where it cannot foresee
the next byte. But a piece of a text is a text of its own once the brackets that are open around it stand around it:

    {"a": [1, {"b": "some te|xt"}], "c": 2}     is read as     {"a": [1, {"b": "some te"}]}
                                                and as         {"": [{"": "xt"}], "c": 2}

A text may be cut inside a string, but not inside an escape, and behind a comma or a bracket outside strings; what is
put in for the missing part makes a piece valid if, and only if, the text is. Between two such places there can only be
a string, a number, white space, or what is no JSON; what a number or white space has more than a window of is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from operator import call
from typing import NamedTuple

import msgspec

from ..settings import MIB
from .json_scan import UNREADABLE, Encoding, Scan, Unreadable, check_utf8, unescaped, window_of, windows

Members = dict[str, msgspec.Raw]

SMALL = MIB
"""Bytes that are not looked at window by window, since whatever they hold costs little."""
STEP = 8 * MIB
"""Bytes that the parser may pass over in one step: the worst of them take it 3 ns each."""

BLANK = b" \t\n\r"
NUMBER = b"0123456789+-.eE"
STRING, COMMA, BEGINNING, END = b'"', b",", b"", b"end"
OPENED = (b"{", b"[")
MARKS = (COMMA, *OPENED, b"}", b"]")
CLOSING = bytes.maketrans(b"{[", b"}]")
NAMED = b'{"":'
JOINTS = {STRING: b'"', COMMA: b"0,", b"}": b"0", b"]": b"0"}
"""What stands for the text before a piece, by what it begins behind."""

HIGH_SURROGATES = (b"d8", b"d9", b"da", b"db")
RUNS = re.compile(rb"[\[{]+|[\]}]+")
PLACE = re.compile(r" *\(byte (\d+)\)")

MOST_QUOTES = 6
"""Between more than three strings there is a place to cut."""
MOST_WINDOWS = 16
"""More of them than any number or white space touches, where those that they fill are left out."""


def read_object(data: bytes, *, depth: int, values: int, most: int) -> Generator[None, None, Found]:
    """Returns the top-level members of a JSON object, their values as bytes, read a window at each step.

    It may have *most* members and *values* commas and opening brackets; a scan, where one was needed, says
    whether it is deeper than *depth* levels, and how many commas stand in at most two.

    :raises Unreadable: it is not one JSON object in UTF-8 (RFC 8259), is nested too deeply to read, or is too much.
    """
    if len(data) <= min(SMALL, values):
        if not data.isascii():
            check_utf8(data)
        members = read_at_once(data)
        if len(members) > most:
            raise too_many(most, "members")
        return Found(members, None)
    if len(data) > STEP:
        pieces = Pieces(data, depth=depth, values=values, most=most)
        yield from pieces.read()
        return Found(pieces.members, pieces.scan)
    scan, encoding = Scan(depth, (1, 2), most), Encoding()
    for window in windows(data):
        encoding.feed(window)
        scan.feed(window)
        if scan.values > values:
            raise too_many(values, "values")
        if scan.commas[1] >= most:
            raise too_many(most, "members")
        yield
    encoding.feed(b"", final=True)
    return Found(read_at_once(data), scan)


def read_at_once(data: bytes) -> Members:
    """Returns the members of a JSON object whose encoding has been checked.

    :raises Unreadable: it is not one, or nested too deeply to read.
    """
    try:
        return _members(data)
    except UNREADABLE as error:
        raise unreadable(error, len(data)) from None


def unreadable(error: Exception, end: int, place: Callable[[int], int] | None = None) -> Unreadable:
    """Returns the parser's *error* in a text of *end* bytes as our own. *place* maps a place in what it read."""
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, RecursionError):
        return Unreadable("it is nested too deeply.")
    if end == 0:
        return Unreadable('it is empty (byte 0). Send an object, such as {"model": "...", "input": "..."}.')
    found = PLACE.search(str(error))
    at = end if found is None else int(found[1])
    return Unreadable(f"{PLACE.sub('', str(error))} (byte {at if found is None or place is None else place(at)}).")


def too_many(limit: int, what: str) -> Unreadable:
    """Returns the error for a body of too many values."""
    return Unreadable(f"it has more than {limit} {what}.")


class Name(str):
    """A member's name that equals itself alone, so that a dict keeps two members of one name, in order."""

    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Nested(Scan):
    """A scan that knows which brackets are open."""

    def __init__(self, limit: int, levels: tuple[int, ...], most: int) -> None:
        super().__init__(limit, levels, most)
        self.open = bytearray()

    def add(self, found: bytes) -> None:
        """Adds bytes *found* between strings, and counts the brackets in them."""
        super().add(found)
        brackets = found.translate(None, b",")
        for _ in range(4):  # most pairs enclose nothing but pairs
            brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        for run in RUNS.findall(brackets):
            if run[0] in b"[{":
                self.open += run
            else:
                del self.open[-len(run) :]


_members = msgspec.json.Decoder(Members).decode
# `call` makes a Name of a str without a step of Python's.
_apart = msgspec.json.Decoder(dict[Name, msgspec.Raw], dec_hook=call).decode


class Found(NamedTuple):
    """The *members* of an object, and the *scan* of it, if there had to be one."""

    members: Members
    scan: Scan | None


class Pieces:
    """Reads *data*: at most *values* commas and opening brackets outside strings, and at most *most* members.

    What it has read stands in `members`, and what it has counted in `scan`.
    """

    def __init__(self, data: bytes, *, depth: int, values: int, most: int, window: int = 0) -> None:
        self.data = data
        self.values = values
        self.most = most
        self.window = window or window_of(len(data))
        self.scan = Nested(depth, (1, 2), most)
        self.encoding = Encoding()
        self.members: Members = {}
        self.begun: tuple[str, int] | None = None
        """The member whose value has begun and not ended, and where."""
        self.at = 0
        self.text = b""
        self.mark = BEGINNING
        """Where the piece at hand begins, its text, and behind what it begins."""
        self.left_out: list[tuple[int, int]] = []
        """Where in that text bytes of the data are left out, and how many."""

    def read(self) -> Generator[None, None, None]:
        """Reads all of it, a window at each step.

        :raises Unreadable: it is not one JSON object in UTF-8, or more of one than may be.
        """
        while self.mark != END:
            plain, mark = yield from self._next()
            before = beginning(bytes(self.scan.open), self.mark)
            self.scan.count(plain)
            after = ending(bytes(self.scan.open), mark)
            end = self._place(len(plain))
            if self.scan.values > self.values:
                raise too_many(self.values, "values")
            self._keep(before, self.text[: len(plain)], after, mark)
            if len(self.members) > self.most:
                raise too_many(self.most, "members")
            self.at, self.mark = end, mark
            yield

    # Where to cut...

    def _next(self) -> Generator[None, None, tuple[bytes, bytes]]:
        """Loads the next piece: it, with nothing escaped in it, and the mark that it ends with.

        :raises Unreadable: the JSON is malformed.
        """
        self.text, self.left_out, end = b"", [], self.at
        names = self.mark in (COMMA, b"{") and self.scan.open.endswith(b"{")
        for _ in range(MOST_WINDOWS):
            end = self._load(end)
            plain = unescaped(self.text)
            if end == len(self.data):
                return plain, END
            found = place_to_cut(plain, self.scan.inside, names)
            if found is not None:
                return plain[: found[0]], found[1]
            if plain.count(STRING) > MOST_QUOTES:
                break
            yield
            if not ends_inside(plain, self.scan.inside):
                end = yield from self._leave_out(end)
        raise Unreadable(f"JSON is malformed (byte {self.at}).")

    def _load(self, start: int) -> int:
        window = self.data[start : start + self.window]
        end = start + len(window)
        self.encoding.feed(window[self.encoding.at - start :], final=end == len(self.data))
        self.text = self.text + window if self.text else window
        return end

    def _leave_out(self, end: int) -> Generator[None, None, int]:
        """Passes over the windows behind *end* that continue a number, or white space: where they end."""
        while len(window := self.data[end : end + self.window]) == self.window:
            number = self.text[-2:].isdigit() and window.isdigit()  # two, or a leading zero would pass
            if not number and (self.text[-1:] not in BLANK or window.strip(BLANK)):
                break
            self.encoding.feed(window)
            self.left_out.append((len(self.text), len(window)))
            end += len(window)
            yield
        return end

    def _place(self, at: int) -> int:
        """Where in the data the place *at* of the piece is."""
        return self.at + at + sum(count for place, count in self.left_out if place <= at)

    # What is in a piece...

    def _keep(self, before: bytes, piece: bytes, after: bytes, mark: bytes) -> None:
        text = before + piece + after
        found = self._read(text, len(before))
        depth = len(self.scan.open)
        is_between = depth == 0 or (depth == 1 and mark == COMMA)  # members, or behind all of them
        rest = found.pop(0)[1] if before.startswith(NAMED) else None
        if depth == 1 and mark == COMMA:
            found.pop()  # it stands for the members to come
        if self.begun is not None and rest is not None and (found or is_between):
            name, start = self.begun
            end = self._place(len(NAMED) + len(rest) - len(before))
            self.members[name] = self._raw(start, end)
            self.begun = None
        if found and not is_between:
            key, head = found.pop()
            self.begun = str(key), self._place(len(text) - 1 - len(head) - len(before))
        if self.left_out and found and before in (NAMED + JOINTS[COMMA], b"{"):  # else they are of a value within one
            found[0] = found[0][0], self._whole_number(text, len(before), found[0][1])
        self.members.update((str(key), value) for key, value in found)

    def _whole_number(self, text: bytes, before: int, value: msgspec.Raw) -> msgspec.Raw:
        """The first *value* of a piece, with all its digits if some are left out."""
        for place, _ in self.left_out:
            start = len(text[: before + place].rstrip(NUMBER)) - before
            if start < place:
                return self._raw(self._place(start), self._place(start + len(value)))
        return value

    def _raw(self, start: int, end: int) -> msgspec.Raw:
        return msgspec.Raw(memoryview(self.data)[start:end])

    def _read(self, text: bytes, before: int) -> list[tuple[Name, msgspec.Raw]]:
        """Returns the members in *text*, of which *before* bytes are ours.

        :raises Unreadable: the JSON is malformed; the place is one of the body.
        """
        try:
            return [*_apart(text).items()]
        except UNREADABLE as error:
            end = len(self.data)
            raise unreadable(error, end, lambda at: min(end, self._place(max(0, at - before)))) from None


def place_to_cut(plain: bytes, inside: bool, names: bool) -> tuple[int, bytes] | None:
    """Returns where a window may be cut, as far back as possible, and the mark before the cut; None where no place is
    found.

    *plain* has neither quotes nor backslashes that are escaped; *inside*: it begins inside a string; *names*: where it
    begins a member's name is due.
    """
    end = len(plain)
    if ends_inside(plain, inside):
        start = plain.rfind(STRING)
        before = plain[: max(start, 0)].rstrip(BLANK)[-1:]
        is_name = start >= 0 and (names if not before else before not in (b":", b"["))  # or may be one, behind a comma
        at = before_escape(plain)
        if not is_name and at > start + 1:
            return at, STRING
        end = max(start, 0)
    for _ in range(4):
        start = plain.rfind(STRING, 0, end) + 1
        if start == 0 and inside:
            return None
        place = max(plain.rfind(mark, start, end) for mark in MARKS)
        if place >= 0:
            return place + 1, plain[place : place + 1]
        end = plain.rfind(STRING, 0, max(start - 1, 0))  # where the string begins that ends there
        if end < 0:
            return None
    return None


def ends_inside(plain: bytes, inside: bool) -> bool:
    """Returns whether *plain* ends inside a string, where it begins *inside* one or not."""
    return inside != (STRING in plain and plain.count(STRING) % 2 == 1)


def before_escape(plain: bytes) -> int:
    """The end of *plain*, or the beginning of an escape, or of two that are one character, that may go on behind it."""
    at = plain.rfind(b"\\", max(0, len(plain) - 6))
    if at < 0:
        return len(plain)
    is_pair = at >= 6 and plain[at - 6 : at - 4] == b"\\u" and plain[at - 4 : at - 2].lower() in HIGH_SURROGATES
    return at - 6 if is_pair else at


def beginning(opened: bytes, mark: bytes) -> bytes:
    """What stands for the text before a piece: *opened* are the brackets that are open there."""
    if not opened:
        return b"" if mark == BEGINNING else b"{}"
    if mark in OPENED:
        return opened[:-1].replace(b"{", NAMED) + mark
    return opened.replace(b"{", NAMED) + JOINTS[mark]


def ending(opened: bytes, mark: bytes) -> bytes:
    """What stands for the text behind a piece."""
    if mark == END:
        return b""
    joint = STRING if mark == STRING else b""
    if mark == COMMA:
        joint = b'"":0' if opened.endswith(b"{") else b"0"
    return joint + opened[::-1].translate(CLOSING)
