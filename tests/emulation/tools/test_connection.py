"""One WebSocket connection, `store: false`: what hosted tools gave the model, and what waits for its user."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import NoStore, Target, tools
from gomodel_asgi.testing import Answer, Status
from tests.support.lab import ONCE
from tests.support.websocket_client import connected

from .hosting import CLIENTS, CODE, CRM, MODELS, WEB, Hosting, Json, call, calls, item_of, kinds, lookup, refund, search

pytestmark = pytest.mark.anyio

ASKING: Json = {"type": "mcp", "server_label": "crm"}


def answer(request: Json, approve: bool = True) -> Json:
    return {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve}


def members(dialect: str, *declared: Json) -> Json:
    return {"model": MODELS[dialect], "tools": [*declared], "store": False}


async def test_a_result_is_seen_in_all_later_turns(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome"), reasoning="Look."), Answer(text="Sunny."))
    async with connected(house.gateway) as client:
        last = await client.talk("Weather?", **members(dialect, WEB))
        for declared in ((), (WEB,), (WEB, CLIENTS), ()):
            last = await client.talk("And?", previous_response_id=last["id"], **members(dialect, *declared))
            assert len(house.outputs()) == 1 and "Found for rome" in house.outputs()[0]
            assert "Web search" not in str(house.sent[-1])


async def test_a_result_beside_a_clients_call_is_seen_with_the_clients_output(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome"), call("book", city="Rome")), Answer(text="Booked."))
    async with connected(house.gateway) as client:
        first = await client.talk("Go.", **members(dialect, WEB, CLIENTS))
        call_id = item_of(first, "function_call")["call_id"]
        booked = {"type": "function_call_output", "output": "done", "call_id": call_id}
        await client.talk([booked], previous_response_id=first["id"], **members(dialect, WEB, CLIENTS))
    assert sorted(text[-4:] for text in house.outputs()) == sorted(["done", "rome"])


async def test_a_result_is_seen_in_an_echo_on_the_same_connection_alone(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.web_search(search), dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    async with connected(house.gateway) as client, connected(house.gateway) as other:
        first = await client.talk("Weather?", **members(dialect, WEB))
        history = [{"role": "user", "content": "Weather?"}, *first["output"], {"role": "user", "content": "And?"}]
        await client.talk(history, **members(dialect, WEB))
        assert "Found for rome" in house.outputs()[0]
        await other.talk(history, **members(dialect, WEB))
        assert "Found for rome" not in str(house.sent[-1])


async def test_code_goes_on_in_the_container_of_the_turn_before(hosting: Hosting) -> None:
    seen: list[str | None] = []

    def execute(call: tools.Call) -> str:
        seen.append(call.container_id)
        return "4"

    house = hosting(tools.code_interpreter(execute))
    async with connected(house.gateway) as client:
        last: Json = {}
        for _ in range(3):
            house.fake.script(calls(call("code_interpreter", code="2+2")), Answer(text="4."))
            named = {"previous_response_id": last["id"]} if last else {}
            last = await client.talk("Run.", **named, **members("chat", CODE))
    assert len(seen) == 3 and len(set(seen)) == 1


@pytest.mark.parametrize("demanded", ["client", "always"])
@pytest.mark.parametrize("store", [None, NoStore()])
async def test_an_approval_answers_the_connections_own_request_once(
    hosting: Hosting, dialect: str, demanded: Any, store: Any
) -> None:
    given = tools.function(refund, approval=demanded)
    house = hosting(tools.mcp({"crm": [given]}), dialect=dialect, store=store, tenant=lambda scope: "acme")
    house.fake.script(calls(call("refund", order="7")), Answer(text="Paid."))
    async with connected(house.gateway) as client:
        first = await client.talk("Pay back 7.", **members(dialect, ASKING))
        request = item_of(first, "mcp_approval_request")
        approved = {"previous_response_id": first["id"], **members(dialect, ASKING)}
        second = await client.talk([answer(request)], **approved)
        assert kinds(second) == ["mcp_call", "message"]
        assert item_of(second, "mcp_call")["approval_request_id"] == request["id"]
        await client.create([answer(request)], **approved)
        error = (await client.error())["error"]
        assert (error["code"], error["param"]) == ("invalid_approval", "input")


async def test_a_conversation_goes_on_behind_an_approval(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.mcp({"crm": [refund]}), dialect=dialect)
    async with connected(house.gateway) as client:
        for approve, output in ((True, "Paid back 7 for None."), (False, "The user did not approve this call.")):
            house.fake.script(calls(call("refund", order="7")), Answer(text="Well."))
            last = await client.talk("Pay back 7.", **members(dialect, ASKING))
            given = [answer(item_of(last, "mcp_approval_request"), approve)]
            for said in (given, "Sure?", "Really?"):
                last = await client.talk(said, previous_response_id=last["id"], **members(dialect, ASKING))
                assert house.outputs() == [output]


async def test_a_request_of_another_connection_is_unknown(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [tools.function(refund, approval="always")]}))
    house.fake.script(calls(call("refund", order="7")))
    async with connected(house.gateway) as client, connected(house.gateway) as other:
        first = await client.talk("Pay back 7.", **members("chat", ASKING))
        request = item_of(first, "mcp_approval_request")
        await other.create([request, answer(request)], **members("chat", ASKING))
        assert (await other.error())["error"]["code"] == "invalid_approval"


async def test_an_approval_does_not_bind_a_chain_to_its_first_target(hosting: Hosting) -> None:
    native, chat = hosting(dialect="responses"), hosting()
    target = Target(native.provider, fallbacks=[Target(chat.provider, model="m2")])
    house = hosting(tools.mcp({"crm": [refund]}), policy=lambda request: target, retries=ONCE)
    native.fake.script(calls(call("refund", order="7")))
    async with connected(house.gateway) as client:
        first = await client.talk("Pay back 7.", **members("responses", ASKING))
        native.fake.fail_next(Status(503))
        given = [answer(item_of(first, "mcp_approval_request"))]
        second = await client.talk(given, previous_response_id=first["id"], **members("responses", ASKING))
    assert item_of(second, "mcp_call")["output"] == "Paid back 7 for None."
    assert chat.outputs() == ["Paid back 7 for None."]


async def test_a_list_is_given_once_on_a_connection(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}))
    async with connected(house.gateway) as client:
        first = await client.talk("Hi", **members("chat", CRM))
        second = await client.talk("And?", previous_response_id=first["id"], **members("chat", CRM))
    assert (kinds(first), kinds(second)) == (["mcp_list_tools", "message"], ["message"])


async def test_a_list_is_given_in_the_turn_that_declares_its_server_first(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}))
    async with connected(house.gateway) as client:
        last = await client.talk("Hi", **members("chat"))
        for given in (["mcp_list_tools", "message"], ["message"]):
            last = await client.talk("And?", previous_response_id=last["id"], **members("chat", CRM))
            assert kinds(last) == given
