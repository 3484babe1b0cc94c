"""Turns as `system` and `messages`: two roles, one after the other, results of tools first.

What the reply side kept in `encrypted_content` comes back as the blocks it was; such content of other providers is left
out.
"""

from __future__ import annotations

import re
from typing import Any

from ..arrangement import CallIds, digest
from ..conversation import arguments_object
from ..instructions import BEGIN, split_instructions
from ..item_text import in_words, stand_in
from ..opaque_state import unseal
from ..parts import Audio, File, Image, Opaque, Part, Reasoning, ToolCall, ToolOutput, Turn
from ..tools import Tools
from ..unsupported import FOREIGN_REASONING
from .content import Blocks
from .models import Model

Json = dict[str, Any]

KEPT = frozenset(
    {"thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "fallback"}
    | {"container_upload"}
)
"""Blocks that may come back sealed, beside results of server tools and compactions."""
HOSTED_CALLS = frozenset({"web_search_call", "code_interpreter_call", "mcp_call"})
THINKING = ("thinking", "redacted_thinking")
COMPACTION_BETA = "compact-2026-01-12"
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]+")


class Messages:
    """Renders turns for a *model* of a *provider* of this type; `system` and `messages` are the members of the
    request."""

    def __init__(self, provider: str, model: Model, tools: Tools, blocks: Blocks) -> None:
        self.provider = provider
        self.model = model
        self.tools = tools
        self.blocks = blocks
        self.unsupported = blocks.unsupported
        self.system: list[Json] = []
        self.messages: list[Json] = []
        self.ids = CallIds(_legal_id)

    def render(self, turns: tuple[Turn, ...]) -> None:
        leading, turns = split_instructions(turns)
        for turn in leading:
            self.system += self.blocks.render(turn.parts)
        for turn in turns:
            if turn.role == "tool":
                self.add("user", [self.result(part) for part in turn.parts if isinstance(part, ToolOutput)])
            elif turn.role == "assistant":
                self.add("assistant", self.assistant(turn))
            else:
                self.add("user", self.blocks.render(turn.parts))
        self.end()
        if self.messages and self.messages[0]["role"] == "assistant" and not self.is_compacted():
            self.messages.insert(0, user(BEGIN))

    def is_compacted(self) -> bool:
        """Whether the conversation begins with the sum of an earlier one, in front of which Anthropic reads nothing."""
        return bool(self.messages[0]["content"][0]["type"] == "compaction")

    def goes_on(self) -> bool:
        """Whether the model is to go on with what the assistant said last, which not every model does."""
        last = self.messages[-1] if self.messages else None
        return last is not None and last["role"] == "assistant" and bool(last["content"][-1]["type"] == "text")

    def add(self, role: str, blocks: list[Json]) -> None:
        """Messages of the same role that follow each other are one."""
        if not blocks:
            return
        if role == "user":
            self.end_assistant()
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def result(self, output: ToolOutput) -> Json:
        content = self.blocks.render(output.parts, told=True)
        value: Json = {"type": "tool_result", "tool_use_id": self.ids.of(output.call)}
        return {**value, "content": content} if content else value

    def assistant(self, turn: Turn) -> list[Json]:
        blocks: list[Json] = []
        kept = [self.kept(part) for part in turn.parts]
        for part, own in zip(turn.parts, kept, strict=True):
            if isinstance(part, ToolCall):
                blocks.append(self.call(part))
            elif own:
                blocks += own
            else:
                blocks += self.said(part, any(kept))
        return blocks

    def said(self, part: Part, served: bool) -> list[Json]:
        """Any other part. *served*: the turn has sealed blocks, so that hosted calls stand among them."""
        if isinstance(part, Reasoning):
            self.unsupported.leave_out(FOREIGN_REASONING, part.path)
            return []
        if isinstance(part, Opaque):
            if served and part.type in HOSTED_CALLS:
                return []
            text = in_words(part, self.unsupported)
        elif isinstance(part, (Image, File, Audio)):
            text = stand_in(part, part.path, "images and files of the assistant", self.unsupported)
        else:
            return self.blocks.render([part])
        return [] if text is None else self.blocks.render([text])

    def call(self, call: ToolCall) -> Json:
        name = self.tools.flat_name(call.name, call.namespace)
        return {"type": "tool_use", "id": self.ids.of(call), "name": name, "input": arguments_object(call)}

    def kept(self, part: Part) -> list[Json]:
        """The blocks that *part* carries sealed; what has not their shape is not ours."""
        if isinstance(part, Reasoning):
            text = part.encrypted
        elif isinstance(part, Opaque) and part.type == "compaction":
            text = part.value.get("encrypted_content")
        else:
            return []
        payload = unseal(text, self.provider) if isinstance(text, str) else None
        found = (payload or {}).get("blocks")
        blocks = [block for block in found if self.takes(block)] if isinstance(found, list) else []
        if any(block["type"] == "compaction" for block in blocks):
            self.blocks.betas.add(COMPACTION_BETA)
        return blocks

    def takes(self, block: Any) -> bool:
        """Whether *block* is one that may come back sealed."""
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "compaction":
            return self.model.compacts
        return isinstance(kind, str) and (kind in KEPT or kind.endswith("_tool_result"))

    def end_assistant(self) -> None:
        """Anthropic refuses an assistant's message that ends in thinking: what was thought led to nothing."""
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant":
            return
        while last["content"] and last["content"][-1]["type"] in THINKING:
            last["content"].pop()
        if not last["content"]:
            self.messages.pop()

    def end(self) -> None:
        """A last message that the model is to go on with must not end in white space either."""
        self.end_assistant()
        last = self.messages[-1]["content"][-1] if self.messages else {}
        if last.get("type") == "text" and self.messages[-1]["role"] == "assistant":
            self.messages[-1]["content"][-1] = {**last, "text": last["text"].rstrip()}


def _legal_id(id: str) -> str:
    """*id* where Anthropic takes it, else one that stands for it."""
    return id if LEGAL_ID.fullmatch(id) else f"toolu_{digest(id, 24)}"


def user(text: str) -> Json:
    """A message of the user's that nobody wrote."""
    return {"role": "user", "content": [{"type": "text", "text": text}]}
