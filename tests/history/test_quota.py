"""What one tenant may keep, and what a forgotten one keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

from gomodel_asgi import Gateway, Limits
from gomodel_asgi.history.turns import TURNS
from gomodel_asgi.observers import Warned
from gomodel_asgi.stores import KeyValueStore, MemoryStore
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.engines import Open
from ..support.remembering import MODELS, provider_of, says
from ..support.worker import tenant


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running


async def created(gateway: Gateway, fake: FakeProvider, name: str, text: str = "hi") -> str:
    fake.script(says("chat", "ok"))
    headers = [(b"content-type", b"application/json"), (b"x-tenant", name.encode())]
    caller = await ask(gateway, {"model": "m", "input": text}, headers=headers)
    assert caller.status == 200
    return str(caller.json()["id"])


async def there(gateway: Gateway, id: str, name: str) -> bool:
    headers = [(b"x-tenant", name.encode())]
    return (await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=headers)).status == 200


async def test_the_oldest_responses_make_room(open_atomic: Open, fake: FakeProvider) -> None:
    gateway = Gateway(
        providers=[provider_of("chat", fake)], store=open_atomic(), tenant=tenant, limits=Limits(tenant_entries=2)
    )
    theirs = await created(gateway, fake, "other")
    ids = [await created(gateway, fake, "acme") for _ in range(3)]

    assert [await there(gateway, id, "acme") for id in ids] == [False, True, True]
    assert await there(gateway, theirs, "other")
    await gateway.aclose()


async def test_bytes_are_bounded_and_what_is_larger_is_not_kept(fake: FakeProvider) -> None:
    told: list[Any] = []
    gateway = Gateway(
        providers=[provider_of("chat", fake)],
        store=MemoryStore(),
        tenant=tenant,
        limits=Limits(tenant_bytes=5000),
        observers=[told.append],
    )
    ids = [await created(gateway, fake, "acme", "x" * 1500) for _ in range(3)]
    large = await created(gateway, fake, "acme", "x" * 6000)

    assert [await there(gateway, id, "acme") for id in ids] == [False, False, True]
    assert not await there(gateway, large, "acme")
    assert any("quota" in record.message for record in told if isinstance(record, Warned))
    await gateway.aclose()


def test_a_store_that_cannot_tell_workers_apart_is_refused_at_construction(fake: FakeProvider) -> None:
    with pytest.raises(ValueError, match="quota"):
        Gateway(
            providers=[provider_of("chat", fake)],
            store=KeyValueStore(KeyValueMemory()),
            limits=Limits(tenant_entries=2),
        )


async def test_forgetting_a_tenant_deletes_all_that_is_stored_of_it(open_atomic: Open, fake: FakeProvider) -> None:
    store = open_atomic()
    gateway = Gateway(providers=[provider_of("chat", fake)], store=store, tenant=tenant)
    mine, theirs = await created(gateway, fake, "acme"), await created(gateway, fake, "other")

    assert await gateway.forget("acme") >= 2
    assert not await there(gateway, mine, "acme")
    assert await there(gateway, theirs, "other")
    assert len([key async for key in store.scan(TURNS)]) == 1
    await gateway.aclose()


async def test_conversations_count_like_responses(open_atomic: Open, fake: FakeProvider) -> None:
    gateway = Gateway(
        providers=[provider_of("chat", fake)],
        store=open_atomic(),
        tenant=tenant,
        limits=Limits(tenant_bytes=5000, tenant_entries=2),
    )
    headers = [(b"content-type", b"application/json"), (b"x-tenant", b"acme")]

    async def send(path: str, body: Any, method: str = "POST") -> Any:
        return await ask(gateway, body, path=f"/v1/{path}", method=method, headers=headers)

    small = {"items": [{"role": "user", "content": "x" * 1500}]}
    first = (await send("conversations", small)).json()["id"]
    for path in (f"conversations/{first}/items", "conversations"):
        refused = await send(path, {"items": [{"role": "user", "content": "x" * 6000}]})
        assert (refused.status, refused.error["code"]) == (400, "quota_exceeded")

    ids = [(await send("conversations", small)).json()["id"] for _ in range(2)]
    statuses = [(await send(f"conversations/{id}", b"", "GET")).status for id in (first, *ids)]
    assert statuses == [404, 200, 200]
    await gateway.aclose()


@pytest.mark.parametrize("dialect", ["chat", "responses"])
async def test_what_is_deleted_makes_room(open_atomic: Open, fake: FakeProvider, dialect: str) -> None:
    with FakeProvider().run_in_thread() as other:
        gateway = Gateway(
            providers=[provider_of(dialect, fake), provider_of("responses", other, "other", models=())],
            store=open_atomic(),
            tenant=tenant,
            limits=Limits(tenant_entries=2),
        )
        headers = [(b"content-type", b"application/json"), (b"x-tenant", b"acme")]

        async def send(path: str, body: Any, method: str = "POST") -> Any:
            return await ask(gateway, body, path=f"/v1/{path}", method=method, headers=headers)

        async def made() -> str:
            if dialect == "chat":
                fake.script(says("chat", "ok"))
            answer = await send("responses", {"model": MODELS[dialect], "input": "hi"})
            return str(answer.json()["id"])

        first, *others = [await made() for _ in range(2)]
        for _ in range(3):
            assert (await send(f"responses/{others.pop()}", b"", "DELETE")).status == 200
            others.append(await made())
        assert await gateway.state.records.turns.find("acme", first) is not None
        if dialect == "chat":
            assert (await send(f"responses/{others.pop()}", b"", "DELETE")).status == 200
            body = {"metadata": {}, "items": [{"role": "user", "content": "hi"}]}
            for _ in range(3):
                conversation = (await send("conversations", body)).json()["id"]
                assert (await send(f"conversations/{conversation}", b"", "DELETE")).status == 200
            assert await gateway.state.records.turns.find("acme", first) is not None
        await made()
        await made()
        assert await gateway.state.records.turns.find("acme", first) is None
        await gateway.aclose()
