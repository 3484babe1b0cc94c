"""The pydantic models keep what they read: every member, every null, every item."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gomodel_asgi import schema
from gomodel_asgi.schema import CompactedResponse, ErrorEnvelope, InputItemList, InputTokens, Response, ResponsesRequest
from gomodel_asgi.schema.items import WireModel

RECORDED = Path(__file__).parents[3] / "shared" / "recorded" / "responses.jsonl"

DOCUMENTED_REQUEST = """input instructions max_output_tokens metadata model parallel_tool_calls provider reasoning
    stream stream_options temperature tool_choice tools"""
DOCUMENTED_RESPONSE = "created_at error id model object output provider status usage"


def round_trip(model: type[WireModel], value: Any) -> Any:
    return model.model_validate(value).model_dump(exclude_unset=True, by_alias=True)


def recorded() -> list[dict[str, Any]]:
    if not RECORDED.exists():
        pytest.skip("no recorded exchanges beside the project")
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def responses_of(reply: Any) -> Iterator[Any]:
    """The response objects in a reply: itself, or those of a stream's lifecycle events."""
    if isinstance(reply, dict):
        yield reply
        return
    for line in reply.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if "response" in event:
                yield event["response"]


def model_of(reply: dict[str, Any]) -> type[WireModel]:
    if "object" not in reply:
        return ErrorEnvelope
    kinds: dict[str, type[WireModel]] = {
        "response": Response,
        "response.compaction": CompactedResponse,
        "response.input_tokens": InputTokens,
        "list": InputItemList,
    }
    return kinds[reply["object"]]


def test_every_recorded_request_is_kept_whole() -> None:
    for exchange in recorded():
        if isinstance(exchange["request"], dict):
            assert round_trip(ResponsesRequest, exchange["request"]) == exchange["request"]


def test_every_recorded_response_is_kept_whole_in_replies_and_in_events() -> None:
    seen = 0
    for exchange in recorded():
        for reply in responses_of(exchange["reply"]):
            assert round_trip(model_of(reply), reply) == reply
            seen += 1

    assert seen > 67


def test_every_recorded_body_is_kept_byte_for_byte_as_compact_json() -> None:
    """Numbers keep their spelling (1 is not 1.0) and members that are declared keep their values."""
    for exchange in recorded():
        for reply in responses_of(exchange["reply"]):
            again = round_trip(model_of(reply), reply)
            assert json.dumps(again, sort_keys=True) == json.dumps(reply, sort_keys=True)


@pytest.mark.parametrize("name", DOCUMENTED_REQUEST.split())
def test_every_member_that_the_reference_documents_is_a_field_of_the_request(name: str) -> None:
    assert name in ResponsesRequest.model_fields


@pytest.mark.parametrize("name", DOCUMENTED_RESPONSE.split())
def test_every_member_that_the_reference_documents_is_a_field_of_the_response(name: str) -> None:
    assert name in Response.model_fields


def test_unknown_members_and_explicit_nulls_survive() -> None:
    body: Any = {
        "model": "m",
        "input": "hi",
        "tools": [],
        "temperature": None,
        "client_metadata": None,
        "new": {"a": [None]},
    }

    assert round_trip(ResponsesRequest, body) == body


def test_members_that_were_not_sent_are_not_made_up() -> None:
    assert round_trip(ResponsesRequest, {}) == {}
    assert round_trip(Response, {"usage": {}}) == {"usage": {}}


@pytest.mark.parametrize(
    ("item", "model"),
    [
        ({"role": "user", "content": "hi"}, schema.Message),
        ({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}, schema.Message),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, schema.FunctionCall),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, schema.FunctionCallOutput),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"}, schema.CustomToolCall),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": "x"}, schema.CustomToolCallOutput),
        ({"type": "reasoning", "summary": [], "encrypted_content": None}, schema.ReasoningItem),
        ({"id": "msg_1"}, schema.ItemReference),
        ({"type": None, "id": "msg_1", "x": 1}, schema.Item),
        ({"type": "compaction", "encrypted_content": "x"}, schema.Compaction),
        ({"type": "acme:scan", "depth": 3}, schema.Item),
        ({"type": 7}, schema.Item),
    ],
)
def test_an_item_is_read_by_the_model_of_its_type_and_any_other_is_a_plain_item(
    item: dict[str, Any], model: type[schema.Item]
) -> None:
    if item.get("type") == 7:
        with pytest.raises(ValidationError):
            ResponsesRequest.model_validate({"input": [item]})
        return
    request = ResponsesRequest.model_validate({"input": [item]})
    assert isinstance(request.input, list)

    assert type(request.input[0]) is model
    assert request.model_dump(exclude_unset=True) == {"input": [item]}


def test_an_item_that_is_a_model_already_is_accepted() -> None:
    request = ResponsesRequest(input=[schema.Message(role="user", content="hi"), schema.Item(type="acme:x")])

    assert request.model_dump(exclude_unset=True)["input"] == [
        {"role": "user", "content": "hi"},
        {"type": "acme:x"},
    ]


@pytest.mark.parametrize("body", [{"stream": "yes"}, {"model": 5}, {"temperature": "1"}, {"input": 5}, {"tools": {}}])
def test_values_are_not_coerced(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResponsesRequest.model_validate(body)


def test_provider_is_a_hint_or_an_object_of_preferences() -> None:
    assert ResponsesRequest.model_validate({"provider": "claude"}).provider == "claude"
    assert ResponsesRequest.model_validate({"provider": {"order": ["x"]}}).provider == {"order": ["x"]}


CHAT = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 4, "image_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2, "rejected_prediction_tokens": 0},
    "cost": 0.25,
}
OURS = {
    "input_tokens": 7,
    "output_tokens": 3,
    "total_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 2},
}


@pytest.mark.parametrize("wire", [CHAT, OURS])
def test_usage_is_read_under_both_spellings_and_written_in_the_one_that_came(wire: dict[str, Any]) -> None:
    usage = schema.Usage.model_validate(wire)
    assert usage.input_tokens_details and usage.prompt_tokens_details
    assert usage.output_tokens_details and usage.completion_tokens_details

    assert (usage.input_tokens, usage.prompt_tokens) == (7, 7)
    assert (usage.output_tokens, usage.completion_tokens) == (3, 3)
    assert usage.input_tokens_details.cached_tokens == usage.prompt_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == usage.completion_tokens_details.reasoning_tokens == 2
    assert usage.model_dump(exclude_unset=True) == wire


def test_the_upstreams_own_usage_is_kept_in_python_and_never_written() -> None:
    usage = schema.Usage.model_validate(CHAT)

    assert usage.raw_usage == CHAT
    assert "raw_usage" not in usage.model_dump()
    assert b"raw_usage" not in usage.model_dump_json().encode()


def test_usage_made_in_python_has_no_upstream() -> None:
    usage = schema.Usage(input_tokens=7, output_tokens=3)
    response = Response(usage=usage)

    assert response.usage is usage
    assert (usage.prompt_tokens, usage.model_dump(exclude_unset=True)) == (7, {"input_tokens": 7, "output_tokens": 3})


def test_an_upstream_that_sends_raw_usage_itself_is_believed() -> None:
    usage = schema.Usage.model_validate({"input_tokens": 1, "raw_usage": {"own": 1}})

    assert usage.raw_usage == {"own": 1}


def test_raw_usage_is_kept_when_a_response_is_read_from_json_text() -> None:
    response = Response.model_validate_json(json.dumps({"usage": CHAT}))
    assert response.usage

    assert response.usage.raw_usage == CHAT


def test_an_error_envelope_needs_all_four_members() -> None:
    with pytest.raises(ValidationError):
        ErrorEnvelope.model_validate({"error": {"message": "x"}})


def test_every_model_and_every_member_is_described_to_api_users() -> None:
    for name in schema.__all__:
        model = getattr(schema, name)
        if isinstance(model, type) and issubclass(model, WireModel):
            assert "__doc__" in vars(model) and model.__doc__
            assert [field for field, about in model.model_fields.items() if not about.description] == []
