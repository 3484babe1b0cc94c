"""`tool_choice` in all its forms, as one neutral value that fits the tools which are really offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .content import Json
from .tools import SEARCH, FunctionTool, HostedTool, Tools, family_of
from .unsupported import expect, malformed, optional_string, string

Mode = Literal["auto", "none", "required"]
MODES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the model may, must or must not call a tool, and which.

    *allowed* holds flat function names and families of hosted tools, None where every tool is allowed. A single
    forced tool is `required` with one name allowed. *given* tells an explicit `auto` from a silent one.
    """

    mode: Mode = "auto"
    allowed: tuple[str, ...] | None = None
    given: bool = False

    @property
    def forced(self) -> str | None:
        """The one tool that must be called, if there is one."""
        only_one = self.mode == "required" and self.allowed is not None and len(self.allowed) == 1
        return self.allowed[0] if only_one and self.allowed else None

    def permits(self, tool: FunctionTool | HostedTool) -> bool:
        """Whether *tool* may be called."""
        key = tool.name if isinstance(tool, FunctionTool) else tool.family
        return self.allowed is None or key in self.allowed

    def shows(self, tool: FunctionTool | HostedTool) -> bool:
        """Whether a target without allowed lists is shown *tool*: one that may be called, and any beside a forced one,
        since prompt caches and later turns need the same tools."""
        return self.forced is not None or self.permits(tool)


def read_choice(body: Mapping[str, Any], tools: Tools) -> Choice:
    """The `tool_choice` of a request body.

    A choice of a tool that was left out is loosened to `auto`; an allowed list keeps what is left of it and, with
    nothing left, forbids tools: it is a hard constraint. Without tools only the default makes sense.

    :raises InvalidRequest: it is malformed, or names a tool that is not among those of the request.
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
    return Choice(given=True) if key is None else Choice("required", (key,), True)


def _fitting(mode: Mode, allowed: tuple[str, ...] | None, tools: Tools) -> Choice:
    if mode == "required" and not tools.functions and not tools.hosted:
        mode = "auto"
    return Choice(mode, allowed, True)


def _mode(value: Any, path: str) -> Mode:
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
    """The flat name or the family that *tool* names, None where that tool was left out."""
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
    for tool in tools.functions:
        origin = tool.origin
        if (origin.kind, origin.name) == (kind, name) and namespace in (None, origin.namespace):
            return tool.name
    raise malformed(f"{path}.name", f"names no tool of this request ({name[:64]!r})")
