"""A turn that Anthropic has paused: asked for again, with what was said so far as the beginning of the answer.

A loop of tools that the provider runs may stop with `pause_turn` (API guide, "Handling stop reasons": send the response
back as it is, in a further request, to let the model go on).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from ...wire.json_scan import parsed
from ..base import Call, Outgoing
from .request import outgoing

Json = dict[str, Any]

MOST_ROUNDS = 8
"""Requests that one answer may take."""


def continued(call: Call, said: list[Json], container: str, spent: int) -> Outgoing | None:
    """The request that goes on after *said*, the blocks of all rounds so far, in the *container* that they used ("" for
    none); None where the *spent* output tokens leave nothing of `max_output_tokens`."""
    first = outgoing(call)
    body: Json = parsed(first.body)
    if call.body.get("max_output_tokens") is not None:
        thinking = (body.get("thinking") or {}).get("budget_tokens", 0)
        if spent >= body["max_tokens"]:
            return None
        body["max_tokens"] = max(body["max_tokens"] - spent, thinking + 1)
    if container:
        body["container"] = container
    body["messages"].append({"role": "assistant", "content": _sendable(said)})
    return replace(first, body=msgspec.json.encode(body), dropped=())


def _sendable(said: list[Json]) -> list[Json]:
    """*said* without what the API refuses: blocks of empty text, whitespace at the very end."""
    blocks = [block for block in said if block["type"] != "text" or block["text"]]
    if blocks and blocks[-1]["type"] == "text":
        text = blocks[-1]["text"].rstrip()
        blocks[-1:] = [{**blocks[-1], "text": text}] if text else []
    return blocks
