"""What is left of quotas: for the host, and for a client its headers and why a request was refused. Of a shared quota
a client learns nothing but that.

Headers: those of OpenAI's API (`x-ratelimit-…`) for the quota of requests and the one of tokens that has the least
left, and the fields of draft-ietf-httpapi-ratelimit-headers-11 for quotas of requests, the one unit of ours that it
has, at most `TOLD` of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from msgspec import Struct

from ..errors import QuotaExceeded
from ..seams.counters import Figures, Line
from ..wire.headers import Headers
from .quota import MICRO, Left, Quota, Unit

SECONDS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
"""Of the windows that have always as many, but for changes of the clock."""
TOLD = 8
"""Quotas of requests in one answer's headers: proxies refuse an answer whose headers take more than 4 KiB."""


class Part(Struct, frozen=True):
    """One unit of a quota, and the line that counts it."""

    quota: Quota
    unit: Unit
    line: Line


class QuotaStatus(Struct, frozen=True):
    """How a part stands: its *figures*, and in how many seconds its window ends, or (of a refused one) has room."""

    part: Part
    figures: Figures
    seconds: float

    @property
    def left(self) -> int:
        """Returns what is left of the limit, in its unit; never less than 0."""
        return max(0, self.part.line.limit - self.figures.spent - self.figures.held)


def left_of(part: Part, figures: Figures) -> Left:
    """Returns what is left of *part*."""
    line, unit, left = part.line, part.unit, QuotaStatus(part, figures, 0.0).left
    amounts: Sequence[int | Decimal] = (line.limit, figures.spent, figures.held, left)
    if unit == "money":
        amounts = [Decimal(amount) / MICRO for amount in amounts]
    limit, spent, held, left_over = amounts
    return Left(part.quota.name, unit, limit, spent, held, left_over, datetime.fromtimestamp(line.window.ends, UTC))


def headers(statuses: Sequence[QuotaStatus]) -> Headers:
    """Returns what a client may know of *statuses*."""
    open = [one for one in statuses if not one.part.quota.shared]
    limit_headers: Headers = []
    for unit in ("requests", "tokens"):
        of_unit = [one for one in open if one.part.unit == unit]
        if of_unit:
            limit_headers += _openai(unit.encode(), min(of_unit, key=lambda one: one.left))
    counted = [one for one in open if one.part.unit == "requests"]
    if len(counted) > TOLD:
        counted = sorted(counted, key=lambda one: one.left)[:TOLD]
    if counted:
        limit_headers.append((b"ratelimit-policy", b", ".join(map(_policy, counted))))
        limit_headers.append((b"ratelimit", b", ".join(map(_limit, counted))))
    return limit_headers


def _openai(unit: bytes, one: QuotaStatus) -> Headers:
    values = (b"%d" % one.part.line.limit, b"%d" % one.left, duration(one.seconds).encode())
    names = (b"limit", b"remaining", b"reset")
    return [(b"x-ratelimit-%b-%b" % (name, unit), value) for name, value in zip(names, values, strict=True)]


def _policy(one: QuotaStatus) -> bytes:
    quota = one.part.quota
    policy = b'"%b";q=%d' % (quota.name.encode(), one.part.line.limit)
    return policy + b";w=%d" % SECONDS[quota.per] if quota.per in SECONDS else policy


def _limit(one: QuotaStatus) -> bytes:
    return b'"%b";r=%d;t=%d' % (one.part.quota.name.encode(), one.left, math.ceil(one.seconds))


def duration(seconds: float) -> str:
    """Returns *seconds* as OpenAI's API writes them: `12ms`, `1.5s`, `6m0s`, `24h0m0s`."""
    if seconds < 1:
        return f"{math.ceil(max(0.0, seconds) * 1000)}ms"
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{math.ceil(seconds * 1000) / 1000:g}s"
    minutes = f"{whole // 60 % 60}m{whole % 60}s"
    return minutes if whole < 3600 else f"{whole // 3600}h{minutes}"


def refusal(one: QuotaStatus, limit_headers: Headers) -> QuotaExceeded:
    """Returns why a request has no room in *one*, which will have some in its `seconds`; *limit_headers* are the
    headers."""
    quota, line = one.part.quota, one.part.line
    never = line.amount > line.limit
    spent = one.part.unit == "money" and line.amount + one.figures.spent > line.limit
    return QuotaExceeded(
        _too_large(one) if never else _full(one),
        unit=one.part.unit,
        quota=None if quota.shared else quota.name,
        retry_after=None if never else one.seconds,
        final=never or spent,
        limit_headers=limit_headers,
    )


def _too_large(one: QuotaStatus) -> str:
    if one.part.quota.shared:
        return "This request is larger than what one may ask for here; make it smaller."
    if not one.part.line.limit:
        return f"The quota '{one.part.quota.name}' allows nothing."
    limit, amount = _amount(one.part.unit, one.part.line.limit), _amount(one.part.unit, one.part.line.amount)
    what = f"the quota '{one.part.quota.name}' of {limit} per {one.part.quota.per}"
    return f"This request may use {amount}, more than {what} allows at all; make it smaller, or cap its output."


def _full(one: QuotaStatus) -> str:
    quota, unit, figures = one.part.quota, one.part.unit, one.figures
    again = f" Please try again in {math.ceil(max(1.0, one.seconds))}s."
    if quota.shared:
        return "As much is being asked here as may be." + again
    spent, held = _amount(unit, figures.spent), _amount(unit, figures.held)
    used = f"{spent} spent" + (f", {held} held by requests under way" if figures.held else "")
    limit = _amount(unit, one.part.line.limit)
    wants = "" if unit == "requests" else f", which may use {_amount(unit, one.part.line.amount)}"
    return f"The quota '{quota.name}' of {limit} per {quota.per} has no room for this request{wants}: {used}." + again


def _amount(unit: Unit, amount: int) -> str:
    if unit != "money":
        return f"{amount} {unit[:-1] if amount == 1 else unit}"
    dollars = Decimal(amount) / MICRO
    return f"${dollars.quantize(Decimal('0.01'))}" if dollars * 100 % 1 == 0 else f"${dollars.normalize():f}"
