"""What the calls of one response have come to: how many they may be, which were asked already, how much was told.

It answers a call that is not to be run in words for the model, and cuts what is too long for one. It knows no clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ...settings import Limits
from .plan import Shown

LIMIT = "Not run: no more tools may be called for this answer. Answer with what you have."
ALONE = "Not run: one call at a time is allowed here. Call it again if it is still needed."
ASKED = "Not run: the same was called several times already, and the answers stand above. Go on with them."
UNKNOWN = "There is no tool of this name."
BROKEN = "Not run: the arguments are no JSON object. Call it again with arguments that are."
DOWN = "Not run: this server has failed several times in a row. Do not call it again; go on without it."
EMPTY = "[No room is left for what tools say in this answer. Answer with what you have.]"
CUT = "\n[… {size} characters were left out …]\n"

REPEATS = 3
"""Identical calls that are run."""
FAILURES = 3
"""Failures in a row after which a server is not asked again."""


@dataclass(slots=True)
class Ledger:
    """The calls of one response; *most* is the client's `max_tool_calls`, None for no limit."""

    limits: Limits
    most: int | None = None
    calls: int = 0
    told: int = 0
    """Bytes that the model was told."""
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def spent(self) -> bool:
        """Whether no further call may be run."""
        return self.most is not None and self.calls >= self.most

    def take(self) -> bool:
        """Count one more call; whether it may be."""
        if self.spent:
            return False
        self.calls += 1
        return True

    def refusal(self, shown: Shown, arguments: str) -> str | None:
        """Why this call is not to be run, None where it is."""
        if shown.label and self.failures[shown.label] >= FAILURES:
            return DOWN
        self.asked[shown.name, arguments] += 1
        return ASKED if self.asked[shown.name, arguments] > REPEATS else None

    def ended(self, shown: Shown, *, failed: bool) -> None:
        """A call has ended."""
        if shown.label:
            self.failures[shown.label] = self.failures[shown.label] + 1 if failed else 0

    def fit(self, text: str) -> str:
        """*text* as the model is told it: no longer than one result may be, nor than what is left of all."""
        room = min(self.limits.tool_result, self.limits.tool_bytes - self.told)
        fitting = cut(text, room) if room > 0 else EMPTY
        self.told += len(fitting.encode("utf-8", "replace"))
        return fitting


def cut(text: str, most: int) -> str:
    """*text* in at most about *most* bytes: its head and its tail, and between them how much is missing."""
    if len(text) <= most and len(text.encode("utf-8", "surrogatepass")) <= most:
        return text
    half = most // 2
    head = text[:half].encode("utf-8", "replace")[:half].decode("utf-8", "ignore")
    tail = text[len(text) - half :].encode("utf-8", "replace")[-half:].decode("utf-8", "ignore") if half else ""
    return head + CUT.format(size=len(text) - len(head) - len(tail)) + tail
