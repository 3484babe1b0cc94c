"""A string member is taken out of JSON text that may be cut anywhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.wire.calls import StringMember


def unwrapped(pieces: list[str]) -> str:
    member = StringMember("input")
    return "".join(member.feed(piece) for piece in pieces) + member.rest()


def cuts(text: str) -> list[list[str]]:
    return [[text], list(text), *([text[:at], text[at:]] for at in range(len(text)))]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.booleans())
def test_any_string_cut_anywhere_comes_out_as_it_was(text: str, ascii_only: bool) -> None:
    wrapped = json.dumps({"input": text}, ensure_ascii=ascii_only)

    assert {unwrapped(pieces) for pieces in cuts(wrapped)} == {text}


def test_characters_come_as_soon_as_they_are_certain() -> None:
    member = StringMember("input")

    assert [member.feed(piece) for piece in ('{"input": "a', "b\\", "nc", "\\ud83d", "\\ude00", '"}')] == [
        "a",
        "b",
        "\nc",
        "",
        "\U0001f600",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"input": "\ud83dx"}', "\ufffdx"),
        (r'{"input": "\ude00"}', "\ufffd"),
        (r'{"input": "\ud83d\u0041"}', "\ufffdA"),
        (r'{"input": "\ud83d', "\ufffd"),
        (r'{"input": "\uzzzz"}', r"\uzzzz"),
        (r'{"input": "cut of', "cut of"),
    ],
)
def test_broken_escapes_never_raise_and_lose_nothing_else(text: str, expected: str) -> None:
    assert {unwrapped(pieces) for pieces in cuts(text)} == {expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"other": 1, "input": "x"}', "x"),
        ('{"input": {"a": 1}}', '{"a":1}'),
        ('{"patch": "x"}', '{"patch": "x"}'),
        ('"x"', "x"),
        ("[1]", "[1]"),
        ("plain text", "plain text"),
        ("{}", ""),
        ("", ""),
        ('{"a":' * 100_000, '{"a":' * 100_000),
    ],
)
def test_what_is_not_the_wrapping_object_is_made_the_best_of(text: str, expected: str) -> None:
    assert unwrapped([text]) == expected


def test_what_follows_the_string_is_passed_over() -> None:
    assert unwrapped(['{"input": "x", "more": "y"}', "z"]) == "x"
