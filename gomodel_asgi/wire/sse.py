"""Server-sent events, read from bytes cut anywhere (WHATWG HTML, 9.2.6).

Strategy: one rule, "where does the last whole event in these bytes end?", under two readers. `Framer` returns the
bytes of whole events and never looks inside, for streams that pass through. `Decoder` returns the events, for streams
that are translated. Both are fed with `feed`, hold back only an unfinished event, and bound what they hold. Neither
knows what an event means.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from ..errors import UpstreamProtocolError, UpstreamTruncated
from ..settings import KIB, MIB
from .json_scan import UNREADABLE

BOM = b"\xef\xbb\xbf"

# A line ends with LF, CRLF or CR, an event with an empty line. A CR that ends the bytes may still grow into a CRLF, so
# after an LF it does not count until its successor is known; after another CR it does, or CR-only streams would lag.
EVENT_END = re.compile(rb"\r\n\r\n|\n\r\n|\n\n|\r\r\n|\r\r|\n\r(?=[^\n])")


MOST_LINES = 10_000
"""Lines of one event; each is an object while it is decoded."""
HEAD = 4 * KIB  # where the first members of an event stand, whatever its size


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its *name* ("" where it has none) and its data lines joined by LF."""

    name: str
    data: bytes


def end_of_events(data: bytes | bytearray, start: int = 0) -> int:
    """Returns the index after the last whole event that ends behind *start*, or 0."""
    if data.find(b"\r", start) < 0:
        return data.rfind(b"\n\n", start) + 2 if data.find(b"\n\n", start) >= 0 else 0
    end = 0
    for match in EVENT_END.finditer(data, start):
        end = match.end()
    return end


def split(events: bytes) -> list[bytes]:
    """Returns the bytes of each event in *events*, which end where an event ends."""
    if b"\r" not in events:
        if events.find(b"\n\n") == len(events) - 2:  # most pieces are one event
            return [events]
        return [event + b"\n\n" for event in events.split(b"\n\n")[:-1]]
    found, start = [], 0
    for match in EVENT_END.finditer(events):
        found.append(events[start : match.end()])
        start = match.end()
    # An LF CR may stand at the very end: the byte that makes an event's end of it was the first of the next event.
    return [*found, events[start:]] if start < len(events) else found


def parse(event: bytes) -> Event | None:
    """Returns the event in these bytes, None where nothing is dispatched: comments, no data, more lines than any event
    has.
    """
    if len(event) > MOST_LINES and event.count(b"\n") + event.count(b"\r") > MOST_LINES:
        return None
    name, data = "", []
    for line in event.splitlines():
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return Event(name, b"\n".join(data)) if data else None


class Framer:
    """Passes the bytes of events on as soon as they are whole.

    An event of more than *buffer* bytes is given in parts (`inside` is then true until its end has come), so that a
    stream of any event size holds at most that much; one of more than *limit* bytes is refused. *whole* returns,
    for an event's first bytes, whether it must be held until it is whole all the same.
    """

    def __init__(
        self, *, buffer: int = 256 * KIB, limit: int = 16 * MIB, whole: Callable[[bytes], bool] | None = None
    ) -> None:
        self.buffer = buffer
        self.limit = limit
        self.whole = whole
        self.pending = bytearray()
        self.inside = False
        self.passed = 0

    def feed(self, data: bytes) -> bytes:
        """Takes more bytes. Returns the whole events, or `b""`.

        :raises UpstreamProtocolError: an event is larger than the limit.
        """
        start = max(0, len(self.pending) - 3)
        self.pending += data
        end = end_of_events(self.pending, start)
        if end:
            return self._cut(end)
        if self.passed + len(self.pending) > self.limit:
            raise UpstreamProtocolError("The upstream sent an event larger than the limit.")
        if len(self.pending) > self.buffer and not self._must_be_whole():
            return self._part()
        return b""

    def _must_be_whole(self) -> bool:
        return self.whole is not None and not self.inside and self.whole(bytes(self.pending[:HEAD]))

    def _cut(self, end: int) -> bytes:
        events = bytes(self.pending[:end])
        del self.pending[:end]
        self.inside, self.passed = False, 0
        return events

    def _part(self) -> bytes:
        # The last bytes stay: an event's end may be cut between this part and the next.
        passed = self.passed
        part = self._cut(len(self.pending) - 3)
        self.inside, self.passed = True, passed + len(part)
        return part


class Decoder:
    """Returns events as soon as they are whole; an event of more than *limit* bytes is refused."""

    def __init__(self, *, limit: int = 16 * MIB) -> None:
        self.limit = limit
        self.pending = bytearray()
        self.begun = False

    def feed(self, data: bytes) -> list[Event]:
        """Takes more bytes. Returns the events that have become whole.

        :raises UpstreamProtocolError: an event is larger than the limit.
        """
        whole = not self.pending and data.endswith(b"\n\n") and b"\r" not in data
        whole = whole and (self.begun or not data.startswith(BOM))
        self.begun = self.begun or whole
        if whole and data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2:
            return [Event("", data[6:-2])]  # one event of one line, as nearly every chunk is
        found: list[Event] = []
        for block in data[:-2].split(b"\n\n") if whole else split(self._cut(data)):
            if whole and block.startswith(b"data: ") and b"\n" not in block:
                found.append(Event("", block[6:]))
            elif (event := parse(block)) is not None:
                found.append(event)
        return found

    def _cut(self, data: bytes) -> bytes:
        """Returns the whole events that are there with *data*; the rest is kept for later.

        :raises UpstreamProtocolError: it is larger than an event may be.
        """
        start = max(0, len(self.pending) - 3)
        self.pending += data
        end = end_of_events(self.pending, start)
        if not end and len(self.pending) > self.limit:
            raise UpstreamProtocolError("The upstream sent an event larger than the limit.")
        events = bytes(self.pending[:end])
        del self.pending[:end]
        if end and not self.begun:
            self.begun, events = True, events.removeprefix(BOM)
        return events

    def close(self) -> list[Event]:
        """Returns the last event, if only its empty line is missing when the stream ends.

        It is whole if its data is JSON or `[DONE]`.

        :raises UpstreamTruncated: the stream was cut inside an event.
        """
        if not self.pending:
            return []
        rest = bytes(self.pending)
        self.pending.clear()
        event = parse(rest)
        if event is not None and _is_whole(event.data):
            return [event]
        if any(line.strip() and not line.startswith(b":") for line in rest.splitlines()):
            raise UpstreamTruncated("The upstream's stream ended inside an event.")
        return []


def _is_whole(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except UNREADABLE:
        return data.strip() == b"[DONE]"
    return True
