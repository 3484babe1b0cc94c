"""Every recorded chat exchange, replayed as upstream; the judge is a reader that shares no code with the dialect."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from openai._models import construct_type_unchecked
from openai._types import omit
from openai.lib.streaming.responses import ResponseStreamState
from openai.types.chat import completion_create_params
from openai.types.responses import Response, ResponseStreamEvent
from openresponses_types import types as open_responses
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from gomodel_asgi.dialects.base import unpack_state
from gomodel_asgi.dialects.chat import ChatDialect
from gomodel_asgi.errors import InvalidRequest, UpstreamRejected

from ..support.chat_play import Json, Play, call_of, calls_of, outgoing, play, reasoning_of, text_of, whole
from ..support.chat_reader import WHY_SKIPPED, data_lines, exchanges, read

EXCHANGES = exchanges("chat")
REQUESTS = exchanges("responses")
STREAMS = [exchange for exchange in EXCHANGES if isinstance(exchange["reply"], str)]
BODIES = [exchange for exchange in EXCHANGES if isinstance(exchange["reply"], dict) and exchange["status"] == 200]

pytestmark = pytest.mark.skipif(not EXCHANGES, reason=WHY_SKIPPED)
each_stream = pytest.mark.parametrize("exchange", STREAMS, ids=range(len(STREAMS)))
each_body = pytest.mark.parametrize("exchange", BODIES, ids=range(len(BODIES)))
each_request = pytest.mark.parametrize("exchange", REQUESTS, ids=range(len(REQUESTS)))

FINISHES = {"length": "incomplete", "content_filter": "incomplete"}
OPEN_ITEMS = ("message", "reasoning", "function_call")


def type_of(exchange: Json) -> str:
    return {"api.openai.com": "openai", "openrouter.ai": "openrouter", "api.mistral.ai": "mistral"}.get(
        exchange["host"], "vllm"
    )


def options_of(exchange: Json) -> Json:
    return {"type": type_of(exchange), "model": exchange["request"]["model"]}


def streamed(exchange: Json) -> Play:
    return play(data_lines(exchange["reply"]), **options_of(exchange))


def assert_same(found: Play, exchange: Json) -> None:
    """What came out is what the independent reading says."""
    reading, response = read(exchange["reply"]), found.response
    if reading.failed:
        assert response["status"] == "failed"
        return
    assert response["status"] == FINISHES.get(reading.finish or "", "completed")
    assert text_of(found.output) == reading.text
    assert reasoning_of(found.output) == reading.reasoning
    assert calls_of(found.output) == [[id, name, arguments or "{}"] for id, name, arguments in reading.calls]
    assert response["model"] == reading.model
    usage = response["usage"]
    assert (usage is None) == (reading.usage is None)
    if reading.usage is not None:
        details = usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]["reasoning_tokens"]
        assert (usage["input_tokens"], usage["output_tokens"], *details) == reading.usage
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        assert not usage.keys() & {"prompt_tokens", "completion_tokens"}


@each_body
def test_a_unary_reply_becomes_what_an_independent_reader_finds_in_it(exchange: Json) -> None:
    found = whole(exchange["reply"], **options_of(exchange))

    assert_same(found, exchange)


@each_stream
def test_a_stream_becomes_what_an_independent_reader_finds_in_it(exchange: Json) -> None:
    found = streamed(exchange)

    assert_same(found, exchange)
    assert found.done


@each_body
def test_a_unary_reply_fed_as_a_stream_gives_the_same_response_object(exchange: Json) -> None:
    body = found_in_pieces(exchange["reply"])

    assert play(body, **options_of(exchange)).response == whole(exchange["reply"], **options_of(exchange)).response


def found_in_pieces(reply: Json) -> list[Any]:
    """*reply* as its server would have streamed it: one member of the message after the other."""
    choice = reply["choices"][0]
    message = choice["message"]
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls") or [])]
    rest = {name: value for name, value in message.items() if name not in ("content", "tool_calls")}
    deltas = [rest, {"content": message.get("content")}, *({"tool_calls": [call]} for call in calls)]
    common = {name: value for name, value in reply.items() if name not in ("choices", "usage")}
    chunks: list[Any] = [{**common, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    return [*chunks, {**common, "choices": [], "usage": reply.get("usage")}, "[DONE]"]


@each_stream
def test_each_delta_leaves_with_the_event_that_brought_it(exchange: Json) -> None:
    found = Play(call_of(stream=True, **options_of(exchange)))
    for line in data_lines(exchange["reply"]):
        left = found.feed(line)
        if line == "[DONE]":
            continue
        choices = json.loads(line).get("choices") or [{}]
        delta = choices[0].get("delta") or {}
        content = delta.get("content") if isinstance(delta.get("content"), str) else ""
        assert "".join(event["delta"] for event in left if event["type"] == "response.output_text.delta") == content


@each_stream
def test_the_openai_sdk_accumulates_each_stream_to_the_same_response(exchange: Json) -> None:
    found = streamed(exchange)
    event_type: Any = ResponseStreamEvent
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in found.events:
        state.handle_event(construct_type_unchecked(type_=event_type, value=event))

    completed = state._completed_response
    assert completed is not None
    assert text_of([item.to_dict() for item in completed.output]) == text_of(found.output)


@each_stream
def test_each_event_and_response_has_the_form_that_open_responses_requires(exchange: Json) -> None:
    found = streamed(exchange)

    assert [event["sequence_number"] for event in found.events] == list(range(len(found.events)))
    if all(item["type"] in OPEN_ITEMS for item in found.output):
        open_responses.ResponseResource.model_validate(found.response)
    TypeAdapter(Response).validate_python(found.response)


@each_stream
def test_what_the_server_needs_back_is_sealed_for_this_server_only(exchange: Json) -> None:
    sealed = [item.get("encrypted_content") for item in streamed(exchange).output if item["type"] == "reasoning"]

    assert all(unpack_state(text, type_of(exchange), exchange["request"]["model"]) for text in sealed)
    assert all(unpack_state(text, "someone-else") is None for text in sealed)


def test_an_error_reply_is_an_upstream_rejection_with_the_servers_words() -> None:
    for exchange in EXCHANGES:
        if exchange["status"] != 200:
            error = ChatDialect().error(exchange["status"], json.dumps(exchange["reply"]).encode())
            assert isinstance(error, UpstreamRejected)
            assert (error.status, error.message) == (exchange["status"], exchange["reply"]["error"]["message"])


# Requests of real clients...

STRICT = ConfigDict(extra="forbid")
CHAT_PARAMS: tuple[TypeAdapter[Any], ...] = tuple(
    TypeAdapter(with_config(STRICT)(params))
    for params in (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    )
)


@each_request
@pytest.mark.parametrize("unsupported", ["auto", "reject", "drop"])
def test_a_real_clients_request_is_valid_chat_or_refused_by_name(exchange: Json, unsupported: str) -> None:
    request = {"model": "m", "input": "hi"} | exchange["request"]
    try:
        body = json.loads(outgoing(request, type="openai", stream=bool(request.get("stream"))).body)
    except InvalidRequest as error:
        assert error.param
        return
    exhaust(CHAT_PARAMS[bool(body.get("stream"))].validate_python(body))


def exhaust(value: Any) -> None:
    """pydantic validates an `Iterable` while it is iterated, not before."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for inner in value:
            exhaust(inner)


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [{"role": "user", "content": "hi"}], "max_output_tokens": 1},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
    ],
)
def test_a_wrong_request_would_be_noticed(wrong: Json) -> None:
    with pytest.raises(ValidationError):
        exhaust(CHAT_PARAMS[0].validate_python({"model": "m", **wrong}))
