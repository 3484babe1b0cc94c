"""Items of hosted tools that nobody here remembers: calls with results where the host runs the tool, else text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider, Retries, Target, tools
from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.testing import Answer, FakeProvider, Status

from .hosting import CRM, WEB, Hosting, Json, call, calls, functions_in, lookup, outputs_in, search

pytestmark = pytest.mark.anyio

ALL = (tools.web_search(search), tools.mcp({"crm": [lookup]}))
USER: Json = {"role": "user", "content": "And?"}
SEARCH: Json = {
    "type": "web_search_call", "id": "ws_1", "status": "completed",
    "action": {"type": "search", "query": "cats", "sources": [{"type": "url", "url": "https://cats.example"}]},
}  # fmt: skip
MCP: Json = {
    "type": "mcp_call", "id": "mcp_1", "status": "completed", "server_label": "crm", "name": "lookup",
    "arguments": '{"order":"7"}', "output": "It was sent.", "error": None, "approval_request_id": None,
}  # fmt: skip
REQUEST: Json = {
    "type": "mcp_approval_request",
    "id": "mcpr_1",
    "server_label": "crm",
    "name": "lookup",
    "arguments": "{}",
}
RESPONSE: Json = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False, "reason": "No."}


def called_in(dialect: str, body: Json) -> list[str]:
    """The names of the functions that the history says were called."""
    if dialect == "chat":
        return [one["function"]["name"] for message in body["messages"] for one in message.get("tool_calls", ())]
    if dialect == "responses":
        return [item["name"] for item in body["input"] if item.get("type") == "function_call"]
    if dialect == "anthropic":
        blocks = [block for one in body["messages"] if isinstance(one["content"], list) for block in one["content"]]
        return [block["name"] for block in blocks if block["type"] == "tool_use"]
    parts = [part for one in body["contents"] for part in one["parts"] if "functionCall" in part]
    return [part["functionCall"]["name"] for part in parts]


async def test_an_item_that_nobody_remembers_is_a_call_of_the_function_that_is_shown(
    hosting: Hosting, dialect: str
) -> None:
    house = hosting(*ALL, dialect=dialect)
    await house.ask({"input": [USER, SEARCH, MCP, USER], "tools": [WEB, CRM]})
    (sent,) = house.sent
    assert called_in(dialect, sent) == ["web_search", "lookup"] == functions_in(dialect, sent)
    first, second = house.outputs()
    assert "https://cats.example" in first and "It was sent." in second


async def test_it_is_called_by_the_name_that_the_model_knows(hosting: Hosting, dialect: str) -> None:
    own = {"type": "function", "parameters": {"type": "object", "properties": {}}}
    house = hosting(*ALL, dialect=dialect)
    mine = [{**own, "name": "web_search"}, {**own, "name": "lookup"}]
    await house.ask({"input": [USER, SEARCH, MCP, USER], "tools": [*mine, WEB, CRM]})
    (sent,) = house.sent
    assert called_in(dialect, sent) == functions_in(dialect, sent)[2:]
    assert not {"web_search", "lookup"} & {*called_in(dialect, sent)}


async def test_what_the_model_has_read_wins_over_what_the_item_holds(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    first = await house.ask({"input": "Weather?", "tools": [WEB]})
    (item,) = (item for item in first["output"] if item["type"] == "web_search_call")
    changed = {**item, "action": {"type": "search", "query": "changed"}}
    await house.ask({"input": [USER, changed, SEARCH, USER], "tools": [WEB]})
    known, other = house.outputs()
    assert "Found for rome" in known and "cats.example" in other
    assert "changed" not in json.dumps(house.sent[-1])


async def test_items_of_tools_that_are_not_shown_are_told_as_text(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    for more in ({}, {"tools": [WEB]}):
        await house.ask({"input": [USER, MCP, USER], **more})
        assert called_in(dialect, house.sent[-1]) == [] and "It was sent." in json.dumps(house.sent[-1])
        assert '"mcp_call"' not in json.dumps(house.sent[-1])


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], "The user did not approve this call."),
        ([RESPONSE], "The user did not approve this call.\nReason:\nNo."),
        ([MCP | {"approval_request_id": "mcpr_1"}], "Result:\nIt was sent."),
    ],
)
async def test_a_request_for_approval_has_one_result(
    hosting: Hosting, dialect: str, answers: list[Json], told: str
) -> None:
    waiting = {**CRM, "require_approval": "always"}
    house = hosting(*ALL, dialect=dialect)
    behind = {"role": "assistant", "content": "Well."}
    await house.ask({"input": [USER, REQUEST, *answers, behind, USER], "tools": [waiting]})
    assert house.outputs() == [told]


# Whoever is asked gets them in its own way...


async def replies_of_chain(fakes: dict[str, FakeProvider], first: str, second: str, body: Json) -> tuple[Json, Json]:
    """What two Targets were sent of *body*, the first of which was busy."""
    runs: Json = {"responses": {"stateful": False}, "chat": {"hosted_tools": ()}}
    providers = [Provider(one, fakes[one].base_url, dialect=one, **runs[one]) for one in (first, second)]  # type: ignore[arg-type]
    fakes[first].fail_next(Status(503))
    gateway = Gateway(
        providers=providers,
        policy=lambda request: Target(first, model="m", fallbacks=(Target(second, model="m"),)),
        tools=[tools.web_search(search)],
        retries=Retries(per_target=1),
    )
    try:
        await gateway.respond({"model": "m", **body})
    finally:
        await gateway.aclose()
    found = [json.loads(fakes[one].requests[-1].body) for one in (first, second)]
    return found[0], found[1]


@pytest.mark.parametrize(("first", "second"), [("responses", "chat"), ("chat", "responses")])
async def test_each_target_of_a_chain_is_told_by_what_it_is_shown(
    hosting: Hosting, dialect_fakes: dict[str, FakeProvider], first: str, second: str
) -> None:
    given = await replies_of_chain(dialect_fakes, first, second, {"input": [USER, SEARCH, USER], "tools": [WEB]})
    sent = dict(zip((first, second), given, strict=True))
    assert sent["responses"]["input"][1] == SEARCH and sent["responses"]["tools"] == [WEB]
    assert called_in("chat", sent["chat"]) == ["web_search"] and "cats" in outputs_in("chat", sent["chat"])[0]


async def test_an_upstream_that_runs_mcp_servers_itself_keeps_its_own_requests_for_approval(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses", provider={"hosted_tools": ("mcp",)})
    remote = {"type": "mcp", "server_label": "theirs", "server_url": "https://mcp.example"}
    request = {**REQUEST, "server_label": "theirs"}
    call_ = {**MCP, "server_label": "theirs"}
    await house.ask({"input": [USER, request, RESPONSE, call_, SEARCH, USER], "tools": [WEB, remote]})
    assert house.sent[0]["input"][1:4] == [request, RESPONSE, call_]
    assert called_in("responses", house.sent[0]) == ["web_search"]


async def test_a_native_upstream_is_not_sent_items_of_tools_that_it_does_not_run(hosting: Hosting) -> None:
    house = hosting(dialect="responses", provider={"hosted_tools": ("web_search",)})
    await house.ask({"input": [USER, SEARCH, MCP, USER]})
    _, searched, told, _ = house.sent[0]["input"]
    assert searched == SEARCH and told["role"] == "assistant" and "It was sent." in told["content"][0]["text"]


async def test_an_id_of_any_length_makes_an_id_of_a_call_that_every_upstream_takes(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses")
    items = [{**SEARCH, "id": letter * 300} for letter in "ab"]
    await house.ask({"input": [USER, *items, USER], "tools": [WEB]})
    ids = [item["call_id"] for item in house.sent[0]["input"] if item.get("type") == "function_call"]
    assert len({*ids}) == 2 and all(len(id) <= 64 for id in ids)


@pytest.mark.parametrize("value", [None, [], {}, 7, True])
@pytest.mark.parametrize("member", ["id", "action", "approval_request_id", "name", "arguments", "status"])
async def test_values_of_no_sense_in_history_are_no_fault_of_the_gateways(
    hosting: Hosting, member: str, value: Any
) -> None:
    house = hosting(*ALL)
    listed: Json = {"type": "mcp_list_tools", "server_label": "x", "tools": []}
    items = [{**one, member: value} for one in (REQUEST, RESPONSE, listed, SEARCH, MCP)]
    for declared in ([WEB, CRM], []):
        await house.ask({"input": [USER, *items, USER], "tools": declared})
    assert len(house.sent) == 2


@pytest.mark.parametrize("id", [None, [], {}, 7])
async def test_an_approval_of_no_request_is_the_clients_fault(hosting: Hosting, id: Any) -> None:
    house = hosting(*ALL)
    with pytest.raises(InvalidRequest):
        await house.ask({"input": [USER, {**RESPONSE, "approval_request_id": id}], "tools": [CRM]})
