"""Hosted items in the order of the calls, none overlapping another, while the host's functions run side by side."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gomodel_asgi import Limits, Timeouts, tools
from gomodel_asgi.testing import Answer, Reply, ToolCall

from .hosting import CLIENTS, CODE, CRM, IMAGE, WEB, Hosting, Json, call, calls, kinds as all_kinds, text_of

pytestmark = pytest.mark.anyio

HOSTED = ("web_search_call", "mcp_call", "code_interpreter_call", "image_generation_call")


class Backwards:
    """Functions of which the last to be called is the first to answer; *most* are called at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.entered: list[str] = []
        self.answered: list[str] = []
        self.all = anyio.Event()
        self.turns = [anyio.Event() for _ in range(most)]

    async def _turn(self, name: str) -> None:
        at = len(self.entered)
        self.entered.append(name)
        if len(self.entered) == self.most:
            self.all.set()
            self.turns[-1].set()
        await self.turns[at].wait()
        self.answered.append(name)
        if at:
            self.turns[at - 1].set()

    async def search(self, call: tools.Call) -> str:
        await self._turn(call.arguments["query"])
        return f"Found {call.arguments['query']}"

    async def lookup(self, order: str) -> str:
        """Look an order up."""
        await self._turn(order)
        return f"Order {order}"

    async def execute(self, call: tools.Call) -> str:
        await self._turn(call.arguments["code"])
        return "4"

    async def draw(self, call: tools.Call) -> tools.Image:
        await call.partial(b"draft")
        await self._turn(call.arguments["prompt"])
        return tools.Image(b"png")

    @property
    def tools(self) -> Any:
        return (
            tools.web_search(self.search),
            tools.mcp({"crm": [self.lookup]}),
            tools.code_interpreter(self.execute),
            tools.image_generation(self.draw),
        )


DECLARED = [WEB, CRM, CODE, {**IMAGE, "partial_images": 1}]
FOUR = (
    call("web_search", query="rome"),
    call("lookup", order="7"),
    call("code_interpreter", code="print(2+2)"),
    call("image_generation", prompt="a cat"),
)


def kinds(response: Json) -> list[str]:
    return [kind for kind in all_kinds(response) if kind != "mcp_list_tools"]


def assert_in_turn(events: list[Json]) -> None:
    """Whether hosted items end before the next item is announced, under consecutive numbers and places."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    opened: int | None = None
    for event in events:
        if event["type"] == "response.output_item.added":
            assert opened is None
            opened = event["output_index"] if event["item"]["type"] in HOSTED else None
        elif opened is not None and "output_index" in event:
            assert event["output_index"] == opened
        if event["type"] == "response.output_item.done" and event["output_index"] == opened:
            opened = None
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]


@pytest.mark.parametrize("many", [2, 4])
async def test_each_hosted_item_ends_before_the_next_begins_however_fast_the_later_are(
    hosting: Hosting, dialect: str, many: int
) -> None:
    slow = Backwards(many)
    house = hosting(*slow.tools, dialect=dialect)
    house.fake.script(calls(*FOUR[:many], text="Let me look."), Answer(text="Done."))
    with anyio.fail_after(20):
        events = await house.events({"input": "Hi", "tools": DECLARED})
    assert_in_turn(events)
    assert slow.answered == slow.entered[::-1] and len(slow.entered) == many
    response = events[-1]["response"]
    assert kinds(response) == ["message", *HOSTED[:many], "message"] and response["status"] == "completed"
    assert [item["status"] for item in response["output"] if item["type"] in HOSTED] == ["completed"] * many
    assert [*map(len, [house.outputs()])] == [many] and "Found rome" in house.outputs()[0]


async def test_a_call_that_waits_has_the_same_events_as_one_that_does_not(hosting: Hosting) -> None:
    def of(events: list[Json], type: str) -> list[Any]:
        index = next(one["output_index"] for one in events if one.get("item", {}).get("type") == type)
        found = [one for one in events if one.get("output_index") == index]
        return [(one["type"], one.get("delta"), one.get("partial_image_b64")) for one in found]

    house = hosting(*Backwards(4).tools)
    house.fake.script(calls(*FOUR), Answer(text="Done."))
    waited = await house.events({"input": "Hi", "tools": DECLARED})
    alone = hosting(*[tool for at in range(4) for tool in [Backwards(1).tools[at]]])
    alone.fake.script([calls(one) for one in FOUR], Answer(text="Done."))
    live = await alone.events({"input": "Hi", "tools": DECLARED})
    for type in HOSTED:
        assert of(waited, type) == of(live, type)


async def test_a_unary_reply_has_the_order_of_the_stream(hosting: Hosting, dialect: str) -> None:
    house = hosting(*Backwards(4).tools, dialect=dialect)
    house.fake.script(calls(*FOUR), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": DECLARED})
    assert kinds(response) == [*HOSTED, "message"]


async def test_the_first_call_is_announced_while_the_model_still_writes(hosting: Hosting) -> None:
    house = hosting(*Backwards(2).tools)
    house.fake.script(calls(FOUR[1], FOUR[0]), Answer(text="Done."))
    events = await house.events({"input": "Hi", "tools": DECLARED})
    types = [event["type"] for event in events]
    assert types.count("response.mcp_call_arguments.delta") > 1
    assert types.index("response.mcp_call_arguments.delta") < types.index("response.mcp_call_arguments.done")


async def test_what_stands_behind_a_waiting_call_keeps_its_place(hosting: Hosting) -> None:
    def item(number: int, name: str, arguments: str) -> Json:
        return {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"c{number}",
            "name": name,
            "arguments": arguments,
        }

    def said(number: int, text: str) -> Json:
        part = {"type": "output_text", "text": text, "annotations": []}
        return {"type": "message", "id": f"msg_{number}", "role": "assistant", "content": [part]}

    output = [
        said(0, "A"), item(1, "web_search", '{"query":"x"}'), said(2, "B"), item(3, "lookup", '{"order":"7"}'),
        said(4, "C"), item(5, "book", '{"city":"Rome"}'), item(6, "lookup", "[1"),
    ]  # fmt: skip
    house = hosting(*Backwards(2).tools, dialect="responses")
    house.fake.script(Reply({"id": "resp_1", "object": "response", "status": "completed", "output": output}))
    body = {"input": "Hi", "tools": [*DECLARED, CLIENTS]}
    whole = await house.ask(body)
    expected = [
        "message", "web_search_call", "message", "mcp_call", "message", "function_call", "mcp_call",
    ]  # fmt: skip
    assert kinds(whole) == expected and whole["status"] == "completed"
    assert [item.get("phase") for item in whole["output"] if item["type"] == "message"] == ["commentary"] * 2 + [None]
    assert [item["status"] for item in whole["output"] if item["type"] == "mcp_call"] == ["completed", "failed"]


async def test_a_host_is_given_the_id_that_the_item_gets(hosting: Hosting) -> None:
    ids: list[str] = []

    async def search(call: tools.Call) -> str:
        ids.append(call.item_id)
        return "x"

    house = hosting(tools.web_search(search))
    house.fake.script(calls(*(call("web_search", query=str(at)) for at in range(3))), Answer(text="Done."))
    response = await house.ask({"input": "Hi", "tools": [WEB]})
    assert sorted(ids) == [item["id"] for item in response["output"] if item["type"] == "web_search_call"]


async def test_hundreds_of_calls_at_once_that_are_not_run_end_all(hosting: Hosting) -> None:
    house = hosting(*Backwards(1).tools, limits=Limits(tool_rounds=1))
    house.fake.script(calls(FOUR[0], *(ToolCall("lookup", "[1") for _ in range(500))), Answer(text="Done."))
    events = await house.events({"input": "Hi", "tools": DECLARED})
    assert_in_turn(events)
    assert kinds(events[-1]["response"]) == ["web_search_call", *["mcp_call"] * 500, "message"]


async def test_a_fast_call_that_has_answered_is_kept_where_a_slow_one_ends_the_response(hosting: Hosting) -> None:
    answered = anyio.Event()

    async def slow(call: tools.Call) -> str:
        await answered.wait()
        await anyio.sleep_forever()
        return ""

    async def lookup(order: str) -> str:
        """Look an order up."""
        answered.set()
        return f"Order {order}"

    house = hosting(tools.web_search(slow), tools.mcp({"crm": [lookup]}), timeouts=Timeouts(total=1.0, tool=60.0))
    house.fake.script(calls(*FOUR[:2]))
    events = await house.events({"input": "Hi", "tools": [WEB, CRM]})
    assert_in_turn(events)
    response = events[-1]["response"]
    assert events[-1]["type"] == "response.failed" and kinds(response) == ["web_search_call", "mcp_call"]
    statuses = [item["status"] for item in response["output"] if item["type"] in HOSTED]
    assert statuses in (["failed", "completed"], ["incomplete", "completed"])  # its own time is up at the same moment
    assert "Order 7" in json.dumps(response)


async def test_text_before_a_hosted_call_is_commentary_and_an_answer_is_not(hosting: Hosting, dialect: str) -> None:
    house = hosting(*Backwards(1).tools, dialect=dialect)
    house.fake.script(calls(FOUR[0], text="Let me look."), Answer(text="Done."))
    events = await house.events({"input": "Hi", "tools": [WEB]})
    response = events[-1]["response"]
    assert text_of(response) == "Let me look.Done."
    assert [item.get("phase") for item in response["output"] if item["type"] == "message"] == ["commentary", None]
    assert_in_turn(events)
    first = next(event for event in events if event["type"] == "response.output_text.delta")
    done = next(event for event in events if event["type"] == "response.output_item.done")
    assert first["sequence_number"] < done["sequence_number"]


async def test_text_before_a_call_of_the_clients_has_the_phase_that_the_upstream_gave(hosting: Hosting) -> None:
    house = hosting(*Backwards(1).tools)
    house.fake.script(calls(call("book", city="Rome"), text="Let me book."))
    response = await house.ask({"input": "Hi", "tools": [WEB, CLIENTS]})
    assert kinds(response) == ["message", "function_call"] and "phase" not in response["output"][0]


async def test_reasoning_between_a_message_and_what_follows_it_keeps_its_place_and_is_live(hosting: Hosting) -> None:
    def reasoning(number: int, text: str) -> Json:
        return {"type": "reasoning", "id": f"rs_{number}", "summary": [{"type": "summary_text", "text": text}]}

    def added(index: int, item: Json) -> Json:
        return {"type": "response.output_item.added", "output_index": index, "item": item}

    def done(index: int, item: Json) -> Json:
        return {"type": "response.output_item.done", "output_index": index, "item": item}

    said = {
        "type": "message", "id": "msg_1", "role": "assistant",
        "content": [{"type": "output_text", "text": "A", "annotations": []}],
    }  # fmt: skip
    called = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "web_search", "arguments": '{"query":"x"}'}
    delta = {"type": "response.reasoning_summary_text.delta", "output_index": 1, "summary_index": 0, "delta": "Hm."}
    for told, phase in (([], "commentary"), ([delta], None)):
        house = hosting(*Backwards(1).tools, dialect="responses")
        thought = reasoning(1, "Hm." if told else "")
        if not told:
            thought["summary"] = []
        output = [said, thought, called]
        whole = {"id": "resp_1", "object": "response", "status": "completed", "output": output}
        events = [
            {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
            added(0, {**said, "content": []}), done(0, said), added(1, {**thought, "summary": []}), *told,
            done(1, thought), added(2, {**called, "arguments": ""}), done(2, called),
            {"type": "response.completed", "response": whole},
        ]  # fmt: skip
        lines = [
            f"event: {one['type']}\ndata: {json.dumps({'sequence_number': at, **one})}\n\n"
            for at, one in enumerate(events)
        ]
        house.fake.script(Reply("".join(lines), content_type="text/event-stream"), Answer(text="Done."))
        found = await house.events({"input": "Hi", "tools": [WEB]})
        assert_in_turn(found)
        items = found[-1]["response"]["output"]
        assert [item["type"] for item in items] == ["message", "reasoning", "web_search_call", "message"]
        assert items[0].get("phase") == phase
