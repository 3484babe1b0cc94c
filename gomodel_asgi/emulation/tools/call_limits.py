"""What the calls of one response have come to: how many they may be, which were asked already, how much was read.

It answers a call that is not to be run in words for the model, and cuts what is too long for one. It knows no clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...settings import MIB, Limits
from ...tools import Execution, Image, Page, Passage, ToolError
from .seams import Outcome, Shown

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
"""Bytes of images, in base64, that are kept with one response; of more than that a later turn is told in words."""
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


# What a host's function gave, no larger than a model may read and a client be sent: both see the same of it.


SHORTEST = 256
"""Bytes of a passage that are shown at least; of more passages than have room for that the first are."""
TOO_LARGE = "The image is too large."


def bounded(result: Any, limits: Limits) -> Any:
    """Returns *result* with texts of at most `tool_result` bytes in all, and without images larger than an `event`.
    What no tool can return is left as it is.

    :raises ToolError: the result is such an image.
    """
    most = limits.tool_result
    if isinstance(result, str):
        return cut(result, most)
    if isinstance(result, Image):
        return _image(result, limits)
    if isinstance(result, Outcome):
        return replace(
            result, text=cut(result.text, most), images=_fitting(result.images, limits), error=_cut(result.error, most)
        )
    if isinstance(result, Execution):
        images = _fitting(result.images, limits)
        lost = len(result.images) - len(images)
        return replace(result, logs=cut(result.logs, most) + f"\n[{TOO_LARGE}]" * lost, images=images)
    if isinstance(result, Sequence) and not isinstance(result, bytes):
        return _shared(result, limits)
    return result


def _shared(found: Sequence[Any], limits: Limits) -> list[Any]:
    """Pages and passages, each with its share of the room."""
    room = limits.tool_result
    found = found[: max(1, room // SHORTEST)]
    fits = sum(_size(one.text, room) for one in found if isinstance(one, Page | Passage)) <= room
    return [_part(one, room if fits else room // len(found), limits) for one in found]


def _size(text: str, most: int) -> int:
    """The bytes of *text*, or of one that is longer than *most* its characters."""
    return len(text) if len(text) > most else len(text.encode("utf-8", "surrogatepass"))


def _part(one: Any, most: int, limits: Limits) -> Any:
    if isinstance(one, Page):
        return Page(one.url, cut(one.title, SHORTEST * 4), cut(one.text, most))
    if isinstance(one, Passage):
        return replace(one, text=cut(one.text, most))
    return _image(one, limits) if isinstance(one, Image) else one


def _image(image: Image, limits: Limits) -> Image:
    """Returns *image*.

    :raises ToolError: it has no room in an event.
    """
    if not _fits(image, limits):
        raise ToolError(TOO_LARGE)
    return image


def _fitting(images: Sequence[Image], limits: Limits) -> tuple[Image, ...]:
    return tuple(one for one in images if not isinstance(one, Image) or _fits(one, limits))


def _fits(image: Image, limits: Limits) -> bool:
    """Returns whether *image* has room in an event, in which it takes four bytes for three."""
    return len(image.data) // 3 * 4 < limits.event


def _cut(value: Any, most: int) -> Any:
    """*value*, of JSON, with no longer text in it."""
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, dict):
        return {name: _cut(member, most) for name, member in value.items()}
    return [_cut(member, most) for member in value] if isinstance(value, list) else value
