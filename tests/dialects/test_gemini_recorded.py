"""Every recorded exchange with Gemini as upstream; a reader that shares nothing with the dialect is the judge."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from google.genai import types
from openai._models import construct_type_unchecked
from openai._types import omit
from openai.lib.streaming.responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from openresponses_types import types as open_responses
from pydantic import TypeAdapter

from gomodel_asgi.dialects.base import Call, Outgoing
from gomodel_asgi.dialects.gemini import GeminiDialect
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.sse import Decoder

from ..support.gemini_reader import WHY_SKIPPED, Reading, chunks, exchanges, read, unary

Json = dict[str, Any]

EXCHANGES = exchanges("gemini")
STREAMS = [exchange for exchange in EXCHANGES if isinstance(exchange["reply"], str)]
CALLING = [exchange for exchange in EXCHANGES if read(chunks(exchange)).calls]
REQUESTS = exchanges("responses")

if not EXCHANGES:
    pytest.skip(WHY_SKIPPED, allow_module_level=True)

each_exchange = pytest.mark.parametrize("exchange", EXCHANGES, ids=range(len(EXCHANGES)))
each_stream = pytest.mark.parametrize("exchange", STREAMS, ids=range(len(STREAMS)))

FINISHES = {"STOP": ("completed", None), "MAX_TOKENS": ("incomplete", {"reason": "max_output_tokens"})}
OPEN_ITEMS = ("message", "reasoning", "function_call")
OPEN_EVENTS: TypeAdapter[Any] = TypeAdapter(
    open_responses.ResponseCompletedStreamingEvent
    | open_responses.ResponseContentPartAddedStreamingEvent
    | open_responses.ResponseContentPartDoneStreamingEvent
    | open_responses.ResponseCreatedStreamingEvent
    | open_responses.ResponseFunctionCallArgumentsDeltaStreamingEvent
    | open_responses.ResponseFunctionCallArgumentsDoneStreamingEvent
    | open_responses.ResponseInProgressStreamingEvent
    | open_responses.ResponseIncompleteStreamingEvent
    | open_responses.ResponseOutputItemAddedStreamingEvent
    | open_responses.ResponseOutputItemDoneStreamingEvent
    | open_responses.ResponseOutputTextAnnotationAddedStreamingEvent
    | open_responses.ResponseOutputTextDeltaStreamingEvent
    | open_responses.ResponseOutputTextDoneStreamingEvent
    | open_responses.ResponseReasoningSummaryDeltaStreamingEvent
    | open_responses.ResponseReasoningSummaryDoneStreamingEvent
    | open_responses.ResponseReasoningSummaryPartAddedStreamingEvent
    | open_responses.ResponseReasoningSummaryPartDoneStreamingEvent
)


def model_of(exchange: Json) -> str:
    return str(exchange["path"].rpartition("/")[2].partition(":")[0])


def a_call(exchange: Json, *, stream: bool, **members: Any) -> Call:
    body = {"model": "m", "input": "Hello", **members}
    return Call("create", body, model_of(exchange), stream, "google", "gemini")


def an_emitter(*, stream: bool = True) -> Emitter:
    return Emitter(response_id="resp_1", created_at=1, model="m", echo={"model": "m"}, stream=stream)


def translate(exchange: Json, objects: list[Json], *, stream: bool) -> tuple[Emitter, bytes]:
    """*objects* as the reply; the emitter, and the events."""
    emitter = an_emitter(stream=stream)
    translator = GeminiDialect().translator(a_call(exchange, stream=stream), emitter)
    for item in objects:
        translator.feed("", json.dumps(item).encode())
    translator.close()
    return emitter, emitter.take()


def events_of(data: bytes) -> list[Json]:
    frames = [frame.partition(b"data: ")[2] for frame in data.split(b"\n\n") if frame]
    assert frames.pop() == b"[DONE]"
    return [json.loads(frame) for frame in frames]


def seen(response: Json) -> Reading:
    """What a client reads in a response object."""
    items = response["output"]
    usage = response["usage"]
    details = (usage["input_tokens_details"], usage["output_tokens_details"])
    return Reading(
        text="".join(part["text"] for item in items if item["type"] == "message" for part in item["content"]),
        reasoning="".join(part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"]),
        calls=[(item["name"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"],
        images=[item["result"] for item in items if item["type"] == "image_generation_call"],
        usage=(
            usage["input_tokens"],
            usage["output_tokens"],
            details[0]["cached_tokens"],
            details[1]["reasoning_tokens"],
        ),
    )


@each_exchange
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
def test_the_response_says_what_the_recording_says(exchange: Json, stream: bool) -> None:
    objects = chunks(exchange) if stream else [unary(chunks(exchange))]
    expected = read(chunks(exchange))

    emitter, _ = translate(exchange, objects, stream=stream)

    found = seen(emitter.response)
    assert (found.text, found.reasoning) == (expected.text, expected.reasoning)
    assert found.calls == expected.calls
    assert found.images == expected.images
    assert found.usage == expected.usage
    assert (emitter.terminal, emitter.response["incomplete_details"]) == FINISHES[expected.finish]


@each_exchange
def test_streamed_and_unary_give_the_same_response_object(exchange: Json) -> None:
    streamed, _ = translate(exchange, chunks(exchange), stream=True)
    whole, _ = translate(exchange, [unary(chunks(exchange))], stream=False)

    assert streamed.response == whole.response


@each_exchange
def test_the_last_event_carries_the_response_that_unary_callers_get(exchange: Json) -> None:
    emitter, data = translate(exchange, chunks(exchange), stream=True)

    events = events_of(data)
    assert events[-1]["response"] == emitter.response
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@each_exchange
def test_the_openai_sdk_accepts_the_events(exchange: Json) -> None:
    emitter, data = translate(exchange, chunks(exchange), stream=True)

    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events_of(data):
        state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]

    completed = state._completed_response
    assert (completed is not None) == (emitter.terminal == "completed")
    if completed is not None:
        assert completed.output_text == read(chunks(exchange)).text


@each_exchange
def test_open_responses_knows_the_events_as_far_as_it_has_the_items(exchange: Json) -> None:
    emitter, data = translate(exchange, chunks(exchange), stream=True)

    foreign = [item["id"] for item in emitter.response["output"] if item["type"] not in OPEN_ITEMS]
    for event in events_of(data):
        about = event.get("item_id") or event.get("item", {}).get("id")
        if about not in foreign and not (foreign and "response" in event):
            OPEN_EVENTS.validate_python(event)
    if not foreign:
        open_responses.ResponseResource.model_validate(emitter.response)


@each_stream
def test_a_stream_cut_at_every_byte_gives_the_same_events(exchange: Json) -> None:
    data = exchange["reply"].encode()
    _, expected = translate(exchange, chunks(exchange), stream=True)

    for size in (1, 7, len(data)):
        assert cut(exchange, [data[at : at + size] for at in range(0, len(data), size)]) == expected
    for at in range(1, len(data), max(1, len(data) // 200)):
        assert cut(exchange, [data[:at], data[at:]]) == expected


def cut(exchange: Json, pieces: list[bytes]) -> bytes:
    emitter, decoder = an_emitter(), Decoder()
    translator = GeminiDialect().translator(a_call(exchange, stream=True), emitter)
    for piece in pieces:
        for event in decoder.feed(piece):
            translator.feed(event.name, event.data)
    translator.close()
    return emitter.take()


@each_stream
def test_text_leaves_with_the_chunk_that_brought_it(exchange: Json) -> None:
    emitter = an_emitter()
    translator = GeminiDialect().translator(a_call(exchange, stream=True), emitter)
    for item in chunks(exchange):
        text = read([item]).text
        translator.feed("", json.dumps(item).encode())
        frames = [json.loads(frame.partition(b"data: ")[2]) for frame in emitter.take().split(b"\n\n") if frame]
        deltas = [event["delta"] for event in frames if event["type"] == "response.output_text.delta"]
        assert "".join(deltas) == text


@each_exchange
def test_the_output_as_next_input_gives_the_model_its_own_parts_back(exchange: Json) -> None:
    emitter, _ = translate(exchange, chunks(exchange), stream=True)
    expected = read(chunks(exchange)).parts

    given: list[Json] = [{"role": "user", "content": "Hello"}, *emitter.response["output"]]
    given += [{"role": "user", "content": "Go on."}]
    contents = json.loads(GeminiDialect().request(a_call(exchange, stream=True, input=given)).body)["contents"]

    assert [part for content in contents if content["role"] == "model" for part in content["parts"]] == expected


@pytest.mark.parametrize("exchange", CALLING, ids=range(len(CALLING)))
def test_a_tool_loop_answers_each_call_by_its_name_and_id(exchange: Json) -> None:
    emitter, _ = translate(exchange, chunks(exchange), stream=False)
    calls = [item for item in emitter.response["output"] if item["type"] == "function_call"]
    answers = [{"type": "function_call_output", "call_id": call["call_id"], "output": call["name"]} for call in calls]
    given = [{"role": "user", "content": "Hello"}, *emitter.response["output"], *reversed(answers)]
    contents = json.loads(GeminiDialect().request(a_call(exchange, stream=False, input=given)).body)["contents"]

    asked = [part["functionCall"] for part in contents[-2]["parts"] if "functionCall" in part]
    told = [part["functionResponse"] for part in contents[-1]["parts"]]
    assert [(call["name"], call.get("id")) for call in asked] == [(answer["name"], answer.get("id")) for answer in told]


# Requests of real clients, as far as Google's own types can judge them...


def validated(outgoing: Outgoing) -> Json:
    """The body, if google-genai's types know every member of it."""
    body: Json = json.loads(outgoing.body)
    for content in body["contents"]:
        types.Content.model_validate(content)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    for tool in body.get("tools", []):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    types.GenerateContentConfig.model_validate(body.get("generationConfig", {}))
    known = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier"}
    assert body.keys() <= known
    return body


@pytest.mark.parametrize("exchange", REQUESTS, ids=range(len(REQUESTS)))
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-flash-preview"])
def test_requests_of_real_clients_are_translated_or_refused_by_name(exchange: Json, model: str) -> None:
    body = {name: value for name, value in exchange["request"].items() if name != "provider"}
    strict = Call("create", body, model, bool(body.get("stream")), "google", "gemini")
    try:
        outgoing = GeminiDialect().request(strict)
    except InvalidRequest as refusal:
        assert refusal.param
        if refusal.code == "unsupported_parameter":
            outgoing = GeminiDialect().request(dataclasses.replace(strict, unsupported="drop"))
            assert refusal.param in outgoing.dropped
            validated(outgoing)
    else:
        assert validated(outgoing)["contents"]
