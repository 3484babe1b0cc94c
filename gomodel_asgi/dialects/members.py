"""The top-level members of a request: which a dialect carries, which mean nothing to it, which it must refuse.

A dialect names the members that it maps. Of the others some never reach an upstream, some do not change an answer,
some are harmless at a value that asks for nothing; all that remain are losses, unknown ones included, so that a
client never believes in a setting that nobody saw. An explicit null is an absent member.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .losses import Losses, malformed

STATE = frozenset(
    {"store", "previous_response_id", "conversation", "background", "background_options", "generate", "stream_id"}
)
"""Served by the gateway itself: they never reach a translated upstream."""

TRANSPORT = frozenset({"model", "stream", "stream_options", "include"})
"""How the answer is delivered and what it repeats; a dialect that needs them reads them from the body."""

BOOKKEEPING = frozenset(
    {
        "metadata",  # the client's own labels, repeated in the response
        "user",  # abuse tracking and caches: does not change an answer
        "safety_identifier",
        "client_metadata",  # sent by Codex, documented nowhere
        "prompt_cache_key",  # caches change the price, not the answer
        "prompt_cache_options",
        "prompt_cache_retention",
        "truncation",  # "auto" only permits it: input that is too long is refused by the upstream in its own words
        "max_tool_calls",  # counts calls of hosted tools only; a dialect that has such tools carries it
    }
)
"""Members without effect on the answer of a target that does not know them."""

HARMLESS: Mapping[str, Collection[Any]] = {
    "n": (1,),
    "parallel_tool_calls": (True,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "service_tier": ("auto", "default"),
    "context_management": ([],),
}
"""Values that ask for what every target does anyway."""


def present(body: Mapping[str, Any]) -> dict[str, Any]:
    """The members of *body* that are not null."""
    return {name: value for name, value in body.items() if value is not None}


def carried_members(body: Mapping[str, Any], carried: Collection[str], losses: Losses) -> dict[str, Any]:
    """The members of *body* that are named in *carried* and not null.

    Every other member is passed over if it is without effect, else it is a loss (see `Losses.add`).

    :raises InvalidRequest: a member is a loss and losses are rejected; *param* names it.
    """
    members = present(body)
    for name in members:
        if name in carried or name in STATE or name in TRANSPORT or _asks_for_nothing(name, members[name]):
            continue
        if name in BOOKKEEPING:
            losses.note(name)
        else:
            losses.add(name, f"the member `{name}`")
    return {name: value for name, value in members.items() if name in carried}


def _asks_for_nothing(name: str, value: Any) -> bool:
    return value in HARMLESS.get(name, ())


def number(members: Mapping[str, Any], name: str) -> float | int | None:
    """The member *name* as a number, None where it is absent.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise malformed(name, "must be a number")


def integer(members: Mapping[str, Any], name: str) -> int | None:
    """Like `number`, for integers; `1024.0` is one."""
    value = number(members, name)
    if value is None or float(value).is_integer():
        return None if value is None else int(value)
    raise malformed(name, "must be an integer")


def boolean(members: Mapping[str, Any], name: str) -> bool | None:
    """The member *name* as a boolean, None where it is absent.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise malformed(name, "must be a boolean")


def mapping(members: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    """The object *name*, empty where it is absent; its nulls are left out. *path* is that of *members*.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return present(value)
    raise malformed(f"{path}.{name}" if path else name, "must be an object")
