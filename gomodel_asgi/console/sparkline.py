"""Lines that show how a figure went, as what an inline SVG needs: no style, so that a strict policy lets it be."""

from __future__ import annotations

from collections.abc import Sequence

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
