"""What a delta costs on its way through a dialect, in Python calls: counted, since time is not the same twice."""

from __future__ import annotations

import sys
from types import FrameType

import msgspec
import pytest

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.reader import TranslatedReader
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.items import TEXT_OF_PART, delta_frame
from gomodel_asgi.wire.response import encode, frame

Event = tuple[str, dict[str, object]]
BODY = {"model": "m", "input": "hi"}
OPENED: Event = ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
WORD: dict[str, Event] = {
    "chat": ("", {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}),
    "anthropic": ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "word "}}),
    "gemini": ("", {"candidates": [{"content": {"role": "model", "parts": [{"text": "word "}]}, "index": 0}]}),
}
BEFORE = {"chat": WORD["chat"], "anthropic": OPENED, "gemini": WORD["gemini"]}
MOST_CALLS = {"chat": 10, "anthropic": 15, "gemini": 25}


def wire(event: Event) -> bytes:
    name, members = event
    if not name:
        return b"data: %s\n\n" % encode(members)
    return b"event: %s\ndata: %s\n\n" % (name.encode(), encode({"type": name, **members}))


def reader(dialect: str) -> TranslatedReader:
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo=BODY)
    call = Call("create", BODY, "m", True, "p", dialect)
    return TranslatedReader(built_in(dialect).translator(call, emitter), emitter, Limits(), ("sk-of-nobody-123",))


@pytest.mark.parametrize("dialect", WORD)
def test_a_delta_takes_few_calls(dialect: str) -> None:
    reply, calls, word = reader(dialect), 0, wire(WORD[dialect])
    reply.feed(wire(BEFORE[dialect]))
    reply.feed(word)

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        written = reply.feed(word)
    finally:
        sys.setprofile(None)

    assert written.count(b"\n\n") == 1 and b'"delta":"word "' in written
    assert calls <= MOST_CALLS[dialect], calls


@pytest.mark.parametrize("text", ["word ", "", 'a "quoted" \\ line\n', "ä \U0001f600 \u2028"])
@pytest.mark.parametrize("type", TEXT_OF_PART)
def test_a_delta_is_written_as_any_other_event(type: str, text: str) -> None:
    place = {"item_id": 'msg_"1', "output_index": 0, "content_index": 2}
    kind = TEXT_OF_PART[type].delta
    lists: dict[str, list[str]] = {"logprobs": []} if type == "output_text" else {}
    head, middle, tail = delta_frame(kind, place, *([b',"logprobs":[]}\n\n'] if lists else []))

    written = b"%s%d%s%s%s" % (head, 7, middle, msgspec.json.encode(text), tail)

    assert written == frame({"type": kind, "sequence_number": 7, **place, "delta": text, **lists})
