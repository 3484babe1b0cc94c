"""Writes GenerateContentRequest and CountTokensRequest objects."""

from __future__ import annotations

from typing import Any

import msgspec

from ..base import Call, Outgoing
from ..choice import read_choice
from ..conversation import read_conversation
from ..losses import Losses
from ..members import carried_members
from ..tools import read_tools
from .contents import render_contents
from .generation import render_generation, service_tier
from .media import resolution
from .models import path_of
from .tooling import HOSTED, render_tools

Json = dict[str, Any]

CARRIED = frozenset(
    {
        "input",
        "instructions",
        "tools",
        "tool_choice",
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


def generate(call: Call) -> Outgoing:
    """The request for an answer."""
    losses = Losses(call.unsupported)
    body = render(call, losses)
    path = path_of(call.model)
    dropped = tuple(losses.dropped)
    if call.stream:
        return Outgoing(f"{path}:streamGenerateContent", msgspec.json.encode(body), "alt=sse", dropped=dropped)
    return Outgoing(f"{path}:generateContent", msgspec.json.encode(body), dropped=dropped)


def count(call: Call) -> Outgoing:
    """The request for the number of tokens that an input has."""
    losses = Losses(call.unsupported)
    path, body = path_of(call.model), render(call, losses)
    if path.startswith("/models/"):
        # The public API counts instructions and tools only when they stand in a whole request.
        body = {"generateContentRequest": {"model": path[1:], **body}}
    else:
        body.pop("toolConfig", None)
    return Outgoing(f"{path}:countTokens", msgspec.json.encode(body), dropped=tuple(losses.dropped))


def render(call: Call, losses: Losses) -> Json:
    """The body of a generateContent request."""
    members = carried_members(call.body, CARRIED, losses)
    conversation = read_conversation(call.body, losses)
    tools = read_tools(call.body, losses, hosted=HOSTED, more=conversation.tools)
    choice = read_choice(call.body, tools, losses)
    body = render_contents(conversation.turns, call, tools, losses)
    body |= render_tools(tools, choice, call.model, losses)
    config = render_generation(members, call.body.get("include"), call.model, losses)
    images = [part for turn in conversation.turns for part in turn.parts]
    if (level := resolution(images)) is not None:
        config["mediaResolution"] = level
    return body | ({"generationConfig": config} if config else {}) | service_tier(members, losses)
