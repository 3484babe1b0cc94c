"""Replies of upstreams that speak the Responses API themselves: bytes pass.

Strategy: nearly every event is a delta, and a delta needs nothing from us. One that begins like the delta before it
(its type comes first) is passed after two comparisons. In all other bytes three marks are looked for: only lifecycle
events hold the key `"response"`, only failures `"error"` as a key or type (a quote inside a JSON string is escaped, so
text cannot fake them), and `[DONE]` ends a stream. Those are opened: lifecycle events are stamped with the provider's
name, and their response is kept, so that a stream which breaks off can still be ended with the same response id.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import msgspec

from ..emitter import DONE, error_event, frame, response_error, response_object
from ..envelope import span, span_in
from ..errors import GatewayError, UpstreamTruncated
from ..settings import Limits
from ..sse import BOM, Framer, parse, split
from .failure import reported_failure
from .reader import MEANINGLESS, TERMINAL

DELTA = re.compile(rb'(?:event: ?[\w.]+\n)?data: ?\{"type": ?"response\.[\w.]+\.delta"')
NO_DELTA: tuple[bytes, ...] = ()  # what no bytes begin with, not even garbage
SEQUENCE_NUMBER = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')


class Named(msgspec.Struct):
    """A response, read for nothing but its id."""

    id: msgspec.Raw = msgspec.Raw(b"")


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_named = msgspec.json.Decoder(Named).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def stamp(response: bytes, name: str) -> bytes:
    """*response* (a JSON object) with `"provider":"<name>"` as its first member, or in place of its own string."""
    value = encode(name)
    # Where the word does not stand at all there is no member of that name, and no need to look for its place.
    place = span(response, "provider") if b'"provider"' in response else None
    if place is not None:
        start, end = place
        return response[:start] + value + response[end:]
    head, _, rest = response.partition(b"{")
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return b'%s{"provider":%s%s%s' % (head, value, comma, rest)


def is_lifecycle(head: bytes) -> bool:
    """Whether an event that begins like this carries a response: such events are opened, so they are held whole."""
    return b'"response"' in head


class NativeReader:
    """One native stream; *name* is the stamp, None for none; *secret* is our key, which a failure may quote."""

    def __init__(self, *, name: str | None, model: str | None, limits: Limits, secret: str | None = None) -> None:
        self.secret = None if secret is None else secret.encode("ascii")
        self.name = name
        self.model = model or ""
        self.framer = Framer(buffer=limits.buffer, limit=limits.event, whole=is_lifecycle)
        self.meaningful = False
        self.terminal: str | None = None
        self.failure: GatewayError | None = None
        self.response_id: str | None = None
        self.begun = False
        """Whether a lifecycle event has come: a failure before it is an answer, one behind it a part of the stream."""
        self._response: bytes | None = None
        self._last = b""
        self._delta: bytes | tuple[bytes, ...] = NO_DELTA

    def feed(self, data: bytes) -> bytes:
        # One whole event that begins like the last delta: the usual case by far.
        if data.startswith(self._delta) and data.find(b"\n\n") == len(data) - 2:
            self._last = data
            return data
        framer = self.framer
        whole = data.endswith(b"\n\n") and not framer.pending and not framer.inside
        events = data if whole else framer.feed(data)
        # `find`, since `in` takes bytes for a number first, at twice the cost
        if events.find(b'"response"') >= 0 or events.find(b'"error"') >= 0 or events.find(b"[DONE]") >= 0:
            return self._open(events)
        if self.terminal is not None:
            return self._open(events)
        if events:
            self._pass(events)
        else:
            self._delta = NO_DELTA
        return events

    def _pass(self, events: bytes) -> None:
        self._last = events
        self.meaningful = self.meaningful or b"data" in events
        # The short way may be taken only from an event's start to its end, and not behind the terminal event.
        head = DELTA.match(events)
        self._delta = head.group() if head is not None and not self.framer.pending else NO_DELTA

    @property
    def inside(self) -> bool:
        return self.framer.inside

    def close(self) -> bytes:
        if self.terminal is not None:
            return b""
        if self.failure is not None:
            return self._failed(self.failure)
        return self.fail(UpstreamTruncated("The upstream's stream ended before the response was complete."))

    def fail(self, error: GatewayError) -> bytes:
        if self.terminal is not None:
            return b""
        self.failure = self.failure or error
        return frame(error_event(error, self._next_number())) + self._failed(error, 1)

    def final(self) -> bytes | None:
        return self._response if self.terminal is not None else None

    def usage(self) -> Any:
        if self._response is None:
            return None
        try:
            raw = _members(self._response).get("usage")
            return None if raw is None else _any(raw)
        except UNREADABLE:
            return None

    # The few events that are opened...

    def _open(self, events: bytes) -> bytes:
        self._delta = NO_DELTA
        return b"".join([self._event(event) for event in split(events)]) if not self.inside else events

    def _event(self, event: bytes) -> bytes:
        if self.terminal is not None:
            parsed = parse(event)
            return event if parsed is not None and parsed.data == b"[DONE]" else b""
        if self.secret is not None and self.secret in event:
            event = event.replace(self.secret, b"[redacted]")
        parsed = parse(event.removeprefix(BOM))
        if parsed is None:
            return event
        if parsed.data == b"[DONE]":
            return self.close()  # clients stop reading here: a failure told behind it would not be seen
        self._last = event
        return self._lifecycle(event, parsed.data)

    def _lifecycle(self, event: bytes, data: bytes) -> bytes:
        try:
            members = _members(data)
            type = _any(members["type"]) if "type" in members else None
            type = type if type is None or isinstance(type, str) else ""
        except UNREADABLE:
            self.meaningful = True
            return event
        if type == "error" or ("error" in members and type is None):
            self.failure = self.failure or reported_failure(data)
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
            response = stamp(response, self.name)
            event = event.replace(data, data[: place[0]] + response + data[place[1] :], 1)
        self._keep(response)
        return event

    def _keep(self, response: bytes) -> None:
        self._response = response
        if self.response_id is None:
            try:
                id = bytes(_named(response).id)
                found = _any(id) if id else None
            except UNREADABLE:
                return
            self.response_id = found if isinstance(found, str) else None

    # The end that the upstream did not send...

    def _next_number(self) -> int:
        numbers = SEQUENCE_NUMBER.findall(self._last)
        return int(numbers[-1]) + 1 if numbers else 0

    def _failed(self, error: GatewayError, later: int = 0) -> bytes:
        self.terminal = "failed"
        response = self._begun() or self._synthesised()
        response |= {"status": "failed", "error": response_error(error)}
        self._response = encode(response)
        number = self._next_number() + later
        return frame({"type": "response.failed", "sequence_number": number, "response": response}) + DONE

    def _begun(self) -> dict[str, Any]:
        """The members of the response that came last; none where they cannot be read."""
        try:
            return dict(_members(self._response)) if self._response else {}
        except UNREADABLE:
            return {}

    def _synthesised(self) -> dict[str, Any]:
        self.response_id = "resp_" + secrets.token_hex(24)
        return response_object(self.response_id, int(time.time()), self.model, {}, self.name)
