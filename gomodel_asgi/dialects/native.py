"""Replies of upstreams that speak the Responses API themselves: bytes pass.

Strategy: nearly every event is a delta, and a delta needs nothing from us. One that begins like the delta before it
(its type comes first), is one line, has its number at the same place and does not hold our key is passed after a few
comparisons. In all other bytes three marks are looked for: only lifecycle events hold the key `"response"` (a quote
inside a JSON string is escaped, so text cannot fake it), no failure is without the word `error`, as a key, a type or
the event's name, and `[DONE]` ends a stream. Those are parsed: lifecycle events are stamped with the provider's name,
and their response is kept, so that a stream which breaks off can still be ended with the same response id.

The number of what was passed is needed only if the stream breaks off: our events then go on from the highest one. It
is read from the piece before whenever something comes that is not such a delta, or at the end.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import msgspec

from ..errors import GatewayError, UpstreamTruncated
from ..settings import Limits
from ..wire.json_body import span_in, with_member
from ..wire.json_scan import UNREADABLE, short
from ..wire.redaction import Redactor, redactor_of
from ..wire.response import DONE, TERMINAL, error_event, frame, response_error, response_object
from ..wire.sse import BOM, Event, Framer, parse, split
from .failure import reported_failure
from .reader import MEANINGLESS, failure_of, is_failure, members_and_type, number

DELTA = re.compile(rb'(?:event: ?[\w.]+\n)?data: ?\{"type": ?"response\.[\w.]+\.delta"(, ?"sequence_number":)?')
NO_DELTA: tuple[bytes, ...] = ()  # what no bytes begin with, not even garbage
NUMBERED = b'"sequence_number"'
SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')
LINE_END = 10
"""A line feed, as bytes give it by index."""


class ResponseId(msgspec.Struct):
    """A response, read for nothing but its id."""

    id: msgspec.Raw = msgspec.Raw(b"")


_id_of = msgspec.json.Decoder(ResponseId).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode


def is_lifecycle(head: bytes) -> bool:
    """Returns whether an event that begins like this carries a response. Such events are parsed, so they wait until
    they are whole.
    """
    return b'"response"' in head


class RedactingFramer(Framer):
    """A framer that redacts the parts of events; who reads its whole events redacts those."""

    def __init__(self, redactor: Redactor, **options: Any) -> None:
        super().__init__(**options)
        self.redactor = redactor

    def _part(self) -> bytes:
        self.pending = bytearray(self.redactor.of(bytes(self.pending)))
        end = len(self.pending) - self.redactor.longest
        if end <= 3:  # which stay anyhow
            return b""
        behind = self.pending[end:]
        del self.pending[end:]
        part = super()._part()
        self.pending += behind
        return part


class NativeReader:
    """One native stream; *name* is the stamp, None for none.

    *secrets* are all that the upstream could quote back: each leaves as `[redacted]` wherever it stands in one
    event, however the network cut that. Not found is a key in two halves that stand in two events: two deltas can
    spell any text, and each has gone before the next comes. Nor are letters or digits of it that were escaped.
    """

    def __init__(self, *, name: str | None, model: str | None, limits: Limits, secrets: tuple[str, ...] = ()) -> None:
        self.redactor = redactor_of(secrets)
        self.name = name
        self.model = model or ""
        self.framer = RedactingFramer(self.redactor, buffer=limits.buffer, limit=limits.event, whole=is_lifecycle)
        self.meaningful = False
        self.terminal: str | None = None
        self.failure: GatewayError | None = None
        self.response_id: str | None = None
        self.begun = False
        """Whether a lifecycle event has come: a failure before it is an answer, one behind it a part of the stream."""
        self._response: bytes | None = None
        self._last = b""  # a piece whose number has not been read yet
        self._number = -1
        self._delta: bytes | tuple[bytes, ...] = NO_DELTA
        self._line = self._place = self._letter = 0
        self._needle = self.redactor.needle

    def feed(self, data: bytes) -> bytes:
        """Returns the whole events in what has come, those that carry a response with the stamp.

        :raises UpstreamProtocolError: an event is larger than the limit.
        """
        # One whole event that begins like the last delta: the usual case by far. One line end is found at a third of
        # the cost of two, and `rfind` learns sooner than `find` that something is not there.
        if (
            data.startswith(self._delta)
            and data.find(b"\n", self._line) == len(data) - 2
            and data[-1] == LINE_END
            and data[self._place] == self._letter
            and data.rfind(self._needle) < 0
        ):
            self._last = data
            return data
        framer = self.framer
        whole = data.endswith(b"\n\n") and not framer.pending and not framer.inside
        events = data if whole else framer.feed(data)
        if not events:
            self._delta = NO_DELTA
            return events
        events = self.redactor.of(events)
        if self.terminal is not None:
            return b"" if framer.inside else self._read_events(events)
        # not `in`, which takes bytes for a number first, at twice the cost
        if events.rfind(b'"response"') >= 0 or events.rfind(b"error") >= 0 or events.rfind(b"[DONE]") >= 0:
            if not framer.inside:
                return self._read_events(events)
        self._pass(events)
        return events

    def _pass(self, events: bytes) -> None:
        place = self._count(events)
        self.meaningful = self.meaningful or b"data" in events
        # The short way may be taken only from an event's start to its end, and not behind the terminal event.
        head = DELTA.match(events) if self._needle and not self.framer.pending else None
        self._delta = NO_DELTA
        if head is None:
            return
        if head[1] or self._number < 0:
            place = 0
        if place > -head.end():  # else the next such event may be too short to look there
            self._delta, self._line, self._place, self._letter = head[0], head.end(), place, events[place]

    @property
    def waiting(self) -> int:
        """Bytes of an event that is not whole yet."""
        return len(self.framer.pending)

    @property
    def inside(self) -> bool:
        """Whether a part of an event has been sent whose end has not come."""
        return self.framer.inside

    def close(self) -> bytes:
        """Returns what is left to send: the in-band failure if the stream ended too early.

        :raises UpstreamTruncated: a part of an event was sent, so that no event can follow.
        """
        if self.terminal is not None:
            return b""
        if self.inside:
            raise UpstreamTruncated("The upstream's stream ended inside an event.")
        if self.failure is not None:
            return self._failed(self.failure)
        return self.fail(UpstreamTruncated("The upstream's stream ended before the response was complete."))

    def fail(self, error: GatewayError) -> bytes:
        """Returns the events that end the stream in band, `b""` if it had ended already."""
        if self.terminal is not None:
            return b""
        self.failure = self.failure or error
        return frame(error_event(error, self._next_number())) + self._failed(error, 1)

    def final(self) -> bytes | None:
        """Returns the response that ended the stream, as JSON; None if none did."""
        return self._response if self.terminal is not None else None

    def usage(self) -> Any:
        """Returns the usage object of the last response, None if there was none."""
        if self._response is None:
            return None
        try:
            return short(_members(self._response).get("usage", b""))
        except UNREADABLE:
            return None

    # The few events that are parsed...

    def _read_events(self, events: bytes) -> bytes:
        self._count(b"")
        self._delta = NO_DELTA
        return b"".join([self._event(event) for event in split(events)])

    def _event(self, event: bytes) -> bytes:
        parsed = parse(event.removeprefix(BOM))
        done = parsed is not None and parsed.data.lstrip().startswith(b"[DONE]")
        if self.terminal is not None:
            return event if done else b""
        if parsed is None:
            return event
        if done:
            return self.close()  # clients stop reading here: a failure behind it would not be seen
        return self._lifecycle(event, parsed)

    def _lifecycle(self, event: bytes, parsed: Event) -> bytes:
        data = parsed.data
        members, type = members_and_type(parsed)
        self._number = max(self._number, number(members))
        if is_failure(members, type):
            self.failure = self.failure or failure_of(data)
            return event
        if type not in MEANINGLESS and type != "response.failed":
            self.meaningful = True
        if "response" in members and type in TERMINAL or type in MEANINGLESS:
            return self._stamped(event, data, type, members)
        return event

    def _stamped(self, event: bytes, data: bytes, type: str, members: dict[str, msgspec.Raw]) -> bytes:
        self.begun = True
        self.terminal = TERMINAL.get(type)
        response = bytes(members.get("response", b""))
        if not response.startswith(b"{"):
            return event
        if type == "response.failed":
            self.failure = self.failure or reported_failure(response)
        place = span_in(data, members, "response")
        if self.name is not None and place is not None and data in event:
            response = with_member(response, "provider", self.name)
            event = event.replace(data, data[: place[0]] + response + data[place[1] :], 1)
        self._keep(response)
        return event

    def _keep(self, response: bytes) -> None:
        self._response = response
        if self.response_id is None:
            try:
                found = short(_id_of(response).id)
            except UNREADABLE:
                return
            self.response_id = found if isinstance(found, str) else None

    # The end that the upstream did not send...

    def _count(self, events: bytes) -> int:
        """Notes the numbers of the last piece and of *events*. Returns the index, from the end, behind the last
        `"sequence_number"` in *events*, or -len(events) where there is none.
        """
        if self._last:
            last, self._last = self._last, b""
            self._count(last)
        at = events.rfind(NUMBERED)
        if at < 0:
            return -len(events)
        found = SEQUENCE_NUMBER.match(events, at)
        if found is None:  # the name alone, inside something else
            for found in SEQUENCE_NUMBER.finditer(events):  # noqa: B007  the last one is wanted
                pass
        if found is not None and (number := int(found[1])) > self._number:
            self._number = number
        return at + len(NUMBERED) - 2 - len(events)

    def _next_number(self) -> int:
        self._count(b"")
        return self._number + 1

    def _failed(self, error: GatewayError, later: int = 0) -> bytes:
        self.terminal = "failed"
        response = self._latest() or self._synthesised()
        response |= {"status": "failed", "error": response_error(error)}
        self._response = encode(response)
        number = self._next_number() + later
        return frame({"type": "response.failed", "sequence_number": number, "response": response}) + DONE

    def _latest(self) -> dict[str, Any]:
        """Returns the members of the last response that came, none where they cannot be read."""
        try:
            return dict(_members(self._response)) if self._response else {}
        except UNREADABLE:
            return {}

    def _synthesised(self) -> dict[str, Any]:
        self.response_id = "resp_" + secrets.token_hex(24)
        return response_object(self.response_id, int(time.time()), self.model, {}, self.name)
