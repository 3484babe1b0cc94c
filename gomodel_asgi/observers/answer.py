"""What a finished or broken-off answer says about itself, read from its last response object only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from ..errors import GatewayError
from ..settings import KIB, MIB
from ..wire.json_scan import WINDOW, run, short
from ..wire.usage import BASE64, BYTES_PER_TOKEN, LONGEST_PREFIX, MEDIA, estimated, of_anthropic, of_chat, of_gemini
from .records import clean
from .usage import Usage

# Token counts in one form, whatever API they come from, by the rules of the dialects: input includes cached and
# cache-written tokens, output includes reasoning, so that nothing is counted twice and `total` is a plain sum.


def read_usage(raw: Any) -> Usage | None:
    """Returns the counts of *raw*, a usage object of Responses, Chat Completions, Anthropic Messages or Gemini,
    recognised by its members. None where it is none of them, or counts nothing.
    """
    if not isinstance(raw, Mapping):
        return None
    try:
        found = _in_our_form(dict(raw))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None
    if found is None:
        return None
    read, given = _details(found, "input_tokens_details"), _details(found, "output_tokens_details")
    return Usage(
        input_tokens=_count(found, "input_tokens"),
        output_tokens=_count(found, "output_tokens"),
        cached_tokens=_count(read, "cached_tokens"),
        cache_write_tokens=_count(read, "cache_write_tokens"),
        cache_write_1h_tokens=_count(_details(raw, "cache_creation"), "ephemeral_1h_input_tokens"),
        reasoning_tokens=_count(given, "reasoning_tokens"),
    )


def estimate(body: bytes, sent: int, text: int) -> Usage:
    """Returns a guess: what a client's *body*, of which *sent* bytes were made for the upstream, has as its input, and
    *text* bytes answered as the output. Four bytes are a token, a piece of media is `MEDIA`.
    """
    size = run(estimated(body)) if len(body) <= WINDOW else _of_large(body)
    more = max(0, sent - len(body))  # of the earlier conversation, where the upstream does not keep it
    read, given = size + -(-more // BYTES_PER_TOKEN), -(-text // BYTES_PER_TOKEN)
    return Usage(input_tokens=read, output_tokens=given, estimated=True)


STRIDE = 4 * KIB
"""Bytes of a string in a large body from which it may be media; shorter strings count as text."""


def _of_large(body: bytes) -> int:
    """About the same as `estimated`, in one step that takes a millisecond for several megabytes."""
    text, media, at = len(body), 0, 0
    while at < len(body):
        if body.find(b'"', at, at + STRIDE) < 0:
            start, at = body.rfind(b'"', 0, at) + 1 + LONGEST_PREFIX, body.find(b'"', at)
            at = len(body) if at < 0 else at
            if not body[start : start + STRIDE].translate(None, BASE64):
                media += 1
                text -= at - start
        at += STRIDE
    return -(-text // BYTES_PER_TOKEN) + media * MEDIA


def _in_our_form(raw: dict[str, Any]) -> Mapping[str, Any] | None:
    """Returns *raw* as a Responses usage object."""
    if "promptTokenCount" in raw or "candidatesTokenCount" in raw:
        return of_gemini(raw)
    if "prompt_tokens" in raw or "completion_tokens" in raw:
        return of_chat(raw)
    if "input_tokens" not in raw and "output_tokens" not in raw:
        return None
    if "input_tokens_details" not in raw and ANTHROPIC & raw.keys():
        return of_anthropic(raw)
    return raw


ANTHROPIC = frozenset({"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "iterations"})
"""Members that only Anthropic's usage has; without them its counts mean what those of Responses mean."""


def _details(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return max(0, int(value)) if isinstance(value, int | float) and value == value and abs(value) < 2**53 else 0


class Source(Protocol):
    """A reply being read, as far as observers care (`dialects.reader.Reader` is one)."""

    @property
    def response_id(self) -> str | None:
        """The id of the response, or None before it is known."""

    @property
    def terminal(self) -> str | None:
        """How the response ended (`"completed"`, `"incomplete"`, …), or None before it has."""

    @property
    def failure(self) -> GatewayError | None:
        """The failure that ended the reply, or None."""

    def final(self) -> bytes | None:
        """Returns the last response object as JSON, or None where there is none."""

    def usage(self) -> Any:
        """Returns the usage as the upstream wrote it, or None where it wrote none."""


class Answer(msgspec.Struct, frozen=True):
    """The facts of one answer. *usage* in our form, *raw* as the upstream wrote it. *text* is how many bytes a finished
    response says that came without usage."""

    usage: Usage | None = None
    raw: Any = None
    response_id: str | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    conversation: str | None = None
    text: int = 0


FINISHED = ("completed", "incomplete")
SAID = re.compile(rb'"(?:text|refusal|arguments|input|code)":\s?"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
"""What a model has written, in the items of an output."""
NOTHING = msgspec.Raw(b"")


class Final(msgspec.Struct):
    """The members of a response that reach observers, as bytes; the others are passed over unread."""

    id: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    service_tier: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING
    output: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


_final = msgspec.json.Decoder(Final).decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def of_source(source: Source) -> Answer:
    """Returns what *source* has read so far. Its own raw usage is kept beside what the final response says."""
    try:
        raw, final = source.usage(), source.final()
    except UNREADABLE:
        return Answer()
    if final is None:
        return Answer(usage=read_usage(raw), raw=raw, response_id=clean(source.response_id))
    answer = of_body(final)
    if raw is None:
        return answer
    usage, own = answer.usage, read_usage(raw)
    if usage is not None and own is not None:  # our form has no place for how long a cache is kept
        usage = replace(usage, cache_write_1h_tokens=own.cache_write_1h_tokens)
    return replace(answer, usage=usage or own, raw=raw)


def of_body(body: bytes) -> Answer:
    """Returns the facts of a response object (JSON), or an empty answer where *body* is none."""
    try:
        found = _final(body)
    except UNREADABLE:
        return Answer()
    conversation, raw, status = short(found.conversation), short(found.usage), clean(short(found.status))
    usage = read_usage(raw)
    silent = usage is None and status in FINISHED
    return Answer(
        usage=usage,
        raw=raw,
        text=sum(len(text) for text in SAID.findall(bytes(found.output))) if silent else 0,
        response_id=clean(short(found.id)),
        model=clean(short(found.model)),
        status=status,
        service_tier=clean(short(found.service_tier)),
        conversation=clean(conversation.get("id") if isinstance(conversation, dict) else conversation),
    )


# What went by, counted without being parsed.


DELTA = re.compile(rb'"delta":\s?"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
DONE = b"[DONE]\n\n"
LONG = MIB
"""Bytes of a piece that is not searched for text: what stands behind the first mark of a delta counts as text."""


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
        """Counts whole events (or a part of one that is too large to be held)."""
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
