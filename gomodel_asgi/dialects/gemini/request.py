"""Writes GenerateContentRequest and CountTokensRequest objects."""

from __future__ import annotations

from typing import Any

import msgspec

from ..base import Call, Outgoing
from ..conversation import read_conversation
from ..emulations import JSON_ONLY, call_wanted
from ..members import LOGPROBS, boolean, carried_members, included, integer
from ..tool_choice import read_choice
from ..tools import read_tools
from ..unsupported import CALL_LIMIT, FORCED_TOOL, SERIAL_CALLS, UNBOUND_CALLS, Unsupported
from .contents import render_contents
from .generation import render_form, render_generation, service_tier
from .media import resolution
from .models import path_of
from .tools import HOSTED, must_be_told, render_tools, shown_tools

Json = dict[str, Any]

CARRIED = frozenset(
    {
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "max_tool_calls",
        "text",
        "reasoning",
        "max_output_tokens",
        "temperature",
        "top_p",
        "top_logprobs",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "seed",
        "service_tier",
    }
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
    conversation = read_conversation(call.body, unsupported)
    tools = read_tools(call.body, unsupported, hosted=HOSTED, more=conversation.tools)
    choice = read_choice(call.body, tools)
    shown = shown_tools(tools, choice, call.model, unsupported)
    form = render_form(members, call.model, bool(shown.functions or shown.hosted), unsupported)
    asked = [JSON_ONLY] if form.instructed else []
    if must_be_told(shown, choice) and unsupported.emulates(FORCED_TOOL, "tool_choice", "a forced hosted tool"):
        asked.append(call_wanted(choice))
    if boolean(members, "parallel_tool_calls") is False and shown.functions:
        unsupported.emulates(SERIAL_CALLS, "parallel_tool_calls")
    if integer(members, "max_tool_calls") is not None:
        unsupported.leave_out(UNBOUND_CALLS if shown.hosted else CALL_LIMIT, "max_tool_calls")
    body = render_contents(conversation.turns, call, tools, asked, unsupported)
    body |= render_tools(shown, choice, call.model, unsupported)
    config = render_generation(members, include, call.model, unsupported) | form.config
    images = [part for turn in conversation.turns for part in turn.parts]
    if (level := resolution(images)) is not None:
        config["mediaResolution"] = level
    return body | ({"generationConfig": config} if config else {}) | service_tier(members, unsupported)
