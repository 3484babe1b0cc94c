"""A provider with `normalize=True` over the gateway: by the SDK's helper, in WebSocket mode and in the background."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.observers import Record
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.driving import ask
from ..support.gateways import Make, make
from ..support.stage import Stage
from ..support.websocket_client import ENDS, connected

__all__ = ["make"]

Json = dict[str, Any]


def message(id: str, text: str | None) -> Json:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    status = "in_progress" if text is None else "completed"
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": content}


def response(status: str, *output: Json) -> Json:
    ours: Json = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return (
        {"id": "resp_up", "object": "response", "created_at": 1, "status": status, "model": "m"}
        | ours
        | {"output": [*output]}
    )


def rotating() -> list[Json]:
    """A stream in which each account of the same item and call has ids of its own."""
    place: Json = {"output_index": 0, "content_index": 0, "item_id": "msg_a"}
    call: Json = {"type": "function_call", "name": "f", "arguments": '{"a":1}', "status": "completed"}
    begun = call | {"id": "fc_a", "call_id": "call_a", "arguments": "", "status": "in_progress"}
    ended = call | {"id": "fc_b", "call_id": "call_b"}
    last = call | {"id": "fc_c", "call_id": "call_c"}
    return [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": message("msg_a", None)},
        {
            "type": "response.content_part.added",
            **place,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        {"type": "response.output_text.delta", **place, "delta": "Hey"},
        {"type": "response.output_text.done", **place, "text": "Hey"},
        {"type": "response.content_part.done", **place, "part": message("", "Hey")["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": message("msg_z", "Hey")},
        {"type": "response.output_item.added", "output_index": 1, "item": begun},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_x", "delta": '{"a":1}'},
        {"type": "response.function_call_arguments.done", "output_index": 1, "item_id": "fc_y", "arguments": '{"a":1}'},
        {"type": "response.output_item.done", "output_index": 1, "item": ended},
        {"type": "response.completed", "response": response("completed", message("msg_q", "Hey"), last)},
    ]


def stream(events: list[Json]) -> Reply:
    return Reply("".join(f"data: {json.dumps(event)}\n\n" for event in events), content_type="text/event-stream")


@pytest.fixture
def client(stage: Stage) -> Iterator[openai.OpenAI]:
    stage.gateway(providers=[Provider("house", stage.provider.base_url, normalize=True)])
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key="sk-canary-1", max_retries=0, timeout=20) as made:
        yield made


def test_all_events_of_one_index_are_one_item_whatever_ids_they_name(client: openai.OpenAI, stage: Stage) -> None:
    stage.provider.script(stream(rotating()))

    with client.responses.stream(model="m", input="hi") as told:
        text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
        final = told.get_final_response()

    said, call = final.output
    assert said.type == "message" and call.type == "function_call"
    assert (text, final.output_text, said.id) == ("Hey", "Hey", "msg_a")
    assert (call.id, call.call_id, call.arguments) == ("fc_a", "call_a", '{"a":1}')


def test_a_reply_that_comes_whole_is_streamed_as_it_would_have_come(client: openai.OpenAI, stage: Stage) -> None:
    stage.provider.script(Reply(rotating()[-1]["response"]))

    with client.responses.stream(model="m", input="hi") as told:
        types = [event.type for event in told]
        final = told.get_final_response()

    assert types.count("response.output_text.delta") == types.count("response.function_call_arguments.delta") == 1
    assert (final.id, final.output_text, len(final.output)) == ("resp_up", "Hey", 2)


def test_a_background_response_is_read_leniently_in_every_state(client: openai.OpenAI, stage: Stage) -> None:
    queued = client.responses.create(model="m", input="hi", background=True)
    states = [queued.status, *(client.responses.retrieve(queued.id).status for _ in range(3))]

    assert states == ["queued", "queued", "in_progress", "completed"]
    assert (queued.model_extra or {})["provider"] == "house"


def test_a_background_response_may_be_streamed_and_its_stream_sent_again(client: openai.OpenAI, stage: Stage) -> None:
    first = [event.to_dict() for event in client.responses.create(model="m", input="hi", background=True, stream=True)]
    id: Any = first[0]["response"]
    again = client.responses.retrieve(id["id"], stream=True, starting_after=3)

    assert [event.to_dict() for event in again] == first[4:]


async def test_a_websocket_client_gets_the_same_events(make: Make, provider: FakeProvider) -> None:
    gateway = make(Provider("house", provider.base_url, normalize=True))
    provider.script(stream(rotating()), stream(rotating()))
    over_http = (await ask(gateway, {"model": "m", "input": "hi", "stream": True})).events()
    async with connected(gateway) as client:
        await client.create("hi")
        over_socket = await client.until(*ENDS)

    assert [event["type"] for event in over_socket] == [event["type"] for event in over_http]
    assert over_socket[-1]["response"]["output"] == over_http[-1]["response"]["output"]


async def test_observers_learn_of_a_call_that_has_no_name(make: Make, provider: FakeProvider) -> None:
    records: list[Record] = []
    gateway: Gateway = make(Provider("house", provider.base_url, normalize=True), observers=[records.append])
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{}"}
    provider.script(stream([*rotating()[:1], delta, {"type": "response.completed"}]))

    answer = await ask(gateway, {"model": "m", "input": "hi", "stream": True})

    assert answer.events()[-1]["response"]["output"] == []
    assert "a function_call without a name" in repr(records)
