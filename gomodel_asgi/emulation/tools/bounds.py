"""What a host's function gave, no larger than a model may be told and a client be sent: both see the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...settings import Limits
from ...tools import Execution, Image, Page, Passage, ToolError
from .ledger import cut
from .source import Outcome

SHORTEST = 256
"""Bytes of a passage that are told at least; of more passages than have room for that the first are."""
TOO_LARGE = "The image is too large."


def bounded(result: Any, limits: Limits) -> Any:
    """*result* with texts no longer than `tool_result`, all of one result together, and without images that are larger
    than an `event`; what is no result of a tool as it is.

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
    if not _fits(image, limits):
        raise ToolError(TOO_LARGE)
    return image


def _fitting(images: Sequence[Image], limits: Limits) -> tuple[Image, ...]:
    return tuple(one for one in images if not isinstance(one, Image) or _fits(one, limits))


def _fits(image: Image, limits: Limits) -> bool:
    """Whether *image* has room in an event, in which it takes four bytes for three."""
    return len(image.data) // 3 * 4 < limits.event


def _cut(value: Any, most: int) -> Any:
    """*value*, of JSON, with no longer text in it."""
    if isinstance(value, str):
        return cut(value, most)
    if isinstance(value, dict):
        return {name: _cut(member, most) for name, member in value.items()}
    return [_cut(member, most) for member in value] if isinstance(value, list) else value
