"""Calls of the client's tools in replies: which pieces are one call, and what joins each to its output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.reader import TranslatedReader
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]
Asked = tuple[str, str, str]
"""A call as an upstream makes it: id, name and arguments."""

DIALECTS = ("chat", "anthropic", "gemini")
each_dialect = pytest.mark.parametrize("dialect", DIALECTS)
each_form = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])


def chat(calls: list[Asked], stream: bool) -> list[Json]:
    made = [{"id": id, "type": "function", "function": {"name": n, "arguments": a}} for id, n, a in calls]
    if not stream:
        return [{"choices": [{"message": {"role": "assistant", "tool_calls": made}, "finish_reason": "tool_calls"}]}]
    deltas = [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(made)]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return [*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}]


def anthropic(calls: list[Asked], stream: bool) -> list[Json]:
    blocks = [{"type": "tool_use", "id": id, "name": name, "input": json.loads(a)} for id, name, a in calls]
    message: Json = {"type": "message", "model": "m", "content": blocks, "stop_reason": "tool_use", "usage": {}}
    if not stream:
        return [message]
    events: list[Json] = [{"type": "message_start", "message": {**message, "content": []}}]
    for index, block in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, "input": {}}})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    return [*events, {"type": "message_delta", "delta": {"stop_reason": "tool_use"}}, {"type": "message_stop"}]


def gemini(calls: list[Asked], stream: bool) -> list[Json]:
    parts = [{"functionCall": {"id": id, "name": name, "args": json.loads(a)}} for id, name, a in calls]
    if not stream:
        return [{"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}]
    chunks: list[Json] = [{"candidates": [{"content": {"parts": [part]}}]} for part in parts]
    return [*chunks, {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]}]


ANSWERS = {"chat": chat, "anthropic": anthropic, "gemini": gemini}


def reader(dialect: str, stream: bool, **body: Any) -> TranslatedReader:
    body = {"model": "m", "input": "hi", "stream": stream, **body}
    call = Call("create", body, "m", stream, dialect, dialect)
    single = body.get("parallel_tool_calls") is False
    emitter = Emitter(response_id="resp_1", created_at=1, model="m", echo=body, stream=stream, single_call=single)
    return TranslatedReader(built_in(dialect).translator(call, emitter), emitter, Limits())


def play(read: TranslatedReader, stream: bool, *messages: Json, done: bool = False) -> list[Json]:
    """Feed *messages*; the events that come of them."""
    if not stream:
        read.whole(json.dumps(messages[0]).encode())
        return []
    data = b"".join(b"data: %s\n\n" % json.dumps(message).encode() for message in messages)
    out = read.feed(data + (b"data: [DONE]\n\n" if done else b"")) + read.close()
    return [json.loads(line[6:]) for line in out.splitlines() if line.startswith(b"data: {")]


def calls_of(read: TranslatedReader) -> list[tuple[str, str, str]]:
    items = [item for item in read.emitter.response["output"] if item["type"] == "function_call"]
    return [(item["call_id"], item["name"], item["arguments"].replace(" ", "")) for item in items]


def answered(dialect: str, stream: bool, calls: list[Asked], **body: Any) -> tuple[TranslatedReader, list[Json]]:
    read = reader(dialect, stream, **body)
    return read, play(read, stream, *ANSWERS[dialect](calls, stream), done=dialect == "chat")


# One id, one call...


@each_form
@each_dialect
def test_calls_that_share_an_id_stay_apart_and_the_later_gets_one_of_ours(dialect: str, stream: bool) -> None:
    read, events = answered(dialect, stream, [("s", "run", '{"city":"A"}'), ("s", "run", '{"city":"B"}')])
    (first, *one), (second, *other) = calls_of(read)
    assert (one, other) == (["run", '{"city":"A"}'], ["run", '{"city":"B"}'])
    assert first == "s" and second not in ("", "s")
    ids = [event["item"]["call_id"] for event in events if event["type"].startswith("response.output_item")]
    assert ids in ([], ["s", "s", second, second], ["s", second, "s", second])


@each_form
@each_dialect
def test_an_id_of_an_earlier_turn_is_not_given_again(dialect: str, stream: bool) -> None:
    history = [
        {"type": "function_call", "call_id": "call_0", "name": "run", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_0", "output": "ok"},
    ]
    read, _ = answered(dialect, stream, [("call_0", "run", "{}"), ("call_1", "run", "{}")], input=history)
    [(first, *_), (second, *_)] = calls_of(read)
    assert first not in ("", "call_0") and second == "call_1"


@each_form
@each_dialect
def test_an_answer_gives_the_same_ids_streamed_and_not(dialect: str, stream: bool) -> None:
    calls = [("s", "run", "{}"), ("", "run", "{}"), ("s", "run", "{}")]
    assert calls_of(answered(dialect, stream, calls)[0]) == calls_of(answered(dialect, not stream, calls)[0])


# Pieces of calls, as chat sends them...


def piece(index: int | None, id: str | None = None, name: str | None = None, arguments: str = "") -> Json:
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    call: Json = {"function": function, **({"id": id} if id else {}), **({} if index is None else {"index": index})}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


END: Json = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([piece(0, "a", "f", '{"x":'), piece(0, arguments="1}")], [("f", '{"x":1}')]),
        ([piece(0, "a", "f", "{}"), piece(0, "b", "f", '{"x":1}')], [("f", "{}"), ("f", '{"x":1}')]),
        ([piece(0, "a", "f", "{}"), piece(0, "a", "g", '{"x":1}')], [("f", "{}"), ("g", '{"x":1}')]),
        ([piece(0, "a", "f", "{}"), piece(0, None, "g", '{"x":1}')], [("f", "{}"), ("g", '{"x":1}')]),
        ([piece(0, "a", "f", '{"x":'), piece(0, "a", "f", "1}")], [("f", '{"x":1}')]),
        ([piece(0, "a", "f", '{"x":'), piece(0, "z", None, "1}")], [("f", '{"x":1}')]),
        ([piece(0, "a", "f"), piece(1, "a", "f"), piece(0, arguments="{}"), piece(1, arguments='{"x":1}')],
         [("f", "{}"), ("f", '{"x":1}')]),
    ],
    ids=["pieces", "another id", "another name", "another name alone", "name again", "id of its own", "another index"],
)  # fmt: skip
def test_a_call_is_known_by_its_index_until_another_id_or_name_begins_one(
    pieces: list[Json], calls: list[tuple[str, str]]
) -> None:
    read = reader("chat", True)
    play(read, True, *pieces, END, done=True)
    assert [(name, arguments) for _, name, arguments in calls_of(read)] == calls
    assert len({id for id, *_ in calls_of(read)}) == len(calls)


def test_every_element_of_a_whole_reply_is_a_call_whatever_it_says_of_index_and_id() -> None:
    calls = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}] * 3
    read = reader("chat", False)
    play(read, False, {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    assert [name for _, name, _ in calls_of(read)] == ["f", "f", "f"]


# One call at a time...


@each_form
@each_dialect
def test_of_a_turn_without_parallel_calls_the_first_is_kept(dialect: str, stream: bool) -> None:
    calls = [("a", "run", '{"city":"A"}'), ("b", "run", '{"city":"B"}')]
    read, events = answered(dialect, stream, calls, parallel_tool_calls=False)
    assert calls_of(read) == [("a", "run", '{"city":"A"}')]
    assert not any("B" in json.dumps(event) for event in events)
    assert any("parallel_tool_calls" in warning for warning in read.emitter.warnings)
    assert read.emitter.response["status"] == "completed"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
