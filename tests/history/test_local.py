"""What a store in this process may offer beside: its values as they are, at once. None does by accident."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.history.ownership import OWNERS, Owner, Ownership
from gomodel_asgi.history.tenancy import Tenancy
from gomodel_asgi.seams.store import Local, Packable, Record, is_immediate, local_of
from gomodel_asgi.stores import Encrypted, MemoryStore
from gomodel_asgi.stores.circuit_breaker import Guarded, guarded
from gomodel_asgi.testing import FakeProvider
from tests.support.driving import ask
from tests.support.remembering import provider_of

OWNER = Owner("vllm", "m", "a" * 32, 1.0, upstream="u" * 32)


class OfTheHost:
    """A store of the host's own, a dict, that keeps values as they are."""

    atomic = True
    enumerable = True
    immediate = True
    limitation = ""

    def __init__(self) -> None:
        self.secret = os.urandom(32)
        self.held: dict[tuple[str, str], bytes | Packable] = {}
        self.lasting: dict[str, None] = {}
        self.kept: list[str] = []
        self.versions = 0

    @property
    def local(self) -> Local:
        return self

    def find(self, collection: str, key: str) -> bytes | Packable | None:
        return self.held.get((collection, key))

    def keep(
        self, collection: str, key: str, value: bytes | Packable, size: int, *, ttl: float | None = None
    ) -> object:
        self.kept.append(collection)
        self.held[collection, key] = value
        if ttl == math.inf:
            self.lasting[key] = None
        return None

    async def get(self, collection: str, key: str) -> Record | None:
        value = self.find(collection, key)
        if value is None:
            return None
        return Record(value if isinstance(value, bytes) else value.packed(), 1)

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        self.keep(collection, key, value, len(value), ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        if (collection, key) in self.held:
            return None
        self.keep(collection, key, value, len(value), ttl=ttl)
        return 1

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        if (collection, key) not in self.held:
            return None
        self.keep(collection, key, value, len(value), ttl=ttl)
        return 1

    async def delete(self, collection: str, key: str) -> bool:
        return self.held.pop((collection, key), None) is not None

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        for name, key in list(self.held):
            if name == collection and key.startswith(prefix):
                yield key

    async def aclose(self) -> None:
        return None


class PassingOn:
    """A store of the host's around another, that passes on all that it does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Changed(MemoryStore):
    """A store in memory that does something of its own."""


@pytest.mark.parametrize("make", [MemoryStore, OfTheHost])
async def test_a_local_store_keeps_an_owner_as_it_is_and_gives_it_as_bytes_to_whom_wants_those(make: Any) -> None:
    store = make()
    for tenant in (None, "acme"):
        assert await Ownership(store).remember(tenant, "resp_1" if tenant else "resp_0", OWNER) is True
    key = await Tenancy(store).key("acme", "resp_1")
    local = local_of(store)
    assert local is not None and local.find(OWNERS, key) is OWNER
    record = await store.get(OWNERS, key)

    assert record is not None and record.value == OWNER.packed()
    assert await Ownership(store).find("acme", "resp_1") is OWNER
    assert await Ownership(store).find("other", "resp_1") is None
    assert await Ownership(store).remember("other", "resp_1", OWNER) is False


async def test_an_owner_that_was_put_as_bytes_is_found_in_a_local_store_too() -> None:
    store = MemoryStore()
    await Ownership(store).remember("acme", "resp_1", OWNER)
    await store.put(OWNERS, await Tenancy(store).key("acme", "resp_1"), OWNER.packed())

    assert await Ownership(store).find("acme", "resp_1") == OWNER


async def test_an_owner_is_counted_with_the_name_of_its_model_which_may_be_long() -> None:
    store = MemoryStore(max_bytes=200_000)
    long = Owner("vllm", "m" * 100_000, "a" * 32, 1.0)
    assert await Ownership(store).remember(None, "resp_1", long) is True
    assert store.size > 100_000
    assert await Ownership(store).remember(None, "resp_2", long) is True

    assert await Ownership(store).find(None, "resp_1") is None
    assert await Ownership(store).find(None, "resp_2") is long


async def test_what_lasts_for_ever_in_a_local_store_is_looked_at() -> None:
    for store in (MemoryStore(), OfTheHost()):
        ownership, tenancy = Ownership(store), Tenancy(store)
        await ownership.remember("acme", "resp_1", OWNER)
        await tenancy.forget("acme", [OWNERS])

        assert await tenancy.generation("acme") > 0
        assert await ownership.find("acme", "resp_1") is None


@pytest.mark.parametrize("wrap", [PassingOn, lambda store: Encrypted(store, b"k" * 32)])
@pytest.mark.parametrize("inner", [MemoryStore, OfTheHost])
def test_what_wraps_a_local_store_is_none(wrap: Any, inner: Any) -> None:
    store = wrap(inner())

    assert local_of(inner()) is not None and is_immediate(inner())
    assert local_of(store) is None and not is_immediate(store)
    assert isinstance(guarded(store), Guarded)


def test_a_class_made_of_the_store_in_memory_is_asked_by_its_own_methods() -> None:
    assert local_of(Changed()) is None
    assert is_immediate(Changed()) and not isinstance(guarded(Changed()), Guarded)


async def test_a_gateway_on_a_local_store_of_the_hosts_begins_no_task_for_it() -> None:
    store = OfTheHost()
    with FakeProvider().run_in_thread() as fake:
        async with Gateway(providers=[provider_of("responses", fake)], store=store) as gateway:
            said = (await ask(gateway, {"model": "gpt-5", "input": "hi"})).json()
            kept, tasks = list(store.kept), list(gateway.state.tasks._running)
            again = await ask(gateway, path=f"/v1/responses/{said['id']}", method="GET")

    assert (kept, tasks) == ([OWNERS], [])
    assert again.status == 200 and again.json()["id"] == said["id"]
