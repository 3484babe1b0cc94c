"""What others' gateways were reported to do wrong, as far as no other test here holds the rule."""

from __future__ import annotations

import json

import pytest

from gomodel_asgi import tools
from gomodel_asgi.emulation.tools.seams import Unlisted
from gomodel_asgi.testing import Answer, Reply

from ...support.driving import ask
from .hosting import (
    CLIENTS,
    CRM,
    MODELS,
    WEB,
    Broken,
    Hosting,
    House,
    Json,
    call,
    calls,
    functions_in,
    kinds,
    lookup,
    refund,
    search,
    text_of,
)

pytestmark = pytest.mark.anyio

THINKING: Json = {"reasoning": {"effort": "high", "summary": "auto"}}


# Servers that cannot be listed...


ERRORS = [Unlisted("it answered 503"), RuntimeError("a secret of the server's"), ExceptionGroup("x", [ValueError("y")])]


def broken(hosting: Hosting, dialect: str, error: Exception) -> House:
    house = hosting(tools.mcp({"crm": [lookup]}), tools.web_search(search), dialect=dialect)
    assert house.gateway.state.tools is not None
    house.gateway.state.tools.toolbox.sources["crm"] = Broken(error)
    return house


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_server_that_cannot_be_listed_is_named_in_a_424_and_no_model_is_asked(
    hosting: Hosting, dialect: str, error: Exception
) -> None:
    house = broken(hosting, dialect, error)
    caller = await ask(house.gateway, {"model": MODELS[dialect], "input": "Hi", "tools": [WEB, CRM]})
    assert caller.status == 424 and house.sent == []
    assert (caller.error["type"], caller.error["code"], caller.error["param"]) == (
        "external_connector_error", "http_error", "tools",
    )  # fmt: skip
    assert caller.error["message"].startswith("Error retrieving tool list from MCP server: 'crm'. ")
    assert b"secret" not in caller.content


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_in_a_stream_it_is_an_item_that_failed_and_then_the_response(
    hosting: Hosting, dialect: str, error: Exception
) -> None:
    house = broken(hosting, dialect, error)
    body = {"model": MODELS[dialect], "input": "Hi", "tools": [WEB, CRM], "stream": True}
    caller = await ask(house.gateway, body)
    events = caller.events()
    assert caller.status == 200 and house.sent == []
    assert [event["type"] for event in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.failed", "response.output_item.done", "error", "response.failed",
    ]  # fmt: skip
    item = events[-1]["response"]["output"][0]
    assert item == events[5]["item"] and item["tools"] == [] and "'crm'" in item["error"]
    assert b"secret" not in caller.content


# Choices, budgets, what is shown...


async def test_a_forced_tool_that_had_to_be_renamed_is_forced_by_its_new_name(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), dialect=dialect)
    house.fake.script(calls(call("hosted__web_search", query="rome")), Answer(text="Done."))
    own = {"type": "function", "name": "web_search", "parameters": {"type": "object", "properties": {}}}
    body = {"input": "Hi", "tools": [own, WEB], "tool_choice": {"type": "web_search"}}
    response = await house.ask(body)
    assert kinds(response) == ["web_search_call", "message"]
    assert functions_in(dialect, house.sent[0]) == ["web_search", "hosted__web_search"]
    choices = [json.dumps(body.get("tool_choice", body.get("toolConfig"))) for body in house.sent]
    assert "hosted__web_search" in choices[0] and "hosted__web_search" not in choices[1]


@pytest.mark.parametrize("spent", [100, 900])
async def test_a_budget_for_thinking_fits_into_what_later_rounds_may_say(hosting: Hosting, spent: int) -> None:
    house = hosting(tools.web_search(search), dialect="anthropic")
    house.fake.script(
        calls(call("web_search", query="a"), text=" ".join(["word"] * spent), reasoning="Hm."), Answer(text="Done.")
    )
    response = await house.ask({"input": "Hi", "tools": [WEB], "max_output_tokens": 3000, **THINKING})
    assert (response["status"], text_of(response)[-5:]) == ("completed", "Done.")
    first, second = house.sent
    assert second["max_tokens"] < first["max_tokens"]
    assert all(body["thinking"].get("budget_tokens", 0) < body["max_tokens"] for body in house.sent)


async def test_a_client_that_declares_nothing_is_given_nothing(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), tools.mcp({"crm": [lookup]}), dialect=dialect)
    await house.ask({"input": "Hi"})
    await house.ask({"input": "Hi", "tools": [CLIENTS]})
    assert [functions_in(dialect, body) for body in house.sent] == [[], ["book"]]


# Events of a tool that the upstream runs itself, beside one that runs here...


def own_search() -> Reply:
    """A stream as OpenAI sends it: a search is announced without its action."""
    item: Json = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
    done: Json = {**item, "status": "completed", "action": {"type": "search", "query": "rome"}}
    call: Json = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "lookup", "arguments": ""}
    called = {**call, "arguments": '{"order":"7"}', "status": "completed"}
    response: Json = {"id": "resp_up", "object": "response", "created_at": 1, "model": "m", "status": "in_progress"}
    place: Json = {"output_index": 0, "item_id": "ws_1"}
    events: list[Json] = [
        {"type": "response.created", "response": {**response, "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.web_search_call.in_progress", **place},
        {"type": "response.web_search_call.searching", **place},
        {"type": "response.web_search_call.completed", **place},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 1, "item": called},
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [done, called]}},
    ]
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    text = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered)
    return Reply(text, content_type="text/event-stream")


@pytest.mark.parametrize("normalize", [False, True], ids=["native", "lenient"])
async def test_a_search_of_the_upstreams_own_passes_beside_a_tool_that_runs_here(
    hosting: Hosting, normalize: bool
) -> None:
    own = {"hosted_tools": ("web_search",), "normalize": normalize}
    house = hosting(tools.web_search(search), tools.mcp({"crm": [lookup]}), dialect="responses", provider=own)
    house.fake.script(own_search(), Answer(text="Done."))
    events = await house.events({"input": "Hi", "tools": [WEB, CRM]})
    assert [tool["type"] for tool in house.sent[0]["tools"]] == ["web_search", "function"]
    told = [event for event in events if event.get("output_index") == 1]
    assert [event["type"].removeprefix("response.") for event in told] == [
        "output_item.added", "web_search_call.in_progress", "web_search_call.searching", "web_search_call.completed",
        "output_item.done",
    ]  # fmt: skip
    assert told[0]["item"].keys() == {"id", "type", "status"}
    assert kinds(events[-1]["response"]) == ["mcp_list_tools", "web_search_call", "mcp_call", "message"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


# What comes back...


async def test_an_approval_beside_its_own_request_and_what_came_before_is_no_duplicate(
    hosting: Hosting, dialect: str
) -> None:
    house = hosting(tools.mcp({"crm": [refund]}), dialect=dialect)
    asking = {"type": "mcp", "server_label": "crm"}
    for form in ("reference", "request", "whole output"):
        house.fake.script(calls(call("refund", order="7")), Answer(text="Paid."))
        first = await house.ask({"input": "Pay back 7.", "tools": [asking]})
        request = first["output"][-1]
        answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
        given: dict[str, list[Json]] = {
            "reference": [{"type": "item_reference", "id": request["id"]}],
            "request": [request],
            "whole output": first["output"],
        }
        body: Json = {"input": [*given[form], answer], "tools": [asking]}
        second = await house.ask({**body, "previous_response_id": first["id"]})
        assert kinds(second) == ["mcp_call", "message"], form
        assert house.outputs() == ["Paid back 7 for None."], form


async def test_the_arguments_of_a_request_are_those_of_the_model_and_of_the_call(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    house.fake.script(calls(call("refund", order='7 "seven" \\ é')), Answer(text="Paid."))
    asking = {"type": "mcp", "server_label": "crm"}
    first = await house.ask({"input": "Pay back 7.", "tools": [asking]})
    request = first["output"][-1]
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    second = await house.ask({"input": [answer], "previous_response_id": first["id"], "tools": [asking]})
    made = second["output"][0]
    assert made["arguments"] == request["arguments"] and json.loads(made["arguments"]) == {"order": '7 "seven" \\ é'}
    assert made["output"] == 'Paid back 7 "seven" \\ é for None.'


# What is bound to the model...


async def test_reasoning_stands_unchanged_and_directly_before_its_calls(hosting: Hosting) -> None:
    """At Anthropic with its signature, at OpenAI with its encrypted content and a follower."""
    house = hosting(tools.web_search(search), tools.mcp({"crm": [lookup]}), dialect="anthropic")
    house.fake.script(
        calls(call("web_search", query="a"), reasoning="First the web, then the shop."),
        calls(call("lookup", order="7"), reasoning="Now the shop."),
        Answer(text="Done."),
    )
    await house.ask({"input": "Hi", "tools": [WEB, CRM], **THINKING})
    said = [message["content"] for message in house.sent[2]["messages"] if message["role"] == "assistant"]
    assert [[block["type"] for block in blocks] for blocks in said] == [["thinking", "tool_use"]] * 2
    assert [blocks[0]["thinking"] for blocks in said] == ["First the web, then the shop.", "Now the shop."]
    assert house.sent[1]["messages"][1] == house.sent[2]["messages"][1]

    native = hosting(tools.web_search(search), dialect="responses")
    native.fake.script(calls(call("web_search", query="a"), reasoning="Hm."), Answer(text="Done.", reasoning="So."))
    first = await native.ask({"input": "Hi", "tools": [WEB], **THINKING})
    history = [{"role": "user", "content": "Hi"}, *first["output"], {"role": "user", "content": "And?"}]
    await native.ask({"input": history, "tools": [WEB], **THINKING})
    for body in native.sent[1:]:
        types = [item.get("type", "message") for item in body["input"]]
        assert types[1:4] == ["reasoning", "function_call", "function_call_output"]
        assert body["input"][1]["encrypted_content"]


async def test_geminis_signatures_stay_with_their_calls(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search), tools.mcp({"crm": [lookup]}), dialect="gemini")
    house.fake.script(
        calls(call("web_search", query="a"), call("lookup", order="7"), reasoning="Both."),
        calls(call("lookup", order="8"), reasoning="One more."),
        Answer(text="Done."),
    )
    await house.ask({"input": "Hi", "tools": [WEB, CRM], **THINKING})
    said = [content["parts"] for content in house.sent[2]["contents"] if content["role"] == "model"]
    called = [[part for part in parts if "functionCall" in part] for parts in said]
    assert [len(parts) for parts in called] == [2, 1]
    assert all(parts[0].get("thoughtSignature") for parts in called)
    assert house.sent[1]["contents"][1] == house.sent[2]["contents"][1]
