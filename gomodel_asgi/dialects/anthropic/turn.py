"""The output items that a reply has open, and the state that the client must bring back.

Blocks come one after the other, so at most one message is open; tool calls stay open until something else begins, so
that the last one of an answer that was cut is marked as incomplete. Blocks that no item can hold whole (thinking with
its signature, server tools with encrypted results) are kept by a reasoning item: it opens with the first of a run,
closes before the next text or tool call, and carries the run, unchanged and in order, in its `encrypted_content`.
"""

from __future__ import annotations

from typing import Any

from ...wire.event_writer import Emitter
from ...wire.items import AnyCall, Message, Reasoning
from ..base import Call
from ..emulations import Unfenced, json_only
from ..opaque_state import seal

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
        self._stopped: list[AnyCall] = []

    def message(self) -> Message:
        """The open message; a new one if the last item was something else."""
        self.end_calls()
        self.end_reasoning()
        if self._message is None:
            self._message = self.emitter.message()
        return self._message

    def shown(self, text: str) -> str:
        """What of *text* the client sees: of a JSON object, not the code fence around it."""
        return text if self._unfenced is None else self._unfenced.feed(text)

    def reasoning(self) -> Reasoning:
        """The open reasoning item; a new one if the last item was something else."""
        self.end_calls()
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

    def stopped(self, call: AnyCall) -> None:
        """*call* has all its arguments: it closes when something else begins."""
        self._stopped.append(call)

    def sealed(self, blocks: list[Json]) -> str:
        """*blocks* as `encrypted_content`."""
        return seal(self.provider, self.model, {"blocks": blocks})

    def settle(self) -> None:
        """No block will follow: the open items get what belongs to them, the emitter closes them."""
        self._end_text()
        if self._reasoning is not None and self._kept:
            self._reasoning.seal(self.sealed(self._kept))

    def end_calls(self) -> None:
        for call in self._stopped:
            call.close()
        self._stopped.clear()

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
