"""The loop over the whole gateway: a scripted model that calls tools over rounds, in each dialect."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gomodel_asgi import Limits, Target, Timeouts, tools
from gomodel_asgi.dialects.gemini.contents import ANY_SIGNATURE
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.testing import Answer, Reply, ToolCall
from gomodel_asgi.testing.faults import Cut, Status
from tests.support.lab import ONCE

from .hosting import (
    CLIENTS,
    CODE,
    CRM,
    FILES,
    IMAGE,
    WEB,
    Hanging,
    Hosting,
    Json,
    call,
    calls,
    functions_in,
    item_of,
    kinds,
    lookup,
    search,
    text_of,
)

pytestmark = pytest.mark.anyio


def find(call: tools.Call) -> list[tools.Passage]:
    return [tools.Passage("file_1", "a.txt", f"Text on {call.arguments['queries'][0]}", 0.5)]


def execute(call: tools.Call) -> tools.Execution:
    return tools.Execution("4\n", files=[tools.File(b"x", "plot.csv")])


async def draw(call: tools.Call) -> tools.Image:
    await call.partial(b"draft")
    return tools.Image(b"png")


ALL = (
    tools.web_search(search),
    tools.file_search(find),
    tools.code_interpreter(execute),
    tools.image_generation(draw),
    tools.mcp({"crm": [lookup]}),
)
DECLARED = [WEB, FILES, CODE, {**IMAGE, "partial_images": 1}, CRM]
SCRIPT = [
    calls(call("web_search", query="rome"), call("lookup", order="7"), text="Let me look.", reasoning="Hm."),
    calls(call("code_interpreter", code="print(2+2)"), call("file_search", queries=["a"])),
    calls(call("image_generation", prompt="a cat")),
    Answer(text="Sunny ([Rome](https://example.com/rome/?a=1&utm_source=x)), see a【1†a.txt】."),
]
KINDS = [
    "mcp_list_tools", "message", "web_search_call", "mcp_call", "code_interpreter_call", "file_search_call",
    "image_generation_call", "message",
]  # fmt: skip


async def test_a_response_of_several_rounds_is_one_response_in_each_dialect(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(SCRIPT)
    response = await house.ask({"input": "Weather?", "tools": DECLARED})
    assert kinds(response) == KINDS
    assert response["status"] == "completed"
    assert text_of(response) == "Let me look.Sunny ([Rome](https://example.com/rome/?a=1&utm_source=x)), see a."
    assert item_of(response, "mcp_call")["output"] == "Order 7 is on its way."
    assert item_of(response, "web_search_call")["action"] == {"type": "search", "query": "rome", "queries": ["rome"]}
    assert item_of(response, "code_interpreter_call")["code"] == "print(2+2)"
    assert item_of(response, "image_generation_call")["result"] == "cG5n"
    assert len(house.sent) == 4


async def test_a_stream_ends_with_what_a_unary_reply_holds(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(SCRIPT)
    whole = await house.ask({"input": "Weather?", "tools": DECLARED})
    house.fake.script(SCRIPT)
    streamed = (await house.events({"input": "Weather?", "tools": DECLARED}))[-1]["response"]

    def bare(response: Json) -> Any:
        items = [{**item, "id": None, "container_id": None, "encrypted_content": None} for item in response["output"]]
        return items, response["usage"], response["tools"]

    assert bare(streamed) == bare(whole)


async def test_a_stream_is_one_lifecycle_with_consecutive_numbers_and_items(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(SCRIPT)
    events = await house.events({"input": "Weather?", "tools": DECLARED})
    types = [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert types[:2] == ["response.created", "response.in_progress"]
    assert types.count("response.created") == types.count("response.in_progress") == 1
    assert types[-1] == "response.completed" and types.count("response.completed") == 1
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    done = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [done[index] for index in range(len(added))] == events[-1]["response"]["output"]
    assert not any("function_call" in type for type in types)


PHASES = {
    "web_search_call": ["in_progress", "searching", "completed"],
    "file_search_call": ["in_progress", "searching", "completed"],
    "code_interpreter_call": ["in_progress", "interpreting", "completed"],
    "image_generation_call": ["in_progress", "generating", "partial_image", "completed"],
    "mcp_call": ["in_progress", "completed"],
    "mcp_list_tools": ["in_progress", "completed"],
}


@pytest.mark.parametrize("type", PHASES)
async def test_each_tool_has_the_events_that_openai_sends(hosting: Hosting, type: str) -> None:
    house = hosting(*ALL)
    house.fake.script(SCRIPT)
    events = await house.events({"input": "Weather?", "tools": DECLARED})
    stem = f"response.{type}."
    found = [event["type"].removeprefix(stem) for event in events if event["type"].startswith(stem)]
    assert found == PHASES[type]
    index = next(event["output_index"] for event in events if event.get("item", {}).get("type") == type)
    types = [event["type"] for event in events if event.get("output_index") == index]
    assert types[0] == "response.output_item.added" and types[1] == f"{stem}in_progress"
    assert types[-2:] == [f"{stem}completed", "response.output_item.done"]


async def test_a_search_is_added_without_its_action(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(SCRIPT)
    events = await house.events({"input": "Weather?", "tools": DECLARED})
    added = {event["item"]["type"]: event["item"] for event in events if event["type"] == "response.output_item.added"}
    assert added["web_search_call"].keys() == {"id", "type", "status"}
    assert added["image_generation_call"].keys() == {"id", "type", "status"}
    assert added["mcp_call"]["arguments"] == "" and added["mcp_call"]["approval_request_id"] is None
    assert added["code_interpreter_call"]["code"] == "" and added["code_interpreter_call"]["outputs"] == []
    assert added["mcp_list_tools"]["tools"] == []


async def test_code_and_arguments_are_streamed_as_the_model_writes_them(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(SCRIPT)
    events = await house.events({"input": "Weather?", "tools": DECLARED})
    code = [event for event in events if event["type"] == "response.code_interpreter_call_code.delta"]
    assert len(code) > 1 and "".join(event["delta"] for event in code) == "print(2+2)"
    arguments = [event for event in events if event["type"] == "response.mcp_call_arguments.delta"]
    done = next(event for event in events if event["type"] == "response.mcp_call_arguments.done")
    assert len(arguments) > 1 and "".join(event["delta"] for event in arguments) == done["arguments"]


async def test_the_next_round_holds_the_calls_and_their_outputs_in_their_order(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(SCRIPT)
    await house.ask({"input": "Weather?", "tools": DECLARED})
    assert "Found for rome" in house.outputs(1)[0] and house.outputs(1)[1] == "Order 7 is on its way."
    assert len(house.outputs(3)) == 5


async def test_the_tools_shown_are_the_same_in_every_round(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(SCRIPT)
    await house.ask({"input": "Weather?", "tools": [CLIENTS, *DECLARED]})
    names = ["book", "web_search", "file_search", "code_interpreter", "image_generation", "lookup"]
    assert [functions_in(dialect, body) for body in house.sent] == [names] * 4
    assert len({json.dumps(body["tools"]) for body in house.sent}) == 1


async def test_citations_are_annotations_of_the_sources_that_were_found(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(SCRIPT)
    part = (await house.ask({"input": "Weather?", "tools": DECLARED}))["output"][-1]["content"][0]
    url, file = part["annotations"]
    assert part["text"][url["start_index"] : url["end_index"]].startswith("([Rome](") and url["type"] == "url_citation"
    assert url["url"] == "https://example.com/rome?a=1" and url["title"] == "Rome"
    assert file == {
        "type": "file_citation", "file_id": "file_1", "filename": "a.txt", "index": len(part["text"]) - 1,
    }  # fmt: skip


async def test_usage_is_summed_over_all_rounds(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("web_search", query="a"), cached=1), Answer(text="one two three", cached=2))
    response = await house.ask({"input": "Weather in Rome now?", "tools": [WEB]})
    usage = response["usage"]
    assert usage["input_tokens_details"]["cached_tokens"] == 3
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["output_tokens"] > 3


async def test_a_mixed_turn_ends_with_the_clients_call_and_goes_on_with_all_results(
    hosting: Hosting, dialect: str
) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome"), call("book", city="Rome")), Answer(text="Booked."))
    first = await house.ask({"input": "Book Rome.", "tools": [WEB, CLIENTS]})
    assert kinds(first) == ["web_search_call", "function_call"] and first["status"] == "completed"
    answer = {"type": "function_call_output", "call_id": first["output"][-1]["call_id"], "output": "Room 7"}
    second = await house.ask({"input": [answer], "previous_response_id": first["id"], "tools": [WEB, CLIENTS]})
    assert text_of(second) == "Booked."
    found = house.outputs()
    assert "Found for rome" in found[0] and found[1] == "Room 7" and len(house.sent) == 2


@pytest.mark.parametrize("choice", ["required", {"type": "web_search"}, {"type": "web_search_preview"}])
async def test_a_forced_choice_holds_for_the_first_round_alone(hosting: Hosting, choice: Any) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Done."))
    response = await house.ask({"input": "Weather?", "tools": [WEB, CRM], "tool_choice": choice})
    forced = "required" if choice == "required" else {"type": "function", "function": {"name": "web_search"}}
    assert [body.get("tool_choice") for body in house.sent] == [forced, "auto"]
    assert response["tool_choice"] == choice


async def test_a_choice_of_a_tool_that_is_not_declared_is_refused_by_name(hosting: Hosting) -> None:
    house = hosting(*ALL)
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [WEB], "tool_choice": {"type": "file_search"}})
    assert refused.value.status == 400 and refused.value.param == "tool_choice"
    assert "not found in 'tools' parameter" in refused.value.message


async def test_calls_over_max_tool_calls_are_not_run_and_the_model_answers(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    many = calls(call("web_search", query="a"), call("web_search", query="b"))
    house.fake.script(many, Answer(text="With one."))
    response = await house.ask({"input": "Weather?", "tools": [WEB], "max_tool_calls": 1})
    assert kinds(response) == ["web_search_call", "message"] and response["status"] == "completed"
    assert "no more tools" in house.outputs()[1] and response["max_tool_calls"] == 1


async def test_a_call_that_is_refused_unrun_does_not_count_for_max_tool_calls(hosting: Hosting) -> None:
    house = hosting(*ALL)
    wrong, right = call("web_search", words="a"), call("web_search", query="rome")
    house.fake.script(calls(wrong), calls(right), Answer(text="Sunny."))
    response = await house.ask({"input": "Weather?", "tools": [WEB], "max_tool_calls": 1})
    assert "Not run" in house.outputs()[0] and "Found for rome" in house.outputs()[1]
    assert [item["status"] for item in response["output"]] == ["failed", "completed", "completed"]
    assert text_of(response) == "Sunny."


async def test_behind_the_last_round_a_model_must_answer(hosting: Hosting) -> None:
    house = hosting(*ALL, limits=Limits(tool_rounds=2))
    house.fake.script(
        [calls(call("web_search", query=str(at))) for at in range(2)], calls(call("web_search", query="x"))
    )
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert [body.get("tool_choice") for body in house.sent] == [None, None, "none"]
    assert kinds(response) == ["web_search_call", "web_search_call"] and response["status"] == "completed"
    assert response["incomplete_details"] is None


async def test_one_call_at_a_time_means_one(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses")
    many = calls(call("web_search", query="a"), call("web_search", query="b"))
    house.fake.script(many, Answer(text="Done."))
    response = await house.ask({"input": "Weather?", "tools": [WEB], "parallel_tool_calls": False})
    assert kinds(response) == ["web_search_call", "message"]
    assert "one call at a time" in house.outputs()[1]


async def test_a_fourth_identical_call_is_answered_and_not_run(hosting: Hosting) -> None:
    asked: list[str] = []

    def count(call: tools.Call) -> str:
        asked.append(call.arguments["query"])
        return "Nothing."

    house = hosting(tools.web_search(count))
    house.fake.script([calls(call("web_search", query="a")) for _ in range(4)], Answer(text="Given up."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert asked == ["a"] * 3 and "several times already" in house.outputs()[3]
    assert [item.get("status") for item in response["output"]][3] == "failed"


async def test_a_function_that_nobody_declared_is_an_error_to_the_model_alone(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("made_up", x=1)), Answer(text="Sorry."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert kinds(response) == ["message"] and house.outputs() == ["There is no tool of this name."]


async def test_a_round_that_is_cut_inside_a_call_runs_nothing(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(Answer(calls=(call("web_search", query="a"),), incomplete="max_output_tokens"))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert item_of(response, "web_search_call")["status"] == "incomplete" and len(house.sent) == 1


async def test_the_output_budget_is_that_of_the_whole_response(hosting: Hosting) -> None:
    house = hosting(*ALL)
    said = " ".join(["word"] * 30)
    house.fake.script(calls(call("web_search", query="a"), text=said), Answer(text="Done."))
    await house.ask({"input": "Weather?", "tools": [WEB], "max_output_tokens": 100})
    first, second = [
        body["max_completion_tokens"] if "max_completion_tokens" in body else body["max_tokens"] for body in house.sent
    ]
    assert first == 100 and second < 70
    house.fake.script(calls(call("web_search", query="a"), text=said))
    response = await house.ask({"input": "Weather?", "tools": [WEB], "max_output_tokens": 40})
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_a_tool_error_is_an_item_that_failed_and_the_model_goes_on(hosting: Hosting, dialect: str) -> None:
    def broken(order: str) -> str:
        raise tools.ToolError("The shop is closed.")

    house = hosting(tools.mcp({"crm": [tools.function(broken, name="lookup")]}), dialect=dialect)
    house.fake.script(calls(call("lookup", order="7")), Answer(text="Closed, sorry."))
    response = await house.ask({"input": "Order 7?", "tools": [CRM]})
    item = item_of(response, "mcp_call")
    assert item["status"] == "failed" and item["output"] is None
    assert item["error"] == {
        "type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "The shop is closed."}],
    }  # fmt: skip
    assert house.outputs() == ["The shop is closed."] and text_of(response) == "Closed, sorry."


async def test_what_an_exception_says_reaches_observers_alone(hosting: Hosting) -> None:
    records: list[Any] = []

    def broken(call: tools.Call) -> str:
        raise RuntimeError("secret of the host's")

    house = hosting(tools.web_search(broken), observers=[records.append])
    house.fake.script(calls(call("web_search", query="a")), Answer(text="No."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert "secret of" not in json.dumps(response) and "secret of" not in json.dumps(house.sent)
    called = [record for record in records if type(record).__name__ == "ToolCalled"]
    assert [record.outcome for record in called] == ["failed"] and "secret of the host's" in called[0].detail


async def test_a_tool_that_hangs_is_given_up_and_its_siblings_are_not(hosting: Hosting) -> None:
    async def hang(call: tools.Call) -> str:
        await anyio.sleep_forever()
        return ""

    house = hosting(tools.web_search(hang), tools.mcp({"crm": [lookup]}), timeouts=Timeouts(tool=0.05))
    house.fake.script(calls(call("web_search", query="a"), call("lookup", order="1")), Answer(text="Half."))
    response = await house.ask({"input": "Weather?", "tools": [WEB, CRM]})
    assert [item["status"] for item in response["output"] if item["type"].endswith("_call")] == ["failed", "completed"]
    assert house.outputs() == ["The tool took too long.", "Order 1 is on its way."]


async def test_a_large_result_is_cut_with_a_note(hosting: Hosting) -> None:
    house = hosting(tools.web_search(lambda call: "a" * 5_000_000 + "end"), limits=Limits(tool_result=1000))
    house.fake.script(calls(call("web_search", query="a")), Answer(text="Long."))
    await house.ask({"input": "Weather?", "tools": [WEB]})
    (output,) = house.outputs()
    assert len(output) < 1100 and output.endswith("end") and "characters were left out" in output


async def test_half_a_character_in_a_result_breaks_nothing(hosting: Hosting) -> None:
    def odd(call: tools.Call) -> list[tools.Page]:
        return [tools.Page("https://example.com/a", "A \ud800", "B \udfff")]

    house = hosting(tools.web_search(odd))
    house.fake.script(calls(call("web_search", query="a")), Answer(text="See [A](https://example.com/a)."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert response["output"][-1]["content"][0]["annotations"][0]["title"] == "A ?"
    assert "B ?" in house.outputs()[0]


async def test_no_more_is_read_than_a_response_may_hold(hosting: Hosting) -> None:
    limits = Limits(tool_result=600, tool_bytes=1000)
    house = hosting(tools.web_search(lambda call: "a" * 5000), limits=limits)
    house.fake.script([calls(call("web_search", query=str(at))) for at in range(3)], Answer(text="Long."))
    await house.ask({"input": "Weather?", "tools": [WEB]})
    assert sum(map(len, house.outputs())) < 1300


async def test_arguments_that_are_no_object_are_not_run(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(ToolCall("lookup", "[1")), calls(call("lookup", wrong=1)), Answer(text="Sorry."))
    response = await house.ask({"input": "Order?", "tools": [CRM]})
    assert [item["status"] for item in response["output"] if item["type"] == "mcp_call"] == ["failed", "failed"]
    assert "no JSON object" in house.outputs()[0] and "order: Field required" in house.outputs()[1]


async def test_a_first_round_that_fails_is_an_http_error(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    for stream in (False, True):
        house.fake.fail_next(Status(400))
        with pytest.raises(GatewayError) as failed:
            await house.ask({"input": "Weather?", "tools": DECLARED, "stream": stream})
        assert failed.value.status == 400


async def test_a_later_round_that_fails_ends_the_response_with_the_work_so_far(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.fail_next(Status(400))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert response["status"] == "failed" and kinds(response) == ["web_search_call"] and response["error"]
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.fail_next(Status(400))
    events = await house.events({"input": "Weather?", "tools": [WEB]})
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert kinds(events[-1]["response"]) == ["web_search_call"]
    assert {"code", "message", "param"} <= events[-2].keys()


async def test_a_stream_that_breaks_off_in_a_later_round_ends_as_failed(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.fail_next(Cut(after_events=2))
    events = await house.events({"input": "Weather?", "tools": [WEB]})
    assert events[-1]["type"] == "response.failed"
    assert kinds(events[-1]["response"])[0] == "web_search_call"


async def test_a_round_that_fails_before_its_first_event_is_asked_again(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.fail_next(Status(503))
    house.fake.script(Answer(text="Done."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert text_of(response) == "Done." and len(house.sent) == 3


async def test_a_client_that_leaves_ends_the_hosts_function(hosting: Hosting) -> None:
    hanging = Hanging()
    house = hosting(tools.web_search(hanging))

    async def read(stream: bool) -> None:
        body = {"model": "m", "input": "Weather?", "tools": [WEB], "stream": stream}
        async with await house.gateway.respond(body) as reply:
            await reply.read()

    for stream in (False, True):
        hanging.reset()
        house.fake.script(calls(call("web_search", query="a")))
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read, stream)
                await hanging.entered.wait()
                group.cancel_scope.cancel()
        assert hanging.left.is_set()


async def test_at_most_so_many_calls_run_at_a_time(hosting: Hosting) -> None:
    now, most = 0, 0

    async def count(call: tools.Call) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.lowlevel.checkpoint()
        now -= 1
        return "x"

    house = hosting(tools.web_search(count), limits=Limits(tool_parallel=2))
    house.fake.script(calls(*(call("web_search", query=str(at)) for at in range(6))), Answer(text="Done."))
    await house.ask({"input": "Weather?", "tools": [WEB]})
    assert most == 2


async def test_what_a_client_asks_to_be_included_is_there_and_else_is_not(hosting: Hosting) -> None:
    house = hosting(*ALL)
    includes = ["web_search_call.action.sources", "file_search_call.results", "code_interpreter_call.outputs"]
    house.fake.script(SCRIPT)
    response = await house.ask({"input": "Weather?", "tools": DECLARED, "include": includes})
    sources = item_of(response, "web_search_call")["action"]["sources"]
    assert sources == [{"type": "url", "url": "https://example.com/rome?a=1"}]
    assert item_of(response, "file_search_call")["results"][0]["text"] == "Text on a"
    assert item_of(response, "code_interpreter_call")["outputs"] == [{"type": "logs", "logs": "4\n"}]


async def test_a_search_that_goes_to_the_web_answers_no_declaration_that_forbids_it(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search, live=True), dialect="responses")
    reply = await house.gateway.respond({"model": "m", "input": "Hi", "tools": [{**WEB, "external_web_access": False}]})
    assert reply.headers["x-gomodel-unsupported"] == "tools.external_web_access" and "tools" not in house.sent[0]
    await reply.aclose()
    cached = hosting(tools.web_search(search, live=False))
    cached.fake.script(calls(call("web_search", query="a")), Answer(text="Done."))
    response = await cached.ask({"input": "Hi", "tools": [{**WEB, "external_web_access": False}]})
    assert kinds(response) == ["web_search_call", "message"]


async def test_an_upstream_that_has_the_tool_keeps_it_unless_the_host_always_runs_it(hosting: Hosting) -> None:
    missing = hosting(tools.web_search(search), dialect="responses", provider={"hosted_tools": None})
    await missing.ask({"input": "Hi", "tools": [WEB]})
    assert missing.sent[-1]["tools"] == [WEB]
    always = hosting(tools.web_search(search, use="always"), dialect="responses", provider={"hosted_tools": None})
    await always.ask({"input": "Hi", "tools": [WEB]})
    assert functions_in("responses", always.sent[-1]) == ["web_search"]


async def test_a_gemini_model_that_cannot_combine_gets_the_hosts_search_beside_functions(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search), dialect="gemini", provider={"hosted_tools": None})
    await house.ask({"input": "Hi", "tools": [WEB, CLIENTS], "model": "gemini-2.5-flash"})
    assert functions_in("gemini", house.sent[-1]) == ["book", "web_search"]
    found: list[Json] = [{"type": "tool_search_call", "arguments": {}, "call_id": "c1"}]
    found.append({"type": "tool_search_output", "call_id": "c1", "tools": [CLIENTS]})
    brings = {"input": [*found, {"role": "user", "content": "Hi"}], "tools": [WEB], "model": "gemini-2.5-flash"}
    await house.ask(brings)
    assert "web_search" in functions_in("gemini", house.sent[-1])
    (explained,) = (await house.gateway.explain(brings)).candidates
    assert explained.tools == {"web_search": "here"}
    await house.ask({"input": "Hi", "tools": [WEB], "model": "gemini-2.5-flash"})
    assert house.sent[-1]["tools"] == [{"googleSearch": {}}]


async def test_what_nobody_can_run_is_refused_by_name_on_a_translated_upstream(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search))
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [FILES]})
    assert refused.value.status == 400 and "file_search" in refused.value.message


async def test_a_native_upstream_gets_an_unmapped_tool_untouched(hosting: Hosting) -> None:
    house = hosting(tools.web_search(search), dialect="responses")
    await house.ask({"input": "Hi", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"], "x": 1}]})
    assert house.sent[0]["tools"] == [{"type": "file_search", "vector_store_ids": ["vs_1"], "x": 1}]


async def test_inner_rounds_keep_nothing_at_the_upstream(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses", provider={"stateful": True})
    house.fake.script(calls(call("web_search", query="a")), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [WEB], "max_tool_calls": 3, "metadata": {"a": "b"}})
    assert [body.get("metadata") for body in house.sent] == [{"a": "b"}, None]
    assert [body["store"] for body in house.sent] == [False, False]
    assert all("max_tool_calls" not in body for body in house.sent)
    assert response["store"] is True and response["max_tool_calls"] == 3
    house.fake.script(Answer(text="Again."))
    second = await house.ask({"input": "And?", "previous_response_id": response["id"], "tools": [WEB]})
    assert text_of(second) == "Again." and "previous_response_id" not in house.sent[-1]
    assert "Found for a" in house.outputs()[0]


async def test_a_round_at_the_border_falls_back_where_nothing_is_bound(hosting: Hosting) -> None:
    house = hosting(*ALL)
    other = hosting(dialect="anthropic")
    first = Target(house.provider, fallbacks=[Target(other.provider, model="claude-sonnet-4-5")])
    both = hosting(*ALL, policy=lambda request: first, retries=ONCE)
    house.fake.script(calls(call("web_search", query="a")))
    house.fake.fail_next(Status(503))
    other.fake.script(Answer(text="Done."))
    response = await both.ask({"input": "Weather?", "tools": [WEB]})
    assert text_of(response) == "Done." and "Found for a" in other.outputs()[0]


async def test_a_round_that_is_bound_to_its_model_falls_back_nowhere(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="anthropic")
    other = hosting()
    first = Target(house.provider, fallbacks=[Target(other.provider)])
    both = hosting(*ALL, dialect="anthropic", policy=lambda request: first, retries=ONCE)
    house.fake.script(calls(call("web_search", query="a"), reasoning="Hm."))
    house.fake.fail_next(Status(503))
    body = {"input": "Weather?", "tools": [WEB], "reasoning": {"effort": "low"}}
    response = await both.ask(body)
    assert response["status"] == "failed" and other.sent == []


async def test_a_budget_is_kept_beside_thinking_in_every_round(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="anthropic")
    said = " ".join(["word"] * 300)
    house.fake.script(calls(call("web_search", query="a"), text=said), Answer(text="Done."))
    body = {"input": "Weather?", "tools": [WEB], "reasoning": {"effort": "medium"}, "max_output_tokens": 1500}
    assert (await house.ask(body))["status"] == "completed"
    for sent in house.sent:
        assert sent.get("thinking", {}).get("budget_tokens", 0) < sent["max_tokens"]


async def test_a_geminis_signature_stays_on_its_call_in_every_round(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="gemini")
    house.fake.script(calls(call("web_search", query="a"), reasoning="Hm."), Answer(text="Done."))
    first = await house.ask({"input": "Weather?", "tools": [WEB]})
    await house.ask({"input": "And?", "tools": [WEB], "previous_response_id": first["id"]})
    for sent in house.sent[1:]:
        parts = [part for one in sent["contents"] for part in one["parts"] if "functionCall" in part]
        assert [part["thoughtSignature"] not in ("", ANY_SIGNATURE) for part in parts] == [True]


async def test_reasoning_whose_call_the_client_has_not_seen_is_not_replayed_alone(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses")
    body = {"input": "Weather?", "tools": [WEB], "reasoning": {"effort": "low"}}
    house.fake.script(calls(call("made_up"), reasoning="Hm."), Answer(text="Done.", reasoning="So."))
    first = await house.ask(body)
    await house.ask({**body, "input": "And?", "previous_response_id": first["id"]})
    kinds = [item["type"] for item in house.sent[-1]["input"]]
    assert kinds == ["message", "reasoning", "message", "message"]


async def test_an_item_that_is_in_the_history_already_is_sent_once(hosting: Hosting, dialect: str) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    first = await house.ask({"input": "Weather?", "tools": [WEB]})
    again = [item_of(first, "web_search_call"), {"role": "user", "content": "And?"}]
    await house.ask({"input": again, "previous_response_id": first["id"], "tools": [WEB]})
    assert len(house.outputs()) == 1


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({}, False),
        ({"reasoning": {"effort": "low"}}, True),
        ({"model": "gpt-4.1", "reasoning": {"effort": None, "summary": None}}, False),
        ({"model": "gpt-5.1"}, True),
        ({"model": "o4-mini"}, True),
        ({"model": "gpt-4.1"}, False),
        ({"model": "gpt-5-chat-latest"}, False),
        ({"model": "gpt-4.1", "include": ["reasoning.encrypted_content"]}, True),
    ],
)
async def test_reasoning_is_asked_for_in_a_form_that_can_be_sent_back_where_there_is_some(
    hosting: Hosting, more: Json, asked: bool
) -> None:
    house = hosting(*ALL, dialect="responses")
    await house.ask({"input": "Hi", "tools": [WEB], **more})
    assert ("reasoning.encrypted_content" in house.sent[0].get("include", [])) is asked


async def test_reasoning_that_nobody_could_look_up_is_not_sent_back(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses", provider={"stateful": True})
    item = {"type": "reasoning", "id": "rs_1", "summary": []}
    called = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "web_search", "arguments": '{"query":"a"}'}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "output": [item, called]}
    house.fake.script(Reply(answer), Answer(text="Done."), Answer(text="Yes."))
    first = await house.ask({"input": "Hi", "tools": [WEB]})
    sent = house.sent[1]["input"]
    assert [one["type"] for one in sent] == ["message", "function_call", "function_call_output"] and "id" not in sent[1]
    await house.ask({"input": "And?", "previous_response_id": first["id"], "tools": [WEB]})
    assert "reasoning" not in [one["type"] for one in house.sent[2]["input"]]
    house.fake.script(Answer(text="Referred."))
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"] if item["type"] == "message"]
    await house.ask({"input": [*references, {"role": "user", "content": "So?"}], "tools": [WEB]})
    assert "item_reference" not in [one.get("type") for one in house.sent[3]["input"]]


async def test_an_upstream_that_runs_tools_too_is_held_to_the_limit(hosting: Hosting) -> None:
    house = hosting(*ALL, dialect="responses", provider={"hosted_tools": ["file_search"]})
    for declared, told in (([WEB], False), ([WEB, FILES], True)):
        await house.ask({"input": "Hi", "tools": declared, "max_tool_calls": 2})
        assert ("max_tool_calls" in house.sent[-1]) is told
