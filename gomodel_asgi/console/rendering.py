"""Pages and parts of pages as HTML: by templates that escape whatever they are given, figures as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from ..extras import missing
from .recorder import Exchange

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ImportError as error:
    raise missing("console", "Console needs Jinja2") from error

# Figures...


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


# Lines that show how a figure went, as an inline SVG needs them: no style, so that a strict policy lets it be...


WIDTH = 120
HEIGHT = 32
PAD = 2


def line(values: Sequence[float | None]) -> str:
    """Returns the path of *values*, oldest first, from the left to the right; where one is None, the line breaks,
    and one that stands alone is a dot."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    parts: list[str] = []
    before: float | None = None
    for number, value in enumerate(values):
        if value is not None:
            y = HEIGHT - PAD - value / top * (HEIGHT - 2 * PAD)
            parts.append(f"M{number * step:.1f} {y:.1f}h0" if before is None else f"L{number * step:.1f} {y:.1f}")
        before = value
    return "".join(parts)


def area(values: Sequence[float | None]) -> str:
    """Returns the path of what lies below the line of *values*."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    parts: list[str] = []
    before: float | None = None
    for number, value in enumerate((*values, None)):
        x = min(number, len(values) - 1) * step
        if value is not None:
            y = HEIGHT - PAD - value / top * (HEIGHT - 2 * PAD)
            parts.append(f"M{x:.1f} {HEIGHT}L{x:.1f} {y:.1f}" if before is None else f"L{x:.1f} {y:.1f}")
        elif before is not None:
            parts.append(f"L{(number - 1) * step:.1f} {HEIGHT}Z")
        before = value
    return "".join(parts)


def words(name: str, values: Sequence[float | None], shown: str) -> str:
    """Returns the same for those who do not see it; *shown* is the figure as of now."""
    known = [value for value in values if value is not None]
    if not any(known):
        return f"{name}, the last 30 minutes: nothing. Now {shown}."
    highest = max(known)
    behind = (len(values) - 1 - list(values).index(highest)) * 30 // 60
    when = "in the last minute" if behind == 0 else f"{behind} minutes ago"
    return f"{name}, the last 30 minutes: highest {when}. Now {shown}."


def bars(values: Sequence[float]) -> list[tuple[float, float, float]]:
    """Returns left, top and height of a bar for each of *values*, in a box of 100 by 100 that they fill in width."""
    top = max(values, default=0.0) or 1.0
    width = 100 / max(1, len(values))
    return [
        (round(number * width, 3), round(100 - value / top * 100, 2), round(value / top * 100, 2))
        for number, value in enumerate(values)
    ]


# Templates...


environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
environment.filters |= {
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
environment.globals |= {
    "line": line,
    "area": area,
    "bars": bars,
    "words": words,
}


def rendered(template: str, **values: Any) -> str:
    """Returns the *template* of this name, filled."""
    return environment.get_template(f"{template}.html").render(**values)


def row(one: Exchange) -> str:
    """Returns an exchange, which has been shown, as a row of a table: rendered once, and then kept with it."""
    if one.html is None:
        one.html = str(_row().row(one.shown))
    return one.html


@cache
def _row() -> Any:
    return environment.get_template("row.html").module
