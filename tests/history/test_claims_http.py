"""An upstream whose clients choose its ids gives nobody what is another's: neither to a tenant nor to whom has none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, MemoryStore, RoutingRequest, Target
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.history.ownership import HERE, OWNERS
from gomodel_asgi.observers import Warned
from gomodel_asgi.testing import FakeProvider, Reply
from gomodel_asgi.wire.response import stream_of

from ..support.driving import Caller, ask
from ..support.remembering import EVENT_STREAM, provider_of
from ..support.tenants import anyio_backend, of, one, tenant, two

__all__ = ["anyio_backend", "one", "two"]


def echoed(id: str, *, stream: bool = False) -> Reply:
    """A response with the id that the client asked for, as vLLM makes it of `request_id`."""
    part = {"type": "output_text", "text": "Hm.", "annotations": []}
    item = {"id": f"msg_{id}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    response: dict[str, Any] = {"id": id, "object": "response", "created_at": 1, "status": "completed", "model": "m"}
    response |= {"output": [item], "usage": None}
    return Reply(stream_of(response), content_type=EVENT_STREAM) if stream else Reply(response)


class Gateways:
    """Gateways that are closed at the end; *told* is what their observers were told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.made: list[Gateway] = []

    def make(self, *providers: Any, **options: Any) -> Gateway:
        self.made.append(Gateway(providers=providers, tenant=tenant, observers=[self.told.append], **options))
        return self.made[-1]

    @property
    def warnings(self) -> list[str]:
        return [record.message for record in self.told if isinstance(record, Warned)]


@pytest.fixture
async def gateways() -> AsyncIterator[Gateways]:
    made = Gateways()
    yield made
    for gateway in made.made:
        await gateway.aclose()


async def create(gateway: Gateway, name: str | None, **members: Any) -> Caller:
    return await ask(gateway, {"model": "m", "input": "hi", **members}, headers=of(name))


async def look(gateway: Gateway, name: str | None, id: str) -> Caller:
    return await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=of(name))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("newcomer", ["other", None])
async def test_a_newcomer_gets_its_reply_and_does_not_own_its_id(
    gateways: Gateways, one: FakeProvider, two: FakeProvider, stream: bool, several: bool, newcomer: str | None
) -> None:
    others = [provider_of("responses", two, "two", models=("two-*",))] if several else []
    gateway = gateways.make(provider_of("responses", one, "one", models=("m",)), *others)
    one.script(echoed("resp_secret"), echoed("resp_secret", stream=stream))
    assert (await create(gateway, "acme")).status == 200
    assert gateways.warnings == []

    answer = await create(gateway, newcomer, stream=stream, request_id="secret")
    assert answer.status == 200
    got = answer.events()[-1]["response"] if stream else answer.json()
    assert (got["id"], got["output"][0]["id"]) == ("resp_secret", "msg_resp_secret")
    assert len(gateways.warnings) == 1

    asked = len(one.requests)
    continued = await create(gateway, newcomer, previous_response_id="resp_secret")
    assert (continued.status, continued.error["code"]) == (400, "previous_response_not_found")
    referred = await create(gateway, newcomer, input=[{"type": "item_reference", "id": "msg_resp_secret"}])
    assert (referred.status, referred.error["code"]) == (404, "item_not_found")
    assert (await look(gateway, newcomer, "resp_secret")).status == 404
    assert len(one.requests) == asked

    one.script(echoed("resp_secret"), echoed("resp_more"))
    assert (await look(gateway, "acme", "resp_secret")).status == 200
    assert (await create(gateway, "acme", previous_response_id="resp_secret")).status == 200


async def test_an_item_that_another_tenant_holds_is_not_given_a_second_owner(
    gateways: Gateways, one: FakeProvider
) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"))
    mine = echoed("resp_other")
    mine.body["output"][0]["id"] = "msg_resp_secret"
    one.script(echoed("resp_secret"), mine)
    await create(gateway, "acme")
    await create(gateway, "other")
    assert len(gateways.warnings) == 1

    referred = await create(gateway, "other", input=[{"type": "item_reference", "id": "msg_resp_secret"}])
    assert (referred.status, referred.error["code"]) == (404, "item_not_found")


async def test_the_same_upstream_by_another_name_and_key_is_the_same_one(gateways: Gateways, one: FakeProvider) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target(request.provider or "one", api_key="sk-canary-own" if request.tenant == "third" else None)

    gateway = gateways.make(
        provider_of("responses", one, "one"), provider_of("responses", one, "also-one"), policy=policy
    )
    one.script(echoed("resp_secret"), echoed("resp_secret"), echoed("resp_secret"))
    await create(gateway, "acme")
    await create(gateway, "other", provider="also-one")
    await create(gateway, "third")

    for name, provider in (("other", "also-one"), ("third", "one")):
        caller = await create(gateway, name, previous_response_id="resp_secret", provider=provider)
        assert caller.status == 400
    assert len(one.requests) == 3


async def test_a_conversation_that_another_tenant_holds_is_not_given_a_second_owner(
    gateways: Gateways, one: FakeProvider
) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"))
    for name in ("acme", "other"):
        one.script(Reply({"id": "conv_1", "object": "conversation", "created_at": 1, "metadata": {}}))
        made = await ask(gateway, {}, path="/v1/conversations", headers=of(name))
        assert made.json()["id"] == "conv_1"
    assert len(gateways.warnings) == 1

    theirs = await ask(gateway, path="/v1/conversations/conv_1", method="GET", headers=of("other"))
    assert (theirs.status, theirs.error["code"]) == (404, "conversation_not_found")
    assert len(one.requests) == 2


async def test_a_background_response_of_the_upstream_is_claimed_too(gateways: Gateways, one: FakeProvider) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"))
    for name in ("acme", "other"):
        one.script(echoed("resp_secret"))
        await create(gateway, name, background=True)

    assert (await look(gateway, "other", "resp_secret")).status == 404
    cancel = await ask(gateway, path="/v1/responses/resp_secret/cancel", method="POST", headers=of("other"))
    assert cancel.status == 404
    assert len(one.requests) == 2


class Away(MemoryStore):
    """Takes no writes while it is *away*."""

    away = False

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        if self.away:
            raise StoreUnavailable("away")
        await super().put(collection, key, value, ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        if self.away:
            raise StoreUnavailable("away")
        return await super().add(collection, key, value, ttl=ttl)


@pytest.mark.parametrize("stream", [False, True])
async def test_without_the_store_there_is_no_claim_and_the_id_is_unknown(
    gateways: Gateways, one: FakeProvider, stream: bool
) -> None:
    store = Away()
    gateway = gateways.make(provider_of("responses", one, "one"), store=store)
    store.away = True
    one.script(echoed("resp_1", stream=stream))
    assert (await create(gateway, "acme", stream=stream)).status == 200
    assert gateways.warnings
    store.away = False

    assert (await create(gateway, "acme", previous_response_id="resp_1")).status == 400
    assert [key async for key in store.scan(OWNERS)] == []


# Callers without a tenant beside tenants...


@pytest.fixture
async def mixed(gateways: Gateways, one: FakeProvider) -> Gateway:
    gateway = gateways.make(provider_of("responses", one, "one"))
    one.script(echoed("resp_secret"))
    await create(gateway, "acme")
    one.requests.clear()
    return gateway


async def test_without_a_tenant_what_a_tenant_owns_is_unknown(mixed: Gateway, one: FakeProvider) -> None:
    for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        path = f"/v1/responses/resp_secret{below}"
        caller = await ask(mixed, path=path, method=method, headers=of(None))
        assert (caller.status, caller.error["code"]) == (404, "response_not_found")
    continued = await create(mixed, None, previous_response_id="resp_secret")
    assert (continued.status, continued.error["code"]) == (400, "previous_response_not_found")
    options = {"prompt_cache_options": {"comparison_response_id": "resp_secret"}}
    assert (await create(mixed, None, **options)).status == 400
    for item in (
        {"type": "item_reference", "id": "msg_resp_secret"},
        {"role": "assistant", "id": "msg_resp_secret", "content": []},
        {"role": "user", "content": [{"type": "item_reference", "id": "msg_resp_secret"}]},
    ):
        caller = await create(mixed, None, input=[item])
        assert (caller.status, caller.error["code"]) == (404, "item_not_found")
    assert not one.requests

    await create(mixed, None, input=[{"type": "reasoning", "id": "msg_resp_secret", "summary": []}])
    assert "msg_resp_secret" not in one.requests[-1]


async def test_without_a_tenant_what_nobody_owns_is_the_upstreams_to_know(mixed: Gateway, one: FakeProvider) -> None:
    assert (await look(mixed, None, "resp_other")).status == 404
    await create(mixed, None, input=[{"type": "item_reference", "id": "msg_other"}])
    assert [request.path for request in one.requests] == ["/v1/responses/resp_other", "/v1/responses"]


async def test_without_a_tenant_what_is_kept_here_for_a_tenant_is_unknown_to_a_native_upstream_too(
    gateways: Gateways, one: FakeProvider, two: FakeProvider
) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"), provider_of("chat", two, "two"))
    said = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hm."}}]}
    two.script(Reply(said))
    theirs = (await create(gateway, "acme", provider="two")).json()
    for id, item in ((theirs["id"], theirs["output"][0]["id"]),):
        hint = of(None, (b"x-gomodel-provider", b"one"))
        assert (await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=hint)).status == 404
        referred = await create(gateway, None, provider="one", input=[{"type": "item_reference", "id": item}])
        assert referred.status == 404
    assert not one.requests


# Items by their own path...


async def conversation(gateway: Gateway, name: str) -> tuple[str, str]:
    """A conversation of the tenant's, and an item that it has seen in it."""
    body = {"items": [{"role": "user", "content": f"of {name}"}]}
    id = (await ask(gateway, body, path="/v1/conversations", headers=of(name))).json()["id"]
    listed = await ask(gateway, path=f"/v1/conversations/{id}/items", method="GET", headers=of(name))
    return id, listed.json()["data"][0]["id"]


async def test_an_item_in_a_path_or_a_query_is_one_that_the_tenant_has_seen_there(
    gateways: Gateways, one: FakeProvider
) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"))
    _, their_item = await conversation(gateway, "other")
    mine, my_item = await conversation(gateway, "acme")
    asked = len(one.requests)
    for item in (their_item, "msg_unknown"):
        for method in ("GET", "DELETE"):
            caller = await ask(
                gateway, path=f"/v1/conversations/{mine}/items/{item}", method=method, headers=of("acme")
            )
            assert (caller.status, caller.error["code"]) == (404, "item_not_found")
        for query in (f"after={item}", f"limit=1&AFTER={item}", f"after={my_item}&after={item}", f"x=1;before={item}"):
            path = f"/v1/conversations/{mine}/items"
            caller = await ask(gateway, path=path, method="GET", headers=of("acme"), query=query.encode())
            assert (caller.status, caller.error["code"]) == (404, "item_not_found")
    assert len(one.requests) == asked

    path = f"/v1/conversations/{mine}/items"
    assert (await ask(gateway, path=f"{path}/{my_item}", method="GET", headers=of("acme"))).status == 200
    paged = await ask(gateway, path=path, method="GET", headers=of("acme"), query=f"after={my_item}".encode())
    assert paged.status == 200
    referred = await create(gateway, "acme", input=[{"type": "item_reference", "id": my_item}])
    assert referred.status == 404, "being listed gives no right to refer to it elsewhere"


async def test_the_input_of_a_response_is_paged_by_what_was_listed(gateways: Gateways, one: FakeProvider) -> None:
    gateway = gateways.make(provider_of("responses", one, "one"))
    items = [{"role": "user", "content": str(number)} for number in range(3)]
    id = (await create(gateway, "acme", input=items)).json()["id"]
    path = f"/v1/responses/{id}/input_items"
    first = (await ask(gateway, path=path, method="GET", headers=of("acme"), query=b"limit=1")).json()
    query = f"limit=1&after={first['last_id']}".encode()

    assert (await ask(gateway, path=path, method="GET", headers=of("acme"), query=query)).status == 200
    unknown = await ask(gateway, path=path, method="GET", headers=of("acme"), query=b"after=msg_unknown")
    assert (unknown.status, unknown.error["code"]) == (404, "item_not_found")


def test_the_upstream_of_what_is_kept_here_is_no_other(one: FakeProvider) -> None:
    gateway = Gateway(providers=[provider_of("responses", one, "one")])
    assert HERE != gateway.state.records.accounts.upstream(gateway.setup.registry.by_name["one"])
