"""A reply as a list of steps: what goes on the wire, and what is waited for in between.

The fake provider first makes the whole plan of a reply, then faults rewrite it, then a server plays it. Nothing is
decided while playing, so the same script always gives the same bytes.

    Head ── Body* ── End            a complete reply
    Hold, Pause, Fill, Close, Raw   what faults put among them
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .wire import ResponsesWire, Wire

Headers = tuple[tuple[bytes, bytes], ...]

JSON: Headers = ((b"content-type", b"application/json"),)
STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))
FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers. *length* is the content-length, None for a chunked body. Headers that frame the body
    themselves are believed: the body then goes out as it is, and the connection is closed after it."""

    status: int
    headers: Headers
    length: int | None = None

    @property
    def framed(self) -> bool:
        """Whether the script frames the body itself."""
        return any(name.lower() in FRAMING for name, _ in self.headers)

    @property
    def bodiless(self) -> bool:
        """Whether this status has no body (RFC 9110, section 6.4.1)."""
        return self.status < 200 or self.status in (204, 304)


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes of the body: one event of a stream, the whole of a unary reply."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Fill:
    """*size* bytes of the body, all the same, made while they are sent."""

    size: int
    byte: bytes = b"x"

    def pieces(self) -> Iterator[bytes]:
        """Yields the bytes, 64 KiB at a time."""
        piece = self.byte * min(self.size, 1 << 16)
        for start in range(0, self.size, 1 << 16):
            yield piece[: self.size - start]


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of the connection, outside any framing. After them it is closed."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the test calls `release()` or the client leaves."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Break the connection off: with *reset* by RST, else by FIN. *partial* goes out before, as the first half of a
    chunk whose second half never comes."""

    reset: bool = False
    partial: bytes = b""


@dataclass(frozen=True, slots=True)
class End:
    """The proper end of the reply."""


Step = Head | Body | Fill | Raw | Hold | Pause | Close | End


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of one reply. *response* is the response object that it ends with, if it is about one; *swapped* is
    the same answer in the form that was not requested, stream for unary and the other way round. *wire* is how the API
    that answers writes errors and events, for faults that put some into the reply."""

    steps: tuple[Step, ...]
    response: Mapping[str, Any] | None = None
    swapped: Plan | None = field(default=None, repr=False)
    wire: Wire = field(default=ResponsesWire(), repr=False)

    @property
    def head(self) -> Head | None:
        """Status and headers, None where the reply has none."""
        return next((step for step in self.steps if isinstance(step, Head)), None)

    @property
    def streamed(self) -> bool:
        """Whether the reply is an event stream."""
        head = self.head
        return head is not None and any(
            name == b"content-type" and value.startswith(b"text/event-stream") for name, value in head.headers
        )

    @property
    def bodies(self) -> tuple[bytes, ...]:
        """The pieces of the body."""
        return tuple(step.data for step in self.steps if isinstance(step, Body))

    def position(self, events: int) -> int:
        """Returns where in `steps` the head and the first *events* pieces of the body end."""
        seen = -1
        for index, step in enumerate(self.steps):
            seen += isinstance(step, Head | Body)
            if seen == events:
                return index + 1
        return len(self.steps) - isinstance(self.steps[-1], End)

    def insert(self, events: int, *steps: Step) -> Plan:
        """Returns the plan with *steps* after the first *events* pieces."""
        at = self.position(events)
        return replace(self, steps=self.steps[:at] + steps + self.steps[at:])

    def cut(self, events: int, *steps: Step) -> Plan:
        """Returns the plan up to and with the first *events* pieces, ended by *steps*."""
        return replace(self, steps=self.steps[: self.position(events)] + steps)

    def instead(self, other: Plan) -> Plan:
        """Returns *other* as a plan of the same API, to stand in place of this one."""
        return replace(other, wire=self.wire)

    def with_headers(self, headers: Headers) -> Plan:
        """Returns the plan with these *headers* in its head, if it has one."""
        return replace(
            self, steps=tuple(replace(step, headers=headers) if isinstance(step, Head) else step for step in self.steps)
        )


def unary(status: int, headers: Headers, body: bytes, response: Mapping[str, Any] | None = None) -> Plan:
    """Returns a reply of one piece, with its length."""
    return Plan((Head(status, headers, len(body)), *((Body(body),) if body else ()), End()), response)


def json_reply(value: Mapping[str, Any], headers: Headers = JSON) -> Plan:
    """Returns the reply with status 200 and *value* as JSON."""
    return unary(200, headers, json.dumps(value).encode(), value)


def chunked(status: int, headers: Headers, pieces: Iterable[bytes], response: Mapping[str, Any] | None = None) -> Plan:
    """Returns a reply in pieces, whose length is not declared."""
    return Plan((Head(status, headers), *map(Body, pieces), End()), response)


def either(whole: Plan, streamed: Plan, *, stream: bool) -> Plan:
    """Returns the one of both forms of an answer that was requested, which knows the other one."""
    chosen, other = (streamed, whole) if stream else (whole, streamed)
    return replace(chosen, swapped=other)


# What a test can script: an `Answer` of its model, or a `Reply` byte for byte.


HeaderList = Mapping[str, str] | Sequence[tuple[str, str]]


def encoded(headers: HeaderList) -> tuple[tuple[bytes, bytes], ...]:
    """Returns *headers* as pairs of bytes, names in lower case."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs)


class Unplayable(ValueError):
    """The API of the reply cannot express what a test has scripted."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool. *arguments* is JSON text or what to write as such; for a custom tool, its free text.

    Where an API knows no custom tools, or a gateway has offered one as a function, the free text goes into the first
    string that the function takes. A tool in a namespace is called by its own name, here as everywhere.
    """

    name: str
    arguments: str | Mapping[str, Any] = "{}"
    call_id: str | None = None
    custom: bool = False

    def text(self) -> str:
        """Returns the arguments as text."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model answers, whichever API carries it: *reasoning* first, then *text* or a *refusal*, then
    *calls*.

    *incomplete* ends it early: `"max_output_tokens"` and `"content_filter"` are written as each API does, any other
    reason as it is (`"pause_turn"`, `"MALFORMED_FUNCTION_CALL"`). *cached* says how many tokens of the input came from
    a cache: each API has its own way of counting those.

    *shown* is what the outputs of tools must hold that came since the model spoke last: a text for each, in order.
    Where one does not, the script fails as a function's assertion does.
    """

    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    calls: Sequence[ToolCall] = ()
    incomplete: str | None = None
    cached: int = 0
    shown: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply to any request, on any path.

    *body* is bytes or text as it is, anything else is written as JSON. An event stream is sent event by event, chunked;
    other bodies have a content-length. *chunks* sends these pieces instead, chunked, cut exactly so. *headers* may
    hold content-length or transfer-encoding: the body then goes out as it stands, framed by nobody. *raw* is sent
    instead of all that, byte for byte, and the connection closed.
    """

    body: Any = b""
    status: int = 200
    content_type: str = "application/json"
    headers: HeaderList = ()
    chunks: Sequence[bytes] | None = None
    raw: bytes | None = field(default=None)

    def plan(self) -> Plan:
        """Returns the reply as steps."""
        if self.raw is not None:
            return Plan((Raw(self.raw),))
        headers = ((b"content-type", self.content_type.encode("latin-1")), *encoded(self.headers))
        if self.chunks is not None:
            return chunked(self.status, headers, self.chunks)
        if self.content_type.startswith("text/event-stream"):
            return chunked(self.status, headers, events_of(self.data()))
        return unary(self.status, headers, self.data())

    def data(self) -> bytes:
        """Returns the body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def events_of(stream: bytes) -> tuple[bytes, ...]:
    """Returns *stream* cut after each blank line, whichever line ends it uses."""
    ends = b"\r\n\r\n" if b"\r\n\r\n" in stream else b"\n\n"
    pieces = stream.split(ends)
    whole = tuple(piece + ends for piece in pieces[:-1])
    return (*whole, pieces[-1]) if pieces[-1] else whole
