"""One reader for each kind of content block: what it brings goes into the turn's open items.

A block begins with `start` (whole in a unary reply, empty in a stream), goes on with `delta`s, ends with `stop`. All
readers take both forms, so unary and streamed replies walk the same path.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ...wire.json_scan import tree
from ..tools import Tools
from .tools import NO_USE, hosted_item
from .turn import Turn, annotation

Json = dict[str, Any]


class Block:
    """A block that no item shows; it is kept for the next turn."""

    def __init__(self, turn: Turn, block: Json) -> None:
        self.turn = turn
        self.block = block

    def delta(self, delta: Json) -> None:
        """Reads *delta*, which adds to the block."""

    def stop(self) -> None:
        """Ends the block."""
        self.turn.keep(self.block)

    def whole(self) -> Json | None:
        """Returns the block for a further request, None where it cannot be sent. Call it when the block has ended."""
        return self.block


class Unknown(Block):
    """A kind that came after this code was written: kept, and reported."""

    def stop(self) -> None:
        """Keeps the block, and warns observers."""
        self.turn.emitter.warn(f"content block {self.block.get('type')!r} has no item")
        super().stop()


class Text(Block):
    """Text. Adjacent blocks are one part; a block's citations are of all its text, whose end is known at its stop."""

    def __init__(self, turn: Turn, block: Json) -> None:
        super().__init__(turn, block)
        self.begin: int | None = None
        self.pieces: list[str] = []
        self.citations: list[Json] = list(block.get("citations") or ())
        self.text(block.get("text"))

    def delta(self, delta: Json) -> None:
        """Takes text, or a citation of all the block's text."""
        if delta["type"] == "citations_delta":
            self.citations.append(delta["citation"])
        else:
            self.text(delta.get("text"))

    def text(self, text: str | None) -> None:
        """Writes *text* to the open message, without a code fence."""
        text = self.turn.without_fence(text or "")
        if not text:
            return
        message = self.turn.message()
        if self.begin is None:
            self.begin = message.length()
        self.pieces.append(text)
        message.text(text)

    def stop(self) -> None:
        """Writes the citations, now that the end of the text is known."""
        if self.begin is None:
            return
        message = self.turn.message()
        for citation in self.citations:
            found = annotation(citation, self.begin, message.length())
            if found is None:
                self.turn.emitter.warn(f"citation {citation.get('type')!r} has no annotation")
            else:
                message.annotate(found)

    def whole(self) -> Json:
        """Returns the block with all its text."""
        cited = {"citations": self.citations} if self.citations else {}
        return {"type": "text", "text": "".join(self.pieces), **cited}


class Thinking(Block):
    """Thinking: its text is a part of the summary. Without a signature (the reply was cut) it cannot be sent back."""

    def __init__(self, turn: Turn, block: Json) -> None:
        super().__init__(turn, block)
        self.pieces: list[str] = []
        self.signature: str = block.get("signature") or ""
        turn.reasoning()
        self.text(block.get("thinking"))

    def delta(self, delta: Json) -> None:
        """Takes thinking, or a piece of its signature."""
        if delta["type"] == "signature_delta":
            self.signature += delta["signature"]
        else:
            self.text(delta.get("thinking"))

    def text(self, text: str | None) -> None:
        """Writes *text* to the open reasoning item."""
        if text:
            self.pieces.append(text)
            self.turn.reasoning().text(text)

    def stop(self) -> None:
        """Ends the part of the summary, and keeps a block that is signed."""
        self.turn.reasoning().end_part()
        if (whole := self.whole()) is not None:
            self.turn.keep(whole)

    def whole(self) -> Json | None:
        """Returns the signed block, None without a signature."""
        if not self.signature:
            return None
        return {**self.block, "thinking": "".join(self.pieces), "signature": self.signature}


class ToolUse(Block):
    """A call of the client's tool. Its input begins as `{}`; the deltas, if any come, are the whole of it."""

    def __init__(self, turn: Turn, block: Json, tools: Tools) -> None:
        super().__init__(turn, block)
        turn.end_message()
        turn.end_reasoning()
        turn.end_calls()
        self.came = False
        self.call = tools.open_call(turn.emitter, block["name"], block.get("id"))

    def delta(self, delta: Json) -> None:
        """Takes a piece of the arguments."""
        piece = delta.get("partial_json")
        if piece:
            self.came = True
            self.call.arguments(piece)

    def stop(self) -> None:
        """Writes arguments that came whole, and lets the call close when something else begins."""
        if not self.came and self.block.get("input"):
            # Spaced as Anthropic's own deltas are, so that a unary reply gives the text that a stream would.
            self.call.arguments(json.dumps(self.block["input"], ensure_ascii=False))
        self.turn.close_later(self.call)

    def whole(self) -> Json | None:
        """Returns None: the tool's output is not known, and a turn that waits for it is not paused."""
        return None  # what a client's tool answers is not known yet: a turn that waits for it is not paused


class ServerToolUse(Block):
    """A call of a tool that the provider runs: its result comes in a block of its own, perhaps in a later reply."""

    def __init__(self, turn: Turn, block: Json) -> None:
        super().__init__(turn, block)
        self.pieces: list[str] = []
        self.cut = False
        turn.reasoning()

    def delta(self, delta: Json) -> None:
        """Takes a piece of the input."""
        self.pieces.append(delta.get("partial_json") or "")

    def stop(self) -> None:
        """Keeps the block with its input, until its result comes."""
        text = "".join(self.pieces)
        if text.strip():
            try:
                self.block = {**self.block, "input": msgspec.convert(tree(text), dict)}
            except ValueError:
                # max_tokens fell into it: half an input cannot be sent back.
                self.turn.emitter.warn(f"the input of {self.block.get('name')!r} was cut off")
                self.cut = True
                return
        self.turn.uses[self.block["id"]] = self.block
        super().stop()

    def whole(self) -> Json | None:
        """Returns the block, None where its input was cut off."""
        return None if self.cut else self.block


class ServerToolResult(Block):
    """What a server tool found, with the use that it answers."""

    def stop(self) -> None:
        """Keeps the block, and adds the item of the use that it answers."""
        super().stop()
        use = self.turn.uses.pop(self.block.get("tool_use_id", ""), NO_USE)
        show(self.turn, use, self.block)


class Compaction(Block):
    """The provider's summary of what came before; null content says that it could not make one."""

    def delta(self, delta: Json) -> None:
        """Takes members of the compaction; empty ones say nothing."""
        self.block = {**self.block, **{name: delta[name] for name in delta if name != "type" and delta[name]}}

    def stop(self) -> None:
        """Adds the compaction as an item of its own, or warns that it failed."""
        if self.block.get("content") is None:
            self.turn.emitter.warn("the compaction failed")
            return
        self.turn.end_visible()
        item = {"type": "compaction", "encrypted_content": self.turn.packed([self.block])}
        self.turn.emitter.item(item)


def show(turn: Turn, use: Json, result: Json | None) -> None:
    """Adds the item of a server tool's call, or warns observers that there is no item for it."""
    found = hosted_item(use, result, turn.container)
    if found is None:
        turn.emitter.warn(f"server tool {use.get('name') or (result or {}).get('type')!r} has no item")
        return
    item, phases = found
    turn.emitter.item(item, *phases)


READERS: dict[str, type[Block]] = {
    "text": Text,
    "thinking": Thinking,
    "redacted_thinking": Block,
    "server_tool_use": ServerToolUse,
    "mcp_tool_use": ServerToolUse,
    "mcp_tool_listing": Block,
    "fallback": Block,
    "compaction": Compaction,
}


def open_block(turn: Turn, block: Json, tools: Tools) -> Block:
    """Returns the reader of a block that has begun."""
    kind: str = block["type"]
    if kind == "tool_use":
        return ToolUse(turn, block, tools)
    if kind.endswith("_tool_result"):
        return ServerToolResult(turn, block)
    return READERS.get(kind, Unknown)(turn, block)
