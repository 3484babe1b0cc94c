"""Reasoning that a model writes into its answer, between tags.

Only a passage that opens the answer counts: a tag further on is text that speaks of tags. Whitespace before the passage
and behind it is no part of the answer.
"""

from __future__ import annotations

from collections.abc import Callable

MOST_SPACE = 256  # characters of whitespace that may stand before the passage: held back, so bounded


class TaggedText:
    """Tells the reasoning and the text of one answer apart, which may be cut anywhere, in a tag too.

    *tags* open and close the passage; *reasoning* and *text* are given the pieces of each.
    """

    def __init__(self, tags: tuple[str, str], reasoning: Callable[[str], None], text: Callable[[str], None]) -> None:
        self.opening, self.closing = tags
        self.reasoning = reasoning
        self.text = text
        self.held = ""
        self.feed: Callable[[str], None] = self._before
        """Takes the next piece of the answer."""

    def end(self) -> None:
        """The answer has ended: gives what was held back as what it then is."""
        held, self.held = self.held, ""
        if held.strip():
            (self.reasoning if self.feed == self._inside else self.text)(held)

    def _before(self, piece: str) -> None:
        self.held += piece
        begun = self.held.lstrip()
        if begun.startswith(self.opening):
            self.held, self.feed = "", self._inside
            self._inside(begun[len(self.opening) :])
        elif not self.opening.startswith(begun) or len(self.held) > MOST_SPACE:
            held, self.held, self.feed = self.held, "", self.text
            self.text(held)

    def _inside(self, piece: str) -> None:
        self.held += piece
        thought, tag, rest = self.held.partition(self.closing)
        if tag:
            self.held, self.feed = "", self._behind
        else:
            kept = _overlap(self.held, self.closing)
            thought, self.held = self.held[: len(self.held) - kept], self.held[len(self.held) - kept :]
        if thought:
            self.reasoning(thought)
        if rest:
            self._behind(rest)

    def _behind(self, piece: str) -> None:
        if piece := piece.lstrip():
            self.feed = self.text
            self.text(piece)


def _overlap(text: str, tag: str) -> int:
    """How many of the last characters of *text* may be the beginning of *tag*."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)
