"""What the calls of one response have come to: how many they may be, which were asked already, how much was read.

It answers a call that is not to be run in words for the model, and cuts what is too long for one. It knows no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...settings import MIB, Limits
from .seams import Shown

LIMIT = "Not run: no more tools may be called for this answer. Answer with what you have."
ALONE = "Not run: one call at a time is allowed here. Call it again if it is still needed."
REPEATED = "Not run: the same was called several times already, and the answers stand above. Go on with them."
UNKNOWN = "There is no tool of this name."
BROKEN = "Not run: the arguments are no JSON object. Call it again with arguments that are."
DOWN = "Not run: this server has failed several times in a row. Do not call it again; go on without it."
EMPTY = "[No room is left for what tools say in this answer. Answer with what you have.]"
CUT = "\n[… {size} characters were left out …]\n"

REPEATS = 3
"""Identical calls that are run."""
KEPT_IMAGES = MIB
"""Bytes of images, in base64, that are kept with one response; a later turn gets only the text of the others."""
FAILURES = 3
"""Failures in a row after which a server is not asked again."""


@dataclass(slots=True)
class CallLimits:
    """The calls of one response; *most* is the client's `max_tool_calls`, None for no limit."""

    limits: Limits
    most: int | None = None
    calls: int = 0
    read: int = 0
    """Bytes that the model has read of their results."""
    images: int = 0
    """Bytes of images that later turns are to see."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def spent(self) -> bool:
        """Whether no further call may be run."""
        return self.most is not None and self.calls >= self.most

    def take(self) -> bool:
        """Counts one more call; returns whether it may be made."""
        if self.spent:
            return False
        self.calls += 1
        return True

    def give_back(self) -> None:
        """A call that was counted is not run after all."""
        self.calls -= 1

    def refusal(self, shown: Shown, arguments: str) -> str | None:
        """Why this call is not to be run, None where it is."""
        if shown.label and self.failures[shown.label] >= FAILURES:
            return DOWN
        self.seen[shown.name, arguments] += 1
        return REPEATED if self.seen[shown.name, arguments] > REPEATS else None

    def ended(self, shown: Shown, *, failed: bool) -> None:
        """Notes that a call has ended."""
        if shown.label:
            self.failures[shown.label] = self.failures[shown.label] + 1 if failed else 0

    def fit(self, text: str) -> str:
        """*text* as the model reads it: no longer than one result may be, nor than what is left of all."""
        room = min(self.limits.tool_result, self.limits.tool_bytes - self.read)
        fitting = cut(text, room) if room > 0 else EMPTY
        self.read += len(fitting.encode("utf-8", "replace"))
        return fitting

    def images_to_keep(self, urls: Sequence[str]) -> tuple[str, ...]:
        """Those of *urls*, which hold images, that are kept for later turns: the first that fit into `KEPT_IMAGES`."""
        kept = []
        for url in urls:
            if self.images + len(url) <= KEPT_IMAGES:
                self.images += len(url)
                kept.append(url)
        return tuple(kept)


def cut(text: str, most: int) -> str:
    """*text* in at most about *most* bytes: its head and its tail, and between them how much is missing."""
    if len(text) <= most and len(text.encode("utf-8", "surrogatepass")) <= most:
        return text
    half = most // 2
    head = text[:half].encode("utf-8", "replace")[:half].decode("utf-8", "ignore")
    tail = text[len(text) - half :].encode("utf-8", "replace")[-half:].decode("utf-8", "ignore") if half else ""
    return head + CUT.format(size=len(text) - len(head) - len(tail)) + tail
