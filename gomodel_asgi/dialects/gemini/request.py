"""Writes GenerateContentRequest and CountTokensRequest objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ..base import Call, Outgoing
from ..conversation import read_conversation
from ..emulations import JSON_ONLY, call_wanted
from ..members import (
    LOGPROBS,
    Choice,
    carried_members,
    included,
    leave_out_verbosity,
    read_choice,
    reasoning_of,
    stop_sequences,
    text_format,
    tier_of,
)
from ..tools import FunctionTool, HostedTool, Tools, leave_out_settings, read_tools
from ..unsupported import (
    CALL_LIMIT,
    COMBINATION,
    CONTAINER_SETTINGS,
    FORCED_TOOL,
    HOSTED_LIMITS,
    JSON_OBJECT,
    SEARCH_SETTINGS,
    SERIAL_CALLS,
    STRICT,
    UNBOUND_CALLS,
    Unsupported,
)
from ..values import boolean, expect, integer, number, optional_string
from .contents import render_contents, resolution
from .hosted import HOSTED
from .models import combines, generation, path_of, thinking

Json = dict[str, Any]

CARRIED = frozenset(
    "input instructions tools tool_choice parallel_tool_calls max_tool_calls text reasoning max_output_tokens"
    " temperature top_p top_logprobs presence_penalty frequency_penalty stop seed service_tier".split()
)
INCLUDED = (LOGPROBS, "web_search_call.action.sources", "code_interpreter_call.outputs")
"""Values of `include` that a reply can hold."""


def generate(call: Call) -> Outgoing:
    """The request for an answer."""
    unsupported = Unsupported(call.unsupported)
    body, path = msgspec.json.encode(render(call, unsupported)), path_of(call.model)
    verb, query = ("streamGenerateContent", "alt=sse") if call.stream else ("generateContent", "")
    return _outgoing(f"{path}:{verb}", body, query, unsupported)


def count(call: Call) -> Outgoing:
    """The request for the number of tokens that an input has."""
    unsupported = Unsupported(call.unsupported)
    path, body = path_of(call.model), render(call, unsupported)
    if path.startswith("/models/"):
        # The public API counts instructions and tools only when they stand in a whole request.
        body = {"generateContentRequest": {"model": path[1:], **body}}
    else:
        body.pop("toolConfig", None)
    return _outgoing(f"{path}:countTokens", msgspec.json.encode(body), "", unsupported)


def _outgoing(path: str, body: bytes, query: str, unsupported: Unsupported) -> Outgoing:
    left_out, named = tuple(unsupported.left_out), tuple(unsupported.named)
    return Outgoing(path, body, query, dropped=left_out, unsupported=named)


def render(call: Call, unsupported: Unsupported) -> Json:
    """The body of a generateContent request."""
    members = carried_members(call.body, CARRIED, unsupported)
    include = included(call.body, INCLUDED, unsupported)
    conversation = read_conversation(call.body, unsupported, call.shown)
    tools = read_tools(call.body, unsupported, hosted=HOSTED, more=conversation.tools)
    choice = read_choice(call.body, tools)
    shown = shown_tools(tools, choice, call.model, unsupported)
    form = render_form(members, call.model, bool(shown.functions or shown.hosted), unsupported)
    added_instructions = [JSON_ONLY] if form.instructed else []
    if needs_instruction(shown, choice) and unsupported.emulates(FORCED_TOOL, "tool_choice", "a forced hosted tool"):
        added_instructions.append(call_wanted(choice))
    if boolean(members, "parallel_tool_calls") is False and shown.functions:
        unsupported.emulates(SERIAL_CALLS, "parallel_tool_calls")
    if integer(members, "max_tool_calls") is not None:
        unsupported.leave_out(UNBOUND_CALLS if shown.hosted else CALL_LIMIT, "max_tool_calls")
    body = render_contents(conversation.turns, call, tools, added_instructions, unsupported)
    body |= render_tools(shown, choice, call.model, unsupported)
    config = render_generation(members, include, call.model, unsupported) | form.config
    images = [part for turn in conversation.turns for part in turn.parts]
    if (level := resolution(images)) is not None:
        config["mediaResolution"] = level
    tier = tier_of(members, TIERS, unsupported)
    return body | ({"generationConfig": config} if config else {}) | ({"serviceTier": tier} if tier else {})


# The `tools` and `toolConfig` of a request.


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


def needs_instruction(tools: Tools, choice: Choice) -> bool:
    """Returns whether only an instruction can ask for the tool that *choice* forces: a hosted one."""
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
    return "AUTO" if choice.explicit and not tools.hosted else None


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


# The `generationConfig` of a request.


NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
INTEGERS = {"max_output_tokens": "maxOutputTokens", "seed": "seed"}
JSON = "application/json"
TIERS = {"auto": None, "default": None, "standard": "standard", "flex": "flex", "priority": "priority"}


def render_generation(
    members: Mapping[str, Any], include: Collection[str], model: str, unsupported: Unsupported
) -> Json:
    """The settings in *members* but for the form of the answer; *include* is what else the reply shall hold.

    :raises InvalidRequest: one is malformed, or refused.
    """
    config: Json = {to: number(members, name) for name, to in NUMBERS.items()}
    config |= {to: integer(members, name) for name, to in INTEGERS.items()}
    config |= {"stopSequences": stop_sequences(members)} | _logprobs(members, include)
    config["thinkingConfig"] = _thinking(members, model, unsupported) or None
    return {name: value for name, value in config.items() if value is not None}


def _logprobs(members: Mapping[str, Any], include: Collection[str]) -> Json:
    top = integer(members, "top_logprobs")
    if not top and LOGPROBS not in include:
        return {}
    return {"responseLogprobs": True, "logprobs": top or None}


@dataclass(frozen=True, slots=True)
class Form:
    """What shape the answer has: *config* goes into `generationConfig`; *instructed*: a JSON object is asked for in
    words, since the model does not take such a setting beside tools."""

    config: Json = field(default_factory=dict)
    instructed: bool = False


def render_form(members: Mapping[str, Any], model: str, has_tools: bool, unsupported: Unsupported) -> Form:
    """The form of the answer that `text` asks for; *has_tools*: the model is offered some.

    :raises InvalidRequest: it is malformed, or refused.
    """
    leave_out_verbosity(members, unsupported)
    kind, format = text_format(members)
    free = combines(model) or not has_tools
    if kind == "text":
        return Form()
    if kind == "json_object":
        if free:
            return Form({"responseMimeType": JSON})
        what = "the format `json_object` beside tools with this model"
        return Form(instructed=unsupported.emulates(JSON_OBJECT, "text.format", what))
    schema = expect(format.get("schema"), dict, "text.format.schema")
    if free:
        return Form({"responseMimeType": JSON, "responseJsonSchema": schema})
    unsupported.leave_out(COMBINATION, "text.format", "a JSON schema beside tools with this model")
    return Form()


def _thinking(members: Mapping[str, Any], model: str, unsupported: Unsupported) -> Json:
    reasoning = reasoning_of(members, unsupported)
    effort = optional_string(reasoning, "effort", "reasoning")
    summary = reasoning.get("summary") or reasoning.get("generate_summary")
    return thinking(model, effort, bool(summary), unsupported)
