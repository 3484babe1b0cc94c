"""One reader for each kind of content block: what it brings goes into the turn's open items.

A block begins with `start` (whole in a unary reply, empty in a stream), goes on with `delta`s, ends with `stop`. All
readers take both forms, so unary and streamed replies walk the same path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from ...wire.calls import AnyCall
from ...wire.event_writer import Emitter
from ...wire.items import Message, Reasoning
from ...wire.json_scan import tree
from ..base import Call, pack_state
from ..emulations import Unfenced, json_only
from ..tools import Tools
from .tools import NO_USE, hosted_item

# The output items that a reply has open, and the state that the client must bring back.
#
# Blocks come one after the other, so at most one message is open; tool calls stay open until something else begins,
# so that the last one of an answer that was cut is marked as incomplete. Blocks that no item can hold whole (thinking
# with its signature, server tools with encrypted results) are kept by a reasoning item: it opens with the first of a
# run, closes before the next text or tool call, and carries the run, unchanged and in order, in its
# `encrypted_content`.


class Turn:
    """What is being written of one reply. *container* is the id of the container that the request names."""

    def __init__(self, call: Call, emitter: Emitter, container: str = "") -> None:
        self.provider, self.model = call.type, call.model
        self.emitter = emitter
        self.container = container
        self.uses: dict[str, Json] = {}
        """Server tool uses that wait for their result, by id."""
        self._message: Message | None = None
        self._unfenced = Unfenced() if json_only(call) else None
        self._reasoning: Reasoning | None = None
        self._kept: list[Json] = []
        self._finished_calls: list[AnyCall] = []

    def message(self) -> Message:
        """The open message; a new one if the last item was something else."""
        if self._finished_calls:
            self.end_calls()
        if self._reasoning is not None:
            self.end_reasoning()
        if self._message is None:
            self._message = self.emitter.message()
        return self._message

    def without_fence(self, text: str) -> str:
        """What of *text* the client sees: of a JSON object, not the code fence around it."""
        return text if self._unfenced is None else self._unfenced.feed(text)

    def reasoning(self) -> Reasoning:
        """The open reasoning item; a new one if the last item was something else."""
        if self._finished_calls:
            self.end_calls()
        if self._message is not None or self._unfenced is not None:
            self.end_message()
        if self._reasoning is None:
            self._reasoning = self.emitter.reasoning()
        return self._reasoning

    def end_visible(self) -> None:
        """Close what is open: an item of another kind begins."""
        self.end_calls()
        self.end_message()
        self.end_reasoning()

    def keep(self, block: Json) -> None:
        """Have *block* come back on the next turn, as it is and in this place."""
        self.reasoning()
        self._kept.append(block)

    def close_later(self, call: AnyCall) -> None:
        """*call* has all its arguments: it closes when something else begins."""
        self._finished_calls.append(call)

    def packed(self, blocks: list[Json]) -> str:
        """*blocks* as `encrypted_content`."""
        return pack_state(self.provider, self.model, {"blocks": blocks})

    def settle(self) -> None:
        """No block will follow: the open items get what belongs to them, the emitter closes them."""
        self._end_text()
        if self._reasoning is not None and self._kept:
            self._reasoning.set_encrypted_content(self.packed(self._kept))

    def end_calls(self) -> None:
        for call in self._finished_calls:
            call.close()
        self._finished_calls.clear()

    def _end_text(self) -> None:
        if self._unfenced is not None and (rest := self._unfenced.close()):
            self.message().text(rest)

    def end_message(self) -> None:
        self._end_text()
        if self._message is not None:
            self._message.close()
            self._message = None

    def end_reasoning(self) -> None:
        if self._reasoning is not None:
            self.settle()
            self._reasoning.close()
            self._reasoning, self._kept = None, []


# Anthropic's citations as annotations of the text they support.


def annotation(citation: Mapping[str, Any], start: int, end: int) -> Json | None:
    """*citation* of the characters *start* to *end* of the part; None where no annotation has a place for it.

    Web and search results become `url_citation`. Places in a document of the request become `file_citation` if the
    document was an uploaded file, and are otherwise without an address that a client could follow.
    """
    if url := citation.get("url") or citation.get("source"):
        title = citation.get("title") or url
        return {"type": "url_citation", "url": url, "title": title, "start_index": start, "end_index": end}
    if file_id := citation.get("file_id"):
        filename = citation.get("document_title") or file_id
        return {"type": "file_citation", "file_id": file_id, "filename": filename, "index": start}
    return None


Json = dict[str, Any]


class Block:
    """A block that no item shows; it is kept for the next turn."""

    def __init__(self, turn: Turn, block: Json) -> None:
        self.turn = turn
        self.block = block

    def delta(self, delta: Json) -> None:
        """More of the block."""

    def stop(self) -> None:
        """The block is whole."""
        self.turn.keep(self.block)

    def whole(self) -> Json | None:
        """The block as it came, for a further request; None where it cannot be sent. To be asked when it has ended."""
        return self.block


class Unknown(Block):
    """A kind that came after this code was written: kept, and reported."""

    def stop(self) -> None:
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
        if delta["type"] == "citations_delta":
            self.citations.append(delta["citation"])
        else:
            self.text(delta.get("text"))

    def text(self, text: str | None) -> None:
        text = self.turn.without_fence(text or "")
        if not text:
            return
        message = self.turn.message()
        if self.begin is None:
            self.begin = message.length()
        self.pieces.append(text)
        message.text(text)

    def stop(self) -> None:
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
        if delta["type"] == "signature_delta":
            self.signature += delta["signature"]
        else:
            self.text(delta.get("thinking"))

    def text(self, text: str | None) -> None:
        if text:
            self.pieces.append(text)
            self.turn.reasoning().text(text)

    def stop(self) -> None:
        self.turn.reasoning().end_part()
        if (whole := self.whole()) is not None:
            self.turn.keep(whole)

    def whole(self) -> Json | None:
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
        piece = delta.get("partial_json")
        if piece:
            self.came = True
            self.call.arguments(piece)

    def stop(self) -> None:
        if not self.came and self.block.get("input"):
            # Spaced as Anthropic's own deltas are, so that a unary reply gives the text that a stream would.
            self.call.arguments(json.dumps(self.block["input"], ensure_ascii=False))
        self.turn.close_later(self.call)

    def whole(self) -> Json | None:
        return None  # what a client's tool answers is not known yet: a turn that waits for it is not paused


class ServerToolUse(Block):
    """A call of a tool that the provider runs: its result comes in a block of its own, perhaps in a later reply."""

    def __init__(self, turn: Turn, block: Json) -> None:
        super().__init__(turn, block)
        self.pieces: list[str] = []
        self.cut = False
        turn.reasoning()

    def delta(self, delta: Json) -> None:
        self.pieces.append(delta.get("partial_json") or "")

    def stop(self) -> None:
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
        return None if self.cut else self.block


class ServerToolResult(Block):
    """What a server tool found, with the use that asked for it."""

    def stop(self) -> None:
        super().stop()
        use = self.turn.uses.pop(self.block.get("tool_use_id", ""), NO_USE)
        show(self.turn, use, self.block)


class Compaction(Block):
    """The provider's summary of what came before; null content says that it could not make one."""

    def delta(self, delta: Json) -> None:
        self.block = {**self.block, **{name: delta[name] for name in delta if name != "type" and delta[name]}}

    def stop(self) -> None:
        if self.block.get("content") is None:
            self.turn.emitter.warn("the compaction failed")
            return
        self.turn.end_visible()
        item = {"type": "compaction", "encrypted_content": self.turn.packed([self.block])}
        self.turn.emitter.item(item)


def show(turn: Turn, use: Json, result: Json | None) -> None:
    """Add the item of a server tool's call, or tell observers that it has none."""
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
    """The reader for a block that has begun."""
    kind: str = block["type"]
    if kind == "tool_use":
        return ToolUse(turn, block, tools)
    if kind.endswith("_tool_result"):
        return ServerToolResult(turn, block)
    return READERS.get(kind, Unknown)(turn, block)
