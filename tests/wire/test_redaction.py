"""Credentials in what an upstream says: found in each spelling, at a cost that does not grow with the rest."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from gomodel_asgi.errors import GatewayError
from gomodel_asgi.observers import step
from gomodel_asgi.wire import redaction
from gomodel_asgi.wire.redaction import LONG, MOST_NEEDLES, REDACTED, needle_of, redacted

SECRET = "ab+c/defGHIjkl0123456789=="
PLAIN = SECRET.encode()
PHP = PLAIN.replace(b"/", b"\\/")
DOTNET = PLAIN.replace(b"+", b"\\u002B").replace(b"=", b"\\u003d")
SPELLED = [PLAIN, PHP, DOTNET, DOTNET.replace(b"/", b"\\/")]
NEEDLE = needle_of(SECRET)


@pytest.mark.parametrize("spelled", SPELLED)
@pytest.mark.parametrize("before", [0, 1, LONG, LONG + 1])
@pytest.mark.parametrize("behind", [0, 1, 200, LONG])
def test_a_secret_is_found_in_each_spelling_wherever_it_stands(spelled: bytes, before: int, behind: int) -> None:
    data = b"x" * before + spelled + b"y" * behind
    assert redacted([SECRET], data) == b"x" * before + REDACTED + b"y" * behind


def test_among_parts_of_a_secret_each_whole_one_is_found() -> None:
    chosen = random.Random(7)
    for _ in range(50):
        pieces = chosen.choices([*SPELLED, NEEDLE, b"ab+c\\/", b"==", b"\\", b" " * 50, b"x" * 500], k=300)
        data = b"".join(pieces) + b"z" * LONG
        plain = data.replace(PLAIN, REDACTED)
        assert redacted([SECRET], data) == redaction._pattern(SECRET).sub(REDACTED, plain)


@pytest.mark.parametrize("secret", [SECRET, "sk-proj-" + "A1b2C3d4" * 6])
@pytest.mark.parametrize("count", [1, MOST_NEEDLES, MOST_NEEDLES + 1])
def test_a_long_reply_is_searched_only_around_parts_of_the_secret(
    monkeypatch: pytest.MonkeyPatch, secret: str, count: int
) -> None:
    searched: list[int] = []

    class Counted:
        def __init__(self, pattern: re.Pattern[bytes]) -> None:
            self.pattern = pattern

        def sub(self, to: bytes, data: bytes) -> bytes:
            searched.append(len(data))
            return self.pattern.sub(to, data)

    real: Any = redaction._pattern
    monkeypatch.setattr(redaction, "_pattern", lambda secret: Counted(real(secret)))
    part = needle_of(secret)
    data = (b"\\u0041" + b"a" * 5000 + part) * count + b"b" * 2**20

    redacted([secret], data)

    assert sum(searched) <= count * 2 * (len(part) + 6 * len(secret))


@pytest.mark.parametrize("spelled", SPELLED)
def test_observers_are_told_of_a_failure_without_the_key_however_it_is_spelled(spelled: bytes) -> None:
    error = GatewayError("It failed.", detail=f"Incorrect API key: {spelled.decode()}.")
    assert step.redacted(error, [SECRET]) == "Incorrect API key: [redacted]."


def test_observers_are_not_told_a_header_that_is_a_word_either() -> None:
    assert step.redacted(GatewayError("No such user: letmein."), ["letmein"]) == "No such user: [redacted]."
