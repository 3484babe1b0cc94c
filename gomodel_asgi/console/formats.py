"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal

NOTHING = "–"
DAY = 86400


def count(value: float | None) -> str:
    """Returns a whole number with commas, from 100,000 on in thousands or millions."""
    if value is None:
        return NOTHING
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size * 100 or (size > 1e3 and value >= size):
            return f"{value / size:.3g}{letter}" if value < size * 100 else f"{value / size:,.0f}{letter}"
    return f"{value:,.0f}"


def figure(value: float | None) -> str:
    """Returns a whole number with at most three digits and a letter, or four without: for the figures at the top."""
    if value is None or value < 10_000:
        return count(value)
    size, letter = next(one for one in ((1e9, "B"), (1e6, "M"), (1e3, "k")) if value >= one[0])
    return f"{value / size:.3g}{letter}" if value < size * 1000 else f"{value / size:,.0f}{letter}"


def seconds(value: float | None) -> str:
    """Returns seconds with three figures, at most three of them behind the point."""
    if value is None:
        return NOTHING
    if value < 10:
        return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(value: float | None) -> str:
    """Returns a time in its largest unit: `40 s`, `12 min`, `3 h`, `5 days`."""
    if value is None:
        return NOTHING
    if value < 90:
        return f"{value:.0f} s"
    if value < 5400:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h" if value < 2 * DAY else f"{value / DAY:.0f} days"


def share(value: float | None) -> str:
    """Returns a share of 1 in per cent, without the sign."""
    if value is None:
        return NOTHING
    part = value * 100
    return "0" if not part else "<0.1" if part < 0.1 else f"{part:.1f}" if part < 9.95 else f"{part:.0f}"


def money(value: Decimal | str | None) -> str:
    """Returns US dollars: in cents, and what is less than a dollar to the hundredth of one."""
    if value is None:
        return NOTHING
    amount = Decimal(value)
    if not amount:
        return "$0.00"
    if amount >= 1000:
        return f"${amount:,.0f}"
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.4f}" if amount >= Decimal("0.0001") else "<$0.0001"


def size(value: float | None) -> str:
    """Returns bytes in B, kB or MB."""
    if value is None:
        return NOTHING
    if value < 1000:
        return f"{value:.0f} B"
    return f"{value / 1e3:.3g} kB" if value < 1e6 else f"{value / 1e6:.3g} MB"


def clock(stamp: str) -> str:
    """Returns the time of day of a time in RFC 3339's form."""
    return stamp[11:19]


def dated(stamp: str) -> str:
    """Returns day and time of a time in RFC 3339's form."""
    return f"{stamp[:10]} {stamp[11:19]} UTC"


def text(value: object) -> str:
    """Returns *value* as it stands, and a dash for None or nothing."""
    return NOTHING if value is None or value == "" else str(value)


FILTERS = {
    "count": count,
    "figure": figure,
    "seconds": seconds,
    "duration": duration,
    "share": share,
    "money": money,
    "size": size,
    "clock": clock,
    "dated": dated,
    "text": text,
}
