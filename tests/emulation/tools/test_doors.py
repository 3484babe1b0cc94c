"""One loop for every door: HTTP, background, WebSocket, the host's own code; what is told of it, and to whom."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from gomodel_asgi import Limits, MemoryStore, NoStore, Provider, Target, Timeouts, tools
from gomodel_asgi.emulation.tools.seams import Unlisted
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.testing import Answer, Status
from tests.support.driving import Caller, ask, encoded, scope_of
from tests.support.lab import ONCE, until
from tests.support.websocket_client import connected
from tests.support.websocket_upstream import running

from .hosting import (
    CLIENTS,
    CODE,
    CRM,
    MODELS,
    WEB,
    Broken,
    Hanging,
    Hosting,
    Json,
    call,
    calls,
    dump,
    item_of,
    kinds,
    lookup,
    refund,
    search,
    text_of,
)

pytestmark = pytest.mark.anyio

ALL = (tools.web_search(search), tools.mcp({"crm": [lookup]}))
CANARY = "canary-9f8e7d6c5b4a"


async def get(house: Any, path: str) -> Any:
    return (await Caller(scope_of(path, method="GET")).run(house.gateway)).json()


async def test_http_gets_a_whole_response_and_a_stream(hosting: Hosting) -> None:
    house = hosting(*ALL)
    for stream in (False, True):
        house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
        caller = await ask(house.gateway, {"model": "m", "input": "Weather?", "tools": [WEB], "stream": stream})
        assert caller.status == 200 and caller.headers["x-gomodel-provider"] == "fake"
        response = caller.events()[-1]["response"] if stream else caller.json()
        assert kinds(response) == ["web_search_call", "message"] and response["provider"] == "fake"
        stored = await get(house, f"/v1/responses/{response['id']}")
        assert stored["output"] == response["output"]


async def test_a_background_response_is_worked_on_by_the_same_loop(hosting: Hosting, dialect: str) -> None:
    stateful = {"stateful": True} if dialect == "responses" else {}
    house = hosting(*ALL, dialect=dialect, provider=stateful)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    queued = await house.ask({"input": "Weather?", "tools": [WEB], "background": True})
    assert queued["status"] == "queued"
    await until(lambda: not house.gateway.background._here)
    found = await get(house, f"/v1/responses/{queued['id']}")
    assert found["status"] == "completed" and kinds(found) == ["web_search_call", "message"]
    assert all("background" not in body for body in house.sent)
    await house.ask({"input": "And?", "previous_response_id": queued["id"]})
    assert "Found for rome" in house.outputs()[0]


async def test_a_websocket_gets_the_same_events(hosting: Hosting) -> None:
    house = hosting(*ALL)
    for store in (True, False):
        house.fake.clear()
        house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
        async with connected(house.gateway) as client:
            first = await client.talk("Weather?", tools=[WEB], store=store)
            assert kinds(first) == ["web_search_call", "message"]
            await client.talk("And?", previous_response_id=first["id"], store=store)
        assert "Found for rome" in house.outputs()[0]


async def test_a_warm_up_calls_and_lists_nothing(hosting: Hosting) -> None:
    house = hosting(*ALL)
    async with connected(house.gateway) as client:
        for declared in (CRM, WEB):
            warmed = await client.talk("Weather?", tools=[declared], generate=False)
            assert warmed["output"] == [] and house.sent == []


async def test_a_warm_up_at_an_upstreams_own_socket_shows_the_functions_and_no_declaration(hosting: Hosting) -> None:
    with running() as upstream:
        provider = Provider("up", upstream.base_url, websocket=True, hosted_tools=())
        servers = tools.mcp({"crm": [lookup], "bank": [refund]})
        house = hosting(servers, tools.web_search(search), policy=lambda request: Target(provider))
        host = house.gateway.state.tools
        assert host is not None
        host.toolbox.sources["bank"] = Broken(Unlisted("nobody may ask it"))
        bank = {"type": "mcp", "server_label": "bank"}
        async with connected(house.gateway) as client:
            await client.talk("Weather?", tools=[{**CRM, "authorization": CANARY}, bank, WEB], generate=False)
        (frame,) = upstream.frames
    assert [tool["name"] for tool in frame["tools"]] == ["lookup", "web_search"]
    assert frame["generate"] is False and CANARY not in str(frame)


async def test_without_a_store_the_loop_works_and_nothing_is_kept(hosting: Hosting) -> None:
    house = hosting(*ALL, store=NoStore())
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    assert kinds(await house.ask({"input": "Weather?", "tools": [WEB]})) == ["web_search_call", "message"]


async def test_a_chain_falls_back_with_the_tools_of_who_answers(hosting: Hosting) -> None:
    chat = hosting(*ALL)
    native = hosting(dialect="responses", provider={"hosted_tools": None})
    native.fake.fail_next(Status(503))
    chat.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    target = Target(native.provider, fallbacks=[Target(chat.provider, model="m2")])
    house = hosting(*ALL, policy=lambda request: target, retries=ONCE)
    response = await house.ask({"input": "Weather?", "tools": [WEB]})
    assert native.sent[0]["tools"] == [WEB] and len(chat.sent) == 2
    assert kinds(response) == ["web_search_call", "message"] and {body["model"] for body in chat.sent} == {"m2"}


async def test_explain_says_which_tools_would_run_where(hosting: Hosting) -> None:
    house = hosting(*ALL)
    body = {"model": "m", "input": "Hi", "tools": [WEB, CODE, CRM, CLIENTS]}
    (found,) = (await house.gateway.explain(body)).candidates
    assert found.tools == {"web_search": "here", "code_interpreter": "nowhere", "mcp:crm": "here"}
    assert house.sent == []


async def test_observers_are_told_of_each_call_without_its_contents(hosting: Hosting) -> None:
    records: list[Any] = []
    house = hosting(*ALL, observers=[records.append])
    house.fake.script(calls(call("web_search", query="rome"), call("lookup", order="7")), Answer(text="Sunny."))
    response = await house.ask({"input": "Weather?", "tools": [WEB, CRM]})
    told = [record for record in records if type(record).__name__ == "ToolCalled"]
    assert [(one.tool, one.label, one.name, one.outcome) for one in told] == [
        ("web_search", None, "web_search", "completed"), ("mcp", "crm", "lookup", "completed"),
    ]  # fmt: skip
    assert all(one.bytes_in and one.bytes_out for one in told) and "rome" not in str(told)
    names = [type(record).__name__ for record in records]
    assert names.count("AttemptEnded") == 2 and names.count("FirstEvent") == names.count("Completed") == 1
    assert records[-1].usage.input_tokens == response["usage"]["input_tokens"]
    assert records[-1].response_id == response["id"]


async def test_a_stream_beats_while_a_tool_runs(hosting: Hosting) -> None:
    release = anyio.Event()

    async def wait(call: tools.Call) -> str:
        await release.wait()
        return "x"

    house = hosting(tools.web_search(wait), timeouts=Timeouts(heartbeat=0.02))
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    caller = Caller(scope_of(), [encoded({"model": "m", "input": "Hi", "tools": [WEB], "stream": True})])
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, house.gateway)
            await until(lambda: b": heartbeat" in caller.content)
            release.set()
    assert caller.events()[-1]["type"] == "response.completed"


async def test_a_client_sees_that_a_tool_runs_before_it_has_answered(hosting: Hosting) -> None:
    release = anyio.Event()

    async def wait(call: tools.Call) -> str:
        await release.wait()
        return "x"

    house = hosting(tools.web_search(wait))
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    with anyio.fail_after(10):
        async with await house.gateway.respond({"model": "m", "input": "Hi", "tools": [WEB], "stream": True}) as reply:
            types = [event["type"] async for event in until_it_runs(reply, release)]
    assert types[-1] == "response.completed"


async def until_it_runs(reply: Any, release: anyio.Event) -> AsyncIterator[Json]:
    """The events of *reply*; the tool may answer once the client has seen that it runs."""
    async for event in reply:
        if event["type"] == "response.web_search_call.searching":
            release.set()
        yield event


async def test_a_client_that_leaves_over_http_ends_the_hosts_function(hosting: Hosting) -> None:
    hanging = Hanging()
    house = hosting(tools.web_search(hanging))
    for stream in (False, True):
        hanging.reset()
        house.fake.script(calls(call("web_search", query="a")))
        caller = Caller(scope_of(), [encoded({"model": "m", "input": "Hi", "tools": [WEB], "stream": stream})])
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, house.gateway)
                await hanging.entered.wait()
                caller.leave()
                await hanging.left.wait()


# What is secret...


def declarations() -> list[Json]:
    """Declarations with a canary in every field that may be a credential."""
    url = f"https://user:{CANARY}@wiki.example/{CANARY}?key={CANARY}#{CANARY}"
    crm = {**CRM, "server_url": url, "authorization": CANARY, "headers": {"X-Key": CANARY}}
    secrets = [{"domain": "x.example", "name": "KEY", "value": CANARY}]
    policy = {"type": "allowlist", "allowed_domains": ["x.example"], "domain_secrets": secrets}
    return [crm, {"type": "code_interpreter", "container": {"type": "auto", "network_policy": policy}}]


async def test_a_credential_in_a_declaration_is_found_nowhere(hosting: Hosting, dialect: str) -> None:
    records: list[Any] = []
    seen: list[str] = []
    store = MemoryStore()

    def leak(order: str, call: tools.Call) -> str:
        """Look an order up."""
        seen.append(repr(call) + str(call.tool))
        raise RuntimeError(f"https://user:{CANARY}@wiki.example/{CANARY}")

    def execute(call: tools.Call) -> str:
        seen.append(repr(call) + str(call.tool))
        return "4"

    house = hosting(
        tools.mcp({"crm": [tools.function(leak, name="lookup")]}),
        tools.code_interpreter(execute),
        dialect=dialect,
        observers=[records.append],
        store=store,
    )
    for more in ({}, {"stream": True}, {"background": True}):
        house.fake.script(calls(call("lookup", order="7"), call("code_interpreter", code="1")), Answer(text="Done."))
        reply = await house.gateway.respond({"model": "m", "input": "Hi", "tools": declarations(), **more})
        assert CANARY not in (await reply.read()).decode() + str(reply.headers)
        if "background" in more:
            await until(lambda: not house.fake.pending)
    await house.gateway.aclose()
    assert len(seen) == 6 and CANARY not in "".join(seen)
    assert CANARY not in json.dumps(house.sent)
    assert CANARY not in repr(records) and CANARY.encode() not in dump(store)


async def test_the_echo_is_the_clients_tools_without_what_is_secret(hosting: Hosting) -> None:
    wiki = tools.Server([lookup], public=True)
    house = hosting(tools.mcp({"crm": [lookup], "wiki": wiki}))
    crm = {**CRM, "server_url": "https://u:p@crm.example:8443/secret?k=1#x", "headers": {"a": "b"}}
    public = {"type": "mcp", "server_label": "wiki", "server_url": "https://wiki.example/mcp?k=1"}
    response = await house.ask({"input": "Hi", "tools": [crm, public]})
    assert response["tools"][0] == {**CRM, "server_url": "https://crm.example:8443", "headers": None}
    assert response["tools"][1]["server_url"] == "https://wiki.example/mcp"


async def test_a_failed_list_is_a_424_and_in_a_stream_an_item_that_failed(hosting: Hosting) -> None:
    house = hosting(*ALL)
    host = house.gateway.state.tools
    assert host is not None
    host.toolbox.sources["crm"] = Broken(Unlisted("the server is down"))
    with pytest.raises(GatewayError) as failed:
        await house.ask({"input": "Hi", "tools": [CRM]})
    error: Any = failed.value.payload["error"]
    assert failed.value.status == 424 and error["type"] == "external_connector_error"
    assert (error["code"], error["param"]) == ("http_error", "tools") and "'crm'" in error["message"]
    events = await house.events({"input": "Hi", "tools": [CRM]})
    types = [event["type"] for event in events]
    assert types[0] == "response.created" and types[-1] == "response.failed"
    assert "response.mcp_list_tools.failed" in types and house.sent == []
    assert "the server is down" in item_of(events[-1]["response"], "mcp_list_tools")["error"].lower()


async def test_a_partial_answer_is_no_answer_to_another_tenant(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    response = await house.ask({"input": "Weather?", "tools": [WEB]}, tenant="acme")
    with pytest.raises(GatewayError) as refused:
        await house.ask({"input": "And?", "previous_response_id": response["id"], "tools": [WEB]}, tenant="other")
    assert refused.value.status == 400
    assert text_of(response) == "Sunny."


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_finished_when_the_client_left_is_kept(hosting: Hosting, dialect: str, stream: bool) -> None:
    entered = anyio.Event()
    ids: list[str] = []
    runs = 0

    async def second_hangs(call: tools.Call) -> str:
        nonlocal runs
        runs += 1
        ids.append(call.response_id)
        if runs == 2:
            entered.set()
            await anyio.sleep_forever()
        return "Found it."

    house = hosting(tools.web_search(second_hangs), dialect=dialect)
    house.fake.script([calls(call("web_search", query=str(at))) for at in range(2)], Answer(text="Again."))
    body = {"model": MODELS[dialect], "input": "Hi", "tools": [WEB], "stream": stream}
    caller = Caller(scope_of(), [encoded(body)])
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, house.gateway)
            await entered.wait()
            caller.leave()
    found = await get(house, f"/v1/responses/{ids[0]}")
    assert found["status"] == "cancelled" and found["usage"]["output_tokens"] > 0
    await house.ask({"input": "And?", "previous_response_id": ids[0], "tools": [WEB]})
    assert house.outputs()[0] == "Found it."
    assert [item["status"] for item in found["output"] if item["type"] != "reasoning"] == ["completed", "incomplete"]


async def test_a_failed_response_is_kept_with_the_work_so_far(hosting: Hosting) -> None:
    house = hosting(*ALL)
    for stream in (False, True):
        house.fake.script(calls(call("web_search", query="a")))
        house.fake.fail_next(Status(400))
        caller = await ask(house.gateway, {"model": "m", "input": "Hi", "tools": [WEB], "stream": stream})
        response = caller.events()[-1]["response"] if stream else caller.json()
        assert (await get(house, f"/v1/responses/{response['id']}"))["output"] == response["output"]


async def test_a_hosts_code_interpreter_does_not_bind_a_chain_to_its_first_target(hosting: Hosting) -> None:
    house, other = hosting(dialect="anthropic"), hosting()
    target = Target(house.provider, fallbacks=[Target(other.provider)])
    both = hosting(
        tools.code_interpreter(lambda call: "4"), dialect="anthropic", policy=lambda request: target, retries=ONCE
    )
    house.fake.fail_next(Status(503))
    other.fake.script(calls(call("code_interpreter", code="2+2")), Answer(text="4."))
    assert text_of(await both.ask({"input": "Hi", "tools": [CODE]})) == "4."


@pytest.mark.parametrize("given", [(), ALL])
async def test_a_tool_that_the_policy_adds_and_nobody_runs_is_told_to_the_host(hosting: Hosting, given: Any) -> None:
    target = Target("fake", tools=[{"type": "image_generation"}])
    house = hosting(*given, policy=lambda request: target)
    with pytest.raises(GatewayError) as failed:
        await house.ask({"input": "Hi"})
    assert failed.value.status == 500 and isinstance(failed.value.__cause__, LookupError) and house.sent == []


async def test_the_tokens_of_a_request_with_hosted_tools_can_be_counted(hosting: Hosting) -> None:
    house = hosting(*ALL)
    counts = []
    for declared in ([], [WEB]):
        body = encoded({"model": "m", "input": "Hi", "tools": declared})
        caller = await Caller(scope_of("/v1/responses/input_tokens"), [body]).run(house.gateway)
        counts.append(caller.json()["input_tokens"])
    assert counts[0] < counts[1]


async def test_functions_of_the_hosts_own_server_are_counted_too(hosting: Hosting) -> None:
    house = hosting(*ALL)
    counts = []
    for allowed in ([], ["lookup"]):
        body = encoded({"model": "m", "input": "Hi", "tools": [{**CRM, "allowed_tools": allowed}]})
        caller = await Caller(scope_of("/v1/responses/input_tokens"), [body]).run(house.gateway)
        counts.append(caller.json()["input_tokens"])
    assert counts[0] < counts[1]


@pytest.mark.parametrize("echoed", [False, True])
async def test_a_summary_is_made_of_what_the_model_has_read(hosting: Hosting, dialect: str, echoed: bool) -> None:
    house = hosting(*ALL, dialect=dialect)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    first = await house.ask({"input": "Weather?", "tools": [WEB]})
    if dialect == "responses":
        house.fake.fail_next(Status(404))
    house.fake.script(Answer(text="A summary."))
    said = {"input": first["output"]} if echoed else {"previous_response_id": first["id"]}
    body = encoded({"model": MODELS[dialect], **said})
    caller = await Caller(scope_of("/v1/responses/compact"), [body]).run(house.gateway)
    assert caller.status == 200 and "Found for rome" in house.outputs()[0]


async def test_a_tenants_one_place_is_enough_for_all_rounds(hosting: Hosting) -> None:
    house = hosting(*ALL, limits=Limits(tenant_concurrency=1))
    for more in ({}, {"stream": True}, {"background": True}):
        house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
        response = await house.ask({"input": "Weather?", "tools": [WEB], **more}, tenant="acme")
        await until(lambda: not house.gateway.background._here)
        assert response["status"] in ("completed", "queued") and not house.fake.pending


async def test_a_function_sees_the_context_of_its_request(hosting: Hosting) -> None:
    current: ContextVar[str] = ContextVar("current", default="nobody")
    seen: list[str] = []

    async def look(call: tools.Call) -> str:
        seen.append(current.get())
        return "x"

    house = hosting(tools.web_search(look))
    current.set("acme")
    for stream in (False, True):
        house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
        await house.ask({"input": "Weather?", "tools": [WEB], "stream": stream})
    assert seen == ["acme", "acme"]


async def test_what_ended_before_its_client_had_read_it_is_kept(hosting: Hosting) -> None:
    house = hosting(*ALL)
    house.fake.script(calls(call("web_search", query="rome")), Answer(text="Sunny."))
    async with await house.gateway.respond({"model": "m", "input": "Hi", "tools": [WEB], "stream": True}) as reply:
        stream: Any = reply.stream
        await reply.next()
        await until(lambda: stream.over)
        id = stream.reader.response_id
    assert (await get(house, f"/v1/responses/{id}"))["status"] == "completed"
