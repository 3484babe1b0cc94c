"""What is fuzzed, and what must hold of any input: each target takes bytes and raises where a promise is broken."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable
from typing import Any

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.lenient.reply import LenientReader
from gomodel_asgi.dialects.native import NativeReader
from gomodel_asgi.dialects.reader import Reader, TranslatedReader
from gomodel_asgi.errors import GatewayError, InvalidRequest, UpstreamProtocolError, UpstreamTruncated
from gomodel_asgi.server.paths import agreed, split_query
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire import headers
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.json_body import BOM, Envelope, opening
from gomodel_asgi.wire.json_scan import run
from gomodel_asgi.wire.response import DONE
from gomodel_asgi.wire.sse import Decoder, Event, Framer

KEY = "sk-canary-1"
ENDS = ("response.completed", "response.incomplete", "response.failed")
RANDOM_ID = re.compile(rb"_[0-9a-f]{48}")
BETWEEN = re.compile(rb"[\r\n]+")
CREATED = re.compile(rb'"(created_at|completed_at|sequence_number)":\d+')  # numbers have their place in `proper`


def pieces(data: bytes) -> list[bytes]:
    """*data* cut somewhere: the same data always in the same places."""
    chance = random.Random(zlib.crc32(data))
    cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(chance.randrange(8)))})
    return [data[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]


# The request side...


def envelope(data: bytes) -> None:
    try:
        found = Envelope.parse(data)
        sent = found.render(model=None, params=None, keep_preferences=True)
        found.render(model="other", params={"temperature": 1, "input": None}, keep_preferences=False)
        _ = found.body, [(found.text(name), found.flag(name), found.has(name)) for name in found.members]
    except InvalidRequest:
        return
    given = {name: bytes(value) for name, value in run(opening(data.removeprefix(BOM))).members.items()}
    if found.hint is not None or not found.preferences:
        given.pop("provider", None)
    found_again = run(opening(sent)).members
    assert {name: bytes(value) for name, value in found_again.items()} == given, "a member's bytes changed"
    try:
        strictly(sent)
    except RecursionError:
        pass  # json's own depth; ours is checked apart from the envelope


def strictly(data: bytes) -> Any:
    """*data* read by a parser that is not ours."""
    return json.loads(data.decode(), parse_int=str, parse_float=str, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def header_fields(data: bytes) -> None:
    query, *lines = data.split(b"\n")
    fields = list(zip(lines[::2], lines[1::2], strict=False))
    try:
        kept, hints = split_query(query)
        assert kept.isascii() and (kept.isprintable() and " " not in kept)
        hint = agreed(None, fields, hints)
        assert hint is None or (hint.isprintable() and hint == hint.strip() != "")
    except GatewayError as error:
        json.loads(error.body())
    try:
        assert headers.read(fields).items() <= set(fields)
    except GatewayError as error:
        json.loads(error.body())
    for name, value in headers.for_client(fields, bytes):
        assert re.fullmatch(rb"[!-~]+", name), f"{name!r} is no header's name"
        assert re.fullmatch(rb"[\t\x20-\x7e]{0,1024}", value), f"{value!r} is no header's value"
    for _, value in fields:
        assert re.fullmatch(r"[A-Za-z0-9_.:=-]{1,128}", headers.request_id(value))


# Streams...


def sse(data: bytes) -> None:
    limit = len(data) // 2 if len(data) % 5 == 0 else 1 << 20
    framed = told(lambda: _framed([data], limit)), told(lambda: _framed(pieces(data), limit))
    decoded = told(lambda: _decoded([data], limit)), told(lambda: _decoded(pieces(data), limit))
    if limit > len(data):
        assert decoded[0] == decoded[1], "cutting changed the events"
        assert framed[0] == framed[1] == data, "cutting changed the bytes"
    _framed(pieces(data), 1 << 20, buffer=16)


def told(read: Callable[[], Any]) -> Any:
    """What *read* gives, or the type of the refusal that it ends with."""
    try:
        return read()
    except UpstreamProtocolError as error:
        return type(error)


def _framed(chunks: list[bytes], limit: int, buffer: int = 1 << 20) -> bytes:
    framer = Framer(limit=limit, buffer=buffer)
    return b"".join([framer.feed(chunk) for chunk in chunks]) + bytes(framer.pending)


def _decoded(chunks: list[bytes], limit: int) -> list[Event]:
    decoder = Decoder(limit=limit)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.close()


# The reply side...


def translated(dialect: str) -> Callable[[bytes], None]:
    body = {"model": "m", "input": "Hi", "stream": True}

    def reader() -> TranslatedReader:
        call = Call("create", body, "m", True, dialect, dialect)
        emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo=body)
        return TranslatedReader(built_in(dialect).translator(call, emitter), emitter, Limits())

    def target(data: bytes) -> None:
        if data.startswith(b"{"):
            unary(lambda: reader().whole(data))
        else:
            stream(reader, data, ours=True)

    return target


def native(data: bytes) -> None:
    stream(lambda: NativeReader(name="p", model="m", limits=Limits(), secrets=(KEY,)), data, ours=False)
    chunks = pieces(data.replace(b"~", KEY.encode()))
    out, _ = played(NativeReader(name="p", model="m", limits=Limits(buffer=16), secrets=(KEY,)), chunks)
    assert KEY.encode() not in out, "our key was given away"


def lenient(data: bytes) -> None:
    def reader() -> LenientReader:
        return LenientReader(name="p", model="m", limits=Limits(), echo={})

    if data.startswith(b"{"):
        repaired = reader()
        unary(lambda: repaired.whole(data))
        json.loads(repaired.final() or b"{}")
    else:
        stream(reader, data, ours=True)


def unary(read: Callable[[], bytes | None]) -> None:
    try:
        events = read()
    except GatewayError as error:
        json.loads(error.body())
    else:
        if events:
            proper(events)


def stream(reader: Callable[[], Reader], data: bytes, *, ours: bool) -> None:
    """The same from any cutting; what *ours* writes is judged event by event."""
    whole, ended = played(reader(), [data])
    cut, ended_too = played(reader(), pieces(data))
    assert ended == ended_too, "cutting changed the end"
    if ended == "refused":
        return
    assert constant(whole) == constant(cut), "cutting changed what the client gets"
    if ours:
        proper(whole)


def constant(data: bytes) -> bytes:
    """*data* without what is never the same twice, and without the empty lines between events, which say nothing."""
    return BETWEEN.sub(b"\n", CREATED.sub(b"", RANDOM_ID.sub(b"", data)))


def played(read: Reader, chunks: list[bytes]) -> tuple[bytes, str | None]:
    """What the client gets, and how it ended: a refusal in the midst is told in band, as the exchange does."""
    out = []
    try:
        for chunk in chunks:
            out.append(read.feed(chunk))
        out.append(read.close())
        end = read.terminal
    except (UpstreamProtocolError, UpstreamTruncated) as error:
        out.append(read.fail(error))
        end = "refused"
    assert read.terminal is not None, "the stream has no end"
    read.usage()
    json.loads((read.final() or b"{}").decode("utf-8", "replace"), strict=False)  # a native reply's strings just pass
    if read.failure is not None:
        json.loads(read.failure.body())
    return b"".join(out), end


def proper(data: bytes) -> None:
    """Named events in order, one terminal event at the end, `[DONE]` behind it."""
    assert data.endswith(DONE), "the stream does not end with [DONE]"
    found = []
    for block in data.removesuffix(DONE).decode().split("\n\n")[:-1]:
        name, body = block.split("\n")
        found.append(json.loads(body.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}", "an event is not named by its type"
    assert [event["sequence_number"] for event in found] == list(range(len(found))), "the events are not in order"
    assert [event["type"] in ENDS for event in found] == [False] * (len(found) - 1) + [True], "not one end, at the end"


TARGETS: dict[str, Callable[[bytes], None]] = {
    "envelope": envelope,
    "sse": sse,
    "headers": header_fields,
    "chat": translated("chat"),
    "anthropic": translated("anthropic"),
    "gemini": translated("gemini"),
    "native": native,
    "lenient": lenient,
}
