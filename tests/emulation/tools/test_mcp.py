"""Plain functions of the host as MCP servers: listing, filters, names, approvals."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from gomodel_asgi import MemoryStore, Target, tools
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.testing import Answer

from .hosting import CRM, WEB, Hosting, Json, call, calls, functions_in, item_of, kinds, lookup, refund, search, text_of

pytestmark = pytest.mark.anyio

ASKING: Json = {"type": "mcp", "server_label": "crm"}


def cancel(order: str, why: Literal["late", "broken"] = "late", count: int = 1) -> dict[str, Any]:
    """Cancel an order."""
    return {"order": order, "why": why, "count": count}


async def test_a_functions_name_docstring_and_annotations_make_the_tool(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [cancel, refund]}))
    house.fake.script(calls(call("cancel", order="7", count=2)), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [CRM]})
    listed = item_of(response, "mcp_list_tools")["tools"]
    assert [tool["name"] for tool in listed] == ["cancel", "refund"]
    assert listed[0]["description"] == "Cancel an order." and listed[0]["annotations"] == {"read_only": False}
    schema = listed[0]["input_schema"]
    assert schema["required"] == ["order"] and schema["properties"]["why"]["enum"] == ["late", "broken"]
    assert [*listed[1]["input_schema"]["properties"]] == ["order"]  # what is annotated Call is not shown
    assert json.loads(item_of(response, "mcp_call")["output"]) == {"order": "7", "why": "late", "count": 2}


async def test_a_parameter_that_is_a_call_knows_the_tenant(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    house.fake.script(calls(call("refund", order="7")), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [CRM]}, tenant="acme")
    assert item_of(response, "mcp_call")["output"] == "Paid back 7 for acme."


async def test_allowed_tools_hold_for_showing_and_for_running(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup, cancel]}))
    house.fake.script(calls(call("cancel", order="7")), Answer(text="Sorry."))
    response = await house.ask({"input": "Hi", "tools": [{**CRM, "allowed_tools": ["lookup"]}]})
    assert functions_in("chat", house.sent[0]) == ["lookup"]
    assert kinds(response) == ["mcp_list_tools", "message"]
    assert house.outputs() == ["There is no tool of this name."]
    response = await house.ask({"input": "Hi", "tools": [{**CRM, "allowed_tools": []}]})
    assert item_of(response, "mcp_list_tools")["tools"] == []


async def test_a_filter_by_read_only_means_what_the_function_says_of_itself(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [tools.function(lookup, read_only=True), cancel]}))
    await house.ask({"input": "Hi", "tools": [{**CRM, "allowed_tools": {"read_only": True}}]})
    assert functions_in("chat", house.sent[0]) == ["lookup"]


async def test_two_servers_of_one_label_are_refused(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}))
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [CRM, CRM]})
    assert refused.value.status == 400 and refused.value.param == "tools[1].server_label"


async def test_names_that_clash_get_their_label_whatever_their_order(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup, cancel], "shop": [lookup]}), tools.web_search(search))
    shop = {"type": "mcp", "server_label": "shop", "require_approval": "never"}
    own = {"type": "function", "name": "web_search", "parameters": {"type": "object", "properties": {}}}
    await house.ask({"input": "Hi", "tools": [CRM, shop, WEB, own]})
    names = functions_in("chat", house.sent[-1])
    assert names == ["web_search", "crm__lookup", "cancel", "shop__lookup", "hosted__web_search"]
    await house.ask({"input": "Hi", "tools": [own, shop, WEB, CRM]})
    assert sorted(functions_in("chat", house.sent[-1])) == sorted(names)


async def test_a_clients_own_function_is_never_shadowed(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}))
    own = {"type": "function", "name": "lookup", "parameters": {"type": "object", "properties": {}}}
    house.fake.script(calls(call("lookup")))
    response = await house.ask({"input": "Hi", "tools": [CRM, own]})
    assert kinds(response) == ["mcp_list_tools", "function_call"]


async def test_a_name_that_no_upstream_takes_is_mapped_and_mapped_back(hosting: Hosting) -> None:
    long = "orders." + "x" * 100
    house = hosting(tools.mcp({"crm": [tools.function(lookup, name=long)]}))

    def pick(prompt: Any) -> Answer:
        (tool,) = prompt.tools
        assert len(tool.name) <= 64 and "." not in tool.name
        return calls(call(tool.name, order="7"))

    house.fake.script(pick, Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [CRM]})
    assert item_of(response, "mcp_call")["name"] == long


async def test_an_object_that_a_model_has_written_as_text_is_one(hosting: Hosting) -> None:
    def note(lines: list[str], about: dict[str, int], text: str) -> list[Any]:
        """Keep a note."""
        return [lines, about, text]

    house = hosting(tools.mcp({"crm": [note]}))
    house.fake.script(calls(call("note", lines='["a"]', about='{"b": 1}', text='["c"]')), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [CRM]})
    assert json.loads(item_of(response, "mcp_call")["output"]) == [["a"], {"b": 1}, '["c"]']


async def test_a_builtin_only_request_shows_no_list(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}), tools.web_search(search))
    response = await house.ask({"input": "Hi", "tools": [WEB]})
    assert kinds(response) == ["message"]


async def test_a_list_is_given_once_in_a_conversation(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup]}))
    first = await house.ask({"input": "Hi", "tools": [CRM]})
    assert kinds(first) == ["mcp_list_tools", "message"]
    second = await house.ask({"input": "And?", "previous_response_id": first["id"], "tools": [CRM]})
    assert kinds(second) == ["message"] and functions_in("chat", house.sent[-1]) == ["lookup"]


async def test_a_forced_server_or_tool_is_the_models_only_choice(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup, cancel]}), dialect="responses")
    house.fake.script([Answer(text="Free.") for _ in range(3)])
    choice = {"type": "mcp", "server_label": "crm", "name": "cancel"}
    await house.ask({"input": "Hi", "tools": [CRM], "tool_choice": choice})
    assert house.sent[-1]["tool_choice"] == {"type": "function", "name": "cancel"}
    await house.ask({"input": "Hi", "tools": [CRM], "tool_choice": {"type": "mcp", "server_label": "crm"}})
    names = [{"type": "function", "name": "lookup"}, {"type": "function", "name": "cancel"}]
    assert house.sent[-1]["tool_choice"] == {"type": "allowed_tools", "mode": "required", "tools": names}
    await house.ask({"input": "Hi", "tools": [CRM], "tool_choice": {"type": "mcp"}})
    assert house.sent[-1]["tool_choice"]["mode"] == "required"


async def test_a_server_that_fails_three_times_in_a_row_is_not_asked_again(hosting: Hosting) -> None:
    asked: list[str] = []

    def broken(order: str) -> str:
        asked.append(order)
        raise tools.ToolError("down")

    house = hosting(tools.mcp({"crm": [broken]}))
    house.fake.script([calls(call("broken", order=str(at))) for at in range(5)], Answer(text="Given up."))
    await house.ask({"input": "Hi", "tools": [CRM]})
    assert len(asked) == 3 and "failed several times" in house.outputs()[-1]


async def test_tools_that_the_policy_adds_are_neither_echoed_nor_listed(hosting: Hosting) -> None:
    added = {"type": "mcp", "server_label": "crm"}
    demanding = tools.function(refund, approval="always")
    house = hosting(tools.mcp({"crm": [lookup, demanding]}), policy=lambda request: Target("fake", tools=[added]))
    house.fake.script(calls(call("lookup", order="7")), Answer(text="Done."))
    response = await house.ask({"input": "Hi"})
    assert functions_in("chat", house.sent[0]) == ["lookup"] and response["tools"] == []
    assert kinds(response) == ["mcp_call", "message"]


# Approvals...


async def ask_for_approval(house: Any, **more: Any) -> Json:
    house.fake.script(calls(call("refund", order="7")))
    found: Json = await house.ask({"input": "Pay back 7.", "tools": [ASKING], **more}, tenant="acme")
    return found


def answer(request: Json, approve: bool = True, **more: Any) -> Json:
    return {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": approve, **more}


async def test_a_call_waits_for_the_clients_word_and_is_then_made_first(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.mcp({"crm": [refund]}), dialect=dialect)
    first = await ask_for_approval(house)
    request = item_of(first, "mcp_approval_request")
    assert first["status"] == "completed" and "mcp_call" not in kinds(first)
    assert (request["server_label"], request["name"]) == ("crm", "refund")
    assert json.loads(request["arguments"]) == {"order": "7"} and "status" not in request
    house.fake.script(Answer(text="Paid."))
    given = {"input": [answer(request)], "previous_response_id": first["id"], "tools": [ASKING]}
    second = await house.ask(given, tenant="acme")
    item = item_of(second, "mcp_call")
    assert kinds(second) == ["mcp_call", "message"] and item["approval_request_id"] == request["id"]
    assert item["output"] == "Paid back 7 for acme." == house.outputs()[0]
    assert len(house.sent) == 2


async def test_an_approved_call_streams_its_arguments_whole_before_the_answer(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    first = await ask_for_approval(house)
    house.fake.script(Answer(text="Paid."))
    given = {"input": [answer(first["output"][-1])], "previous_response_id": first["id"], "tools": [ASKING]}
    events = await house.events(given, tenant="acme")
    types = [event["type"] for event in events if "mcp_call" in event["type"]]
    assert types == [
        "response.mcp_call.in_progress", "response.mcp_call_arguments.delta", "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
    ]  # fmt: skip
    assert events[-1]["type"] == "response.completed"


async def test_a_conversation_goes_on_behind_a_streamed_approval(hosting: Hosting, dialect: str) -> None:
    house = hosting(tools.mcp({"crm": [refund]}), dialect=dialect)
    first = await ask_for_approval(house)
    house.fake.script(Answer(text="Paid."), Answer(text="Yes."))
    given = {"input": [answer(first["output"][-1])], "previous_response_id": first["id"], "tools": [ASKING]}
    second = (await house.events(given, tenant="acme"))[-1]["response"]
    third = await house.ask({"input": "Sure?", "previous_response_id": second["id"], "tools": [ASKING]}, tenant="acme")
    assert text_of(third) == "Yes." and house.outputs() == ["Paid back 7 for acme."]


async def test_a_call_that_is_refused_is_not_made_and_the_model_is_told(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    first = await ask_for_approval(house)
    denied = answer(first["output"][-1], approve=False, reason="Too dear.")
    house.fake.script(Answer(text="I did not."))
    given = {"input": [denied], "previous_response_id": first["id"], "tools": [ASKING]}
    second = await house.ask(given, tenant="acme")
    assert kinds(second) == ["message"]
    assert house.outputs() == ["The user did not approve this call.\nReason:\nToo dear."]


async def test_a_request_that_nobody_answers_counts_as_refused(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    first = await ask_for_approval(house)
    given = {"input": "Never mind.", "previous_response_id": first["id"], "tools": [ASKING]}
    await house.ask(given, tenant="acme")
    assert house.outputs() == ["The user did not approve this call."]


@pytest.mark.parametrize(
    "require",
    [
        None,
        "always",
        {"never": {"tool_names": ["lookup"]}},
        {"always": {"tool_names": ["refund"]}, "never": {"tool_names": ["refund"]}},
    ],
)
async def test_what_is_not_excepted_needs_approval(hosting: Hosting, require: Any) -> None:
    house = hosting(tools.mcp({"crm": [lookup, refund]}))
    house.fake.script(calls(call("refund", order="7")))
    response = await house.ask({"input": "Hi", "tools": [{**ASKING, "require_approval": require}]})
    assert kinds(response)[-1] == "mcp_approval_request"


async def test_approval_is_decided_for_each_tool_and_server(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [lookup], "bank": [refund]}))
    house.fake.script(calls(call("lookup", order="1"), call("refund", order="1")))
    bank = {"type": "mcp", "server_label": "bank"}
    response = await house.ask({"input": "Hi", "tools": [CRM, bank]})
    assert kinds(response)[-2:] == ["mcp_call", "mcp_approval_request"]


@pytest.mark.parametrize("require", ["sometimes", {"maybe": {"tool_names": []}}, {"never": {"read_only": "yes"}}, 3])
async def test_an_approval_that_means_nothing_is_refused(hosting: Hosting, require: Any) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [{**ASKING, "require_approval": require}]})
    assert refused.value.status == 400 and "require_approval" in (refused.value.param or "")


async def test_what_a_request_forces_is_done_with_once_its_approved_call_is_made(hosting: Hosting) -> None:
    """The call that was approved counts as the first round: the model is not forced to call again."""
    house = hosting(tools.mcp({"crm": [refund]}))
    house.fake.script(calls(call("refund", order="7")), Answer(text="Done.", shown=["Paid back 7"]))
    forced: Json = {"tools": [ASKING], "tool_choice": {"type": "mcp", "server_label": "crm"}}
    first = await house.ask({"input": "Hi", **forced})
    given = answer(item_of(first, "mcp_approval_request"))
    await house.ask({"input": [given], "previous_response_id": first["id"], **forced})
    function = {"type": "function", "function": {"name": "refund"}}
    assert [body.get("tool_choice") for body in house.sent] == [function, "auto"]


async def test_an_approval_counts_once_and_for_its_own_tenant(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    first = await ask_for_approval(house)
    given = {"input": [answer(first["output"][-1])], "previous_response_id": first["id"], "tools": [ASKING]}
    stateless = {
        "input": [{"role": "user", "content": "Hi"}, first["output"][-1], answer(first["output"][-1])],
        "tools": [ASKING],
    }
    with pytest.raises(GatewayError) as foreign:
        await house.ask(stateless, tenant="other")
    house.fake.script(Answer(text="Paid."))
    await house.ask(given, tenant="acme")
    for again in (given, stateless):
        with pytest.raises(GatewayError) as used:
            await house.ask(again, tenant="acme")
        assert (used.value.status, used.value.param) == (foreign.value.status, foreign.value.param) == (400, "input")


async def test_a_stateless_approval_is_trusted_only_if_the_request_is_ours_and_unchanged(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [refund]}))
    first = await ask_for_approval(house, store=False)
    request = first["output"][-1]
    changed = {**request, "arguments": '{"order": "8"}'}
    for forged in (changed, {**request, "id": request["id"][:-1] + "x"}):
        body = {"input": [forged, answer(forged)], "tools": [ASKING], "store": False}
        with pytest.raises(GatewayError) as refused:
            await house.ask(body, tenant="acme")
        assert refused.value.status == 400
    house.fake.script(Answer(text="Paid."))
    body = {"input": [{"role": "user", "content": "Hi"}, request, answer(request)], "tools": [ASKING], "store": False}
    response = await house.ask(body, tenant="acme")
    assert kinds(response) == ["mcp_list_tools", "mcp_call", "message"]


async def test_what_the_host_demands_is_resumed_from_a_stored_request_alone(hosting: Hosting) -> None:
    house = hosting(tools.mcp({"crm": [tools.function(refund, approval="always")]}))
    never = {**ASKING, "require_approval": "never"}
    house.fake.script(calls(call("refund", order="7")))
    unstored = await house.ask({"input": "Hi", "tools": [never], "store": False}, tenant="acme")
    request = unstored["output"][-1]
    assert request["type"] == "mcp_approval_request"
    with pytest.raises(GatewayError):
        await house.ask({"input": [request, answer(request)], "tools": [never]}, tenant="acme")
    house.fake.script(calls(call("refund", order="7")), Answer(text="Paid."))
    stored = await house.ask({"input": "Hi", "tools": [never]}, tenant="acme")
    body = {"input": [answer(stored["output"][-1])], "previous_response_id": stored["id"], "tools": [never]}
    assert text_of(await house.ask(body, tenant="acme")) == "Paid."


async def test_a_history_with_an_old_approval_is_replayed_and_not_run_again(hosting: Hosting) -> None:
    paid: list[str] = []

    def pay(order: str) -> str:
        """Pay an order back."""
        paid.append(order)
        return "Paid."

    house = hosting(tools.mcp({"crm": [tools.function(pay, name="refund")]}), store=MemoryStore())
    first = await ask_for_approval(house)
    request = first["output"][-1]
    house.fake.script(Answer(text="Paid."), Answer(text="Yes."))
    given = {"input": [answer(request)], "previous_response_id": first["id"], "tools": [ASKING]}
    second = await house.ask(given, tenant="acme")
    whole = [{"role": "user", "content": "Pay back 7."}, *first["output"], answer(request), *second["output"]]
    whole.append({"role": "user", "content": "Sure?"})
    third = await house.ask({"input": whole, "tools": [ASKING]}, tenant="acme")
    assert text_of(third) == "Yes." and paid == ["7"] and house.outputs() == ["Paid."]
