"""What a finished or broken-off answer says about itself, read from its last response object only."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from ..errors import GatewayError
from ..tree import short
from .usage import Usage, read_usage

TEXT = 256  # characters of any text that somebody else chose


class Source(Protocol):
    """A reply being read, as far as observers care (`dialects.reader.Reader` is one)."""

    @property
    def response_id(self) -> str | None: ...

    @property
    def terminal(self) -> str | None: ...

    @property
    def failure(self) -> GatewayError | None: ...

    def final(self) -> bytes | None: ...

    def usage(self) -> Any: ...


class Answer(msgspec.Struct, frozen=True):
    """The facts of one answer. *usage* in our form, *raw* as the upstream wrote it."""

    usage: Usage | None = None
    raw: Any = None
    response_id: str | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    conversation: str | None = None


NOTHING = msgspec.Raw(b"")


class Final(msgspec.Struct):
    """The members of a response that observers are told, as bytes; the others are passed over unread."""

    id: msgspec.Raw = NOTHING
    model: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    service_tier: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING


_final = msgspec.json.Decoder(Final).decode
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def of_source(source: Source) -> Answer:
    """What *source* has told so far. Its own raw usage is kept beside what the final response says."""
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
    """What a response object (JSON) says; nothing where it is none."""
    try:
        found = _final(body)
    except UNREADABLE:
        return Answer()
    conversation, usage = short(found.conversation), short(found.usage)
    return Answer(
        usage=read_usage(usage),
        raw=usage,
        response_id=clean(short(found.id)),
        model=clean(short(found.model)),
        status=clean(short(found.status)),
        service_tier=clean(short(found.service_tier)),
        conversation=clean(conversation.get("id") if isinstance(conversation, dict) else conversation),
    )


def clean(text: object, limit: int = TEXT) -> str | None:
    """*text* as it may stand in a record: cut, on one line, printable; None where it is no text."""
    if not isinstance(text, str):
        return None
    text = text[:limit]
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
