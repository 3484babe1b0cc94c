"""Which stretch of time counts, and when there will be room in it again.

A minute and an hour slide: this slot of the Unix clock, and the one before by the part of it that a window ending now
would still cover. A day, a week and a month go by the calendar in the host's zone. A window's number is in its name, so
that nothing is ever reset, and what is settled late counts where it was reserved.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, get_args

from ..seams.counters import PARTS, Figures, Line, Window, share

Per = Literal["minute", "hour", "day", "week", "month"]
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

PERS: tuple[Per, ...] = get_args(Per)
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)

# Seconds of those that slide.
LENGTHS = {"minute": 60, "hour": 3600}

SECOND = 1_000_000  # in microseconds, in which all is reckoned: exact, as datetimes are
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def window(per: Per, now: datetime, zone: tzinfo = UTC, week_starts: Weekday = "monday") -> Window:
    """Returns the window in which *now* lies.

    :raises ValueError: *now* has no zone, *per* or *week_starts* is none of `PERS` and `WEEKDAYS`.
    """
    if now.tzinfo is None:
        raise ValueError("A window needs to know the zone of its time: give an aware datetime.")
    length = LENGTHS.get(per)
    if length is not None:
        return _sliding(per, (now - EPOCH) // MICROSECOND, length)
    return _by_calendar(per, now.astimezone(zone).date(), zone, week_starts)


def _sliding(per: str, now: int, length: int) -> Window:
    number, elapsed = divmod(now, length * SECOND)
    parts = -(-(length * SECOND - elapsed) * PARTS // (length * SECOND))
    before = f"{per}:{number - 1}"
    return Window(f"{per}:{number}", float((number + 1) * length), before, parts / PARTS, float(length))


@lru_cache(maxsize=256)
def _by_calendar(per: Per, today: date, zone: tzinfo, week_starts: Weekday) -> Window:
    """Returns the day, week or month that *today* is in, in *zone*.

    :raises ValueError: *per* or *week_starts* is unknown.
    """
    if per == "day":
        return Window(f"day:{today}", _midnight(today + timedelta(1), zone))
    if per == "week":
        if week_starts not in WEEKDAYS:
            raise ValueError(f"week_starts must be one of {', '.join(WEEKDAYS)}, not {week_starts!r}.")
        # By its first day: weeks are numbered in several ways, and around New Year each has its own.
        first = today - timedelta((today.weekday() - WEEKDAYS.index(week_starts)) % 7)
        return Window(f"week:{first}", _midnight(first + timedelta(7), zone))
    if per == "month":
        following = (today.replace(day=28) + timedelta(4)).replace(day=1)
        return Window(f"month:{today:%Y-%m}", _midnight(following, zone))
    raise ValueError(f"per must be one of {', '.join(PERS)}, not {per!r}.")


def _midnight(day: date, zone: tzinfo) -> float:
    """Returns the Unix second at which *day* begins: the first one of a midnight that comes twice, and the change of
    the clocks where it skips midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def admits_at(line: Line, figures: Figures) -> float | None:
    """Returns the Unix second from which *line*, refused at *figures*, has room if nothing else comes; None if it never
    has, since it wants more than its limit."""
    most, ends = line.limit - line.amount, line.window.ends
    if most < 0:
        return None
    length = round(line.window.length)
    if not length:
        return ends
    here = figures.spent + figures.held - share(figures.before, line.window.parts)
    if here <= most:
        return _faded(figures.before, most - here, round(ends) - length, length)
    return _faded(here, most, round(ends), length)


def _faded(amount: int, most: int, since: int, length: int) -> float:
    """Returns when the share of *amount*, all of it at *since* and nothing *length* seconds later, is *most*."""
    parts = most * PARTS // amount if amount > most else PARTS
    return (since * SECOND - (parts - PARTS) * length * SECOND // PARTS) / SECOND
