"""The `tools` and `toolConfig` of a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..tool_choice import Choice
from ..tools import FunctionTool, HostedTool, Tools, leave_out_settings
from ..unsupported import COMBINATION, CONTAINER_SETTINGS, HOSTED_LIMITS, SEARCH_SETTINGS, STRICT, Unsupported
from .models import combines, generation

Json = dict[str, Any]

HOSTED = ("web_search", "code_interpreter")
"""Families of hosted tools that Gemini has under other names."""


def shown_tools(tools: Tools, choice: Choice, model: str, unsupported: Unsupported) -> Tools:
    """Those of *tools* that *model* is shown.

    :raises InvalidRequest: functions and hosted tools, of which the model takes but one kind, and that is refused.
    """
    functions = [tool for tool in tools.functions if choice.mode != "auto" or choice.permits(tool)]
    hosted = [tool for tool in tools.hosted if choice.mode != "none" and choice.shows(tool)]
    if functions and hosted and not combines(model):
        for tool in hosted:
            what = f"tools of type `{tool.type[:64]}` beside functions with this model"
            unsupported.leave_out(COMBINATION, f"{tool.path}.type", what)
        hosted = []
    return replace(tools, functions=tuple(functions), hosted=tuple(hosted))


def render_tools(tools: Tools, choice: Choice, model: str, unsupported: Unsupported) -> Json:
    """The members `tools` and `toolConfig` for the *tools* that are shown, as far as there is something to say in them.

    :raises InvalidRequest: a setting of a hosted tool is refused.
    """
    functions, hosted = tools.functions, tools.hosted
    declared: list[Json] = [{"functionDeclarations": [_declaration(tool) for tool in functions]}] if functions else []
    declared += [_hosted(tool, unsupported) for tool in hosted]
    config = _calling(tools, choice, model, unsupported)
    if functions and hosted and "publishers/" not in model:
        # Without it the public API refuses both kinds in one request; Vertex does not know it.
        config["includeServerSideToolInvocations"] = True
    return ({"tools": declared} if declared else {}) | ({"toolConfig": config} if config else {})


def _declaration(tool: FunctionTool) -> Json:
    declaration: Json = {"name": tool.name, "parametersJsonSchema": tool.parameters}
    return declaration | ({"description": tool.description} if tool.description else {})


def must_be_told(tools: Tools, choice: Choice) -> bool:
    """Whether the model can only be told in words to call what *choice* forces: a hosted tool."""
    return choice.mode == "required" and not any(map(choice.permits, tools.functions)) and bool(tools.hosted)


def _calling(tools: Tools, choice: Choice, model: str, unsupported: Unsupported) -> Json:
    if choice.mode == "required":
        names = [tool.name for tool in tools.functions if choice.permits(tool)]
        if not names:
            return {}
        allowed = {} if choice.allowed is None else {"allowedFunctionNames": names}
        return {"functionCallingConfig": {"mode": "ANY", **allowed}}
    mode = _mode(tools, choice, model, unsupported)
    return {"functionCallingConfig": {"mode": mode}} if tools.functions and mode else {}


def _mode(tools: Tools, choice: Choice, model: str, unsupported: Unsupported) -> str | None:
    if choice.mode == "none":
        return "NONE"
    strict = [tool for tool in tools.functions if tool.strict]
    if strict and generation(model) >= (3, 0):
        # Keeps calls to their schemas as ANY does, and leaves the model free to answer in text.
        return "VALIDATED"
    for tool in strict:
        unsupported.leave_out(STRICT, f"{tool.path}.strict", "strict functions with this model")
    # Beside hosted tools the API has a default of its own, and refuses this one.
    return "AUTO" if choice.given and not tools.hosted else None


def _hosted(tool: HostedTool, unsupported: Unsupported) -> Json:
    if tool.family == "web_search":
        if tool.value.get("filters"):
            unsupported.leave_out(HOSTED_LIMITS, f"{tool.path}.filters", "`filters` of a web search")
        names = ("user_location", "search_context_size", "search_content_types")
        leave_out_settings(tool.value, tool.path, names, SEARCH_SETTINGS, unsupported)
        return {"googleSearch": {}}
    container, path = tool.value.get("container"), f"{tool.path}.container"
    if isinstance(container, str) or (isinstance(container, dict) and container.get("file_ids")):
        unsupported.leave_out(HOSTED_LIMITS, path, "containers of the client's own")
    elif isinstance(container, dict):
        leave_out_settings(container, path, ("memory_limit", "network_policy"), CONTAINER_SETTINGS, unsupported)
    return {"codeExecution": {}}
