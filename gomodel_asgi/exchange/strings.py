"""JSON inside the strings of a request: a call's arguments, and what we have packed into `encrypted_content`.

A dialect parses it, and none of it has been counted: to whoever looked at the body it was text. Arguments that are
nested too deeply to be parsed are text to a dialect too, like all that is no JSON: what a model has once said must not
end a conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..dialects.opaque_state import PREFIX, unpacked
from ..errors import InvalidRequest
from ..pace import paced
from ..settings import Limits
from ..wire.json_scan import Unreadable, check, counted

LISTS = ("instructions", "input")
PACKED = "encrypted_content"


async def check_strings(body: Mapping[str, Any], limits: Limits) -> None:
    """Refuse a request whose strings hold more JSON than it may hold itself.

    :raises InvalidRequest: what we have packed is nested too deeply, or all together have too many values.
    """
    found, room = [*strings_of(body)], limits.values
    is_little = sum(len(text) for _, text in found) <= room  # a value takes a character at least
    for path, text in found:
        packed = path.endswith(PACKED)
        data = unpacked(text) if packed else text.encode("utf-8", "surrogatepass")
        depth = limits.depth if packed else len(data)
        try:
            if is_little:
                check(data, depth=depth, values=room)
            else:
                room -= await paced(counted(data, depth=depth, values=room))
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
            arguments, packed = item.get("arguments"), item.get(PACKED)
            if isinstance(arguments, str):
                yield f"{name}[{index}].arguments", arguments
            if isinstance(packed, str) and packed.startswith(PREFIX):
                yield f"{name}[{index}].{PACKED}", packed
