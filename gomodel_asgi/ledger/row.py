"""One exchange as the ledger keeps it: the columns, in the order in which they are written everywhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from ..observers.records import TEXT, clean
from ..observers.usage import Usage

Kind = Literal["exchange", "settled"]
Tenants = Sequence[str | None] | None
"""Some tenants, None among them for requests without one; None in their place: all."""

OPEN = "open"
"""The outcome of a row that was written before its exchange had ended."""

NANO = Decimal("1e-9")
"""What costs are rounded to: one thousand-millionth of a dollar."""
DEAREST = Decimal(10**9)
"""What one row cannot cost: NUMERIC(18,9) holds less."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One request to an upstream. *code* is the error that it ended with, *kind* why it was made (`first`, `retry`,
    `fallback`); *usage* and *cost* (US dollars, None: unknown) are None where it used nothing."""

    provider: str
    model: str | None
    status: int | None
    code: str | None
    seconds: float
    usage: Usage | None
    cost: Decimal | None
    kind: str


class Row(Struct, frozen=True, kw_only=True):
    """One exchange. *started* is when it came in, *seconds* and *first_event* count from when it had come in whole.

    *kind* is `exchange`, or `settled` for what a response in the background has used: it has the *response_id* of the
    exchange that began it, which itself counts nothing that the other does. *principal* is the authenticated user's id.
    *outcome* is the response's status, `failed` for every error, or why the client did not get all of it (`gone`,
    `stalled`, `cancelled`); `open` if nothing more is known than that it began. Tokens and *cost* (US dollars, rounded
    to 9 digits) are sums over all *attempts*, each at its own model and tier; *cost* is None where a part of it is
    unknown. *quota* is the one that refused it.
    """

    id: UUID
    kind: Kind
    started: datetime
    seconds: float = 0.0
    first_event: float | None = None
    request_id: str = ""
    response_id: str | None = None
    tenant: str | None = None
    principal: str | None = None
    labels: dict[str, str] = {}
    operation: str = "unknown"
    stream: bool = False
    model_asked: str | None = None
    model_target: str | None = None
    model_served: str | None = None
    provider: str | None = None
    outcome: str = OPEN
    status: int | None = None
    error_code: str | None = None
    attempts: tuple[Attempt, ...] = ()
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost: Decimal | None = None
    price_list: str | None = None
    tier: str | None = None
    cached: bool = False
    quota: str | None = None


COLUMNS = Row.__struct_fields__
TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


class Kept(Struct, frozen=True, kw_only=True):
    """What was said in the exchange *id*, until it *expires*: JSON, sealed where *encrypted*. *truncated* says that it
    was longer, and is no JSON any more."""

    id: UUID
    tenant: str | None
    expires: datetime
    request: bytes
    response: bytes | None
    truncated: bool
    encrypted: bool


class Entry(Struct, frozen=True):
    """A row on its way to the sink, and what is kept of what was said."""

    row: Row
    content: Kept | None = None


encode = msgspec.json.Encoder().encode
decode_entry = msgspec.json.Decoder(Entry).decode
decode_row = msgspec.json.Decoder(Row).decode
plain = msgspec.to_builtins


# Ids and times...


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def new_id(when: datetime, rest: bytes | None = None) -> UUID:
    """Returns a UUID of version 7 (RFC 9562, 5.7) for the time *when*: ids sort by time. *rest*: ten bytes that make
    it the same id each time; by default chance."""
    random = int.from_bytes(rest or os.urandom(10), "big")
    high, low = random >> 62 & 0xFFF, random & (1 << 62) - 1
    return UUID(int=(when - EPOCH) // MILLISECOND << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def first_id(when: datetime, later: int = 0) -> UUID:
    """Returns what no id of the time *when* (or of so many milliseconds *later*) is less than, while all earlier ones
    are: where a partition of the table begins."""
    return UUID(int=(aware(when) - EPOCH) // MILLISECOND + later << 80)


def settled_id(when: datetime, tenant: str | None, response_id: str) -> UUID:
    """Returns the id of the row that settles a response in the background: the same for every worker."""
    return new_id(when, digest("settled", tenant, response_id)[:10])


def digest(*parts: object) -> bytes:
    """Returns 16 bytes that stand for *parts*."""
    return hashlib.blake2b(encode(parts), digest_size=16).digest()


def at_time(seconds: float) -> datetime:
    """Returns Unix time as an aware datetime in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC)


def aware(when: datetime) -> datetime:
    """Returns *when* in UTC.

    :raises ValueError: it has no time zone, so it could mean any hour.
    """
    if when.tzinfo is None:
        raise ValueError("Give a datetime with a time zone.")
    return when.astimezone(UTC)


def first_day(since: datetime) -> tuple[date, datetime]:
    """Returns the first day (UTC) that lies wholly after *since*, in UTC, and its beginning."""
    midnight = datetime.combine(since.date(), datetime.min.time(), UTC)
    whole = midnight if since == midnight else midnight + timedelta(days=1)
    return whole.date(), whole


def name_of(tenant: str | None) -> str | None:
    """Returns *tenant* (or another name of the host's) as every sink can hold it; names that differ stay different."""
    if tenant is None or (len(tenant) <= TEXT and tenant.isprintable()):
        return tenant
    return f"{clean(tenant, TEXT - 33)}#{digest(tenant.encode('utf-8', 'surrogatepass').hex()).hex()}"


# Money...


def rounded(cost: Decimal | None) -> Decimal | None:
    """Returns a cost as rows hold it; None for what is none, such as a negative one."""
    if cost is None or not cost.is_finite() or not 0 <= cost < DEAREST:
        return None
    return cost.quantize(NANO, ROUND_HALF_EVEN)


def total(costs: Iterable[Decimal | None]) -> Decimal | None:
    """Returns the sum of *costs*, None if one of them is unknown."""
    whole = Decimal(0)
    for cost in costs:
        if cost is None:
            return None
        whole += cost
    return whole


def tokens(usages: Sequence[Usage]) -> dict[str, Any]:
    """Returns the columns that count tokens."""
    if len(usages) == 1:
        (usage,) = usages
        counts: dict[str, Any] = {name: getattr(usage, name) for name in TOKENS}
    else:
        counts = {name: sum(getattr(usage, name) for usage in usages) for name in TOKENS}
    counts["estimated"] = any(usage.estimated for usage in usages)
    return counts


# The roll-up by day...


class Daily(Struct, kw_only=True):
    """What a *day* (UTC) has cost, for a tenant, provider, model and set of labels (JSON, by name); a sum over several
    of these has None there. What was used of a model stands there also where another one has answered the exchange.
    *requests* counts exchanges, *failed* those with that outcome; *unpriced* is how many rows have no cost, and are
    missing in *cost*.
    """

    key: str
    day: date | None = None
    tenant: str | None = None
    provider: str | None = None
    model: str | None = None
    labels: str | None = None
    requests: int = 0
    failed: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)


class Selection(Struct, frozen=True):
    """Sums of the roll-up over the days (UTC) from *since* to the one before *until*, one for each combination of *by*
    (some of `PLACE`, in their order; the others are None in it). *tenants*: of these only."""

    since: date
    until: date
    by: Sequence[str]
    tenants: Tenants = None


class Costs(Struct, frozen=True, kw_only=True):
    """Sums for a page: *rows*, the first of all *count*, and the *total* over all of them, those too that are left
    out."""

    rows: list[Daily]
    total: Daily
    count: int


def daily_of(values: dict[str, Any]) -> Daily:
    """Returns the sum that *values* describe, over all of those places that they leave out."""
    return Daily(key="", **values)


PLACE = ("day", "tenant", "provider", "model", "labels")
COUNTS = ("requests", "failed", "unpriced", *TOKENS, "cost")


def by_day(rows: Iterable[Row]) -> list[Daily]:
    """Returns what *rows* add to the roll-up, in an order that is the same for all writers, so that none waits for
    another that waits for it."""
    found: dict[str, Daily] = {}
    for row in rows:
        if row.outcome != OPEN:
            _add(found, row)
    return sorted(found.values(), key=lambda daily: daily.key)


def _add(found: dict[str, Daily], row: Row) -> None:
    day, labels = row.started.astimezone(UTC).date(), text_of(row.labels)

    def place(provider: str | None, model: str | None) -> Daily:
        key = digest(day.isoformat(), row.tenant, provider, model, labels).hex()
        if key not in found:
            found[key] = Daily(key=key, day=day, tenant=row.tenant, provider=provider, model=model, labels=labels)
        return found[key]

    own = place(row.provider, row.model_target)
    if row.kind == "exchange":
        own.requests += 1
        own.failed += row.outcome == "failed"
    own.unpriced += row.cost is None
    for attempt in row.attempts:
        if attempt.usage is None:
            continue
        daily = place(attempt.provider, attempt.model)
        for name in TOKENS:
            setattr(daily, name, getattr(daily, name) + getattr(attempt.usage, name))
        if row.cost is not None and attempt.cost is not None:
            daily.cost += attempt.cost


def text_of(labels: Mapping[str, str]) -> str:
    """Returns *labels* as one text, the same for the same ones."""
    return encode(dict(sorted(labels.items()))).decode()


def now() -> datetime:
    """Returns the time, as `at_time` does."""
    return datetime.now(UTC)
