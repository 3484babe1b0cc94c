"""Server-sent events, read from bytes cut anywhere (WHATWG HTML, 9.2.6).

Strategy: one rule, "where does the last whole event in these bytes end?", under two readers. `Framer` gives the bytes
of whole events and never looks inside: for streams that pass through. `Decoder` gives the events: for streams that are
translated. Both are fed with `feed`, hold back only an unfinished event, and bound what they hold. Neither knows what
an event means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ..errors import UpstreamProtocolError, UpstreamTruncated
from ..settings import KIB, MIB

BOM = b"\xef\xbb\xbf"

# A line ends with LF, CRLF or CR, an event with an empty line. A CR that ends the bytes may still grow into a CRLF, so
# after an LF it does not count until its successor is known; after another CR it does, or CR-only streams would lag.
EVENT_END = re.compile(rb"\r\n\r\n|\n\r\n|\n\n|\r\r\n|\r\r|\n\r(?=[^\n])")


MOST_LINES = 10_000
HEAD = 4 * KIB  # where the first members of an event stand, whatever its size


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its *name* ("" where it has none) and its data lines joined by LF."""

    name: str
    data: bytes


def end_of_events(data: bytes | bytearray, start: int = 0) -> int:
    """The index after the last whole event that ends behind *start*, 0 if none does."""
    if data.find(b"\r", start) < 0:
        return data.rfind(b"\n\n", start) + 2 if data.find(b"\n\n", start) >= 0 else 0
    end = 0
    for match in EVENT_END.finditer(data, start):
        end = match.end()
    return end


def split(events: bytes) -> list[bytes]:
    """The bytes of each event in *events*, which ends where an event ends."""
    if b"\r" not in events:
        if events.find(b"\n\n") == len(events) - 2:  # most pieces are one event
            return [events]
        return [event + b"\n\n" for event in events.split(b"\n\n")[:-1]]
    start, found = 0, []
    for match in EVENT_END.finditer(events):
        found.append(events[start : match.end()])
        start = match.end()
    if start < len(events):  # an LF CR, whose successor told that it is an end, stands behind the cut
        found.append(events[start:])
    return found


def parse(event: bytes) -> Event | None:
    """One event's bytes read; None where nothing is dispatched: comments, no data, more lines than any event has."""
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
    """Gives the bytes of whole events as soon as they are whole.

    An event of more than *buffer* bytes is given in parts (`inside` is then true until its end has come), so that a
    stream of any event size holds at most that much; one of more than *limit* bytes is refused. *whole* is asked for
    an event's first bytes whether it must be held until it is whole all the same.
    """

    def __init__(
        self, *, buffer: int = 256 * KIB, limit: int = 16 * MIB, whole: Callable[[bytes], bool] | None = None
    ) -> None:
        self.buffer = buffer
        self.limit = limit
        self.whole = whole
        self.pending = bytearray()
        self.inside = False
        self.given = 0

    def feed(self, data: bytes) -> bytes:
        """More bytes in; whole events out, or `b""`.

        :raises UpstreamProtocolError: an event is larger than the limit.
        """
        start = max(0, len(self.pending) - 3)
        self.pending += data
        end = end_of_events(self.pending, start)
        if end:
            return self._cut(end)
        if self.given + len(self.pending) > self.limit:
            raise UpstreamProtocolError("The upstream sent an event larger than the limit.")
        if len(self.pending) > self.buffer and not self._held():
            return self._part()
        return b""

    def _held(self) -> bool:
        return self.whole is not None and not self.inside and self.whole(bytes(self.pending[:HEAD]))

    def _cut(self, end: int) -> bytes:
        events = bytes(self.pending[:end])
        del self.pending[:end]
        self.inside, self.given = False, 0
        return events

    def _part(self) -> bytes:
        # The last bytes stay: an event's end may be cut between this part and the next.
        given = self.given
        part = self._cut(len(self.pending) - 3)
        self.inside, self.given = True, given + len(part)
        return part


class Decoder:
    """Gives events as soon as they are whole; an event of more than *limit* bytes is refused."""

    def __init__(self, *, limit: int = 16 * MIB) -> None:
        self.limit = limit
        self.pending = bytearray()
        self.begun = False

    def feed(self, data: bytes) -> list[Event]:
        """More bytes in; the events that have become whole out.

        :raises UpstreamProtocolError: an event is larger than the limit.
        """
        start = max(0, len(self.pending) - 3)
        self.pending += data
        end = end_of_events(self.pending, start)
        if not end:
            if len(self.pending) > self.limit:
                raise UpstreamProtocolError("The upstream sent an event larger than the limit.")
            return []
        events = bytes(self.pending[:end])
        del self.pending[:end]
        if not self.begun:
            self.begun, events = True, events.removeprefix(BOM)
        return [event for block in split(events) if (event := parse(block)) is not None]

    def close(self) -> list[Event]:
        """The stream has ended: the last event, if only its empty line is missing. That it is whole is told by its
        data, which is JSON or `[DONE]`.

        :raises UpstreamTruncated: the stream was cut inside an event.
        """
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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data.strip() == b"[DONE]"
    return True
