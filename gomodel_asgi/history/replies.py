"""What is recorded of a reply, read from its JSON without the rest."""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from ..threads import paced
from ..wire.json_scan import Scan, may_exceed, windows
from ..wire.sse import parse

# Items of one reply that are remembered by id: each costs a write, and no answer has as many.
MOST_ITEMS = 1000

NO_ITEMS = msgspec.Raw(b"[]")


class ResponseMembers(msgspec.Struct):
    """The members of a response object that are read; the others are passed over."""

    id: str = ""
    status: str | None = None
    output: msgspec.Raw = NO_ITEMS


class Id(msgspec.Struct):
    """An object, of which only the `id` is read."""

    id: str | None = None


members_of = msgspec.json.Decoder(ResponseMembers).decode


class Listed(msgspec.Struct):
    """A page of a list, of which only the ids are read."""

    data: list[Id] = []


ids_in = msgspec.json.Decoder(list[Id]).decode
_listed = msgspec.json.Decoder(Listed).decode


async def has_few(text: bytes | msgspec.Raw, level: int) -> bool:
    """Returns whether the list that is the JSON *text* (*level* 1), or a member of it (2), has at most `MOST_ITEMS`."""
    data = bytes(text)
    if len(data) <= 2 * MOST_ITEMS or not may_exceed(data, b",", MOST_ITEMS - 1):
        return True
    return await paced(_counting(data, level)) < MOST_ITEMS


def _counting(data: bytes, level: int) -> Generator[None, None, int]:
    scan = Scan(len(data), (level,), MOST_ITEMS)
    for window in windows(data):
        scan.feed(window)
        if scan.commas[level] >= MOST_ITEMS:
            break
        yield
    return scan.commas[level]


def listed_in(body: bytes) -> list[str]:
    """The ids of the items in a list that an upstream gave."""
    try:
        return [item.id for item in _listed(body).data if item.id is not None]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []


END = b"\n\n"  # of an event


def response_in(body: bytes) -> bytes | None:
    """Returns the response object in a reply that came whole: *body* itself, or that of its last lifecycle event.
    Events are read from their end, since they hold the output several times."""
    if body.startswith(b"{"):
        return body
    end = len(body)
    while end > 0:
        start = body.rfind(END, 0, max(0, end - len(END))) + len(END)
        start = start if start >= len(END) else 0
        parsed = parse(body[start:end])
        end = start
        if parsed is not None and b'"response"' in parsed.data:
            found = msgspec.json.decode(parsed.data, type=dict[str, msgspec.Raw]).get("response")
            return None if found is None else bytes(found)
    return None
