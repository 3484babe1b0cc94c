"""What went by, counted without being parsed."""

from __future__ import annotations

import re

from ..settings import MIB

DELTA = re.compile(rb'"delta":\s?"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
DONE = b"[DONE]\n\n"
LONG = MIB
"""Bytes of a piece whose text is not looked for: what stands behind the first mark of a delta counts as text."""


class Measure:
    """Counts the events and bytes given to one client, and the bytes of text in their deltas.

    *text* is what an estimate of tokens rests on where a stream breaks off before its usage has come. Text that was
    not shown (encrypted reasoning) cannot be counted, so an estimate is rather too low.
    """

    __slots__ = ("bytes", "events", "text")

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.text = 0

    def add(self, events: bytes) -> None:
        """Whole events went by (or a part of one that is too large to be held)."""
        self.bytes += len(events)
        if b"\r" in events:  # a bare or paired CR is a line's end too, and cannot stand inside JSON
            events = events.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        count = events.count(b"\n\n")
        if b"\n:" in events or events[:1] == b":":
            count -= events.count(b"\n\n:") + (events[:1] == b":")
        if events[-8:] == DONE:
            count -= 1
        self.events += count
        at = events.find(b'"delta":')
        if len(events) > LONG and at >= 0:
            self.text += len(events) - at
        elif at >= 0:
            for text in DELTA.findall(events, at):
                self.text += len(text)
