"""One request of the Responses API as one of the Messages API (`POST /messages`, `/messages/count_tokens`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec

from ...wire.json_scan import parsed
from ..arrangement import GO_ON
from ..base import Call, Outgoing
from ..conversation import read_conversation
from ..emulations import JSON_ONLY, call_wanted
from ..members import Choice, carried_members, included, read_choice, tier_of
from ..tools import Tools, read_tools
from ..unsupported import FORCED_TOOL, Unsupported
from ..values import boolean, integer, malformed
from .messages import COMPACTION_BETA, Blocks, Messages, user
from .models import Conditions, Model, model_of, open_turn_lacks_thinking, read_thinking
from .options import (
    TIERS,
    cache_ttl,
    context_edits,
    max_tokens,
    output_format,
    place_breakpoints,
    sampling,
    user_id,
    wants_cache_at_end,
    wants_json,
)
from .schema import Room
from .tools import FAMILIES, Toolbox, tool_choice

Json = dict[str, Any]

VERTEX = "vertex"
VERTEX_VERSION = "vertex-2023-10-16"
INTERLEAVED_BETA = "interleaved-thinking-2025-05-14"
CARRIED = frozenset(
    "input instructions tools tool_choice parallel_tool_calls max_output_tokens max_tool_calls temperature top_p top_k"
    " stop text reasoning service_tier user safety_identifier prompt_cache_key prompt_cache_options"
    " context_management".split()
)
"""Members that have a place in the Messages API. `top_k` and `stop` are not OpenAI's: a Target's `params` set them."""

INCLUDED = ("web_search_call.action.sources", "code_interpreter_call.outputs")
"""Values of `include` that every reply holds unasked."""

UNCOUNTED = frozenset(
    "max_tokens stream metadata service_tier container temperature top_p top_k stop_sequences".split()
)
"""Members that `/messages/count_tokens` does not take."""


def outgoing(call: Call) -> Outgoing:
    """Translates *call*; see `Dialect.request`."""
    request = _Request(call)
    body = request.body()
    counts = call.operation == "input_tokens"
    if counts:
        body = {name: value for name, value in body.items() if name not in UNCOUNTED}
    path = "/messages/count_tokens" if counts else "/messages"
    if call.type == VERTEX:
        path, body = at_vertex(call, body)
    return Outgoing(
        path=path,
        body=msgspec.json.encode(body),
        headers=(("anthropic-beta", ",".join(sorted(request.betas))),) if request.betas else (),
        dropped=tuple(request.unsupported.left_out),
        unsupported=tuple(request.unsupported.named),
    )


def at_vertex(call: Call, body: Json) -> tuple[str, Json]:
    """Path and body as Vertex AI wants them: the model stands in the path, the version of the API in the body."""
    body = {"anthropic_version": VERTEX_VERSION, **body}
    if call.operation == "input_tokens":
        return "/models/count-tokens:rawPredict", body
    del body["model"]
    verb = "streamRawPredict" if call.stream else "rawPredict"
    return f"/models/{quote(call.model, safe='@', errors='replace')}:{verb}", body


class _Request:
    """The parts of one request, read once in the order in which they depend on each other."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.model: Model = model_of(call.model)
        self.unsupported = Unsupported(call.unsupported)
        self.betas: set[str] = set()
        self.added_instructions: list[str] = []
        """Instructions that stand for what the API has no member for."""
        self.members: Mapping[str, Any] = carried_members(call.body, CARRIED, self.unsupported)
        included(call.body, INCLUDED, self.unsupported)
        conversation = read_conversation(self.members, self.unsupported, call.shown)
        self.tools: Tools = read_tools(self.members, self.unsupported, hosted=FAMILIES, more=conversation.tools)
        self.choice = self.possible(read_choice(self.members, self.tools))
        max_uses = integer(self.members, "max_tool_calls")
        room = Room()
        self.format = output_format(self.members, self.model, room, self.unsupported)
        self.toolbox = Toolbox(self.model, self.unsupported, self.betas, max_uses, room)
        self.toolbox.render(self.tools, self.choice)
        blocks = Blocks(self.unsupported, self.betas, cache_ttl(self.members))
        self.cache_control = blocks.cache_control if wants_cache_at_end(self.members) else None
        self.conversation = Messages(call.type, self.model, self.tools, blocks)
        self.conversation.render(conversation.turns)

    def possible(self, choice: Choice) -> Choice:
        """Returns *choice*, or `auto` where the model cannot be forced; an instruction then asks for the call."""
        if choice.mode != "required" or not self.model.always_thinks:
            return choice
        if self.unsupported.emulates(FORCED_TOOL, "tool_choice", "a forced tool with this model"):
            self.added_instructions.append(call_wanted(choice))
        return Choice("auto", None if choice.forced else choice.allowed, True)

    def body(self) -> Json:
        """The members of the request, without those that are absent."""
        limit = max_tokens(self.members, self.model)
        answer = self.answer(limit)
        value: Json = {"model": self.call.model, "max_tokens": limit, "stream": self.call.stream}
        value |= self.messages_and_system() | self.tool_members() | answer
        identity = user_id(self.members)
        value["metadata"] = None if identity is None else {"user_id": identity}
        value["service_tier"] = tier_of(self.members, TIERS, self.unsupported)
        edits = context_edits(self.members, self.model, self.unsupported)
        if edits:
            self.betas.add(COMPACTION_BETA)
            value["context_management"] = {"edits": edits}
        return {name: member for name, member in value.items() if member is not None}

    def messages_and_system(self) -> Json:
        """Returns the members `messages`, `system` and `container`, the latter None where there is none.

        :raises InvalidRequest: the input holds nothing to answer.
        """
        messages = self.conversation.messages
        system = self.conversation.system + [{"type": "text", "text": text} for text in self.added_instructions]
        if not messages:
            raise malformed("input", "holds nothing that this provider could answer")
        if self.toolbox.uploads:
            self.upload(messages)
        place_breakpoints(messages, system, self.cache_control)
        return {"system": system or None, "messages": messages, "container": self.toolbox.container}

    def upload(self, messages: list[Json]) -> None:
        """Files for the container stand in the user's first message: there, they are the same in every turn."""
        first = next((message for message in messages if message["role"] == "user"), messages[0])
        first["content"] += self.toolbox.uploads

    def tool_members(self) -> Json:
        tools = self.toolbox.tools
        choice = tool_choice(self.choice, boolean(self.members, "parallel_tool_calls"), tools)
        return {"tools": tools or None, "tool_choice": choice, "mcp_servers": self.toolbox.servers or None}

    def answer(self, limit: int) -> Json:
        prevented = self.choice.mode == "required" or open_turn_lacks_thinking(self.conversation.messages)
        thinking = read_thinking(self.members, Conditions(self.model, limit, prevented), self.unsupported)
        if thinking.on and self.toolbox.tools and self.model.interleaves:
            self.betas.add(INTERLEAVED_BETA)
        if self.conversation.goes_on() and (thinking.on or not self.model.prefills):
            self.conversation.messages.append(user(GO_ON))
        if wants_json(self.members, self.unsupported):
            self.added_instructions.append(JSON_ONLY)
        parts = (("effort", thinking.effort), ("format", self.format))
        config = {name: part for name, part in parts if part is not None}
        thinks = thinking.on or self.model.always_thinks
        sampled = sampling(self.members, self.model, thinks, self.unsupported)
        return {"thinking": thinking.config, "output_config": config or None, **sampled}


# The request that goes on with a turn which Anthropic has paused: what was said so far is the beginning of the answer.
#
# A loop of tools that the provider runs may stop with `pause_turn` (API guide, "Handling stop reasons": send the
# response back as it is, in a further request, to let the model go on).


MOST_ROUNDS = 8
"""Requests that one answer may take."""


def continued(call: Call, blocks: list[Json], container: str, spent: int) -> Outgoing | None:
    """Returns the request that goes on with the answer, None where *spent* leaves nothing of `max_output_tokens`.

    *blocks* are those of all rounds so far, *container* the id of the one that they used ("" for none), *spent* counts
    output tokens.
    """
    first = outgoing(call)
    body: Json = parsed(first.body)
    if call.body.get("max_output_tokens") is not None:
        thinking = (body.get("thinking") or {}).get("budget_tokens", 0)
        if spent >= body["max_tokens"]:
            return None
        body["max_tokens"] = max(body["max_tokens"] - spent, thinking + 1)
    if container:
        body["container"] = container
    body["messages"].append({"role": "assistant", "content": _sendable(blocks)})
    return replace(first, body=msgspec.json.encode(body), dropped=())


def _sendable(blocks: list[Json]) -> list[Json]:
    """*blocks* without what the API refuses: blocks of empty text, whitespace at the very end."""
    blocks = [block for block in blocks if block["type"] != "text" or block["text"]]
    if blocks and blocks[-1]["type"] == "text":
        text = blocks[-1]["text"].rstrip()
        blocks[-1:] = [{**blocks[-1], "text": text}] if text else []
    return blocks
