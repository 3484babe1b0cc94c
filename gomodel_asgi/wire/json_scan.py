"""Counts what a JSON text holds, window by window, without reading it: its depth, its values, its commas.

No loop of Python's goes over bytes, and no window costs much more than another, whatever is in it: by a regular
expression one of nothing but brackets costs a thousand times as much as one of plain text. What is left of a window,
its structural characters outside strings, is summed up at once. Each is a lane of 16 bits in one large integer, and
adding that to itself, moved by 1, 2, 4 … lanes, gives the sum from the first lane to each.

What is no JSON is counted somehow; whoever reads the text will say so.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Generator, Iterator
from math import isinf
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

WINDOW = 64 * 1024
"""Bytes that are looked at in one step, at most."""
SHARE = 64
"""A window is at most this part of its text, so that what is copied of it is little beside the text itself."""

SLICE = 4 * 1024
"""Structural characters that are summed up at a time: each takes up to 24 bytes of memory meanwhile."""

FLAT = 1024
"""Bytes of JSON that no code must be spared, nested as deeply as can be: a level takes two."""

OTHER = bytes(set(range(256)) - set(b'"[]{},'))
PLAIN = bytes(set(OTHER) - set(b"\\/bfnrtu"))  # what can neither begin an escape nor be escaped
ONE_KIND = bytes.maketrans(b"{}", b"[]")

ESCAPED = re.compile(rb'\\[\\"]')
FEW = 48
"""One backslash in so many bytes: from there on the expression costs more than two passes without one."""

LANE = 16
"""Bits in which the depth at one byte is counted, all of a slice in one long integer."""
HIGH = LANE - 1  # the highest bit of a lane, which no sum reaches
STEPS = bytes({ord("["): 2, ord("]"): 0}.get(char, 1) for char in range(256))  # 1 above what it adds to the depth
COMMAS = bytes(char == ord(",") for char in range(256))


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the parser raises of JSON that it cannot read."""


class Unreadable(ValueError):
    """A text that is no JSON, or more than may be parsed; the message says why, and where."""


def lanes(values: bytes) -> int:
    """*values*, each in a lane of its own, the first one highest."""
    return int.from_bytes(values.decode("latin-1").encode("utf-16-be"), "big")


ONES = lanes(b"\1" * SLICE)
RAMP = sum(place << (LANE * place) for place in range(SLICE))
"""Makes of sums of `STEPS` the depth at each place, `SLICE` above what it is, so that none is negative."""


def window_of(size: int) -> int:
    """Returns how many bytes a window into a text of *size* bytes has."""
    return min(WINDOW, max(SLICE, size // SHARE))


class Scan:
    """What has been counted, and what must be known at a window's end to go on with the next.

    A text deeper than *limit* levels is `deep`. Commas are counted apart for each of *levels*, those that stand in at
    most so many of them, until there are more than *most*.
    """

    def __init__(self, limit: int, levels: tuple[int, ...] = (), most: int = 0) -> None:
        self.limit = limit
        self.most = most
        self.depth = 0
        self.deep = False
        self.values = 0
        """Commas and opening brackets outside strings."""
        self.commas = dict.fromkeys(levels, 0)
        self.inside = False
        self.escaped = False

    def feed(self, window: bytes) -> None:
        """Takes the next bytes of the text."""
        if self.escaped and window:
            window, self.escaped = window[1:], False
        if b"\\" in window:
            self.escaped = (len(window) - len(window.rstrip(b"\\"))) % 2 == 1
            window = unescaped(window.translate(None, PLAIN))
        self.count(window)

    def count(self, plain: bytes) -> None:
        """Counts in the next bytes of the text, in which neither quotes nor backslashes are escaped."""
        # Two quotes side by side change nothing for what stands around them, and are most of what is dense.
        found = plain.translate(None, OTHER).replace(b'""', b"")
        for start in range(0, len(found), SLICE):
            pieces = found[start : start + SLICE].split(b'"')
            if outside := b"".join(pieces[self.inside :: 2]):
                self.add(outside)
            self.inside ^= len(pieces) % 2 == 0

    def check(self, values: int) -> None:
        """Refuses what has been counted so far where no tree may be built of it.

        :raises Unreadable: it is `deep`, or has more than so many *values*.
        """
        if self.deep:
            raise Unreadable(f"it is nested deeper than {self.limit} levels.")
        if self.values > values:
            raise Unreadable(f"it has more than {values} values.")

    def add(self, found: bytes) -> None:
        """Structural characters outside strings, at most `SLICE`."""
        found = found.translate(ONE_KIND)
        opening, closing = found.count(b"["), found.count(b"]")
        commas = len(found) - opening - closing
        self.values += opening + commas
        depths = places = 0
        if not self.deep and self.depth + opening > self.limit:
            depths = depths_of(found)
            self.deep = up_to(depths, self.limit - self.depth, len(found)) != highest(len(found))
        for level in self.commas if commas else ():
            if self.commas[level] > self.most or self.depth - closing > level:
                continue
            if self.depth + opening <= level:
                self.commas[level] += commas
                continue
            depths = depths or depths_of(found)
            if shallow := up_to(depths, level - self.depth, len(found)):
                places = places or lanes(found.translate(COMMAS)) << HIGH
                self.commas[level] += (places & shallow).bit_count()
        self.depth += opening - closing


def unescaped(window: bytes) -> bytes:
    """Returns *window* with `__` in place of each escaped quote and backslash."""
    if b"\\" not in window:
        return window
    if window.count(b"\\") < len(window) // FEW:
        return ESCAPED.sub(b"__", window)
    return window.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def depths_of(found: bytes) -> int:
    """In each lane how much deeper than before *found* its place is, plus `SLICE`."""
    depths, move, end = lanes(found.translate(STEPS)), LANE, LANE * len(found)
    while move < end:
        depths += depths >> move
        move *= 2
    return depths + (RAMP >> (LANE * SLICE - end))


def up_to(depths: int, level: int, count: int) -> int:
    """The highest bit of each of *count* lanes that are at most at *level*."""
    level = max(-SLICE - 1, min(SLICE, level))
    ones = ONES >> (LANE * (SLICE - count))
    highs = ones << HIGH
    return (depths + ones * ((1 << HIGH) - 1 - SLICE - level) & highs) ^ highs


def highest(count: int) -> int:
    """The highest bit of each of *count* lanes."""
    return ONES >> (LANE * (SLICE - count)) << HIGH


class Encoding:
    """Checks that a text is UTF-8, window by window, without decoding more than one at a time."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.at = 0
        self.cut = b""  # the beginning of a character, at the last window's end

    def feed(self, window: bytes, final: bool = False) -> None:
        """Takes the next bytes; *final*: the last ones.

        :raises Unreadable: they are not UTF-8.
        """
        if self.cut or final or not window.isascii():
            for start in range(0, len(window), SLICE):
                self._decode(window[start : start + SLICE], start)
            if final:
                self._decode(b"", len(window), final)
        self.at += len(window)

    def _decode(self, data: bytes, start: int, final: bool = False) -> None:
        """Checks that *data* from *start* on is UTF-8.

        :raises Unreadable: it is not.
        """
        try:
            self.decoder.decode(data, final)
        except UnicodeDecodeError as error:
            at = self.at + start - len(self.cut) + error.start
            raise Unreadable(f"it is not UTF-8 (byte {at}).") from None
        self.cut = self.decoder.getstate()[0]


def check_utf8(data: bytes) -> None:
    """Refuses *data* that is not UTF-8.

    :raises Unreadable: it is not.
    """
    if not data.isascii():
        encoding = Encoding()
        for window in windows(data):
            encoding.feed(window)
        encoding.feed(b"", final=True)


def counted(data: bytes, *, depth: int, values: int) -> Generator[None, None, int]:
    """Returns how many values JSON has of which a tree may be built, counted a window at each step.

    :raises Unreadable: it is deeper than *depth* levels, or has more than *values* commas and opening brackets.
    """
    scan = Scan(depth)
    for window in windows(data):
        scan.feed(window)
        scan.check(values)
        yield
    return scan.values


def check(data: bytes, *, depth: int, values: int) -> None:
    """Checks what `counted` checks in one step, which costs next to nothing where *data* is short or has few brackets.

    :raises Unreadable: as `counted`.
    """
    size = len(data)
    if size <= depth and size <= values:
        return
    opening = data.count(b"[") + data.count(b"{")
    if opening > depth or (size > values and opening + data.count(b",") > values):
        run(counted(data, depth=depth, values=values))


def may_exceed(data: bytes, mark: bytes, most: int) -> bool:
    """Returns whether *data* may hold a *mark* more than *most* times: at a third of the cost of counting them, since
    all but the share that is a window's own are looked for with one `memchr`, and of few there is often less than a
    share."""
    size = max(3 * SLICE, len(data) // (SHARE // 2))
    share = most // (len(data) // size + 1)
    for start in range(0, len(data), size):
        if mark in data[start : start + size].replace(mark, b" ", share):
            return True
    return False


def windows(data: bytes | memoryview) -> Iterator[bytes]:
    """Gives *data* in windows."""
    size = window_of(len(data))
    for start in range(0, len(data), size):
        yield bytes(data[start : start + size])


def run(steps: Generator[None, None, T]) -> T:
    """Returns what *steps* return, without a pause between them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


# JSON that stands inside a string, a reply or an event, as Python values: no more of it than a request may hold.
#
# Its length alone bounds nothing: a list takes three bytes as text, and thirty times as many as a value.


SHORT = 64 * 1024
"""Bytes of a member of which something is to be known: an id, a type, a usage, an error."""
DEPTH, VALUES = 128, 1_000_000
"""What a request may hold by default, which `Limits` says too: they stand above this module."""


def parser(kind: Any = Any) -> Callable[[bytes | str | msgspec.Raw], Any]:
    """Returns a parser of counted JSON into values of *kind*.

    Numbers are read by Python, in less than a microsecond whichever they are: msgspec takes 6 µs for one that is hard
    to round (`9e-320`), with which a body of 7 MB holds the event loop for as many seconds.
    """
    return msgspec.json.Decoder(kind, float_hook=number).decode


def number(text: str) -> float:
    """Returns the value of a number with a fraction or an exponent.

    :raises ValueError: no float is that large, and no JSON could be written with it.
    """
    found = float(text)
    if isinf(found):
        raise ValueError("Number out of range")
    return found


parsed = parser()


def tree(data: bytes | str) -> Any:
    """Returns *data* parsed.

    :raises Unreadable: it is no JSON, or more of it than a request may hold.
    """
    if len(data) > FLAT:
        check(data if isinstance(data, bytes) else data.encode(), depth=DEPTH, values=VALUES)
    try:
        return parsed(data)
    except RecursionError:
        raise Unreadable("it is nested too deeply.") from None


def short(raw: bytes | msgspec.Raw) -> Any:
    """Returns a member's value, parsed; None where it is absent (no bytes), longer than `SHORT`, or no JSON."""
    if not 0 < len(raw) <= SHORT:
        return None
    try:
        return tree(bytes(raw))
    except ValueError:
        return None
