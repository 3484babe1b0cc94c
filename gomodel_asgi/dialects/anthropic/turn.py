"""The output items that a reply has open, and the state that the client must bring back.

Blocks come one after the other, so at most one message is open; tool calls stay open until something else begins,
so that the last one of an answer that was cut is marked as incomplete. Blocks that no item can hold whole (thinking
with its signature, server tools with encrypted results) are kept by a reasoning item: it opens with the first of a
run, closes before the next text or tool call, and carries the run, unchanged and in order, in its
`encrypted_content`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...wire.calls import AnyCall
from ...wire.event_writer import Emitter
from ...wire.items import Message, Reasoning
from ..base import Call, pack_state
from ..emulations import Unfenced, json_only

Json = dict[str, Any]


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
        """Returns the open message, a new one if the last item was something else."""
        if self._finished_calls:
            self.end_calls()
        if self._reasoning is not None:
            self.end_reasoning()
        if self._message is None:
            self._message = self.emitter.message()
        return self._message

    def without_fence(self, text: str) -> str:
        """Returns what of *text* the client sees: of a JSON object, not the code fence around it."""
        return text if self._unfenced is None else self._unfenced.feed(text)

    def reasoning(self) -> Reasoning:
        """Returns the open reasoning item, a new one if the last item was something else."""
        if self._finished_calls:
            self.end_calls()
        if self._message is not None or self._unfenced is not None:
            self.end_message()
        if self._reasoning is None:
            self._reasoning = self.emitter.reasoning()
        return self._reasoning

    def end_visible(self) -> None:
        """Closes what is open: an item of another kind begins."""
        self.end_calls()
        self.end_message()
        self.end_reasoning()

    def keep(self, block: Json) -> None:
        """Lets *block* come back on the next turn, unchanged and in this place."""
        self.reasoning()
        self._kept.append(block)

    def close_later(self, call: AnyCall) -> None:
        """Takes a call that has all its arguments. It closes when something else begins."""
        self._finished_calls.append(call)

    def packed(self, blocks: list[Json]) -> str:
        """Returns *blocks* as `encrypted_content`."""
        return pack_state(self.provider, self.model, {"blocks": blocks})

    def settle(self) -> None:
        """Completes the open items, since no block will follow. The emitter closes them."""
        self._end_text()
        if self._reasoning is not None and self._kept:
            self._reasoning.set_encrypted_content(self.packed(self._kept))

    def end_calls(self) -> None:
        """Closes the calls that have all their arguments."""
        for call in self._finished_calls:
            call.close()
        self._finished_calls.clear()

    def _end_text(self) -> None:
        if self._unfenced is not None and (rest := self._unfenced.close()):
            self.message().text(rest)

    def end_message(self) -> None:
        """Closes the open message, if there is one."""
        self._end_text()
        if self._message is not None:
            self._message.close()
            self._message = None

    def end_reasoning(self) -> None:
        """Closes the open reasoning item with the blocks that it carries, if there is one."""
        if self._reasoning is not None:
            self.settle()
            self._reasoning.close()
            self._reasoning, self._kept = None, []


# Anthropic's citations as annotations of the text they support.


def annotation(citation: Mapping[str, Any], start: int, end: int) -> Json | None:
    """Returns *citation* as an annotation of the characters from *start* to *end*, None where no kind of annotation
    fits.

    Web and search results become `url_citation`. Places in a document of the request become `file_citation` if the
    document was an uploaded file; otherwise they have no address that a client could follow.
    """
    if url := citation.get("url") or citation.get("source"):
        title = citation.get("title") or url
        return {"type": "url_citation", "url": url, "title": title, "start_index": start, "end_index": end}
    if file_id := citation.get("file_id"):
        filename = citation.get("document_title") or file_id
        return {"type": "file_citation", "file_id": file_id, "filename": filename, "index": start}
    return None
