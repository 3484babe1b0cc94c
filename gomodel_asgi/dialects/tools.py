"""The tools of a request, flattened into functions, and the way back from a flat name to the client's tool.

Targets know functions with a name of their own rules and nothing else in common. A custom tool becomes a function with
one string, `input`; a namespaced one gets a name made of both; hosted tools stand apart, since each target has its
own. Deferred tools are offered at once, since a target has no search for them. Flat names are a pure function of the
client's names: the same in every turn, or prompt caches would miss.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..wire.calls import AnyCall
from ..wire.event_writer import Emitter
from .content import Json, ToolKind
from .unsupported import CACHED_SEARCH, HOSTED_TOOL, MCP_SERVER, PROGRAMS, TOOL_SEARCH, Feature, Unsupported
from .values import expect, malformed, optional_string, string

MAX_NAME = 64
"""Characters of a tool's name: what OpenAI, Anthropic and Gemini take alike."""
LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
DATED = re.compile(r"(_preview)?(_\d{4}_\d{2}_\d{2})?$")
SEARCH = "tool_search"
"""The type of the tool that finds deferred tools, and the name of its function where the client runs it."""
NO_PARAMETERS: Json = {"type": "object", "properties": {}}
USUAL: Mapping[str, Any] = {"search_context_size": "medium"}
"""Values of settings that ask for what every target does anyway."""
ANY_QUERY: Json = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
WRAPPED_INPUT: Json = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input of the tool, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a flat name stands for in the client's request."""

    kind: ToolKind
    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """One function for the target. *name* is flat and unique; *parameters* is JSON Schema."""

    path: str
    name: str
    description: str | None
    parameters: Json
    strict: bool | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class HostedTool:
    """A tool that the provider runs. *type* is as the client wrote it, *family* without `_preview` and date."""

    path: str
    type: str
    value: Json

    @property
    def family(self) -> str:
        """The type without `_preview` and date."""
        return family_of(self.type)


def family_of(type: str) -> str:
    """Returns the family of a tool's type: `web_search_preview_2025_03_11` is a `web_search`."""
    return type if len(type) > MAX_NAME else DATED.sub("", type, count=1)


def flatten_name(name: str, namespace: str | None = None) -> str:
    """Returns a name of at most 64 of `[A-Za-z0-9_-]` that begins with a letter or `_`, the same for the same names."""
    plain = f"{namespace}__{name}" if namespace else name
    if LEGAL_NAME.fullmatch(plain):
        return plain
    legal = re.sub(r"[^A-Za-z0-9_-]", "_", plain[:MAX_NAME])
    legal = legal if re.match(r"[A-Za-z_]", legal) else f"_{legal}"
    return _with_digest(legal, plain)


def _with_digest(name: str, key: str) -> str:
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_NAME - 9]}_{digest}"


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools of one request: *functions* for the target, *hosted* ones that it carries, families *left_out*."""

    functions: tuple[FunctionTool, ...] = ()
    hosted: tuple[HostedTool, ...] = ()
    left_out: frozenset[str] = frozenset()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """What the flat names stand for."""
    names: Mapping[tuple[str, str | None], str] = field(default_factory=dict)
    """The flat names, by name and namespace."""

    def restore(self, flat_name: str) -> Origin:
        """Returns what the client calls the function *flat_name*; a name that the model made up is a function of that
        name.
        """
        return self.origins.get(flat_name) or Origin("function", flat_name)

    def flat_name(self, name: str, namespace: str | None = None) -> str:
        """Returns the target's name of a client's tool, also of one that is no longer offered."""
        found = self.names.get((name, namespace))
        if found is None and namespace == name:
            # A deferred tool that a search has loaded is called with its own name as namespace, but declared bare.
            found = self.names.get((name, None))
        return flatten_name(name, namespace) if found is None else found

    def open_call(self, emitter: Emitter, flat_name: str, call_id: str | None = None) -> AnyCall:
        """Opens the output item for a call of *flat_name*, and returns it; a missing *call_id* is made."""
        origin = self.restore(flat_name)
        members = {"namespace": origin.namespace} if origin.namespace else {}
        call_id = call_id or f"call_{emitter.suffix}{len(emitter.items):02x}"
        if origin.kind == "search":
            return emitter.search_call(call_id)
        opener = emitter.custom_call if origin.kind == "custom" else emitter.function_call
        return opener(call_id, origin.name, **members)


NO_TOOLS = Tools()


def leave_out_settings(
    value: Mapping[str, Any], path: str, names: Iterable[str], feature: Feature, unsupported: Unsupported
) -> None:
    """Leaves out the members *names* of a hosted tool's *value* at *path*, which the target cannot carry.

    :raises InvalidRequest: one of them asks for something, and is refused.
    """
    for name in names:
        if value.get(name) not in (None, USUAL.get(name)):
            unsupported.leave_out(feature, f"{path}.{name}", f"`{name}` of this tool")


def searches_by_client(body: Mapping[str, Any]) -> bool:
    """Returns whether the client runs the searches for deferred tools itself: then they are calls of a function."""
    tools = body.get("tools")
    return any(map(_is_search_by_client, tools)) if isinstance(tools, list) else False


def _is_search_by_client(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == SEARCH and tool.get("execution") == "client"


def read_tools(
    body: Mapping[str, Any],
    unsupported: Unsupported,
    *,
    hosted: Collection[str] = (),
    more: Iterable[tuple[str, Json]] = (),
) -> Tools:
    """Returns the tools of a request body, then those of *more* (see `Conversation.tools`).

    *hosted* lists the families of hosted tools that the target has; others are unsupported.

    :raises InvalidRequest: a tool is malformed, or refused; *param* is its path.
    """
    more = [*more]
    if body.get("tools") is None and not more:
        return NO_TOOLS
    reader = _Reader(unsupported, hosted)
    declared = [] if body.get("tools") is None else expect(body["tools"], list, "tools")
    for index, tool in enumerate(declared):
        reader.tool(expect(tool, dict, f"tools[{index}]"), f"tools[{index}]")
    for path, tool in more:
        reader.tool(tool, path)
    functions = tuple(reader.functions.values())
    origins = {tool.name: tool.origin for tool in functions}
    names = {(tool.origin.name, tool.origin.namespace): tool.name for tool in reversed(functions)}
    return Tools(functions, tuple(reader.hosted), frozenset(reader.left_out), origins, names)


class _Reader:
    def __init__(self, unsupported: Unsupported, hosted: Collection[str]) -> None:
        self.unsupported = unsupported
        self.families = hosted
        self.functions: dict[Origin, FunctionTool] = {}
        self.names: set[str] = set()
        self.hosted: list[HostedTool] = []
        self.left_out: set[str] = set()

    def tool(self, tool: Json, path: str) -> None:
        kind = string(tool, "type", path)
        if kind == "function":
            self.function(tool, path, None)
        elif kind == "custom":
            self.custom(tool, path, None)
        elif kind == "namespace":
            self.namespace(tool, path)
        elif kind == SEARCH:
            self.search(tool, path)
        else:
            self.provided(HostedTool(path, kind, tool))

    def provided(self, tool: HostedTool) -> None:
        """Adds a tool that the provider runs, if it has the tool. No target has a web search that may not be live."""
        family, path = tool.family, tool.path
        if family == "web_search" and tool.value.get("external_web_access") not in (None, True):
            self.unsupported.leave_out(CACHED_SEARCH, f"{path}.external_web_access", "web searches that are not live")
        elif family in self.families:
            self.hosted.append(tool)
            return
        elif family == "programmatic_tool_calling":
            self.unsupported.leave_out(PROGRAMS, f"{path}.type", "programmatic tool calling")
        elif family == "mcp":
            label = str(tool.value.get("server_label"))[:64]
            self.unsupported.leave_out(MCP_SERVER, f"{path}.type", f"the MCP server `{label}`")
        else:
            self.unsupported.leave_out(HOSTED_TOOL, f"{path}.type", f"tools of type `{tool.type[:64]}`")
        self.left_out.add(family)

    def search(self, tool: Json, path: str) -> None:
        """Deferred tools are offered at once; a search that the client runs knows of others."""
        self.left_out.add(SEARCH)
        if not self.unsupported.emulates(TOOL_SEARCH, f"{path}.type", "searches for tools"):
            return
        if _is_search_by_client(tool):
            parameters = expect(tool.get("parameters") or ANY_QUERY, dict, f"{path}.parameters")
            self.add("search", {**tool, "name": SEARCH}, path, parameters, None, None, "")

    def namespace(self, tool: Json, path: str) -> None:
        """Reads a namespace and its tools.

        :raises InvalidRequest: one is neither a function nor a custom tool.
        """
        inner = expect(tool.get("tools"), list, f"{path}.tools")
        for index, value in enumerate(inner):
            at = f"{path}.tools[{index}]"
            kind = string(expect(value, dict, at), "type", at)
            if kind not in ("function", "custom"):
                raise malformed(f"{at}.type", "must be `function` or `custom`")
            (self.function if kind == "function" else self.custom)(value, at, tool, path)

    def function(self, tool: Json, path: str, space: Json | None, space_path: str = "") -> None:
        """Reads a function, of the namespace *space* if there is one.

        :raises InvalidRequest: `strict` is not a boolean.
        """
        parameters = expect(tool.get("parameters") or NO_PARAMETERS, dict, f"{path}.parameters")
        strict = tool.get("strict")
        if strict is not None and not isinstance(strict, bool):
            raise malformed(f"{path}.strict", "must be a boolean")
        self.add("function", tool, path, parameters, strict, space, space_path)

    def custom(self, tool: Json, path: str, space: Json | None, space_path: str = "") -> None:
        self.add("custom", tool, path, WRAPPED_INPUT, None, space, space_path)

    def add(
        self, kind: ToolKind, tool: Json, path: str, schema: Json, strict: bool | None, space: Json | None, at: str
    ) -> None:
        namespace = None if space is None else string(space, "name", at)
        origin = Origin(kind, string(tool, "name", path), namespace)
        known = self.functions.get(origin)
        name = known.name if known else self.unique(flatten_name(origin.name, namespace), origin)
        text = _description(tool, path, space, at)
        self.functions[origin] = FunctionTool(path, name, text, schema, strict, origin)

    def unique(self, name: str, origin: Origin) -> str:
        if name in self.names:
            name = _with_digest(name, f"{origin.kind}:{origin.namespace}:{origin.name}")
        self.names.add(name)
        return name


def _description(tool: Json, path: str, space: Json | None, space_path: str) -> str | None:
    """A function has one description: that of its namespace stands before its own, a grammar after it."""
    above = None if space is None else optional_string(space, "description", space_path)
    texts = [above, optional_string(tool, "description", path), _grammar(tool.get("format"), f"{path}.format")]
    return "\n\n".join(text for text in texts if text) or None


def _grammar(format: Any, path: str) -> str | None:
    """The rule that a custom tool's input follows, for a target that cannot enforce it."""
    if format is None or expect(format, dict, path).get("type") != "grammar":
        return None
    syntax, definition = string(format, "syntax", path), string(format, "definition", path)
    return f"The input must match this {syntax} grammar:\n{definition}"
