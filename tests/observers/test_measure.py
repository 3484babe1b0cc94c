"""Events and text are counted as they go by, without being parsed."""

from __future__ import annotations

import json

import pytest

from gomodel_asgi.observers.answer import Measure
from gomodel_asgi.wire.sse import Decoder

from ..support.chat_reader import WHY_SKIPPED, exchanges

STREAMS = [each["reply"] for each in exchanges("responses") if isinstance(each["reply"], str)]


def measured(*pieces: bytes) -> Measure:
    measure = Measure()
    for piece in pieces:
        measure.add(piece)
    return measure


@pytest.mark.skipif(not STREAMS, reason=WHY_SKIPPED)
@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_as_many_events_are_counted_as_a_decoder_finds(stream: str) -> None:
    decoder = Decoder()
    events = [event for event in [*decoder.feed(stream.encode()), *decoder.close()] if event.data != b"[DONE]"]
    texts = [json.loads(event.data).get("delta") for event in events]

    measure = measured(stream.encode())

    assert measure.events == len(events)
    assert measure.bytes == len(stream.encode())
    assert measure.text == sum(len(json.dumps(text, ensure_ascii=False).encode()) - 2 for text in texts if text)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_lines_may_end_in_any_way(newline: bytes) -> None:
    stream = b"event: a\ndata: {}\n\ndata: {}\n\n".replace(b"\n", newline)

    assert measured(stream).events == 2


def test_comments_and_the_end_mark_are_no_events() -> None:
    assert measured(b": hello\n\n", b"data: {}\n\n: again\n\ndata: {}\n\n", b"data: [DONE]\n\n").events == 2


def test_an_event_that_comes_in_parts_is_one() -> None:
    assert measured(b'data: {"delta":"a', b"b", b'c"}\n\n').events == 1


def test_text_with_quotes_and_backslashes_is_measured_whole() -> None:
    text = 'say "hello" \\ \n'

    assert measured(b"data: " + json.dumps({"delta": text}).encode() + b"\n\n").text == len(json.dumps(text)) - 2


def test_hostile_text_costs_no_more_than_its_length() -> None:
    """No backtracking: an unfinished string of a megabyte of backslashes is passed over at once."""
    measure = measured(b'data: {"delta": "' + b"\\\\" * 500_000, b'"delta":"' * 100_000)

    assert measure.events == 0
