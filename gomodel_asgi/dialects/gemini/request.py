"""Writes GenerateContentRequest and CountTokensRequest objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...errors import GatewayError
from ...wire.event_writer import Emitter
from ..base import Call, Outgoing, Translator
from ..conversation import read_conversation
from ..emulations import JSON_ONLY, call_wanted
from ..files import Named
from ..members import LOGPROBS, boolean, carried_members, included, integer, mapping, number, reasoning_of
from ..tool_choice import read_choice
from ..tools import read_tools
from ..unsupported import (
    CALL_LIMIT,
    COMBINATION,
    FORCED_TOOL,
    JSON_OBJECT,
    SERIAL_CALLS,
    SERVICE_TIER,
    UNBOUND_CALLS,
    VERBOSITY,
    Unsupported,
    expect,
    malformed,
    optional_string,
    string,
)
from . import errors, request
from .contents import ADDRESSES, render_contents, resolution
from .models import combines, path_of, thinking
from .reply import CountReply, Reply
from .tools import HOSTED, must_be_told, render_tools, shown_tools

# The `generationConfig` of a request.


NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
INTEGERS = {"max_output_tokens": "maxOutputTokens", "seed": "seed"}
FORMATS = ("text", "json_object", "json_schema")
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
    config |= _stop(members) | _logprobs(members, include)
    config["thinkingConfig"] = _thinking(members, model, unsupported) or None
    return {name: value for name, value in config.items() if value is not None}


def service_tier(members: Mapping[str, Any], unsupported: Unsupported) -> Json:
    """The member `serviceTier`, if another than the usual one is asked for."""
    tier = members.get("service_tier")
    if tier is not None and expect(tier, str, "service_tier") not in TIERS:
        unsupported.leave_out(SERVICE_TIER, "service_tier", f"the service tier `{tier[:64]}`")
    return {"serviceTier": TIERS[tier]} if tier in TIERS and TIERS[tier] else {}


def _stop(members: Mapping[str, Any]) -> Json:
    stop = members.get("stop")
    if stop is None:
        return {}
    stop = [stop] if isinstance(stop, str) else expect(stop, list, "stop")
    return {"stopSequences": [expect(item, str, f"stop[{index}]") for index, item in enumerate(stop)]}


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
    text = mapping(members, "text")
    if text.get("verbosity") not in (None, "medium"):
        unsupported.leave_out(VERBOSITY, "text.verbosity")
    format = mapping(text, "format", "text")
    kind = string(format, "type", "text.format") if format else "text"
    if kind not in FORMATS:
        raise malformed("text.format.type", f"must be one of {', '.join(FORMATS)}")
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
    conversation = read_conversation(call.body, unsupported, call.shown)
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


# The Gemini API (generateContent, streamGenerateContent, countTokens), public and at Vertex.


class GeminiDialect:
    """Speaks Gemini; holds no state."""

    name = "gemini"
    counts_tokens = True

    def reads_file(self, call: Call, named: Named) -> bool:
        """Whether Gemini fetches the file that *named* names: it reads addresses, those of its own Files API too."""
        return (named.url or named.file_id or "").startswith(ADDRESSES)

    def request(self, call: Call) -> Outgoing:
        """Translate *call*: `input_tokens` is a countTokens, all else a generateContent.

        :raises InvalidRequest: a member is malformed, or cannot be carried and `call.unsupported` is `"reject"`.
        """
        return request.count(call) if call.operation == "input_tokens" else request.generate(call)

    def translator(self, call: Call, emitter: Emitter) -> Translator:
        """A reader for the reply, which ends the response in `close`. That of `input_tokens` leaves the object
        `response.input_tokens` in the emitter."""
        return CountReply(emitter) if call.operation == "input_tokens" else Reply(call, emitter)

    def error(self, status: int, body: bytes) -> GatewayError | None:
        """Read one of Google's error bodies, bare or in a list; None where *body* is not one."""
        return errors.read_body(status, body)
