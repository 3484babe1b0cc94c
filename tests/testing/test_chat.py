"""The fake provider speaks Chat Completions: seen with the official SDK, on a real socket, and rule by rule."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageFunctionToolCall, ChatCompletionToolUnionParam
from pydantic import BaseModel

from gomodel_asgi.testing import Answer, Cut, ErrorInside, FakeProvider, Prompt, Status, ToolCall

from .clients import anyio_backend, client, provider

__all__ = ["anyio_backend", "client", "provider"]

PIXEL = "data:image/png;base64,iVBORw0KGgo="
WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CITIES = [ToolCall("weather", {"city": "Oslo"}), ToolCall("weather", {"city": "Bergen"}, call_id="call_own")]
USER: Any = {"role": "user", "content": "hi"}


@pytest.fixture
def dialect() -> str:
    return "chat"


async def test_it_repeats_what_the_user_said_and_counts_it(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model="any", messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two"}]
    )

    assert completion.choices[0].message.content == "You said: one two"
    assert (completion.model, completion.choices[0].finish_reason) == ("any", "stop")
    assert completion.usage
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (4, 4)


async def test_a_stream_and_a_unary_reply_say_the_same(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    answer = Answer(text="I look.", reasoning="Two cities.", calls=CITIES, cached=1)
    provider.script(answer, answer)
    unary = await client.chat.completions.create(model="m", messages=[USER], tools=[WEATHER])
    async with client.chat.completions.stream(
        model="m", messages=[USER], tools=[WEATHER], stream_options={"include_usage": True}
    ) as stream:
        streamed = await stream.get_final_completion()

    said, reason = unary.choices[0].message, streamed.choices[0].message
    assert (said.content, said.model_extra) == (reason.content, reason.model_extra)
    assert said.model_extra == {"reasoning_content": "Two cities."}
    for message in (said, reason):
        calls = [call for call in message.tool_calls or [] if call.type == "function"]
        assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Oslo", "Bergen"]
        assert calls[1].id == "call_own"
    assert unary.choices[0].finish_reason == streamed.choices[0].finish_reason == "tool_calls"
    assert unary.usage == streamed.usage
    assert unary.usage and unary.usage.completion_tokens_details and unary.usage.prompt_tokens_details
    assert unary.usage.completion_tokens_details.reasoning_tokens == 2
    assert unary.usage.prompt_tokens_details.cached_tokens == 1


async def test_usage_comes_in_a_last_chunk_without_choices_if_it_is_asked_for(client: openai.AsyncOpenAI) -> None:
    asked = await client.chat.completions.create(
        model="m", messages=[USER], stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]
    silent = [chunk async for chunk in await client.chat.completions.create(model="m", messages=[USER], stream=True)]

    assert (chunks[-1].choices, bool(chunks[-1].usage)) == ([], True)
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert all(chunk.choices for chunk in silent)


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "function": {"name": "weather"}}, True),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "weather"}}],
                },
            },
            True,
        ),
    ],
)
async def test_a_tool_is_called_when_the_request_demands_it(
    client: openai.AsyncOpenAI, choice: Any, called: bool
) -> None:
    completion = await client.chat.completions.create(model="m", messages=[USER], tools=[WEATHER], tool_choice=choice)
    calls = completion.choices[0].message.tool_calls or []

    assert [isinstance(call, ChatCompletionMessageFunctionToolCall) for call in calls] == [True] * called


async def test_a_custom_tool_gets_free_text(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    provider.script(*[Answer(calls=[ToolCall("shout", "as you wish", custom=True)])] * 2)
    tools: list[ChatCompletionToolUnionParam] = [{"type": "custom", "custom": {"name": "shout"}}]
    unary = await client.chat.completions.create(model="m", messages=[USER], tools=tools)
    chunks = [
        chunk
        async for chunk in await client.chat.completions.create(model="m", messages=[USER], tools=tools, stream=True)
    ]

    (call,) = unary.choices[0].message.tool_calls or []
    assert call.type == "custom" and call.custom.input == "as you wish"
    pieces = [delta.model_extra for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert "".join((piece or {})["custom"]["input"] for piece in pieces) == "as you wish"


class City(BaseModel):
    name: str
    size: int


async def test_structured_output_follows_the_schema(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.parse(model="m", messages=[USER], response_format=City)

    assert completion.choices[0].message.parsed == City(name="hi", size=1)


async def test_an_early_end_and_a_refusal_are_told(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    provider.script(Answer(refusal="I must not."), Answer(text="Half", incomplete="content_filter"))
    refused = await client.chat.completions.create(model="m", messages=[USER])
    filtered = await client.chat.completions.create(model="m", messages=[USER])
    short = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "a b c d"}], max_completion_tokens=3
    )

    assert (refused.choices[0].message.refusal, refused.choices[0].message.content) == ("I must not.", None)
    assert filtered.choices[0].finish_reason == "content_filter"
    assert (short.choices[0].finish_reason, short.choices[0].message.content) == ("length", "You said: a")


async def test_several_turns_with_an_image_and_outputs_are_understood(
    provider: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    seen: list[Prompt] = []

    def look(prompt: Prompt) -> Answer:
        seen.append(prompt)
        return Answer(text="Rain.")

    provider.script(Answer(text="I look.", calls=CITIES), look)
    user: Any = {
        "role": "user",
        "content": [{"type": "text", "text": "Here?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
    }
    first = await client.chat.completions.create(model="m", messages=[user], tools=[WEATHER])
    message: Any = first.choices[0].message.model_dump(exclude_none=True)
    outputs: Any = [{"role": "tool", "tool_call_id": call["id"], "content": "rain"} for call in message["tool_calls"]]
    await client.chat.completions.create(model="m", messages=[user, message, *outputs], tools=[WEATHER])

    assert [(said.role, said.text or said.name) for said in seen[0].messages] == [
        ("user", "Here?"),
        ("assistant", "I look."),
        ("assistant", '{"city": "Oslo"}'),
        ("assistant", '{"city": "Bergen"}'),
        ("tool", "rain"),
        ("tool", "rain"),
    ]
    assert seen[0].messages[0].media == (PIXEL,)
    assert [said.name for said in seen[0].outputs] == ["weather", "weather"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_the_sdk_knows_each_error_status(
    provider: FakeProvider, client: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    provider.fail_next(Status(status, "As scripted.", code="x"))
    with pytest.raises(error, match="As scripted") as raised:
        await client.chat.completions.create(model="m", messages=[USER])

    assert (raised.value.code, raised.value.request_id) == ("x", "req_fake00000001")


async def test_the_sdk_sees_an_error_and_a_cut_inside_a_stream(
    provider: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    provider.fail_next(ErrorInside(after_events=2))
    provider.fail_next(ErrorInside(after_events=2, form="event"))
    provider.fail_next(Cut(inside_event=2))
    for expected in (openai.APIError, openai.APIError, openai.APIConnectionError):
        with pytest.raises(expected):
            async for _ in await client.chat.completions.create(model="m", messages=[USER], stream=True):
                pass


# Rules...


CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
OUTPUT = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
TWO = {**CALLS, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}
DEVELOPER = {"role": "developer", "content": "Be brief."}


def image(url: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "image_url", "image_url": {"url": url}}], **more}


async def refusal(body: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The error that *body* gets, empty if it gets none."""
    async with FakeProvider(dialect="chat", **options).serve() as provider, httpx.AsyncClient() as http:
        reply = await http.post(f"{provider.base_url}/chat/completions", json={"model": "m", **body})
    assert reply.status_code in (200, 400)
    error: dict[str, Any] = reply.json().get("error", {})
    return error


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "Missing required parameter: 'messages'"),
        ({"model": None, "messages": [USER]}, "you must provide a model"),
        ({"messages": []}, "empty array"),
        ({"messages": ["hi"]}, "Invalid type for 'messages'"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "Invalid value: 'robot'"),
        ({"messages": [{"role": "user", "content": None}]}, "expected a string, got null"),
        ({"messages": [{"role": "user", "content": 7}]}, "Invalid type for 'messages[0].content'"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "expected a string, got null"),
        ({"messages": [USER, OUTPUT]}, "must be a response to a preceeding message with 'tool_calls'"),
        ({"messages": [USER, CALLS, USER]}, "did not have response messages: call_1"),
        ({"messages": [USER, CALLS]}, "did not have response messages: call_1"),
        ({"messages": [USER, TWO, OUTPUT, USER]}, "did not have response messages: call_2"),
        ({"messages": [USER, CALLS, DEVELOPER, OUTPUT]}, "did not have response messages"),
        ({"messages": [USER, CALLS, OUTPUT, OUTPUT]}, "must be a response"),
        ({"messages": [USER, CALLS, {**OUTPUT, "tool_call_id": "other"}]}, "must be a response"),
        ({"messages": [USER, {**CALLS, "tool_calls": [CALL, CALL]}, OUTPUT, OUTPUT]}, "Duplicate value"),
        ({"messages": [USER, {**CALLS, "tool_calls": [{**CALL, "id": ""}]}, OUTPUT]}, "tool_calls[0].id"),
        ({"messages": [USER, CALLS, image(PIXEL, "tool", tool_call_id="call_1")]}, "only allowed for messages with"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "image_url.url"),
        ({"messages": [USER, {**CALLS, "tool_calls": [{"id": "call_1"}]}, OUTPUT]}, "tool_calls[0].type"),
        (
            {"messages": [USER, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "f"}}]}, OUTPUT]},
            "tool_calls[0].function.arguments",
        ),
        ({"messages": [USER], "tools": {}}, "Invalid type for 'tools'"),
        ({"messages": [image("data:image/png;base64,%%%")]}, "unsupported image"),
        ({"messages": [image("data:image/tiff;base64,aGk=")]}, "unsupported image"),
        ({"messages": [image("file:///etc/passwd")]}, "valid URL"),
        ({"messages": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]}, "'input_text'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "content[0].text"),
        ({"messages": [USER], "tools": [{"type": "web_search"}]}, "'web_search'"),
        ({"messages": [USER], "tools": [{"type": "function", "function": {"name": "a b"}}]}, "does not match"),
        ({"messages": [USER], "tools": [{"type": "function", "function": {"name": "x" * 65}}]}, "does not match"),
        ({"messages": [USER], "tool_choice": "auto"}, "only allowed when 'tools' are specified"),
        ({"messages": [USER], "parallel_tool_calls": False}, "only allowed when 'tools' are specified"),
        (
            {"messages": [USER], "tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "Tool choice 'x' not found",
        ),
        ({"messages": [USER], "tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "'web_search'"),
        ({"model": "deepseek-chat", "messages": [USER, CALLS, OUTPUT]}, "Missing `reasoning_content`"),
    ],
)
async def test_what_openai_and_most_others_refuse_is_a_400(body: dict[str, Any], reason: str) -> None:
    error = await refusal(body)

    assert reason in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER, CALLS, OUTPUT, USER]},
        {"messages": [USER, TWO, {**OUTPUT, "tool_call_id": "call_2"}, OUTPUT]},
        {"messages": [DEVELOPER]},
        {"messages": [USER, DEVELOPER, USER], "unheard_of": True},
        {"messages": [image(PIXEL), image("https://example.com/a.png")]},
        {"model": "deepseek-chat", "messages": [USER, {**CALLS, "reasoning_content": ""}, OUTPUT]},
    ],
)
async def test_what_keeps_the_rules_is_answered(body: dict[str, Any]) -> None:
    assert await refusal(body) == {}


OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
CLOSED = {**OPEN, "additionalProperties": False}


def strict_function(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [USER], "top_k": 3}, "top_k"),
        ({"messages": [USER], "tools": []}, "tools"),
        ({"messages": [USER], "tools": [{"function": {"name": "f"}}]}, "tools[0].type"),
        ({"messages": [USER], "tools": [{"type": "openrouter:web_search"}]}, "tools[0].type"),
        ({"messages": [USER, {"role": "assistant", "content": "x", "tool_calls": []}, USER]}, "messages[1].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "content": "x", "reasoning_content": "y"}, USER]}, "messages[1]."),
        (
            {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f", "x": 1}}]},
            "tools[0].function.x",
        ),
        ({"messages": [USER], "response_format": {"type": "json_object"}}, "messages"),
        ({"messages": [USER], "tools": [strict_function(OPEN)]}, "tools[0].function.parameters"),
        ({"messages": [USER], "tools": [strict_function(CLOSED)]}, "tools[0].function.parameters"),
        (
            {
                "messages": [USER],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"type": "array", "items": OPEN}},
                },
            },
            "response_format",
        ),
        ({"model": "gpt-5", "messages": [USER], "max_tokens": 5}, "max_tokens"),
        ({"model": "o3", "messages": [USER], "temperature": 0.5}, "temperature"),
    ],
)
async def test_what_only_openai_refuses_is_a_400_when_strict(body: dict[str, Any], param: str) -> None:
    assert (await refusal(body, strict=True))["param"].startswith(param)
    assert await refusal(body) == {}


async def test_a_custom_call_of_earlier_is_understood() -> None:
    call = {"id": "call_1", "type": "custom", "custom": {"name": "shout", "input": "loud"}}

    assert await refusal({"messages": [USER, {**CALLS, "tool_calls": [call]}, OUTPUT]}) == {}


async def test_a_strict_provider_answers_what_keeps_openais_rules() -> None:
    schema = {**CLOSED, "required": ["a"], "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    tools = [strict_function(schema), {"type": "custom", "custom": {"name": "c"}}]
    body = {"model": "gpt-5", "messages": [DEVELOPER, USER], "tools": tools, "reasoning_effort": "low"}

    assert await refusal(body, strict=True) == {}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, DEVELOPER], "must be at the beginning"),
        ([DEVELOPER, DEVELOPER, USER], "must be at the beginning"),
        ([DEVELOPER], "No user query"),
        ([USER, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{"}}]}, OUTPUT], "mapping"),
        ([USER, {**CALLS, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "1"}}]}, OUTPUT], "mapping"),
    ],
)
async def test_what_chat_templates_refuse_is_a_400_with_a_template(messages: list[Any], reason: str) -> None:
    assert reason in (await refusal({"messages": messages}, template=True))["message"]
    assert await refusal({"messages": messages}) == {}


async def test_a_template_takes_one_system_message_first() -> None:
    assert await refusal({"messages": [DEVELOPER, USER, CALLS, OUTPUT]}, template=True) == {}
