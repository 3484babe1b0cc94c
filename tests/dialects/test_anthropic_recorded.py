"""The Anthropic dialect against recorded exchanges of the real API."""

from __future__ import annotations

import functools
import json
from collections import Counter
from typing import Any, cast

import msgspec
import openresponses_types as openresponses
import pytest
from anthropic.types.beta.message_count_tokens_params import MessageCountTokensParams
from anthropic.types.beta.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from openai import omit
from openai._models import construct_type_unchecked, validate_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseOutputItem, ResponseStreamEvent
from pydantic import TypeAdapter

from gomodel_asgi.dialects.anthropic import AnthropicDialect
from gomodel_asgi.dialects.base import Call
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.event_writer import Emitter
from gomodel_asgi.wire.sse import Decoder

from ..support.anthropic_reader import Facts, Json, assembled, exchanges, facts_of, frames

RECORDED = exchanges()
ANSWERS = [exchange for exchange in RECORDED if exchange["status"] == 200]
STREAMS = [exchange for exchange in ANSWERS if isinstance(exchange["reply"], str)]
REQUESTS = exchanges("responses")
DIALECT = AnthropicDialect()

pytestmark = pytest.mark.skipif(not RECORDED, reason="../shared/recorded is not there")


def call_of(exchange: Json, *, stream: bool) -> Call:
    """A call that declares the tools of the recorded request, so that their names have a way back."""
    request = exchange["request"]
    tools = [
        {"type": "function", "name": tool["name"], "parameters": tool["input_schema"]}
        for tool in request.get("tools", [])
        if "input_schema" in tool
    ]
    body = {"model": request["model"], "input": "Hello.", "tools": tools}
    return Call("create", body, request["model"], stream, "claude", "anthropic")


def emitter_of(call: Call, *, stream: bool) -> Emitter:
    return Emitter(response_id="resp_0", created_at=7, model=call.model, echo=call.body, stamp="claude", stream=stream)


def unary(exchange: Json, message: Json) -> Emitter:
    call = call_of(exchange, stream=False)
    emitter = emitter_of(call, stream=False)
    translator = DIALECT.translator(call, emitter)
    translator.feed("", json.dumps(message).encode())
    translator.close()
    return emitter


def streamed(exchange: Json) -> tuple[Emitter, list[Json]]:
    """The emitter after the recorded stream, and the events that it wrote."""
    call = call_of(exchange, stream=True)
    emitter = emitter_of(call, stream=True)
    translator = DIALECT.translator(call, emitter)
    for event in Decoder().feed(exchange["reply"].encode()):
        translator.feed(event.name, event.data)
    translator.close()
    return emitter, events_of(emitter.take())


def events_of(data: bytes) -> list[Json]:
    return [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]


def facts_of_response(response: Json) -> Facts:
    """The same facts, read from a response object."""
    output, usage = response["output"], response["usage"]
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    read, written = usage["input_tokens_details"]["cached_tokens"], usage["input_tokens_details"]["cache_write_tokens"]
    thought = usage["output_tokens_details"]["reasoning_tokens"]
    return Facts(
        text="".join(part["text"] for part in parts),
        reasoning="".join(part["text"] for item in output for part in item.get("summary", ())),
        calls=[
            (item["call_id"], item["name"], json.loads(item["arguments"]))
            for item in output
            if item["type"] == "function_call"
        ],
        finish=(response["status"], (response["incomplete_details"] or {}).get("reason")),
        usage=(usage["input_tokens"], usage["output_tokens"], read, written, thought),
        cited=[note["url"] for part in parts for note in part["annotations"] if note["type"] == "url_citation"],
    )


def message_of(exchange: Json) -> Json:
    reply = exchange["reply"]
    return assembled(reply) if isinstance(reply, str) else cast(Json, reply)


@pytest.mark.parametrize("exchange", ANSWERS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_every_recorded_answer_gives_what_an_independent_reading_gives(exchange: Json) -> None:
    emitter = streamed(exchange)[0] if exchange in STREAMS else unary(exchange, exchange["reply"])
    assert facts_of_response(emitter.response) == facts_of(message_of(exchange))


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_a_stream_and_the_unary_message_it_amounts_to_are_the_same_response(exchange: Json) -> None:
    assert streamed(exchange)[0].response == unary(exchange, message_of(exchange)).response


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_the_openai_sdk_accepts_every_stream_and_holds_the_same_response_at_its_end(exchange: Json) -> None:
    emitter, events = streamed(exchange)
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        typed = construct_type_unchecked(type_=cast(Any, ResponseStreamEvent), value=event)
        state.handle_event(typed)
    assert state._completed_response is not None
    assert state._completed_response.id == emitter.response["id"]
    validate_type(type_=Response, value=emitter.response)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@pytest.mark.parametrize("exchange", ANSWERS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_every_output_item_is_valid_in_the_openai_sdk_and_the_rest_in_open_responses(exchange: Json) -> None:
    response = unary(exchange, message_of(exchange)).response
    for item in response["output"]:
        validate_type(type_=cast(Any, ResponseOutputItem), value=item)
    known = [item for item in response["output"] if item["type"] in ("message", "reasoning", "function_call")]
    openresponses.ResponseResource.model_validate({**response, "output": known})


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_a_stream_cut_at_every_byte_gives_the_same_events(exchange: Json) -> None:
    data = exchange["reply"].encode()
    expected = Decoder().feed(data)
    decoder = Decoder()
    found = [event for index in range(len(data)) for event in decoder.feed(data[index : index + 1])]
    assert found == expected
    call = call_of(exchange, stream=True)
    emitter = emitter_of(call, stream=True)
    translator = DIALECT.translator(call, emitter)
    pieces = bytearray()
    for event in found:
        translator.feed(event.name, event.data)
        pieces += emitter.take()
    assert events_of(bytes(pieces)) == streamed(exchange)[1]


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_a_stream_that_stops_before_its_end_is_left_open_for_the_caller_to_fail(exchange: Json) -> None:
    call = call_of(exchange, stream=True)
    for length in range(1, len(frames(exchange["reply"]))):
        emitter = emitter_of(call, stream=True)
        translator = DIALECT.translator(call, emitter)
        for event in frames(exchange["reply"])[:length]:
            translator.feed(event["type"], json.dumps(event).encode())
        translator.close()
        assert emitter.terminal is None


def next_request(exchange: Json, response: Json) -> Json:
    """The request that sends the whole output of *response* back, with answers to its calls."""
    answers = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
        for item in response["output"]
        if item["type"] == "function_call"
    ]
    more = answers or [{"role": "user", "content": "Go on."}]
    call = call_of(exchange, stream=False)
    body = {**call.body, "input": [{"role": "user", "content": "Hello."}, *response["output"], *more]}
    call = Call("create", body, call.model, False, "claude", "anthropic")
    return cast(Json, msgspec.json.decode(DIALECT.request(call).body))


def comparable(content: list[Json]) -> list[Json]:
    """Blocks without what the way through the client may lose: adjacent texts are one, citations stay behind."""
    blocks: list[Json] = []
    for block in content:
        if block["type"] == "text" and blocks and blocks[-1]["type"] == "text":
            blocks[-1]["text"] += block["text"]
        elif block["type"] == "text":
            blocks.append({"type": "text", "text": block["text"]})
        elif block["type"] == "tool_use":
            blocks.append({name: block[name] for name in ("type", "id", "name", "input")})
        else:
            blocks.append(block)
    return blocks


@pytest.mark.parametrize("exchange", ANSWERS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_the_output_of_a_reply_sent_back_holds_the_identical_blocks_in_order(exchange: Json) -> None:
    response = streamed(exchange)[0].response if exchange in STREAMS else unary(exchange, exchange["reply"]).response
    messages = next_request(exchange, response)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == comparable(message_of(exchange)["content"])


def test_a_recorded_error_body_keeps_the_provider_s_message_and_status() -> None:
    failures = [exchange for exchange in RECORDED if exchange["status"] != 200]
    assert failures
    for exchange in failures:
        error = DIALECT.error(exchange["status"], json.dumps(exchange["reply"]).encode())
        assert error is not None
        assert (error.message, error.status) == (exchange["reply"]["error"]["message"], exchange["status"])


# Requests of the Responses API...

CARRIED_WHOLE, REDUCED, REFUSED = "lossless", "lossy", "refused"


def translated(exchange: Json) -> tuple[str, Any]:
    """How a recorded request to the Responses API fares: the fate, and the body or the refusal's param."""
    request = {name: value for name, value in exchange["request"].items() if name != "provider"}
    operation = "input_tokens" if exchange["path"].endswith("/input_tokens") else "create"
    call = Call(operation, request, "claude-sonnet-4-5", bool(request.get("stream")), "claude", "anthropic")
    try:
        outgoing = DIALECT.request(call)
    except InvalidRequest as error:
        return REFUSED, error.param
    return (REDUCED if outgoing.dropped else CARRIED_WHOLE), msgspec.json.decode(outgoing.body)


@functools.cache
def adapter(params: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(params)


def params_of(body: Json) -> TypeAdapter[Any]:
    """The SDK's own idea of the request that *body* is."""
    if "max_tokens" not in body:
        return adapter(MessageCountTokensParams)
    return adapter(MessageCreateParamsStreaming if body["stream"] else MessageCreateParamsNonStreaming)


@pytest.mark.parametrize("exchange", REQUESTS, ids=lambda exchange: exchange["source"].rpartition("/")[2])
def test_every_recorded_request_is_valid_for_the_anthropic_sdk_or_refused_by_name(exchange: Json) -> None:
    fate, found = translated(exchange)
    if fate == REFUSED:
        assert found
    else:
        params_of(found).validate_python(found)


def test_most_recorded_requests_are_carried_and_the_rest_is_refused_for_what_has_no_equal() -> None:
    fates = [(exchange, *translated(exchange)) for exchange in REQUESTS]
    count = Counter(fate for _, fate, _ in fates)
    assert count[CARRIED_WHOLE] + count[REDUCED] >= 30 * count[REFUSED]
    for exchange, fate, found in fates:
        if fate == REFUSED and exchange["request"]["input"] != []:  # a continuation, whose history is not recorded
            assert (exchange["request"]["tools"][0]["type"], found) == ("image_generation", "tools[0].type")
