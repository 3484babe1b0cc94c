"""Where ids lead: to the account that issued them, for the tenant that was given them, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, NoStore, Provider, RoutingRequest, Target
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.observers import Warned
from gomodel_asgi.stores import MemoryStore, Record
from gomodel_asgi.testing import FakeProvider, Scripted, Stall

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.engines import Open
from ..support.remembering import provider_of, says
from ..support.tenants import CREATE, anyio_backend, created, of, one, tenant, two

__all__ = ["anyio_backend", "one", "two"]


@pytest.fixture
async def gateway(one: FakeProvider, two: FakeProvider) -> AsyncIterator[Gateway]:
    made = Gateway(
        providers=[
            provider_of("responses", one, "one", models=("one-*",)),
            provider_of("responses", two, "two", models=("two-*",)),
        ],
        tenant=tenant,
    )
    yield made
    await made.aclose()


async def look(
    gateway: Gateway, id: str, name: str | None, method: str = "GET", below: str = "", **more: Any
) -> Caller:
    return await ask(gateway, path=f"/v1/responses/{id}{below}", method=method, headers=of(name), **more)


@pytest.mark.parametrize("stream", [False, True])
async def test_operations_by_id_go_to_the_upstream_that_answered(
    gateway: Gateway, one: FakeProvider, two: FakeProvider, stream: bool
) -> None:
    id = await created(gateway, "two-large", stream=stream)

    assert (await look(gateway, id, "acme")).json()["id"] == id
    assert (await look(gateway, id, "acme", below="/input_items")).json()["data"]
    assert (await look(gateway, id, "acme", "DELETE")).json()["deleted"] is True
    assert len(two.requests) == 4
    assert not one.requests


async def test_a_stored_stream_is_resumed_at_its_owner(gateway: Gateway, two: FakeProvider) -> None:
    id = await created(gateway, "two-large", stream=True)

    caller = await look(gateway, id, "acme", query=b"stream=true&starting_after=4")

    assert caller.events()[0]["sequence_number"] == 5
    assert two.requests[-1].query == b"stream=true&starting_after=4"


async def test_a_background_response_of_the_upstream_is_cancelled_there(gateway: Gateway, two: FakeProvider) -> None:
    id = await created(gateway, "two-large", background=True)

    assert (await look(gateway, id, "acme", "POST", "/cancel")).json()["status"] == "cancelled"
    assert two.requests[-1].path.endswith("/cancel")


async def test_a_continued_response_goes_to_its_owner_byte_for_byte(gateway: Gateway, two: FakeProvider) -> None:
    id = await created(gateway, "two-large")
    body = b'{"model":"gpt-5","previous_response_id":"%s","input":"m\\u00f6re","n":1e0}' % id.encode()

    caller = await ask(gateway, body, headers=of("acme"))

    assert caller.status == 200
    assert two.requests[-1].body == body


async def test_the_policy_sees_who_answered_before(one: FakeProvider, two: FakeProvider) -> None:
    seen: list[Any] = []

    def policy(request: RoutingRequest) -> Target:
        seen.append(request.previous)
        return request.default()

    gateway = Gateway(providers=[provider_of("responses", one, "one")], policy=policy, tenant=tenant)
    id = await created(gateway, "m-1")
    await look(gateway, id, "acme")
    await created(gateway, "m-1", previous_response_id=id)

    assert seen[0] is None
    assert [(previous.provider, previous.model) for previous in seen[1:]] == [("one", "m-1")] * 2
    await gateway.aclose()


@pytest.mark.parametrize("name", ["other", "acme", None])
async def test_foreign_and_unknown_ids_have_the_same_answer(
    gateway: Gateway, two: FakeProvider, name: str | None
) -> None:
    foreign = await created(gateway, "two-large", "owner")
    answers = []
    for id in (foreign, "resp_unknown"):
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            caller = await look(gateway, id, name or "none", method, below)
            answers.append((caller.status, caller.content))
        caller = await ask(
            gateway, {**CREATE, "previous_response_id": id, "provider": "two"}, headers=of(name or "none")
        )
        answers.append((caller.status, caller.content))

    assert answers[:5] == answers[5:]
    assert {status for status, _ in answers[:4]} == {404}
    assert answers[4][0] == 400
    assert b'"previous_response_not_found"' in answers[4][1]
    assert b'"param":"previous_response_id"' in answers[4][1]
    assert len(two.requests) == 1


async def test_without_tenants_an_unknown_id_goes_to_the_native_target(gateway: Gateway, two: FakeProvider) -> None:
    headers = of(None, (b"x-gomodel-provider", b"two"))
    caller = await ask(gateway, path="/v1/responses/resp_elsewhere", method="GET", headers=headers)

    assert caller.status == 404
    assert two.requests[-1].path == "/v1/responses/resp_elsewhere"


async def test_an_id_is_never_sent_to_another_account(one: FakeProvider, two: FakeProvider) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target(request.provider or "one", api_key="sk-canary-own" if request.headers.get("x-own") else None)

    providers = [provider_of("responses", one, "one"), provider_of("responses", two, "two")]
    gateway = Gateway(providers=providers, policy=policy, tenant=tenant)
    id = await created(gateway, "m", provider="two")
    for more in ((b"x-gomodel-provider", b"one"), (b"x-own", b"1")):
        headers = of("acme", more)
        caller = await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=headers)
        assert (caller.status, caller.error["code"]) == (404, "response_not_found")
    own = of("acme", (b"x-own", b"1"), (b"x-gomodel-provider", b"two"))
    assert (await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=own)).status == 404

    assert len(one.requests) == 0
    assert len(two.requests) == 1
    await gateway.aclose()


async def test_an_item_of_another_tenant_cannot_be_referred_to(gateway: Gateway, two: FakeProvider) -> None:
    answer = await ask(gateway, {"model": "two-large", "input": "secret"}, headers=of("owner"))
    item = answer.json()["output"][0]["id"]
    spellings: list[Any] = [{"type": "item_reference", "id": item}, {"id": item}]

    for reference in spellings:
        body = {"model": "two-large", "input": [reference]}
        refused = await ask(gateway, body, headers=of("other"))
        assert (refused.status, refused.error["code"]) == (404, "item_not_found")
        assert len(two.requests) == 1
        allowed = await ask(gateway, body, headers=of("owner"))
        assert allowed.status == 200
        assert two.requests.pop().json()["input"] == [reference]


async def test_what_is_not_stored_is_not_known(gateway: Gateway) -> None:
    id = await created(gateway, "two-large", store=False)

    assert (await look(gateway, id, "acme")).status == 404
    assert len(gateway.store) == 0  # type: ignore[arg-type]


async def test_a_deleted_response_is_unknown(gateway: Gateway, two: FakeProvider) -> None:
    id = await created(gateway, "two-large")
    await look(gateway, id, "acme", "DELETE")
    asked = len(two.requests)

    assert (await look(gateway, id, "acme")).error["code"] == "response_not_found"
    assert len(two.requests) == asked


async def test_a_forgotten_tenant_has_no_responses(gateway: Gateway) -> None:
    mine, theirs = await created(gateway, "two-large"), await created(gateway, "two-large", "other")
    await gateway.forget("acme")

    assert (await look(gateway, mine, "acme")).status == 404
    assert (await look(gateway, theirs, "other")).status == 200


@pytest.mark.parametrize("model", ["one-m", "two-m"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_under_way_when_its_tenant_was_forgotten_is_forgotten_too(
    two: FakeProvider, model: str, stream: bool
) -> None:
    providers = [
        provider_of("chat", two, "one", models=("one-*",)),
        provider_of("responses", two, "two", models=("two-*",)),
    ]
    gateway = Gateway(providers=providers, tenant=tenant)
    two.script(Scripted(says("chat", "Hello.", stream=stream) if model == "one-m" else None, (Stall(after_events=0),)))
    caller = Caller(scope_of(headers=of("acme")), [encoded({"model": model, "input": "hi", "stream": stream})])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await two.received()
            await gateway.forget("acme")
            while not caller.complete:
                two.release()  # again, since it may have come before the reply began to wait
                await anyio.sleep(0.01)
    id = (caller.events()[-1]["response"] if stream else caller.json())["id"]

    assert (await look(gateway, id, "acme")).status == 404
    assert len(gateway.store) == 1, "the generation"  # type: ignore[arg-type]
    await gateway.aclose()


# Without a store...


async def test_without_a_store_ids_pass_untouched(one: FakeProvider) -> None:
    gateway = Gateway(providers=[provider_of("responses", one, "one")], store=NoStore())
    id = await created(gateway, "m", None)
    body = b'{"model":"m","input":[{"type":"item_reference","id":"x"}],"previous_response_id":"%s"}' % id.encode()

    assert (await look(gateway, id, None)).status == 200
    await ask(gateway, body)
    assert one.requests[-1].body == body
    await gateway.aclose()


async def test_without_a_store_a_tenant_needs_a_key_of_its_own_for_ids(one: FakeProvider) -> None:
    async def policy(request: RoutingRequest) -> Target:
        return Target("one", api_key="sk-canary-own" if request.tenant == "own" else None)

    gateway = Gateway(providers=[provider_of("responses", one, "one")], store=NoStore(), tenant=tenant, policy=policy)
    id = await created(gateway, "m", "own")

    assert (await look(gateway, id, "own")).status == 200
    refused = await look(gateway, id, "other")
    assert (refused.status, refused.error["code"]) == (501, "unsupported_response_operation")
    await gateway.aclose()


async def test_without_a_store_an_upstream_that_keeps_nothing_cannot_continue(one: FakeProvider) -> None:
    gateway = Gateway(providers=[provider_of("chat", one)], store=NoStore())
    caller = await ask(gateway, {"model": "m", "input": "hi", "previous_response_id": "resp_1"})

    assert (caller.status, caller.error["code"]) == (400, "previous_response_not_found")
    assert not one.requests
    await gateway.aclose()


# A store that fails...


class Broken(MemoryStore):
    """Fails as the test wants it to, in a way that no store may."""

    failure: Exception = StoreUnavailable("down")

    async def get(self, collection: str, key: str) -> Record | None:
        raise self.failure

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        raise self.failure


@pytest.mark.parametrize("failure", [StoreUnavailable("down"), OSError("rubbish"), ValueError("rubbish")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_needs_no_history_goes_on_without_the_store(
    one: FakeProvider, failure: Exception, stream: bool
) -> None:
    store = Broken()
    told: list[Any] = []
    store.failure = failure
    gateway = Gateway(providers=[provider_of("responses", one)], store=store, observers=[told.append])

    assert await created(gateway, "m", None, stream=stream)
    assert [record for record in told if isinstance(record, Warned)]
    refused = await ask(gateway, {**CREATE, "previous_response_id": "resp_1"})
    assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
    assert (await look(gateway, "resp_1", None)).status == 503
    await gateway.aclose()


class Slow:
    """A store that answers when the test lets it."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.atomic, self.enumerable, self.limitation, self.secret = True, True, "", self.inner.secret
        self.go = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def get(self, collection: str, key: str) -> Record | None:
        await self.go.wait()
        return await self.inner.get(collection, key)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_store_holds_back_the_end_of_a_reply_and_not_its_beginning(
    one: FakeProvider, stream: bool
) -> None:
    store: Any = Slow()
    gateway = Gateway(providers=[provider_of("responses", one)], store=store)
    caller = Caller(scope_of(), [encoded({**CREATE, "stream": stream})])
    async with anyio.create_task_group() as group:
        group.start_soon(caller.run, gateway)
        await caller.until(2)
        early = caller.content
        assert early
        if stream:
            assert b"response.completed" not in early
        else:
            assert len(early) == int(caller.headers["content-length"]) - 1
        store.go.set()
    assert caller.complete
    id = caller.events()[-1]["response"]["id"] if stream else caller.json()["id"]
    assert (await look(gateway, id, None)).status == 200
    await gateway.aclose()


# On every store...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stream", [False, True])
async def test_two_workers_share_what_they_learned(open_store: Open, one: FakeProvider, stream: bool) -> None:
    def worker() -> Gateway:
        return Gateway(providers=[provider_of("responses", one)], store=open_store(), tenant=tenant)

    first, second = worker(), worker()
    id = await created(first, "m", stream=stream)

    assert (await look(second, id, "acme")).status == 200
    assert (await look(second, id, "other")).status == 404
    await created(second, "m", previous_response_id=id)
    await first.aclose()
    await second.aclose()


async def test_a_gateway_that_closes_waits_for_what_it_is_writing(one: FakeProvider) -> None:
    store: Any = Slow()
    gateway = Gateway(providers=[provider_of("responses", one)], store=store)
    reply = await gateway.respond(CREATE)
    assert reply.before_end is not None
    store.go.set()
    await gateway.aclose()

    assert len(store.inner) > 0
    await reply.aclose()


def test_a_provider_of_another_address_is_another_account(one: FakeProvider) -> None:
    accounts = Gateway(providers=[provider_of("responses", one)]).state.records.accounts
    here, there = Provider("a", "http://a.test/v1"), Provider("a", "http://b.test/v1")

    assert len({accounts.of(here, None), accounts.of(there, None), accounts.of(here, "k"), accounts.of(here, "l")}) == 4
    assert accounts.of(here, "k") == accounts.of(here, "k")
