"""Concurrency limits: so many at a time, as many again waiting in order, the rest turned away at once."""

from __future__ import annotations

from collections import deque

import anyio

from .errors import Overloaded


class Turnstile:
    """Lets *limit* requests be under way. Waiters are served in the order in which they came."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self.what = what
        self.inside = 0
        self.waiting: deque[anyio.Event] = deque()

    async def enter(self, timeout: float) -> None:
        """Wait at most *timeout* seconds for a place. Pair with `leave`.

        :raises Overloaded: no place came free in time, or as many already wait as are let in.
        """
        if self.inside < self.limit:
            self.inside += 1
            return
        if len(self.waiting) >= self.limit:
            raise self._full()
        turn = anyio.Event()
        self.waiting.append(turn)
        try:
            with anyio.fail_after(timeout):
                await turn.wait()
        except TimeoutError:
            self._give_up(turn)
            raise self._full() from None
        except BaseException:
            self._give_up(turn)
            raise

    def leave(self) -> None:
        """Give the place to whoever has waited longest."""
        if self.waiting:
            self.waiting.popleft().set()
        else:
            self.inside -= 1

    def _give_up(self, turn: anyio.Event) -> None:
        if turn.is_set():
            self.leave()  # the place came while we were leaving
        else:
            self.waiting.remove(turn)

    def _full(self) -> Overloaded:
        return Overloaded(f"Too many requests are under way for this {self.what}; try again shortly.")
