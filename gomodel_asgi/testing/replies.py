"""What a test can have a fake provider say: an `Answer` of its model, or a `Reply` byte for byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .plan import Plan, Raw, chunked, unary

HeaderList = Mapping[str, str] | Sequence[tuple[str, str]]


def encoded(headers: HeaderList) -> tuple[tuple[bytes, bytes], ...]:
    """*headers* as pairs of bytes, names in lower case."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs)


class Unplayable(ValueError):
    """What a test has scripted cannot be said in the API that is to say it."""


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
        """The arguments as text."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model says, whichever API it is asked through: *reasoning* first, then *text* or a *refusal*, then
    *calls*.

    *incomplete* ends it early: `"max_output_tokens"` and `"content_filter"` are written as each API does, any other
    reason as it is (`"pause_turn"`, `"MALFORMED_FUNCTION_CALL"`). *cached* says how many tokens of the input came from
    a cache: each API has its own way of counting those.
    """

    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    calls: Sequence[ToolCall] = ()
    incomplete: str | None = None
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply, whatever was asked, on any path.

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
        """The reply as steps."""
        if self.raw is not None:
            return Plan((Raw(self.raw),))
        headers = ((b"content-type", self.content_type.encode("latin-1")), *encoded(self.headers))
        if self.chunks is not None:
            return chunked(self.status, headers, tuple(self.chunks))
        if self.content_type.startswith("text/event-stream"):
            return chunked(self.status, headers, events_of(self.data()))
        return unary(self.status, headers, self.data())

    def data(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def events_of(stream: bytes) -> tuple[bytes, ...]:
    """*stream* cut after each blank line, whichever line ends it uses."""
    ends = b"\r\n\r\n" if b"\r\n\r\n" in stream else b"\n\n"
    pieces = stream.split(ends)
    whole = tuple(piece + ends for piece in pieces[:-1])
    return (*whole, pieces[-1]) if pieces[-1] else whole
