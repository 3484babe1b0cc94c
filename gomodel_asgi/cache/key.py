"""What a request has to say to be answered from the cache, and what two of them must have in common. Pure.

All of the body counts but for whether it is answered as a stream: a list of what counts would forget the member of
tomorrow. What the body does not hold itself (a file, a page, an earlier answer, a prompt kept at the upstream) may
change without it, so a request that names such a thing is not cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..wire.json_scan import parser

FORM_ONLY = ("stream", "stream_options")
"""What changes the form of an answer alone: one entry is rendered in both."""

ELSEWHERE = frozenset({"file_id", "file_ids", "vector_store_ids", "container", "container_id"})
"""Members, wherever they stand, that name what the request does not hold."""

REFERRING = frozenset({"conversation", "previous_response_id", "prompt", "background", "context_management"})
"""Members of the body that name, or ask for, what the request does not hold."""

WHOLE = (
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
)  # fmt: skip
"""Kinds of items that hold all that a model sees of them. An item of a hosted tool stands for what that has found, a
reference for another item, and a new kind for who knows what."""

OWN_TOOLS = ("function", "custom")
"""Kinds of tools that the client runs itself. All others look at the world."""

EMPTY: tuple[Any, ...] = (None, False, [], {})

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_value = parser()
_encode = msgspec.json.Encoder().encode
_sorted = msgspec.json.Encoder(order="deterministic").encode


def message_of(body: bytes) -> bytes | None:
    """Returns the part of a key that *body* gives, the same whatever order its members are in; None where it is not
    cached.

    :raises msgspec.MsgspecError: it cannot be parsed.
    :raises RecursionError: it is nested too deeply.
    """
    members = _members(body)
    for name in FORM_ONLY:
        members.pop(name, None)
    plain = msgspec.json.format(_encode(members), indent=-1)
    value = _value(plain)
    if not holds_all(value):
        return None
    # Whoever reads the first of two members of one name reads another request than we: there the order counts as well.
    return b"sorted " + _sorted(value) if _encode(value) == plain else b"as sent " + plain


def holds_all(body: Mapping[str, Any]) -> bool:
    """Returns whether the answer to *body* depends on nothing but what it holds."""
    if any(body.get(name) not in EMPTY for name in REFERRING):
        return False
    items, tools = body.get("input"), body.get("tools") or []
    if isinstance(items, list) and not all(_type(one, "message") in WHOLE for one in items):
        return False
    if not isinstance(tools, list) or not all(_type(one) in OWN_TOOLS for one in tools):
        return False
    return not any(map(_names_other, _objects({**body, "metadata": None})))


def _type(value: Any, default: Any = None) -> Any:
    return value.get("type", default) if isinstance(value, dict) else None


def _objects(value: Any) -> Iterable[dict[str, Any]]:
    """Yields all objects in *value*, however deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _names_other(given: dict[str, Any]) -> bool:
    """Returns whether an object of the request stands for something that lies elsewhere."""
    if given.get("type") == "item_reference" or given.keys() == {"id"}:
        return True
    for name, value in given.items():
        if name in ELSEWHERE and value not in EMPTY and not (isinstance(value, dict) and "type" in value):
            return True
        if name.endswith("url") and isinstance(value, str) and not value.startswith("data:"):
            return True
    return False
