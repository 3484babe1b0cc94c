"""The top-level members of a request: which a dialect carries, which mean nothing to it, which it must refuse.

A dialect names the members that it maps. Of the others some never reach an upstream and some ask for nothing at the
value that they have; what becomes of the rest is in the table of `unsupported`. Unknown members are refused, so that a
client never believes in a setting that nobody saw. An explicit null is an absent member.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .unsupported import (
    INCLUDE,
    OBFUSCATION,
    OF_MEMBER,
    REASONING_CONTEXT,
    REASONING_MODE,
    UNKNOWN_MEMBER,
    Unsupported,
    expect,
    malformed,
)

STATE = frozenset(
    {"store", "previous_response_id", "conversation", "background", "background_options", "generate", "stream_id"}
    | {"context_management"}
)
"""Served by the gateway itself: they never reach a translated upstream."""

TRANSPORT = frozenset({"model", "stream", "stream_options", "include"})
"""How the answer is delivered and what it repeats; a dialect that needs them reads them from the body."""

HARMLESS: Mapping[str, Collection[Any]] = {
    "n": (1,),
    "parallel_tool_calls": (True,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "service_tier": ("auto", "default"),
}
"""Values that ask for what every target does anyway."""

LOGPROBS = "message.output_text.logprobs"
INCLUDED = frozenset(
    {"reasoning.encrypted_content", "message.input_image.image_url", "computer_call_output.output.image_url"}
)
"""Values of `include` that every translated response and its stored input hold unasked."""


def present(body: Mapping[str, Any]) -> dict[str, Any]:
    """The members of *body* that are not null."""
    return {name: value for name, value in body.items() if value is not None}


def carried_members(body: Mapping[str, Any], carried: Collection[str], unsupported: Unsupported) -> dict[str, Any]:
    """The members of *body* that are named in *carried* and not null. Every other one is passed over if it asks for
    nothing, else it is unsupported.

    :raises InvalidRequest: a member is refused; *param* names it.
    """
    members = present(body)
    for name in members:
        if name in carried or name in STATE or name in TRANSPORT or members[name] in HARMLESS.get(name, ()):
            continue
        unsupported.leave_out(OF_MEMBER.get(name, UNKNOWN_MEMBER), name)
    if "stream_options" in members and mapping(members, "stream_options").get("include_obfuscation"):
        unsupported.leave_out(OBFUSCATION, "stream_options.include_obfuscation")
    return {name: value for name, value in members.items() if name in carried}


def included(body: Mapping[str, Any], given: Collection[str], unsupported: Unsupported) -> frozenset[str]:
    """Those values of `include` that the target can answer, which are *given* and what every response holds.

    :raises InvalidRequest: it is no list of strings, or a value is refused.
    """
    if not body.get("include"):
        return frozenset()
    values = expect(body["include"], list, "include")
    for index, value in enumerate(values):
        if expect(value, str, f"include[{index}]") not in INCLUDED and value not in given:
            unsupported.leave_out(INCLUDE, f"include[{index}]", f"the include `{value[:64]}`")
    return INCLUDED.union(given).intersection(values)


def reasoning_of(members: Mapping[str, Any], unsupported: Unsupported) -> Mapping[str, Any]:
    """The member `reasoning`; no target has another mode than the standard one.

    :raises InvalidRequest: it is no object, or its mode is refused.
    """
    reasoning = mapping(members, "reasoning")
    if reasoning.get("mode") not in (None, "standard"):
        unsupported.leave_out(REASONING_MODE, "reasoning.mode")
    if "context" in reasoning:
        unsupported.leave_out(REASONING_CONTEXT, "reasoning.context")
    return reasoning


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
    if value is None or isinstance(value, int):
        return value
    if value.is_integer():
        return int(value)
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
