"""What goes wrong in a later round, or in the host's own function, ends as is defined, and leaves nothing open."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from gomodel_asgi import Limits, Timeouts, tools
from gomodel_asgi.observers import Record, ToolCalled
from gomodel_asgi.settings import KIB, MIB
from gomodel_asgi.testing import Answer, Cut, ErrorInside, Fault, Garbage, NoTerminal, Scripted, Signal, Stall, Status

from ...support.driving import TIMEOUT, Caller, scope_of
from ...support.lab import Lab, anyio_backend, fakes, kind, lab
from .hosting import CODE, CRM, FILES, IMAGE, WEB, Json, call, calls, kinds, lookup, search

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

UNARY: Json = {"model": "m", "input": "Weather?", "tools": [WEB, CRM]}
ONE = calls(call("web_search", query="rome"))
BOTH = calls(call("web_search", query="rome"), call("lookup", order="7"), text="Let me look.")
INCLUDE = ["file_search_call.results", "code_interpreter_call.outputs", "web_search_call.action.sources"]

each_form = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


def make(lab: Lab, *given: tools.Tool, **options: Any) -> None:
    provider = lab.provider(lab.bad, hosted_tools=())
    lab.make(provider, tools=given or (tools.web_search(search), tools.mcp({"crm": [lookup]})), **options)


async def ask(lab: Lab, stream: bool, **more: Any) -> tuple[Caller, Json]:
    """The answer, and the response that it is or ends with."""
    caller = await lab.ask({**UNARY, "stream": stream, **more})
    return caller, caller.events()[-1]["response"] if stream else caller.json()


async def kept(lab: Lab, id: str) -> Json:
    """The response as the store has it."""
    found: Json = (await lab.ask(b"", path=f"/v1/responses/{id}", method="GET")).json()
    return found


# The upstream, in round 2...

DEATHS: dict[str, Fault] = {
    "in the head": Garbage(),
    "400": Status(400),
    "401": Status(401),
    "503": Status(503),
    "an error inside": ErrorInside(),
}
IN_STREAM: dict[str, Fault] = {
    "behind events": Cut(after_events=4),
    "in an event": Cut(inside_event=4),
    "no end": NoTerminal(),
}


@each_form
@pytest.mark.parametrize("fault", DEATHS.values(), ids=DEATHS)
async def test_an_upstream_that_dies_in_round_2_fails_the_response_with_the_work_so_far(
    lab: Lab, fault: Fault, stream: bool
) -> None:
    make(lab)
    lab.bad.script(BOTH)
    lab.bad.fail_next(fault)
    caller, response = await ask(lab, stream)
    expect_failed(caller, response, stream)
    assert await kept(lab, response["id"]) == response


@pytest.mark.parametrize("fault", IN_STREAM.values(), ids=IN_STREAM)
async def test_a_stream_that_breaks_in_round_2_fails_the_response_with_the_work_so_far(lab: Lab, fault: Fault) -> None:
    make(lab)
    lab.bad.script(BOTH)
    lab.bad.script(Scripted(Answer(text="It will be sunny, and more of that."), (fault,)))
    caller, response = await ask(lab, True)
    expect_failed(caller, response, True, "message")
    assert await kept(lab, response["id"]) == response


def expect_failed(caller: Caller, response: Json, stream: bool, *more: str) -> None:
    made = ["mcp_list_tools", "message", "web_search_call", "mcp_call"]
    assert (caller.status, caller.complete) == (200, True)
    assert response["status"] == "failed" and response["error"]["message"]
    assert kinds(response)[:4] == made and kinds(response)[4:] in ([], [*more])
    assert [item["status"] for item in response["output"] if item["type"].endswith("_call")] == ["completed"] * 2
    if stream:
        events = caller.events()
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))


# The client...


async def leaves(lab: Lab, stream: bool, when: Callable[[], Any]) -> Caller:
    """A client that is gone once *when* has returned."""
    caller = Caller(scope_of(), [json.dumps({**UNARY, "stream": stream}).encode()])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, lab.gateway)
            await when()
            caller.leave()
    return caller


PLACES = {
    "before the head, unary": (None, False), "after the head, unary": (0, False), "before the head": (None, True),
    "after the head": (0, True), "in the answer": (3, True),
}  # fmt: skip


@pytest.mark.parametrize(("after", "stream"), PLACES.values(), ids=PLACES)
async def test_a_client_that_leaves_in_round_2_takes_the_upstream_along(
    lab: Lab, after: int | None, stream: bool
) -> None:
    make(lab)
    lab.bad.script(BOTH, Scripted(Answer(text="It will be sunny, and more of that."), (Stall(after_events=after),)))

    async def when() -> None:
        await lab.bad.received(2)

    caller = await leaves(lab, stream, when)
    assert not caller.complete
    with anyio.fail_after(TIMEOUT):
        await lab.bad.requests[1].disconnected.wait()


@each_form
async def test_a_client_that_leaves_while_tools_run_ends_them_all(lab: Lab, stream: bool) -> None:
    running, ended = 0, 0

    async def hang(order: str) -> str:
        """Look an order up."""
        nonlocal running, ended
        running += 1
        try:
            await anyio.sleep_forever()
        finally:
            ended += 1
        return ""

    async def when() -> None:
        while running < 3:  # noqa: ASYNC110
            await anyio.sleep(0.001)

    make(lab, tools.mcp({"crm": [tools.function(hang, name="lookup")]}), tools.web_search(search))
    lab.bad.script(calls(*(call("lookup", order=str(number)) for number in range(3))))
    await leaves(lab, stream, when)
    assert (running, ended) == (3, 3) and len(lab.bad.requests) == 1


async def test_what_a_thread_returns_behind_a_client_that_has_left_is_dropped(lab: Lab) -> None:
    """A plain function cannot be cancelled."""
    entered, go_on = Signal(), threading.Event()

    def work(call: tools.Call) -> str:
        entered.set()
        go_on.wait(TIMEOUT)
        return "late"

    make(lab, tools.web_search(work), tools.mcp({"crm": [lookup]}))
    lab.bad.script(ONE)
    caller = await leaves(lab, False, entered.wait)
    go_on.set()
    assert len(lab.bad.requests) == 1 and not caller.complete


# The host's own function...


@each_form
async def test_a_function_that_hangs_raises_or_gives_what_it_cannot_is_an_item_that_failed(
    lab: Lab, stream: bool
) -> None:
    async def odd(call: tools.Call) -> Any:
        match call.arguments["query"]:
            case "hang":
                await anyio.sleep_forever()
            case "raise":
                raise RuntimeError("no such host: db.internal")
            case "known":
                raise tools.ToolError("The index is being built.")
        return 7

    records: list[Record] = []
    make(lab, tools.web_search(odd), timeouts=Timeouts(tool=0.05), observers=[records.append])
    lab.bad.script(
        calls(*(call("web_search", query=query) for query in ("hang", "raise", "known", "number"))),
        Answer(text="Nothing works."),
    )
    caller, response = await ask(lab, stream, tools=[WEB])
    assert response["status"] == "completed" and b"db.internal" not in caller.content
    assert [item["status"] for item in response["output"][:4]] == ["failed"] * 4
    said = [item["output"] for item in lab.bad.requests[1].json()["input"] if item["type"] == "function_call_output"]
    assert said == [
        "The tool took too long.", "The tool has failed.", "The index is being built.", "The tool has failed.",
    ]  # fmt: skip
    called = [record for record in records if isinstance(record, ToolCalled)]
    assert [record.outcome for record in called] == ["timeout", "failed", "failed", "failed"]


LARGE = "all of it " * (5 * MIB)
RESULTS: dict[str, tuple[tools.Tool, Json, Any]] = {
    "text": (tools.web_search(lambda call: LARGE), WEB, call("web_search", query="x")),
    "pages": (
        tools.web_search(lambda call: [tools.Page("https://example.com/", LARGE, LARGE)] * 3),
        WEB,
        call("web_search", query="x"),
    ),
    "passages": (
        tools.file_search(lambda call: [tools.Passage("f", "a.txt", LARGE)] * 3),
        FILES,
        call("file_search", queries=["x"]),
    ),
    "logs": (
        tools.code_interpreter(lambda call: tools.Execution(LARGE)),
        CODE,
        call("code_interpreter", code="x"),
    ),
    "a function's text": (
        tools.mcp({"crm": [tools.function(lambda: LARGE, name="lookup")]}), CRM, call("lookup"),
    ),
    "a function's list": (
        tools.mcp({"crm": [tools.function(lambda: [LARGE], name="lookup")]}), CRM, call("lookup"),
    ),
    "an error": (
        tools.mcp({"crm": [tools.function(lambda: _fail(), name="lookup")]}), CRM, call("lookup"),
    ),
    "an image": (
        tools.image_generation(lambda call: tools.Image(bytes(50 * MIB))), IMAGE, call("image_generation", prompt="x"),
    ),
}  # fmt: skip


def _fail() -> str:
    raise tools.ToolError(LARGE)


@each_form
@pytest.mark.parametrize(("tool", "declared", "called"), RESULTS.values(), ids=RESULTS)
async def test_50_megabytes_are_cut_for_the_model_and_for_the_client(
    lab: Lab, tool: tools.Tool, declared: Json, called: Any, stream: bool
) -> None:
    make(lab, tool, limits=Limits(tool_result=32 * KIB))
    lab.bad.script(calls(called), Answer(text="That is a lot."))
    caller, response = await ask(lab, stream, tools=[declared], include=INCLUDE)
    assert response["status"] == "completed", response["error"]
    assert len(lab.bad.requests[1].body) < 64 * KIB
    assert len(caller.content) < 1 * MIB
    assert len(json.dumps(response)) < 256 * KIB
