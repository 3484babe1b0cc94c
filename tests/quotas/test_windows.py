"""Windows: which stretch of time counts, and when there is room in it again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.quotas.windows import LENGTHS, PERS, WEEKDAYS, Per, Weekday, admits_at, window
from gomodel_asgi.seams.counters import PARTS, Figures, Line, Window, share

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",  # 5:45
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Chatham",  # 12:45, and summer time
    "Africa/Cairo",  # clocks change at midnight
    "America/Havana",  # midnight comes twice
    "Asia/Beirut",
    "America/Nuuk",
    "Pacific/Kiritimati",  # +14
    "Pacific/Pago_Pago",  # -11
]
CALENDAR: list[Per] = ["day", "week", "month"]
HOUR = 3600.0

moments = st.datetimes(datetime(2024, 1, 1), datetime(2037, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
zones = st.sampled_from(ZONES).map(ZoneInfo)
weekdays = st.sampled_from(WEEKDAYS)


def at(text: str, zone: str = "UTC") -> datetime:
    """A wall clock's time in *zone*."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def unix(text: str, zone: str = "UTC") -> float:
    return at(text, zone).timestamp()


def hours_of(text: str, zone: str) -> float:
    """How many hours the day has that begins then."""
    begins = at(text, zone)
    return (window("day", begins, ZoneInfo(zone)).ends - begins.timestamp()) / HOUR


# By the calendar...


@pytest.mark.parametrize(
    ("zone", "spring", "autumn", "change"),
    [
        ("Europe/Berlin", "2027-03-28", "2027-10-31", 1.0),
        ("America/New_York", "2027-03-14", "2027-11-07", 1.0),
        ("Australia/Lord_Howe", "2027-10-03", "2027-04-04", 0.5),
        ("Africa/Cairo", "2027-04-30", "2027-10-28", 1.0),
        ("America/Havana", "2027-03-14", "2027-11-07", 1.0),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone: str, spring: str, autumn: str, change: float) -> None:
    ordinary = "2027-06-15"
    assert hours_of(ordinary, zone) == 24
    assert hours_of(autumn, zone) == 24 + change
    # The day that skips its midnight begins with the change of the clocks.
    assert hours_of(spring, zone) == 24 - change


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham"])
@pytest.mark.parametrize(
    ("last", "following"),
    [
        ("2027-01-31", "2027-02-01"),
        ("2027-02-28", "2027-03-01"),
        ("2028-02-29", "2028-03-01"),
        ("2027-04-30", "2027-05-01"),
        ("2026-12-31", "2027-01-01"),
    ],
)
def test_a_month_ends_with_its_last_day_in_the_zone_of_the_host(zone: str, last: str, following: str) -> None:
    before = window("month", at(f"{last}T23:59:59.999999", zone), ZoneInfo(zone))
    after = window("month", at(following, zone), ZoneInfo(zone))

    assert before.name == f"month:{last[:7]}" and after.name == f"month:{following[:7]}"
    assert before.ends == unix(following, zone)


def test_a_leap_day_is_a_day_of_its_own_and_the_last_of_its_month() -> None:
    leap = window("day", at("2028-02-29T12:00"))

    assert leap == Window("day:2028-02-29", unix("2028-03-01"))
    assert window("month", at("2028-02-29T12:00")) == Window("month:2028-02", unix("2028-03-01"))
    assert window("month", at("2027-02-28T12:00")).ends == unix("2027-03-01")


def test_the_same_moment_lies_in_other_months_of_other_zones() -> None:
    moment = at("2026-11-30T18:20")

    assert window("month", moment, ZoneInfo("UTC")).name == "month:2026-11"
    assert window("month", moment, ZoneInfo("Asia/Kathmandu")).name == "month:2026-12"
    assert window("month", moment - timedelta(minutes=6), ZoneInfo("Asia/Kathmandu")).name == "month:2026-11"


@pytest.mark.parametrize("week_starts", WEEKDAYS)
def test_a_week_has_seven_days_across_the_years_end_wherever_it_starts(week_starts: Weekday) -> None:
    days = [at("2026-12-20") + timedelta(days) for days in range(28)]
    names = [window("week", day, UTC, week_starts).name for day in days]
    turns = [day for day, last, name in zip(days[1:], names, names[1:], strict=False) if name != last]

    assert all(f"{day:%A}".lower() == week_starts for day in turns)
    assert 3 <= len(turns) <= 4 and len(set(names)) == len(turns) + 1
    assert all(b - a == timedelta(7) for a, b in zip(turns, turns[1:], strict=False))


def test_a_week_ends_when_the_next_one_starts_on_the_clock_of_its_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    week = window("week", at("2027-03-26T12:00", "Europe/Berlin"), berlin)

    assert week == Window("week:2027-03-22", unix("2027-03-29", "Europe/Berlin"))
    assert week.ends - unix("2027-03-22", "Europe/Berlin") == (7 * 24 - 1) * HOUR


@given(st.sampled_from(CALENDAR), moments, zones, weekdays)
def test_a_window_of_the_calendar_lasts_until_its_end_and_not_longer(
    per: Per, now: datetime, zone: ZoneInfo, week_starts: Weekday
) -> None:
    found = window(per, now, zone, week_starts)
    ends = datetime.fromtimestamp(found.ends, UTC)

    assert now < ends
    assert window(per, ends - timedelta(microseconds=1), zone, week_starts) == found
    following = window(per, ends, zone, week_starts)
    assert following.name != found.name and following.ends > found.ends
    assert found.before is None and found.parts == 0 and found.length == 0


@given(moments, zones)
def test_a_moment_is_the_same_in_whatever_zone_it_is_written(now: datetime, zone: ZoneInfo) -> None:
    for per in PERS:
        assert window(per, now.astimezone(ZoneInfo("Pacific/Chatham")), zone) == window(per, now, zone)


def test_a_zone_without_a_name_will_do() -> None:
    assert window("day", at("2026-11-29T23:30"), timezone(timedelta(hours=1))).name == "day:2026-11-30"


# Those that slide...


@given(st.sampled_from(sorted(LENGTHS)), moments)
def test_a_window_that_slides_covers_its_length_and_weighs_the_one_before(per: Any, now: datetime) -> None:
    found = window(per, now)
    length = LENGTHS[per]
    elapsed = now.timestamp() - (found.ends - length)

    assert 0 <= elapsed < length and found.length == length
    assert abs(found.weight - (1 - elapsed / length)) <= 2 / PARTS
    assert found.parts / PARTS == found.weight
    assert window(per, now - timedelta(seconds=length)).name == found.before
    assert window(per, now + timedelta(seconds=length)).before == found.name


def test_a_change_of_the_clocks_does_not_touch_a_window_that_slides() -> None:
    hours = [at("2027-10-31T00:30", "UTC") + timedelta(minutes=20 * step) for step in range(9)]

    for zone in (ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")):
        assert [window("hour", hour, zone) for hour in hours] == [window("hour", hour) for hour in hours]


def test_the_window_before_counts_in_full_at_first_and_not_at_all_in_the_end() -> None:
    assert window("minute", at("2026-11-29T12:00")).weight == 1
    assert window("minute", at("2026-11-29T12:00:30")).weight == 0.5
    last = window("minute", at("2026-11-29T12:00:59.999999"))
    assert 0 < last.weight <= 1 / PARTS, "rounded up: who asks a moment too early is not admitted"


@given(st.integers(0, 2**62), st.integers(0, PARTS))
def test_a_share_is_rounded_up_and_exact_whatever_its_size(amount: int, parts: int) -> None:
    found = share(amount, parts)

    assert (found - 1) * PARTS < amount * parts <= found * PARTS


# When there is room again...


def line_of(per: Per, now: datetime, limit: int, amount: int, zone: ZoneInfo | None = None) -> Line:
    return Line("key", window(per, now, zone or UTC), limit, amount, True, 0, 0, 0.0)


class Counted:
    """What one window and the one before have, as an engine would count it."""

    def __init__(self, now: datetime, per: Per, here: int, before: int) -> None:
        found = window(per, now)
        self.counts = {found.name: here, found.before: before}

    def figures(self, window: Window) -> Figures:
        before = self.counts.get(window.before, 0)
        return Figures(self.counts.get(window.name, 0) + share(before, window.parts), 0, before)


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(LENGTHS)),
    moments,
    st.integers(1, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.data(),
)
def test_a_refused_line_is_admitted_from_the_second_that_is_told_and_no_microsecond_before(
    per: Any, now: datetime, limit: int, here: int, before: int, data: st.DataObject
) -> None:
    amount = data.draw(st.integers(1, limit))
    counted = Counted(now, per, here, before)
    line = line_of(per, now, limit, amount)
    if counted.figures(line.window).spent + amount <= limit:
        return
    told = admits_at(line, counted.figures(line.window))
    assert told is not None and now.timestamp() < told <= line.window.ends + line.window.length
    then = datetime.fromtimestamp(told, UTC)

    assert counted.figures(window(per, then)).spent + amount <= limit
    assert counted.figures(window(per, then - timedelta(microseconds=1))).spent + amount > limit
    later = data.draw(st.timedeltas(timedelta(0), timedelta(hours=3)))
    assert counted.figures(window(per, then + later)).spent + amount <= limit


def test_a_line_of_the_calendar_is_admitted_at_its_windows_end() -> None:
    line = line_of("month", at("2026-11-29T12:00"), 100, 1, ZoneInfo("Asia/Kathmandu"))

    assert admits_at(line, Figures(100, 0)) == unix("2026-12-01", "Asia/Kathmandu")


@pytest.mark.parametrize("per", PERS)
def test_what_is_more_than_the_limit_is_never_admitted(per: Per) -> None:
    assert admits_at(line_of(per, at("2026-11-29T12:00"), 100, 101), Figures(0, 0)) is None


# What is refused...


def test_a_time_without_a_zone_is_refused() -> None:
    for per in PERS:
        with pytest.raises(ValueError, match="aware"):
            window(per, datetime(2026, 11, 29))


def test_an_unknown_stretch_of_time_or_day_is_refused() -> None:
    with pytest.raises(ValueError, match="per must be one of minute, hour, day, week, month, not 'year'"):
        window("year", at("2026-11-29"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="week_starts must be one of monday, .*, not 'Monday'"):
        window("week", at("2026-11-29"), UTC, "Monday")  # type: ignore[arg-type]
