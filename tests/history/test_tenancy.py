"""Keys keep tenants apart, tell nothing, and become useless when the tenant is forgotten."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from hashlib import blake2b
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory
from redis.asyncio import Redis

from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.history.tenancy import GENERATIONS, Tenancy, mac_of, packed, valid_id
from gomodel_asgi.seams.store import Record
from gomodel_asgi.stores import Encrypted, KeyValueStore, MemoryStore, NoStore, RedisStore, Store

from ..support.databases import RedisServer
from ..support.engines import Open

IDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.:=-", min_size=1, max_size=40)


class SameSecret(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.secret = b"s" * 32


async def placed(tenancy: Tenancy, tenants: list[str | None], ids: list[str]) -> set[str]:
    return {await tenancy.key(tenant, id) for tenant in tenants for id in ids}


# Keys...


async def test_tenants_and_ids_that_look_alike_have_keys_of_their_own() -> None:
    tenants = [None, "", "None", "a", "A", "ab", "a\0", "1:a", "-", "\u00e4", "a\u0308", "\ud800"]
    ids = ["a", "A", "b", "ba", "resp_1", "resp_1 "]
    keys = await placed(Tenancy(MemoryStore()), tenants, ids)

    assert len(tenants) * len(ids) == len(keys)


@given(st.lists(st.none() | st.text(), max_size=4), st.lists(st.none() | st.text(), max_size=4))
def test_only_equal_parts_are_packed_alike(one: list[str | None], other: list[str | None]) -> None:
    assert (one == other) == (packed(b"p", *one) == packed(b"p", *other))


async def test_a_key_tells_neither_tenant_nor_id_and_fits_every_engine() -> None:
    key = await Tenancy(MemoryStore()).key("acme", "resp_abc")

    assert 97 == len(key)
    assert set(key) <= set("0123456789abcdef.")


async def test_keys_of_one_tenant_begin_alike_and_others_do_not() -> None:
    tenancy = Tenancy(MemoryStore())
    prefix = await tenancy.prefix("acme")

    assert (await tenancy.key("acme", "a")).startswith(prefix)
    assert (await tenancy.key("acme", "b")).startswith(prefix)
    assert not (await tenancy.key("other", "a")).startswith(prefix)


async def test_keys_depend_on_the_secret_alone_and_not_on_the_process() -> None:
    same = {await Tenancy(SameSecret()).key("acme", "resp_1") for _ in range(3)}
    others = {await Tenancy(MemoryStore()).key("acme", "resp_1") for _ in range(3)}

    assert 1 == len(same)
    assert 3 == len(others - same)


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_the_prepared_hash_is_keyed_blake2b_message_after_message(key: bytes, message: bytes) -> None:
    mac = mac_of(key)

    assert [blake2b(each, key=key, digest_size=32).hexdigest() for each in (message, b"")] == [mac(message), mac(b"")]


def test_a_fingerprint_is_the_same_on_every_worker_and_hides_what_it_is_made_of() -> None:
    one, other = (Tenancy(RedisStore("redis://127.0.0.1", secret="0123456789abcdef")) for _ in range(2))
    print_ = one.fingerprint("openai", "sk-secret")

    assert print_ == other.fingerprint("openai", "sk-secret")
    assert print_ != one.fingerprint("openai", "sk-secret2")
    assert print_ != one.fingerprint("openais", "k-secret")
    assert 32 == len(print_)


@pytest.mark.parametrize("id", ["a", "resp_1", "A-Z.a:b=c_d", "...", "x" * 512])
def test_an_id_is_up_to_512_of_the_documented_alphabet(id: str) -> None:
    assert valid_id(id)


@pytest.mark.parametrize(
    "id", ["", ".", "..", "x" * 513, "a/b", "a b", "a\n", "\n", "ä", "a\0", "%00", "../a", None, 1, b"a", ["a"]]
)
def test_no_other_id_is_valid(id: object) -> None:
    assert not valid_id(id)


# Generations...


async def test_a_forgotten_tenant_has_new_keys_on_every_worker_and_its_records_are_deleted(open_store: Open) -> None:
    here, there = open_store(), open_store()
    first, second = Tenancy(here), Tenancy(there)
    for tenant in ("acme", "other", None):
        for id in ("a", "b"):
            await here.put("things", await first.key(tenant, id), b"one")
    old = await second.key("acme", "a")

    assert 2 == await first.forget("acme", ["things", "empty"])
    assert old != await second.key("acme", "a")
    assert await there.get("things", old) is None
    assert await there.get("things", await second.key("acme", "a")) is None
    for tenant in ("other", None):
        assert await there.get("things", await second.key(tenant, "a")) is not None
    await here.aclose()
    await there.aclose()


async def test_a_tenant_is_forgotten_also_where_nothing_can_be_enumerated() -> None:
    class Blind(MemoryStore):
        enumerable = False

    store = Blind()
    tenancy = Tenancy(store)
    await store.put("things", await tenancy.key("acme", "a"), b"one")

    assert 0 == await tenancy.forget("acme", ["things"])
    assert await store.get("things", await tenancy.key("acme", "a")) is None


async def test_nothing_kept_is_nothing_forgotten() -> None:
    class Stateless(NoStore):
        enumerable = True

    assert 0 == await Tenancy(NoStore()).forget("acme", ["things"])
    assert 0 == await Tenancy(Stateless()).forget("acme", ["things"])


async def test_each_forget_raises_the_generation() -> None:
    tenancy = Tenancy(MemoryStore())
    seen = [await tenancy.generation("acme")]
    for _ in range(3):
        await tenancy.forget("acme", [])
        seen.append(await tenancy.generation("acme"))

    assert sorted(set(seen)) == seen
    assert 0 == seen[0]
    assert 0 == await tenancy.generation("other")


class Lives(MemoryStore):
    """Tells how long each record that was written is to live."""

    def __init__(self, atomic: bool) -> None:
        super().__init__()
        self.atomic = atomic
        self.lives: list[float | None] = []

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        self.lives.append(ttl)
        await super().put(collection, key, value, ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        self.lives.append(ttl)
        return await super().add(collection, key, value, ttl=ttl)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        self.lives.append(ttl)
        return await super().swap(collection, key, expected, value, ttl=ttl)


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_generation_is_written_for_ever(atomic: bool) -> None:
    """Were it to expire, what was forgotten would be found again."""
    store = Lives(atomic)
    for _ in range(2):
        await Tenancy(store).forget("acme", [])

    assert [math.inf, math.inf] == store.lives


async def test_many_that_forget_at_once_all_succeed(workers: tuple[Store, Store]) -> None:
    tenancies = [Tenancy(store) for store in workers]
    await asyncio.gather(*(tenancies[i % 2].forget("acme", ["things"]) for i in range(8)))

    assert await tenancies[0].generation("acme") == await tenancies[1].generation("acme") > 0


RUBBISH = [b"", b"x", b"-1", b"0", b"000", b"1" * 5000, b"1\n", "١".encode(), b"\xff" * 8, b"\0" * 12]


async def place_of(store: Store) -> str:
    """The one key of a generation in *store*."""
    (place,) = [key async for key in store.scan(GENERATIONS)]
    return place


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
async def test_a_damaged_generation_is_a_new_one_and_the_next_forget_repairs_it(rubbish: bytes) -> None:
    """What was forgotten must not come back because a record was damaged."""
    store = MemoryStore()
    tenancy = Tenancy(store)
    keys = [await tenancy.key("acme", "a")]
    for _ in range(2):
        await tenancy.forget("acme", [])
        keys.append(await tenancy.key("acme", "a"))
        await store.put(GENERATIONS, await place_of(store), rubbish, ttl=math.inf)
        keys.append(await tenancy.key("acme", "a"))
    await tenancy.forget("acme", [])

    assert 6 == len({*keys, await tenancy.key("acme", "a")})


Damage = Callable[[bytes], Awaitable[object]]


class Damaged(NamedTuple):
    """A store on an engine, and what overwrites the value of its only generation there."""

    store: Store
    damage: Damage


@pytest.fixture(params=["redis", "key-value", "encrypted"])
async def damaged(request: pytest.FixtureRequest) -> AsyncGenerator[Damaged, None]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        name = f"t{os.urandom(8).hex()}"
        store: Store = RedisStore(server.url, namespace=name)
        async with Redis.from_url(server.url) as client:

            async def overwrite(value: bytes) -> None:
                (found,) = await client.keys(f"{name}:{GENERATIONS}:*")
                await client.set(found, value)

            yield Damaged(store, overwrite)
    elif request.param == "key-value":
        engine = KeyValueMemory()
        store = KeyValueStore(engine)

        async def replace(value: bytes) -> None:
            rubbish = {"version": -1, "value": value.hex() + "!"}
            await engine.put(await place_of(store), rubbish, collection=f"gomodel_{GENERATIONS}")

        yield Damaged(store, replace)
    else:
        inner = MemoryStore()
        store = Encrypted(inner, os.urandom(32))

        async def spoil(value: bytes) -> None:
            await inner.put(GENERATIONS, await place_of(inner), value, ttl=math.inf)

        yield Damaged(store, spoil)
    await store.aclose()


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
async def test_no_engine_lets_a_damaged_generation_read_as_one_that_was_never_raised(
    damaged: Damaged, rubbish: bytes
) -> None:
    tenancy = Tenancy(damaged.store)
    first = await tenancy.key("acme", "a")
    await tenancy.forget("acme", [])
    await damaged.damage(rubbish)

    assert await tenancy.generation("acme") < 0
    broken = await tenancy.key("acme", "a")
    await tenancy.forget("acme", [])
    assert await tenancy.generation("acme") > 0
    assert 3 == len({first, broken, await tenancy.key("acme", "a")})


async def test_a_generation_that_never_holds_still_is_given_up() -> None:
    class Restless(MemoryStore):
        """Somebody else is always quicker."""

        async def get(self, collection: str, key: str) -> Record | None:
            return Record(b"1", 1)

    with pytest.raises(StoreUnavailable, match="try again"):
        await Tenancy(Restless()).forget("acme", [])


async def test_a_store_that_is_not_atomic_can_forget_too() -> None:
    store = KeyValueStore(KeyValueMemory())
    tenancy = Tenancy(store)
    await tenancy.forget("acme", [])
    await tenancy.forget("acme", [])

    assert await tenancy.generation("acme") > 0
