"""One answer as it is kept, and as it is given again: whole or as a stream, under ids of its own. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from ..history.tenancy import Codec
from ..wire.calls import PREFIXES
from ..wire.json_scan import parser
from ..wire.response import encode, stream_of

REPLAYED = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
"""Kinds of items that an answer may be made of: those that a model gives without anything having been looked up."""


class Entry(msgspec.Struct, frozen=True):
    """A final *response* object (JSON) that *provider* and *model* gave at Unix time *created*; *unsupported* is the
    value of the header that reports what of the request was left out, *place* the key under which it was kept: an entry
    that a store returns for another key is not its answer."""

    response: bytes
    created: float
    provider: str
    model: str | None
    unsupported: bytes = b""
    place: str = ""

    def __repr__(self) -> str:
        return f"<Entry {len(self.response)} bytes of {self.provider!r}>"


ENTRIES = Codec(Entry)

_response = parser(dict[str, Any])


def is_final(response: bytes) -> bool:
    """Returns whether *response* is a response object that has completed, and can be given again."""
    try:
        return _is_final(_response(response))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _is_final(found: dict[str, Any]) -> bool:
    output = found.get("output")
    if found.get("status") != "completed" or found.get("error") is not None or not isinstance(found.get("id"), str):
        return False
    if found.get("background") is True or found.get("conversation") is not None or not isinstance(output, list):
        return False
    return all(isinstance(item, dict) and item.get("type") in REPLAYED for item in output)


def replayed(entry: Entry, id: str, at: int, *, stamp: bool, stream: bool) -> tuple[bytes, bytes]:
    """Returns the response object of *entry* under the *id*, as made at Unix time *at*, and what the client gets of it.

    An item whose `encrypted_content` its upstream may have bound to the item's id keeps that.

    :raises LookupError: *entry* holds no response that may be given again; or what parsing raises.
    """
    kept = _response(entry.response)
    if not _is_final(kept):
        raise LookupError
    kept.pop("provider", None)
    response = {"provider": entry.provider, **kept} if stamp else kept
    response |= {"id": id, "created_at": at, "completed_at": at}
    response["output"] = [_renamed(item, id, number) for number, item in enumerate(kept["output"])]
    whole = encode(response)
    return whole, stream_of(response) if stream else whole


def _renamed(item: dict[str, Any], id: str, number: int) -> dict[str, Any]:
    if item.get("encrypted_content") is not None:
        return item
    return {**item, "id": f"{PREFIXES[item['type']]}_{id.removeprefix('resp_')}{number:02x}"}
