"""Whose a response is, and that nobody else can tell."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.history.ownership import OWNERS, Owner, Ownership
from gomodel_asgi.history.tenancy import Codec, Tenancy
from gomodel_asgi.seams.store import Record
from gomodel_asgi.stores import MemoryStore, NoStore, RedisStore, Store

OWNER = Owner("openai", "gpt-5", "f" * 32, 1_700_000_000.0, type="openai", conversation="conv_1")
OTHER = Owner("claude", None, "e" * 32, 1_700_000_001.5)


async def test_a_remembered_owner_is_found_with_all_that_is_known_of_it(store: Store) -> None:
    ownership = Ownership(store)

    assert await ownership.remember("acme", "resp_1", OWNER) is True
    assert await ownership.remember("acme", "resp_2", OTHER) is True
    assert OWNER == await ownership.find("acme", "resp_1")
    assert OTHER == await ownership.find("acme", "resp_2")


async def test_unknown_and_foreign_ids_have_no_owner(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)

    assert await ownership.find("acme", "resp_2") is None
    assert await ownership.find("other", "resp_1") is None
    assert await ownership.find(None, "resp_1") is None


async def test_the_same_id_of_two_tenants_is_two_responses(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    await ownership.remember("other", "resp_1", OTHER)

    assert await ownership.forget("other", "resp_1") is True
    assert OWNER == await ownership.find("acme", "resp_1")


async def test_a_foreign_id_can_neither_be_forgotten_nor_overwritten(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    await ownership.remember("other", "resp_1", OTHER)

    assert await ownership.forget(None, "resp_1") is False
    assert OWNER == await ownership.find("acme", "resp_1")


async def test_the_last_answer_to_an_id_owns_it(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    await ownership.remember("acme", "resp_1", OTHER)

    assert OTHER == await ownership.find("acme", "resp_1")


async def test_what_was_forgotten_is_unknown(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)

    assert await ownership.forget("acme", "resp_1") is True
    assert await ownership.forget("acme", "resp_1") is False
    assert await ownership.find("acme", "resp_1") is None


async def test_a_forgotten_tenant_owns_nothing(store: Store) -> None:
    ownership, tenancy = Ownership(store), Tenancy(store)
    await ownership.remember("acme", "resp_1", OWNER)
    await ownership.remember("other", "resp_1", OTHER)
    await tenancy.forget("acme", [OWNERS])

    assert await ownership.find("acme", "resp_1") is None
    assert OTHER == await ownership.find("other", "resp_1")


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "x" * 513, "a\nb", "ä", "\ud800", "a" * 1_000_000])
async def test_an_id_that_no_request_can_name_is_not_kept_and_not_looked_for(id: str) -> None:
    store = MemoryStore()
    ownership = Ownership(store)

    assert await ownership.remember("acme", id, OWNER) is False
    assert await ownership.find("acme", id) is None
    assert await ownership.forget("acme", id) is False
    assert 0 == len(store)


async def test_an_owner_lives_as_long_as_its_store_keeps_a_record() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0], ttl=60)
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    now[0] = 59.0
    assert OWNER == await ownership.find("acme", "resp_1")
    now[0] = 60.0
    assert await ownership.find("acme", "resp_1") is None


async def test_no_store_owns_nothing_and_minds_nothing() -> None:
    ownership = Ownership(NoStore())

    assert await ownership.remember("acme", "resp_1", OWNER) is True
    assert await ownership.find("acme", "resp_1") is None
    assert await ownership.forget("acme", "resp_1") is False


class Watched(MemoryStore):
    """Tells which calls were made, and how long their keys were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str, int]] = []

    async def get(self, collection: str, key: str) -> Record | None:
        self.calls.append(("get", collection, len(key)))
        return await super().get(collection, key)

    async def delete(self, collection: str, key: str) -> bool:
        self.calls.append(("delete", collection, len(key)))
        return await super().delete(collection, key)


@pytest.mark.parametrize("operation", ["find", "forget"])
async def test_unknown_and_foreign_ids_take_the_same_steps(operation: str) -> None:
    store = Watched()
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)

    async def steps(tenant: str, id: str) -> list[tuple[str, str, int]]:
        store.calls.clear()
        assert not await getattr(ownership, operation)(tenant, id)
        return store.calls.copy()

    assert await steps("other", "resp_1") == await steps("other", "resp_2") == await steps("acme", "resp_2")


# Bad records...


async def owner_records(store: Store) -> AsyncIterator[str]:
    async for key in store.scan(OWNERS):
        yield key


@pytest.mark.parametrize("rubbish", [b"", b"\x01", b"\x01\x80", b"rubbish", b"\x01\xc0"])
async def test_a_damaged_owner_is_an_unknown_one(store: Store, rubbish: bytes) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    async for key in owner_records(store):
        await store.put(OWNERS, key, rubbish)

    assert await ownership.find("acme", "resp_1") is None


async def test_an_owner_of_a_newer_schema_is_an_unknown_one(store: Store) -> None:
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    async for key in owner_records(store):
        await store.put(OWNERS, key, Codec(Owner, schema=77).encode(OWNER))

    assert await ownership.find("acme", "resp_1") is None


async def test_ownership_tells_when_its_store_is_down() -> None:
    ownership = Ownership(RedisStore("unix:///nowhere/at/all"))
    for call in (
        lambda: ownership.find("acme", "resp_1"),
        lambda: ownership.remember("acme", "resp_1", OWNER),
        lambda: ownership.forget("acme", "resp_1"),
    ):
        with pytest.raises(StoreUnavailable):
            await call()
