"""A turn that Anthropic pauses is continued by the gateway, in the same response."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gomodel_asgi.testing import Reply, Scripted, Stall

from ..support.driving import TIMEOUT, Caller, encoded, events_of, scope_of, told_failure
from ..support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

Json = dict[str, Any]
ROUNDS = 8
OVERLOADED: Json = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
USE: Json = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
RESULT: Json = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}


def message(*blocks: Json, reason: str, container: str | None = None, tokens: int = 5) -> Json:
    usage = {"input_tokens": 10, "output_tokens": tokens, "cache_read_input_tokens": 3}
    return {
        "type": "message", "id": "msg_1", "role": "assistant", "model": "claude-sonnet-4-5", "content": list(blocks),
        "stop_reason": reason, "usage": usage, "container": {"id": container} if container else None,
    }  # fmt: skip


def text(value: str) -> Json:
    return {"type": "text", "text": value}


def streamed(whole: Json) -> bytes:
    """*whole* as the events that bring it."""
    start = {
        **whole,
        "content": [],
        "stop_reason": None,
        "container": None,
        "usage": {**whole["usage"], "output_tokens": 1},
    }
    events: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(whole["content"]):
        empty = {**block, "text": ""} if block["type"] == "text" else block
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        if block["type"] == "text":
            delta = {"type": "text_delta", "text": block["text"]}
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    usage = {"output_tokens": whole["usage"]["output_tokens"]}
    delta = {"stop_reason": whole["stop_reason"], "container": whole["container"]}
    events.append({"type": "message_delta", "delta": delta, "usage": usage})
    events.append({"type": "message_stop"})
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def answers(*messages: Json, stream: bool) -> list[Reply]:
    if not stream:
        return [Reply(each) for each in messages]
    return [Reply(streamed(each), content_type="text/event-stream") for each in messages]


def asked(lab: Lab) -> list[Json]:
    """The bodies that the upstream got."""
    return [json.loads(request.body) for request in lab.bad.requests]


async def answer(lab: Lab, stream: bool, **body: Any) -> Caller:
    lab.make(lab.provider(lab.bad, dialect="anthropic", type="anthropic"))
    return await lab.ask({"model": "claude-sonnet-4-5", "input": "hi", "stream": stream, **body})


async def response_of(lab: Lab, stream: bool, **body: Any) -> Json:
    """The response that ends the gateway's answer."""
    caller = await answer(lab, stream, **body)
    assert caller.status == 200, caller.content
    return events_of(caller.content)[-1]["response"] if stream else caller.json()  # type: ignore[no-any-return]


@pytest.fixture(params=[True, False], ids=["streamed", "unary"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_a_paused_turn_goes_on_in_the_same_response(lab: Lab, stream: bool) -> None:
    rounds = [
        message(text("Let me "), USE, reason="pause_turn"),
        message(RESULT, text("see. "), reason="pause_turn"),
        message(text("Found."), reason="end_turn"),
    ]
    lab.bad.script(*answers(*rounds, stream=stream))
    response = await response_of(lab, stream)
    assert response["status"] == "completed"
    said = [item for item in response["output"] if item["type"] == "message"]
    assert "".join(part["text"] for item in said for part in item["content"]) == "Let me see. Found."
    assert [item["type"] for item in response["output"]].count("web_search_call") == 1


async def test_each_round_is_asked_with_all_that_was_said(lab: Lab, stream: bool) -> None:
    rounds = [
        message(text("Let me "), USE, reason="pause_turn", container="cntr_1"),
        message(RESULT, text("see. "), reason="pause_turn"),
        message(text("Found."), reason="end_turn"),
    ]
    lab.bad.script(*answers(*rounds, stream=stream))
    await response_of(lab, stream)
    first, second, third = asked(lab)
    assert second == {**first, "messages": [*first["messages"], second["messages"][-1]], "container": "cntr_1"}
    assert second["messages"][-1] == {"role": "assistant", "content": [text("Let me "), USE]}
    assert third["messages"][-1]["content"] == [text("Let me "), USE, RESULT, text("see.")]


async def test_the_usage_is_that_of_all_rounds(lab: Lab, stream: bool) -> None:
    rounds = [message(text("a"), reason="pause_turn", tokens=5), message(text("b"), reason="end_turn", tokens=7)]
    lab.bad.script(*answers(*rounds, stream=stream))
    usage = (await response_of(lab, stream))["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (26, 12, 38)
    assert usage["input_tokens_details"]["cached_tokens"] == 6


async def test_a_turn_that_pauses_again_and_again_is_incomplete_after_eight_rounds(lab: Lab, stream: bool) -> None:
    lab.bad.script(*answers(*[message(text("."), reason="pause_turn")] * (ROUNDS + 1), stream=stream))
    response = await response_of(lab, stream)
    assert len(asked(lab)) == ROUNDS
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_all_rounds_together_keep_max_output_tokens(lab: Lab, stream: bool) -> None:
    lab.bad.script(*answers(*[message(text("."), reason="pause_turn", tokens=40)] * ROUNDS, stream=stream))
    response = await response_of(lab, stream, max_output_tokens=100)
    assert [body["max_tokens"] for body in asked(lab)] == [100, 60, 20]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_client_s_deltas_leave_before_the_next_round_is_asked(lab: Lab) -> None:
    rounds = [message(text("Let me "), reason="pause_turn"), message(text("see."), reason="end_turn")]
    lab.bad.script(*answers(*rounds, stream=True))
    events = events_of((await answer(lab, True)).content)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events].count("response.created") == 1
    assert [event["delta"] for event in events if event["type"] == "response.output_text.delta"] == ["Let me ", "see."]


async def test_a_round_that_fails_ends_a_stream_in_band(lab: Lab) -> None:
    lab.bad.script(*answers(message(text("Let me "), reason="pause_turn"), stream=True), Reply(OVERLOADED, status=529))
    caller = await answer(lab, True)
    events = caller.events()
    told_failure(events, caller.content)
    assert events[-2]["message"] == "Overloaded"
    assert events[-1]["response"]["error"]["code"] == "server_error"
    assert b"Let me " in caller.content


async def test_a_round_that_fails_is_the_failure_of_a_unary_request(lab: Lab) -> None:
    lab.bad.script(*answers(message(text("Let me "), reason="pause_turn"), stream=False), Reply(OVERLOADED, status=529))
    caller = await answer(lab, False)
    assert caller.status == 529
    assert caller.error["message"] == "Overloaded"


async def test_a_client_that_leaves_in_a_later_round_leaves_nothing_open(lab: Lab) -> None:
    rounds = [message(text("Let me "), reason="pause_turn"), message(text("see."), reason="end_turn")]
    first, second = answers(*rounds, stream=True)
    lab.bad.script(first, Scripted(second, (Stall(after_events=1),)))
    lab.make(lab.provider(lab.bad, dialect="anthropic", type="anthropic"))
    caller = Caller(scope_of(), [encoded({"model": "claude-sonnet-4-5", "input": "hi", "stream": True})])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, lab.gateway)
            later = await lab.bad.received(2)
            caller.leave()
            await later.disconnected.wait()
