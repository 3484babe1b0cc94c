"""The pause before a retry, and the budget of retries. Which failures are retried is decided in `upstream.chain`."""

from __future__ import annotations

import math
import random
import time
from collections import OrderedDict
from email.utils import parsedate_to_datetime

from ..seams.transport import Headers
from ..wire.headers import header

BASE = 0.5
CEILING = 8.0


def backoff(retry: int) -> float:
    """Full jitter on 0.5 s · 2ⁿ, at most 8 s; *retry* counts from 0."""
    return random.uniform(0.0, min(CEILING, BASE * 2**retry))


def retry_after(headers: Headers) -> float | None:
    """Returns the seconds to wait by a reply's headers: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC
    9110, 10.2.3). None where there are none, or nonsense."""
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


# Keeps retries a fraction of the traffic, so that a failing upstream is not stormed, each tenant's apart.


# In tenths of a retry, so that sums are exact.
RETRY = 10
SHARE = 2  # per request: a fifth of a retry
RESERVE = 10 * RETRY  # what a gateway with little traffic may still make
MOST_SAVED = 100 * RETRY  # what a long quiet time can save up

MOST_TENANTS = 4096  # whose purses are kept; beyond this the one unused for longest is dropped


class RetryBudget:
    """Purses: each request puts a fifth of a retry in, each retry takes one out.

    A tenant's request puts half of that into a purse of the tenant's own, which its retries take from first, and half
    into the one for all. So whoever uses up what is there for all, the others keep what half of their requests earn.
    """

    __slots__ = ("own", "purse")

    def __init__(self) -> None:
        self.purse = RESERVE
        self.own: OrderedDict[str, int] = OrderedDict()

    def earn(self, tenant: str | None) -> None:
        """Puts in what a request earns."""
        share = SHARE
        if tenant is not None:
            share = SHARE // 2
            self.own[tenant] = min(self.own.get(tenant, 0) + share, MOST_SAVED // 2)
            self.own.move_to_end(tenant)
            if len(self.own) > MOST_TENANTS:
                self.own.popitem(last=False)
        if self.purse < MOST_SAVED:
            self.purse += share

    def spend(self, tenant: str | None) -> bool:
        """Takes one retry out; False where there is none."""
        own = 0 if tenant is None else self.own.get(tenant, 0)
        if tenant is not None and own >= RETRY:
            self.own[tenant] = own - RETRY
            return True
        if self.purse < RETRY:
            return False
        self.purse -= RETRY
        return True
