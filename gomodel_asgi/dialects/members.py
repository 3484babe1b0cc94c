"""The top-level members of a request: which a dialect carries, which mean nothing to it, which it must refuse.

A dialect names the members that it maps. Of the others some never reach an upstream and some ask for nothing at the
value that they have; what becomes of the rest is in the table of `unsupported`. Unknown members are refused, so that a
client never believes in a setting that nobody saw. An explicit null is an absent member.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .content import Json
from .tools import SEARCH, FunctionTool, HostedTool, Tools, family_of
from .unsupported import (
    INCLUDE,
    OBFUSCATION,
    OF_MEMBER,
    REASONING_CONTEXT,
    REASONING_MODE,
    SERVICE_TIER,
    UNKNOWN_MEMBER,
    VERBOSITY,
    Unsupported,
)
from .values import expect, malformed, mapping, optional_string, string

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

FORMATS = ("text", "json_object", "json_schema")
LOGPROBS = "message.output_text.logprobs"
INCLUDED = frozenset(
    {"reasoning.encrypted_content", "message.input_image.image_url", "computer_call_output.output.image_url"}
)
"""Values of `include` that every translated response and its stored input hold unasked."""


def carried_members(body: Mapping[str, Any], carried: Collection[str], unsupported: Unsupported) -> dict[str, Any]:
    """Returns the members of *body* that are named in *carried* and not null.

    Other members are passed over if they ask for nothing, else they are unsupported.

    :raises InvalidRequest: a member is refused; *param* names it.
    """
    members: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in carried:
            members[name] = value
        elif name not in STATE and name not in TRANSPORT and value not in HARMLESS.get(name, ()):
            unsupported.leave_out(OF_MEMBER.get(name, UNKNOWN_MEMBER), name)
    if "stream_options" in body and mapping(body, "stream_options").get("include_obfuscation"):
        unsupported.leave_out(OBFUSCATION, "stream_options.include_obfuscation")
    return members


def included(body: Mapping[str, Any], given: Collection[str], unsupported: Unsupported) -> frozenset[str]:
    """Returns those values of `include` that the target can answer: *given* ones, and what every response holds.

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


def text_format(members: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Returns the type of `text.format`, `text` where there is none, and the format.

    :raises InvalidRequest: it is malformed, or of no type that there is.
    """
    format = mapping(mapping(members, "text"), "format", "text")
    kind = string(format, "type", "text.format") if format else "text"
    if kind not in FORMATS:
        raise malformed("text.format.type", f"must be one of {', '.join(FORMATS)}")
    return kind, format


def leave_out_verbosity(members: Mapping[str, Any], unsupported: Unsupported) -> None:
    """Leaves out a `text.verbosity` that asks for another than the usual one.

    :raises InvalidRequest: it is refused.
    """
    if mapping(members, "text").get("verbosity") not in (None, "medium"):
        unsupported.leave_out(VERBOSITY, "text.verbosity")


def stop_sequences(members: Mapping[str, Any]) -> list[str] | None:
    """Returns `stop` as a list, None where it is absent.

    :raises InvalidRequest: it is neither a string nor a list of strings.
    """
    stop = members.get("stop")
    if stop is None or isinstance(stop, str):
        return None if stop is None else [stop]
    return [expect(one, str, f"stop[{index}]") for index, one in enumerate(expect(stop, list, "stop"))]


def tier_of(members: Mapping[str, Any], tiers: Mapping[str, str | None], unsupported: Unsupported) -> str | None:
    """Returns what the target calls the `service_tier`, by *tiers*; None where it has none to ask for.

    :raises InvalidRequest: it is no string, or none of *tiers* and refused.
    """
    tier = members.get("service_tier")
    if tier is not None and expect(tier, str, "service_tier") not in tiers:
        unsupported.leave_out(SERVICE_TIER, "service_tier", f"the service tier `{tier[:64]}`")
    return None if tier is None else tiers.get(tier)


# `tool_choice` in all its forms, as one neutral value that fits the tools which are really offered.


Mode = Literal["auto", "none", "required"]
MODES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the model may, must or must not call a tool, and which.

    *allowed* holds flat function names and families of hosted tools, None where every tool is allowed. A single
    forced tool is `required` with one name allowed. *explicit*: the request has a `tool_choice`.
    """

    mode: Mode = "auto"
    allowed: tuple[str, ...] | None = None
    explicit: bool = False

    @property
    def forced(self) -> str | None:
        """The one tool that must be called, if there is one."""
        only_one = self.mode == "required" and self.allowed is not None and len(self.allowed) == 1
        return self.allowed[0] if only_one and self.allowed else None

    def permits(self, tool: FunctionTool | HostedTool) -> bool:
        """Returns whether *tool* may be called."""
        key = tool.name if isinstance(tool, FunctionTool) else tool.family
        return self.allowed is None or key in self.allowed

    def shows(self, tool: FunctionTool | HostedTool) -> bool:
        """Returns whether a target without allowed lists is shown *tool*: one that may be called, and any beside a
        forced one, since prompt caches and later turns need the same tools."""
        return self.forced is not None or self.permits(tool)


def read_choice(body: Mapping[str, Any], tools: Tools) -> Choice:
    """Returns the `tool_choice` of a request body.

    A choice of a tool that was left out becomes `auto`. An allowed list keeps what is left of it; with nothing left it
    forbids tools, since it is a hard constraint. Without tools only the default makes sense.

    :raises InvalidRequest: it is malformed, or names a tool that the request does not offer.
    """
    value = body.get("tool_choice")
    if value is None:
        return Choice()
    if isinstance(value, str):
        return _fitting(_mode(value, "tool_choice"), None, tools)
    choice = expect(value, dict, "tool_choice")
    if string(choice, "type", "tool_choice") == "allowed_tools":
        return _allowed(choice, tools)
    key = _key(choice, "tool_choice", tools)
    return Choice(explicit=True) if key is None else Choice("required", (key,), True)


def _fitting(mode: Mode, allowed: tuple[str, ...] | None, tools: Tools) -> Choice:
    if mode == "required" and not tools.functions and not tools.hosted:
        mode = "auto"
    return Choice(mode, allowed, True)


def _mode(value: Any, path: str) -> Mode:
    """Returns *value*, one of `MODES`.

    :raises InvalidRequest: it is none of them.
    """
    if value not in MODES:
        raise malformed(path, f"must be one of {', '.join(MODES)}")
    return value  # type: ignore[no-any-return]


def _allowed(choice: Json, tools: Tools) -> Choice:
    mode = _mode(choice.get("mode"), "tool_choice.mode")
    listed = expect(choice.get("tools"), list, "tool_choice.tools")
    places = [f"tool_choice.tools[{index}]" for index in range(len(listed))]
    found = [_key(expect(tool, dict, at), at, tools) for tool, at in zip(listed, places, strict=True)]
    keys = tuple(dict.fromkeys(key for key in found if key is not None))
    return Choice(mode if keys else "none", keys, True)


def _key(tool: Json, path: str, tools: Tools) -> str | None:
    """The flat name or the family that *tool* names, None where that tool was left out.

    :raises InvalidRequest: the request has no such tool.
    """
    kind = string(tool, "type", path)
    if kind in ("function", "custom"):
        return _function(kind, string(tool, "name", path), optional_string(tool, "namespace", path), path, tools)
    family = family_of(kind)
    if any(hosted.family == family for hosted in tools.hosted):
        return family
    searches = [tool.name for tool in tools.functions if tool.origin.kind == "search" and kind == SEARCH]
    if searches or family in tools.left_out:
        return searches[0] if searches else None
    raise malformed(f"{path}.type", f"names no tool of this request ({kind[:64]!r})")


def _function(kind: str, name: str, namespace: str | None, path: str, tools: Tools) -> str:
    """Returns the flat name of a function or custom tool.

    :raises InvalidRequest: the request has no such tool.
    """
    for tool in tools.functions:
        origin = tool.origin
        if (origin.kind, origin.name) == (kind, name) and namespace in (None, origin.namespace):
            return tool.name
    raise malformed(f"{path}.name", f"names no tool of this request ({name[:64]!r})")
