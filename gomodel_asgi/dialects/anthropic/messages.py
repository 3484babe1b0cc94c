"""Turns as `system` and `messages`: two roles, one after the other, results of tools first.

Anthropic knows one system text and no place for another one: the instructions of all system and developer turns
stand at the top, in order. What the reply side kept in `encrypted_content` comes back as the blocks it was; such
content of other providers is left out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any

from ..conversation import arguments_object
from ..losses import Losses
from ..parts import Opaque, Part, Reasoning, Text, ToolCall, ToolOutput, Turn
from ..sealed import unseal
from ..tools import Tools
from .content import Blocks

Json = dict[str, Any]

KEPT = frozenset(
    {"thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use", "mcp_tool_listing", "fallback", "compaction"}
    | {"container_upload"}
)
"""Blocks that may come back sealed, beside results of server tools."""
HOSTED_CALLS = frozenset({"web_search_call", "code_interpreter_call", "mcp_call"})
THINKING = ("thinking", "redacted_thinking")
COMPACTION_BETA = "compact-2026-01-12"
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]+")


class Messages:
    """Renders turns for a provider of this *type*; `system` and `messages` are the members of the request."""

    def __init__(self, provider: str, tools: Tools, blocks: Blocks, losses: Losses) -> None:
        self.provider = provider
        self.tools = tools
        self.blocks = blocks
        self.losses = losses
        self.system: list[Json] = []
        self.messages: list[Json] = []
        self.ids: dict[str, str] = {}
        """Anthropic's ids of the calls, by their path."""
        self.uses = Counter[str]()

    def render(self, turns: tuple[Turn, ...]) -> None:
        for turn in turns:
            if turn.role in ("system", "developer"):
                self.system += self.blocks.render(part for part in turn.parts if self.is_text(part))
            elif turn.role == "tool":
                self.add("user", [self.result(part) for part in turn.parts if isinstance(part, ToolOutput)])
            elif turn.role == "assistant":
                self.add("assistant", self.assistant(turn))
            else:
                self.add("user", self.blocks.render(turn.parts))
        self.end()
        for message in self.messages:
            if message["role"] == "user":
                # Stable: a result that came after a user's words still belongs before them.
                message["content"].sort(key=lambda block: block["type"] != "tool_result")

    def is_text(self, part: Part) -> bool:
        if not isinstance(part, Text):
            self.losses.add(part.path, "anything but text in a system message")
        return isinstance(part, Text)

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
        content = self.blocks.render(output.parts)
        value: Json = {"type": "tool_result", "tool_use_id": self.ids[output.call.path]}
        return {**value, "content": content} if content else value

    def assistant(self, turn: Turn) -> list[Json]:
        blocks: list[Json] = []
        kept = [self.kept(part) for part in turn.parts]
        for part, own in zip(turn.parts, kept, strict=True):
            if isinstance(part, ToolCall):
                blocks.append(self.call(part))
            elif own:
                blocks += own
            elif isinstance(part, (Reasoning, Opaque)):
                self.leave_out(part, any(kept))
            else:
                blocks += self.blocks.render([part])
        return blocks

    def call(self, call: ToolCall) -> Json:
        name = self.tools.flat_name(call.name, call.namespace)
        return {"type": "tool_use", "id": self.id(call), "name": name, "input": arguments_object(call)}

    def id(self, call: ToolCall) -> str:
        """The call's own id where Anthropic takes it: of `[A-Za-z0-9_-]`, and used once in a conversation."""
        own = call.call_id
        if not LEGAL_ID.fullmatch(own):
            own = f"toolu_{hashlib.sha256(own.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"
        # Counted, not searched for: a conversation may hold very many calls of the same id.
        unique = own
        while self.uses[unique]:
            self.uses[own] += 1
            unique = f"{own}_{self.uses[own]}"
        self.uses[unique] += 1
        self.ids[call.path] = unique
        return unique

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
        blocks = [block for block in found if _is_kept(block)] if isinstance(found, list) else []
        if any(block["type"] == "compaction" for block in blocks):
            self.blocks.betas.add(COMPACTION_BETA)
        return blocks

    def leave_out(self, part: Reasoning | Opaque, served: bool) -> None:
        """*part* has no block. *served*: the turn has sealed ones, so that hosted calls stand among them."""
        if served and isinstance(part, Opaque) and part.type in HOSTED_CALLS:
            return
        if isinstance(part, Reasoning) or part.is_receipt:
            self.losses.note(part.path)
        else:
            self.losses.add(f"{part.path}.type", f"items of type `{part.type[:64]}`")

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


def _is_kept(block: Any) -> bool:
    kind = block.get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and (kind in KEPT or kind.endswith("_tool_result"))
