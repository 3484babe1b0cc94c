"""What a frame is, in both directions, without a connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from gomodel_asgi.errors import InvalidRequest, UpstreamRejected
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.json_body import opening, with_member
from gomodel_asgi.wire.json_pieces import Found
from gomodel_asgi.wire.json_scan import run
from gomodel_asgi.wire.response import DONE, frame
from gomodel_asgi.wire.websocket_frames import (
    Frames,
    create_of,
    data_of,
    error_frame,
    lane_of,
    steer_of,
    type_of,
)

LIMIT = 1_000_000
RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}


def opened(text: str) -> tuple[bytes, Found]:
    data = data_of(text, LIMIT)
    return data, run(opening(data))


def create(**members: Any) -> Any:
    data, found = opened(json.dumps({"type": "response.create", **members}))
    return create_of(found, lane_of(found.members), len(data), Limits())


def test_a_create_is_the_body_that_it_would_be_over_http() -> None:
    read = create(model="m", input=[1], stream=None, stream_options="x", background=True, stream_id="a", generate=True)
    assert dict(read.envelope.body) == {"model": "m", "input": [1], "stream": True}
    assert (read.lane, read.generate, read.envelope.stream) == ("a", True, True)


def test_values_keep_the_bytes_that_the_client_sent() -> None:
    data, found = opened('{"type":"response.create","temperature":1.50,"x":"\\u0041"}')
    assert b'"temperature":1.50,"x":"\\u0041"' in create_of(found, None, len(data), Limits()).envelope.raw


def test_a_hint_in_a_frame_is_taken_out() -> None:
    read = create(model="m", provider="claude")
    assert (read.envelope.hint, "provider" in read.envelope.members) == ("claude", False)


@pytest.mark.parametrize(("text", "param"), [('{"stream_id":""}', "stream_id"), ('{"stream_id":1}', "stream_id")])
def test_a_malformed_lane_is_named(text: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        lane_of(opened(text)[1].members)
    assert refused.value.param == param


def test_a_lane_and_a_type_may_be_written_with_escapes() -> None:
    members = opened('{"stream_id":"\\u0061","type":"response\\u002ecreate"}')[1].members
    assert (lane_of(members), type_of(members)) == ("a", "response.create")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_events_become_frames_wherever_the_stream_is_cut(cut: int) -> None:
    events = [
        {"type": "response.created", "sequence_number": 0, "response": RESPONSE},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": 'an "error" in "stream_id" text'},
        {"type": "response.output_item.done", "sequence_number": 2, "item": ITEM},
        {"type": "response.completed", "sequence_number": 3, "response": {**RESPONSE, "status": "completed"}},
    ]
    stream = b": heartbeat\n\n" + b"".join(map(frame, events)) + DONE
    frames = Frames("a", limit=LIMIT)
    written = frames.feed(stream[:cut]) + frames.feed(stream[cut:])
    assert [json.loads(one) for one in written] == [{**event, "stream_id": "a"} for event in events]
    assert (frames.response_id, frames.terminal) == ("resp_1", "response.completed")
    assert [json.loads(item) for item in frames.output] == [ITEM]


def test_without_a_lane_an_event_keeps_its_bytes() -> None:
    data = b'{ "type":"response.output_text.delta", "x": 1.50 }'
    assert Frames(None, limit=LIMIT).feed(b"data: " + data + b"\n\n") == [data.decode()]


def test_a_stream_id_that_the_upstream_has_echoed_is_not_told_twice() -> None:
    data = b'{"type":"response.output_text.delta","stream_id":"a"}'
    assert Frames("a", limit=LIMIT).feed(b"data: " + data + b"\n\n") == [data.decode()]


def test_what_the_connection_continues_is_said_in_the_response() -> None:
    frames = Frames(None, limit=LIMIT, continues="resp_0")
    event = {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "previous_response_id": None}}
    [written] = frames.feed(frame(event))
    assert json.loads(written)["response"]["previous_response_id"] == "resp_0"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "sequence_number": 5, "code": "c", "message": "m", "param": None},
        {"type": "error", "sequence_number": 5, "error": {"code": "c", "message": "m", "param": None}},
        {"error": {"code": "c", "message": "m"}},
    ],
)
def test_an_error_has_the_nested_form_and_a_status_however_it_came(event: Any) -> None:
    [written] = Frames("a", limit=LIMIT).feed(frame({"type": "error", **event}), 503)
    error = json.loads(written)
    assert (error["type"], error["status"], error["stream_id"]) == ("error", 503, "a")
    assert error["error"] == {"type": "server_error", "code": "c", "message": "m", "param": None}


def test_an_error_instead_of_a_response_keeps_what_the_upstream_said() -> None:
    error = UpstreamRejected("m", status=409)
    error.raw = b'{"error":{"message":"m","type":"t","param":"p","code":"c","more":1}}'
    written = json.loads(error_frame(error, None))
    assert written == {
        "type": "error",
        "status": 409,
        "error": {"message": "m", "type": "t", "param": "p", "code": "c", "more": 1},
    }


def test_the_output_is_the_responses_own_where_no_item_was_told() -> None:
    frames = Frames(None, limit=LIMIT)
    frames.feed(frame({"type": "response.completed", "response": {**RESPONSE, "output": [ITEM]}}))
    assert [json.loads(item) for item in frames.output] == [ITEM]


@pytest.mark.parametrize("data", [b"{}", b'{"x":1}', b' { "x" : 1 }', b'{"name":"old","x":1}'])
def test_a_member_is_put_first_or_in_the_place_of_its_own(data: bytes) -> None:
    assert json.loads(with_member(data, "name", 'a"b')) == {**json.loads(data), "name": 'a"b'}


def test_a_frame_is_measured_in_bytes() -> None:
    data_of('{"a":"ü"}', 10)
    with pytest.raises(InvalidRequest) as refused:
        data_of('{"a":"ü"}', 9)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("size", "depth", "refused"), [(0, 3, False), (0, 4, True), (2**21, 3, False), (2**21, 4, True)]
)
def test_a_large_steer_is_looked_at_in_steps_and_judged_as_a_small_one(size: int, depth: int, refused: bool) -> None:
    given = b"[" * (depth - 1) + b'["%b"]' % (b"[" * size) + b"]" * (depth - 1)
    reading = steer_of({"previous_response_id": Raw(b'"resp_1"'), "input": Raw(given)}, Limits(depth=3))
    steps = 0
    try:
        while True:
            next(reading)
            steps += 1
    except StopIteration as end:
        assert not refused and end.value.target == "resp_1"
        assert steps >= size // (64 * 1024)
    except InvalidRequest as error:
        assert refused and error.param == "input"
