"""Lines for tests: a window that slides and one of the calendar, at a time that the test says."""

from __future__ import annotations

from datetime import UTC, datetime

from gomodel_asgi.quotas.windows import Per, window
from gomodel_asgi.seams.counters import Line

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
SLOT = 600
"""Seconds in which holds are kept together. They count for six of these and the running one."""

KEEPS = 3600.0


def line(
    now: float = NOON, *, key: str = "k", per: Per = "month", limit: int = 100, amount: int = 1, holds: bool = True
) -> Line:
    """What a request at *now* wants."""
    slot = int(now // SLOT)
    return Line(key, window(per, datetime.fromtimestamp(now, UTC)), limit, amount, holds, slot, slot - 6, KEEPS)
