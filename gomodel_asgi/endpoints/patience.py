"""Tells what lasts from what does not: one timer of the event loop for all requests, instead of one for each.

Nearly every request ends before its client could be missed. A timer of its own would cost such a request more than a
place in a set does.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

ROUND = 0.03  # seconds; who waits is overdue after one to two of them


class Waiting(Protocol):
    """Who wants to know that it lasts."""

    def overdue(self) -> None:
        """It does."""


class Patience:
    """Those who wait on one event loop; its timer runs only while there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.young: set[Waiting] = set()
        self.old: set[Waiting] = set()
        self.ticking = False

    def begin(self, waiting: Waiting) -> None:
        """Call `overdue` after one to two rounds, unless it ends before."""
        self.young.add(waiting)
        if not self.ticking:
            self.ticking = True
            self.loop.call_later(ROUND, self._tick)

    def end(self, waiting: Waiting) -> None:
        """It has ended; further calls do nothing."""
        self.young.discard(waiting)
        self.old.discard(waiting)

    def _tick(self) -> None:
        due, self.old, self.young = self.old, self.young, set()
        self.ticking = bool(self.old)
        if self.ticking:
            self.loop.call_later(ROUND, self._tick)
        for waiting in due:
            waiting.overdue()


class _Recent(threading.local):
    """A thread runs one loop at a time, and nearly always the same."""

    patience: Patience | None = None


_recent = _Recent()


def patience(loop: asyncio.AbstractEventLoop) -> Patience:
    """The one of *loop*, which is running."""
    found = _recent.patience
    if found is None or found.loop is not loop:
        found = _recent.patience = Patience(loop)
    return found
