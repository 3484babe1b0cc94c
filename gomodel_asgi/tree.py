"""JSON that stands inside a string, a reply or an event, as Python values: no more of it than a request may hold.

Its length alone bounds nothing: a list takes three bytes as text, and thirty times as many as a value.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isinf
from typing import Any

import msgspec

from .settings import KIB, Limits
from .wire.json_scan import FLAT, Unreadable, check

SHORT = 64 * KIB
"""Bytes of a member of which something is to be known: an id, a type, a usage, an error."""
DEFAULT = Limits()


def parser(kind: Any = Any) -> Callable[[bytes | str | msgspec.Raw], Any]:
    """What makes values of *kind* of JSON that has been counted.

    Numbers are read by Python, in less than a microsecond whichever they are: msgspec takes 6 µs for one that is hard
    to round (`9e-320`), with which a body of 7 MB holds the event loop for as many seconds.
    """
    return msgspec.json.Decoder(kind, float_hook=number).decode


def number(text: str) -> float:
    """A number with a fraction or an exponent.

    :raises ValueError: no float is that large, which no JSON could tell either.
    """
    found = float(text)
    if isinf(found):
        raise ValueError("Number out of range")
    return found


parsed = parser()


def tree(data: bytes | str, limits: Limits = DEFAULT) -> Any:
    """*data* parsed.

    :raises ValueError: it is no JSON, or more of it than *limits* allow.
    """
    if len(data) > FLAT:
        check(data if isinstance(data, bytes) else data.encode(), depth=limits.depth, values=limits.values)
    try:
        return parsed(data)
    except RecursionError:
        raise Unreadable("it is nested too deeply.") from None


def short(raw: bytes | msgspec.Raw) -> Any:
    """A member's value, parsed; None where it is absent (no bytes), too long to be what is asked for, or no JSON."""
    if not 0 < len(raw) <= SHORT:
        return None
    try:
        return tree(bytes(raw))
    except ValueError:
        return None
