"""The request in the client's terms, for a dialect to translate, and what a dialect makes of it.

A call's arguments, and what we have packed into `encrypted_content`, are JSON inside the strings of a request. A
dialect parses it, and none of it has been counted: to whoever looked at the body it was text. Arguments that are nested
too deeply to be parsed are text to a dialect too, like all that is no JSON: what a model has once said must not end a
conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..dialects.base import PREFIX, Call, Outgoing, packed_json
from ..errors import InvalidRequest
from ..exchange.job import Job
from ..routing.target import ResolvedTarget
from ..settings import KIB, Limits
from ..threads import beside, paced
from ..wire.json_pieces import SMALL
from ..wire.json_scan import Unreadable, check, counted
from .bodies import refusing_depth, too_deep

ITEM_LISTS = ("instructions", "input")
PACKED = "encrypted_content"


async def check_strings(found: list[tuple[str, str]], limits: Limits) -> None:
    """Refuses a request whose strings, *found* by `strings_of`, hold more JSON than it may hold itself.

    :raises InvalidRequest: what we have packed is nested too deeply, or all together have too many values.
    """
    room = limits.values
    is_little = sum(len(text) for _, text in found) <= room  # a value takes a character at least
    for path, text in found:
        packed = path.endswith(PACKED)
        data = packed_json(text) if packed else text.encode("utf-8", "surrogatepass")
        depth = limits.depth if packed else len(data)
        try:
            if is_little:
                check(data, depth=depth, values=room)
            else:
                room -= await paced(counted(data, depth=depth, values=room))
        except Unreadable as error:
            message = f"The JSON in '{path}' cannot be read: {error}"
            raise InvalidRequest(message, param=path, code="invalid_json") from None


def strings_of(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The strings that hold JSON, by path."""
    found: list[tuple[str, str]] = []
    for name in ITEM_LISTS:
        items = body.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            arguments, packed = item.get("arguments"), item.get(PACKED)
            if isinstance(arguments, str):
                found.append((f"{name}[{index}].arguments", arguments))
            if isinstance(packed, str) and packed.startswith(PREFIX):
                found.append((f"{name}[{index}].{PACKED}", packed))
    return found


async def call_of(candidate: ResolvedTarget, job: Job, body: Mapping[str, Any] | None = None) -> Call:
    """The request in the client's terms, for a dialect to translate. *body* replaces the client's parsed one.

    :raises InvalidRequest: it cannot be parsed, names no model, or names state or a file that is not to be had.
    """
    envelope, target = job.request.envelope, candidate.target
    if body is None:
        if envelope.parsed is None and len(envelope.raw) > SMALL:
            await paced(envelope.parsing())
        if job.continuation is None:
            body = envelope.body
        else:
            with refusing_depth():
                body = job.continuation.body(candidate.provider, candidate.key)
    merged = {**body}
    merged.pop("provider", None)
    for name, value in (target.params or {}).items():
        merged.pop(name, None) if value is None else merged.__setitem__(name, value)
    if strings := strings_of(merged):
        await check_strings(strings, job.setup.limits)
    if candidate.model is None:
        raise InvalidRequest("Name a 'model'.", param="model", code="missing_required_parameter")
    merged["model"] = candidate.model
    provider = candidate.provider
    call = Call(
        operation=job.request.operation,
        body=merged,
        model=candidate.model,
        stream=envelope.stream,
        provider=provider.name,
        type=provider.type or provider.name,
        unsupported=provider.unsupported,
        depth=job.setup.limits.depth,
        reasoning_tags=provider.reasoning_tags,
        shown=job.shown(target),
    )
    return call if job.files is None else await job.files.put_in(call, candidate, job)


async def outgoing_of(candidate: ResolvedTarget, job: Job, call: Call) -> Outgoing:
    """*call* in the upstream's form.

    :raises InvalidRequest: it cannot be translated.
    """
    assert candidate.dialect is not None
    size, items = len(job.request.envelope.raw), call.body.get("input")
    if job.continuation is not None and isinstance(items, list):
        size += len(items) * KIB  # the earlier conversation is no part of the client's own body
    try:
        return await beside(size, partial(candidate.dialect.request, call))
    except RecursionError:
        raise too_deep() from None
