"""One circuit, and the counts by which it opens: plain numbers on one clock."""

from __future__ import annotations

from ..seams.health import State

WINDOW = 30.0  # seconds over which failures are counted
MINIMUM = 10  # requests in a window below which a rate says nothing
RATE = 0.5  # of failures, from which a circuit opens
PAUSE = 10.0  # seconds until an open circuit lets a request through, and from each such request to the next
SPACING = 1.0  # seconds in which a tenant's failures count once in the shared circuit


NOTHING = (0, 0, 0)


class Window:
    """Counts in two windows that take turns: the running one and the one before. *counted* are spaced failures."""

    __slots__ = ("counted", "failures", "requests", "since", "was")

    def __init__(self, now: float) -> None:
        self.since = now
        self.clear()

    def clear(self) -> None:
        """Forgets what was counted."""
        self.requests = self.failures = self.counted = 0
        self.was = NOTHING

    def turn(self, now: float) -> None:
        """Begins the next window: the running one is over."""
        recent = now - self.since < 2 * WINDOW
        self.was = (self.requests, self.failures, self.counted) if recent else NOTHING
        self.requests = self.failures = self.counted = 0
        self.since = now

    def failed(self, now: float, counts: bool) -> None:
        """Counts a request that has failed; *counts*: in the shared circuit too."""
        if now - self.since >= WINDOW:
            self.turn(now)
        self.requests += 1
        self.failures += 1
        self.counted += counts

    def counts(self, now: float) -> tuple[int, int, int]:
        """Returns requests, failures, and spaced failures of both windows. Nothing is changed by looking."""
        age = now - self.since
        if age >= 2 * WINDOW:
            return NOTHING
        requests, failures, counted = NOTHING if age >= WINDOW else self.was
        return self.requests + requests, self.failures + failures, self.counted + counted


class Circuit:
    """Closed, or open since *opened*. *probed* is when a request was last let through that is not decided yet."""

    __slots__ = ("opened", "probed")

    def __init__(self) -> None:
        self.close()

    def close(self) -> None:
        """Lets all requests pass."""
        self.opened: float | None = None
        self.probed: float | None = None

    def open(self, now: float) -> None:
        """Lets none pass for `PAUSE` from *now* on, in seconds."""
        self.opened, self.probed = now, None

    def wait(self, now: float) -> float:
        """Returns the seconds until it lets a request through."""
        if self.opened is None:
            return 0.0
        return max(0.0, (self.opened if self.probed is None else self.probed) + PAUSE - now)

    def state(self, now: float) -> State:
        """Returns its state at *now*, in seconds: half-open when `PAUSE` is over, and a probe may pass."""
        if self.opened is None:
            return "closed"
        return "half-open" if now - self.opened >= PAUSE else "open"


class Record(Window):
    """What one tenant has seen, and its own circuit. *spaced* is when a failure last counted in the shared one."""

    __slots__ = ("circuit", "spaced")

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.circuit = Circuit()
        self.spaced = now - SPACING

    def is_failing(self, now: float, minimum: int = 1) -> bool:
        """Returns whether at least `RATE` of at least *minimum* requests have failed, as of *now* in seconds."""
        requests, failures, _ = self.counts(now)
        return requests >= minimum and failures >= RATE * requests

    def is_answered(self, now: float) -> bool:
        """Returns whether there were requests and fewer than `RATE` of them failed, as of *now* in seconds."""
        requests, failures, _ = self.counts(now)
        return requests > 0 and failures < RATE * requests
