"""What the input of a create names is the tenant's own, also where the connection itself knows what it continues."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.observers import Warned
from gomodel_asgi.testing import Answer, FakeProvider, Reply

from ...support.driving import ask
from ...support.gateways import Make
from ...support.websocket_client import connected
from ...support.websocket_upstream import running

JSON = (b"content-type", b"application/json")
HOST = (b"host", b"testserver")
HELLO = {"role": "user", "content": "hi"}


def tenant(scope: Any) -> str | None:
    return dict(scope["headers"]).get(b"x-tenant", b"").decode() or None


async def answered(gateway: Gateway, provider: FakeProvider, name: bytes) -> list[dict[str, Any]]:
    """The output of a response that the upstream keeps, with reasoning, given to the tenant *name*."""
    provider.script(Answer(reasoning="Hm.", text="Yes."))
    caller = await ask(gateway, {"model": "m", "input": "hi"}, headers=[JSON, (b"x-tenant", name)])
    return list(caller.json()["output"])


@pytest.fixture
def gateway(provider: FakeProvider, make: Make) -> Gateway:
    return make(provider, tenant=tenant)


@pytest.mark.parametrize("type", ["item_reference", "image_generation_call"])
async def test_a_reference_to_another_tenants_item_is_refused(
    gateway: Gateway, provider: FakeProvider, type: str
) -> None:
    theirs = (await answered(gateway, provider, b"other"))[-1]["id"]
    mine = (await answered(gateway, provider, b"acme"))[-1]["id"]
    async with connected(gateway, headers=[HOST, (b"x-tenant", b"acme")]) as client:
        first = await client.talk("hello", store=False)
        asked = len(provider.requests)
        for id in (theirs, "msg_" + "0" * 50):
            await client.create([{"type": type, "id": id}], store=False, previous_response_id=first["id"])
            error = (await client.error())["error"]
            assert (error["code"], error["param"]) == ("item_not_found", "item_id")
            first = await client.talk("hello", store=False)
            asked += 1
        assert len(provider.requests) == asked

        await client.talk([{"type": type, "id": mine}], store=False, previous_response_id=first["id"])
        assert mine in provider.requests[-1]


async def test_reasoning_of_another_tenant_is_left_out(gateway: Gateway, provider: FakeProvider) -> None:
    theirs = (await answered(gateway, provider, b"other"))[0]["id"]
    async with connected(gateway, headers=[HOST, (b"x-tenant", b"acme")]) as client:
        first = await client.talk("hello", store=False)
        said = [{"type": "reasoning", "id": theirs, "summary": []}, HELLO]
        await client.talk(said, store=False, previous_response_id=first["id"])

    assert theirs not in provider.requests[-1]
    assert [item["role"] for item in provider.requests[-1].json()["input"]] == ["user", "assistant", "user"]


async def test_another_tenants_conversation_is_unknown(gateway: Gateway, provider: FakeProvider) -> None:
    made = await ask(gateway, {}, path="/v1/conversations", headers=[JSON, (b"x-tenant", b"other")])
    async with connected(gateway, headers=[HOST, (b"x-tenant", b"acme")]) as client:
        first = await client.talk("hello", store=False)
        await client.create("hi", store=False, conversation=made.json()["id"], previous_response_id=first["id"])

        assert (await client.error())["error"]["code"] == "conversation_not_found"
    assert not any(made.json()["id"] in request for request in provider.requests)


async def test_a_compaction_goes_on_on_the_connection(provider: FakeProvider, make: Make) -> None:
    whole = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "A sum."}}]}
    chunk = {**whole, "choices": [{"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}]}
    stream = Reply(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
    provider.script(Reply(whole), stream, stream)
    gateway = make(Provider("chat", provider.base_url, dialect="chat"), tenant=tenant)
    headers = [JSON, (b"x-tenant", b"acme")]
    compacted = await ask(gateway, {"model": "m", "input": "hi"}, path="/v1/responses/compact", headers=headers)
    item = compacted.json()["output"][-1]
    async with connected(gateway, headers=[HOST, (b"x-tenant", b"acme")]) as client:
        first = await client.talk("hello", store=False)
        await client.talk([item, HELLO], store=False, previous_response_id=first["id"])

    assert "A sum." in provider.requests[-1]


@pytest.mark.parametrize("tenant_of_it", ["other", "acme"])
async def test_an_id_of_another_tenants_is_not_continued_by_the_socket_that_was_given_it(
    make: Make, tenant_of_it: str
) -> None:
    """An upstream that lets clients choose ids gives it to whoever asks; that socket knows it then."""
    observed: list[Any] = []
    with running() as upstream:
        provider = Provider("up", upstream.base_url, websocket=True)
        gateway = make(provider, tenant=tenant, observers=[observed.append])
        records = gateway.state.records
        await records.claims.keep(tenant_of_it, records.accounts.upstream(provider), "resp_up1")
        async with connected(gateway, headers=[HOST, (b"x-tenant", b"acme")]) as client:
            first = await client.talk("hello", store=False)
            assert first["id"] == "resp_up1"
            if tenant_of_it == "acme":
                await client.talk("more", store=False, previous_response_id="resp_up1")
                return
            await client.create("more", store=False, previous_response_id="resp_up1")
            assert (await client.error())["error"]["code"] == "previous_response_not_found"
        assert len(upstream.frames) == 1
        assert [record for record in observed if isinstance(record, Warned)]
