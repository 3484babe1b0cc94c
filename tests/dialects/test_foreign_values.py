"""Values that no upstream should send: found by fuzzing (`tests/fuzz`), kept as examples."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.lenient.reply import LenientReader
from gomodel_asgi.dialects.native import NativeReader
from gomodel_asgi.errors import UpstreamProtocolError, UpstreamTruncated
from gomodel_asgi.settings import Limits

from .test_matrix import events, reader

Json = dict[str, Any]


def native() -> NativeReader:
    return NativeReader(name="p", model="m", limits=Limits())


def normalizing(*, stream: bool = True) -> LenientReader:
    return LenientReader(name="p", model="m", limits=Limits(), echo={}, stream=stream)


def data(event: Json) -> bytes:
    return b"data: %s\n\n" % json.dumps(event).encode()


@pytest.mark.parametrize("type", [{}, [], 7, True])
def test_a_native_event_whose_type_is_no_text_passes(type: Any) -> None:
    event = data({"type": type, "response": {}})

    assert native().feed(event) == event


def test_a_piece_of_a_native_event_that_begins_with_a_nul_loses_nothing_before_it() -> None:
    read = native()

    assert read.feed(b"data: a") + read.feed(b"\0b\n\n") == b"data: a\0b\n\n"


@pytest.mark.parametrize("response", [b'{"id":"resp_\xff"}', b'{"id":"resp_1","\xff":1}', b'{"id":"\\ud800"}'])
def test_a_native_response_that_cannot_be_read_is_ended_all_the_same(response: bytes) -> None:
    read = native()
    read.feed(b'data: {"type":"response.created","response":%s}\n\n' % response)

    assert read.usage() is None
    assert read.fail(UpstreamTruncated("Gone.")).endswith(b"data: [DONE]\n\n")
    assert read.terminal == "failed"


@pytest.mark.parametrize("kind", [{}, [], 7])
def test_a_part_whose_type_is_no_text_is_taken_for_the_usual_one(kind: Any) -> None:
    item = {"type": "message", "id": "m", "content": [{"type": kind, "text": "Hi"}]}
    read = normalizing(stream=False)
    read.whole(json.dumps({"object": "response", "output": [item]}).encode())

    assert json.loads(read.final() or b"")["output"][0]["content"][0]["type"] == "output_text"


def test_a_text_delta_that_is_no_text_is_refused_and_the_stream_still_ends() -> None:
    read = reader("anthropic")
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": ["Hi"]}}
    begun = read.feed(data({"type": "message_start", "message": {"id": "m", "content": [], "usage": {}}}) + data(start))

    with pytest.raises(UpstreamProtocolError):
        read.feed(data(delta))

    assert events(begun + read.fail(UpstreamTruncated("Gone.")))[-1]["type"] == "response.failed"


def test_two_whole_choices_are_one_answer() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    found = events(reader("chat").whole(json.dumps({"choices": [choice, choice]}).encode()))

    assert [event["type"] for event in found].count("response.completed") == 1


def test_what_gemini_cites_is_read_at_the_end_and_refused_there() -> None:
    support = {"segment": {"text": 7, "endIndex": 2}, "groundingChunkIndices": [0]}
    grounding = {"groundingChunks": [{"web": {"uri": "u", "title": "t"}}], "groundingSupports": [support]}
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP", "groundingMetadata": grounding}
    read = reader("gemini")

    with pytest.raises(UpstreamProtocolError):
        read.feed(data({"candidates": [candidate]}))
        read.close()
    assert read.fail(UpstreamTruncated("Gone.")).endswith(b"data: [DONE]\n\n")
