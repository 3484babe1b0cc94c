"""What one Target is asked for: which declared tools run here, and what the model is shown in their place.

Values in, values out. A plan is the same for the same request in every round and turn, or prompt caches would miss: the
functions stand behind the tools that stay, in the order of the declarations and of each server's list.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...dialects.base import ShownFunctions
from ...dialects.tools import family_of, flatten_name
from ...dialects.values import expect, string
from ...errors import InvalidRequest
from ...routing.target import Target
from ...tools import HostTool
from .declarations import Declared, Toolbox
from .families import FAMILY
from .seams import Json, Listed, Shown

AUTO, NONE, REQUIRED = "auto", "none", "required"
PREFIX = "hosted"
"""Stands before the name of a family's function where a function of the client's has that name."""
SEALED = "reasoning.encrypted_content"
REASONERS = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)")
"""Models that give reasoning to be sent back: OpenAI refuses others that are asked for it."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """What matters of a Target's upstream: the families that it *runs* itself, its *model*, whether it is *native*,
    whether it *combines* functions with its own tools, whether it *sees* images in outputs, and the paths of the
    declarations that it is *unable* to keep, though it has the tool."""

    runs: frozenset[str]
    model: str = ""
    native: bool = False
    combines: bool = True
    sees: bool = False
    unable: frozenset[str] = frozenset()

    def has(self, one: Declared) -> bool:
        """Returns whether the upstream runs the tool *one* as it is declared."""
        return one.family in self.runs and one.path not in self.unable


@dataclass(frozen=True, slots=True)
class Candidate:
    """One Target of the chain: its *body* as the upstream would get it, its *declared* tools and its *upstream*."""

    target: Target
    body: Mapping[str, Any] = field(repr=False)
    declared: Sequence[Declared] = field(repr=False)
    upstream: Upstream

    @property
    def tools(self) -> list[Any]:
        """Returns the request's own tools; they were found to be a list when the declarations were read."""
        return self.body.get("tools") or []


@dataclass(frozen=True, slots=True)
class Plan:
    """One Target's rounds: *shown* by the name that the model knows, *tools* as all rounds have them, *choice* as the
    first has it and *later* as the others have it. *left_out* are the paths of tools that nobody may run, *functions*
    the names of the client's own (None: there may be others), *include* what the upstream is asked to add."""

    upstream: Upstream
    shown: Mapping[str, Shown]
    tools: tuple[Json, ...]
    choice: Any
    later: Any
    left_out: tuple[str, ...] = ()
    functions: frozenset[str] | None = frozenset()
    include: tuple[str, ...] = ()
    limits: bool = False
    """Whether the upstream too runs tools, and gets `max_tool_calls`."""
    wants: bool = True
    """Whether anything of the request is the host's; else the upstream gets it as it is."""

    @property
    def functions_shown(self) -> ShownFunctions:
        """What stands for hosted tools: items that nobody remembers become calls of these functions."""
        return ShownFunctions({one.key: one.name for one in self.shown.values()}, self.upstream.sees)

    def params(self, round: int, *, last: bool = False) -> Json:
        """The members of the body of a *round*, counted from 0; None removes one."""
        if not self.wants:
            return {"store": False, "tools": [*self.tools] or None}
        choice = NONE if last else self.choice if round == 0 else self.later
        return {
            "tools": [*self.tools] or None, "tool_choice": choice if self.tools else None,
            "include": [*self.include] or None, "store": False,
            **({} if self.limits else {"max_tool_calls": None}), **({"metadata": None} if round else {}),
        }  # fmt: skip


def is_asked(one: Declared, toolbox: Toolbox, upstream: Upstream) -> bool:
    """Returns whether the server *one* is asked from here: one that the host has mapped always is; one that only the
    client names where the host admits such, and *upstream* would not ask it itself, or not as it is declared (Anthropic
    asks for no approvals, and takes no headers but a bearer's)."""
    if one.label in toolbox.servers:
        return True
    named = one.family == "mcp" and not one.added and one.value.get("server_url") is not None
    return named and toolbox.client_named is not None and not upstream.native and not upstream.has(one)


def hosted(candidate: Candidate, toolbox: Toolbox) -> tuple[list[Declared], list[Declared]]:
    """Which of the tools of *candidate* run here, and which are the host's and run nowhere: a live search that the
    client forbids, and that a native upstream is not to run either."""
    upstream, beside = candidate.upstream, _has_functions(candidate, toolbox)
    here = [one for one in candidate.declared if _runs_here(one, toolbox, upstream, beside)]
    running = [one for one in here if not _is_live(one, toolbox.hosts.get(one.family))]
    return running, [one for one in here if upstream.native and one not in running]


def _runs_here(one: Declared, toolbox: Toolbox, upstream: Upstream, beside: bool) -> bool:
    """Returns whether the host runs the tool *one*, for a request that has functions *beside* it."""
    if one.family == "mcp":
        return is_asked(one, toolbox, upstream)
    host = toolbox.hosts.get(one.family)
    if host is None:
        return False
    return host.use == "always" or not upstream.has(one) or (beside and not upstream.combines)


def _has_functions(candidate: Candidate, toolbox: Toolbox) -> bool:
    """Returns whether the model is shown functions beside what its upstream runs: the client's, or those of a server
    here."""
    if any(is_asked(one, toolbox, candidate.upstream) for one in candidate.declared):
        return True
    return bool(brought_by(candidate.body.get("input")) or _functions(candidate.tools))


def _is_live(one: Declared, host: HostTool | None) -> bool:
    """Returns whether *host* searches live where *one* forbids it."""
    forbids = one.family == "web_search" and one.value.get("external_web_access") not in (None, True)
    return forbids and host is not None and host.live


def plan_of(candidate: Candidate, lists: Mapping[str, Sequence[Listed]], toolbox: Toolbox, keeps: bool) -> Plan:
    """The plan of *candidate*; *lists* are those of the servers, by label. *keeps* says that the upstream may know of
    functions that this request does not name.

    :raises InvalidRequest: a tool or the `tool_choice` is malformed, or names a tool that is not there.
    """
    body, declared, upstream, values = candidate.body, candidate.declared, candidate.upstream, candidate.tools
    running, unwanted = hosted(candidate, toolbox)
    if not running and not unwanted:
        return Plan(upstream, {}, tuple(values), None, None, functions=None, wants=False)
    functions = frozenset(_functions(values)) | brought_by(body.get("input"))
    gone = {one.path for one in (*running, *unwanted)}
    stays = [value for index, value in enumerate(values) if f"tools[{index}]" not in gone]
    stays += [one.value for one in declared if one.added and one.path not in gone]
    shown = _named(_shown(running, lists, toolbox), functions)
    tools = (*stays, *(one.declaration() for one in shown))
    choice = _choice(body.get("tool_choice"), shown, declared)
    families = {one.family for one in running}
    include = [value for value in _strings(body.get("include")) if family_of_include(value) not in families]
    if upstream.native and SEALED not in include and _reasons(body.get("reasoning"), upstream.model):
        include.append(SEALED)
    return Plan(
        upstream,
        {one.name: one for one in shown},
        tools,
        choice,
        relaxed(choice),
        tuple(f"{one.path}.external_web_access" for one in unwanted),
        None if keeps else functions,
        tuple(include),
        limits=upstream.native and any(one.path not in gone for one in declared),
    )


def _reasons(effort: Any, model: str) -> bool:
    """Returns whether *model* is known to reason, or is *effort* to."""
    wanted = isinstance(effort, Mapping) and any(value is not None for value in effort.values())
    return wanted or REASONERS.match(model) is not None


def family_of_include(value: str) -> str:
    """`web_search_call.action.sources` is about web searches."""
    return value.partition(".")[0].removesuffix("_call")


def relaxed(choice: Any) -> Any:
    """*choice* as it stands behind the first round: what it forced has been called."""
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return {**choice, "mode": AUTO} if choice.get("mode") == REQUIRED else choice
    return choice if choice in (None, NONE, AUTO) else AUTO


def _shown(declared: Sequence[Declared], lists: Mapping[str, Sequence[Listed]], toolbox: Toolbox) -> list[Shown]:
    """The functions of the tools that run here, under names that may yet clash."""
    found = []
    for one in declared:
        family = FAMILY[one.family]
        if one.family != "mcp":
            found.append(Shown(one.family, family, one.path, one.shown))
            continue
        server = toolbox.servers.get(one.label)
        for listed in lists.get(one.label, ()):
            demanded = server is not None and "always" in (server.approval, listed.approval)
            waived = server is not None and "never" in (server.approval, listed.approval)
            approval = demanded or (not waived and one.approval_of(listed) == "always")
            if not (one.added and demanded):  # the client could not answer: it does not know of the server
                found.append(Shown(listed.name, family, one.path, one.shown, one.label, listed, approval, demanded))
    return found


def _named(shown: Sequence[Shown], functions: frozenset[str]) -> list[Shown]:
    """*shown* under names that any upstream takes and that nobody else has: its own where it is the only one, else with
    its label before it, for all that clash. They depend on the names alone, not on their order."""
    plain = [flatten_name(one.name) for one in shown]
    uses = Counter([*plain, *functions])
    named: list[Shown] = []
    for one, name in zip(shown, plain, strict=True):
        if uses[name] > 1:
            name = flatten_name(one.name, one.label or PREFIX)
        while name in functions or any(name == other.name for other in named):
            name = flatten_name(f"{name}.", one.label or PREFIX)
        named.append(replace(one, name=name))
    return named


def _functions(tools: Sequence[Any]) -> list[str]:
    """The names of the client's own functions, as the client calls them and as a target may call them."""
    found: list[str] = []
    for tool in tools:
        if not isinstance(tool, dict):
            continue
        if tool.get("type") == "namespace":
            inner = tool.get("tools")
            names = _functions(inner) if isinstance(inner, list) else []
            found += [*names, *(flatten_name(name, str(tool.get("name"))) for name in names)]
        elif isinstance(tool.get("name"), str):
            found.append(tool["name"])
        elif tool.get("type") == "tool_search":
            found.append("tool_search")
    return found


def brought_by(items: Any) -> frozenset[str]:
    """The names of the functions that the *items* of an input bring along."""
    found: list[str] = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(item.get("tools"), list) and item.get("type") != "mcp_list_tools":
            found += _functions(item["tools"])
    return frozenset(found)


# `tool_choice`...


def _choice(value: Any, shown: Sequence[Shown], declared: Sequence[Declared]) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get("type") == "allowed_tools":
        listed = expect(value.get("tools"), list, "tool_choice.tools")
        tools: list[Any] = []
        for index, one in enumerate(listed):
            place = f"tool_choice.tools[{index}]"
            names = _chosen(expect(one, dict, place), place, shown, declared)
            tools += [one] if names is None else [_function(name) for name in names]
        return {**value, "tools": tools} if tools else NONE
    names = _chosen(value, "tool_choice", shown, declared)
    if names is None:
        return value
    if len(names) == 1:
        return _function(names[0])
    return {"type": "allowed_tools", "mode": REQUIRED, "tools": [_function(name) for name in names]} if names else AUTO


def _function(name: str) -> Json:
    return {"type": "function", "name": name}


def _chosen(value: Json, path: str, shown: Sequence[Shown], declared: Sequence[Declared]) -> list[str] | None:
    """The functions that *value* means, None where it is about a tool that does not run here.

    :raises InvalidRequest: the request declares no such tool.
    """
    family = family_of(string(value, "type", path))
    if family not in FAMILY:
        return None
    label, name = value.get("server_label"), value.get("name")
    meant = {one.path for one in declared if one.family == family and (label is None or one.label == label)}
    if not meant:
        what = f"{family}:{label}" if label else str(value["type"])
        message = f"Tool choice '{what[:64]}' not found in 'tools' parameter."
        raise InvalidRequest(message, code="invalid_value", param="tool_choice")
    names = [one.name for one in shown if one.path in meant and name in (None, one.called)]
    if name is not None and not names and any(one.path in meant for one in shown):
        message = f"Tool choice '{str(name)[:64]}' not found in 'tools' parameter."
        raise InvalidRequest(message, code="invalid_value", param="tool_choice")
    runs = any(one.path in meant for one in shown)
    return names if runs else None


def _strings(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
