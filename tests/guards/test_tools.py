"""What tools of the host's are given and give passes the guards, and so does all that is said, kept and shown of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from gomodel_asgi import MemoryStore, tools
from gomodel_asgi.guards import Guard, Replace, Texts
from gomodel_asgi.observers import Guarded, ToolCalled
from gomodel_asgi.testing import Answer

from ..emulation.tools.hosting import CODE, CRM, FILES, IMAGE, WEB, House, call, calls, fake_of, item_of
from ..support.driving import Caller, ask, encoded, scope_of
from ..support.guarding import SECRET, mask, refuse
from ..support.lab import until
from ..support.seen import Seen, kept, texts

Json = dict[str, Any]
Make = Callable[..., House]


async def broken(given: Texts) -> None:
    if any("tool" in path or "lookup" in path or "web_search" in path for path in given.paths):
        raise RuntimeError(given.texts[0])


@pytest.fixture
async def house(dialect: str) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:
        fake = stack.enter_context(fake_of(dialect))

        def make(*given: Any, **options: Any) -> House:
            made = House(fake, dialect, *given, **options)
            stack.push_async_callback(made.gateway.aclose)
            return made

        yield make


ASKED: list[Any] = []


@pytest.fixture(autouse=True)
def _asked() -> None:
    ASKED.clear()


async def search(call: tools.Call) -> list[tools.Page]:
    ASKED.append(call.arguments["query"])
    return [tools.Page(f"https://example.com/{SECRET}", f"Title {SECRET}", f"Text {SECRET}")]


async def find(call: tools.Call) -> list[tools.Passage]:
    ASKED.append(call.arguments["queries"])
    return [tools.Passage("f1", f"{SECRET}.txt", f"Passage {SECRET}", attributes={"note": SECRET, "n": 1.0})]


async def execute(call: tools.Call) -> tools.Execution:
    ASKED.append(call.arguments["code"])
    return tools.Execution(f"Logs {SECRET}", files=[tools.File(b"x", f"{SECRET}.csv")])


async def draw(call: tools.Call) -> tools.Image:
    ASKED.append(call.arguments["prompt"])
    return tools.Image(b"x", revised_prompt=f"Drawn {SECRET}")


def lookup(order: str) -> str:
    ASKED.append(order)
    return f"Order {order}: {SECRET}"


def failing(order: str) -> str:
    """Look an order up."""
    raise tools.ToolError(f"There is no {SECRET}")


lookup.__doc__ = f"Look an order up, as {SECRET} does."

CASES: dict[str, tuple[Any, Json, Any]] = {
    "web_search": (tools.web_search(search), WEB, call("web_search", query=f"find {SECRET}")),
    "file_search": (tools.file_search(find), FILES, call("file_search", queries=[f"find {SECRET}"])),
    "code_interpreter": (tools.code_interpreter(execute), CODE, call("code_interpreter", code=f"print('{SECRET}')")),
    "image_generation": (tools.image_generation(draw), IMAGE, call("image_generation", prompt=f"a {SECRET}")),
    "mcp": (tools.mcp({"crm": [lookup]}), CRM, call("lookup", order=SECRET)),
    "mcp that fails": (tools.mcp({"crm": [failing]}), CRM, call("failing", order=SECRET)),
}
INCLUDE = ["file_search_call.results", "web_search_call.action.sources", "code_interpreter_call.outputs"]


@pytest.mark.parametrize(("stream", "hold"), [(False, "all"), (True, 15), (True, "all")])
@pytest.mark.parametrize("case", CASES)
async def test_what_a_guard_replaces_is_nowhere_and_what_stands_for_it_runs(
    house: Make, case: str, hold: Any, stream: bool
) -> None:
    tool, declared, asked = CASES[case]
    seen, store = Seen(), MemoryStore()
    made = house(tool, guards=[Guard("keys", input=mask, output=mask, hold=hold)], observers=[seen], store=store)
    made.fake.script(calls(asked, text=f"I look {SECRET} up."), Answer(text=f"It is {SECRET}."), Answer(text="Yes."))
    body = {"input": "Hello", "tools": [declared], "include": INCLUDE}
    events = await made.events(body) if stream else []
    response = events[-1]["response"] if stream else await made.ask(body)

    assert response["status"] == "completed" and len(made.sent) == 2
    shown = json.dumps([events, response])
    assert SECRET not in shown and "[key]" in shown
    assert SECRET not in json.dumps(made.sent[0]) and SECRET not in str(made.outputs(1))
    assert SECRET not in str(ASKED) and (case == "mcp that fails" or "[key]" in str(ASKED))
    assert SECRET not in kept(store) and "[key]" in kept(store) and SECRET not in texts(seen.records)
    again = {"input": "And?", "previous_response_id": response["id"], "tools": [declared]}
    await made.ask(again)
    assert SECRET not in json.dumps(made.sent[-1]) and "[key]" in json.dumps(made.sent[-1])
    assert {record.stage for record in seen.of(Guarded)} == {"input", "output"}


async def test_a_guard_sees_what_a_tool_gives_under_the_name_of_the_tool(house: Make) -> None:
    found: dict[str, str] = {}

    def note(given: Texts) -> None:
        found.update(zip(given.paths, given.texts, strict=True))

    made = house(tools.web_search(search), tools.mcp({"crm": [lookup]}), guards=[Guard("all", input=note)])
    made.fake.script(calls(call("web_search", query="q")), calls(call("lookup", order="7")), Answer(text="Yes."))
    await made.ask({"input": "Hello", "tools": [WEB, CRM]})
    assert found["web_search[0].url"].startswith("https") and found["web_search[0].text"] == f"Text {SECRET}"
    assert found["mcp.crm.lookup.text"] == f"Order 7: {SECRET}"
    assert found["mcp.crm.tools[0].description"] == lookup.__doc__


@pytest.mark.parametrize("dialect", ["responses"])
async def test_a_count_of_tokens_shows_no_upstream_what_a_guard_replaces(house: Make, dialect: str) -> None:
    made = house(tools.mcp({"crm": [lookup]}), guards=[Guard("keys", input=mask)])
    body = {"model": "m", "input": f"Hello {SECRET}", "tools": [CRM]}
    answer = await ask(made.gateway, body, path="/v1/responses/input_tokens")
    assert answer.status == 200, answer.content
    sent = json.dumps(made.sent)
    assert "lookup" in sent and SECRET not in sent and sent.count("[key]") == 2


# Blocks...


async def test_what_a_tool_gives_and_a_guard_blocks_no_model_reads(house: Make) -> None:
    store, seen = MemoryStore(), Seen()
    made = house(tools.web_search(search), guards=[Guard("keys", input=refuse)], store=store, observers=[seen])
    made.fake.script(calls(call("web_search", query="q")))
    answer = await ask(made.gateway, {"model": "m", "input": "Hello", "tools": [WEB]})
    assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert answer.error["message"] == "No keys here." and answer.headers["x-should-retry"] == "false"
    assert len(made.sent) == 1 and SECRET not in kept(store) and SECRET not in texts(seen.records)


async def test_in_a_stream_the_response_ends_where_it_stands(house: Make) -> None:
    store = MemoryStore()
    made = house(tools.web_search(search), guards=[Guard("keys", input=refuse)], store=store)
    made.fake.script(calls(call("web_search", query="q")))
    events = await made.events({"input": "Hello", "tools": [WEB]})
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    last = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert last["incomplete_details"] == {"reason": "content_filter"}
    assert item_of(last, "web_search_call")["status"] == "incomplete"
    assert len(made.sent) == 1 and SECRET not in json.dumps(events) and SECRET not in kept(store)


@pytest.mark.parametrize("hold", [15, "all"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_not_given_what_a_guard_blocks(house: Make, hold: Any, stream: bool) -> None:
    store = MemoryStore()
    made = house(tools.web_search(search), guards=[Guard("keys", output=refuse, hold=hold)], store=store)
    made.fake.script(calls(call("web_search", query=f"find {SECRET}")))
    answer = await ask(made.gateway, {"model": "m", "input": "Hello", "tools": [WEB], "stream": stream})
    assert not ASKED and len(made.sent) == 1 and SECRET not in answer.content.decode()
    assert SECRET not in kept(store)
    if stream and hold != "all":
        last = answer.events()[-1]
        assert last["type"] == "response.incomplete"
        assert last["response"]["incomplete_details"] == {"reason": "content_filter"}
    else:
        assert answer.status == 400 and answer.error["code"] == "content_blocked"


@pytest.mark.parametrize("stage", ["input", "output"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_guard_that_fails_lets_nothing_pass_to_a_tool_or_from_it(house: Make, stage: str, stream: bool) -> None:
    given: Any = {stage: broken}
    made = house(tools.web_search(search), guards=[Guard("keys", hold=15, **given)])
    made.fake.script(calls(call("web_search", query="q")))
    answer = await ask(made.gateway, {"model": "m", "input": "Hello", "tools": [WEB], "stream": stream})
    assert len(made.sent) == 1 and len(ASKED) == (stage == "input")
    if stream:
        assert [event["type"] for event in answer.events()][-2:] == ["error", "response.failed"]
        assert answer.events()[-1]["response"]["error"]["code"] == "server_error"
    else:
        assert answer.status == 503 and answer.error["code"] == "guard_unavailable"


async def test_a_list_that_a_guard_blocks_is_shown_to_no_model(house: Make) -> None:
    made = house(tools.mcp({"crm": [lookup]}), guards=[Guard("keys", input=refuse)])
    for stream in (False, True):
        answer = await ask(made.gateway, {"model": "m", "input": "Hello", "tools": [CRM], "stream": stream})
        assert answer.status == 400 and answer.error["code"] == "content_blocked"
    assert made.sent == []


async def test_arguments_that_a_guard_makes_no_json_run_nothing(house: Make) -> None:
    def spoil(given: Texts) -> Replace:
        return Replace(tuple("[gone]" if text.startswith("{") else text for text in given.texts))

    made = house(tools.web_search(search), guards=[Guard("keys", output=spoil, hold=15)])
    made.fake.script(calls(call("web_search", query="q")))
    answer = await ask(made.gateway, {"model": "m", "input": "Hello", "tools": [WEB]})
    assert answer.status == 503 and answer.error["code"] == "guard_unavailable" and not ASKED


# Approvals...


@pytest.mark.parametrize("stream", [False, True])
async def test_what_waits_for_approval_is_what_the_guards_have_let_pass_and_runs_so(house: Make, stream: bool) -> None:
    store = MemoryStore()
    crm = tools.mcp({"crm": [tools.function(lookup, approval="always")]})
    made = house(crm, guards=[Guard("keys", input=mask, output=mask, hold=15)], store=store)
    made.fake.script(calls(call("lookup", order=SECRET)), Answer(text="Done."))
    body: Json = {"input": "Hello", "tools": [CRM], "stream": stream}
    events = await made.events(body) if stream else []
    first = events[-1]["response"] if stream else await made.ask(body)
    request = item_of(first, "mcp_approval_request")
    assert request["arguments"] == json.dumps({"order": "[key]"}) or "[key]" in request["arguments"]
    assert SECRET not in json.dumps([events, first]) and SECRET not in kept(store)
    word = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    second = await made.ask({"input": [word], "previous_response_id": first["id"], "tools": [CRM]})
    assert second["status"] == "completed" and ASKED == ["[key]"]
    assert SECRET not in json.dumps([second, made.sent]) and SECRET not in kept(store)


# Background, clients that leave...


async def test_work_in_the_background_keeps_and_logs_what_the_guards_have_let_pass(house: Make) -> None:
    store = MemoryStore()
    guard = Guard("keys", input=mask, output=mask, hold=15)
    made = house(tools.web_search(search), guards=[guard], store=store)
    made.fake.script(calls(call("web_search", query=f"find {SECRET}")), Answer(text=f"It is {SECRET}."))
    body = {"model": "m", "input": "Hello", "tools": [WEB], "background": True, "include": INCLUDE}
    begun = await ask(made.gateway, body)
    path = f"/v1/responses/{begun.json()['id']}"
    followed = await ask(made.gateway, path=path, method="GET", query=b"stream=true")
    found = await ask(made.gateway, path=path, method="GET")
    assert found.json()["status"] == "completed" and b"[key]" in found.content
    assert SECRET.encode() not in followed.content + found.content and SECRET not in kept(store)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("function", [mask, refuse])
async def test_of_a_response_whose_client_leaves_is_kept_what_the_guards_let_pass(
    house: Make, stream: bool, function: Any
) -> None:
    entered, store = anyio.Event(), MemoryStore()

    async def hanging(given: tools.Call) -> str:
        if given.arguments["query"] == "first":
            return "found"
        entered.set()
        await anyio.sleep_forever()
        return ""

    made = house(tools.web_search(hanging), guards=[Guard("keys", output=function, hold=200)], store=store)
    made.fake.script(
        calls(call("web_search", query="first"), text=f"I look {SECRET} up."), calls(call("web_search", query="second"))
    )
    caller = Caller(scope_of(), [encoded({"model": "m", "input": "Hello", "tools": [WEB], "stream": stream})])
    async with anyio.create_task_group() as group:
        group.start_soon(caller.run, made.gateway)
        if function is refuse and stream:
            await until(lambda: caller.complete)
        else:
            await entered.wait()
            caller.leave()
    await made.gateway.state.tasks.aclose(5)
    assert SECRET not in kept(store) and SECRET not in caller.content.decode()
    assert ("[key]" in kept(store)) is (function is mask)


async def test_calls_are_told_by_their_outcome_and_not_by_what_was_said(house: Make) -> None:
    seen = Seen()
    made = house(tools.mcp({"crm": [failing]}), guards=[Guard("keys", input=mask, output=mask)], observers=[seen])
    made.fake.script(calls(call("failing", order=SECRET)), Answer(text="No."))
    await made.ask({"input": "Hello", "tools": [CRM]})
    assert [record.outcome for record in seen.of(ToolCalled)] == ["failed"] and SECRET not in texts(seen.records)
