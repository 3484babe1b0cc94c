"""What a host gives a gateway: its rules, the counters, and how they are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..arguments import (
    check_count,
    check_flags,
    check_function,
    check_one_of,
    check_plain_functions,
    check_protocol,
    members,
)
from ..observers.usage import Price
from ..seams.counters import Counters
from .estimate import Weights
from .memory import MemoryCounters
from .rules import Rules, asking
from .windows import WEEKDAYS, Weekday

Reserve = Literal["expected", "worst"]
OnUnknown = Literal["refuse", "free"]
OnUnavailable = Literal["refuse", "admit"]


def utc_now() -> datetime:
    """Returns the time, aware and in UTC."""
    return datetime.now(UTC)


class Quotas:
    """Holds requests to what *rules* give for each: before it is sent, what a request may use is reserved in all of its
    quotas or in none; once it is over, what it has used is booked.

    *rules* takes the `RoutingRequest` and gives or yields `Quota`s; a plain function runs in a worker thread.
    *counters* count: `MemoryCounters()` for one process. Days, weeks and months go by the calendar in *zone*; weeks
    begin on *week_starts*. *weights* say how much a token of a kind counts in quotas of tokens (`{"cached": 0.1}`;
    kinds are `input`, `cached`, `cache_write`, `output` and `reasoning`).

    A request reserves its input, estimated from its bytes, and its `max_output_tokens`, but at most *expected_output*
    of them; with `reserve="worst"` all that it may use. *price* is a function of provider type, model and `Usage` that
    gives US dollars, or None where it knows none; by default the price list of the extra `prices`. *on_unknown* says
    what is done with a request whose price is unknown under a quota of money: `refuse`, or count it as `free`.

    *on_unavailable* says what is done while shared counters do not answer: `refuse` all requests, or `admit` them all;
    by default requests are counted in this process meanwhile, and what counts tokens or money is refused. *headers*
    show clients what is left. *shadow* counts and notifies observers, and refuses nothing. *clock* returns the time,
    aware, for tests.

    :raises ValueError: an argument has a value that it cannot have.
    :raises TypeError: an argument is of the wrong type.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        counters: Counters | None = None,
        zone: str = "UTC",
        week_starts: Weekday = "monday",
        weights: Mapping[str, float | str | Decimal] | None = None,
        expected_output: int = 4096,
        reserve: Reserve = "expected",
        price: Price | None = None,
        on_unknown: OnUnknown = "refuse",
        on_unavailable: OnUnavailable | None = None,
        headers: bool = True,
        shadow: bool = False,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        check_function("rules", rules)
        check_plain_functions(price=price, clock=clock)
        self.counters: Counters = MemoryCounters() if counters is None else counters
        wanted = "MemoryCounters(), RedisCounters(...) or PostgresCounters(...)"
        check_protocol("counters", self.counters, Counters, wanted)
        check_flags(headers=headers, shadow=shadow)
        check_count("expected_output", expected_output)
        check_one_of("week_starts", week_starts, WEEKDAYS)
        check_one_of("reserve", reserve, get_args(Reserve))
        check_one_of("on_unknown", on_unknown, get_args(OnUnknown))
        if on_unavailable is not None:
            check_one_of("on_unavailable", on_unavailable, get_args(OnUnavailable))
        self.rules = asking(rules)
        self.zone = _zone(zone)
        self.week_starts: Weekday = week_starts
        self.weights = Weights(None if weights is None else members("weights", weights))
        self.expected_output = expected_output
        self.worst = reserve == "worst"
        self.price = price
        self.free = on_unknown == "free"
        self.on_unavailable = on_unavailable
        self.headers = headers
        self.shadow = shadow
        self.clock = utc_now if clock is None else _checked(clock)

    def __repr__(self) -> str:
        return f"<Quotas {type(self.counters).__name__}{' shadow' if self.shadow else ''}>"


def _zone(name: str) -> ZoneInfo:
    """Returns the time zone of this name.

    :raises ValueError: none is known.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise ValueError(f"zone: {name!r} is the name of no time zone that is known here.") from None


def _checked(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """Returns *clock*, which is called once to see what it gives.

    :raises ValueError: its times have no time zone.
    """
    now = clock()
    if not isinstance(now, datetime) or now.tzinfo is None:
        raise ValueError("clock: give aware datetimes, such as datetime.now(UTC).")
    return clock
