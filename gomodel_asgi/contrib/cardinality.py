"""Keeps label sets of metrics bounded: models and error codes are chosen by others."""

from __future__ import annotations

OTHER = "other"


class Bounded:
    """Passes the first *limit* distinct values; every later new one becomes `other`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: set[str] = set()

    def __call__(self, value: str | None) -> str:
        """*value* as a label; `""` for None."""
        if not value or value in self.known:
            return value or ""
        if len(self.known) >= self.limit:
            return OTHER
        self.known.add(value)
        return value
