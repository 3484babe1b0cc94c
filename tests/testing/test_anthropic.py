"""The fake provider speaks the Messages API: seen with the official SDK, on a real socket, and rule by rule."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic.types import MessageParam, ToolParam

from gomodel_asgi.testing import Answer, Cut, ErrorInside, FakeProvider, Prompt, Status, ToolCall

KEY = "sk-canary-of-the-client"
MODEL = "claude-sonnet-4-6"
WEATHER: ToolParam = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CITIES = [ToolCall("weather", {"city": "Oslo"}), ToolCall("weather", {"city": "Bergen"}, call_id="toolu_own")]
USER: MessageParam = {"role": "user", "content": "hi"}
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
def anyio_backend() -> str:
    """On trio the SDK leaves async generators to the collector, which warns."""
    return "asyncio"


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with FakeProvider(dialect="anthropic").serve() as provider:
        yield provider


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=provider.origin, api_key=KEY, max_retries=0) as client:
        yield client


async def test_it_repeats_what_the_user_said_and_counts_it(client: anthropic.AsyncAnthropic) -> None:
    message = await client.messages.create(
        model=MODEL, max_tokens=100, system="be brief", messages=[{"role": "user", "content": "one two"}]
    )

    assert [block.type == "text" and block.text for block in message.content] == ["You said: one two"]
    assert (message.model, message.stop_reason) == (MODEL, "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (4, 4)


async def test_a_stream_and_a_unary_reply_say_the_same(
    provider: FakeProvider, client: anthropic.AsyncAnthropic
) -> None:
    answer = Answer(text="I look.", reasoning="Two cities.", calls=[CITIES[1], ToolCall("weather", call_id="toolu_b")])
    provider.script(answer, answer)
    unary = await client.messages.create(
        model=MODEL, max_tokens=2000, messages=[USER], tools=[WEATHER], thinking=THINKING
    )
    async with client.messages.stream(
        model=MODEL, max_tokens=2000, messages=[USER], tools=[WEATHER], thinking=THINKING
    ) as stream:
        streamed = await stream.get_final_message()

    assert [block.model_dump(exclude={"parsed_output"}) for block in streamed.content] == [
        block.model_dump() for block in unary.content
    ]
    assert [block.type for block in unary.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert unary.stop_reason == streamed.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == unary.usage.output_tokens
    assert unary.usage.output_tokens_details and unary.usage.output_tokens_details.thinking_tokens == 2


async def test_cached_tokens_are_counted_apart(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    provider.script(*[Answer(text="Yes.", cached=3)] * 2)
    user: MessageParam = {"role": "user", "content": "a b c d e"}
    unary = await client.messages.create(model=MODEL, max_tokens=100, messages=[user])
    async with client.messages.stream(model=MODEL, max_tokens=100, messages=[user]) as stream:
        streamed = await stream.get_final_message()

    for usage in (unary.usage, streamed.usage):
        assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (2, 3, 1)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
async def test_a_tool_is_called_when_the_request_demands_it(client: anthropic.AsyncAnthropic, choice: Any) -> None:
    message = await client.messages.create(
        model=MODEL, max_tokens=100, messages=[USER], tools=[WEATHER], tool_choice=choice
    )

    assert [block.type == "tool_use" and block.input for block in message.content] == [{"city": "Paris"}]


async def test_structured_output_follows_the_schema(client: anthropic.AsyncAnthropic) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "additionalProperties": False}
    message = await client.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[USER],
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )

    assert [block.type == "text" and block.text for block in message.content] == ['{"name": "hi"}']


async def test_an_early_end_and_a_refusal_are_told(provider: FakeProvider, client: anthropic.AsyncAnthropic) -> None:
    provider.script(Answer(refusal="I must not."), Answer(text="Half", incomplete="content_filter"))
    provider.script(Answer(text="Wait.", incomplete="pause_turn"))
    refused, filtered, paused = [
        await client.messages.create(model=MODEL, max_tokens=100, messages=[USER]) for _ in range(3)
    ]
    short = await client.messages.create(model=MODEL, max_tokens=3, messages=[{"role": "user", "content": "a b c d"}])

    assert refused.stop_reason == filtered.stop_reason == "refusal"
    assert refused.stop_details and refused.stop_details.explanation == "I must not."
    assert filtered.stop_details and filtered.stop_details.explanation is None
    assert (paused.stop_reason, short.stop_reason) == ("pause_turn", "max_tokens")


async def test_thinking_comes_back_with_its_signature_and_no_other(
    provider: FakeProvider, client: anthropic.AsyncAnthropic
) -> None:
    provider.script(Answer(reasoning="Two cities.", calls=CITIES[:1]))
    first = await client.messages.create(
        model=MODEL, max_tokens=2000, messages=[USER], tools=[WEATHER], thinking=THINKING
    )
    blocks: list[Any] = [block.model_dump(exclude_none=True) for block in first.content]
    result: MessageParam = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": blocks[1]["id"], "content": "rain"}],
    }

    async def continued(*content: Any) -> Any:
        messages: list[MessageParam] = [USER, {"role": "assistant", "content": content}, result]
        return await client.messages.create(
            model=MODEL, max_tokens=2000, messages=messages, tools=[WEATHER], thinking=THINKING
        )

    assert (await continued(*blocks)).content[-1].text == "The tool said: rain"
    with pytest.raises(anthropic.BadRequestError, match="Invalid `signature` in `thinking` block"):
        await continued({**blocks[0], "thinking": "Another thought."}, blocks[1])
    with pytest.raises(anthropic.BadRequestError, match="Expected `thinking` or `redacted_thinking`"):
        await continued(blocks[1])


async def test_new_models_show_their_thinking_only_if_it_is_to_be_summarized(
    client: anthropic.AsyncAnthropic,
) -> None:
    shown: Any = {"type": "adaptive", "display": "summarized"}
    hidden: Any = {"type": "adaptive"}
    texts = []
    for thinking in (shown, hidden):
        message = await client.messages.create(
            model="claude-opus-4-8", max_tokens=100, messages=[USER], thinking=thinking
        )
        texts += [block.thinking for block in message.content if block.type == "thinking"]

    assert texts == ["The user wants an answer.", ""]


async def test_several_turns_with_an_image_and_results_are_understood(
    provider: FakeProvider, client: anthropic.AsyncAnthropic
) -> None:
    seen: list[Prompt] = []

    def look(prompt: Prompt) -> Answer:
        seen.append(prompt)
        return Answer(text="Rain.")

    provider.script(Answer(text="I look.", calls=CITIES), look)
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    user: MessageParam = {"role": "user", "content": [{"type": "text", "text": "Here?"}, picture]}
    first = await client.messages.create(model=MODEL, max_tokens=100, messages=[user], tools=[WEATHER])
    assistant: MessageParam = {"role": "assistant", "content": first.content}
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "rain"}]}
        for block in first.content
        if block.type == "tool_use"
    ]
    later: MessageParam = {"role": "user", "content": [*results, {"type": "text", "text": "Well?"}]}
    await client.messages.create(model=MODEL, max_tokens=100, messages=[user, assistant, later], tools=[WEATHER])

    assert [(said.role, said.text) for said in seen[0].messages] == [
        ("user", "Here?"),
        ("assistant", "I look."),
        ("assistant", '{"city": "Oslo"}'),
        ("assistant", '{"city": "Bergen"}'),
        ("tool", "rain"),
        ("tool", "rain"),
        ("user", "Well?"),
    ]
    assert seen[0].messages[0].media == ("data:image/png;base64,aGk=",)
    assert [said.name for said in seen[0].outputs] == ["weather", "weather"]


async def test_tokens_are_counted_and_models_listed(client: anthropic.AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "one two three"}])

    assert counted.input_tokens == 3
    assert [model.id async for model in await client.models.list()] == ["fake-model"]
    assert (await client.models.retrieve("any")).id == "any"


async def test_arguments_that_are_no_object_come_in_a_stream_only(
    provider: FakeProvider, client: anthropic.AsyncAnthropic
) -> None:
    provider.script(*[Answer(calls=[ToolCall("weather", '{"city": "Os')])] * 2)
    with pytest.raises(anthropic.InternalServerError, match="in a stream only"):
        await client.messages.create(model=MODEL, max_tokens=100, messages=[USER], tools=[WEATHER])
    pieces = [
        event.delta.partial_json
        async for event in await client.messages.create(
            model=MODEL, max_tokens=100, messages=[USER], tools=[WEATHER], stream=True
        )
        if event.type == "content_block_delta" and event.delta.type == "input_json_delta"
    ]

    assert "".join(pieces) == '{"city": "Os'


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (401, "authentication_error", anthropic.AuthenticationError),
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.APIStatusError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.APIStatusError),
    ],
)
async def test_the_sdk_knows_each_error_status(
    provider: FakeProvider,
    client: anthropic.AsyncAnthropic,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
) -> None:
    provider.fail_next(Status(status, "As scripted."))
    with pytest.raises(error, match="As scripted") as raised:
        await client.messages.create(model=MODEL, max_tokens=100, messages=[USER])

    assert raised.value.request_id == "req_fake00000001"
    assert isinstance(raised.value.body, dict)
    assert (raised.value.body["error"]["type"], raised.value.body["request_id"]) == (kind, "req_fake00000001")


async def test_the_sdk_sees_an_error_and_a_cut_inside_a_stream(
    provider: FakeProvider, client: anthropic.AsyncAnthropic
) -> None:
    provider.fail_next(ErrorInside(after_events=3, status=529))
    provider.fail_next(Cut(inside_event=3))
    for expected in (anthropic.APIStatusError, httpx2.RemoteProtocolError):
        with pytest.raises(expected):
            async for _ in await client.messages.create(model=MODEL, max_tokens=9, messages=[USER], stream=True):
                pass


async def test_a_long_conversation_is_compacted_where_the_request_wants_it(provider: FakeProvider) -> None:
    provider.script(*[Answer(text="Noted.")] * 2, lambda prompt: Answer(text=prompt.messages[0].text[-20:]))
    edits = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}
    asked = {"role": "user", "content": "x " * 50_000 + "The word is lantern."}
    body = {"model": MODEL, "max_tokens": 100, "messages": [asked], "context_management": edits}
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "compact-2026-01-12"}
    async with httpx.AsyncClient(base_url=provider.base_url, headers=headers, timeout=20) as http:
        unary = (await http.post("/messages", json=body)).json()
        stream = (await http.post("/messages", json={**body, "stream": True})).text
        later = [{"role": "assistant", "content": unary["content"]}, USER]
        second = (await http.post("/messages", json={**body, "messages": [USER, *later]})).json()

    assert [block["type"] for block in unary["content"]] == ["compaction", "text"]
    assert [each["type"] for each in unary["usage"]["iterations"]] == ["compaction", "message"]
    assert '"type":"compaction_delta","content":"x x' in stream
    assert [block["type"] for block in second["content"]] == ["compaction", "text"]


async def test_vertex_names_the_model_in_the_path(provider: FakeProvider) -> None:
    path = "/v1/projects/p/locations/l/publishers/anthropic/models"
    body = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": [USER]}
    async with httpx.AsyncClient(base_url=provider.origin + path) as http:
        unary = await http.post("/claude-sonnet-4-6:rawPredict", json=body)
        stream = await http.post("/claude-sonnet-4-6:streamRawPredict", json=body)
        del body["max_tokens"]
        counted = await http.post("/count-tokens:rawPredict", json={**body, "model": "claude-sonnet-4-6"})
        twice = await http.post("/claude-sonnet-4-6:rawPredict", json={**body, "model": "claude-sonnet-4-6"})
        unnamed = await http.post("/claude-sonnet-4-6:rawPredict", json={"max_tokens": 9, "messages": [USER]})

    assert unary.json()["model"] == "claude-sonnet-4-6"
    assert stream.text.startswith("event: message_start")
    assert counted.json() == {"input_tokens": 1}
    assert (twice.status_code, unnamed.status_code) == (400, 400)


# Rules...


USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
TEXT = {"type": "text", "text": "hi"}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
BOUND = {"type": "object", "additionalProperties": False, "properties": {"a": {"type": "integer", "minimum": 1}}}
SHUT = {"type": "object", "properties": {}, "additionalProperties": False}
MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
RING = {"$ref": "#/$defs/a"}


def members(count: int, schema: dict[str, Any], required: bool = False) -> dict[str, Any]:
    properties = {f"x{number}": schema for number in range(count)}
    return {**SHUT, "properties": properties, "required": [*properties] if required else []}


def asked(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def said(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def picture(media_type: str, data: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


async def refusal(body: dict[str, Any], path: str = "/messages", **headers: str) -> str:
    """The message that refuses *body*, empty if it is answered."""
    whole = {"model": MODEL, "max_tokens": 100, "messages": [USER], **body}
    whole = {name: value for name, value in whole.items() if value is not None}
    async with FakeProvider(dialect="anthropic").serve() as provider, httpx.AsyncClient() as http:
        reply = await http.post(
            provider.base_url + path, json=whole, headers={"anthropic-version": "2023-06-01", **headers}
        )
    if reply.status_code == 200:
        return ""
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    return str(reply.json()["error"]["message"])


MESSAGES: list[tuple[Any, str]] = [
    ("hi", "messages: Field required"),
    ([], "at least one message is required"),
    ([{"role": "user"}], "messages.0.content: Field required"),
    ([asked({"type": "text"})], "messages.text: Field required"),
    ([asked({"type": "image", "source": {"type": "path"}})], "Input tag 'path' found using 'type'"),
    ([said(TEXT), USER], 'first message must use the "user" role'),
    ([{"role": "system", "content": "x"}, USER], 'Unexpected role "system"'),
    ([{"role": "tool", "content": "x"}], "Input should be 'user' or 'assistant'"),
    ([{**USER, "name": "ada"}], "messages.0.name: Extra inputs are not permitted"),
    ([asked()], "must have non-empty content"),
    ([{"role": "user", "content": ""}], "must have non-empty content"),
    ([asked({"type": "text", "text": ""})], "text content blocks must be non-empty"),
    ([asked({"type": "text", "text": " \n"})], "must contain non-whitespace text"),
    ([asked({**TEXT, "id": "x"})], "messages.0.content.0.text.id: Extra inputs"),
    ([asked({"text": "x"})], "messages.0.content.0.type: Field required"),
    ([asked(USE)], "`tool_use` blocks can only be in `assistant` messages"),
    ([USER, said(RESULT)], "`tool_result` blocks can only be in `user` messages"),
    ([USER, said(USE), USER], "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1"),
    ([USER, said(USE), asked(TEXT, RESULT)], "were found without `tool_result` blocks immediately after"),
    ([USER, said(USE), said(TEXT), asked(RESULT)], "were found without `tool_result` blocks"),
    ([USER, said(USE), asked(RESULT, RESULT)], "each tool_use must have a single result"),
    ([asked(RESULT)], "unexpected `tool_use_id` found in `tool_result` blocks: toolu_1"),
    ([USER, said(USE), asked(RESULT), said(USE), asked(RESULT)], "`tool_use` ids must be unique"),
    ([USER, said({**USE, "id": "call.1"}), asked({**RESULT, "tool_use_id": "call.1"})], "should match pattern"),
    ([USER, said({**USE, "name": "a b"}), asked(RESULT)], "should match pattern"),
    ([USER, said({**USE, "input": "{}"}), asked(RESULT)], "Input should be a valid dictionary"),
    ([USER, said({"type": "thinking", "thinking": "x", "signature": "y"}, TEXT), USER], "Invalid `signature`"),
    ([USER, said({"type": "redacted_thinking", "data": "x"}), USER], "cannot be `thinking`"),
    ([asked(picture("image/tiff", "aGk="))], "media_type: Input should be"),
    ([asked(picture("image/png", "%%%"))], "invalid base64"),
    ([USER, said(TEXT)], "does not support assistant message prefill"),
]


@pytest.mark.parametrize(("messages", "reason"), MESSAGES)
async def test_turns_and_pairs_that_the_api_refuses_are_a_400(messages: Any, reason: str) -> None:
    assert reason in await refusal({"messages": messages})


@pytest.mark.parametrize(
    "messages",
    [
        [USER, USER],
        [USER, said(TEXT), USER],
        [USER, said(TEXT, USE), asked(RESULT, TEXT)],
        [USER, said(USE, {**USE, "id": "toolu_2"}), asked({**RESULT, "tool_use_id": "toolu_2"}, RESULT)],
        [USER, said(USE), asked({"type": "tool_result", "tool_use_id": "toolu_1"})],
        [asked(picture("image/png", "aGk="), TEXT)],
    ],
)
async def test_turns_that_keep_the_rules_are_answered(messages: Any) -> None:
    assert await refusal({"messages": messages}) == ""


TOOL: dict[str, Any] = {**WEATHER}
MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"model": None}, "model: Field required"),
    ({"input": "x"}, "input: Extra inputs are not permitted"),
    ({"mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
    ({"system": [{"type": "image"}]}, "Input should be 'text'"),
    ({"model": "claude-sonnet-4-5", "messages": [USER, said({"type": "text", "text": "So "})]}, "trailing whitespace"),
    (
        {"model": "claude-sonnet-4-5", "max_tokens": 2000, "messages": [USER, said(TEXT)], "thinking": THINKING},
        "must not be an assistant's",
    ),
    ({"thinking": {"type": "enabled"}}, "budget_tokens: Field required"),
    ({"tools": [{"name": "a", "input_schema": {**OPEN, "additionalProperties": True}, "strict": True}]}, "to false"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"anyOf": [{"type": "array", "items": OPEN}]}}}},
        "must be explicitly set to false",
    ),
    ({"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
    ({"tools": [{"name": "a b", "input_schema": OPEN}]}, "tools.0.custom.name"),
    ({"tools": [{"name": "a"}]}, "input_schema: Field required"),
    ({"tools": [{"name": "a", "input_schema": {}}]}, "input_schema.type: Field required"),
    ({"tools": [{"name": "a", "input_schema": {"type": "object", "anyOf": []}}]}, "at the top level"),
    ({"tools": [{"name": "a", "input_schema": OPEN, "strict": True}]}, "must be explicitly set to false"),
    ({"tools": [{"name": f"a{n}", "input_schema": SHUT, "strict": True} for n in range(21)]}, "Too many strict tools"),
    ({"output_config": {"format": {"type": "json_schema", "schema": members(25, {})}}}, "too many optional"),
    ({"output_config": {"format": {"type": "json_schema", "schema": members(17, MAYBE, True)}}}, "union types (17)"),
    ({"output_config": {"format": {"type": "json_schema", "schema": members(1, {"$ref": "#"})}}}, "Circular"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"$defs": {"a": {"items": RING}}, **RING}}}},
        "#/$defs/a -> #/$defs/a",
    ),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "string", "pattern": "(?!a)"}}}},
        "is not supported",
    ),
    ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    ({"tool_choice": {"type": "auto"}}, "only be specified while providing tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found"),
    ({"output_config": {"format": {"type": "json_schema", "schema": OPEN}}}, "must be explicitly set to false"),
    ({"output_config": {"format": {"type": "json_schema", "schema": BOUND}}}, "minimum are not supported"),
    ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format"),
    ({"output_config": {"effort": "minimal"}}, "output_config.effort"),
    ({"thinking": {"type": "on"}}, "does not match any of the expected tags"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "`max_tokens` must be greater"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "greater than or equal to 1024"),
    ({"max_tokens": 2000, "thinking": THINKING, "temperature": 0.5}, "`temperature` may only be set to 1"),
    ({"max_tokens": 2000, "thinking": THINKING, "top_p": 0.5}, "`top_p` must be greater"),
    ({"max_tokens": 2000, "thinking": THINKING, "top_k": 5}, "`top_k` must be unset"),
    ({"max_tokens": 2000, "thinking": THINKING, "tools": [TOOL], "tool_choice": {"type": "any"}}, "forces tool use"),
    ({"temperature": 0.5, "top_p": 0.5}, "cannot both be specified"),
    ({"temperature": 1.5}, "range: 0..1"),
    ({"model": "claude-opus-4-8", "temperature": 1}, "`temperature` is deprecated for this model"),
    ({"model": "claude-opus-5", "max_tokens": 2000, "thinking": THINKING}, "is not supported for this model"),
    ({"model": "claude-sonnet-4-5", "thinking": {"type": "adaptive"}}, "not supported on this model"),
    ({"stop_sequences": [" "]}, "non-whitespace"),
    ({"metadata": {"user_id": "x" * 257}}, "at most 256 characters"),
    ({"messages": [asked(*[{**TEXT, "cache_control": {"type": "ephemeral"}}] * 5)]}, "maximum of 4 blocks"),
]


@pytest.mark.parametrize(("body", "reason"), MEMBERS)
async def test_members_that_the_api_refuses_are_a_400(body: dict[str, Any], reason: str) -> None:
    assert reason in await refusal(body)


@pytest.mark.parametrize(
    "body",
    [
        {"model": "claude-sonnet-4-5", "messages": [USER, said(TEXT)]},
        {"model": "claude-3-5-haiku-20241022", "temperature": 0.5, "top_p": 0.5},
        {"model": "claude-sonnet-4-20250514", "temperature": 0.5, "top_p": 0.5, "top_k": 5},
        {"model": "other-makers-model", "thinking": {"type": "adaptive"}},
        {"max_tokens": 2000, "thinking": {"type": "disabled"}, "temperature": 0.5},
        {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}], "tool_choice": {"type": "auto"}},
    ],
)
async def test_members_that_the_model_takes_are_taken(body: dict[str, Any]) -> None:
    assert await refusal(body) == ""


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([USER, SYSTEM], ""),
        ([USER, SYSTEM, said(TEXT), USER], ""),
        ([USER, said(USE), asked(RESULT), SYSTEM], ""),
        ([SYSTEM, USER], "use the top-level 'system' parameter"),
        ([USER, said(TEXT), SYSTEM], "must follow a user message"),
        ([USER, SYSTEM, USER], "must follow a user message"),
        ([USER, SYSTEM, SYSTEM], "must follow a user message"),
        ([USER, said(USE), SYSTEM, asked(RESULT)], "must follow a user message"),
    ],
)
async def test_new_models_take_instructions_after_the_user(messages: Any, reason: str) -> None:
    refused = await refusal({"model": "claude-opus-4-8", "messages": messages})

    assert (reason in refused) if reason else refused == ""


async def test_a_conversation_is_compacted_from_50000_tokens_on_and_not_before() -> None:
    edit = {"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 49_999}}
    body = {"context_management": {"edits": [edit]}}

    assert "trigger.value must be at least 50000" in await refusal(body, **{"anthropic-beta": "compact-2026-01-12"})


async def test_a_beta_is_there_for_who_asks_for_it() -> None:
    assert await refusal({"mcp_servers": []}, **{"anthropic-beta": "other, mcp-client-2025-11-20"}) == ""


async def test_counting_takes_what_is_counted_and_no_more() -> None:
    assert await refusal({"max_tokens": None}, "/messages/count_tokens") == ""
    assert "max_tokens: Extra inputs" in await refusal({}, "/messages/count_tokens")


async def test_the_version_of_the_api_has_to_be_named(provider: FakeProvider) -> None:
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{provider.base_url}/messages", json={"model": "m"})

    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "anthropic-version: header is required")
