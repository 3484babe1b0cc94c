"""One script for every dialect: what is said, failed and looked at is the same, whichever API the fake speaks."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, get_args

import anyio
import httpx
import pytest

from gomodel_asgi import Gateway, Provider, Retries
from gomodel_asgi.testing import (
    Answer,
    ContentType,
    Cut,
    Empty,
    ErrorInside,
    FakeProvider,
    Fault,
    Garbage,
    Html,
    Malformed,
    MalformedEvent,
    NoTerminal,
    Oversize,
    Prompt,
    Reply,
    Slow,
    Stall,
    Status,
    Swapped,
    ToolCall,
)
from gomodel_asgi.testing.provider import APIS, Dialect

from ..support.driving import Caller, ask, events_of

KEY = "sk-canary-of-the-house"
TIMEOUT = 10.0
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
VERSION = {"anthropic-version": "2023-06-01"}
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


def request_of(dialect: Dialect, said: str = "hi", *, stream: bool = False) -> tuple[str, Mapping[str, Any]]:
    """Path and body of the simplest request."""
    messages = [{"role": "user", "content": said}]
    match dialect:
        case "responses":
            return "/responses", {"model": "m", "input": said, "stream": stream}
        case "chat":
            return "/chat/completions", {"model": "m", "messages": messages, "stream": stream}
        case "anthropic":
            return "/messages", {"model": "m", "max_tokens": 100, "messages": messages, "stream": stream}
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/models/gemini-2.5-flash:{verb}", {"contents": [{"role": "user", "parts": [{"text": said}]}]}


def text_in(dialect: Dialect, reply: Any) -> Any:
    """What a unary reply says."""
    match dialect:
        case "responses":
            return reply["output"][0]["content"][0]["text"]
        case "chat":
            return reply["choices"][0]["message"]["content"]
        case "anthropic":
            return reply["content"][0]["text"]
    return reply["candidates"][0]["content"]["parts"][0]["text"]


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    chosen: Dialect = request.param
    return chosen


@pytest.fixture
async def fake(dialect: Dialect) -> AsyncIterator[FakeProvider]:
    async with FakeProvider(dialect=dialect).serve() as provider:
        yield provider


async def post(
    fake: FakeProvider,
    path: str | None = None,
    headers: Mapping[str, str] = {},
    *,
    stream: bool = False,
    said: str = "hi",
) -> httpx.Response:
    own, body = request_of(fake.dialect, said, stream=stream)
    async with httpx.AsyncClient(timeout=TIMEOUT) as http:
        return await http.post(fake.base_url + (path or own), json=body, headers={**VERSION, **headers})


# The provider itself...


async def test_each_dialect_repeats_what_the_user_said(fake: FakeProvider, dialect: Dialect) -> None:
    reply = await post(fake, said="Grüße an alle")

    assert reply.status_code == 200
    assert text_in(dialect, reply.json()) == "You said: Grüße an alle"


async def test_an_unknown_dialect_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="responses, chat, anthropic, gemini"):
        FakeProvider(dialect="claude")  # type: ignore[arg-type]


@pytest.mark.parametrize("twice", [True, False], ids=["the path twice", "another path"])
async def test_a_wrong_path_is_a_404_in_the_dialects_own_form(
    fake: FakeProvider, dialect: Dialect, twice: bool
) -> None:
    own = request_of(dialect)[0]
    reply = await post(fake, own + own if twice else "/nothing")

    assert reply.status_code == 404
    error = reply.json()["error"]
    assert {
        "responses": error.get("type") == "invalid_request_error" and "param" in error,
        "chat": error.get("type") == "invalid_request_error" and "param" in error,
        "anthropic": error.get("type") == "not_found_error" and reply.json()["type"] == "error",
        "gemini": error.get("status") == "NOT_FOUND" and error.get("code") == 404,
    }[dialect]


async def test_a_path_below_any_prefix_is_served(fake: FakeProvider, dialect: Dialect) -> None:
    own, body = request_of(dialect)
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{fake.origin}/tenants/acme/openai/v1{own}", json=body, headers=VERSION)

    assert reply.status_code == 200


async def test_a_wrong_method_is_a_405(fake: FakeProvider, dialect: Dialect) -> None:
    async with httpx.AsyncClient(base_url=fake.base_url) as http:
        reply = await http.put(request_of(dialect)[0])

    assert reply.status_code == 405
    assert "message" in reply.json()["error"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"hi"', b""])
async def test_a_body_that_is_no_object_is_a_400(fake: FakeProvider, dialect: Dialect, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=fake.base_url, headers=VERSION) as http:
        reply = await http.post(request_of(dialect)[0], content=body)

    assert reply.status_code == 400
    assert "message" in reply.json()["error"]


async def test_the_models_are_listed_and_one_is_described_and_others_are_not_there(dialect: Dialect) -> None:
    async with (
        FakeProvider(dialect=dialect, models=["small", "large"]).serve() as fake,
        httpx.AsyncClient(base_url=fake.base_url) as http,
    ):
        listed = (await http.get("/models")).json()
        one = (await http.get("/models/large")).json()
        missing = await http.get("/models/huge")
        refused = await post(fake)

    names = [model.get("id") or model["name"] for model in listed.get("data") or listed["models"]]
    prefix = "models/" if dialect == "gemini" else ""
    assert names == [f"{prefix}small", f"{prefix}large"]
    assert (one.get("id") or one["name"]) == f"{prefix}large"
    assert (missing.status_code, refused.status_code) == (404, 404)


async def test_a_provider_that_names_no_models_has_every_model(fake: FakeProvider) -> None:
    async with httpx.AsyncClient(base_url=fake.base_url) as http:
        assert (await http.get("/models")).status_code == 200
        assert (await http.get("/models/any")).status_code == 200


async def test_a_wrong_key_is_refused_as_the_api_does(dialect: Dialect) -> None:
    header = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(dialect, "authorization")
    scheme = "Bearer " if header == "authorization" else ""
    async with FakeProvider(dialect=dialect, api_key=KEY).serve() as fake:
        wrong = await post(fake, headers={header: f"{scheme}other"})
        right = await post(fake, headers={header: f"{scheme}{KEY}"})
        none = await post(fake)

    assert right.status_code == 200
    assert wrong.status_code == (400 if dialect == "gemini" else 401)
    assert none.status_code == (403 if dialect == "gemini" else 401)
    assert "other" in wrong.text


async def test_ids_differ_between_providers_of_different_names(dialect: Dialect) -> None:
    replies = []
    for name in ("east", "west"):
        async with FakeProvider(dialect=dialect, name=name).serve() as fake:
            replies.append((await post(fake)).json())

    east, west = (reply.get("id") or reply["responseId"] for reply in replies)
    assert east != west


ODD: list[Any] = [None, 7, "x", [], {}, [7], ["x"], [{}], {"type": "x"}, [[]], {"x": {}}, True]
FULL: dict[Dialect, list[dict[str, Any]]] = {
    "responses": [
        {
            "model": "m",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            "tools": [WEATHER, {"type": "namespace", "name": "n", "tools": [WEATHER]}],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            "text": {"format": {"type": "json_schema", "schema": {"anyOf": [{"type": "string"}]}}},
            "reasoning": {"effort": "low"},
            "conversation": {"id": "conv_1"},
        }
    ],
    "chat": [
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c", "content": "x"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            "stream_options": {"include_usage": True},
            "reasoning": {"effort": "low"},
        }
    ],
    "anthropic": [
        {
            "model": "m",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "x"}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text"}]}],
                },
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "auto"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}, "effort": "low"},
            "metadata": {"user_id": "x"},
            "stop_sequences": ["x"],
        },
        {
            "model": "m",
            "max_tokens": 2000,
            "messages": [{"role": "user", "content": "x"}],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "top_p": 1,
        },
    ],
    "gemini": [
        {
            "contents": [
                {"role": "user", "parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}}}]},
            ],
            "systemInstruction": {"parts": [{"text": "x"}]},
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 100}, "temperature": 1},
        }
    ],
}
"""Requests with many members, each of which is put out of shape in turn."""


def misshapen(value: Any, odd: Any) -> Iterator[Any]:
    """*value* with *odd* in the place of each of its parts in turn."""
    yield odd
    if isinstance(value, dict):
        for name, member in value.items():
            yield from ({**value, name: changed} for changed in misshapen(member, odd))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            yield from ([*value[:at], changed, *value[at + 1 :]] for changed in misshapen(member, odd))


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
async def test_a_request_of_any_shape_is_answered_or_refused(dialect: Dialect, odd: Any) -> None:
    fake = FakeProvider(dialect=dialect, strict=True)
    transport = httpx.ASGITransport(app=fake)
    async with httpx.AsyncClient(transport=transport, base_url="http://fake.test/v1", headers=VERSION) as http:
        statuses = set()
        for whole in FULL[dialect]:
            for body in misshapen(whole, odd):
                statuses.add((await http.post(request_of(dialect)[0], json=body)).status_code)

    assert 400 in statuses
    assert statuses <= {200, 400, 404}


# Scripts...


async def test_a_function_sees_the_prompt_and_gives_the_answer(fake: FakeProvider, dialect: Dialect) -> None:
    seen: list[Prompt] = []

    def say(prompt: Prompt) -> Answer:
        seen.append(prompt)
        return Answer(text=prompt.last.text.upper())

    fake.script(say)
    reply = await post(fake, said="quiet")

    assert text_in(dialect, reply.json()) == "QUIET"
    assert [(message.role, message.text) for message in seen[0].messages] == [("user", "quiet")]


async def test_a_function_may_be_the_model_for_every_request(dialect: Dialect) -> None:
    async with FakeProvider(dialect=dialect, model=lambda prompt: Answer(text="Always.")).serve() as fake:
        replies = [await post(fake) for _ in range(2)]

    assert [text_in(dialect, reply.json()) for reply in replies] == ["Always.", "Always."]


async def test_what_a_function_raises_is_a_500_and_is_raised_again_at_the_end(dialect: Dialect) -> None:
    def say(prompt: Prompt) -> Answer:
        assert prompt.last.text == "something else"
        return Answer()

    with pytest.raises(AssertionError):
        async with FakeProvider(dialect=dialect).serve() as fake:
            fake.script(say)
            reply = await post(fake)
            assert reply.status_code == 500
            assert "AssertionError" in reply.json()["error"]["message"]


def test_what_a_function_raises_in_a_thread_is_raised_again_too() -> None:
    def say(prompt: Prompt) -> Answer:
        raise LookupError(prompt.model)

    with pytest.raises(LookupError), FakeProvider().run_in_thread() as fake:
        fake.script(say)
        httpx.post(f"{fake.base_url}/responses", json={"model": "m", "input": "hi"})


# Faults...


STREAMED: list[tuple[Fault, str]] = [
    (Status(429, retry_after=2), "status"),
    (Html(), "status"),
    (Cut(after_events=1), "cut"),
    (Cut(inside_event=1), "cut"),
    (ErrorInside(after_events=1), "error"),
    (NoTerminal(), "unfinished"),
    (MalformedEvent(), "garbage"),
    (Oversize(size=1000), "long"),
    (Slow(1), "whole"),
    (Swapped(), "unary"),
]


@pytest.mark.parametrize(("fault", "outcome"), STREAMED, ids=lambda value: type(value).__name__)
async def test_every_fault_of_a_stream_is_one_of_this_dialect(
    fake: FakeProvider, dialect: Dialect, fault: Fault, outcome: str
) -> None:
    whole = (await post(fake, stream=True)).text
    fake.fail_next(fault)
    if outcome == "cut":
        with pytest.raises(httpx.RemoteProtocolError):
            await post(fake, stream=True)
        return
    reply = await post(fake, stream=True)
    match outcome:
        case "status":
            assert (reply.status_code, reply.text != whole) == (getattr(fault, "status", 200), True)
        case "error":
            assert "as scripted" in reply.text and reply.text.count("data:") == 2
        case "unfinished":
            assert not any(end in reply.text for end in ENDS[dialect])
            assert len(reply.text) < len(whole)
        case "garbage":
            assert "{not json" in reply.text
        case "long":
            assert "x" * 1000 in reply.text
        case "whole":
            assert without_ids(reply.text) == without_ids(whole)
        case "unary":
            assert "You said: hi" in str(text_in(dialect, reply.json()))


ENDS = {
    "responses": ["response.completed", "[DONE]"],
    "chat": ['"finish_reason":"stop"', "[DONE]"],
    "anthropic": ["message_delta", "message_stop"],
    "gemini": ["finishReason"],
}


def without_ids(stream: str) -> str:
    """*stream* as every request of the same words gets it."""
    return re.sub(r"fake-?(fake)?[0-9a-f]+|17722952\d\d", "#", stream).replace(" ", "")


@pytest.mark.parametrize("fault", [Status(503), ErrorInside(), Malformed(), Empty(), Html(), ContentType("text/plain")])
async def test_every_fault_of_a_unary_reply_is_one_of_this_dialect(fake: FakeProvider, fault: Fault) -> None:
    fake.fail_next(fault)
    reply = await post(fake)

    if isinstance(fault, Status | ErrorInside):
        assert "as scripted" in reply.json().get("error", reply.json())["message"]
        assert reply.status_code == (503 if isinstance(fault, Status) else 200)
    else:
        assert reply.status_code == 200


async def test_a_stalled_stream_goes_on_when_released(fake: FakeProvider) -> None:
    fake.fail_next(Stall(after_events=1))
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                assert (await post(fake, stream=True)).status_code == 200
                tasks.cancel_scope.cancel()

            tasks.start_soon(ask)
            await fake.received()
            while True:
                fake.release()
                await anyio.lowlevel.checkpoint()


ERRORS = {
    "responses": ({"type", "message", "param", "code"}, "rate_limit_error", 'event: error\ndata: {"type":"error"'),
    "chat": ({"type", "message", "param", "code"}, "rate_limit_error", 'data: {"error":'),
    "anthropic": ({"type", "message"}, "rate_limit_error", 'event: error\ndata: {"type":"error","error":'),
    "gemini": ({"code", "status", "message", "details"}, "RESOURCE_EXHAUSTED", 'data: {"error":'),
}


async def test_an_error_has_the_dialects_own_members_and_kind(fake: FakeProvider, dialect: Dialect) -> None:
    members, kind, framed = ERRORS[dialect]
    fake.fail_next(Status(429, retry_after=1.5))
    fake.fail_next(ErrorInside(status=429, after_events=1))
    refused = await post(fake)
    inside = await post(fake, stream=True)

    error = refused.json()["error"]
    assert set(error) == members
    assert (error["status"] if dialect == "gemini" else error["type"]) == kind
    assert refused.headers["retry-after"] == "1.5"
    assert framed in inside.text


@pytest.mark.parametrize("form", ["flat", "nested", "failed", "event"])
async def test_a_form_of_error_that_the_dialect_lacks_cannot_be_played(
    fake: FakeProvider, dialect: Dialect, form: Any
) -> None:
    has = {"responses": ("flat", "nested", "failed"), "chat": ("event",)}.get(dialect, ())
    fake.fail_next(ErrorInside(form=form, after_events=1))
    reply = await post(fake, stream=True)

    assert reply.status_code == (200 if form in has else 500)


async def test_an_error_in_the_common_form_is_an_event_without_a_name(fake: FakeProvider) -> None:
    fake.fail_next(ErrorInside(form="body", after_events=1))
    last = (await post(fake, stream=True)).text.replace("\r", "").strip().split("\n\n")[-1]

    assert last.startswith("data:") and "error" in json.loads(last[5:])


async def test_bytes_that_are_no_http_come_from_any_dialect(fake: FakeProvider) -> None:
    fake.fail_next(Garbage())
    with pytest.raises(httpx.RemoteProtocolError):
        await post(fake)


async def test_a_reply_is_given_as_it_is_by_any_dialect(fake: FakeProvider) -> None:
    fake.script(Reply({"mine": True}))

    assert (await post(fake)).json() == {"mine": True}


@pytest.mark.parametrize("params", [{"dialect": dialect} for dialect in APIS], ids=list(APIS))
async def test_behind_another_server_every_dialect_is_an_asgi_app(params: Any) -> None:
    fake = FakeProvider(**params)
    own, body = request_of(fake.dialect)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=fake), base_url="http://fake.test/v1") as http:
        assert (await http.post(own, json=body, headers=VERSION)).status_code == 200


# The whole way: one test for every upstream...


@pytest.fixture
def gateway(fake: FakeProvider, dialect: Dialect) -> Iterator[Gateway]:
    auth = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(dialect, "bearer")
    provider = Provider("fake", fake.base_url, dialect=dialect, api_key=KEY, auth=auth, retries=Retries(attempts=1))
    yield Gateway(providers=[provider])


MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash"}


async def through(gateway: Gateway, dialect: Dialect, stream: bool, **members: Any) -> Mapping[str, Any]:
    """The response that a client of the gateway gets."""
    body = {"model": MODELS.get(dialect, "m"), "stream": stream, **members}
    reply: Caller = await ask(gateway, body)
    assert reply.status == 200, reply.content
    response: Mapping[str, Any] = events_of(reply.content)[-1]["response"] if stream else reply.json()
    assert response["status"] == "completed", response
    return response


async def test_a_provider_that_names_nothing_but_its_dialect_is_answered(fake: FakeProvider, dialect: Dialect) -> None:
    async with Gateway(providers=[Provider("plain", fake.base_url, dialect=dialect)]) as gateway:
        assert (await ask(gateway, {"model": "m", "input": "hi"})).status == 200


@pytest.mark.parametrize("name", ["anthropic-version", "Anthropic-Version"])
async def test_a_provider_may_name_another_version_of_the_api(name: str) -> None:
    async with FakeProvider(dialect="anthropic").serve() as fake:
        provider = Provider("claude", fake.base_url, dialect="anthropic", headers={name: "2027-01-01"})
        async with Gateway(providers=[provider]) as gateway:
            assert (await ask(gateway, {"model": "m", "input": "hi"})).status == 200

    assert fake.requests[0].values("anthropic-version") == ["2027-01-01"]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_script_of_calls_is_played_the_same_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect, stream: bool
) -> None:
    cities = [ToolCall("weather", {"city": "Oslo"}), ToolCall("weather", {"city": "Bergen"})]

    def answer(prompt: Prompt) -> Answer:
        texts = {message.text for message in prompt.outputs}
        assert texts == {"rain", "sun"}
        assert [message.name for message in prompt.messages if message.role == "assistant" and message.name] == [
            "weather",
            "weather",
        ]
        return Answer(text="Rain in Oslo, sun in Bergen.")

    fake.script(Answer(text="I look.", calls=cities), answer)
    first = await through(gateway, dialect, stream, input="Where does it rain?", tools=[WEATHER])
    calls = [item for item in first["output"] if item["type"] == "function_call"]
    outputs = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": weather}
        for call, weather in zip(calls, ("rain", "sun"), strict=True)
    ]
    second = await through(gateway, dialect, stream, previous_response_id=first["id"], input=outputs, tools=[WEATHER])

    assert [item["type"] for item in first["output"] if item["type"] != "reasoning"] == [
        "message",
        "function_call",
        "function_call",
    ]
    assert [json.loads(call["arguments"]) for call in calls] == [{"city": "Oslo"}, {"city": "Bergen"}]
    assert said_by(second) == "Rain in Oslo, sun in Bergen."


def said_by(response: Mapping[str, Any]) -> str:
    messages = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for message in messages for part in message["content"])


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_reasoning_is_shown_and_comes_back_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect, stream: bool
) -> None:
    fake.script(Answer(reasoning="Think first.", calls=[ToolCall("weather", {"city": "Oslo"})]))
    reasoning = {"effort": "low", "summary": "auto"}
    first = await through(gateway, dialect, stream, input="hi", tools=[WEATHER], reasoning=reasoning)
    call = next(item for item in first["output"] if item["type"] == "function_call")
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    second = await through(
        gateway, dialect, stream, previous_response_id=first["id"], input=[output], tools=[WEATHER], reasoning=reasoning
    )

    item = next(item for item in first["output"] if item["type"] == "reasoning")
    assert "".join(part["text"] for part in item["summary"]) == "Think first."
    assert first["usage"]["output_tokens_details"]["reasoning_tokens"] == 2
    assert said_by(second) == "The tool said: rain"


async def test_usage_is_counted_the_same_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect
) -> None:
    fake.script(Answer(text="One two three.", cached=2))
    response = await through(gateway, dialect, False, input="a b c d e")

    usage = response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (5, 3, 8)
    assert usage["input_tokens_details"]["cached_tokens"] == 2


async def test_an_image_arrives_the_same_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect
) -> None:
    fake.script(lambda prompt: Answer(text=f"{prompt.last.text} {prompt.last.media == (PIXEL,)}"))
    parts = [{"type": "input_text", "text": "A picture:"}, {"type": "input_image", "image_url": PIXEL}]
    response = await through(gateway, dialect, False, input=[{"role": "user", "content": parts}])

    assert said_by(response) == "A picture: True"


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_structured_output_fits_the_schema_through_the_gateway(
    gateway: Gateway, dialect: Dialect, stream: bool
) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"City": {"type": "string"}},
    }
    form = {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    response = await through(gateway, dialect, stream, input="Oslo", text={"format": form})

    assert json.loads(said_by(response)) == {"city": "Oslo"}


async def test_free_text_for_a_custom_tool_goes_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect
) -> None:
    fake.script(Answer(calls=[ToolCall("shout", "as loud as you can", custom=True)]))
    tools = [{"type": "custom", "name": "shout", "description": "Shouts."}]
    response = await through(gateway, dialect, False, input="hi", tools=tools)

    (call,) = [item for item in response["output"] if item["type"] == "custom_tool_call"]
    assert (call["name"], call["input"]) == ("shout", "as loud as you can")


async def test_a_tool_in_a_namespace_is_called_by_its_own_name_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect
) -> None:
    fake.script(Answer(calls=[ToolCall("weather", {"city": "Oslo"})]))
    tools = [{"type": "namespace", "name": "north", "description": "Up there.", "tools": [WEATHER]}]
    response = await through(gateway, dialect, False, input="hi", tools=tools)

    (call,) = [item for item in response["output"] if item["type"] == "function_call"]
    assert (call["name"], call["namespace"]) == ("weather", "north")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(text="Half", incomplete="content_filter"), "content_filter"),
        (Answer(text="a b c d"), "max_output_tokens"),
    ],
)
async def test_an_early_end_is_told_the_same_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect, answer: Answer, reason: str
) -> None:
    fake.script(answer)
    body = {"model": MODELS.get(dialect, "m"), "input": "hi", "max_output_tokens": 3}
    response = (await ask(gateway, body)).json()

    assert (response["status"], response["incomplete_details"]["reason"]) == ("incomplete", reason)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_busy_upstream_is_a_429_through_the_gateway(
    gateway: Gateway, fake: FakeProvider, dialect: Dialect, stream: bool
) -> None:
    fake.fail_next(Status(429, "Slow down, please.", retry_after=7))
    reply = await ask(gateway, {"model": MODELS.get(dialect, "m"), "input": "hi", "stream": stream})

    assert (reply.status, reply.error["message"], reply.headers["retry-after"]) == (429, "Slow down, please.", "7")
