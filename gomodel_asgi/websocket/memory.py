"""What one connection remembers of its responses, so that `store: false` can be continued on it.

Strategy: a conversation is a chain of chunks, each the comma-separated items of one turn's input or output as they
went over the wire. Chains share their chunks, so a turn costs its own bytes and a fork costs nothing; the bound counts
every chunk once. When it is reached the response that was used longest ago is forgotten, as one of another connection
is: its id is then unknown.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from msgspec import Struct

LONGEST = 256
"""Responses that a connection remembers: more than an hour of turns, and forks from each."""


class Chunk(Struct, frozen=True):
    """Items as JSON, separated by commas; *account* and *type* say which upstream could have issued them."""

    items: bytes
    account: str
    type: str


class Remembered(Struct):
    """One response: who answered it, with which model, and all *chunks* of its conversation, its output included.

    *chunks* is None where the upstream's own socket holds the conversation.
    """

    provider: str
    model: str | None
    account: str
    chunks: tuple[Chunk, ...] | None


class Memory:
    """Responses by id, at most *limit* bytes of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.responses: OrderedDict[str, Remembered] = OrderedDict()
        self.uses: Counter[int] = Counter()

    def recall(self, response_id: str | None) -> Remembered | None:
        """The response of this id, None where it is not known here."""
        found = None if response_id is None else self.responses.get(response_id)
        if found is not None and response_id is not None:
            self.responses.move_to_end(response_id)
        return found

    def keep(self, response_id: str, remembered: Remembered) -> None:
        """Remember a response, in place of one of the same id; what no longer fits is forgotten."""
        self.evict(response_id)
        self.responses[response_id] = remembered
        for chunk in remembered.chunks or ():
            self.size += 0 if self.uses[id(chunk)] else len(chunk.items)
            self.uses[id(chunk)] += 1
        while self.responses and (self.size > self.limit or len(self.responses) > LONGEST):
            self.evict(next(iter(self.responses)))

    def evict(self, response_id: str | None) -> None:
        """Forget one response; the conversations that go on from it keep their chunks."""
        forgotten = None if response_id is None else self.responses.pop(response_id, None)
        chunks = () if forgotten is None else forgotten.chunks or ()
        for chunk in chunks:
            self.uses[id(chunk)] -= 1
            if not self.uses[id(chunk)]:
                del self.uses[id(chunk)]
                self.size -= len(chunk.items)
