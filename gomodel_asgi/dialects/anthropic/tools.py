"""Tools and `tool_choice` in Anthropic's form: functions, web search, code execution, remote MCP servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..members import Choice
from ..tools import FunctionTool, HostedTool, Tools, leave_out_settings
from ..unsupported import (
    CALL_LIMIT,
    CONTAINER_SETTINGS,
    HOSTED_LIMITS,
    MCP_SERVER,
    SEARCH_SETTINGS,
    STRICT,
    UNBOUND_CALLS,
    Unsupported,
)
from ..values import expect, malformed, mapping, object_in, objects, optional_string, string
from .messages import FILES_BETA
from .models import Model
from .schema import Room, keepable

Json = dict[str, Any]

FAMILIES = ("web_search", "code_interpreter", "mcp")
CODE_BETA = "code-execution-2025-08-25"
MCP_BETA = "mcp-client-2025-11-20"
NAMES: Mapping[str, str] = {"web_search": "web_search", "code_interpreter": "code_execution"}
"""Anthropic's names of its own tools, for a `tool_choice` that forces one."""


class Toolbox:
    """Renders tools: *tools*, *servers* (`mcp_servers`), *container* and *uploads* are what the request will hold.

    *max_uses* is the client's `max_tool_calls`, which only web searches can be held to, *room* what there is for strict
    functions.
    """

    def __init__(
        self, model: Model, unsupported: Unsupported, betas: set[str], max_uses: int | None, room: Room
    ) -> None:
        self.model = model
        self.room = room
        self.unsupported = unsupported
        self.betas = betas
        self.max_uses = max_uses
        self.tools: list[Json] = []
        self.servers: list[Json] = []
        self.container: str | None = None
        self.uploads: list[Json] = []

    def render(self, tools: Tools, choice: Choice) -> None:
        """Those of *tools* that the model is shown. The tools of an MCP server have no name before they are listed, so
        that to force one of them is to show no others."""
        shows = choice.permits if choice.forced == "mcp" else choice.shows
        self.tools += [self.function(function) for function in tools.functions if shows(function)]
        seen: set[str] = set()
        for hosted in tools.hosted:
            if shows(hosted) and (hosted.family == "mcp" or hosted.family not in seen):
                seen.add(hosted.family)
                RENDERERS[hosted.family](self, hosted)
        if self.max_uses is not None and seen != {"web_search"}:
            self.unsupported.leave_out(UNBOUND_CALLS if seen else CALL_LIMIT, "max_tool_calls")

    def function(self, tool: FunctionTool) -> Json:
        """Returns *tool* as a tool of the client's."""
        value: Json = {"name": tool.name}
        if tool.description:
            value["description"] = tool.description
        # Anthropic demands the type that OpenAI takes for granted, and takes no other.
        value["input_schema"] = {"type": "object"} | tool.parameters | {"type": "object"}
        if not tool.strict:
            return value
        path = f"{tool.path}.parameters"
        kept = keepable(value["input_schema"], path, self.unsupported) if self.model.keeps_schemas else None
        if kept is None or not self.room.function(kept):
            what = "strict functions with this model or schema, or so many of them"
            self.unsupported.leave_out(STRICT, f"{tool.path}.strict", what)
            return value
        return {**value, "input_schema": kept, "strict": True}

    def web_search(self, tool: HostedTool) -> None:
        """Adds the provider's web search, with its filters and the user's place.

        :raises InvalidRequest: a setting is malformed or refused.
        """
        names = ("search_context_size", "search_content_types")
        leave_out_settings(tool.value, tool.path, names, SEARCH_SETTINGS, self.unsupported)
        filters = mapping(tool.value, "filters", tool.path)
        value: Json = {"type": "web_search_20250305", "name": "web_search"}
        value |= {name: filters[name] for name in ("allowed_domains", "blocked_domains") if filters.get(name)}
        place = mapping(tool.value, "user_location", tool.path)
        if place:
            value["user_location"] = {**place, "type": "approximate"}
        if self.max_uses is not None:
            value["max_uses"] = self.max_uses
        self.tools.append(value)

    def code_interpreter(self, tool: HostedTool) -> None:
        """Adds the provider's code execution, in the container that *tool* names.

        :raises InvalidRequest: a setting is malformed or refused.
        """
        self.betas.add(CODE_BETA)
        self.tools.append({"type": "code_execution_20250825", "name": "code_execution"})
        container = tool.value.get("container")
        if isinstance(container, str):
            self.container = container
            return
        path, given = f"{tool.path}.container", mapping(tool.value, "container", tool.path)
        leave_out_settings(given, path, ("memory_limit", "network_policy"), CONTAINER_SETTINGS, self.unsupported)
        files = given.get("file_ids") or []
        if expect(files, list, f"{path}.file_ids"):
            self.betas.add(FILES_BETA)
        self.uploads += [{"type": "container_upload", "file_id": file_id} for file_id in files]

    def mcp(self, tool: HostedTool) -> None:
        """Adds an MCP server. One whose calls need an approval is unsupported, since nobody would be asked."""
        value, path = tool.value, tool.path
        label = string(value, "server_label", path)
        if value.get("server_url") is None and not value.get("connector_id"):
            self.unsupported.leave_out(MCP_SERVER, f"{path}.type", f"the MCP server `{label[:64]}`")
            return
        if value.get("require_approval") != "never":
            what = "MCP tools that need approval; set it to `never`"
            self.unsupported.leave_out(HOSTED_LIMITS, f"{path}.require_approval", what)
            return
        if value.get("connector_id"):
            self.unsupported.leave_out(HOSTED_LIMITS, f"{path}.connector_id", "MCP connectors")
            return
        allowed = value.get("allowed_tools")
        if isinstance(allowed, dict) and allowed.get("read_only") is not None:
            what = "MCP tools chosen by `read_only`; name them"
            self.unsupported.leave_out(HOSTED_LIMITS, f"{path}.allowed_tools.read_only", what)
            return
        self.betas.add(MCP_BETA)
        token = _token(value, path, self.unsupported)
        server: Json = {"type": "url", "name": label, "url": string(value, "server_url", path)}
        self.servers.append({**server, "authorization_token": token} if token else server)
        self.tools.append({"type": "mcp_toolset", "mcp_server_name": label, **_allowed(value, path)})


def _token(value: Json, path: str, unsupported: Unsupported) -> str | None:
    """The bearer token of an MCP server; of its *headers* only that one can be carried."""
    token = optional_string(value, "authorization", path)
    for name, header in mapping(value, "headers", path).items():
        bearer = header.split(" ", 1) if isinstance(header, str) else []
        if name.lower() == "authorization" and len(bearer) == 2 and bearer[0].lower() == "bearer":
            token = bearer[1]
        else:
            unsupported.leave_out(HOSTED_LIMITS, f"{path}.headers", f"the MCP header `{name[:64]}`")
    return token


def _allowed(value: Json, path: str) -> Json:
    """Returns the members that let only some of an MCP server's tools be called.

    :raises InvalidRequest: they are not strings.
    """
    allowed = value.get("allowed_tools")
    if isinstance(allowed, dict):
        allowed = allowed.get("tool_names")
    if allowed is None:
        return {}
    names = expect(allowed, list, f"{path}.allowed_tools")
    if not all(isinstance(name, str) for name in names):
        raise malformed(f"{path}.allowed_tools", "must hold names")
    return {"default_config": {"enabled": False}, "configs": {name: {"enabled": True} for name in names}}


RENDERERS = {"web_search": Toolbox.web_search, "code_interpreter": Toolbox.code_interpreter, "mcp": Toolbox.mcp}


def tool_choice(choice: Choice, parallel: bool | None, tools: list[Json]) -> Json | None:
    """The member `tool_choice`, None where the default serves; *tools* are the rendered ones."""
    serial: Json = {"disable_parallel_tool_use": True} if parallel is False else {}
    if not tools or not (choice.explicit or serial):
        return None
    if choice.mode == "none":
        return {"type": "none"}
    if choice.mode == "auto":
        return {"type": "auto", **serial}
    # Of an MCP server nothing else is shown, so that `any` is one of its tools.
    forced = NAMES.get(choice.forced or "", choice.forced)
    if forced is not None and forced in [tool.get("name") for tool in tools]:
        return {"type": "tool", "name": forced, **serial}
    return {"type": "any", **serial}


# Anthropic's server tools as items of the Responses API.
#
# A server tool is one `server_tool_use` (or `mcp_tool_use`) block and one result block. Where the Responses API has a
# hosted tool of the kind, the pair is one item; tools without an item (tool search, the advisor, the text editor) are
# reported to observers only.


Block = Mapping[str, Any]

NO_USE: Json = {"input": {}}
"""Stands for a use that an earlier, paused response held."""

SEARCH_PHASES = tuple(f"response.web_search_call.{phase}" for phase in ("in_progress", "searching", "completed"))
CODE_PHASES = tuple(f"response.code_interpreter_call.{phase}" for phase in ("in_progress", "interpreting", "completed"))


def hosted_item(use: Block, result: Block | None, container: str) -> tuple[Json, tuple[str, ...]] | None:
    """The item of a server tool's *use* and *result* (None: the turn paused before it), and its event types.

    *container* is the id of the container that code runs in, "" where it is not known yet. None where no item fits.
    """
    if "server_name" in use:
        return _called(use, result)
    kind = (result or {}).get("type") or f"{use.get('name')}_tool_result"
    if kind == "web_search_tool_result":
        return _searched(use, result), SEARCH_PHASES
    if kind == "web_fetch_tool_result":
        return _fetched(use, result), SEARCH_PHASES
    if kind in ("bash_code_execution_tool_result", "code_execution_tool_result"):
        return _executed(use, result, container), CODE_PHASES
    return None


def _status(result: Block | None) -> str:
    if result is None:
        return "incomplete"
    return "failed" if "error_code" in object_in(result or {}, "content") else "completed"


def _searched(use: Block, result: Block | None) -> Json:
    query = object_in(use, "input").get("query") or ""
    sources = [
        {"type": "url", "url": page["url"]} for page in objects((result or {}).get("content")) if page.get("url")
    ]
    action = {"type": "search", "query": query, "queries": [query], "sources": sources}
    return {"type": "web_search_call", "status": _status(result), "action": action}


def _fetched(use: Block, result: Block | None) -> Json:
    url = object_in(result or {}, "content").get("url") or object_in(use, "input").get("url")
    return {"type": "web_search_call", "status": _status(result), "action": {"type": "open_page", "url": url}}


def _executed(use: Block, result: Block | None, container: str) -> Json:
    content, input = object_in(result or {}, "content"), object_in(use, "input")
    code = input.get("command") or input.get("code")
    logs = (content.get("stdout") or "") + (content.get("stderr") or "") or content.get("error_code") or ""
    outputs = [{"type": "logs", "logs": logs}] if logs else []
    value = {"type": "code_interpreter_call", "status": _status(result), "code": code}
    return {**value, "container_id": container, "outputs": outputs}


def _called(use: Block, result: Block | None) -> tuple[Json, tuple[str, ...]]:
    failed = bool(result and result.get("is_error"))
    status = "failed" if failed else _status(result)
    text = _texts((result or {}).get("content"))
    value = {"type": "mcp_call", "status": status, "name": use["name"], "server_label": use["server_name"]}
    error = {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]} if failed else None
    outcome = {"output": text if status == "completed" else None, "error": error, "approval_request_id": None}
    phases = ("response.mcp_call.in_progress", f"response.mcp_call.{'failed' if failed else 'completed'}")
    return {**value, "arguments": json.dumps(object_in(use, "input"), ensure_ascii=False), **outcome}, phases


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text") or "" for block in content or ())
