"""The fake provider speaks the Gemini API: seen with the official SDK, on a real socket, and rule by rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
from google import genai
from google.genai import errors, types

from gomodel_asgi.testing import Answer, Cut, ErrorInside, FakeProvider, Prompt, Status, ToolCall

KEY = "sk-canary-of-the-client"
OLD = "gemini-2.5-flash"
NEW = "gemini-3-flash-preview"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", parameters_json_schema=SCHEMA)])
CITIES = [ToolCall("weather", {"city": "Oslo"}), ToolCall("weather", {"city": "Bergen"})]
THOUGHTS = types.ThinkingConfig(include_thoughts=True)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider(dialect="gemini").run_in_thread() as provider:
        yield provider


@pytest.fixture
def client(provider: FakeProvider) -> Iterator[genai.Client]:
    with genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=provider.origin)) as client:
        yield client


def parts_of(reply: types.GenerateContentResponse) -> list[types.Part]:
    assert reply.candidates and reply.candidates[0].content
    return reply.candidates[0].content.parts or []


def test_it_repeats_what_the_user_said_and_counts_it(client: genai.Client) -> None:
    reply = client.models.generate_content(
        model=OLD, contents="one two", config=types.GenerateContentConfig(system_instruction="be brief")
    )

    assert reply.text == "You said: one two"
    assert reply.model_version == OLD and reply.candidates
    assert reply.candidates[0].finish_reason == types.FinishReason.STOP
    usage = reply.usage_metadata
    assert usage
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.total_token_count) == (4, 4, 8)


@pytest.mark.parametrize("model", [OLD, NEW])
def test_a_stream_and_a_unary_reply_say_the_same(provider: FakeProvider, client: genai.Client, model: str) -> None:
    answer = Answer(text="I look.", reasoning="Two cities.", calls=CITIES, cached=1)
    provider.script(answer, answer)
    config = types.GenerateContentConfig(tools=[WEATHER], thinking_config=THOUGHTS)
    unary = client.models.generate_content(model=model, contents="a b", config=config)
    chunks = list(client.models.generate_content_stream(model=model, contents="a b", config=config))
    streamed = [part for chunk in chunks for part in parts_of(chunk)]

    for parts in (parts_of(unary), streamed):
        assert "".join(part.text or "" for part in parts if part.thought) == "Two cities."
        assert "".join(part.text or "" for part in parts if not part.thought) == "I look."
        calls = [part.function_call for part in parts if part.function_call]
        assert [call.args for call in calls] == [{"city": "Oslo"}, {"city": "Bergen"}]
        assert [call.id is not None for call in calls] == [model == NEW] * 2
        signed = [part.thought_signature is not None for part in parts if part.function_call]
        assert signed == [True, False]
    assert chunks[-1].usage_metadata == unary.usage_metadata
    usage = unary.usage_metadata
    assert usage
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (2, 1)
    assert (usage.thoughts_token_count, usage.candidates_token_count, usage.total_token_count) == (2, 6, 10)
    assert chunks[-1].candidates and chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert all(chunk.candidates and chunk.candidates[0].finish_reason is None for chunk in chunks[:-1])


def test_a_new_model_signs_its_text_at_the_end_and_shows_no_thoughts_unasked(
    provider: FakeProvider, client: genai.Client
) -> None:
    provider.script(*[Answer(text="Hello there.", reasoning="Two words.")] * 2)
    unary = client.models.generate_content(model=NEW, contents="hi")
    last = list(client.models.generate_content_stream(model=NEW, contents="hi"))[-1]

    (part,) = parts_of(unary)
    assert (part.text, part.thought_signature is not None) == ("Hello there.", True)
    assert unary.usage_metadata and unary.usage_metadata.thoughts_token_count == 2
    (part,) = parts_of(last)
    assert (part.text, part.thought_signature is not None) == ("", True)


def test_a_tool_is_called_when_the_request_demands_it(client: genai.Client) -> None:
    calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["weather"])
    config = types.GenerateContentConfig(tools=[WEATHER], tool_config=types.ToolConfig(function_calling_config=calling))
    reply = client.models.generate_content(model=OLD, contents="hi", config=config)

    assert [call.args for call in reply.function_calls or []] == [{"city": "Paris"}]


@pytest.mark.parametrize("member", ["response_json_schema", "response_schema"])
def test_structured_output_follows_the_schema(client: genai.Client, member: str) -> None:
    config = types.GenerateContentConfig(response_mime_type="application/json")
    setattr(config, member, SCHEMA)
    reply = client.models.generate_content(model=OLD, contents="Oslo", config=config)

    assert reply.text and json.loads(reply.text) == {"city": "Oslo"}


def test_an_early_end_a_refusal_and_malformed_arguments_are_told(provider: FakeProvider, client: genai.Client) -> None:
    provider.script(
        Answer(text="Half", incomplete="content_filter"),
        Answer(refusal="I must not."),
        Answer(calls=[ToolCall("weather", '{"city": "Os')]),
        Answer(text="x", incomplete="RECITATION"),
    )
    replies = [client.models.generate_content(model=OLD, contents="hi") for _ in range(4)]
    short = client.models.generate_content(
        model=OLD, contents="a b c d", config=types.GenerateContentConfig(max_output_tokens=3)
    )

    candidates = [reply.candidates[0] for reply in [*replies, short] if reply.candidates]
    assert [candidate.finish_reason for candidate in candidates] == [
        types.FinishReason.SAFETY,
        types.FinishReason.SAFETY,
        types.FinishReason.MALFORMED_FUNCTION_CALL,
        types.FinishReason.RECITATION,
        types.FinishReason.MAX_TOKENS,
    ]
    assert short.text == "You said: a"


def test_several_turns_with_an_image_and_responses_are_understood(provider: FakeProvider, client: genai.Client) -> None:
    seen: list[Prompt] = []

    def look(prompt: Prompt) -> Answer:
        seen.append(prompt)
        return Answer(text="Rain.")

    provider.script(Answer(text="I look.", calls=CITIES), look)
    picture = types.Part.from_bytes(data=b"hi", mime_type="image/png")
    user = types.Content(role="user", parts=[types.Part(text="Here?"), picture])
    config = types.GenerateContentConfig(tools=[WEATHER])
    first = client.models.generate_content(model=NEW, contents=[user], config=config)
    assert first.candidates and first.candidates[0].content and first.function_calls
    responses = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name="weather", response={"output": "rain"}))
        for call in first.function_calls
    ]
    later: list[Any] = [user, first.candidates[0].content, types.Content(role="user", parts=responses)]
    second = client.models.generate_content(model=NEW, contents=later, config=config)

    assert second.text == "Rain."
    assert [(said.role, said.text) for said in seen[0].messages] == [
        ("user", "Here?"),
        ("assistant", "I look."),
        ("assistant", '{"city": "Oslo"}'),
        ("assistant", '{"city": "Bergen"}'),
        ("tool", "rain"),
        ("tool", "rain"),
    ]
    assert seen[0].messages[0].media == ("data:image/png;base64,aGk=",)


def test_tokens_are_counted_and_models_listed(client: genai.Client, provider: FakeProvider) -> None:
    assert client.models.count_tokens(model=OLD, contents="one two three").total_tokens == 3
    assert [model.name for model in client.models.list()] == ["models/fake-model"]
    assert client.models.get(model="any").name == "models/any"
    whole = {"model": f"models/{OLD}", "contents": [USER], "systemInstruction": {"parts": [{"text": "be brief"}]}}
    reply = httpx.post(f"{provider.base_url}/models/{OLD}:countTokens", json={"generateContentRequest": whole})
    assert reply.json()["totalTokens"] == 3
    both = {"generateContentRequest": whole, "contents": [USER]}
    assert httpx.post(f"{provider.base_url}/models/{OLD}:countTokens", json=both).status_code == 400
    assert httpx.post(f"{provider.base_url}/models/{OLD}:embedContent", json={}).status_code == 404


@pytest.mark.parametrize(
    ("status", "name", "error"),
    [
        (403, "PERMISSION_DENIED", errors.ClientError),
        (404, "NOT_FOUND", errors.ClientError),
        (429, "RESOURCE_EXHAUSTED", errors.ClientError),
        (500, "INTERNAL", errors.ServerError),
        (503, "UNAVAILABLE", errors.ServerError),
    ],
)
def test_the_sdk_knows_each_error_status(
    provider: FakeProvider, client: genai.Client, status: int, name: str, error: type[errors.APIError]
) -> None:
    for stream in (False, True):
        provider.fail_next(Status(status, "As scripted."))
        with pytest.raises(error, match="As scripted") as raised:
            if stream:
                list(client.models.generate_content_stream(model=OLD, contents="hi"))
            else:
                client.models.generate_content(model=OLD, contents="hi")

        assert (raised.value.code, raised.value.status) == (status, name)


def test_the_sdk_sees_an_error_and_a_cut_inside_a_stream(provider: FakeProvider, client: genai.Client) -> None:
    provider.fail_next(ErrorInside(after_events=1, status=503))
    provider.fail_next(Cut(inside_event=1))
    for expected in (errors.ServerError, httpx2.RemoteProtocolError):
        with pytest.raises(expected):
            list(client.models.generate_content_stream(model=OLD, contents="hi"))


def test_a_stream_without_sse_is_one_list_of_json(provider: FakeProvider) -> None:
    path = f"{provider.base_url}/models/{OLD}:streamGenerateContent"
    reply = httpx.post(path, json={"contents": [USER]})
    provider.fail_next(Status(429))
    refused = httpx.post(path, json={"contents": [USER]})

    texts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in reply.json()]
    assert (reply.headers["content-type"], "".join(texts)) == ("application/json; charset=UTF-8", "You said: hi")
    assert refused.json()[0]["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_members_may_be_written_in_snake_case(provider: FakeProvider) -> None:
    body = {
        "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGk="}}]}],
        "system_instruction": {"parts": [{"text": "be brief"}]},
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
        "tool_config": {"function_calling_config": {"mode": "ANY"}},
    }
    reply = httpx.post(f"{provider.base_url}/models/{OLD}:generateContent", json=body)

    assert reply.json()["candidates"][0]["content"]["parts"][0]["functionCall"]["name"] == "f"


# Rules...


USER = {"role": "user", "parts": [{"text": "hi"}]}
ANSWER = {"role": "model", "parts": [{"text": "hello"}]}
STAND_IN = "skip_thought_signature_validator"


def call(name: str = "f", **more: Any) -> dict[str, Any]:
    signature = {"thoughtSignature": more.pop("signature")} if "signature" in more else {}
    return {"functionCall": {"name": name, "args": {}, **more}, **signature}


def response(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"output": "x"}, **more}}


def model(*parts: Any) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def refusal(provider: FakeProvider, body: dict[str, Any], name: str = OLD, prefix: str = "/v1beta") -> str:
    """The message that refuses *body*, empty if it is answered."""
    whole = {"contents": [USER], **body}
    reply = httpx.post(f"{provider.origin}{prefix}/models/{name}:generateContent", json=whole)
    if reply.status_code == 200:
        return ""
    assert (reply.status_code, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    return str(reply.json()["error"]["message"])


TURNS: list[tuple[list[Any], str]] = [
    ([], "contents is not specified"),
    ([{"role": "system", "parts": [{"text": "x"}]}], "valid role: user, model"),
    ([user()], "contents.parts must not be empty"),
    ([user({})], "required oneof field 'data'"),
    ([user({"text": "x", "inlineData": {}})], "already set"),
    ([user({"words": "x"})], "Unknown name"),
    ([user({"inlineData": {"mimeType": "image/png", "data": "%%%"}})], "Base64 decoding failed"),
    ([user({"inlineData": {"mimeType": "image/gif", "data": "aGk="}})], "Unsupported MIME type: image/gif"),
    ([model(call()), user(response())], "function call turn comes immediately after a user turn"),
    ([USER, ANSWER, model(call()), user(response())], "function call turn comes immediately after a user turn"),
    ([USER, model(call()), USER], "number of function response parts is equal"),
    ([USER, model(call(), call()), user(response())], "number of function response parts is equal"),
    ([USER, model(call()), USER, user(response())], "number of function response parts is equal"),
    ([USER, user(response())], "function response turn comes immediately after a function call turn"),
    ([USER, model(call())], "end with a user role or a function response"),
    ([USER, model(call()), user(response("g"))], "answers no function call"),
    ([USER, model(call(id="a")), user(response(id="b"))], "answers no function call"),
    ([USER, model(call("")), user(response())], "Name cannot be empty"),
    ([USER, model({"functionCall": {"name": "f", "args": "{}"}}), user(response())], "function_call.args"),
    ([USER, model(call()), user({"functionResponse": {"name": "f", "response": "x"}})], "function_response.response"),
]


@pytest.mark.parametrize(("contents", "reason"), TURNS)
def test_turns_that_the_api_refuses_are_a_400(provider: FakeProvider, contents: list[Any], reason: str) -> None:
    assert reason in refusal(provider, {"contents": contents})


@pytest.mark.parametrize(
    "contents",
    [
        [ANSWER, USER],
        [USER, USER, ANSWER, USER],
        [USER, model({"text": "I look."}, call("f"), call("g")), user(response("g"), response("f")), ANSWER, USER],
        [USER, model(call(id="a"), call(id="b")), user(response(id="b"), response(id="a"))],
        [USER, model(call()), user(response()), model(call()), user(response())],
    ],
)
def test_turns_that_keep_the_rules_are_answered(provider: FakeProvider, contents: list[Any]) -> None:
    assert refusal(provider, {"contents": contents}) == ""


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ([USER, model(call()), user(response())], "missing a thought_signature"),
        ([USER, model(call(signature=STAND_IN)), user(response()), model(call()), user(response())], "position 4"),
        ([USER, model(call(signature="bm90IG91cnM=")), user(response())], "Thought signature is not valid"),
        ([USER, model(call(signature="%%%")), user(response())], "Thought signature is not valid"),
        ([USER, model(call(signature=7)), user(response())], "Thought signature is not valid"),
        ([USER, model(call(signature=STAND_IN), call()), user(response(), response())], ""),
        ([USER, model(call()), user(response()), ANSWER, USER], ""),
    ],
)
def test_a_new_model_wants_the_signature_of_each_step_of_the_current_turn(
    provider: FakeProvider, contents: list[Any], reason: str
) -> None:
    refused = refusal(provider, {"contents": contents}, NEW)

    assert (reason in refused) if reason else refused == ""


FUNCTIONS = {"functionDeclarations": [{"name": "f", "parametersJsonSchema": SCHEMA}]}
SEARCH: dict[str, Any] = {"googleSearch": {}}
ANY = {"mode": "ANY", "allowedFunctionNames": ["g"]}


def declared(**parameters: Any) -> dict[str, Any]:
    return {"functionDeclarations": [{"name": "f", "parameters": parameters}]}


MEMBERS: list[tuple[dict[str, Any], str]] = [
    ({"input": "x"}, 'Unknown name "input": Cannot find field'),
    ({"generationConfig": {"max_tokens": 3}}, "Unknown name \"maxTokens\" at 'generation_config'"),
    ({"generationConfig": {"maxOutputTokens": 0}}, "must be positive"),
    ({"generationConfig": {"temperature": 3}}, "range [0.0, 2.0]"),
    ({"generationConfig": {"responseJsonSchema": SCHEMA}}, "response_mime_type is application/json"),
    ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, "Thinking level is not supported"),
    ({"tools": [FUNCTIONS, SEARCH]}, "Tool use with function calling is unsupported"),
    (
        {"tools": [FUNCTIONS], "generationConfig": {"responseMimeType": "application/json"}},
        "Function calling with a response mime type",
    ),
    (
        {"tools": [SEARCH], "generationConfig": {"responseMimeType": "application/json"}},
        "Tool use with a response mime type",
    ),
    ({"tools": [{"webSearch": {}}]}, "Unknown name"),
    ({"tools": [FUNCTIONS, FUNCTIONS]}, "Duplicate function declaration found: f"),
    ({"tools": [{"functionDeclarations": [{"name": "a b"}]}]}, "Invalid function name"),
    ({"tools": [{"functionDeclarations": [{"name": "f", "strict": True}]}]}, "Unknown name"),
    ({"tools": [declared(type="OBJECT", properties={})]}, "should be non-empty for OBJECT type"),
    ({"tools": [declared(type="OBJECT", properties={"a": {"type": "STRING", "const": "x"}})]}, 'name "const"'),
    ({"tools": [FUNCTIONS], "toolConfig": {"functionCallingConfig": ANY}}, "'g' is not declared"),
    ({"tools": [declared(type="OBJECT", properties={"a": {"anyOf": [{"const": 1}]}})]}, 'name "const"'),
    (
        {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}]},
        "mutually exclusive",
    ),
    ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "without function_declarations"),
    (
        {"tools": [FUNCTIONS], "toolConfig": {"functionCallingConfig": {**ANY, "mode": "AUTO"}}},
        "only when function calling mode is ANY",
    ),
]


@pytest.mark.parametrize(("body", "reason"), MEMBERS)
def test_members_that_the_api_refuses_are_a_400(provider: FakeProvider, body: dict[str, Any], reason: str) -> None:
    assert reason in refusal(provider, body)


def test_new_models_combine_functions_and_search_if_they_are_asked_to(provider: FakeProvider) -> None:
    both: dict[str, Any] = {"tools": [FUNCTIONS, SEARCH]}
    asked: dict[str, Any] = {**both, "toolConfig": {"includeServerSideToolInvocations": True}}
    vertex = "/v1/projects/p/locations/l/publishers/google"

    assert "include_server_side_tool_invocations" in refusal(provider, both, NEW)
    assert refusal(provider, asked, NEW) == ""
    assert refusal(provider, both, NEW, vertex) == ""
    assert "Unknown name" in refusal(provider, asked, NEW, vertex)


def test_thinking_is_set_as_the_model_takes_it(provider: FakeProvider) -> None:
    def reason(name: str, **config: Any) -> str:
        return refusal(provider, {"generationConfig": {"thinkingConfig": config}}, name)

    assert reason(OLD, thinkingBudget=0) == reason(NEW, thinkingLevel="LOW") == ""
    assert "only works in thinking mode" in reason("gemini-2.5-pro", thinkingBudget=0)
    assert "only one of thinking budget and thinking level" in reason(NEW, thinkingBudget=5, thinkingLevel="LOW")
    assert "Thinking is not enabled" in reason("gemini-2.0-flash", includeThoughts=True)
