"""What counters in another process have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import QuotaUnavailable
from ..seams.counters import REPEATS, Line


def quota_unavailable(detail: str) -> QuotaUnavailable:
    """Returns the error of counters that do not answer."""
    return QuotaUnavailable("The gateway cannot check your quota right now; try again later.", detail=detail)


def require_countable(lines: Sequence[Line], most: int, engine: str) -> None:
    """Refuses limits that *engine* cannot count to.

    :raises ValueError: a limit of *lines* is more than *most*.
    """
    for line in lines:
        if line.limit > most:
            raise ValueError(f"{engine} counts to {most:,}: the limit {line.limit:,} is more.")


def open_for(lines: Sequence[Line]) -> float:
    """Returns the seconds for which a hold of *lines* may wait to be settled, repetitions included."""
    return max([line.keeps for line in lines], default=0.0) + REPEATS
