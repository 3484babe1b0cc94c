"""A call as a chat request."""

from __future__ import annotations

from ...wire.response import encode
from ..base import Call, Outgoing
from ..content import Json
from ..conversation import read_conversation
from ..members import LOGPROBS, Choice, carried_members, included, read_choice, reasoning_of, text_format
from ..tools import FunctionTool, Tools, read_tools
from ..unsupported import NEAREST_EFFORT, SCHEMA, VERBOSITY, Unsupported
from ..values import boolean, integer, mapping, number, optional_string, string
from .flavors import FLAVORS, OPEN_SERVER, Flavor
from .messages import render_messages

PATH = "/chat/completions"
NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
SAME_NAME = frozenset({"stop", "seed", "logit_bias", "reasoning_effort"})
"""Members of Chat Completions that the Responses API lacks: a Target's `params` may give them."""
OF_TOOLS = frozenset({"parallel_tool_calls", "tool_choice", "tools"})
OF_SAMPLING = frozenset({"max_output_tokens", *NUMBERS})
MAPPED = OF_TOOLS | OF_SAMPLING | {"input", "instructions", "reasoning", "text", "top_logprobs"}


def chat_request(call: Call) -> Outgoing:
    """Returns *call* as a POST of `/chat/completions`.

    :raises InvalidRequest: a member is malformed, or refused; *param* is its path.
    """
    unsupported = Unsupported(call.unsupported)
    body = encode(_Writer(call, FLAVORS.get(call.type, OPEN_SERVER), unsupported).body())
    return Outgoing(PATH, body, dropped=tuple(unsupported.left_out), unsupported=tuple(unsupported.named))


class _Writer:
    def __init__(self, call: Call, flavor: Flavor, unsupported: Unsupported) -> None:
        self.call = call
        self.flavor = flavor
        self.unsupported = unsupported
        self.members = carried_members(call.body, MAPPED | SAME_NAME | flavor.members, unsupported)

    def body(self) -> Json:
        call, flavor, members = self.call, self.flavor, self.members
        conversation = read_conversation(call.body, self.unsupported, call.shown)
        tools = read_tools(call.body, self.unsupported, more=conversation.tools)
        body: Json = {"model": call.model}
        body["messages"] = render_messages(conversation.turns, call, flavor, tools, self.unsupported)
        if call.stream:
            body["stream"] = True
            if flavor.stream_options:
                body["stream_options"] = {"include_usage": True}
        if tools.functions or not OF_TOOLS.isdisjoint(members):
            body |= self.tools(tools)
        if not OF_SAMPLING.isdisjoint(members):
            body |= self.sampling()
        if "top_logprobs" in members or "include" in call.body:
            body |= self.logprobs()
        if "text" in members:
            body |= self.text()
        if "reasoning" in members:
            body |= self.reasoning()
        body |= flavor.always
        for name, value in members.items():
            if name in SAME_NAME or name in flavor.members:
                body[name] = value
        return body

    def sampling(self) -> Json:
        found: Json = {name: number(self.members, name) for name in NUMBERS if name in self.members}
        if "temperature" in found:
            found["temperature"] = max(found["temperature"], self.flavor.lowest_temperature)
        limit = integer(self.members, "max_output_tokens")
        return found if limit is None else {**found, self.flavor.max_tokens: limit}

    def logprobs(self) -> Json:
        include = included(self.call.body, (LOGPROBS,), self.unsupported)
        top = integer(self.members, "top_logprobs") or 0
        if top:
            return {"logprobs": True, "top_logprobs": top}
        return {"logprobs": True} if LOGPROBS in include else {}

    # Tools...

    def tools(self, tools: Tools) -> Json:
        choice = read_choice(self.call.body, tools)
        parallel = boolean(self.members, "parallel_tool_calls")
        shown = [tool for tool in tools.functions if self.flavor.allowed_tools or choice.shows(tool)]
        if not shown:
            return {}
        body: Json = {"tools": [_tool(tool) for tool in shown]}
        if choice.explicit:
            body["tool_choice"] = self.choice(choice, len(shown) == len(tools.functions))
        return body if parallel is None else {**body, "parallel_tool_calls": parallel}

    def choice(self, choice: Choice, all_shown: bool) -> str | Json:
        if choice.forced:
            return {"type": "function", "function": {"name": choice.forced}}
        if choice.allowed is None or not all_shown or not self.flavor.allowed_tools or choice.mode == "none":
            return choice.mode
        allowed = [{"type": "function", "function": {"name": name}} for name in choice.allowed]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}

    # What the answer looks like...

    def text(self) -> Json:
        return self.format() | self.verbosity(optional_string(mapping(self.members, "text"), "verbosity", "text"))

    def format(self) -> Json:
        """Returns the member `response_format`, if one is needed."""
        kind, format = text_format(self.members)
        if kind == "text":
            return {}
        if kind == "json_object":
            return {"response_format": {"type": "json_object"}}
        schema: Json = {
            "name": string(format, "name", "text.format"),
            "schema": mapping(format, "schema", "text.format"),
        }
        schema |= {name: format[name] for name in ("description", "strict") if name in format}
        if self.flavor.json_schema:
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        self.unsupported.leave_out(SCHEMA, "text.format", "structured output by a JSON schema")
        return {}

    def verbosity(self, value: str | None) -> Json:
        if value is None or (value == "medium" and not self.flavor.verbosity):
            return {}
        if self.flavor.verbosity:
            return {"verbosity": value}
        self.unsupported.leave_out(VERBOSITY, "text.verbosity")
        return {}

    def reasoning(self) -> Json:
        effort = optional_string(reasoning_of(self.members, self.unsupported), "effort", "reasoning")
        return {} if effort is None else self.effort(effort)

    def effort(self, effort: str) -> Json:
        """DeepSeek and Z.ai switch thinking off by another member; Z.ai knows no levels, but thinks or does not."""
        if self.flavor.effort == "reasoning":
            return {"reasoning": {"effort": effort}}
        if self.flavor.effort in ("deepseek", "zai") and effort == "none":
            return {"thinking": {"type": "disabled"}}
        if self.flavor.effort == "zai":
            self.unsupported.leave_out(NEAREST_EFFORT, "reasoning.effort")
            return {"thinking": {"type": "enabled"}}
        return {"reasoning_effort": effort}


def _tool(tool: FunctionTool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}
