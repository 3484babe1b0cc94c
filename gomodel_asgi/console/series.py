"""Figures of the last half hour, in steps of ten seconds: for rates, shares and sparklines."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from msgspec import Struct, field

from ..observers import Ended, ToolCalled
from ..operations import BILLED

STEP = 10.0
"""Seconds that one count is of."""
STEPS = 180
MINUTE = 6
"""Steps of the last minute, of which the newest is not over: 50 to 60 seconds."""
RECENT = 30
"""Steps of the last five minutes."""
POINTS = 60
GROWTH = math.log(1.1)
SHORTEST = 0.001
"""Seconds: what is shorter counts as this."""
MOST_TOOLS = 500


class Figures(Struct):
    """What is counted of one step, or of several together."""

    step: int = 0
    requests: int = 0
    failed: int = 0
    tokens: int = 0
    seconds: Counter[int] = field(default_factory=Counter)
    """How many answers took how long, by the logarithm of their seconds: no more than 5 % from the truth."""

    def add(self, other: Figures) -> None:
        """Counts what *other* has counted, too."""
        self.requests += other.requests
        self.failed += other.failed
        self.tokens += other.tokens
        self.seconds.update(other.seconds)

    def quantile(self, share: float) -> float | None:
        """Returns the seconds within which this *share* of the answers was complete; None where there are none."""
        left = math.ceil(share * self.seconds.total())
        for power in sorted(self.seconds):
            left -= self.seconds[power]
            if left <= 0:
                return math.exp((power - 0.5) * GROWTH)
        return None


class ToolTally(Struct):
    """What has been called of one hosted tool, and what became of it."""

    tool: str
    label: str | None
    name: str
    calls: int = 0
    failed: int = 0
    timeout: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


class Series:
    """The figures of whatever is added to it, and of the hosted tools that were called."""

    def __init__(self) -> None:
        self.steps: deque[Figures] = deque(maxlen=STEPS + 1)
        self.tools: dict[tuple[str, str | None, str], ToolTally] = {}
        self.looked_at = 0.0

    def add(self, at: float, *, failed: bool, tokens: int, seconds: float | None) -> None:
        """An exchange has ended *at* this time; *seconds* are those of an answer that a model gave."""
        step = int(at / STEP)
        if not self.steps or self.steps[-1].step < step:
            self.steps.append(Figures(step))
        figures = self.steps[-1]
        figures.requests += 1
        figures.failed += failed
        figures.tokens += tokens
        if seconds is not None:
            figures.seconds[math.ceil(math.log(max(seconds, SHORTEST)) / GROWTH)] += 1

    def ended(self, began: float, record: Ended) -> None:
        """The exchange that *began* at this time has ended."""
        billed = record.operation in BILLED and record.error is None
        self.add(
            began + record.seconds,
            failed=record.error is not None,
            tokens=0 if record.usage is None else record.usage.total_tokens,
            seconds=record.seconds if billed else None,
        )

    def called(self, record: ToolCalled) -> None:
        """A hosted tool was called."""
        tally = self.tool(record.tool, record.label, record.name)
        tally.calls += 1
        tally.failed += record.outcome == "failed"
        tally.timeout += record.outcome == "timeout"
        tally.refused += record.outcome == "refused"
        tally.seconds += record.seconds
        tally.slowest = max(tally.slowest, record.seconds)
        tally.bytes_in += record.bytes_in
        tally.bytes_out += record.bytes_out

    def over(self, now: float, steps: int) -> Figures:
        """Returns the figures of the last so many *steps* together, the running one with them."""
        oldest = int(now / STEP) - steps
        return _sum(figures for figures in _latest(self.steps) if figures.step > oldest)

    def points(self, now: float) -> list[Figures]:
        """Returns the figures of the last half hour, oldest first, in `POINTS` parts: of steps that are over, so that
        the newest part is as long as the others."""
        width = STEPS // POINTS
        oldest = int(now / STEP) - STEPS
        parts: list[list[Figures]] = [[] for _ in range(POINTS)]
        for figures in tuple(self.steps):
            if 0 <= figures.step - oldest < STEPS:
                parts[(figures.step - oldest) // width].append(figures)
        return [_sum(part) for part in parts]

    def tool(self, tool: str, label: str | None, name: str) -> ToolTally:
        """Returns the tally of one tool; beyond `MOST_TOOLS` of them, all others have one together."""
        key = (tool, label, name)
        if key not in self.tools and len(self.tools) >= MOST_TOOLS:
            key = (tool, None, "(others)")
        if key not in self.tools:
            self.tools[key] = ToolTally(*key)
        return self.tools[key]


def _latest(steps: deque[Figures]) -> Iterator[Figures]:
    return reversed(tuple(steps))


def _sum(parts: Iterable[Figures]) -> Figures:
    whole = Figures()
    for part in parts:
        whole.add(part)
    return whole
