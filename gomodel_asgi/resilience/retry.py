"""How long to wait before the same upstream is asked again."""

from __future__ import annotations

import math
import random
import time
from email.utils import parsedate_to_datetime

from ..seams.transport import Headers
from ..wire.headers import header

BASE = 0.5
CEILING = 8.0


def backoff(retry: int) -> float:
    """Full jitter on 0.5 s · 2ⁿ, at most 8 s; *retry* counts from 0."""
    return random.uniform(0.0, min(CEILING, BASE * 2**retry))


def retry_after(headers: Headers) -> float | None:
    """The seconds that a reply asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110,
    10.2.3). None where it does not ask, or asks nonsense."""
    milliseconds = _number(header(headers, b"retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = header(headers, b"retry-after")
    seconds = _number(value)
    return seconds if seconds is not None or value is None else _until(value)


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(value: bytes) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(value.decode("latin-1")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
