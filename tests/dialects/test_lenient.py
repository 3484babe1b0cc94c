"""A sloppy native upstream with `normalize=True` gives streams and responses as proper as our own emitter's."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st
from openai import omit
from openai._models import construct_type_unchecked, validate_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from openresponses_types import types as open_responses
from pydantic import ValidationError

from gomodel_asgi.dialects.lenient.reply import LenientReader
from gomodel_asgi.errors import UpstreamProtocolError, UpstreamTimeout
from gomodel_asgi.settings import Limits

from ..support.chat_reader import exchanges
from ..wire.test_event_writer import Grammar, emitter, events, story, tell

Json = dict[str, Any]
Spoiling = Callable[[list[Json]], list[Json]]

RECORDED = [exchange for exchange in exchanges("responses") if exchange["status"] == 200]
STREAMS = [exchange["reply"] for exchange in RECORDED if isinstance(exchange["reply"], str)]
WHOLE = [exchange["reply"] for exchange in RECORDED if isinstance(exchange["reply"], dict)]

needs_recordings = pytest.mark.skipif(not RECORDED, reason="../shared/recorded is not there")


def reader(*, stream: bool = True, name: str | None = None, after: int = -1, **echo: Any) -> LenientReader:
    return LenientReader(name=name, model="m", limits=Limits(), echo=echo, stream=stream, after=after)


def wire(found: list[Json], *, named: bool = True, done: bool = True, end: str = "\n") -> bytes:
    """Events as a server writes them."""
    blocks = [(f"event: {event['type']}{end}" if named else "") + f"data: {json.dumps(event)}{end}" for event in found]
    return "".join(block + end for block in [*blocks, *([f"data: [DONE]{end}"] if done else [])]).encode()


def normalized(found: list[Json] | bytes, **options: Any) -> list[Json]:
    """What comes out, judged by the grammar."""
    repaired = reader(**options)
    data = found if isinstance(found, bytes) else wire(found)
    out = events(repaired.feed(data) + repaired.close())
    Grammar().read(out)
    return out


def final(found: list[Json]) -> Json:
    return cast(Json, found[-1]["response"])


# A proper stream, and ways to spoil it...


def proper(told: Any = None) -> list[Json]:
    """What an emitter says of a story: by default reasoning, text, and two calls at once."""
    to = emitter(temperature=0.5)
    if told is not None:
        tell(to, told)
        return events(to.take())
    thought = to.reasoning()
    thought.text("Hm.")
    thought.set_encrypted_content("sealed")
    thought.close()
    message = to.message()
    message.text("Hello ")
    message.text("there")
    message.annotate({"type": "url_citation", "url": "u", "title": "", "start_index": 0, "end_index": 5})
    message.close()
    first, second = to.function_call("call_1", "f"), to.function_call("call_2", "g", namespace="n")
    first.arguments('{"a":')
    second.arguments('{"b":')
    first.arguments("1}")
    second.arguments("2}")
    to.complete(9)
    return events(to.take())


def redacted(*names: str) -> Spoiling:
    """The stream without these members in any event."""
    return lambda found: [{name: event[name] for name in event if name not in names} for event in found]


def lacking(*types: str) -> Spoiling:
    """The stream without these events."""
    return lambda found: [event for event in found if event["type"] not in types]


def in_responses(change: Callable[[Json], Json]) -> Spoiling:
    return lambda found: [
        event | {"response": change(event["response"])} if "response" in event else event for event in found
    ]


def chat_usage(response: Json) -> Json:
    return response | {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}


def bare(response: Json) -> Json:
    return {name: response[name] for name in ("id", "status", "output")}


def numbered_alike(found: list[Json]) -> list[Json]:
    return [event | {"sequence_number": 3} for event in found]


def indexed_alike(found: list[Json]) -> list[Json]:
    return [event | {"output_index": 0} if "output_index" in event else event for event in found]


def renamed_midway(found: list[Json]) -> list[Json]:
    return [
        event | {"response": event["response"] | {"id": f"resp_{number}"}} if "response" in event else event
        for number, event in enumerate(found)
    ]


PARTS = ("response.content_part.added", "response.reasoning_summary_part.added")
PART_ENDS = ("response.content_part.done", "response.reasoning_summary_part.done")
TEXT_ENDS = ("response.output_text.done", "response.refusal.done", "response.reasoning_summary_text.done")
CALL_ENDS = ("response.function_call_arguments.done", "response.custom_tool_call_input.done")
DELTAS = tuple(name.replace(".done", ".delta") for name in (*TEXT_ENDS, *CALL_ENDS))

SPOILINGS: dict[str, Spoiling] = {
    "no sequence numbers": redacted("sequence_number"),
    "sequence numbers repeated": numbered_alike,
    "no item ids in events": redacted("item_id"),
    "no output index": redacted("output_index"),
    "output index repeated": indexed_alike,
    "no part index": redacted("content_index", "summary_index"),
    "no logprobs": redacted("logprobs"),
    "no created": lacking("response.created"),
    "no in_progress": lacking("response.in_progress"),
    "no parts announced": lacking(*PARTS),
    "no parts ended": lacking(*PART_ENDS),
    "no texts ended": lacking(*TEXT_ENDS, *CALL_ENDS),
    "no items ended": lacking("response.output_item.done"),
    "no items announced": lacking("response.output_item.added"),
    "no deltas": lacking(*DELTAS),
    "nothing between": lacking(*DELTAS, *PARTS, *PART_ENDS, *TEXT_ENDS, *CALL_ENDS, "response.output_item.added"),
    "bare responses": in_responses(bare),
    "float created_at": in_responses(lambda response: response | {"created_at": 7.25}),
    "chat-style usage": in_responses(chat_usage),
    "ids change midway": renamed_midway,
    "null members": in_responses(lambda response: response | dict.fromkeys(("tools", "text", "metadata", "usage"))),
}


def essence(response: Json) -> list[Json]:
    """The output without what a server may have failed to name."""
    return [{name: item[name] for name in item if name not in ("id", "status")} for item in response["output"]]


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_each_fault_is_repaired_without_losing_what_was_said(spoiling: str) -> None:
    spoiled = SPOILINGS[spoiling](proper())

    assert essence(final(normalized(spoiled))) == essence(final(proper()))


@pytest.mark.parametrize("options", [{"named": False}, {"end": "\r\n"}, {"end": "\r"}, {"done": False}])
def test_framing_is_ours_whatever_the_server_s_was(options: Json) -> None:
    assert normalized(wire(proper(), **options)) == proper()


@settings(max_examples=150, deadline=None)
@given(story, st.sets(st.sampled_from(sorted(SPOILINGS)), max_size=3))
def test_faults_together_still_give_a_stream_of_the_grammar(told: Any, chosen: set[str]) -> None:
    found = proper(told)
    for name in sorted(chosen):
        found = SPOILINGS[name](found)

    out = normalized(found)

    assert out[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")


@settings(max_examples=100, deadline=None)
@given(story)
def test_a_proper_stream_passes_event_for_event(told: Any) -> None:
    found = proper(told)

    out = normalized(found)

    assert [event["type"] for event in out] == [event["type"] for event in found]
    assert final(out)["output"] == final(found)["output"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_stream_cut_anywhere_gives_the_same_events(size: int) -> None:
    data, repaired = wire(SPOILINGS["no parts announced"](proper())), reader()
    out = b"".join(repaired.feed(data[at : at + size]) for at in range(0, len(data), size)) + repaired.close()

    assert events(out) == normalized(data)


def test_a_delta_leaves_with_the_bytes_that_brought_it() -> None:
    repaired = reader()
    for event in SPOILINGS["no parts announced"](proper()):
        out = repaired.feed(wire([event], done=False))
        if event["type"] == "response.output_text.delta":
            assert json.dumps(event["delta"]).encode() in out


def accepted_by_openai(found: list[Json]) -> Any:
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in found:
        state.handle_event(construct_type_unchecked(type_=cast(Any, ResponseStreamEvent), value=event))
    return state._completed_response


@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_the_openai_sdk_and_open_responses_accept_what_comes_out(spoiling: str) -> None:
    out = normalized(SPOILINGS[spoiling](proper()))

    completed = accepted_by_openai(out)
    assert completed is not None and completed.output_text == "Hello there"
    validate_type(type_=Response, value=final(out))
    for event in out:
        if "response" in event:
            open_responses.ResponseResource.model_validate(event["response"])


# What real servers send...


def recorded_events(recorded: str) -> list[Json]:
    return [json.loads(line[6:]) for line in recorded.splitlines() if line.startswith("data: {")]


def assert_holds(after: Any, before: Any) -> None:
    """*after* is *before* with members added, or put where there was null."""
    if isinstance(before, dict):
        for name, value in before.items():
            assert_holds(after[name], value)
    elif isinstance(before, list):
        for own, other in zip(after, before, strict=True):
            assert_holds(own, other)
    else:
        assert before is None or after == before


@needs_recordings
@pytest.mark.parametrize("recorded", STREAMS, ids=range(len(STREAMS)))
def test_a_recorded_stream_passes_with_nothing_but_members_added(recorded: str) -> None:
    found, repaired = recorded_events(recorded), reader()

    out = events(repaired.feed(recorded.encode()) + repaired.close())

    # One server encrypts the same reasoning anew for its last event; there, what the item's own end said is repeated.
    for item, last in zip(final(out)["output"], final(found)["output"], strict=True):
        last.update({"encrypted_content": item["encrypted_content"]} if "encrypted_content" in last else {})
    assert [event["type"] for event in out] == [event["type"] for event in found]
    assert_holds(out, found)


@needs_recordings
@pytest.mark.parametrize("spoiling", SPOILINGS)
def test_recorded_streams_spoiled_are_accepted_by_the_openai_sdk(spoiling: str) -> None:
    for recorded in STREAMS:
        found, repaired = recorded_events(recorded), reader()
        out = events(repaired.feed(wire(SPOILINGS[spoiling](found))) + repaired.close())
        assert accepted_by_openai(out) is not None
        assert sealed_off(essence(final(out))) == sealed_off(essence(final(found)))


def sealed_off(output: list[Json]) -> list[Json]:
    return [{name: item[name] for name in item if name != "encrypted_content"} for item in output]


@needs_recordings
def test_a_recorded_reply_keeps_every_member() -> None:
    for recorded in WHOLE:
        if recorded.get("object") == "response":
            repaired = reader(stream=False)
            repaired.whole(json.dumps(recorded).encode())
            found = json.loads(repaired.final() or b"")
            validate_type(type_=Response, value=found)
            assert_holds(found, recorded)


# Rules of its own...


def said(*found: Json) -> list[Json]:
    return [*found]


TEXT: Json = {"type": "response.output_text.delta", "delta": "Hi"}


def test_text_alone_and_done_are_a_whole_response() -> None:
    out = normalized(wire(said(TEXT)))

    assert [event["type"] for event in out] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final(out)["output"][0]["content"][0]["text"] == "Hi"
    open_responses.ResponseResource.model_validate(final(out))


@pytest.mark.parametrize("found", [said(TEXT), proper()[:-1], []], ids=["text", "all items whole", "nothing"])
def test_a_stream_that_merely_closes_was_cut_however_whole_it_looks(found: list[Json]) -> None:
    out = normalized(wire(found, done=False))

    assert out[-1]["type"] == "response.failed"
    assert out[-2]["code"] == "upstream_stream_truncated"


def test_done_without_anything_is_a_failure() -> None:
    repaired = reader()
    repaired.feed(b"data: [DONE]\n\n")

    assert (repaired.terminal, repaired.meaningful, repaired.begun) == ("failed", False, False)


def test_a_response_without_a_type_ends_the_stream_by_its_status() -> None:
    response = {"object": "response", "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    out = normalized(unnamed(TEXT, response))

    assert out[-1]["type"] == "response.incomplete"
    assert final(out)["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final(out)["output"][0]["status"] == "incomplete"


def unnamed(*found: Json) -> bytes:
    return b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in found)


def test_a_type_may_stand_in_the_event_s_name_alone() -> None:
    data = b'event: response.output_text.delta\ndata: {"delta":"Hi"}\n\ndata: [DONE]\n\n'

    assert final(normalized(data))["output"][0]["content"][0]["text"] == "Hi"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("max_output_tokens", "max_output_tokens"),
        ("content_filter", "content_filter"),
        ("steered", "steered"),
        ("length", "max_output_tokens"),
        ("safety", "content_filter"),
        ("max_tool_calls", "max_output_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_why_a_response_is_incomplete_is_a_word_that_clients_know(given: str, expected: str, stream: bool) -> None:
    response = {
        "object": "response",
        "status": "incomplete",
        "output": [],
        "incomplete_details": {"reason": given, "a": 1},
    }
    repaired = reader(stream=stream)
    repaired.feed(unnamed(response)) if stream else repaired.whole(json.dumps(response).encode())

    found = json.loads(repaired.final() or b"")
    assert found["incomplete_details"] == {"reason": expected, "a": 1}
    validate_type(type_=Response, value=found)


def test_completed_with_the_status_incomplete_is_not_completed() -> None:
    end = {"type": "response.completed", "response": {"status": "incomplete"}}

    assert normalized(said(TEXT, end))[-1]["type"] == "response.incomplete"


def test_nothing_follows_the_terminal_event_but_done() -> None:
    out = normalized([*proper(), TEXT, *proper()])

    assert [event["type"] for event in out] == [event["type"] for event in proper()]


@pytest.mark.parametrize(
    ("given", "counts"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 2}, (5, 2, 7, 0, 0)),
        ({"prompt_tokens": 5, "total_tokens": 9, "prompt_tokens_details": {"cached_tokens": 3}}, (5, 4, 9, 3, 0)),
        ({"input_tokens": 5.0, "output_tokens": 2}, (5, 2, 7, 0, 0)),
        ({"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}, (5, 2, 7, 0, 1)),
        ({"input_tokens": "x", "output_tokens": None}, (0, 0, 0, 0, 0)),
    ],
)
def test_usage_is_ours_in_name_and_number(given: Json, counts: tuple[int, ...]) -> None:
    out = normalized(said(TEXT, {"type": "response.completed", "response": {"usage": given | {"cost": 1.5}}}))
    usage = final(out)["usage"]

    found = usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]
    assert (*found, usage["input_tokens_details"]["cached_tokens"]) == counts[:4]
    assert usage["output_tokens_details"]["reasoning_tokens"] == counts[4]
    assert usage["cost"] == 1.5
    assert not [name for name in usage if name.startswith(("prompt", "completion"))]


def test_members_of_the_request_are_repeated_where_the_server_is_silent() -> None:
    out = normalized(said(TEXT), temperature=0.3, tools=[{"type": "function", "name": "f"}], name="house")

    assert next(iter(final(out).items())) == ("provider", "house")
    assert (final(out)["temperature"], final(out)["tools"][0]["strict"]) == (0.3, None)


def test_unknown_events_and_items_survive_with_their_members() -> None:
    odd = {"type": "acme:thing", "id": "t_1", "payload": {"deep": [1, None]}, "status": "in_progress"}
    found: list[Json] = [
        {"type": "response.output_item.added", "item": odd},
        {"type": "acme:thing.moved", "item_id": "t_1", "output_index": 5, "way": None},
        {"type": "keepalive", "at": 3},
        {"type": "response.output_item.done", "item": odd | {"result": None}},
    ]
    repaired = reader()
    out = events(repaired.feed(wire(found)) + repaired.close())

    assert out[2]["item"] == odd
    assert {"item_id": "t_1", "output_index": 0, "way": None}.items() <= out[3].items()
    assert out[4] == {"type": "keepalive", "sequence_number": 4, "at": 3}
    assert final(out)["output"] == [odd | {"result": None, "status": "completed"}]


def test_a_final_text_that_goes_on_is_one_more_delta_and_one_that_differs_does_not_count() -> None:
    ends = [{"type": "response.output_text.done", "text": text} for text in ("Hi there", "Ho")]
    going_on, differing = (normalized(said(TEXT, end)) for end in ends)

    assert [event["delta"] for event in going_on if "delta" in event] == ["Hi", " there"]
    assert final(differing)["output"][0]["content"][0]["text"] == "Hi"


def test_items_that_share_an_id_are_told_apart() -> None:
    calls = [{"type": "function_call", "id": "fc", "call_id": f"c{n}", "name": "f", "arguments": "{}"} for n in (1, 2)]
    out = normalized([{"type": "response.output_item.done", "output_index": 0, "item": call} for call in calls])

    assert [item["call_id"] for item in final(out)["output"]] == ["c1", "c2"]
    assert len({item["id"] for item in final(out)["output"]}) == 2


def test_an_item_that_is_told_twice_is_told_once() -> None:
    found = proper()
    twice = [event for event in found for _ in range(2 if "output_item" in event["type"] else 1)]

    assert [event["type"] for event in normalized(twice)] == [event["type"] for event in found]


def test_arguments_sent_as_an_object_become_text() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}}
    out = normalized(said({"type": "response.output_item.done", "item": call}))

    assert final(out)["output"][0]["arguments"] == '{"a":1}'


def test_deltas_of_a_call_that_was_never_announced_wait_for_its_name() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": '{"a":1}'}
    delta = {"type": "response.function_call_arguments.delta", "item_id": "fc", "delta": '{"a":'}
    out = normalized(said(delta, {"type": "response.output_item.done", "item": call}))

    assert (final(out)["output"][0]["call_id"], final(out)["output"][0]["name"]) == ("c", "f")


def test_unannounced_items_without_an_index_are_told_apart_by_their_ids() -> None:
    found = [{"type": "response.output_text.delta", "item_id": name, "delta": name} for name in "abab"]
    texts = [item["content"][0]["text"] for item in final(normalized(found))["output"]]

    assert texts == ["aa", "bb"]


def test_the_last_event_makes_good_what_the_end_of_an_item_left_out() -> None:
    short = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]}
    full = short | {"content": [{"type": "output_text", "text": "Hi", "annotations": [{"type": "x"}]}], "phase": "p"}
    repaired = reader()
    end = {"type": "response.completed", "response": {"output": [full]}}
    out = events(repaired.feed(wire([{"type": "response.output_item.done", "item": short}, end])) + repaired.close())

    assert final(out)["output"][0]["content"][0]["annotations"] == [{"type": "x"}]
    assert final(out)["output"][0]["phase"] == "p"


# Whose event it is...


def added(index: int | None, item: Json) -> Json:
    place = {} if index is None else {"output_index": index}
    return {"type": "response.output_item.added", **place, "item": item}


def ended(index: int | None, item: Json) -> Json:
    return added(index, item) | {"type": "response.output_item.done"}


def call(name: str, arguments: str = "", *, call_id: str | None = "c", id: str | None = "fc") -> Json:
    names = {"id": id, "call_id": call_id}
    item: Json = {"type": "function_call", "name": name, "arguments": arguments}
    return item | {name: value for name, value in names.items() if value is not None}


def more(text: str, **place: Any) -> Json:
    return {"type": "response.function_call_arguments.delta", "delta": text, **place}


def calls_of(found: list[Json]) -> list[tuple[str, str]]:
    return [(item["call_id"], item["arguments"]) for item in final(found)["output"]]


def test_the_first_call_id_of_a_call_is_the_one() -> None:
    last = {"type": "response.completed", "response": {"output": [call("f", "{}", call_id="c3", id="fc3")]}}
    out = normalized([added(0, call("f", call_id="c1")), ended(0, call("f", "{}", call_id="c2", id="fc2")), last])

    assert calls_of(out) == [("c1", "{}")]


def test_a_call_is_announced_when_its_call_id_is_known() -> None:
    begun = call("f", call_id=None)
    out = normalized([added(0, begun), more('{"a":', output_index=0), ended(0, call("f", '{"a":1}', call_id="c1"))])

    shown = [event["item"]["call_id"] for event in out if event["type"] == "response.output_item.added"]
    assert (shown, calls_of(out)) == (["c1"], [("c1", '{"a":1}')])
    assert [event["delta"] for event in out if "delta" in event] == ['{"a":', "1}"]


def test_a_call_that_never_gets_a_call_id_is_given_one_at_the_end() -> None:
    out = normalized([added(0, call("f", call_id=None)), more('{"a":1}', output_index=0)])

    ((call_id, arguments),) = calls_of(out)
    assert call_id.startswith("call_") and arguments == '{"a":1}'


def test_a_call_whose_item_never_comes_is_told_if_its_end_names_it() -> None:
    end = {"type": "response.function_call_arguments.done", "output_index": 0, "name": "f", "arguments": '{"a":1}'}
    out = normalized([more('{"a":', output_index=0), end])

    assert [(item["name"], item["arguments"]) for item in final(out)["output"]] == [("f", '{"a":1}')]


def test_calls_that_share_a_call_id_are_two_calls() -> None:
    out = normalized([ended(0, call("f", '{"a":1}', id="fc1")), ended(1, call("f", '{"a":2}', id="fc2"))])

    first, second = calls_of(out)
    assert (first[1], second[1]) == ('{"a":1}', '{"a":2}') and first[0] != second[0]
    assert accepted_by_openai(out) is not None


def test_an_index_that_is_repeated_gives_way_to_ids() -> None:
    found = [added(0, call("f", call_id="c1", id="fc1")), added(0, call("g", call_id="c2", id="fc2"))]
    found += [more(text, output_index=0, item_id=id) for text, id in (("1", "fc1"), ("2", "fc2"), ("3", "fc1"))]

    assert calls_of(normalized(found)) == [("c1", "13"), ("c2", "2")]


def test_events_whose_index_is_another_item_s_are_known_by_their_id() -> None:
    place = {"output_index": 0, "item_id": "msg"}
    found = [added(0, {"type": "reasoning", "id": "rs"}), added(1, {"type": "message", "id": "msg"})]
    out = normalized([*found, TEXT | place, TEXT | place])

    assert [item["type"] for item in final(out)["output"]] == ["reasoning", "message"]
    assert final(out)["output"][1]["content"][0]["text"] == "HiHi"


def test_ids_that_rotate_without_an_index_are_those_of_the_open_item() -> None:
    found = [added(None, {"type": "message", "id": "a"}), *(TEXT | {"item_id": id} for id in "xyz")]
    out = normalized([*found, ended(None, {"type": "message", "id": "q", "content": "HiHiHi"})])

    assert [item["content"][0]["text"] for item in final(out)["output"]] == ["HiHiHi"]


MESSAGES = [{"type": "message", "id": name} for name in ("a", "b", "c")]


def last(*output: Json) -> Json:
    """The end of a stream, with a final object."""
    return {"type": "response.completed", "response": {"output": [*output]}}


def said_as(id: str, text: str) -> Json:
    return {"type": "message", "id": id, "content": text}


def texts(found: list[Json]) -> list[str]:
    """What the messages say, and that the stream is one of the grammar."""
    output = final(normalized(found))["output"]
    return ["".join(part["text"] for part in item["content"]) for item in output]


def says(text: str, **place: Any) -> Json:
    return TEXT | {"delta": text, **place}


STORIES: dict[str, tuple[list[Json], list[str]]] = {
    "an event without an index that comes behind its item's end is late": (
        [added(None, MESSAGES[0]), ended(None, MESSAGES[0] | {"content": "A"}), says("A", item_id="a")],
        ["A"],
    ),
    "an event with an index that comes behind its item's end is late": (
        [added(0, MESSAGES[0]), ended(0, MESSAGES[0] | {"content": "A"}), says("A", output_index=0)],
        ["A"],
    ),
    "an end that comes again is none, whatever it is called": (
        [added(0, MESSAGES[0]), *(ended(0, {"type": "message", "id": name, "content": "A"}) for name in "axy")],
        ["A"],
    ),
    "an end that comes again without an index is none": (
        [added(None, MESSAGES[0]), *[ended(None, MESSAGES[0] | {"content": "A"})] * 2],
        ["A"],
    ),
    "another text under an index that has ended is another item": (
        [ended(0, MESSAGES[0] | {"content": "A"}), ended(0, MESSAGES[1] | {"content": "B"})],
        ["A", "B"],
    ),
    "an id that two items share is overruled by the index": (
        [*(added(n, MESSAGES[0]) for n in (0, 1)), *(says(t, output_index=n, item_id="a") for n, t in enumerate("AB"))],
        ["A", "B"],
    ),
    "a fresh index is another item, though its id is shared": (
        [*(added(n, MESSAGES[0]) for n in (0, 1)), says("A", output_index=1), says("C", output_index=2, item_id="a")],
        ["", "A", "C"],
    ),
    "an index that items did not have when they were announced is theirs in order": (
        [*(added(None, {"type": "message"}) for _ in "AB"), *(says(t, output_index=n) for n, t in enumerate("AB"))],
        ["A", "B"],
    ),
    "an index stays with the item that it was first said of": (
        [
            *(added(None, {"type": "message"}) for _ in "AB"),
            *(says(text, output_index=index) for index, text in ((0, "A"), (1, "B"), (0, "a"))),
        ],
        ["Aa", "B"],
    ),
    "an id that nobody has announced stays with the item that it was first said of": (
        [*(added(None, one) for one in MESSAGES[:2]), *(says(text, item_id=id) for id, text in ("xA", "yB", "xa"))],
        ["Aa", "B"],
    ),
    "where ids are as announced, one that nobody has announced is another item's": (
        [added(None, MESSAGES[0]), says("A", item_id="a"), says("B", item_id="b"), added(None, MESSAGES[1])],
        ["A", "B"],
    ),
    "an item that is announced again is one": ([*[added(0, MESSAGES[0])] * 2, says("A", output_index=0)], ["A"]),
    "an item that is announced again under another id is one": (
        [*(added(0, one) for one in MESSAGES[:2]), says("A", output_index=0)],
        ["A"],
    ),
    "items that overlap under one index are told apart by their ids": (
        [
            added(0, MESSAGES[0]),
            ended(0, MESSAGES[0]),
            *(added(0, one) for one in MESSAGES[1:]),
            *(says(text, output_index=0, item_id=id) for id, text in ("cC", "bB", "cc")),
        ],
        ["", "B", "Cc"],
    ),
    "an end under an index that nobody knows is that of the item of its id": (
        [added(0, MESSAGES[0]), says("A", output_index=0), ended(7, MESSAGES[0] | {"content": "AB"})],
        ["AB"],
    ),
    "an end under an index and an id that nobody knows is another item's": (
        [added(0, MESSAGES[0]), ended(7, said_as("z", "Z"))],
        ["", "Z"],
    ),
    "the final object may leave items out and call the others anew": (
        [
            *(added(n, one) for n, one in enumerate(MESSAGES[:2])),
            *(says(text, output_index=n) for n, text in enumerate("AB")),
            last(said_as("z", "B")),
        ],
        ["A", "B"],
    ),
    "the final object tells of an item by its place where it says more": (
        [
            *(added(n, one) for n, one in enumerate(MESSAGES[:2])),
            says("B", output_index=1),
            last(said_as("x", "A"), said_as("y", "BC")),
        ],
        ["A", "BC"],
    ),
    "an id that two items share says nothing in the final object": (
        [
            *(added(n, MESSAGES[0]) for n in (0, 1)),
            *(says(text, output_index=n) for n, text in enumerate("AB")),
            last(said_as("a", "AA"), said_as("q", "BB")),
        ],
        ["AA", "BB"],
    ),
    "an id that the final object gives to two items says nothing": (
        [
            *(added(n, one) for n, one in enumerate(reversed(MESSAGES[:2]))),
            *(says(text, output_index=n) for n, text in enumerate("AB")),
            last(said_as("a", "AA"), said_as("a", "BB")),
        ],
        ["AA", "BB"],
    ),
}


@pytest.mark.parametrize("story", STORIES)
def test_who_an_event_speaks_of(story: str) -> None:
    found, expected = STORIES[story]

    assert texts(found) == expected


CALLS: dict[str, tuple[list[Json], list[tuple[str, str]]]] = {
    "a call id says more than an id": (
        [
            *(added(None, call("f", call_id=call_id, id=id)) for call_id, id in (("c1", "x"), ("c2", "y"))),
            *(ended(None, call("f", text, call_id=id, id="x")) for id, text in (("c2", "2"), ("c1", "1"))),
        ],
        [("c1", "1"), ("c2", "2")],
    ),
    "a call id is known under an id that nobody knows": (
        [
            *(added(None, call("f", call_id=call_id, id=id)) for call_id, id in (("c1", "x"), ("c2", "y"))),
            *(ended(None, call("f", text, call_id=id, id="z")) for id, text in (("c2", "2"), ("c1", "1"))),
        ],
        [("c1", "1"), ("c2", "2")],
    ),
    "an end of another call id under a fresh index is another call's, though its id is shared": (
        [added(0, call("f", call_id="c1", id="x")), ended(5, call("f", "2", call_id="c2", id="x"))],
        [("c1", "{}"), ("c2", "2")],
    ),
}


@pytest.mark.parametrize("story", CALLS)
def test_whose_call_an_end_is(story: str) -> None:
    found, expected = CALLS[story]

    assert calls_of(normalized(found)) == expected


def test_what_the_final_object_adds_is_added_to_the_item_that_says_the_same() -> None:
    told = [
        *(added(n, one) for n, one in enumerate(MESSAGES[:2])),
        *(says(t, output_index=n) for n, t in enumerate("AB")),
    ]
    repaired = reader()
    out = events(repaired.feed(wire([*told, last(said_as("z", "B") | {"phase": "final_answer"})])))

    assert [item.get("phase") for item in final(out)["output"]] == [None, "final_answer"]


def test_the_first_name_of_a_call_is_the_one() -> None:
    out = normalized([added(0, call("f")), ended(0, call("g", "{}"))])

    assert [item["name"] for item in final(out)["output"]] == ["f"]


def test_text_that_comes_behind_its_end_is_not_told_twice() -> None:
    end = {"type": "response.output_text.done", "text": "Hi there", "content_index": 0}
    late = [says(delta, content_index=0) for delta in (" th", "ere")]

    assert texts([TEXT | {"content_index": 0}, end, *late]) == ["Hi there"]


def test_parts_that_share_an_index_are_told_apart_by_order() -> None:
    part = {"type": "response.content_part.added", "output_index": 0, "content_index": 0}
    place = {"output_index": 0, "content_index": 0}
    end = {"type": "response.content_part.done", **place, "part": {"type": "output_text", "text": "A"}}
    content = [{"type": "output_text", "text": text} for text in ("A", "BC")]
    found = [part, says("A", **place), end, part, says("B", **place), ended(0, {"type": "message", "content": content})]

    assert [part["text"] for part in final(normalized(found))["output"][0]["content"]] == ["A", "BC"]


def test_an_item_whose_parts_came_in_another_order_may_end_twice() -> None:
    part = {"type": "response.content_part.done", "output_index": 0, "content_index": 1}
    content = [{"type": "output_text", "text": text} for text in "AB"]
    ends = [ended(0, {"type": "message", "id": id, "content": content}) for id in "xy"]

    assert texts([part | {"part": content[1]}, *ends]) == ["BA"]


def test_citations_that_only_the_final_object_has_are_in_the_output() -> None:
    cited = [{"type": "url_citation", "url": url} for url in "uv"]
    part = {"type": "output_text", "text": "A", "annotations": cited}
    repaired = reader()
    first = ended(0, {"type": "message", "id": "a", "content": [part | {"annotations": cited[:1]}]})
    out = events(repaired.feed(wire([first, last({"type": "message", "id": "a", "content": [part]})])))

    assert final(out)["output"][0]["content"][0]["annotations"] == cited


def test_text_that_goes_on_behind_an_end_that_did_not_bring_it_is_another_part() -> None:
    end = {"type": "response.output_text.done", "text": "Hi", "content_index": 0}
    out = normalized([TEXT | {"content_index": 0}, end, TEXT | {"delta": "!", "content_index": 0}])

    assert [part["text"] for part in final(out)["output"][0]["content"]] == ["Hi", "!"]


def test_text_that_only_the_item_s_end_brings_is_told_though_its_part_has_ended() -> None:
    part = {"type": "response.content_part.done", "output_index": 0, "part": {"type": "output_text", "text": ""}}
    item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "Hi"}]}
    out = normalized([added(0, item | {"content": []}), part, ended(0, item)])

    assert [event["delta"] for event in out if "delta" in event] == ["Hi"]
    assert accepted_by_openai(out).output_text == "Hi"


@pytest.mark.parametrize("at", ["behind its text", "behind its part", "behind its item"])
def test_a_citation_that_comes_late_is_kept(at: str) -> None:
    place = {"output_index": 0, "content_index": 0}
    ends = [
        {"type": "response.output_text.done", **place, "text": "Hi"},
        {"type": "response.content_part.done", **place, "part": {"type": "output_text", "text": "Hi"}},
        ended(0, {"type": "message", "id": "m", "content": "Hi"}),
    ]
    citation = {"type": "response.output_text.annotation.added", **place, "annotation": {"type": "url_citation"}}
    cut = 1 + ["behind its text", "behind its part", "behind its item"].index(at)
    repaired = reader()
    out = events(repaired.feed(wire([TEXT | place, *ends[:cut], citation, *ends[cut:]])))

    assert final(out)["output"][0]["content"][0]["annotations"] == [{"type": "url_citation"}]


def test_a_citation_of_an_item_that_has_ended_without_text_opens_nothing() -> None:
    citation = {"type": "response.output_text.annotation.added", "output_index": 0, "annotation": {}}
    out = normalized([added(0, {"type": "message"}), ended(0, {"type": "message"}), citation])

    assert final(out)["output"][0]["content"] == []


def test_an_item_that_ends_again_with_more_adds_to_the_output_alone() -> None:
    item: Json = {"type": "web_search_call", "id": "ws"}
    repaired = reader()
    again = ended(0, item | {"action": {"type": "search"}})
    out = events(repaired.feed(wire([added(0, item), ended(0, item), again])))

    assert [event["type"] for event in out].count("response.output_item.done") == 1
    assert [item["action"] for item in final(out)["output"]] == [{"type": "search"}]


def test_arguments_that_only_their_own_end_brought_are_not_lost_to_an_empty_item() -> None:
    end = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'}

    assert calls_of(normalized([end, ended(0, call("f", ""))])) == [("c", '{"a":1}')]


# Every event...


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_stream_of_every_item_passes_event_for_event() -> None:
    from .test_lenient_mutations import everything

    found = everything()
    extra = [event | {"obfuscation": "xyz", "house": {"a": [None]}} for event in found]
    out = normalized(extra)

    assert_holds(out, extra)
    assert [event["type"] for event in out] == [event["type"] for event in found]


OTHER_EVENTS: list[Json] = [
    {"type": "response.audio.delta", "delta": "UklGRg=="},
    {"type": "response.audio.done"},
    {"type": "response.audio.transcript.delta", "delta": "Hi"},
    {"type": "response.audio.transcript.done"},
    {"type": "response.compaction.compacting", "output_index": 1, "item_id": "cmp"},
    {"type": "response.shell_call_command.added", "output_index": 0, "command_index": 0, "command": ""},
    {"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 0, "delta": "ls"},
    {"type": "response.shell_call_command.done", "output_index": 0, "command_index": 0, "command": "ls"},
    {"type": "response.shell_call_output_content.delta", "output_index": 0, "item_id": "s", "command_index": 0},
    {"type": "response.shell_call_output_content.done", "output_index": 0, "item_id": "s", "command_index": 0},
]


@pytest.mark.parametrize("event", OTHER_EVENTS, ids=lambda event: event["type"])
def test_events_that_bring_no_item_pass_at_the_place_of_theirs(event: Json) -> None:
    items = [{"type": "shell_call", "id": "s", "call_id": "c"}, {"type": "compaction", "id": "cmp"}]
    repaired = reader()
    out = events(repaired.feed(wire([*map(added, range(2), items), event | {"house": 1}])))

    (found,) = [one for one in out if one["type"] == event["type"]]
    assert_holds(found, event | {"house": 1})


def test_the_name_that_open_responses_gives_to_reasoning_is_written_as_openai_s() -> None:
    out = normalized([{"type": "response.reasoning.delta", "delta": "Hm."}])

    assert [event["type"] for event in out if "delta" in event] == ["response.reasoning_text.delta"]
    assert final(out)["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]


def test_an_event_that_we_do_not_know_does_not_give_the_response_an_id() -> None:
    repaired = reader()
    out = events(repaired.feed(wire([{"type": "keepalive"}, *proper()])))

    assert [event["type"] for event in out[:3]] == ["response.created", "keepalive", "response.in_progress"]
    assert final(out)["id"] == proper()[0]["response"]["id"]


MEMBERS = (
    "type sequence_number item response output_index item_id delta part content_index summary_index error code message "
    "object status id output text logprobs annotation annotation_index arguments input name refusal self event given "
    "number kind phase args kwargs"
).split()  # fmt: skip


@pytest.mark.parametrize("member", MEMBERS)
def test_an_event_that_is_named_like_a_member_passes_as_any_other(member: str) -> None:
    if member in ("error", "message"):  # which a name alone makes a failure, and what every event without one is called
        return
    body = {member: {"a": 1}} if member != "object" else {}
    for data in (
        f"event: {member}\ndata: {json.dumps(body)}\n\n",
        f"data: {json.dumps(body | {'type': member})}\n\n",
        f"event: {member}\ndata: {json.dumps(body | {'type': member, 'item': {'type': member}, 'response': {}})}\n\n",
    ):
        repaired = reader()
        head, tail = wire(proper()[:4], done=False), wire(proper()[4:])
        out = events(repaired.feed(head + data.encode() + tail))

        assert out.pop(4)["type"] == member
        assert [event["type"] for event in out] == [event["type"] for event in proper()]
        assert final(out)["output"] == final(proper())["output"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_is_named_like_another_s_confuses_nothing(member: str) -> None:
    from .test_lenient_mutations import everything

    found = [{member: "x", **event} if "error" != member else event for event in everything()]
    repaired = reader()
    out = events(repaired.feed(wire(found)))

    assert [event["type"] for event in out] == [event["type"] for event in everything()]
    assert in_order(final(out)["output"]) == in_order(final(everything())["output"])


def in_order(output: list[Json]) -> list[Json]:
    return [{name: item[name] for name in item if name != "id"} for item in output]


def test_a_type_that_would_break_the_line_is_refused() -> None:
    with pytest.raises(UpstreamProtocolError):
        reader().feed(wire(proper()[:2], done=False) + b'data: {"type":"a\\ndata: x"}\n\n')


def test_an_error_under_a_foreign_name_is_an_error() -> None:
    repaired = reader()
    repaired.feed(b'event: item\ndata: {"error":{"message":"No."}}\n\n')

    assert repaired.failure is not None and repaired.failure.message == "No."


# What it costs...


def steps(data: bytes) -> int:
    """How many lines of code are run to read a stream."""
    count = 0

    def seen(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return seen

    repaired, before = reader(), sys.gettrace()
    sys.settrace(seen)
    try:
        repaired.feed(data)
    finally:
        sys.settrace(before)
    return count


def many_deltas(count: int) -> list[Json]:
    return [added(None, {"type": "message", "id": "m"}), *(TEXT | {"item_id": f"r{n}"} for n in range(count))]


def many_items(count: int) -> list[Json]:
    return [ended(None, call("f", f"{n}", call_id=f"c{n}", id="fc")) for n in range(count)]


def many_open(count: int) -> list[Json]:
    opened = [added(0, call("f", call_id=f"c{n}", id=None)) for n in range(count)]
    return opened + [ended(0, call("f", f"{n}", call_id=f"d{n}", id=None)) for n in range(count)]


def many_parts(count: int) -> list[Json]:
    parts = [{"type": "output_text" if n % 2 else "refusal", "text": "", "refusal": ""} for n in range(count)]
    opened = [{"type": "response.content_part.added", "output_index": 0, "part": part} for part in parts]
    return [added(0, {"type": "message"}), *opened, ended(0, {"type": "message", "content": parts[::-1]})]


def many_ends(count: int) -> list[Json]:
    end = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "x" * count}
    return [end, *([TEXT | {"delta": "x", "output_index": 0, "content_index": 0}, end] * count)]


def only_at_the_end(count: int) -> list[Json]:
    return [{"type": "response.completed", "response": {"output": [item["item"] for item in many_items(count)]}}]


@pytest.mark.parametrize(
    "shape", [many_deltas, many_items, many_open, many_parts, many_ends, only_at_the_end], ids=lambda f: f.__name__
)
def test_twice_as_much_costs_twice_as_much(shape: Callable[[int], list[Json]]) -> None:
    once, twice = (steps(wire(shape(count))) for count in (600, 1200))

    assert twice < 2.2 * once


# Failures...


def test_done_behind_an_error_ends_the_response_as_failed() -> None:
    assert normalized(said(TEXT, {"type": "error", "message": "No."}))[-1]["type"] == "response.failed"


def test_an_error_is_told_at_once_in_both_forms_and_ends_with_the_server_s_failed_response() -> None:
    error = {"type": "error", "error": {"message": "No.", "code": "server_error"}}
    failed = {"type": "response.failed", "response": {"id": "resp_x", "error": {"message": "No.", "code": "x"}}}
    repaired = reader()
    repaired.feed(wire([proper()[0], TEXT], done=False))
    first = repaired.feed(wire([error], done=False))
    assert b'"error":{' in first and repaired.terminal is None

    out = events(first + repaired.feed(wire([failed])))
    assert [event["type"] for event in out] == ["error", "response.failed"]
    assert out[0]["message"] == out[0]["error"]["message"] == "No."
    assert final(out)["error"]["code"] == "x"
    assert final(out)["id"] == proper()[0]["response"]["id"]


def test_a_failed_response_without_an_error_event_gets_one() -> None:
    failed = {"type": "response.failed", "response": {"error": {"message": "No.", "code": "server_error"}}}
    out = normalized(said(TEXT, failed))

    assert [event["type"] for event in out[-2:]] == ["error", "response.failed"]
    assert final(out)["output"][0]["content"][0]["text"] == "Hi"


@pytest.mark.parametrize("data", [{"error": {"message": "No."}}, {"type": "error", "message": "No."}])
def test_an_error_before_anything_is_a_failure_of_the_attempt(data: Json) -> None:
    repaired = reader()
    repaired.feed(unnamed(data))

    assert repaired.failure is not None and repaired.failure.message == "No."
    assert (repaired.begun, repaired.meaningful) == (False, False)


def test_refused_credentials_are_not_quoted() -> None:
    error = {"type": "error", "error": {"message": "Bad key sk-canary-1", "code": "invalid_api_key"}}
    failed = {"type": "response.failed", "response": {"error": {"message": "Bad key sk-canary-1", "code": "x"}}}

    assert "canary" not in json.dumps(normalized(said(error, failed)))


def test_an_event_that_is_named_error_is_one_whatever_it_calls_itself() -> None:
    repaired = reader()
    repaired.feed(b'event: error\ndata: {"type":"server_error","message":"No."}\n\n')

    assert repaired.failure is not None and repaired.failure.message == "No."


@pytest.mark.parametrize("how", ["cut", "failed"])
def test_a_stream_that_breaks_off_ends_with_all_that_was_said_of_it(how: str) -> None:
    begun = {"type": "response.in_progress", "response": {"usage": {"input_tokens": 3}, "service_tier": "flex"}}
    whole = said_as("a", "Hi") | {"phase": "commentary"}
    repaired = reader()
    said = [begun, TEXT | {"output_index": 1}, added(1, MESSAGES[1] | {"phase": "p"}), added(0, whole)]
    out = repaired.feed(wire(said, done=False))
    found = events(out + (repaired.close() if how == "cut" else repaired.fail(UpstreamTimeout("It stopped."))))

    assert (final(found)["usage"]["input_tokens"], final(found)["service_tier"]) == (3, "flex")
    assert [(item["content"][0]["text"], item["phase"]) for item in final(found)["output"]] == [
        ("Hi", "p"),
        ("Hi", "commentary"),
    ]
    assert [event["response"]["usage"] for event in found[:2]] == [None, None]


def test_a_failure_of_ours_ends_the_stream_in_band_with_what_came() -> None:
    repaired = reader()
    out = repaired.feed(wire(said(TEXT), done=False)) + repaired.fail(UpstreamTimeout("It stopped."))

    assert final(events(out))["output"][0]["content"][0]["text"] == "Hi"
    assert repaired.fail(UpstreamTimeout("Again.")) == repaired.close() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"data: nonsense\n\n",
        b"data: []\n\n",
        b'data: {"delta":"x"}\n\n',
        b'data: {"type":"response.output_text.delta","delta":5}\n\n',
    ],
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        reader().feed(data)


def test_an_event_over_the_limit_is_refused() -> None:
    repaired = LenientReader(name=None, model="m", limits=Limits(event=10_000), echo={})
    with pytest.raises(UpstreamProtocolError):
        for _ in range(20):
            repaired.feed(b"data: " + b"x" * 1000)


# Streams that are sent again...


@pytest.mark.parametrize("after", range(-1, 20))
def test_a_stream_that_is_sent_again_goes_on_behind_the_number_that_the_client_has(after: int) -> None:
    created = {"type": "response.created", "response": {"id": "resp_1", "created_at": 7}}
    sloppy = said(created, TEXT, TEXT, {"type": "response.completed"})
    first = normalized(sloppy)
    again = reader(after=after)
    out = events(again.feed(wire(sloppy)) + again.close())

    assert [json.dumps(event) for event in out] == [json.dumps(e) for e in first if e["sequence_number"] > after]
    assert again.terminal == "completed"


@pytest.mark.parametrize("after", [-1, 0, 3, 100])
def test_a_stream_that_is_sent_again_and_breaks_off_tells_so_behind_the_number_that_the_client_has(after: int) -> None:
    again = reader(after=after)
    out = events(again.feed(wire(said(TEXT), done=False)) + again.close())

    assert [event["type"] for event in out][-2:] == ["error", "response.failed"]
    assert min(event["sequence_number"] for event in out) == after + 1


def test_a_failure_that_the_client_has_is_not_told_again() -> None:
    failed = {"type": "response.failed", "response": {"id": "resp_1", "error": {"message": "No.", "code": "x"}}}
    again = reader(after=normalized(said(TEXT, failed))[-1]["sequence_number"])

    assert again.feed(wire(said(TEXT, failed))) == b"data: [DONE]\n\n"
    assert again.terminal == "failed"


WRONG: tuple[Any, ...] = (None, 5, "", "x", [], {}, [None], {"type": "x"}, True, -1, 1.5)


def damaged(value: Any, chance: random.Random) -> Any:
    """*value* with one of its inner values replaced by one of another type."""
    value = json.loads(json.dumps(value))
    inner = value
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = chance.choice(keys)
        if not isinstance(inner[key], dict | list) or not inner[key] or chance.random() < 0.3:
            inner[key] = chance.choice(WRONG)
            return value
        inner = inner[key]


@pytest.mark.parametrize("seed", range(300))
def test_a_member_of_the_wrong_type_is_repaired_or_refused_and_never_breaks_the_reader(seed: int) -> None:
    chance, repaired = random.Random(seed), reader()
    found = proper()
    at = chance.randrange(len(found))
    found[at] = damaged(found[at], chance)
    try:
        out = repaired.feed(unnamed(*found)) + repaired.close()
    except UpstreamProtocolError:
        return
    known = {event["type"] for event in proper()} | {"error", "response.failed", "response.incomplete"}
    if {event["type"] for event in events(out)} <= known:
        with suppress(ValidationError):  # what stands inside a list or an unknown member goes on as it came
            Grammar().read(events(out))


# Whole replies...


def whole(response: Json, **options: Any) -> Json:
    repaired = reader(stream=False, **options)
    repaired.whole(json.dumps(response).encode())
    found: Json = json.loads(repaired.final() or b"")
    return found


def test_a_bare_reply_gets_every_member_that_is_required() -> None:
    item = {"type": "message", "content": "Hi"}
    found = whole({"output": [item], "created_at": 7.9, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    open_responses.ResponseResource.model_validate(found)
    validate_type(type_=Response, value=found)
    assert (found["status"], found["created_at"], found["usage"]["total_tokens"]) == ("completed", 7, 3)
    assert found["output"][0]["content"][0]["text"] == "Hi"


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed", "incomplete", "completed"])
def test_a_reply_keeps_its_status(status: str) -> None:
    assert whole({"object": "response", "id": "resp_1", "status": status, "output": []})["status"] == status


def test_the_id_that_a_response_has_to_have_is_not_the_upstream_s() -> None:
    repaired = LenientReader(name=None, model="m", limits=Limits(), echo={}, response_id="resp_ours")
    out = events(repaired.feed(wire(proper())))

    assert {event["response"]["id"] for event in out if "response" in event} == {"resp_ours"}


def test_a_reply_that_comes_whole_and_has_not_ended_cannot_be_streamed() -> None:
    repaired = reader()
    out = events(repaired.whole(b'{"object":"response","id":"resp_1","status":"queued"}'))

    assert [event["type"] for event in out][:2] == ["response.created", "response.queued"]
    assert (out[-1]["type"], out[-1]["response"]["id"]) == ("response.failed", "resp_1")


def test_what_is_no_response_is_refused() -> None:
    with pytest.raises(UpstreamProtocolError):
        whole({"choices": []})


# Names of events, and words in their data that could be taken for one...

REFUSAL = {"message": "No credit.", "code": "insufficient_quota"}


@pytest.mark.parametrize(
    "data",
    [{"type": "invalid_request_error", **REFUSAL}, {"type": "message", "error": REFUSAL}, {"error": REFUSAL}, REFUSAL],
)
def test_an_event_named_error_is_one_whatever_type_its_data_has_of_its_own(data: Json) -> None:
    begun = wire(proper()[:1], done=False)
    out = normalized(begun + f"event: error\ndata: {json.dumps(data)}\n\n".encode())

    assert [event["type"] for event in out[-2:]] == ["error", "response.failed"]
    assert out[-2]["message"] == "No credit."


def test_an_event_of_this_api_is_itself_also_under_the_name_error() -> None:
    found = proper()

    assert normalized(wire(found).replace(b"event: response.output_text.delta", b"event: error")) == normalized(found)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_a_type_cannot_write_an_event_of_its_own(end: str) -> None:
    forged = f'x{end}data: {{"type":"response.completed"}}{end}{end}event: y'
    repaired = reader()
    repaired.feed(wire(proper()[:1], done=False))

    with pytest.raises(UpstreamProtocolError):
        repaired.feed(wire([{"type": forged}], named=False, done=False))
