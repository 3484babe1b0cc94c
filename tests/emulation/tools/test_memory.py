"""What a tool has said stays visible to the model in later turns, and to nobody else's."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.testing import Answer

from .hosting import CRM, WEB, Hosting, Json, call, calls, item_of, lookup, search

pytestmark = pytest.mark.anyio

ALL = (tools.web_search(search), tools.mcp({"crm": [lookup]}))


async def first_turn(house: Any, **more: Any) -> Json:
    house.fake.script(calls(call("web_search", query="rome"), reasoning="Look."), Answer(text="Sunny."))
    found: Json = await house.ask({"input": "Weather?", "tools": [WEB], **more}, tenant="acme")
    return found


async def test_a_result_is_seen_in_the_next_turn_by_its_id(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    first = await first_turn(house)
    body: Json = {"input": "And?", "previous_response_id": first["id"]}
    for given in (body, {**body, "tools": [WEB]}):
        await house.ask(given, tenant="acme")
        assert "Found for rome" in house.outputs()[0]


async def test_a_result_is_seen_in_an_echoed_history(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    first = await first_turn(house)
    history = [{"role": "user", "content": "Weather?"}, *first["output"], {"role": "user", "content": "And?"}]
    for more in ({}, {"tools": [WEB]}):
        await house.ask({"input": history, **more}, tenant="acme")
        assert "Found for rome" in house.outputs()[0]


async def test_a_result_is_seen_by_reference(hosting: Hosting) -> None:
    house = hosting(*ALL)
    first = await first_turn(house)
    reference = {"type": "item_reference", "id": item_of(first, "web_search_call")["id"]}
    await house.ask({"input": [reference, {"role": "user", "content": "And?"}]}, tenant="acme")
    assert "Found for rome" in house.outputs()[0]


async def test_a_result_is_seen_in_a_conversation(hosting: Hosting) -> None:
    house = hosting(*ALL)
    found: Json = {}

    async def conversation() -> str:
        from httpx import ASGITransport, AsyncClient

        async with AsyncClient(transport=ASGITransport(house.gateway), base_url="http://test") as client:
            reply = await client.post("/v1/conversations", json={})
            found.update(reply.json())
        return str(found["id"])

    id = await conversation()
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    await house.ask({"input": "Weather?", "tools": [WEB], "conversation": id})
    await house.ask({"input": "And?", "conversation": id})
    assert "Found for rome" in house.outputs()[0]


async def test_nobody_sees_what_another_tenants_model_has_read(hosting: Hosting) -> None:
    house = hosting(*ALL)
    first = await first_turn(house)
    history = [{"role": "user", "content": "Weather?"}, *first["output"], {"role": "user", "content": "And?"}]
    await house.ask({"input": history, "tools": [WEB]}, tenant="other")
    assert "Found for rome" not in str(house.sent[-1])


async def test_what_is_not_stored_is_read_from_the_item_itself(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("lookup", order="7")), Answer(text="On its way."))
    first = await house.ask({"input": "Order 7?", "tools": [CRM], "store": False})
    history = [{"role": "user", "content": "Order 7?"}, *first["output"], {"role": "user", "content": "And?"}]
    await house.ask({"input": history, "tools": [CRM], "store": False})
    assert "Order 7 is on its way." in str(house.sent[-1])


async def test_the_error_of_a_call_is_replayed_and_not_null(hosting: Hosting) -> None:
    def broken(order: str) -> str:
        raise tools.ToolError("The shop is closed.")

    house = hosting(tools.mcp({"crm": [tools.function(broken, name="lookup")]}))
    house.fake.script(calls(call("lookup", order="7")), Answer(text="Closed."))
    first = await house.ask({"input": "Order 7?", "tools": [CRM]})
    await house.ask({"input": "And?", "previous_response_id": first["id"], "tools": [CRM]})
    assert house.outputs() == ["The shop is closed."]


async def test_calls_that_were_made_at_once_are_replayed_at_once_and_others_apart(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(
        calls(call("web_search", query="a"), call("lookup", order="1")),
        calls(call("web_search", query="b")),
        Answer(text="Done."),
    )
    first = await house.ask({"input": "Hi", "tools": [WEB, CRM]})
    await house.ask({"input": "And?", "previous_response_id": first["id"]})
    roles = [message["role"] for message in house.sent[-1]["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user"]


async def test_reasoning_is_replayed_before_its_calls_between_rounds_and_turns(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="anthropic")
    body = {"reasoning": {"effort": "low", "summary": "auto"}}
    first = await first_turn(house, **body)
    for sent in (house.sent[-1], None):
        if sent is None:
            given = {"input": "And?", "previous_response_id": first["id"], "tools": [WEB], **body}
            await house.ask(given, tenant="acme")
            sent = house.sent[-1]
        blocks = next(one["content"] for one in sent["messages"] if one["role"] == "assistant")
        assert [block["type"] for block in blocks][:2] == ["thinking", "tool_use"] and blocks[0]["signature"]


async def test_a_hosted_item_of_another_provider_never_refuses_a_request(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    items: list[Json] = [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "other"}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "x", "tools": []},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "x", "name": "f", "arguments": "{}", "error": "old form"},
    ]
    await house.ask({"input": [*items, {"role": "user", "content": "Hi"}], "tools": [WEB]})
    assert len(house.sent) == 1


async def test_a_turn_without_tools_is_sent_to_a_native_upstream_once_tools_have_run(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses", provider={"stateful": True})
    plain = await house.ask({"input": "My name is Ada."})
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    second = await house.ask({"input": "Weather?", "tools": [WEB], "previous_response_id": plain["id"]})
    third = await house.ask({"input": "Who am I?", "previous_response_id": second["id"]})
    assert third["status"] == "completed"
    assert "My name is Ada." in str(house.sent[-1]) and "Found for rome" in house.outputs()[0]
