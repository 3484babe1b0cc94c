"""What JSON holds is counted in windows, without reading it, and at a cost that its bytes cannot raise."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi import Limits
from gomodel_asgi.wire.json_scan import (
    DEPTH,
    SLICE,
    VALUES,
    WINDOW,
    Encoding,
    Scan,
    Unreadable,
    check,
    check_utf8,
    counted,
    run,
    windows,
)

MIB = 1 << 20


class Counts:
    """The same, counted byte by byte."""

    def __init__(self, data: bytes) -> None:
        self.depth = self.deepest = self.values = 0
        self.commas: Counter[int] = Counter()
        self.inside = escaped = False
        for char in map(chr, data):
            if self.inside:
                self.inside, escaped = escaped or char != '"', char == "\\" and not escaped
            elif char == '"':
                self.inside = True
            elif char in "[{":
                self.depth += 1
                self.values += 1
                self.deepest = max(self.deepest, self.depth)
            elif char in "]}":
                self.depth -= 1
            elif char == ",":
                self.values += 1
                self.commas[self.depth] += 1


def scanned(data: bytes, window: int, limit: int = 128, levels: tuple[int, ...] = (1, 2)) -> Scan:
    scan = Scan(limit, levels, most=len(data))
    for start in range(0, len(data), window):
        scan.feed(data[start : start + window])
    return scan


def assert_same(data: bytes, window: int) -> None:
    counts = Counts(data)
    for limit in (max(counts.deepest - 1, 0), counts.deepest):
        scan = scanned(data, window, limit)
        assert (scan.depth, scan.values, scan.inside) == (counts.depth, counts.values, counts.inside)
        assert scan.deep == (counts.deepest > limit)
        for level in (1, 2):
            assert scan.commas[level] == sum(count for depth, count in counts.commas.items() if depth <= level)


STRINGS = st.text(alphabet='a"\\[]{},\n\u00e9', max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False))
TOKENS = st.lists(STRINGS | st.sampled_from(list("[]{},:") + ["[[[", "]]]", '""', "1"]), max_size=60)


@settings(max_examples=300, deadline=None)
@given(TOKENS, st.sampled_from([1, 2, 3, 7, 64, WINDOW]))
def test_a_text_is_counted_alike_however_it_is_cut_into_windows(tokens: list[str], window: int) -> None:
    assert_same("".join(tokens).encode(), window)


@pytest.mark.parametrize("alphabet", [b'"[]{},', b"[]{},", b"[],", b"[", b'"', b'",', b"[]"])
def test_dense_texts_of_many_slices_are_counted_right(alphabet: bytes) -> None:
    chance = random.Random(7)
    assert_same(bytes(chance.choices(alphabet, k=3 * SLICE + 17)), SLICE + 5)


def test_a_depth_is_found_wherever_it_is_reached() -> None:
    for before in (0, 1, SLICE - 1, SLICE, SLICE + 1):
        assert_same(b"[" + b"[]," * before + b"[" * 9 + b"]" * 9 + b"]", WINDOW)


# What may be parsed...


@pytest.mark.parametrize(
    ("data", "depth", "values"),
    [
        (b'{"x":' * 129 + b"1" + b"}" * 129, 128, 1000),
        (b"[" * 129, 128, 1000),
        (b"[" + b"1," * 1000 + b"1]", 128, 1000),
        (b"[" + b"[]," * 500 + b"1]", 128, 1000),
    ],
)
def test_what_is_too_deep_or_has_too_many_values_is_refused_in_one_step_and_in_many(
    data: bytes, depth: int, values: int
) -> None:
    with pytest.raises(Unreadable):
        check(data, depth=depth, values=values)
    with pytest.raises(Unreadable):
        run(counted(data, depth=depth, values=values))


@pytest.mark.parametrize(
    "data",
    [
        b'{"x":' * 128 + b"1" + b"}" * 128,
        b'"' + b"[{," * 5000 + b'"',
        rb'"\"' + b"[{," * 5000 + b'"',
        b"[" + b"1," * 998 + b"1]",
    ],
)
def test_what_stands_in_a_string_is_neither_deep_nor_many(data: bytes) -> None:
    check(data, depth=128, values=1000)
    assert run(counted(data, depth=128, values=1000)) <= 1000


# Encodings...


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=4) | st.text(max_size=3).map(str.encode), max_size=8), st.integers(1, 9))
def test_an_encoding_is_told_as_the_whole_text_would_tell_it(pieces: list[bytes], window: int) -> None:
    data = b"".join(pieces)
    encoding = Encoding()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        with pytest.raises(Unreadable, match=rf"\(byte {error.start}\)"):
            for start in range(0, len(data) + 1, window):
                encoding.feed(data[start : start + window], final=start + window > len(data))
    else:
        for start in range(0, len(data) + 1, window):
            encoding.feed(data[start : start + window], final=start + window > len(data))


# What it costs, counted...


def repeated(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: piece * (size // len(piece))


def mixed(alphabet: bytes) -> Callable[[int], bytes]:
    return lambda size: bytes(random.Random(1).choices(alphabet, k=64 * 1024)) * (size >> 16)


KINDS: dict[str, Callable[[int], bytes]] = {
    "text": repeated(b"Plain text, with a comma. "),
    "text in another script": repeated("\u00e9\u6f22\U0001f600 ".encode()),
    "escapes": repeated(b"\\n"),
    "escaped quotes": repeated(b'\\"'),
    "backslashes": repeated(b"\\\\"),
    "quotes": repeated(b'"'),
    "empty strings": repeated(b'"",'),
    "opening brackets": repeated(b"["),
    "pairs": repeated(b"[]"),
    "nested pairs": repeated(b"[" * 100 + b"]" * 100),
    "digits": repeated(b"1"),
    "items": repeated(b"1,"),
    "anything": mixed(b'"[]{},\\ab1'),
}


@pytest.mark.parametrize("kind", KINDS)
def test_counting_takes_a_tenth_of_the_text_in_memory_and_no_window_is_large(kind: str) -> None:
    data = KINDS[kind](MIB)
    assert max(map(len, windows(data))) <= WINDOW
    tracemalloc.start()
    try:
        scan, encoding = Scan(128, (1, 2), most=10_000), Encoding()
        for window in windows(data):
            encoding.feed(window)
            scan.feed(window)
        assert tracemalloc.get_traced_memory()[1] < len(data) / 10
    finally:
        tracemalloc.stop()


def test_json_inside_a_value_may_be_as_much_as_a_request_by_default() -> None:
    assert (Limits().depth, Limits().values) == (DEPTH, VALUES)


def test_an_encoding_is_checked_without_building_the_text() -> None:
    data = ("\U0001f600" + "a" * 999).encode() * 1000
    tracemalloc.start()
    try:
        check_utf8(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) / 10
    finally:
        tracemalloc.stop()
