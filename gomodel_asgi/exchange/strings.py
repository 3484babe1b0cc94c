"""JSON inside the strings of a request: a call's arguments, and what we have packed into `encrypted_content`.

A dialect parses it, and none of it has been counted: to whoever looked at the body it was text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..dialects.sealed import PREFIX, unpacked
from ..errors import InvalidRequest
from ..pace import paced
from ..scan import Unreadable, check, counted
from ..settings import Limits

LISTS = ("instructions", "input")


async def check_strings(body: Mapping[str, Any], limits: Limits) -> None:
    """Refuse a request whose strings hold more JSON than it may hold itself.

    :raises InvalidRequest: one of them is nested too deeply, or all together have too many values.
    """
    found, room = [*strings_of(body)], limits.values
    is_little = sum(len(text) for _, text in found) <= room  # a value takes a character at least
    for path, text in found:
        data = unpacked(text) if text.startswith(PREFIX) else text.encode("utf-8", "surrogatepass")
        try:
            if is_little:
                check(data, depth=limits.depth, values=room)
            else:
                room -= await paced(counted(data, depth=limits.depth, values=room))
        except Unreadable as error:
            message = f"The JSON in '{path}' cannot be read: {error}"
            raise InvalidRequest(message, param=path, code="invalid_json") from None


def strings_of(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The strings that hold JSON, by path."""
    for name in LISTS:
        items = body.get(name)
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            arguments, packed = item.get("arguments"), item.get("encrypted_content")
            if isinstance(arguments, str):
                yield f"{name}[{index}].arguments", arguments
            if isinstance(packed, str) and packed.startswith(PREFIX):
                yield f"{name}[{index}].encrypted_content", packed
