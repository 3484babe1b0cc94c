"""The `tools` and `toolConfig` of a request."""

from __future__ import annotations

from typing import Any

from ..choice import Choice
from ..losses import Losses
from ..tools import FunctionTool, HostedTool, Tools
from .models import generation

Json = dict[str, Any]

HOSTED = ("web_search", "code_interpreter")
"""Families of hosted tools that Gemini has under other names."""


def render_tools(tools: Tools, choice: Choice, model: str, losses: Losses) -> Json:
    """The members `tools` and `toolConfig`, as far as there is something to say in them.

    :raises InvalidRequest: a setting of a hosted tool, or a forced hosted tool, is a loss and losses are rejected.
    """
    functions = [tool for tool in tools.functions if choice.mode != "auto" or choice.permits(tool)]
    hosted = [tool for tool in tools.hosted if choice.mode != "none" and choice.permits(tool)]
    declared: list[Json] = [{"functionDeclarations": [_declaration(tool) for tool in functions]}] if functions else []
    declared += [_hosted(tool, losses) for tool in hosted]
    config = _calling(functions, hosted, choice, model, losses)
    if functions and hosted and generation(model) >= (3, 0) and "publishers/" not in model:
        # Without it the public API refuses both kinds in one request; Vertex does not know it.
        config["includeServerSideToolInvocations"] = True
    return ({"tools": declared} if declared else {}) | ({"toolConfig": config} if config else {})


def _declaration(tool: FunctionTool) -> Json:
    declaration: Json = {"name": tool.name, "parametersJsonSchema": tool.parameters}
    return declaration | ({"description": tool.description} if tool.description else {})


def _calling(
    functions: list[FunctionTool], hosted: list[HostedTool], choice: Choice, model: str, losses: Losses
) -> Json:
    if choice.mode == "required":
        names = [tool.name for tool in functions if choice.permits(tool)]
        if not names:
            losses.add("tool_choice", "a hosted tool that must be called")
            return {}
        allowed = {} if choice.allowed is None else {"allowedFunctionNames": names}
        return {"functionCallingConfig": {"mode": "ANY", **allowed}}
    mode = _mode(functions, choice, model, losses)
    return {"functionCallingConfig": {"mode": mode}} if functions and mode else {}


def _mode(functions: list[FunctionTool], choice: Choice, model: str, losses: Losses) -> str | None:
    if choice.mode == "none":
        return "NONE"
    strict = [tool for tool in functions if tool.strict]
    if strict and generation(model) >= (3, 0):
        # Keeps calls to their schemas as ANY does, and leaves the model free to answer in text.
        return "VALIDATED"
    for tool in strict:
        losses.note(f"{tool.path}.strict")
    return "AUTO" if choice.given else None


def _hosted(tool: HostedTool, losses: Losses) -> Json:
    if tool.family == "web_search":
        if tool.value.get("filters"):
            losses.add(f"{tool.path}.filters", "`filters` of a web search")
        for name in ("user_location", "search_context_size", "external_web_access"):
            if tool.value.get(name) is not None:
                losses.note(f"{tool.path}.{name}")
        return {"googleSearch": {}}
    container = tool.value.get("container")
    if isinstance(container, str) or (isinstance(container, dict) and container.get("file_ids")):
        losses.add(f"{tool.path}.container", "containers of the client's own")
    return {"codeExecution": {}}
