"""A large object is read in pieces, and what is read is what the parser reads of it in one go."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.wire.json_pieces import STEP, Pieces, read_object
from gomodel_asgi.wire.json_scan import WINDOW, Unreadable, run

from .test_json_scan import KINDS

MIB = 1 << 20
whole = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def pieces(data: bytes, window: int, **bounds: int) -> Pieces:
    read = Pieces(data, **{"depth": 128, "values": len(data), "most": len(data), "window": window, **bounds})
    run(read.read())
    return read


def members(data: bytes, window: int) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in pieces(data, window).members.items()}


# Any JSON, with white space anywhere, repeated members, and every way to write a string...

blank = st.sampled_from(["", "", "", " ", "\n", " \t\r\n" * 9])
plain = st.text(alphabet='ab"\\/\n\u00e9\u6f22\U0001f600[]{},:0', max_size=30)
strings = st.builds(lambda text, short: json.dumps(text, ensure_ascii=short), plain, st.booleans())
numbers = st.sampled_from(["0", "-0", "-1.5e+10", "1E999", "1" * 60, "0." + "0" * 60 + "1", "1e5" + "0" * 40])
names = st.sampled_from(['"a"', '"b"', '""', r'"\u0061"']) | strings


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.builds(lambda values, b: f"[{b}{f'{b},{b}'.join(values)}{b}]", st.lists(inner, max_size=4), blank)
    return lists | objects(inner)


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds(lambda name, value, b: f"{name}{b}:{b}{value}", names, inner, blank)
    return st.builds(lambda all, b: f"{b}{{{b}{f'{b},{b}'.join(all)}{b}}}{b}", st.lists(member, max_size=4), blank)


values = st.recursive(strings | numbers | st.sampled_from(["true", "false", "null"]), containers, max_leaves=12)
WINDOWS = st.sampled_from([16, 17, 24, 31, 64, 200])


@settings(max_examples=200, deadline=None)
@given(objects(values), WINDOWS)
def test_members_are_those_that_the_parser_reads_whole(text: str, window: int) -> None:
    data = text.encode()

    found = members(data, window)

    expected = {name: bytes(value) for name, value in whole(data).items()}
    assert found == expected and list(found) == list(expected)


@settings(max_examples=400, deadline=None)
@given(
    objects(values),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(list('"[]{},:\\01ax \xff') + [""]))),
    WINDOWS,
)
def test_what_the_parser_refuses_is_refused(text: str, changes: list[tuple[int, str]], window: int) -> None:
    data = text.encode()
    for at, char in changes[:2]:
        at %= len(data)
        data = data[:at] + char.encode("latin-1") + data[at + 1 :]
    try:
        data.decode()
        expected = {name: bytes(value) for name, value in whole(data).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        with pytest.raises(Unreadable, match=r"\(byte \d+\)"):
            members(data, window)
    else:
        assert members(data, window) == expected


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":' + b"1" * 500 + b"}",
        b'{"a":-' + b"1" * 500 + b"." + b"0" * 500 + b"e" + b"3" * 500 + b',"b":2}',
        b'{"a":[1,' + b"1" * 500 + b'],"b":12}',
        b'{"a"' + b" " * 500 + b":" + b"\n" * 500 + b"1" + b"\t" * 500 + b',"b":2}' + b" " * 500,
        b'{"' + b"n" * 200 + b'":1,"b":"' + b"s" * 500 + b'"}',
        b'{"a":"' + rb"\ud83d\ude00" * 100 + b'"}',
        b'{"a":"' + rb"\\\"" * 100 + b'"}',
        b'{"a":{"b":1,"b":[' + b"2," * 300 + b'2]},"a":"' + b"x" * 300 + b'","b":3}',
        b"{}",
        b'{"":1,"a":"x","":"' + b"y" * 100 + b'"}',
    ],
)
def test_what_is_longer_than_a_window_is_read_whole(data: bytes) -> None:
    for window in range(16, 80):
        assert members(data, window) == {name: bytes(value) for name, value in whole(data).items()}


@pytest.mark.parametrize(
    "data",
    [
        *(b'{"%b":0' % (b"n" * pad) + b"1" * 500 + b"}" for pad in range(80)),
        b'{"a":-0' + b"1" * 500 + b"}",
        b'{"a":1' + b"0" * 500 + b" " * 500 + b"1}",
        b'{"a":"' + b"x" * 500 + rb"\q" + b"x" * 500 + b'"}',
        b'{"a":"' + rb"\ud83d" * 100 + b'"}',
        b'{"a":"' + b"x" * 500,
        b'{"a":[' + b"1," * 300 + b"]}",
        b'{"a":[,' + b"1," * 300 + b"1]}",
        b'{"a":[' + b"1," * 300 + b'1}"b":2]',
        b'{"a":1}' + b" " * 500 + b"x",
        b'{"a":1}' + b" " * 500 + b'{"a":1}',
        b'{"a":1.' + b"1." * 500 + b"}",
        b'["' + b"x" * 500 + b'"]',
        b"",
    ],
)
def test_what_is_wrong_is_found_wherever_it_is_cut(data: bytes) -> None:
    for window in range(16, 80):
        with pytest.raises(Unreadable, match=r"\(byte \d+\)"):
            members(data, window)


def test_the_position_of_what_is_wrong_is_that_in_the_whole_text() -> None:
    for at in range(40, 90):
        data = b'{"a":["' + b"x" * 100 + b'"],"b":"' + b"y" * at + b'\x01"}'
        with pytest.raises(Unreadable) as refused:
            members(data, 32)
        assert f"(byte {data.index(1)})" in str(refused.value)


# Bounds...


def test_values_and_members_are_bounded_before_they_are_kept() -> None:
    many = b'{"a":[' + b"1," * 100 + b"1]}"
    assert pieces(many, 16, values=102).scan.values == 102
    with pytest.raises(Unreadable, match="more than 101 values"):
        pieces(many, 16, values=101)

    wide = b'{"0":0' + b"".join(b',"%d":0' % number for number in range(1, 100)) + b"}"
    assert len(pieces(wide, 16, most=100).members) == 100
    with pytest.raises(Unreadable, match="more than 99 members"):
        pieces(wide, 16, most=99)


def test_what_is_nested_deeper_than_the_parser_bears_is_refused() -> None:
    with pytest.raises(Unreadable, match="nested too deeply"):
        pieces(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 4096)


def test_depth_and_commas_are_those_of_the_whole_text() -> None:
    data = b'{"input":[' + b'{"a":[1,2,3]},' * 99 + b'{"a":"' + b"[,{" * 50 + b'"}],"b":' + b"[" * 20 + b"]" * 20 + b"}"
    for window in (16, 33, 64):
        assert pieces(data, window, depth=21).scan.deep is False
        scan = pieces(data, window, depth=20).scan
        assert scan.deep and scan.commas == {1: 1, 2: 100}


# What it costs, counted...


@pytest.mark.parametrize("size", [MIB, 2 * STEP])
@pytest.mark.parametrize("kind", KINDS)
def test_reading_takes_a_tenth_of_the_text_in_memory_and_a_window_at_each_step(kind: str, size: int) -> None:
    inside = KINDS[kind](size)
    if kind in ("opening brackets", "pairs", "nested pairs", "digits", "items"):
        data = b'{"model":"m","input":[' + inside.rstrip(b",") + b'],"z":1}'
    else:
        data = b'{"model":"m","input":"' + inside + b'","z":1}'
    read = Pieces(data, depth=128, values=1_000_000, most=10_000)
    steps = read.read()
    seen = taken = 0
    tracemalloc.start()
    try:
        while True:
            next(steps)
            taken = max(taken, read.encoding.at - seen)
            seen = read.encoding.at
    except (StopIteration, Unreadable):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < len(data) / 10
    assert taken <= WINDOW


def test_a_body_of_any_size_is_read_by_one_function() -> None:
    def read(data: bytes, **given: Any) -> dict[str, bytes]:
        found = run(read_object(data, **{"depth": 128, "values": 1_000_000, "most": 10_000, **given}))
        return {name: bytes(value) for name, value in found.members.items()}

    for size in (0, MIB + 1, STEP + 1):
        text = b"x" * size
        assert read(b'{"a":"%b","b":[1,2]}' % text) == {"a": b'"%b"' % text, "b": b"[1,2]"}
        for broken in (b'{"a":"%b","b":[1,2}', b'{"a":"%b\xff"}', b'{"a":"%b"} x'):
            with pytest.raises(Unreadable, match=r"\(byte \d+\)"):
                read(broken % text)
        with pytest.raises(Unreadable, match="more than 2 values"):
            read(b'{"a":"%b","b":[1,2]}' % text, values=2)
        with pytest.raises(Unreadable, match="more than 1 members"):
            read(b'{"a":"%b","b":[1,2]}' % text, most=1)
