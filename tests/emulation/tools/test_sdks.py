"""Each hosted tool over each kind of upstream, in each form of asking, as OpenAI's own SDK and its Agents SDK read it.

The shapes are compared whole (`cases.py`), and each event and response is validated by the SDK's types.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import cache, partial
from types import UnionType
from typing import Any, get_args

import openai
import pytest
from agents import (
    Agent,
    CodeInterpreterTool,
    FileSearchTool,
    HostedMCPTool,
    ImageGenerationTool,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
    OpenAIResponsesModel,
    Runner,
    Tool,
    WebSearchTool,
    set_tracing_disabled,
)
from openai.types.responses import Response, ResponsesServerEvent, ResponseStreamEvent
from openai.types.responses.tool_param import CodeInterpreter, ImageGeneration, Mcp
from pydantic import BaseModel

from gomodel_asgi import Gateway, Provider, tools
from gomodel_asgi.observers import Ended, Record
from gomodel_asgi.testing import Answer, FakeProvider

from ...support.stage import Stage, until
from .cases import ADDED, ANY, ASKED, CASES, DONE, INCLUDE, Case
from .hosting import MODELS, Json, call, calls, outputs_in, refund

UPSTREAMS = ("chat", "anthropic", "gemini", "lenient", "responses")
"""Dialects; `lenient` is a Responses API that is not OpenAI's, and `responses` one that lacks the tools."""
ENDS = ("response.completed", "response.incomplete", "response.failed")
KEY = "sk-canary-client"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class House:
    """A served gateway that runs the tool of a case, in front of one kind of upstream."""

    def __init__(self, stage: Stage, fake: FakeProvider, upstream: str, *given: tools.Tool) -> None:
        dialect = dialect_of(upstream)
        provider = Provider(
            "fake",
            fake.base_url,
            dialect=dialect,  # type: ignore[arg-type]
            hosted_tools=(),
            normalize=upstream == "lenient",
            api_key="sk-canary-house",
        )
        self.records: list[Record] = []
        self.fake = fake
        self.dialect = dialect
        self.model = MODELS[dialect]
        self.base_url = f"{stage.origin}/v1"
        self.gateway: Gateway = stage.gateway(providers=[provider], tools=given, observers=[self.records.append])

    @property
    def sent(self) -> list[Json]:
        return [json.loads(request.body) for request in self.fake.requests]


def closed(fake: FakeProvider) -> bool:
    """Whether nobody is connected to *fake* any more."""
    return not fake.open_connections


Build = Callable[..., House]


@pytest.fixture
def build(stage: Stage, dialect_fakes: dict[str, FakeProvider]) -> Iterator[Build]:
    for fake in dialect_fakes.values():
        fake.clear()

    def made(upstream: str, *given: tools.Tool) -> House:
        return House(stage, dialect_fakes[dialect_of(upstream)], upstream, *given)

    yield made
    assert stage.switch.failures == []
    stage.settle()
    for fake in dialect_fakes.values():
        assert fake.pending == 0
        until(partial(closed, fake))


@pytest.fixture(params=UPSTREAMS)
def upstream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def dialect_of(upstream: str) -> str:
    return "responses" if upstream == "lenient" else upstream


# Forms of asking: each gives the events, where there are any, and the response...

Told = tuple[list[Json] | None, Json]


def unary(client: openai.OpenAI, body: Json) -> Told:
    return None, dumped(client.responses.create(**body))


def streamed(client: openai.OpenAI, body: Json) -> Told:
    """By the helper, whose state machine must accept each event."""
    with client.responses.stream(**body) as stream:
        events = [dumped(event) for event in stream]
        final = dumped(stream.get_final_response())
    for event in events:
        event.pop("snapshot", None)
    return events, final


def over_websocket(client: openai.OpenAI, body: Json) -> Told:
    events: list[Json] = []
    with client.responses.connect() as connection:
        connection.response.create(**body)
        for event in connection:
            events.append(dumped(event))
            if event.type in ENDS or event.type == "error":
                break
    return events, events[-1]["response"]


def in_background(client: openai.OpenAI, body: Json) -> Told:
    response = client.responses.create(background=True, **body)
    assert (response.status, response.output) == ("queued", [])

    def ended() -> bool:
        nonlocal response
        response = client.responses.retrieve(response.id, include=body["include"])
        return response.status not in ("queued", "in_progress")

    until(ended)
    return None, dumped(response)


def in_background_streamed(client: openai.OpenAI, body: Json) -> Told:
    """The stream of the work, which a later one of its own replays."""
    events = [dumped(event) for event in client.responses.create(background=True, stream=True, **body)]
    response = client.responses.retrieve(events[0]["response"]["id"], include=body["include"])
    again = client.responses.retrieve(response.id, stream=True, starting_after=3)
    assert [dumped(event) for event in again] == events[4:]
    return [event for event in events if event["type"] != "response.queued"], dumped(response)


FORMS = (unary, streamed, over_websocket, in_background, in_background_streamed)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_tool_has_openais_items_events_and_annotations_whatever_the_upstream_and_the_form(
    build: Build, upstream: str, case: Case, form: Callable[[openai.OpenAI, Json], Told]
) -> None:
    house = build(upstream, case.tool)
    house.fake.script(case.script)
    body = {"model": house.model, "input": ASKED, "tools": [case.declared], "include": INCLUDE}
    with openai.OpenAI(base_url=house.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        events, response = form(client, body)
        kept = [dumped(item) for item in client.responses.input_items.list(response["id"])]

    Response.model_validate(response)
    assert (response["status"], response["error"], response["incomplete_details"]) == ("completed", None, None)
    assert response["tools"] == [case.echo] and response["tool_choice"] == "auto"
    expect_items(response["output"], case)
    expect_answer(response["output"], case)
    if events is not None:
        expect_one_lifecycle(events, response)
        expect_told(events, case)
    expect_usage(response["usage"], house)
    assert [item["content"][0]["text"] for item in kept] == [ASKED]
    assert len(house.sent) == 2 and len(outputs_in(house.dialect, house.sent[1])) == 1


def expect_items(output: list[Json], case: Case) -> None:
    """The tool's items, whole, between what the model says before and after."""
    kinds = [item["type"] for item in output if item["type"] != "reasoning"]
    ours = [item["type"] for item in case.items]
    assert kinds == [*ours[:-1], "message", ours[-1], "message"]
    assert [normal(item) for item in output if item["type"] in ours] == case.items
    assert len({item["id"] for item in output}) == len(output)


def expect_answer(output: list[Json], case: Case) -> None:
    (part,) = next(item["content"] for item in reversed(output) if item["type"] == "message")
    assert part["text"] == case.text
    assert part["annotations"] == [*case.annotations]


def expect_one_lifecycle(events: list[Json], response: Json) -> None:
    """One beginning and one end, consecutive numbers, no index twice, and in the end what the items were."""
    for event in events:
        validate(event)
    types = [event["type"] for event in events]
    assert types[0] == "response.created" and types[-1] == "response.completed"
    assert types.count("response.created") == types.count("response.in_progress") == 1
    assert len([type for type in types if type in ENDS]) == 1
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers)) and numbers[-1] - numbers[0] in (len(numbers) - 1, len(numbers))
    indices = [event["output_index"] for event in events if event["type"] == ADDED]
    assert indices == [*range(len(indices))]
    done = [event["item"] for event in events if event["type"] == DONE]
    assert done == events[-1]["response"]["output"] == response["output"]
    assert not any("function_call" in type for type in types)


def expect_told(events: list[Json], case: Case) -> None:
    """The events of the tool's items and the annotations of the answer."""
    ours = {item["type"] for item in case.items}
    indices = {event["output_index"]: event["item"] for event in events if event["type"] == ADDED}
    places = [index for index, item in indices.items() if item["type"] in ours]
    told = [event for place in places for event in events if event.get("output_index") == place]
    for event in told:
        if event["type"] not in (ADDED, DONE):
            assert event["item_id"] == indices[event["output_index"]]["id"]
    assert joined(told) == [*case.emitted]

    cited = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert [event["annotation"] for event in cited] == [*case.annotations]
    assert [event["annotation_index"] for event in cited] == [*range(len(cited))]
    (part,) = [event["part"] for event in events if event["type"] == "response.content_part.done"][-1:]
    assert part["annotations"] == [*case.annotations]


def expect_usage(usage: Json, house: House) -> None:
    """The sum of both rounds, which observers get too."""
    assert usage["input_tokens_details"]["cached_tokens"] == 3
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    until(lambda: any(isinstance(record, Ended) for record in house.records))
    (ended,) = [one for one in house.records if isinstance(one, Ended) and one.usage is not None]
    assert ended.usage is not None
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (usage["input_tokens"], usage["output_tokens"])


def joined(events: list[Json]) -> list[tuple[str, Json]]:
    """*events* without their places, deltas that follow each other as one."""
    found: list[tuple[str, Json]] = []
    for event in events:
        members = {name: value for name, value in event.items() if name not in PLACE}
        if "item" in members:
            members["item"] = normal(members["item"])
        if "delta" in members and found and found[-1][0] == event["type"]:
            found[-1][1]["delta"] += members["delta"]
        else:
            found.append((event["type"], members))
    for _, members in found:
        for name in ("delta", "arguments"):
            members |= compact(members, name)
    return found


PLACE = ("type", "sequence_number", "item_id", "output_index")


def normal(item: Json) -> Json:
    """*item* without its id, and with arguments as any model would write them."""
    return {**item, "id": ANY, **compact(item, "arguments")}


def compact(members: Json, name: str) -> Json:
    """The member *name* without spaces, if it is an object in JSON."""
    value = members.get(name)
    if not isinstance(value, str) or not value.startswith("{"):
        return {}
    return {name: json.dumps(json.loads(value), separators=(",", ":"))}


def dumped(model: openai.BaseModel) -> Json:
    """What came over the wire."""
    return {name: unparsed(value) for name, value in model.to_dict(mode="json", warnings=False).items()}


def unparsed(value: Any) -> Any:
    """*value* without what the SDK's helper adds."""
    if isinstance(value, list):
        return [unparsed(one) for one in value]
    if isinstance(value, dict):
        return {name: unparsed(one) for name, one in value.items() if name not in ("parsed", "parsed_arguments")}
    return value


def test_an_approval_arrives_as_the_next_create_of_a_connection(build: Build, upstream: str) -> None:
    house = build(upstream, tools.mcp({"crm": [refund]}))
    house.fake.script(calls(call("refund", order="7")), Answer(text="Paid."), Answer(text="Yes."))
    asking: Json = {"type": "mcp", "server_label": "crm"}
    responses: list[Json] = []
    with (
        openai.OpenAI(base_url=house.base_url, api_key=KEY, max_retries=0, timeout=20) as client,
        client.responses.connect() as connection,
    ):

        def talk(given: Any, **more: Any) -> Json:
            connection.response.create(model=house.model, input=given, tools=[asking], **more)  # type: ignore[list-item]
            for event in connection:
                assert event.type != "error", event
                if event.type in ENDS:
                    return dumped(event)["response"]  # type: ignore[no-any-return]
            raise AssertionError("the connection ended")

        responses.append(talk("Pay back 7."))
        answer = {"type": "mcp_approval_response", "approval_request_id": responses[0]["output"][-1]["id"]}
        responses.append(talk([{**answer, "approve": True}], previous_response_id=responses[0]["id"]))
        responses.append(talk("Sure?", previous_response_id=responses[1]["id"]))

    types = [[item["type"] for item in one["output"] if item["type"] != "reasoning"] for one in responses]
    assert types == [["mcp_list_tools", "mcp_approval_request"], ["mcp_call", "message"], ["message"]]
    assert outputs_in(house.dialect, house.sent[1]) == ["Paid back 7 for None."]
    assert outputs_in(house.dialect, house.sent[2]) == ["Paid back 7 for None."]


# The Agents SDK, with its own settings...

AGENT_TOOLS: dict[str, Tool] = {
    "web_search": WebSearchTool(),
    "file_search": FileSearchTool(vector_store_ids=["vs_1"]),
    "code_interpreter": CodeInterpreterTool(CodeInterpreter(type="code_interpreter", container={"type": "auto"})),
    "image_generation": ImageGenerationTool(ImageGeneration(type="image_generation")),
    "mcp": HostedMCPTool(
        Mcp(type="mcp", server_label="crm", server_url="https://crm.example.com/mcp", require_approval="never")
    ),
}
ASKING = Mcp(type="mcp", server_label="crm", server_url="https://crm.example.com/mcp")
"""As the SDK's documentation declares a server: what calls need approval, it does not say."""


@asynccontextmanager
async def agent_of(house: House, tool: Tool) -> AsyncIterator[Agent[None]]:
    set_tracing_disabled(True)
    async with openai.AsyncOpenAI(base_url=house.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        model = OpenAIResponsesModel(house.model, client)
        yield Agent(name="Ada", instructions="Be brief.", tools=[tool], model=model)


async def run(agent: Agent[None], asked: Any, *, stream: bool, **options: Any) -> Any:
    """The result of a run that has ended."""
    if not stream:
        return await Runner.run(agent, asked, **options)
    result = Runner.run_streamed(agent, asked, **options)
    async for _ in result.stream_events():
        pass
    return result


def types_of(result: Any) -> list[str]:
    """The types of the items that a run made, without reasoning."""
    found = [item.raw_item if isinstance(item.raw_item, dict) else item.raw_item.to_dict() for item in result.new_items]
    return [item["type"] for item in found if item["type"] != "reasoning"]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize("name", CASES)
async def test_an_agent_has_each_tool_and_goes_on_from_what_it_said(
    build: Build, upstream: str, name: str, stream: bool
) -> None:
    case = CASES[name]
    house = build(upstream, case.tool)
    house.fake.script(case.script, Answer(text="As I said."))

    async with agent_of(house, AGENT_TOOLS[name]) as agent:
        first = await run(agent, ASKED, stream=stream)
        again = await run(agent, [*first.to_input_list(), {"role": "user", "content": "Sure?"}], stream=stream)

    assert first.final_output == case.text
    assert types_of(first) == [*CALLED[name][:-1], "message", CALLED[name][-1], "message"]
    assert again.final_output == "As I said."
    assert outputs_in(house.dialect, house.sent[2]) == outputs_in(house.dialect, house.sent[1]) != []


CALLED = {name: [item["type"] for item in case.items] for name, case in CASES.items()}


@pytest.mark.anyio
@pytest.mark.parametrize("by_id", [False, True], ids=["items", "by id"])
@pytest.mark.parametrize("stream", [False, True], ids=["run", "run_streamed"])
@pytest.mark.parametrize("approve", [True, False], ids=["approved", "refused"])
async def test_an_agent_is_asked_for_its_approval_by_default(
    build: Build, upstream: str, approve: bool, stream: bool, by_id: bool
) -> None:
    asked: list[tuple[str, str, str]] = []

    def decide(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        asked.append((request.data.server_label, request.data.name, request.data.arguments))
        return {"approve": True} if approve else {"approve": False, "reason": "Too dear."}

    house = build(upstream, tools.mcp({"crm": [refund]}))
    house.fake.script(calls(call("refund", order="7")), Answer(text="I see."))
    async with agent_of(house, HostedMCPTool(ASKING, on_approval_request=decide)) as agent:
        result = await run(agent, "Pay back 7.", stream=stream, auto_previous_response_id=by_id)

    ((label, name, arguments),) = asked
    assert (label, name, json.loads(arguments)) == ("crm", "refund", {"order": "7"})
    assert result.final_output == "I see."
    made = ["mcp_call"] if approve else []
    expected = ["mcp_list_tools", "mcp_approval_request", "mcp_approval_response", *made, "message"]
    assert types_of(result) == expected
    said = outputs_in(house.dialect, house.sent[1])
    assert said == ["Paid back 7 for None." if approve else "The user did not approve this call.\nReason:\nToo dear."]


# What the SDK's own types say of an event...


def validate(event: Json) -> None:
    """:raises pydantic.ValidationError: the SDK's type of *event* forbids something of it."""
    if event["type"] == ADDED and event["item"]["type"] == "web_search_call":
        # OpenAI announces a search without its action, though the SDK's type demands one.
        event = {**event, "item": {**event["item"], "action": {"type": "search", "query": ""}}}
    models()[event["type"]].model_validate(event)


@cache
def models() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    for union in (ResponseStreamEvent, ResponsesServerEvent):
        for model in members_of(union):
            for name in get_args(model.model_fields["type"].annotation):
                found.setdefault(name, model)
    return found


def members_of(union: Any) -> list[type[BaseModel]]:
    """The classes of a union, however deep it is nested."""
    if isinstance(union, type) and not isinstance(union, UnionType):
        return [union] if issubclass(union, BaseModel) else []
    return [model for each in get_args(union) for model in members_of(each)]
