"""An id that a tenant holds at an upstream is never given a second owner, whatever the upstream says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gomodel_asgi import MemoryStore
from gomodel_asgi.history.ownership import CLAIMS, OWNERS, Claims, Owner, Ownership
from gomodel_asgi.history.tenancy import Tenancy
from gomodel_asgi.stores import Encrypted, PostgresStore, RedisStore, Store
from gomodel_asgi.stores.circuit_breaker import Guarded

from ..support.clock import until
from ..support.engines import opener

OWNER = Owner("vllm", "m", "a" * 32, 1.0, upstream="u" * 32)


def owned(store: Store) -> Ownership:
    return Ownership(store)


async def test_the_first_tenant_holds_an_id_and_no_other_is_given_it(store: Store) -> None:
    ownership = owned(store)

    assert await ownership.remember("acme", "resp_1", OWNER) is True
    assert await ownership.remember("other", "resp_1", OWNER) is False
    assert await ownership.remember(None, "resp_1", OWNER) is False
    assert await ownership.find("acme", "resp_1") == OWNER
    assert await ownership.find("other", "resp_1") is None
    assert await ownership.find(None, "resp_1") is None


async def test_the_tenant_that_holds_an_id_may_be_given_it_again(store: Store) -> None:
    ownership = owned(store)
    again = Owner("vllm", "n", "a" * 32, 2.0, upstream="u" * 32)

    assert await ownership.remember("acme", "resp_1", OWNER) is True
    assert await ownership.remember("acme", "resp_1", again) is True
    assert await ownership.find("acme", "resp_1") == again


async def test_an_id_is_another_one_at_another_upstream(store: Store) -> None:
    ownership = owned(store)
    elsewhere = Owner("vllm", "m", "a" * 32, 1.0, upstream="w" * 32)

    assert await ownership.remember("acme", "resp_1", OWNER) is True
    assert await ownership.remember("other", "resp_1", elsewhere) is True
    assert await ownership.find("other", "resp_1") == elsewhere


async def test_a_claim_outlives_that_its_tenant_is_forgotten_and_its_record_deleted(store: Store) -> None:
    ownership, tenancy = owned(store), Tenancy(store)
    for id in ("resp_1", "resp_2"):
        await ownership.remember("acme", id, OWNER)
    await ownership.forget("acme", "resp_1")
    await tenancy.forget("acme", [OWNERS])

    for id in ("resp_1", "resp_2"):
        assert await ownership.find("acme", id) is None
        assert await ownership.remember("other", id, OWNER) is False
        assert await ownership.remember("acme", id, OWNER) is True


async def test_a_claim_ends_with_its_time() -> None:
    now = [0.0]
    store = MemoryStore(clock=lambda: now[0], ttl=60)
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    now[0] = 40.0
    assert await ownership.remember("acme", "resp_1", OWNER) is True
    now[0] = 99.0
    assert await ownership.remember("other", "resp_1", OWNER) is False
    now[0] = 100.0
    assert await ownership.remember("other", "resp_1", OWNER) is True


async def test_of_many_that_are_given_an_id_at_once_one_owns_it(workers: tuple[Store, Store]) -> None:
    ownerships = [Ownership(store) for store in workers]
    names = [f"tenant {number}" for number in range(12)]
    said = await asyncio.gather(
        *(ownerships[number % 2].remember(name, "resp_1", OWNER) for number, name in enumerate(names))
    )
    found = [await ownerships[0].find(name, "resp_1") for name in names]

    assert sum(said) == 1
    assert [owner is not None for owner in found] == said


async def test_a_damaged_claim_is_somebody_elses(store: Store) -> None:
    ownership, tenancy = owned(store), Tenancy(store)
    await store.put(CLAIMS, tenancy.claim(OWNER.upstream, "resp_1"), b"rubbish")

    assert await ownership.remember("acme", "resp_1", OWNER) is False


async def test_a_claim_tells_nothing_of_tenant_or_id(store: Store) -> None:
    await owned(store).remember("acme", "resp_1", OWNER)
    if not store.enumerable:
        return
    found = [(key, await store.get(CLAIMS, key)) async for key in store.scan(CLAIMS)]

    [(key, record)] = found
    assert record is not None and len(record.value) == 16 and b"acme" not in record.value
    if not isinstance(store, MemoryStore):  # its keys are read by this process alone
        assert len(key) == 64 and "resp" not in key and OWNER.upstream not in key


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_claim_and_record_are_one_round_trip(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[str] = []
    store = opener(kind, request)()
    await store.get("things", "a")
    module: Any = __import__(f"gomodel_asgi.stores.{kind}", fromlist=["answering"])
    whole = module.answering

    @asynccontextmanager
    async def counted(timeout: float, *failures: type[Exception]) -> AsyncIterator[None]:
        trips.append(kind)
        async with whole(timeout, *failures):
            yield

    monkeypatch.setattr(module, "answering", counted)
    assert isinstance(store, RedisStore | PostgresStore)
    for outer in (store, Encrypted(store, b"k" * 32), Guarded(store)):
        claims = Claims(outer, Tenancy(outer))
        trips.clear()
        assert await claims.keep("acme", "u", f"resp_{outer!r}", ("things", "b", b"value")) is True
        assert len(trips) == 1
        held = await outer.get("things", "b")
        assert held is not None and held.value == b"value"
    await store.aclose()


@pytest.mark.parametrize("kind", ["redis", "postgres", "encrypted"])
async def test_what_is_added_with_a_record_is_added_with_it_or_not_at_all(
    kind: str, request: pytest.FixtureRequest
) -> None:
    store: Any = opener(kind, request)()
    await store.put("others", "b", b"before")
    version = await store.add_with("things", "a", b"one", ("others", "b", b"with one"))
    assert (await store.get("things", "a")).version == version
    assert (await store.get("others", "b")).value == b"with one"

    assert await store.add_with("things", "a", b"two", ("others", "b", b"with two")) is None
    assert (await store.get("things", "a")).value == b"one"
    assert (await store.get("others", "b")).value == b"with one"

    await store.add_with("things", "c", b"short", ("others", "d", b"short"), ttl=0.02)

    async def over() -> bool:
        return await store.get("things", "c") is None and await store.get("others", "d") is None

    await until(over)
    assert await store.add_with("things", "c", b"again", ("others", "d", b"again")) is not None
    assert (await store.get("others", "d")).value == b"again"
    await store.aclose()


async def test_an_id_that_is_in_use_is_not_dropped_before_its_claim() -> None:
    """Others fill the store; a tenant that goes on using a response keeps it, and its claim."""
    for wrap in (lambda store: store, lambda store: Encrypted(store, b"k" * 32)):
        store: Any = wrap(MemoryStore(max_entries=10))
        ownership = Ownership(store)
        await ownership.remember("acme", "resp_1", OWNER)
        for number in range(50):
            await ownership.remember("flood", f"resp_f{number}", OWNER)
            assert await ownership.find("acme", "resp_1") == OWNER
        assert await ownership.remember("flood", "resp_1", OWNER) is False


async def test_an_owner_whose_claim_was_dropped_is_none() -> None:
    store = MemoryStore()
    ownership = Ownership(store)
    await ownership.remember("acme", "resp_1", OWNER)
    await store.delete(CLAIMS, Tenancy(store).claim(OWNER.upstream, "resp_1"))

    assert await ownership.find("acme", "resp_1") is None


async def test_a_tenant_that_is_given_very_many_ids_pushes_out_its_own_claims_and_no_others() -> None:
    for wrap in (lambda store: store, lambda store: Encrypted(store, b"k" * 32)):
        store: Any = wrap(MemoryStore(max_entries=1000))
        ownership = Ownership(store)
        for number in range(20):
            await ownership.remember("acme", f"resp_{number}", OWNER)
        for number in range(3000):
            await ownership.remember("flood", f"resp_f{number}", OWNER)
        for number in range(20):
            assert await ownership.remember("flood", f"resp_{number}", OWNER) is False
            assert await ownership.find("acme", f"resp_{number}") == OWNER
