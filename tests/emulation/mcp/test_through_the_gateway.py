"""Servers of the official SDK, by URL and in this process, behind every door and dialect of a gateway."""

from __future__ import annotations

import json
from typing import Any

import agents
import anyio
import openai
import pytest

from gomodel_asgi import MemoryStore, Provider, Target, Timeouts, tools
from gomodel_asgi.emulation.tools.remote import secrets_of, split
from gomodel_asgi.errors import GatewayError, RateLimited
from gomodel_asgi.testing import Answer, Status
from tests.emulation.tools.hosting import (
    DIALECTS,
    call,
    calls,
    dump,
    functions_in,
    item_of,
    kinds,
    text_of,
)
from tests.support.driving import Caller, encoded, scope_of
from tests.support.lab import ONCE, until
from tests.support.scripted_upstream import reply
from tests.support.serving import Served
from tests.support.stage import Stage
from tests.support.websocket_client import connected

from .servers import (
    HEADERS,
    NAME,
    OBJECT,
    PRIVATE,
    TOOLS,
    Gate,
    Houses,
    Names,
    Raw,
    Shop,
    Start,
    by_hand,
    error_of,
    tool,
)

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
SHOP: Json = {"type": "mcp", "server_label": "shop", "require_approval": "never"}
ASKING: Json = {"type": "mcp", "server_label": "shop"}
CANARY = "canary-9f8e7d6c5b4a"
SECRET = "canary-1a2b3c4d5e6f"


class Stand:
    """A shop, and what the host maps it by."""

    def __init__(self, serve: Served, kind: str) -> None:
        self.shop = Shop()
        self.gate = Gate(self.shop.app())
        self.mapped: Any = self.shop.server
        if kind == "by URL":
            self.mapped = tools.Server(serve(self.gate) + "/mcp", headers=HEADERS)


@pytest.fixture
def stand(serve: Served) -> Stand:
    """Made outside of any event loop: an app of the SDK that is made on trio does not run on uvicorn's."""
    return Stand(serve, "by URL")


@pytest.fixture(params=["by URL", "in process"])
def each(request: pytest.FixtureRequest, serve: Served) -> Stand:
    return Stand(serve, request.param)


def wanted(name: str = "echo", **arguments: Any) -> list[Answer]:
    return [calls(call(name, **arguments)), Answer(text="Done.")]


# Doors and dialects...


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_all_pages_of_a_server_are_listed_and_a_tool_is_called_in_every_dialect(
    each: Stand, house_of: Houses, dialect: str
) -> None:
    house = house_of({"shop": each.mapped}, dialect=dialect)
    for stream in (False, True):
        house.fake.script(wanted(text="hi"))
        body = {"input": "Hi", "tools": [SHOP]}
        response = (await house.events(body))[-1]["response"] if stream else await house.ask(body)
        assert kinds(response) == ["mcp_list_tools", "mcp_call", "message"]
        assert len(item_of(response, "mcp_list_tools")["tools"]) == TOOLS
        assert item_of(response, "mcp_call")["output"] == "hi" == house.outputs()[0]
        assert len(functions_in(dialect, house.sent[-1])) == TOOLS
    assert each.shop.called == ["echo", "echo"] and each.gate.asked.count("tools/list") in (0, 2 * 7)


async def test_a_background_response_and_a_websocket_ask_the_same_server(each: Stand, house_of: Houses) -> None:
    house = house_of({"shop": each.mapped})
    house.fake.script(wanted(text="a"), wanted(text="b"))
    queued = await house.ask({"input": "Hi", "tools": [SHOP], "background": True})
    await until(lambda: not house.gateway.background._here)
    found = (await Caller(scope_of(f"/v1/responses/{queued['id']}", method="GET")).run(house.gateway)).json()
    async with connected(house.gateway) as client:
        told = await client.talk("Hi", tools=[SHOP])
    for response, text in ((found, "a"), (told, "b")):
        assert kinds(response) == ["mcp_list_tools", "mcp_call", "message"]
        assert item_of(response, "mcp_call")["output"] == text


async def test_a_list_is_given_once_in_a_conversation_and_allowed_tools_hold_anew(
    stand: Stand, house_of: Houses
) -> None:
    house = house_of({"shop": stand.mapped})
    first = await house.ask({"input": "Hi", "tools": [{**SHOP, "allowed_tools": ["echo", "slow"]}]})
    assert [one["name"] for one in item_of(first, "mcp_list_tools")["tools"]] == ["echo", "slow"]
    again = {"input": "And?", "previous_response_id": first["id"], "tools": [{**SHOP, "allowed_tools": ["fails"]}]}
    assert kinds(await house.ask(again)) == ["message"]
    assert functions_in("chat", house.sent[-1]) == ["fails"]


async def test_a_clients_function_keeps_its_name_and_a_servers_gets_its_label(stand: Stand, house_of: Houses) -> None:
    house = house_of({"shop": stand.mapped})
    own = {"type": "function", "name": "echo", "parameters": OBJECT}
    await house.ask({"input": "Hi", "tools": [own, {**SHOP, "allowed_tools": ["echo", "fails"]}]})
    assert functions_in("chat", house.sent[-1]) == ["echo", "shop__echo", "fails"]


# What fails...


async def test_a_tool_that_fails_or_is_slow_is_a_failed_item_and_the_model_goes_on(
    each: Stand, house_of: Houses
) -> None:
    house = house_of({"shop": each.mapped}, timeouts=Timeouts(tool=1.0))
    for name, type in (("fails", "mcp_tool_execution_error"), ("slow", "http_error"), ("raises", "mcp_protocol_error")):
        house.fake.script(wanted(name))
        response = await house.ask({"input": "Hi", "tools": [SHOP]})
        item = item_of(response, "mcp_call")
        assert (item["status"], item["error"]["type"], item["output"]) == ("failed", type, None)
        assert text_of(response) == "Done." and "vault" not in str(house.sent)
        if name == "fails":
            assert house.outputs() == ["No such order.\nTry another."]


async def test_a_server_that_is_dead_is_a_424_and_in_a_stream_a_response_that_failed(house_of: Houses) -> None:
    house = house_of({"shop": "http://127.0.0.1:1/mcp"})
    with pytest.raises(GatewayError) as failed:
        await house.ask({"input": "Hi", "tools": [SHOP]})
    said = "Error retrieving tool list from MCP server: 'shop'. No connection to the server could be made."
    assert (failed.value.status, failed.value.message) == (424, said)
    events = await house.events({"input": "Hi", "tools": [SHOP]})
    types = [event["type"] for event in events]
    assert types[0] == "response.created" and types[-1] == "response.failed" and house.sent == []
    assert item_of(events[-1]["response"], "mcp_list_tools")["error"] == said


async def test_a_server_that_dies_in_a_call_fails_the_call_alone_and_after_three_the_model_is_told_to_stop(
    house_of: Houses, serve: Served
) -> None:
    asked: list[str] = []

    def dies(message: Json) -> Any:
        from starlette.responses import JSONResponse

        asked.append(message["params"]["arguments"]["at"])
        return JSONResponse(error_of(message, -32000, "gone"), 503)

    raw = Raw(tools_list={"tools": [tool("t")]}, tools_call=dies)
    house = house_of({"shop": serve(raw) + "/mcp"})
    house.fake.script([calls(call("t", at=str(number))) for number in range(5)], Answer(text="Given up."))
    response = await house.ask({"input": "Hi", "tools": [SHOP]})
    assert {item["status"] for item in response["output"] if item["type"] == "mcp_call"} == {"failed"}
    assert asked == ["0", "1", "2"] and "failed several times in a row" in house.outputs()[-1]
    assert text_of(response) == "Given up."


async def test_a_client_that_leaves_in_a_call_ends_it_and_its_session(each: Stand, house_of: Houses) -> None:
    house = house_of({"shop": each.mapped})
    for number, stream in enumerate((False, True), 1):
        house.fake.script(calls(call("slow")))
        caller = Caller(scope_of(), [encoded({"model": "m", "input": "Hi", "tools": [SHOP], "stream": stream})])
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, house.gateway)
                await until(lambda: len(each.shop.called) == number)  # noqa: B023
                caller.leave()
            await until(lambda: len(each.shop.cancelled) == number)  # noqa: B023


# What is secret...


def declared(place: str) -> Json:
    """A declaration with a canary in each of its credentials."""
    return {**SHOP, "server_url": place, "authorization": CANARY, "headers": {"X-Note": f"{CANARY}-note"}}


def quoting(seen: list[Json]) -> Raw:
    """A server that quotes whatever it was sent."""

    def quoted(message: Json) -> Json:
        return {"content": [{"type": "text", "text": json.dumps(seen[-1])}]}

    raw = Raw(tools_list={"tools": [tool("t")]}, tools_call=quoted)
    raw.heads = seen
    return raw


async def test_credentials_of_host_and_client_are_found_nowhere_but_at_their_server(
    house_of: Houses, serve: Served
) -> None:
    seen: list[Json] = []
    records: list[Any] = []
    store = MemoryStore()
    mapped = tools.Server(serve(quoting(seen)) + "/mcp", headers={"authorization": f"Bearer {SECRET}"})
    house = house_of({"shop": mapped}, observers=[records.append], store=store)
    place = f"https://user:{CANARY}@other.example/{CANARY}?key={CANARY}"
    for more in ({}, {"stream": True}, {"background": True}):
        house.fake.script(wanted("t"))
        body = {"model": "m", "input": "Hi", "tools": [declared(place)], **more}
        given = await house.gateway.respond(body)
        said = (await given.read()).decode() + str(given.headers)
        assert "canary" not in said
    await until(lambda: not house.gateway.background._here)
    assert {head.get("authorization") for head in seen} == {f"Bearer {SECRET}"} and CANARY not in str(seen)
    assert "[redacted]" in house.outputs()[0]
    assert "canary" not in json.dumps(house.sent) + repr(records) and b"canary" not in dump(store)


async def test_what_a_client_gives_for_a_server_that_it_names_goes_there_alone(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    heads: list[bytes] = []
    records: list[Any] = []
    store, admitted = MemoryStore(), []
    server = start(by_hand(seen=heads))

    def admits(url: str, call: tools.Call) -> bool:
        admitted.append((url, call.request.tenant))
        return True

    house = house_of({}, remote=admits, transport=trusting, observers=[records.append], store=store)
    place = f"https://{NAME}:{server.port}/{CANARY}?key={CANARY}"
    for more in ({}, {"stream": True}):
        house.fake.script(wanted("t"))
        given = await house.gateway.respond({"model": "m", "input": "Hi", "tools": [declared(place)], **more})
        said = (await given.read()).decode()
        assert "mcp_call" in said and '"done"' in said and "canary" not in said
    assert admitted == [(place, None)] * 2
    assert all(f"{CANARY}-note".encode() in head.lower() for head in heads)
    assert all(CANARY.encode() in head.lower() for head in heads) and heads
    assert "canary" not in json.dumps(house.sent) + repr(records) and b"canary" not in dump(store)


def test_all_headers_of_a_client_are_taken_out_of_what_its_server_says() -> None:
    url = split("https://x.example/mcp", ("https",))
    assert secrets_of(url, {"x-note": CANARY}, of_client=True) == (CANARY,)
    assert secrets_of(url, {"x-note": CANARY}) == ()


# Servers that only a client names...


async def test_a_server_that_nobody_has_mapped_is_refused_by_its_label_with_the_way_out(
    house_of: Houses,
) -> None:
    house = house_of({})
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [{**SHOP, "server_url": "https://x.example/mcp"}]})
    assert refused.value.status == 400 and refused.value.param == "tools[0].type"
    assert "`shop`" in refused.value.message and "server_label" in refused.value.message and house.sent == []


@pytest.mark.parametrize("remote", [None, lambda url, call: True])
async def test_a_native_upstream_gets_an_unmapped_server_untouched(house_of: Houses, remote: Any) -> None:
    house = house_of({}, dialect="responses", remote=remote)
    given = declared("https://x.example/mcp?key=1")
    await house.ask({"input": "Hi", "tools": [given]})
    assert house.sent[0]["tools"] == [given]


@pytest.mark.parametrize(
    "more",
    [{"server_url": "http://x.example/mcp"}, {"headers": {"Host": "canary"}}, {"authorization": "a\r\ncanary: b"}],
)
async def test_a_server_that_may_not_be_declared_so_is_a_400_before_the_stream(house_of: Houses, more: Json) -> None:
    house = house_of({}, remote=lambda url, call: True)
    body = {"input": "Hi", "tools": [{**SHOP, "server_url": "https://x.example/mcp", **more}]}
    for ask in (house.ask, house.events):
        with pytest.raises(GatewayError) as refused:
            await ask(body)
        assert refused.value.status == 400 and refused.value.param == "tools" and "canary" not in refused.value.message


async def test_a_server_that_the_host_does_not_admit_is_a_403_before_a_stream_begins_and_not_connected_to(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    server = start(by_hand())
    body = {"input": "Hi", "tools": [{**SHOP, "server_url": f"https://{NAME}:{server.port}/mcp"}]}
    for admits in (lambda url, call: False, lambda url, call: 1 / 0):
        house = house_of({}, remote=admits, transport=trusting)
        for ask in (house.ask, house.events):
            with pytest.raises(GatewayError) as refused:
                await ask(body)
            error: Any = refused.value.payload["error"]
            assert (refused.value.status, error["type"], error["param"]) == (403, "permission_error", "tools")
            assert error["code"] == "mcp_server_not_allowed" and "'shop'" in error["message"]
    assert server.connections == 0 and house.sent == []


async def test_a_host_may_refuse_a_server_in_its_own_words(house_of: Houses) -> None:
    def admits(url: str, call: tools.Call) -> bool:
        raise RateLimited("Buy more servers.", retry_after=60)

    house = house_of({}, remote=admits)
    with pytest.raises(GatewayError) as refused:
        await house.events({"input": "Hi", "tools": [{**SHOP, "server_url": "https://x.example/mcp"}]})
    assert (refused.value.status, refused.value.message) == (429, "Buy more servers.") and house.sent == []


async def test_a_name_that_stands_for_a_private_address_is_not_connected_to_and_the_operator_is_told(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    records: list[Any] = []
    names.answers = [PRIVATE]
    house = house_of({}, remote=lambda url, call: True, transport=trusting, observers=[records.append])
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [{**SHOP, "server_url": f"https://{NAME}/mcp"}]})
    assert refused.value.status == 424 and PRIVATE not in refused.value.message
    warned = [record.message for record in records if type(record).__name__ == "Warned"]
    assert any("not public" in text and "shop" in text for text in warned)


async def test_a_redirect_to_a_metadata_address_is_refused(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    def script(peer: Any) -> None:
        while peer.request() is not None:
            moved = b"location: http://169.254.169.254/latest/meta-data/"
            peer.send(reply(b"", moved, status=b"307 Temporary Redirect"))

    server = start(script)
    house = house_of({}, remote=lambda url, call: True, transport=trusting)
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "Hi", "tools": [{**SHOP, "server_url": f"https://{NAME}:{server.port}/mcp"}]})
    assert refused.value.status == 424 and "redirects to another place" in refused.value.message


async def test_a_fallback_whose_server_cannot_be_listed_does_not_fail_who_asks_it_itself(house_of: Houses) -> None:
    records: list[Any] = []
    native, chat = house_of({}, dialect="responses"), house_of({})
    target = Target(native.provider, fallbacks=[Target(chat.provider)])
    house = house_of(
        {}, remote=lambda url, call: False, policy=lambda request: target, observers=[records.append], retries=ONCE
    )
    given = {**SHOP, "server_url": "https://x.example/mcp"}
    for stream in (False, True):
        body = {"input": "Hi", "tools": [given]}
        response = (await house.events(body))[-1]["response"] if stream else await house.ask(body)
        assert kinds(response) == ["message"]
    assert [body["tools"] for body in native.sent] == [[given]] * 2 and chat.sent == []
    assert any("left out" in getattr(record, "message", "") for record in records)
    native.fake.fail_next(Status(503))
    with pytest.raises(GatewayError):
        await house.ask({"input": "Hi", "tools": [given]})
    assert chat.sent == []  # without the tools that the client counts on


async def test_a_list_is_given_where_the_server_is_asked_from_here_alone(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    server = start(by_hand())
    native, chat = house_of({}, dialect="responses"), house_of({})
    target = Target(native.provider, fallbacks=[Target(chat.provider)])
    house = house_of({}, remote=lambda url, call: True, policy=lambda request: target, transport=trusting, retries=ONCE)
    body = {"input": "Hi", "tools": [{**SHOP, "server_url": f"https://{NAME}:{server.port}/mcp"}]}
    assert kinds(await house.ask(body)) == ["message"]
    native.fake.fail_next(Status(503))
    assert kinds(await house.ask(body)) == ["mcp_list_tools", "message"]


async def test_calls_of_a_server_that_only_the_client_names_wait_for_its_approval(
    house_of: Houses, names: Names, trusting: Any, start: Start
) -> None:
    server = start(by_hand())
    house = house_of({}, remote=lambda url, call: True, transport=trusting)
    given = {**ASKING, "server_url": f"https://{NAME}:{server.port}/mcp"}
    house.fake.script(calls(call("t")))
    first = await house.ask({"input": "Hi", "tools": [given]})
    request = item_of(first, "mcp_approval_request")
    house.fake.script(Answer(text="Done."))
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    second = await house.ask({"input": [answer], "previous_response_id": first["id"], "tools": [given]})
    assert item_of(second, "mcp_call")["output"] == "done" and text_of(second) == "Done."


# By the official clients...


@pytest.fixture
def spoken(stand: Stand, stage: Stage) -> Stage:
    provider = Provider("fake", stage.provider.base_url, hosted_tools=(), stateful=False)
    stage.gateway(providers=[provider], tools=[tools.mcp({"shop": stand.mapped})])
    return stage


def test_the_official_clients_stream_helper_reads_calls_of_a_real_server(spoken: Stage) -> None:
    spoken.provider.script(wanted(text="hi"))
    declared: Any = {**SHOP, "authorization": CANARY}
    with openai.OpenAI(base_url=f"{spoken.origin}/v1", api_key="k", max_retries=0, timeout=20) as client:
        with client.responses.stream(model="m", input="Hi", tools=[declared]) as stream:
            types = [event.type for event in stream]
            final = stream.get_final_response()
    assert [item.type for item in final.output] == ["mcp_list_tools", "mcp_call", "message"]
    assert "response.mcp_call_arguments.delta" in types and types[-1] == "response.completed"
    assert final.output_text == "Done."


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("approve", [True, False])
async def test_an_agent_approves_or_refuses_a_call_of_a_real_server(spoken: Stage, stand: Stand, approve: bool) -> None:
    agents.set_tracing_disabled(True)
    asked: list[str] = []

    def answer(request: agents.MCPToolApprovalRequest) -> agents.MCPToolApprovalFunctionResult:
        asked.append(request.data.name)
        return {"approve": approve}

    config: Any = {**ASKING, "require_approval": {"never": {"tool_names": ["fails"]}}, "authorization": CANARY}
    hosted = agents.HostedMCPTool(tool_config=config, on_approval_request=answer)
    spoken.provider.script(wanted(text="hi"))
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{spoken.origin}/v1", max_retries=0) as client:
        agent = agents.Agent(name="Ada", tools=[hosted], model=agents.OpenAIResponsesModel("m", client))
        result = await agents.Runner.run(agent, "Say hi.")
    assert result.final_output == "Done." and asked == ["echo"]
    assert stand.shop.called == (["echo"] if approve else [])
