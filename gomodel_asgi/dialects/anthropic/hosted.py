"""Anthropic's server tools as items of the Responses API.

A server tool is one `server_tool_use` (or `mcp_tool_use`) block and one result block. Where the Responses API has a
hosted tool of the kind, the pair is one item; tools without an item (tool search, the advisor, the text editor) are
reported to observers only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
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


def _member(block: Block | None, name: str) -> Json:
    """The object *name* of *block*, empty where it is something else: no surprise in a result costs the answer."""
    value = (block or {}).get(name)
    return value if isinstance(value, dict) else {}


def _status(result: Block | None) -> str:
    if result is None:
        return "incomplete"
    return "failed" if "error_code" in _member(result, "content") else "completed"


def _searched(use: Block, result: Block | None) -> Json:
    content = (result or {}).get("content")
    found = content if isinstance(content, list) else []
    query = _member(use, "input").get("query") or ""
    sources = [{"type": "url", "url": page["url"]} for page in found if isinstance(page, dict) and page.get("url")]
    action = {"type": "search", "query": query, "queries": [query], "sources": sources}
    return {"type": "web_search_call", "status": _status(result), "action": action}


def _fetched(use: Block, result: Block | None) -> Json:
    url = _member(result, "content").get("url") or _member(use, "input").get("url")
    return {"type": "web_search_call", "status": _status(result), "action": {"type": "open_page", "url": url}}


def _executed(use: Block, result: Block | None, container: str) -> Json:
    content, input = _member(result, "content"), _member(use, "input")
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
    return {**value, "arguments": json.dumps(_member(use, "input"), ensure_ascii=False), **outcome}, phases


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(block.get("text") or "" for block in content or ())
