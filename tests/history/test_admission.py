"""What a request brings is looked at once its policy has let the caller in, and refused where it cannot be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, MemoryStore, RoutingRequest, Target
from gomodel_asgi.errors import GatewayError, Unauthenticated
from gomodel_asgi.history.records import unknown_item
from gomodel_asgi.stores import Record
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import Caller, ask
from ..support.remembering import MODELS, provider_of, says
from ..support.tenants import anyio_backend, of, one, tenant, two

__all__ = ["anyio_backend", "one", "two"]

HELLO = {"role": "user", "content": "hi"}
UNKNOWN = "msg_" + "0" * 50


class Watched(MemoryStore):
    """Tells in which collections was looked."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[str] = []

    async def get(self, collection: str, key: str) -> Record | None:
        self.looks.append(collection)
        return await super().get(collection, key)


@pytest.fixture
async def gateway(one: FakeProvider, two: FakeProvider) -> AsyncIterator[Gateway]:
    providers = [
        provider_of("responses", one, "one", models=("one-*",)),
        provider_of("responses", two, "two", models=("two-*",)),
    ]
    made = Gateway(providers=providers, tenant=tenant)
    yield made
    await made.aclose()


async def response(gateway: Gateway, name: str, model: str = "one-m") -> dict[str, Any]:
    caller = await ask(gateway, {"model": model, "input": "hi"}, headers=of(name))
    assert caller.status == 200
    return dict(caller.json())


async def send(gateway: Gateway, path: str, items: str, name: str | None = "acme", model: str = "one-m") -> Caller:
    member = "items" if "conversations" in path else "input"
    body = '{"model":"%s","%s":%s}' % (model, member, items)
    return await ask(gateway, body, path=f"/v1/{path}", headers=of(name))


PATHS = ["responses", "responses/compact", "responses/input_tokens", "conversations"]


def nest(depth: int, brackets: str) -> str:
    opening, closing = ("[", "]") if brackets == "[]" else ('{"a":', "}")
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
async def test_what_is_nested_too_deep_to_be_examined_hides_nothing(
    gateway: Gateway, one: FakeProvider, brackets: str
) -> None:
    theirs = (await response(gateway, "other"))["output"][0]["id"]
    asked = len(one.requests)
    for depth in (1, 120, 126, 500, *range(930, 1010), 2000):
        items = '[{"role":"user","content":%s},{"type":"item_reference","id":"%s"}]' % (nest(depth, brackets), theirs)
        for path in PATHS:
            caller = await send(gateway, path, items)
            refused = (caller.status, caller.error["code"])
            assert refused == (404, "item_not_found") or (depth > 120 and refused == (400, "invalid_json"))
    assert len(one.requests) == asked


@pytest.mark.parametrize("path", PATHS)
async def test_items_are_guarded_by_every_operation_that_carries_them(
    gateway: Gateway, one: FakeProvider, two: FakeProvider, path: str
) -> None:
    theirs, mine = (await response(gateway, "other"))["output"][0], (await response(gateway, "acme"))["output"][0]
    asked = len(one.requests)
    bare = '{"type":"message","role":"assistant","status":"completed","id":"ID","more":"x"}'
    for reference in ('{"type":"item_reference","id":"ID"}', '{"id":"ID"}', bare):
        for id in (theirs["id"], UNKNOWN):
            caller = await send(gateway, path, f"[{reference}]".replace("ID", id))
            assert (caller.status, caller.error["code"]) == (404, "item_not_found")
        assert len(one.requests) == asked

        assert (await send(gateway, path, f"[{reference}]".replace("ID", mine["id"]))).status == 200
        assert one.requests[-1].body.endswith(reference.replace("ID", mine["id"]).encode() + b"]}")
        asked += 1

    elsewhere = await send(gateway, path, '[{"id":"%s"}]' % mine["id"], model="two-m")
    if path == "conversations":  # made at the provider that comes first
        assert elsewhere.status == 200
    else:
        assert elsewhere.status == 200
        assert two.requests[-1].json()["input"][0]["content"] == mine["content"]


@pytest.mark.parametrize("path", PATHS)
async def test_reasoning_that_others_may_have_issued_is_left_out_of_every_list(
    gateway: Gateway, one: FakeProvider, path: str
) -> None:
    one.script(Answer(reasoning="Hm.", text="Yes."))
    theirs = (await response(gateway, "other"))["output"][0]["id"]
    items = '[{"type":"reasoning","id":"%s","summary":[]},%s]' % (theirs, json.dumps(HELLO))

    assert (await send(gateway, path, items)).status == 200
    sent = one.requests[-1].json()
    assert sent.get("input", sent.get("items")) == [HELLO]


async def test_items_added_to_a_conversation_are_guarded(gateway: Gateway, one: FakeProvider) -> None:
    theirs = (await response(gateway, "other"))["output"][0]["id"]
    made = (await send(gateway, "conversations", "[]")).json()
    asked = len(one.requests)
    for id in (theirs, UNKNOWN):
        caller = await send(gateway, f"conversations/{made['id']}/items", '[{"type":"item_reference","id":"%s"}]' % id)
        assert (caller.status, caller.error["code"]) == (404, "item_not_found")
    assert len(one.requests) == asked


async def test_a_conversation_that_is_kept_here_refers_to_nothing_of_others(one: FakeProvider) -> None:
    gateway = Gateway(providers=[provider_of("chat", one)], tenant=tenant)
    one.script(says("chat", "Mine."), says("chat", "Theirs."))
    mine, theirs = [await response(gateway, name, MODELS["chat"]) for name in ("acme", "other")]
    for id in (theirs["output"][0]["id"], UNKNOWN):
        caller = await send(gateway, "conversations", '[{"type":"item_reference","id":"%s"}]' % id)
        assert (caller.status, caller.error["code"]) == (404, "item_not_found")
    id = mine["output"][0]["id"]
    made = await send(gateway, "conversations", '[{"type":"item_reference","id":"%s"}]' % id)
    assert made.status == 200
    at = f"/v1/conversations/{made.json()['id']}/items"
    listed = (await ask(gateway, path=at, method="GET", headers=of("acme"))).json()
    assert [item["content"][0]["text"] for item in listed["data"]] == ["Mine."]
    await gateway.aclose()


@pytest.mark.parametrize("dialect", ["responses", "chat"])
async def test_a_compaction_of_another_tenant_is_damaged_in_a_conversation_too(
    one: FakeProvider, two: FakeProvider, dialect: str
) -> None:
    providers = [provider_of(dialect, one, "one"), provider_of("chat", two, "two")]
    gateway = Gateway(providers=providers, tenant=tenant)
    items = {}
    for name in ("acme", "other"):
        two.script(says("chat", f"The sum of {name}."))
        body = {"model": "m", "input": "hi", "provider": "two"}
        caller = await ask(gateway, body, path="/v1/responses/compact", headers=of(name))
        items[name] = caller.json()["output"][-1]
    theirs = await send(gateway, "conversations", json.dumps([items["other"]]))
    assert (theirs.status, theirs.error["code"]) == (400, "invalid_encrypted_content")
    assert not one.requests

    assert (await send(gateway, "conversations", json.dumps([items["acme"]]))).status == 200
    if dialect == "responses":
        assert "The sum of acme." in one.requests[-1]
    await gateway.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_is_looked_for_in_items_before_the_policy_has_let_the_caller_in(one: FakeProvider) -> None:
    async def policy(request: RoutingRequest) -> Target:
        if request.headers.get("x-key") is None:
            raise Unauthenticated("Who are you?")
        return Target("one")

    store = Watched()
    gateway = Gateway(providers=[provider_of("responses", one, "one")], policy=policy, tenant=tenant, store=store)
    for items in ('[{"Type":"x"}]', '[{"id":"a"}]', "[[1]]"):
        for path in PATHS:
            assert (await send(gateway, path, items)).status == 401
    body = {"model": "m", "input": [{"id": "a"}], "previous_response_id": "resp_1"}
    assert (await ask(gateway, body, headers=of("acme"))).status == 401
    assert set(store.looks) <= {"owners", "generations"}

    store.looks.clear()
    assert (await ask(gateway, body, headers=of("acme", (b"x-key", b"1")))).status in (400, 404)
    assert "items" in store.looks
    await gateway.aclose()


async def test_a_response_and_a_conversation_are_both_to_be_the_callers_own(
    gateway: Gateway, one: FakeProvider
) -> None:
    mine = (await response(gateway, "acme"))["id"]
    theirs = (await ask(gateway, {}, path="/v1/conversations", headers=of("other"))).json()["id"]
    asked = len(one.requests)
    for conversation in (theirs, {"id": theirs}, "conv_unknown"):
        body = {"model": "one-m", "input": "hi", "previous_response_id": mine, "conversation": conversation}
        caller = await ask(gateway, body, headers=of("acme"))
        assert (caller.status, caller.error["code"]) == (404, "conversation_not_found")
    assert len(one.requests) == asked


@pytest.mark.parametrize("written", ['{"id":"MINE","ID":"THEIRS"}', '{"id":"THEIRS","id":"MINE"}'])
async def test_a_conversation_is_named_once(gateway: Gateway, one: FakeProvider, written: str) -> None:
    ids = [(await ask(gateway, {}, path="/v1/conversations", headers=of(name))).json()["id"] for name in ("acme", "b")]
    written = written.replace("MINE", ids[0]).replace("THEIRS", ids[1])
    caller = await ask(gateway, '{"model":"one-m","input":"hi","conversation":%s}' % written, headers=of("acme"))

    assert (caller.status, caller.error["code"]) == (400, "invalid_parameter")
    assert caller.error["param"] in ("conversation.ID", "conversation.id")
    assert len(one.requests) == 2


async def test_a_response_to_compare_a_prompt_with_is_to_be_the_callers_own(
    gateway: Gateway, one: FakeProvider, two: FakeProvider
) -> None:
    mine, theirs = (await response(gateway, "acme"))["id"], (await response(gateway, "other"))["id"]
    asked = len(one.requests)

    async def compared(id: Any, model: str = "one-m") -> Caller:
        body = {"model": model, "input": "hi", "prompt_cache_options": {"comparison_response_id": id}}
        return await ask(gateway, body, headers=of("acme"))

    for id in (theirs, "resp_unknown", 5):
        caller = await compared(id)
        assert (caller.status, caller.error["code"]) == (400, "previous_response_not_found")
        assert caller.error["param"] == "prompt_cache_options.comparison_response_id"
    assert (await compared(mine, "two-m")).status == 400
    assert (len(one.requests), len(two.requests)) == (asked, 0)

    assert (await compared(None)).status == 200
    assert (await compared(mine)).status == 200
    assert mine in one.requests[-1]


@pytest.mark.parametrize("item", ["[%s]", '{"role":"user","content":[%s]}', '{"type":"x","a":{"b":[%s]}}'])
async def test_a_reference_that_stands_where_none_can_is_refused(
    gateway: Gateway, one: FakeProvider, item: str
) -> None:
    mine = (await response(gateway, "acme"))["output"][0]["id"]
    for path in PATHS:
        caller = await send(gateway, path, "[%s]" % (item % '{"type":"item_reference","id":"%s"}' % mine))
        assert (caller.status, caller.error["param"]) == (400, "items[0]" if path == "conversations" else "input[0]")
    assert len(one.requests) == 1


async def test_text_that_speaks_of_references_is_text(gateway: Gateway, one: FakeProvider) -> None:
    for text in ('{"type":"item_reference","id":"x"}', "item_reference", '"type": "item_reference"', "\\u0069d"):
        items = json.dumps([{"role": "user", "content": [{"type": "input_text", "text": text}]}, HELLO])
        for path in PATHS:
            assert (await send(gateway, path, items)).status == 200


async def test_a_single_item_instead_of_a_list_is_guarded_too(gateway: Gateway, one: FakeProvider) -> None:
    for path in PATHS:
        for item in ('{"type":"item_reference","id":"x"}', '{"type":"reasoning","id":"x","summary":[]}'):
            caller = await send(gateway, path, item)
            assert caller.error["code"] == ("item_not_found" if path == "conversations" else "invalid_type")
        assert (await send(gateway, path, '{"type":"message","Type":"item_reference"}')).status == 400
    assert not one.requests


async def test_what_the_hosts_own_code_asks_is_guarded_too(gateway: Gateway, one: FakeProvider) -> None:
    theirs = (await response(gateway, "other"))["output"][0]["id"]
    reference = {"type": "item_reference", "id": theirs}
    for items in ([reference], [{"Type": "x"}], [[reference]]):
        with pytest.raises(GatewayError) as refused:
            await gateway.respond({"model": "one-m", "input": items}, tenant="acme")
        assert refused.value.status in (400, 404)
    assert len(one.requests) == 1


async def test_work_from_a_task_queue_is_guarded_too(one: FakeProvider, two: FakeProvider) -> None:
    """Between the request and the work on it, the policy may have come to choose another upstream."""
    chosen = ["chat"]
    providers = [provider_of("responses", one, "native"), provider_of("chat", two, "chat")]
    gateway = Gateway(providers=providers, policy=lambda request: Target(chosen[0]), tenant=tenant)
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    gateway.background.enqueue = enqueue
    items = [{"type": "web_search_call", "id": "ws_1"}, HELLO]
    queued = await ask(gateway, {"model": "m", "input": items, "background": True}, headers=of("acme"))
    chosen[0] = "native"
    assert await gateway.run_background(tickets[0])

    at = f"/v1/responses/{queued.json()['id']}"
    found = (await ask(gateway, path=at, method="GET", headers=of("acme"))).json()
    assert (found["status"], found["error"]["message"]) == ("failed", unknown_item().message)
    assert not one.requests
    await gateway.aclose()
