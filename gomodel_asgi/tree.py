"""JSON that stands inside a string, a reply or an event, as Python values: no more of it than a request may hold.

Its length alone bounds nothing: a list takes three bytes as text, and thirty times as many as a value.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .scan import FLAT, Unreadable, check
from .settings import KIB, Limits

SHORT = 64 * KIB
"""Bytes of a member of which something is to be known: an id, a type, a usage, an error."""
DEFAULT = Limits()

_any = msgspec.json.Decoder().decode


def tree(data: bytes | str, limits: Limits = DEFAULT) -> Any:
    """*data* parsed.

    :raises ValueError: it is no JSON, or more of it than *limits* allow.
    """
    if len(data) > FLAT:
        check(data if isinstance(data, bytes) else data.encode(), depth=limits.depth, values=limits.values)
    try:
        return _any(data)
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
