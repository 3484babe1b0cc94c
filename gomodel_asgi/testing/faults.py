"""What can go wrong with a reply, as frozen values that a test names and combines.

A fault takes the plan of a reply and gives back another one. Several are applied in the order in which they are given:
`fail_next(Cut(after_events=3), Slow(1))` cuts the reply first and then sends what is left byte by byte. An "event" is
one event of a stream; a unary reply is one event. *after_events* counts from the head: 0 is straight after the headers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from .plan import JSON, Body, Close, End, Fill, Head, HeaderList, Headers, Hold, Pause, Plan, Raw, Step, encoded, unary
from .wire import Failure


class Fault(Protocol):
    """Turns the plan of a good reply into that of a bad one. Write your own with one method."""

    def apply(self, plan: Plan) -> Plan:
        """Returns the plan with the fault in it.

        :raises ValueError: this reply cannot fail in this way.
        """
        ...


# The reply is not what was requested: malformed, of another type or size, without its end, with other headers.


DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Status 200 and a body that is no response: JSON cut short; `Html` and `Empty` are others of the kind."""

    body: bytes = b'{"id": "resp_'
    content_type: str = "application/json"

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        return plan.instead(unary(200, ((b"content-type", self.content_type.encode()),), self.body))


def Html(body: bytes = b"<!doctype html><title>502</title><h1>Bad Gateway</h1>") -> Malformed:
    """Returns a web page with status 200, as proxies send."""
    return Malformed(body, "text/html; charset=utf-8")


def Empty() -> Malformed:
    """Status 200 and no body."""
    return Malformed(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class MalformedEvent:
    """Another event among those of a stream, by default one that is not JSON."""

    after_events: int = 1
    data: bytes = b"data: {not json\n\n"

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        return plan.insert(self.after_events, Body(self.data))


@dataclass(frozen=True, slots=True)
class ContentType:
    """The right body under another content-type."""

    content_type: str

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: the reply has no headers.
        """
        others = tuple(header for header in _head(plan).headers if header[0] != b"content-type")
        return plan.with_headers(((b"content-type", self.content_type.encode()), *others))


@dataclass(frozen=True, slots=True)
class Swapped:
    """JSON though a stream was requested, or a stream though it was not."""

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: the reply has no other form.
        """
        if plan.swapped is None:
            raise ValueError("only an answer of the model has another form")
        return plan.instead(plan.swapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTerminal:
    """The stream ends properly, but with no event that ends the answer; *done* keeps `[DONE]`."""

    done: bool = False

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        kept = tuple(step for step in plan.steps if not (isinstance(step, Body) and self._ends(plan, step.data)))
        return replace(plan, steps=kept)

    def _ends(self, plan: Plan, data: bytes) -> bool:
        return not self.done if data == DONE else plan.wire.ends(data)


@dataclass(frozen=True, slots=True)
class ExtraHeaders:
    """More headers on the reply."""

    headers: HeaderList

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: the reply has no headers.
        """
        return plan.with_headers(_head(plan).headers + encoded(self.headers))


def SetCookie(cookie: str = "__cf_bm=scripted; path=/; HttpOnly; Secure") -> ExtraHeaders:
    """Returns a cookie on the reply, as providers behind a CDN set them."""
    return ExtraHeaders([("set-cookie", cookie)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversize:
    """So many bytes more in the body: in a stream as one endless event after so many, else before the JSON's end."""

    size: int
    after_events: int = 1

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: the reply has no headers.
        """
        if plan.streamed:
            opening, closing = plan.wire.endless
            return plan.insert(self.after_events, Body(opening), Fill(self.size), Body(closing))
        head, whole = _head(plan), b"".join(plan.bodies)
        grown = replace(head, length=len(whole) + self.size)
        return replace(plan, steps=(grown, Body(whole[:-1]), Fill(self.size, b" "), Body(whole[-1:]), End()))


def _head(plan: Plan) -> Head:
    """Returns the head of *plan*.

    :raises ValueError: it has none.
    """
    if plan.head is None:
        raise ValueError("the reply has no headers to change")
    return plan.head


# The reply is an error: by its status, or behind a status of 200.


@dataclass(frozen=True, slots=True)
class Status:
    """An error status, in the form of the API that answers, or with *body* unchanged.

    *type* is what the API calls the kind of error (Gemini: its `status`); None is the usual one. *retry_after* is
    written as the header's value: seconds, a date, anything.
    """

    status: int
    message: str = "The model provider failed, as scripted."
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: str | float | None = None
    headers: HeaderList = ()
    body: bytes | None = None
    content_type: str = "application/json"

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        headers: Headers = ((b"content-type", self.content_type.encode()), *encoded(self.headers))
        if self.retry_after is not None:
            headers += ((b"retry-after", str(self.retry_after).encode("latin-1")),)
        kind = {"type": self.type, "code": self.code, "param": self.param}
        failure = Failure(status=self.status, message=self.message, retry_after=self.retry_after, **kind)
        body = json.dumps(plan.wire.error(failure)).encode() if self.body is None else self.body
        return plan.instead(unary(self.status, headers, body))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInside:
    """An error behind a status of 200, after so many events; nothing follows it, not even `[DONE]`.

    *form* None is that of the API that answers. `"body"` is `{"error": …}`, which in a stream is an event without a
    name. The Responses API has `"flat"` (its usual `error` event), `"nested"` (the same with an `error` object) and
    `"failed"` (`response.failed`) beside it, the chat API `"event"` (an event named `error`). A unary reply is the same
    object, whole. *status* is the one that the error would have had.
    """

    form: Literal["flat", "nested", "failed", "body", "event"] | None = None
    after_events: int = 0
    message: str = "The model provider failed inside a reply, as scripted."
    code: str | None = "server_error"
    type: str | None = None
    status: int = 500

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: the API that answers has no such form.
        """
        failure = Failure(status=self.status, message=self.message, type=self.type, code=self.code)
        event = plan.wire.error_inside(failure, self.form, self.after_events, plan.response)
        if plan.streamed:
            return plan.cut(self.after_events, Body(plan.wire.error_event(event, self.form)), End())
        return plan.instead(unary(200, JSON, json.dumps(event.get("response", event)).encode()))


# The connection breaks off, or carries what is not HTTP.


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The upstream breaks off. Exactly one of:

    *after_bytes* so many bytes of the body; *after_events* on the boundary behind so many events; *inside_event* in
    the middle of the event of this index, from 0; *inside_character* within the first character of several bytes;
    *inside_chunk* after a chunk of the event of this index was announced of which only half comes; *before_head* before
    any byte of the reply. *reset* ends by RST instead of FIN.
    """

    after_bytes: int | None = None
    after_events: int | None = None
    inside_event: int | None = None
    inside_character: bool = False
    inside_chunk: int | None = None
    before_head: bool = False
    reset: bool = False

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`.

        :raises ValueError: no place was given, or the reply has no such place.
        """
        if self.before_head:
            return replace(plan, steps=(Close(self.reset),))
        if self.after_events is not None:
            return plan.cut(self.after_events, Close(self.reset))
        if self.inside_event is not None:
            return plan.cut(self.inside_event, Body(self._half(plan, self.inside_event)), Close(self.reset))
        if self.inside_chunk is not None:
            return plan.cut(self.inside_chunk, Close(self.reset, self._half(plan, self.inside_chunk)))
        if self.after_bytes is not None:
            return self._at(plan, self.after_bytes)
        if self.inside_character:
            return self._at(plan, self._character(plan))
        raise ValueError("Cut needs a place: give after_events or after_bytes")

    def _half(self, plan: Plan, event: int) -> bytes:
        """Returns the first half of an event.

        :raises ValueError: there is no such event.
        """
        if event >= len(plan.bodies):
            raise ValueError(f"the reply has {len(plan.bodies)} events, none of index {event}")
        return plan.bodies[event][: len(plan.bodies[event]) // 2]

    def _at(self, plan: Plan, length: int) -> Plan:
        kept = 0
        for index, body in enumerate(plan.bodies):
            if kept + len(body) > length:
                rest = body[: length - kept]
                return plan.cut(index, *((Body(rest),) if rest else ()), Close(self.reset))
            kept += len(body)
        return plan.cut(len(plan.bodies), Close(self.reset))

    def _character(self, plan: Plan) -> int:
        """Returns the index at which the first character of several bytes is cut.

        :raises ValueError: there is none.
        """
        whole = b"".join(plan.bodies)
        first = next((index for index, byte in enumerate(whole) if byte >= 0xC0), None)
        if first is None:
            raise ValueError("the reply has no character of several bytes to cut: ask for one with Answer(text='é')")
        return first + 1


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are not HTTP, instead of a reply."""

    data: bytes = b"\x16\x03\x01\x00\xff\xfe not HTTP\r\n\r\n"

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        return replace(plan, steps=(Raw(self.data),))


@dataclass(frozen=True, slots=True)
class Trailing:
    """Bytes on the connection after a complete reply, such as a second reply without a request."""

    data: bytes = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        return replace(plan, steps=(*plan.steps, Raw(self.data)))


# Nothing comes, or it comes too slowly.


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """The upstream falls silent until the test calls `release()`, or the client leaves: before the head
    (*after_events* None), after it (0), or after so many events."""

    after_events: int | None = None

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        if self.after_events is None:
            return replace(plan, steps=(Hold(), *plan.steps))
        return plan.insert(self.after_events, Hold())


@dataclass(frozen=True, slots=True)
class Slow:
    """The body comes in pieces of *size* bytes, *pause* seconds apart."""

    size: int = 1
    pause: float = 0.0

    def apply(self, plan: Plan) -> Plan:
        """See `Fault.apply`."""
        steps: list[Step] = []
        for step in plan.steps:
            if isinstance(step, Body):
                for at in range(0, len(step.data), self.size):
                    steps += Pause(self.pause), Body(step.data[at : at + self.size])
            else:
                steps.append(step)
        return replace(plan, steps=tuple(steps))
