"""The fake provider speaks the Responses API: seen with the official SDK, on a real socket."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import httpx2
import openai
import pytest
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseReasoningItem
from openresponses_types import ResponseResource
from pydantic import BaseModel

from gomodel_asgi.testing import Answer, FakeProvider, Reply, Scripted, Status, ToolCall

from .clients import KEY, anyio_backend, client, dialect, provider

__all__ = ["anyio_backend", "client", "dialect", "provider"]

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "strict": True,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}


async def test_it_repeats_what_the_user_said(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="any-model", input="Grüße an alle")

    assert response.output_text == "You said: Grüße an alle"
    assert response.model == "any-model"
    assert response.status == "completed"


async def test_usage_counts_words(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="one two three", instructions="be brief")
    assert response.usage

    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (5, 5, 10)


async def test_a_stream_comes_word_by_word_in_the_order_of_the_event_grammar(client: openai.AsyncOpenAI) -> None:
    events = [event async for event in await client.responses.create(model="m", input="a b", stream=True)]

    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 4,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(12))


async def test_the_sdks_strict_stream_reader_accepts_text_reasoning_and_calls(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(
        model="m", input="hi", reasoning={"effort": "low"}, tools=[WEATHER], tool_choice="required"
    ) as stream:
        response = await stream.get_final_response()

    assert [item.type for item in response.output] == ["reasoning", "function_call"]
    assert response.usage and response.usage.output_tokens_details.reasoning_tokens == 5


async def test_a_stream_and_a_unary_reply_say_the_same(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    unary = await client.responses.create(model="m", input="hi", reasoning={"effort": "low"})
    async with client.responses.stream(model="m", input="hi", reasoning={"effort": "low"}) as stream:
        streamed = await stream.get_final_response()

    assert [item.type for item in streamed.output] == [item.type for item in unary.output] == ["reasoning", "message"]
    assert streamed.output_text == unary.output_text


@pytest.mark.parametrize(
    ("tool_choice", "called"),
    [
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "name": "weather"}, True),
        ({"type": "function", "name": "other"}, False),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}, True),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, False),
    ],
)
async def test_a_tool_is_called_when_the_request_demands_it(
    client: openai.AsyncOpenAI, tool_choice: Any, called: bool
) -> None:
    response = await client.responses.create(model="m", input="hi", tools=[WEATHER], tool_choice=tool_choice)
    calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]

    assert [json.loads(call.arguments) for call in calls] == [{"city": "Paris", "days": 1}] * called


async def test_a_custom_tool_is_called_with_free_text(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="m", input="hi", tools=[{"type": "custom", "name": "shout"}], tool_choice="required"
    )

    assert [(item.type, getattr(item, "input", None)) for item in response.output] == [
        ("custom_tool_call", "as you wish")
    ]


async def test_after_a_tools_output_it_answers_with_text(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(
        model="m",
        tools=[WEATHER],
        tool_choice="required",
        input=[{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}],
    )

    assert response.output_text == "The tool said: sunny"


class City(BaseModel):
    name: str
    size: int
    tags: list[str]


async def test_structured_output_follows_the_schema(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.parse(model="m", input="Oslo", text_format=City)

    assert response.output_parsed == City(name="Oslo", size=1, tags=["Oslo"])


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"const": 7}, 7),
        ({"enum": ["red", "blue"]}, "red"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"oneOf": [{"type": "boolean"}]}, True),
        ({"type": ["number", "null"], "minimum": 3}, 3),
        ({"type": "array", "items": {"type": "string"}}, ["hi"]),
        ({"type": "object"}, {}),
        (7, {}),
        ({"properties": {"a": {"properties": {"b": {"type": "integer"}}}}}, {"a": {"b": 1}}),
    ],
)
async def test_an_example_fits_its_schema(provider: FakeProvider, schema: Any, written: Any) -> None:
    body = {"model": "m", "input": "hi", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{provider.base_url}/responses", json=body)

    assert json.loads(reply.json()["output"][0]["content"][0]["text"]) == written


async def test_json_without_a_schema_is_an_object(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="hi", text={"format": {"type": "json_object"}})

    assert json.loads(response.output_text) == {"said": "hi"}


async def test_max_output_tokens_makes_the_response_incomplete(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="a b c d e f", max_output_tokens=4)

    assert response.output_text == "You said: a b"
    assert response.incomplete_details and response.incomplete_details.reason == "max_output_tokens"


async def test_reasoning_counts_towards_max_output_tokens(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="a b c", max_output_tokens=7, reasoning={"effort": "low"})
    assert response.usage

    assert response.output_text == "You said:"
    assert (response.usage.output_tokens, response.usage.output_tokens_details.reasoning_tokens) == (7, 5)


async def test_a_scripted_answer_is_said_once(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    calls = [ToolCall("weather", {"city": "Oslo"}, call_id="call_a"), ToolCall("weather", '{"city":"Bergen"}')]
    provider.script(Answer(text="Looking.", reasoning="Two cities.", calls=calls))
    response = await client.responses.create(model="m", input="hi")

    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    assert isinstance(response.output[0], ResponseReasoningItem)
    assert isinstance(response.output[2], ResponseFunctionToolCall) and response.output[2].call_id == "call_a"
    assert (await client.responses.create(model="m", input="hi")).output_text == "You said: hi"


async def test_a_scripted_refusal_and_an_early_end_are_told(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    provider.script(Answer(refusal="I must not."), Answer(text="Half", incomplete="content_filter"))
    async with client.responses.stream(model="m", input="hi") as stream:
        types = [event.type async for event in stream]
    incomplete = await client.responses.create(model="m", input="hi")

    assert "response.refusal.done" in types
    assert incomplete.status == "incomplete"


async def test_responses_conform_to_the_open_responses_schema(client: openai.AsyncOpenAI) -> None:
    raw = await client.responses.with_raw_response.create(
        model="m", input="hi", tools=[WEATHER], tool_choice="required", reasoning={"effort": "low", "summary": "auto"}
    )

    ResponseResource.model_validate_json(raw.content)


async def test_a_stored_response_can_be_retrieved_replayed_and_deleted(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(model="m", input="hi")
    retrieved = await client.responses.retrieve(created.id)
    replayed = await client.responses.retrieve(created.id, stream=True, starting_after=7)
    events = [event.type async for event in replayed]
    await client.responses.delete(created.id)

    assert retrieved == created
    assert events == ["response.content_part.done", "response.output_item.done", "response.completed"]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(created.id)


async def test_store_false_keeps_nothing(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(model="m", input="hi", store=False)

    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(created.id)


async def test_a_background_response_is_queued_then_running_then_done(client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(model="m", input="hi", background=True)
    states = [await client.responses.retrieve(created.id) for _ in range(4)]

    assert created.status == "queued"
    assert [state.status for state in states] == ["queued", "in_progress", "completed", "completed"]
    assert states[-1].output_text == "You said: hi"


async def test_only_a_background_response_can_be_cancelled(client: openai.AsyncOpenAI) -> None:
    background = await client.responses.create(model="m", input="hi", background=True)
    foreground = await client.responses.create(model="m", input="hi")

    assert (await client.responses.cancel(background.id)).status == "cancelled"
    assert (await client.responses.retrieve(background.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(foreground.id)


async def test_a_background_response_that_is_done_stays_done_when_cancelled(client: openai.AsyncOpenAI) -> None:
    background = await client.responses.create(model="m", input="hi", background=True)
    for _ in range(3):
        await client.responses.retrieve(background.id)

    assert (await client.responses.cancel(background.id)).status == "completed"


async def test_a_replay_after_what_is_no_number_is_refused(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(model="m", input="hi")
    async with httpx.AsyncClient() as http:
        whole = await http.get(f"{provider.base_url}/responses/{created.id}?stream=true")
        refused = await http.get(f"{provider.base_url}/responses/{created.id}?stream=true&starting_after=x")

    assert whole.text.startswith("event: response.created")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")


async def test_a_response_that_continues_another_knows_what_was_said(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="m", input="one")
    second = await client.responses.create(model="m", input="two", previous_response_id=first.id)
    items = [item async for item in await client.responses.input_items.list(second.id, order="asc")]

    assert second.usage and second.usage.input_tokens == 5
    assert [getattr(item, "role", None) for item in items] == ["user", "assistant", "user"]


async def test_an_unknown_previous_response_is_refused_by_its_code(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="m", input="two", previous_response_id="resp_unknown")

    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_input_items_are_paged(client: openai.AsyncOpenAI) -> None:
    texts = [str(number) for number in range(5)]
    created = await client.responses.create(model="m", input=[{"role": "user", "content": text} for text in texts])
    first = await client.responses.input_items.list(created.id, limit=2)
    every = [
        getattr(item, "content", None) async for item in await client.responses.input_items.list(created.id, limit=2)
    ]

    assert (len(first.data), first.has_more) == (2, True)
    assert every == texts[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=msg_unknown"])
async def test_a_page_that_cannot_be_is_refused(client: openai.AsyncOpenAI, query: str) -> None:
    created = await client.responses.create(model="m", input="hi")
    name, value = query.split("=")

    with pytest.raises(openai.BadRequestError):
        await client.responses.input_items.list(created.id, extra_query={name: value})


async def test_input_tokens_are_counted(client: openai.AsyncOpenAI) -> None:
    counted = await client.responses.input_tokens.count(model="m", input="one two three", instructions="four")

    assert counted.input_tokens == 4


async def test_compact_keeps_what_the_user_said_and_seals_the_rest(client: openai.AsyncOpenAI) -> None:
    first = await client.responses.create(model="m", input="one")
    compacted = await client.responses.compact(model="m", input="two", previous_response_id=first.id)

    assert compacted.object == "response.compaction"
    assert [item.type for item in compacted.output] == ["message", "message", "compaction"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "model"),
        (b'{"model":7}', "model"),
        (b'{"model":"m","input":7}', "input"),
        (b'{"model":"m","tools":7}', "tools"),
        (b'{"model":"m","max_output_tokens":"7"}', "max_output_tokens"),
        (b'{"model":"m","previous_response_id":[]}', "previous_response_id"),
    ],
)
async def test_a_bad_request_is_a_400_and_the_next_one_is_answered(
    provider: FakeProvider, body: bytes, param: str | None
) -> None:
    async with httpx.AsyncClient(base_url=provider.base_url) as http:
        refused = await http.post("/responses", content=body)
        answered = await http.post("/responses", json={"model": "m", "input": "hi"})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert answered.status_code == 200


@pytest.mark.parametrize("path", ["/responses", "/responses/compact", "/responses/input_tokens"])
async def test_every_operation_looks_at_the_types_of_its_members(provider: FakeProvider, path: str) -> None:
    async with httpx.AsyncClient(base_url=provider.base_url) as http:
        refused = await http.post(path, json={"model": "m", "previous_response_id": []})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/models", 405),
        ("GET", "/responses", 405),
        ("PUT", "/responses/resp_1", 404),
        ("POST", "/responses/resp_1/unknown", 404),
        ("GET", "/responses/resp_1?starting_after=x&stream=true", 404),
    ],
)
async def test_what_the_api_does_not_have_is_refused(
    provider: FakeProvider, method: str, path: str, status: int
) -> None:
    async with httpx.AsyncClient(base_url=provider.base_url) as http:
        reply = await http.request(method, path)

    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_with_an_api_key_it_refuses_every_other_and_quotes_it(client: openai.AsyncOpenAI) -> None:
    async with FakeProvider(api_key="sk-house").serve() as provider:
        with pytest.raises(openai.AuthenticationError, match=KEY):
            await client.with_options(base_url=provider.base_url).responses.create(model="m", input="hi")
        house = client.with_options(base_url=provider.base_url, api_key="sk-house")

        assert (await house.responses.create(model="m", input="hi")).status == "completed"


async def test_ids_differ_between_providers_of_different_names(client: openai.AsyncOpenAI) -> None:
    async with FakeProvider(name="east").serve() as east, FakeProvider(name="west").serve() as west:
        ids = [
            (await client.with_options(base_url=each.base_url).responses.create(model="m", input="hi")).id
            for each in (east, west, east)
        ]

    assert len(set(ids)) == 3


async def test_the_journal_holds_each_request_as_it_came(provider: FakeProvider) -> None:
    body = b'{"model": "m",\n "input": "hi", "n": 1.50}'
    headers = [("X-Twice", "1"), ("x-twice", "2"), ("Authorization", "Bearer " + KEY)]
    async with httpx.AsyncClient() as http:
        await http.post(f"{provider.base_url}/responses?a=%2F&b", content=body, headers=headers)
    (request,) = provider.requests

    assert (request.method, request.path, request.query, request.body) == ("POST", "/v1/responses", b"a=%2F&b", body)
    assert request.values("X-Twice") == ["1", "2"]
    assert request.header("absent") is None
    assert request.json()["n"] == 1.5


async def test_the_journal_tells_whether_a_secret_reached_the_provider_and_never_shows_it(
    provider: FakeProvider,
) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{provider.base_url}/responses?key=canary-query"
        await http.post(url, content=b"canary-body", headers={"cookie": "canary-cookie", "x-api-key": "canary-key"})
    (request,) = provider.requests

    assert all(secret in request for secret in ("canary-query", b"canary-body", "canary-cookie", "canary-key"))
    assert "canary-none" not in request
    assert "canary" not in repr(request) + repr(provider)


async def test_requests_on_one_connection_carry_its_number(provider: FakeProvider) -> None:
    for _ in range(2):
        async with httpx.AsyncClient() as http:
            await http.get(provider.base_url)
            await http.get(provider.base_url)

    assert [request.connection for request in provider.requests] == [1, 1, 2, 2]
    assert provider.connections == 2


async def test_a_reply_is_given_to_whatever_is_asked_on_any_path(provider: FakeProvider) -> None:
    stream = "data: {}\n\ndata: [DONE]\n\n"
    provider.script(
        Reply({"ok": True}, 201, headers={"X-Own": "1"}),
        [Reply(stream, content_type="text/event-stream"), Reply(b"\x00\xff", content_type="application/octet-stream")],
        Reply(chunks=[b"ab", b"c"]),
        Reply(status=204),
        Scripted(Reply("never seen"), (Status(418),)),
    )
    async with httpx.AsyncClient(base_url=provider.base_url) as http:
        replies = [await http.post(f"/messages/{number}") for number in range(6)]

    assert (replies[0].status_code, replies[0].json(), replies[0].headers["x-own"]) == (201, {"ok": True}, "1")
    assert (replies[1].text, replies[1].headers["transfer-encoding"]) == (stream, "chunked")
    assert (replies[2].content, replies[2].headers["content-length"]) == (b"\x00\xff", "2")
    assert (replies[3].content, replies[4].status_code, replies[4].content) == (b"abc", 204, b"")
    assert (replies[5].status_code, provider.pending) == (418, 0)


async def test_clear_forgets_journal_script_and_responses(provider: FakeProvider, client: openai.AsyncOpenAI) -> None:
    created = await client.responses.create(model="m", input="hi")
    provider.fail_next(Status(500))
    provider.clear()

    assert (provider.requests, provider.pending) == ([], 0)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(created.id)


async def test_received_waits_for_the_request_of_that_number(
    provider: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    async def ask() -> None:
        await client.responses.create(model="first", input="hi")
        await client.responses.create(model="second", input="hi")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            second = await provider.received(2)

    assert second.json()["model"] == "second"
    assert (await provider.received(1)).json()["model"] == "first"


async def test_as_an_asgi_app_it_gives_the_same_replies(client: openai.AsyncOpenAI) -> None:
    provider = FakeProvider()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=provider)) as http:
        asgi = openai.AsyncOpenAI(base_url="http://fake.test/v1", api_key=KEY, http_client=http, max_retries=0)
        response = await asgi.responses.create(model="m", input="hi")
        events = [event.type async for event in await asgi.responses.create(model="m", input="hi", stream=True)]

    socket = await client.responses.create(model="m", input="hi")
    assert response == socket
    assert events[-1] == "response.completed"
    assert provider.requests[0].path == "/v1/responses"


def test_in_a_thread_it_serves_plain_functions_and_stops_with_the_block() -> None:
    with FakeProvider().run_in_thread() as provider:
        url = provider.base_url
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            assert client.responses.create(model="m", input="hi").output_text == "You said: hi"
        assert provider.requests[0].answered.wait_in_thread(5)

    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with pytest.raises(RuntimeError, match="not being served"):
        provider.base_url  # noqa: B018


async def test_the_tests_own_failure_leaves_the_block_as_it_is() -> None:
    with pytest.raises(LookupError, match="the test's own"):
        async with FakeProvider().serve():
            raise LookupError("the test's own")


async def test_a_port_that_is_taken_is_told(provider: FakeProvider) -> None:
    port = int(provider.base_url.split(":")[2].split("/")[0])
    with pytest.raises(OSError), FakeProvider().run_in_thread(port=port):
        pass


async def test_it_is_served_once_at_a_time(provider: FakeProvider) -> None:
    with pytest.raises(RuntimeError, match="already"):
        async with provider.serve():
            pass


# What only OpenAI itself refuses...

CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"top_k": 3}, "Unknown parameter: 'top_k'"),
        ({"input": [OUTPUT]}, "No tool call found for function call output with call_id call_1"),
        ({"input": [CALL]}, "No tool output found for function call call_1"),
        ({"input": [{**CALL, "type": "custom_tool_call"}, OUTPUT]}, "No tool call found"),
    ],
)
async def test_what_only_openai_refuses_is_a_400_when_strict(body: dict[str, Any], problem: str) -> None:
    whole = {"model": "m", "input": "hi", **body}
    async with (
        FakeProvider(strict=True).serve() as strict,
        FakeProvider().serve() as lenient,
        httpx.AsyncClient() as http,
    ):
        refused = await http.post(f"{strict.base_url}/responses", json=whole)
        taken = await http.post(f"{lenient.base_url}/responses", json=whole)

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert problem in refused.json()["error"]["message"]


async def test_a_strict_provider_finds_calls_in_what_was_said_before() -> None:
    async with FakeProvider(strict=True).serve() as provider, httpx.AsyncClient(base_url=provider.base_url) as http:
        provider.script(Answer(calls=[ToolCall("weather", call_id="call_1")]))
        first = (await http.post("/responses", json={"model": "m", "input": "hi"})).json()
        body = {"model": "m", "input": [OUTPUT], "previous_response_id": first["id"]}
        second = await http.post("/responses", json=body)
        missing = await http.post("/responses", json={**body, "input": "hi"})

    assert (second.status_code, missing.status_code) == (200, 400)


async def test_a_call_of_a_tool_in_a_namespace_names_the_namespace(provider: FakeProvider) -> None:
    tool = {"type": "function", "name": "lookup", "parameters": {"type": "object", "properties": {}}}
    body = {"model": "m", "input": "hi", "tools": [{"type": "namespace", "name": "crm", "tools": [tool]}]}
    provider.script(Answer(calls=[ToolCall("lookup")]))
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{provider.base_url}/responses", json=body)

    (call,) = reply.json()["output"]
    assert (call["name"], call["namespace"]) == ("lookup", "crm")


async def test_tools_that_an_item_brings_along_may_be_called(provider: FakeProvider) -> None:
    tool = {"type": "custom", "name": "exec"}
    item = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "namespace", "name": "n", "tools": [tool]}],
    }
    provider.script(Answer(calls=[ToolCall("exec", "as you wish", custom=True)]))
    async with httpx.AsyncClient() as http:
        reply = await http.post(f"{provider.base_url}/responses", json={"model": "m", "input": [item]})

    (call,) = reply.json()["output"]
    assert (call["type"], call["namespace"], call["input"]) == ("custom_tool_call", "n", "as you wish")


async def test_what_was_compacted_is_known_to_the_model_from_the_compaction_alone(
    provider: FakeProvider, client: openai.AsyncOpenAI
) -> None:
    compacted = await client.responses.compact(model="m", input="The word is lantern.")
    item: Any = compacted.output[-1].model_dump(exclude_none=True)
    provider.script(*[lambda prompt: Answer(text=prompt.messages[0].text)] * 3)
    texts = []
    for sealed in (item["encrypted_content"], "somebody else's", "fake-sealed-%"):
        items: Any = [{**item, "encrypted_content": sealed}, {"role": "user", "content": "What is the word?"}]
        texts.append((await client.responses.create(model="m", input=items)).output_text)

    assert texts == ["The word is lantern.", "", ""]


async def test_a_long_conversation_is_compacted_where_the_request_wants_it(client: openai.AsyncOpenAI) -> None:
    limit: Any = [{"type": "compaction", "compact_threshold": 4}]
    kinds = []
    for said in ("one two", "one two three four"):
        response = await client.responses.create(model="m", input=said, context_management=limit)
        kinds.append([item.type for item in response.output])

    assert kinds == [["message"], ["compaction", "message"]]
