"""A sloppy native upstream with `normalize=True` gives streams and responses as proper as our own emitter's."""

from __future__ import annotations

import json
import random
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

from gomodel_asgi.dialects.normalize import NormalizingReader
from gomodel_asgi.errors import UpstreamProtocolError, UpstreamTimeout
from gomodel_asgi.settings import Limits
from tests.dialects.chat_reader import exchanges
from tests.test_emitter import Grammar, emitter, events, story, tell

Json = dict[str, Any]
Spoiling = Callable[[list[Json]], list[Json]]

RECORDED = [exchange for exchange in exchanges("responses") if exchange["status"] == 200]
STREAMS = [exchange["reply"] for exchange in RECORDED if isinstance(exchange["reply"], str)]
WHOLE = [exchange["reply"] for exchange in RECORDED if isinstance(exchange["reply"], dict)]

needs_recordings = pytest.mark.skipif(not RECORDED, reason="../shared/recorded is not there")


def reader(*, stream: bool = True, name: str | None = None, after: int = -1, **echo: Any) -> NormalizingReader:
    return NormalizingReader(name=name, model="m", limits=Limits(), echo=echo, stream=stream, after=after)


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
    thought.seal("sealed")
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


def without(*names: str) -> Spoiling:
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
    "no sequence numbers": without("sequence_number"),
    "sequence numbers repeated": numbered_alike,
    "no item ids in events": without("item_id"),
    "no output index": without("output_index"),
    "output index repeated": indexed_alike,
    "no part index": without("content_index", "summary_index"),
    "no logprobs": without("logprobs"),
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


TEXT = {"type": "response.output_text.delta", "delta": "Hi"}


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
    repaired = NormalizingReader(name=None, model="m", limits=Limits(event=10_000), echo={})
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
