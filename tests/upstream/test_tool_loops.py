"""A tool loop with reasoning, stateless, over the whole gateway: what turn 1 gave is what turn 2 sends, in each API's
own form and with what the upstream wants back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.driving import ask

Json = dict[str, Any]

QUESTION: Json = {"role": "user", "content": "Weather in Rome and Oslo?"}
TOOL: Json = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
MODELS = {"chat": "deepseek-reasoner", "anthropic": "claude-sonnet-4-5", "gemini": "gemini-3-flash-preview"}
TYPES = {"chat": "deepseek", "anthropic": "anthropic", "gemini": "gemini"}
DIALECTS = ("chat", "anthropic", "gemini", "responses")

CALLS = [("toolu_1", {"city": "Rome"}), ("toolu_2", {"city": "Oslo"})]


def called(call_id: str, arguments: Json) -> Json:
    """A call as chat has it."""
    function = {"name": "weather", "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


FIRST: dict[str, Json] = {
    "chat": {
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {"reasoning_content": "Two calls.", "tool_calls": [called(*call) for call in CALLS]},
            }
        ],
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "content": [
            {"type": "thinking", "thinking": "Two calls.", "signature": "sig=="},
            *({"type": "tool_use", "id": id, "name": "weather", "input": given} for id, given in CALLS),
        ],
    },
    "gemini": {
        "candidates": [
            {
                "finishReason": "STOP",
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Two calls.", "thought": True},
                        {
                            "functionCall": {"id": "toolu_1", "name": "weather", "args": {"city": "Rome"}},
                            "thoughtSignature": "sig==",
                        },
                        {"functionCall": {"id": "toolu_2", "name": "weather", "args": {"city": "Oslo"}}},
                    ],
                },
            }
        ]
    },
    "responses": {
        "object": "response",
        "output": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA=="},
            *(
                {
                    "type": "function_call",
                    "id": f"fc_{id}",
                    "call_id": id,
                    "name": "weather",
                    "arguments": json.dumps(a),
                }
                for id, a in CALLS
            ),
        ],
    },
}
SECOND: dict[str, Json] = {
    "chat": {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Sun and snow."}}]},
    "anthropic": FIRST["anthropic"]
    | {"stop_reason": "end_turn", "content": [{"type": "text", "text": "Sun and snow."}]},
    "gemini": {
        "candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [{"text": "Sun and snow."}]}}]
    },
    "responses": {"output": [{"type": "message", "content": [{"type": "text", "text": "Sun and snow."}]}]},
}


def streamed(dialect: str, reply: Json) -> Reply:
    """*reply* as the stream it could have been."""
    return Reply(
        "".join(f"data: {json.dumps(event)}\n\n" for event in events(dialect, reply)), 200, "text/event-stream"
    )


def events(dialect: str, reply: Json) -> list[Json]:
    if dialect == "gemini":
        return [reply]
    if dialect == "responses":
        return [{"type": "response.output_item.done", "item": item} for item in reply["output"]] + [
            reply | {"object": "response"}
        ]
    if dialect == "chat":
        choice = reply["choices"][0]
        message = dict(choice["message"])
        if "tool_calls" in message:
            message["tool_calls"] = [{"index": at, **call} for at, call in enumerate(message["tool_calls"])]
        return [{"choices": [{"index": 0, "delta": message, "finish_reason": choice["finish_reason"]}]}]
    start = {"type": "message_start", "message": reply | {"content": [], "stop_reason": None}}
    blocks = [event for at, block in enumerate(reply["content"]) for event in block_events(at, block)]
    delta = {"type": "message_delta", "delta": {"stop_reason": reply["stop_reason"]}, "usage": reply["usage"]}
    return [start, *blocks, delta, {"type": "message_stop"}]


def block_events(index: int, block: Json) -> list[Json]:
    deltas = {
        "thinking": ["thinking_delta", "signature_delta"],
        "text": ["text_delta"],
        "tool_use": ["input_json_delta"],
    }[block["type"]]
    empty = {"thinking": "", "signature": "", "text": "", "input": {}}
    given: Json = block | {"partial_json": json.dumps(block.get("input"))}
    found = [
        {"type": kind, (name := kind.removesuffix("_delta").replace("input_json", "partial_json")): given[name]}
        for kind in deltas
    ]
    start = {name: empty.get(name, value) for name, value in block.items()}
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in found),
        {"type": "content_block_stop", "index": index},
    ]


@asynccontextmanager
async def gateway_to(provider: FakeProvider, dialect: Any, **options: Any) -> AsyncIterator[Gateway]:
    upstream = Provider(
        "house", provider.base_url, type=TYPES.get(dialect), dialect=dialect, api_key="sk-canary-1",
        normalize=dialect == "responses", **options,
    )  # fmt: skip
    gateway = Gateway(providers=[upstream])
    try:
        yield gateway
    finally:
        await gateway.aclose()


async def turn(gateway: Gateway, dialect: str, input: list[Json], *, stream: bool) -> Json:
    """The response to *input*, whichever way it came."""
    body = {"model": MODELS.get(dialect, "m"), "input": input, "tools": [TOOL], "store": False, "stream": stream}
    body["reasoning"] = {"effort": "low", "summary": "auto"}
    answer = await ask(gateway, body)
    assert answer.status == 200, answer.content
    if not stream:
        response: Json = answer.json()
        return response
    last = answer.events()[-1]
    assert last["type"] == "response.completed"
    found: Json = last["response"]
    return found


def answered(call_id: str) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": f"weather for {call_id}"}


def script(provider: FakeProvider, dialect: str, stream: bool) -> None:
    for reply in (FIRST[dialect], SECOND[dialect]):
        provider.script(streamed(dialect, reply) if stream else Reply(reply))


async def loop(provider: FakeProvider, dialect: str, *, stream: bool) -> tuple[Json, Json, Json]:
    """Both turns: the response of each, and what the upstream was sent for the second."""
    script(provider, dialect, stream)
    async with gateway_to(provider, dialect) as gateway:
        first = await turn(gateway, dialect, [QUESTION], stream=stream)
        outputs = [answered(item["call_id"]) for item in first["output"] if item["type"] == "function_call"]
        second = await turn(gateway, dialect, [QUESTION, *first["output"], *reversed(outputs)], stream=stream)
    sent: Json = provider.requests[-1].json()
    return first, second, sent


def chat_history(sent: Json) -> None:
    user, assistant, *tools = sent["messages"]
    assert user["role"] == "user"
    assert assistant["reasoning_content"] == "Two calls."
    assert [(call["id"], json.loads(call["function"]["arguments"])) for call in assistant["tool_calls"]] == CALLS
    assert {tool["tool_call_id"]: tool["content"] for tool in tools} == {id: f"weather for {id}" for id, _ in CALLS}


def anthropic_history(sent: Json) -> None:
    _, assistant, results = sent["messages"]
    assert assistant["content"] == FIRST["anthropic"]["content"]
    assert sorted(block["tool_use_id"] for block in results["content"]) == ["toolu_1", "toolu_2"]
    assert {block["type"] for block in results["content"]} == {"tool_result"}
    assert sent["thinking"]["type"] != "disabled"


def gemini_history(sent: Json) -> None:
    _, model, results = sent["contents"]
    calls = [part for part in model["parts"] if "functionCall" in part]
    assert calls == FIRST["gemini"]["candidates"][0]["content"]["parts"][1:]
    assert [part["functionResponse"]["id"] for part in results["parts"]] == ["toolu_1", "toolu_2"]


def responses_history(sent: Json) -> None:
    _, reasoning, *calls = sent["input"]
    assert reasoning["encrypted_content"] == "gAAAA=="
    assert [item["call_id"] for item in calls] == ["toolu_1", "toolu_2", "toolu_2", "toolu_1"]


HISTORY = {
    "chat": chat_history,
    "anthropic": anthropic_history,
    "gemini": gemini_history,
    "responses": responses_history,
}


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_the_upstream_gets_its_own_turn_back_with_its_signatures(
    provider: FakeProvider, dialect: str, stream: bool
) -> None:
    first, second, sent = await loop(provider, dialect, stream=stream)

    calls = [item for item in first["output"] if item["type"] == "function_call"]
    assert [(call["call_id"], json.loads(call["arguments"])) for call in calls] == CALLS
    assert first["output"][0]["type"] == "reasoning"
    HISTORY[dialect](sent)
    assert second["output"][-1]["content"][0]["text"] == "Sun and snow."


@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
async def test_a_client_that_drops_summaries_loses_nothing(provider: FakeProvider, dialect: str) -> None:
    script(provider, dialect, False)
    async with gateway_to(provider, dialect) as gateway:
        first = await turn(gateway, dialect, [QUESTION], stream=False)
        kept = [item | {"summary": []} if item["type"] == "reasoning" else item for item in first["output"]]
        outputs = [answered(id) for id, _ in CALLS]
        await turn(gateway, dialect, [QUESTION, *kept, *outputs], stream=False)

    HISTORY[dialect](provider.requests[-1].json())


@pytest.mark.parametrize("dialect", ["chat", "anthropic", "gemini"])
async def test_reasoning_of_another_provider_is_left_out_and_the_loop_goes_on(
    provider: FakeProvider, dialect: str
) -> None:
    provider.script(Reply(SECOND[dialect]))
    foreign = FIRST["responses"]["output"]
    async with gateway_to(provider, dialect) as gateway:
        outputs = [answered(id) for id, _ in CALLS]
        second = await turn(gateway, dialect, [QUESTION, *foreign, *outputs], stream=False)

    assert second["output"][-1]["content"][0]["text"] == "Sun and snow."
    assert b"gAAAA==" not in provider.requests[-1].body


async def test_betas_of_the_provider_are_joined_with_those_that_a_request_needs(provider: FakeProvider) -> None:
    provider.script(Reply(SECOND["anthropic"]))
    own = {"anthropic-beta": "own-1, interleaved-thinking-2025-05-14"}
    async with gateway_to(provider, "anthropic", headers=own) as gateway:
        await turn(gateway, "anthropic", [QUESTION], stream=False)

    assert provider.requests[-1].header("anthropic-beta") in (
        "own-1,interleaved-thinking-2025-05-14",
        "own-1, interleaved-thinking-2025-05-14",
    )


async def test_betas_of_a_request_survive_those_of_the_provider(provider: FakeProvider) -> None:
    provider.script(Reply(SECOND["anthropic"]))
    async with gateway_to(provider, "anthropic", headers={"anthropic-beta": "own-1"}) as gateway:
        await turn(gateway, "anthropic", [QUESTION], stream=False)

    assert provider.requests[-1].header("anthropic-beta") == "own-1,interleaved-thinking-2025-05-14"


async def test_where_betas_are_joined_all_other_headers_are_sent_as_ever(provider: FakeProvider) -> None:
    provider.script([Reply(SECOND["anthropic"])] * 2)
    for own in ({"x-zone": "a"}, {"x-zone": "a", "anthropic-beta": "own-1"}):
        async with gateway_to(provider, "anthropic", headers=own) as gateway:
            await turn(gateway, "anthropic", [QUESTION], stream=False)

    given, joined = (
        sorted(one for one in request.headers if one[0] != b"anthropic-beta") for request in provider.requests
    )
    assert joined == given and (b"x-zone", b"a") in given
    assert [len(request.values("anthropic-beta")) for request in provider.requests] == [1, 1]


# `normalize=True` over the gateway...


@pytest.mark.parametrize("asked", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("given", [False, True], ids=["json", "events"])
async def test_a_sloppy_reply_is_repaired_whichever_form_was_asked_and_given(
    provider: FakeProvider, asked: bool, given: bool
) -> None:
    provider.script(streamed("responses", SECOND["responses"]) if given else Reply(SECOND["responses"]))
    async with gateway_to(provider, "responses") as gateway:
        response = await turn(gateway, "responses", [QUESTION], stream=asked)

    assert (response["provider"], response["object"], response["status"]) == ("house", "response", "completed")
    assert response["output"][0]["content"][0]["text"] == "Sun and snow."
    assert response["store"] is False and response["tools"][0]["name"] == "weather"
    assert isinstance(response["created_at"], int)


async def test_a_sloppy_stream_that_merely_closes_ends_as_failed(provider: FakeProvider) -> None:
    text = {"type": "response.output_text.delta", "delta": "Sun"}
    provider.script(Reply(f"data: {json.dumps(text)}\n\n", 200, "text/event-stream"))
    async with gateway_to(provider, "responses") as gateway:
        answer = await ask(gateway, {"model": "m", "input": "Hi", "stream": True})

    assert answer.events()[-1]["type"] == "response.failed"
    assert answer.events()[-2]["code"] == "upstream_stream_truncated"


@pytest.mark.parametrize("body", [{"choices": []}, {"error": {"message": "No.", "code": 400}}])
async def test_a_sloppy_reply_that_is_no_response_is_an_error(provider: FakeProvider, body: Json) -> None:
    provider.script(Reply(body))
    async with gateway_to(provider, "responses") as gateway:
        answer = await ask(gateway, {"model": "m", "input": "Hi"})

    assert answer.status == (400 if "error" in body else 502)
