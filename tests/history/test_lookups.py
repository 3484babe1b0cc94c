"""Items of the input that an upstream would look up: with tenants, only the tenant's own get there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gomodel_asgi import Gateway, MemoryStore
from gomodel_asgi.observers import Warned
from gomodel_asgi.testing import Answer, FakeProvider, Reply
from gomodel_asgi.wire.response import stream_of

from ..support.driving import Caller, ask
from ..support.remembering import EVENT_STREAM, provider_of
from ..support.serving import Served
from ..support.tenants import anyio_backend, of, one, tenant, two

__all__ = ["anyio_backend", "one", "two"]

THEIRS = "rs_" + "5" * 50
HELLO = {"role": "user", "content": "hi"}


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
async def gateway(one: FakeProvider, two: FakeProvider, told: list[Any]) -> AsyncIterator[Gateway]:
    """Two tenants, one credential at each upstream."""
    made = Gateway(
        providers=[
            provider_of("responses", one, "one", models=("one-*",)),
            provider_of("responses", two, "two", models=("two-*",)),
        ],
        tenant=tenant,
        observers=[told.append],
    )
    yield made
    await made.aclose()


async def thought(gateway: Gateway, one: FakeProvider, name: str | None) -> dict[str, Any]:
    """A response with reasoning, given to the tenant *name*."""
    one.script(Answer(reasoning="Hm.", text="Yes."))
    caller = await ask(gateway, {"model": "one-m", "input": "hi"}, headers=of(name))
    return dict(caller.json())


async def send(gateway: Gateway, items: Any, name: str | None = "acme", **members: Any) -> Caller:
    items = items if isinstance(items, str) else json.dumps(items)
    more = "".join(f',"{key}":{json.dumps(value)}' for key, value in members.items())
    return await ask(gateway, '{"model":"one-m","input":%s%s}' % (items, more), headers=of(name))


BARE = [
    '{"type":"reasoning","id":"ID"}',
    '{"type":"reasoning","id":"ID","summary":[]}',
    '{"type":"reasoning","id":"ID","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":null}',
    '{"id":"ID","summary":[],"content":[ ],"encrypted_content":"","type":"reasoning"}',
    '{"\\u0069d":"ID","type":"reasonin\\u0067","content":null,"status":"completed"}',
]


@pytest.mark.parametrize("bare", BARE)
async def test_reasoning_of_another_tenant_is_left_out(
    gateway: Gateway, one: FakeProvider, told: list[Any], bare: str
) -> None:
    theirs = (await thought(gateway, one, "other"))["output"][0]["id"]
    answers = []
    for id in (theirs, THEIRS):
        items = '[{"role":"user","content":"hi","n":1.50}, %s ,{"role":"user","content":"\\u0068o"}]' % bare
        caller = await send(gateway, items.replace("ID", id))
        answers.append((caller.status, len(caller.content)))
        sent = one.requests[-1].body
        assert id.encode() not in sent
        assert b'"input":[{"role":"user","content":"hi","n":1.50},{"role":"user","content":"\\u0068o"}]' in sent

    assert answers[0] == answers[1]
    assert answers[0][0] == 200
    assert [record for record in told if isinstance(record, Warned)]


@pytest.mark.parametrize("bare", BARE)
async def test_the_tenants_own_reasoning_is_sent_as_it_is(gateway: Gateway, one: FakeProvider, bare: str) -> None:
    mine = (await thought(gateway, one, "acme"))["output"][0]["id"]
    items = "[%s , %s]" % (bare.replace("ID", mine), json.dumps(HELLO))
    caller = await send(gateway, items)

    assert caller.status == 200
    assert b'"input":' + items.encode() in one.requests[-1].body


async def test_reasoning_that_brings_its_content_is_sent_as_it_is(gateway: Gateway, one: FakeProvider) -> None:
    items = [
        {"type": "reasoning", "id": THEIRS, "summary": [], "encrypted_content": "gAAA"},
        {"type": "reasoning", "id": THEIRS, "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        HELLO,
    ]

    assert (await send(gateway, items)).status == 200
    assert one.requests[-1].json()["input"] == items


async def test_reasoning_is_left_out_of_a_continued_response_too(gateway: Gateway, one: FakeProvider) -> None:
    first = await thought(gateway, one, "acme")
    caller = await send(gateway, [{"type": "reasoning", "id": THEIRS}, HELLO], previous_response_id=first["id"])

    assert caller.status == 200
    sent = one.requests[-1].json()
    assert (sent["previous_response_id"], sent["input"]) == (first["id"], [HELLO])


CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "Snow."}


@pytest.mark.parametrize("continued", [False, True])
async def test_what_was_said_after_reasoning_that_is_left_out_loses_its_id(
    gateway: Gateway, one: FakeProvider, continued: bool
) -> None:
    """OpenAI refuses an item that it knows to have followed reasoning which is not there."""
    more = {"previous_response_id": (await thought(gateway, one, "acme"))["id"]} if continued else {}
    search = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "q"},
    }
    answered = [RESULT, SAID | {"id": "msg_2"}, HELLO, CALL | {"id": "fc_2"}]
    reasoning = {"type": "reasoning", "id": THEIRS, "summary": []}
    followed = [search, SAID | {"id": "msg_1"}, CALL | {"id": "fc_1"}, *answered]
    caller = await send(gateway, [HELLO, reasoning, *followed], **more)

    assert caller.status == 200
    assert one.requests[-1].json()["input"] == [HELLO, search, SAID, CALL, *answered]


async def test_reasoning_that_another_account_issued_is_left_out(
    gateway: Gateway, one: FakeProvider, two: FakeProvider
) -> None:
    first = await thought(gateway, one, "acme")
    bare = {"type": "reasoning", "id": first["output"][0]["id"], "summary": []}
    body = {"model": "two-m", "input": [bare, HELLO]}
    callers = [
        await ask(gateway, {**body, **more}, headers=of("acme")) for more in ({}, {"previous_response_id": first["id"]})
    ]

    assert [caller.status for caller in callers] == [200, 200]
    assert not any(bare["id"] in request for request in two.requests)
    assert [request.json()["input"][-1] for request in two.requests] == [HELLO, HELLO]


PICTURE = '{"type":"image_generation_call","id":"ID"}'
FOREIGN = [
    PICTURE,
    '{"type":"image_generation_call","id":"ID","status":"completed","result":null}',
    '{"type":"some_call","id":"ID","data":[ ]}',
    '{"type":"item_reference","id":"ID"}',
    '{"id":"ID"}',
]


@pytest.mark.parametrize("item", FOREIGN)
async def test_an_item_without_its_substance_is_a_reference(gateway: Gateway, one: FakeProvider, item: str) -> None:
    theirs = (await thought(gateway, one, "other"))["output"][-1]["id"]
    mine = (await thought(gateway, one, "acme"))["output"][-1]["id"]
    asked = len(one.requests)
    refused = [await send(gateway, f"[{item}]".replace("ID", id)) for id in (theirs, "msg_" + "0" * 50)]
    assert [(caller.status, caller.error["code"]) for caller in refused] == [(404, "item_not_found")] * 2
    assert len(one.requests) == asked

    assert (await send(gateway, f"[{item}]".replace("ID", mine))).status == 200
    assert item.replace("ID", mine) in one.requests[-1]


@pytest.mark.parametrize(
    "beside", ["5", "null", '"x"', "[]", '{"role":"user","content":"hi","id":5}', '{"type":[],"id":"x"}']
)
async def test_what_is_no_item_does_not_hide_a_reference(gateway: Gateway, one: FakeProvider, beside: str) -> None:
    for item in FOREIGN:
        items = "[%s,%s]" % (beside, item.replace("ID", THEIRS))
        assert (await send(gateway, items)).status == 404
    assert not one.requests


@pytest.mark.parametrize("id", ["[]", "{}", "5", "null", '""', "true"])
async def test_a_reference_without_an_id_is_nobodys(gateway: Gateway, one: FakeProvider, id: str) -> None:
    item = '{"type":"item_reference","id":%s}' % id
    caller = await send(gateway, f"[{item}]")

    assert caller.status in (200, 404)
    first = await thought(gateway, one, "acme")
    body = '{"model":"two-m","input":[%s],"previous_response_id":"%s"}' % (item, first["id"])
    assert (await ask(gateway, body, headers=of("acme"))).status == 404


async def test_without_tenants_everything_is_sent_as_it_is(gateway: Gateway, one: FakeProvider) -> None:
    for item in [*BARE, *FOREIGN]:
        items = f"[{item} , {json.dumps(HELLO)}]".replace("ID", THEIRS)
        assert (await send(gateway, items, None)).status == 200
        assert b'"input":' + items.encode() in one.requests[-1].body


async def test_of_too_many_references_none_is_looked_for(gateway: Gateway, one: FakeProvider) -> None:
    caller = await send(gateway, [{"type": "reasoning", "id": f"rs_{n}"} for n in range(1001)])

    assert (caller.status, caller.error["param"]) == (400, "input")
    assert not one.requests


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("store", [True, False])
async def test_a_client_that_sends_back_all_that_it_got_is_understood(
    serve: Served, one: FakeProvider, store: bool
) -> None:
    origin = serve(Gateway(providers=[provider_of("responses", one, "one")], tenant=tenant))
    one.script(Answer(reasoning="Hm.", text="Yes."))
    headers = {"x-tenant": "acme"}
    async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="sk", default_headers=headers) as client:
        first = await client.responses.create(model="m", input="hi", store=store)
        said: Any = [HELLO, *(item.model_dump(exclude_unset=True) for item in first.output), HELLO]
        await client.responses.create(model="m", input=said, store=store)

    assert one.requests[-1].json()["input"] == said


# What a client can give back by id alone...

APPROVAL = {"id": "mcpr_1", "type": "mcp_approval_request", "name": "f", "server_label": "s", "arguments": "{}"}
ANSWER = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True}
FAILED = {"id": "ig_1", "type": "image_generation_call", "status": "failed", "result": None}


def asks_back(*, stream: bool) -> Reply:
    """A response that asks for an approval."""
    response = {"id": "resp_1", "object": "response", "status": "completed", "output": [APPROVAL, FAILED]}
    return Reply(stream_of(response), content_type=EVENT_STREAM) if stream else Reply(response)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [False, True])
async def test_an_approval_is_answered_by_the_tenant_that_was_asked_for_it(
    gateway: Gateway, one: FakeProvider, two: FakeProvider, told: list[Any], store: bool, stream: bool
) -> None:
    one.script(asks_back(stream=stream))
    body = {"model": "one-m", "input": "hi", "store": store, "stream": stream}
    assert (await ask(gateway, body, headers=of("acme"))).status == 200
    asked = len(one.requests)
    for items in ([ANSWER], [APPROVAL, ANSWER], [FAILED]):
        theirs = await send(gateway, items, "other", store=store)
        assert (theirs.status, theirs.error["code"]) == (404, "item_not_found")
    assert len(one.requests) == asked

    for items in ([APPROVAL, ANSWER], [FAILED, HELLO]):
        assert (await send(gateway, items, "acme", store=store)).status == 200
        assert one.requests[-1].json()["input"] == items
    elsewhere = await ask(gateway, {"model": "two-m", "input": [ANSWER]}, headers=of("acme"))
    assert (elsewhere.status, len(two.requests)) == (404, 0)
    assert not [record for record in told if isinstance(record, Warned)]

    await gateway.forget("acme")
    assert (await send(gateway, [ANSWER], "acme", store=store)).status == 404


async def test_of_a_response_that_is_not_stored_nothing_else_is_remembered(gateway: Gateway, one: FakeProvider) -> None:
    one.script(Answer(reasoning="Hm.", text="Yes."))
    await ask(gateway, {"model": "one-m", "input": "hi", "store": False}, headers=of("acme"))
    assert isinstance(gateway.store, MemoryStore)
    assert len(gateway.store) == 0
