"""What a tool gave, as a model may read it: as the host's guards let it pass, and no larger than the limits allow.

Guards also see the arguments before a tool runs, and what servers list.

What a guard puts in place of a text is what runs, what the model reads, what the client sees and what later turns have:
there is no other. A refusal is the response's, not the tool's: the model is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ...exchange.job import Job
from ...settings import Limits
from ...tools import Execution, File, Image, Page, Passage, ToolError
from .call_limits import cut
from .round import Round
from .seams import Json, Listed, Outcome, Shown

Path = tuple[str | int, ...]
Change = Callable[[Path, Any], Any]


def path_of(shown: Shown) -> Path:
    """Where what concerns the tool *shown* stands: `web_search`, or `mcp.crm.refund`."""
    return ("mcp", shown.label, shown.called) if shown.listed is not None else (shown.family.name,)


async def pass_arguments(job: Job, round: Round) -> None:
    """Lets the guards of replies see the arguments of those calls of *round* that are to be run, now or once the client
    has approved them.

    :raises GatewayError: one refuses them, or fails.
    """
    guards = job.setup.guards
    if guards is None:
        return
    calls = [call for call in round.calls if call.shown is not None and (call.approves or call.begun is not None)]
    paths: list[Path] = [
        (*path_of(call.shown), "calls", number, "arguments") for number, call in enumerate(calls) if call.shown
    ]
    places = [(path, call.arguments) for path, call in zip(paths, calls, strict=True)]
    changed = await guards.filter_texts(job, "output", places)
    made = {call.call_id: changed[path] for path, call in zip(paths, calls, strict=True) if path in changed}
    for path, call in zip(paths, calls, strict=True):
        if path in changed:
            call.pieces = [changed[path]]
    round.output = [_rewritten(item, made) for item in round.output]


def _rewritten(item: Json, made: dict[str, str]) -> Json:
    new = made.get(str(item.get("call_id"))) if item.get("type") == "function_call" else None
    return item if new is None else {**item, "arguments": new}


async def passed(job: Job, shown: Shown, returned: Any) -> Any:
    """*returned*, which the tool *shown* gave, as a model may read it.

    :raises GatewayError: a guard refuses it, or fails.
    """
    guards = job.setup.guards
    if guards is None:
        return returned
    places: list[tuple[Path, str]] = []

    def collected(path: Path, text: Any) -> Any:
        if isinstance(text, str):
            places.append((path, text))
        return text

    path = path_of(shown)
    _changed(returned, path, collected)
    texts = await guards.filter_texts(job, "input", places)
    return _changed(returned, path, lambda path, text: texts.get(path, text)) if texts else returned


def _changed(value: Any, path: Path, change: Change) -> Any:
    """*value*, of a tool's, with each text as *change* gives it for its path; bytes stay as they are."""
    if isinstance(value, str):
        return change(path, value)
    if isinstance(value, Page):
        return Page(*(change((*path, name), getattr(value, name)) for name in ("url", "title", "text")))
    if isinstance(value, Passage):
        named = {name: change((*path, name), getattr(value, name)) for name in ("filename", "text")}
        attributes = {name: change((*path, "attributes", name), one) for name, one in dict(value.attributes).items()}
        return replace(value, **named, attributes=attributes)
    if isinstance(value, Image):
        return replace(value, revised_prompt=change((*path, "revised_prompt"), value.revised_prompt))
    if isinstance(value, File):
        return replace(value, filename=change((*path, "filename"), value.filename))
    if isinstance(value, Execution):
        files = [_changed(one, (*path, "files", number), change) for number, one in enumerate(value.files)]
        return replace(value, logs=change((*path, "logs"), value.logs), files=files)
    if isinstance(value, Outcome):
        error = _error(value.error, (*path, "error"), change)
        return replace(value, text=change((*path, "text"), value.text), error=error)
    if isinstance(value, list | tuple):
        return [_changed(one, (*path, number), change) for number, one in enumerate(value)]
    return value


def _error(value: Any, path: Path, change: Change) -> Any:
    """*value*, the error of a call, or a part of it; its `type` stays as it is."""
    if isinstance(value, dict):
        return {name: one if name == "type" else _error(one, (*path, name), change) for name, one in value.items()}
    if isinstance(value, list):
        return [_error(one, (*path, number), change) for number, one in enumerate(value)]
    return change(path, value)


async def passed_list(job: Job, label: str, tools: Sequence[Listed]) -> Sequence[Listed]:
    """*tools*, which the server *label* has, as a model may be shown them.

    :raises GatewayError: a guard refuses what it says, or fails.
    """
    guards = job.setup.guards
    if guards is None or not tools:
        return tools
    given = [{"description": one.description, "input_schema": one.input_schema} for one in tools]
    shown = await guards.filter_value(job, "input", given, ("mcp", label, "tools"))
    return tools if shown is given else [replace(one, **new) for one, new in zip(tools, shown, strict=True)]


# The bounds: no larger than a model may read and a client be sent; both see the same of it.


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
