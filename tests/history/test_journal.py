"""The bookkeeping of quotas: exact, the same whoever else writes, cheap whatever is kept, and right after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

from gomodel_asgi import Gateway, Limits, NoStore, Provider
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.history import journal
from gomodel_asgi.history.journal import LEAF, MOST_GONE, Head
from gomodel_asgi.history.quota import HEAD, HEADS, MOST_STEPS, USAGE, Quotas
from gomodel_asgi.history.records import Records
from gomodel_asgi.history.turns import TURNS, Turn
from gomodel_asgi.settings import MIB, Default
from gomodel_asgi.stores import Encrypted, KeyValueStore, MemoryStore, Record, Store

from ..support.engines import Open

TENANT = "acme"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def small_leaves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So small that a few responses need all that very many do."""
    monkeypatch.setattr(journal, "LEAF", 3)
    monkeypatch.setattr(journal, "MOST_GONE", 2)
    yield


def turn_of(size: int) -> Turn:
    return Turn(input=bytes(size), output=b"", account="a", type="chat")


class Tenant:
    """One worker's view of a tenant whose responses are kept within quotas."""

    def __init__(self, store: Store, *, entries: int | None = None, bytes: int | None = None) -> None:
        self.store = store
        self.records = Records(store)
        self.quotas = Quotas(self.records, entries, bytes)

    async def keep(self, id: str, size: int) -> bool:
        """As replies are kept: room is made, then they are written."""
        admitted = await self.quotas.admit(TENANT, id, turn_of(size))
        if admitted:
            await self.records.turns.keep(TENANT, id, turn_of(size))
        return admitted

    async def delete(self, id: str) -> None:
        """As a client does."""
        await self.records.delete(TENANT, id)
        await self.quotas.release(TENANT, id)

    async def size_of(self, id: str) -> int | None:
        turn = await self.records.turns.find(TENANT, id)
        return None if turn is None else len(turn.input)

    async def kept(self, ids: Any) -> dict[str, int]:
        """What is there of *ids*, with its size."""
        found = {id: await self.size_of(id) for id in ids}
        return {id: size for id, size in found.items() if size is not None}

    async def head(self) -> Head:
        return HEADS.decode(await self.store.get(USAGE, await self.records.tenancy.key(TENANT, HEAD))) or Head("none")


class Model:
    """What must be kept, written down in the simplest way."""

    def __init__(self, entries: int | None, bytes: int | None) -> None:
        self.entries = entries
        self.bytes = bytes
        self.kept: OrderedDict[str, int] = OrderedDict()

    def keep(self, id: str, size: int) -> None:
        if self.bytes is not None and size > self.bytes:
            return
        self.kept.pop(id, None)
        self.kept[id] = size
        while (self.entries is not None and len(self.kept) > self.entries) or (
            self.bytes is not None and sum(self.kept.values()) > self.bytes
        ):
            self.kept.popitem(last=False)


# Exact...

STEPS = st.lists(
    st.tuples(st.sampled_from(["keep", "keep", "keep", "delete"]), st.integers(0, 14), st.integers(0, 40)), max_size=80
)


@pytest.mark.usefixtures("small_leaves")
@given(STEPS, st.none() | st.integers(1, 12), st.none() | st.integers(1, 150))
@settings(max_examples=200, deadline=None)
def test_what_is_kept_is_what_the_simplest_rule_says(
    steps: list[tuple[str, int, int]], entries: int | None, bytes: int | None
) -> None:
    tenant, model = Tenant(MemoryStore(), entries=entries, bytes=bytes), Model(entries, bytes)
    ids = [f"resp_{number}" for number in range(15)]

    async def play() -> None:
        for what, number, size in steps:
            if what == "keep":
                before = dict(model.kept)
                model.keep(ids[number], size)
                assert await tenant.keep(ids[number], size) is (bytes is None or size <= bytes)
                if bytes is not None and size > bytes:
                    model.kept = OrderedDict(before)
            else:
                model.kept.pop(ids[number], None)
                await tenant.delete(ids[number])
            assert await tenant.kept(ids) == dict(model.kept)
        if entries is not None or bytes is not None:
            head = await tenant.head()
            assert (head.bytes, head.count) == (sum(model.kept.values()), len(model.kept))

    asyncio.run(play())


async def test_a_conversation_that_goes_on_among_many_others_is_the_newest_each_time(open_atomic: Open) -> None:
    store = open_atomic()
    tenant, model = Tenant(store, bytes=4000), Model(None, 4000)
    ids = [f"conv_{number}" for number in range(LEAF + 10)]
    for step in range(6):
        for number, id in enumerate(ids):
            if number % (step + 1) == 0:
                assert await tenant.quotas.admit_size(TENANT, id, 50 + 10 * step)
                model.keep(id, 50 + 10 * step)
    head = await tenant.head()
    await store.aclose()

    assert (head.bytes, head.count) == (sum(model.kept.values()), len(model.kept))


async def test_what_no_request_could_name_is_not_kept() -> None:
    store = MemoryStore()
    tenant = Tenant(store, entries=3)
    for id in ("", "x" * 513, "a b", "\ud800"):
        assert not await tenant.keep(id, 1)

    assert len(store) == 0


# Together...


async def test_workers_that_keep_at_once_agree_and_lose_nothing(open_atomic: Open) -> None:
    stores = [open_atomic(), open_atomic()]
    workers = [Tenant(store, bytes=100 * 60) for store in stores]
    ids = [f"resp_{number:03}" for number in range(120)]
    admitted = await asyncio.gather(*(workers[number % 2].keep(id, 100) for number, id in enumerate(ids)))
    head, kept = await workers[0].head(), await workers[1].kept(ids)
    for store in stores:
        await store.aclose()

    assert all(admitted)
    assert (head.bytes, head.count) == (6000, 60)
    assert len(kept) == 60


async def test_changes_from_one_loop_take_turns_and_leave_no_queue_behind(open_atomic: Open) -> None:
    store = open_atomic()
    tenant = Tenant(store, entries=5)
    tasks = [asyncio.create_task(tenant.keep(f"resp_{number}", 1)) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    head = await tenant.head()
    await store.aclose()

    assert not tenant.quotas._queues
    assert [one for one in results if one is not True and not isinstance(one, asyncio.CancelledError)] == []
    assert head.count == 5


# Cheap...


class Counting(MemoryStore):
    """Counts the calls, and the bytes that are read and written."""

    def __init__(self) -> None:
        super().__init__(max_entries=1_000_000, max_bytes=1024 * MIB)
        self.calls = self.moved = 0

    async def get(self, collection: str, key: str) -> Record | None:
        record = await super().get(collection, key)
        self._count(b"" if record is None else record.value)
        return record

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        self._count(value)
        await super().put(collection, key, value, ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        self._count(value)
        return await super().add(collection, key, value, ttl=ttl)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        self._count(value)
        return await super().swap(collection, key, expected, value, ttl=ttl)

    async def delete(self, collection: str, key: str) -> bool:
        self._count(b"")
        return await super().delete(collection, key)

    def _count(self, value: bytes) -> None:
        self.calls += 1
        self.moved += len(value)


def id_of(number: int) -> str:
    return f"resp_{number:048}"


@pytest.mark.parametrize("entries", [100, 20_000])
@pytest.mark.parametrize("full", [False, True], ids=["with room", "full"])
async def test_a_response_costs_the_same_whatever_is_kept_beside_it(entries: int, full: bool) -> None:
    store = Counting()
    tenant = Tenant(store, bytes=entries + (0 if full else 10 * LEAF))
    for number in range(entries):
        assert await tenant.quotas.admit_size(TENANT, id_of(number), 1)
    calls: list[int] = []
    moved: list[int] = []
    for number in range(entries, entries + 4 * LEAF):
        store.calls = store.moved = 0
        assert await tenant.quotas.admit_size(TENANT, id_of(number), 1)
        calls.append(store.calls)
        moved.append(store.moved)

    assert max(calls) <= (13 if full else 5), "one in so many writes, reads and deletes a leaf too"
    assert sum(calls) / len(calls) <= (10.2 if full else 4.1), "the generation, the head, the place, the head"
    assert max(moved) <= 5 * 2 * LEAF * 70, "the head, twice, and two leaves"


async def test_places_of_what_was_kept_anew_do_not_pile_up() -> None:
    store = Counting()
    tenant = Tenant(store, entries=100_000)
    ids = [id_of(number) for number in range(3 * LEAF)]
    assert await tenant.quotas.admit_size(TENANT, "resp_old", 1)
    worst = 0
    for _ in range(20):
        for id in ids:
            store.calls = 0
            assert await tenant.quotas.admit_size(TENANT, id, 1)
            worst = max(worst, store.calls)
    head = await tenant.head()

    assert head.count == 3 * LEAF + 1
    assert len(head.gone) <= MOST_GONE + 1
    assert worst <= 9


async def test_a_large_response_lets_very_many_small_ones_go_in_steps_none_of_which_is_made_twice() -> None:
    store = Counting()
    tenant = Tenant(store, bytes=5000)
    for number in range(5000):
        await tenant.quotas.admit_size(TENANT, id_of(number), 1)
    store.calls = 0
    assert await tenant.keep("resp_large", 4990)
    head = await tenant.head()

    assert (head.bytes, head.count) == (5000, 11)
    assert store.calls <= 4990 * 6 + (4990 / MOST_STEPS + 4990 / LEAF + 10) * 6
    assert await tenant.size_of("resp_large") == 4990


# After a crash...


class Crashing(MemoryStore):
    """Every call ends the worker once *left* calls have been made: before or after it has had its effect."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.after = False

    async def _made(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.left is None:
            return await call()
        self.left -= 1
        if self.left > 0:
            return await call()
        self.left = None
        if self.after:
            await call()
        raise Crash

    async def get(self, collection: str, key: str) -> Record | None:
        found: Record | None = await self._made(lambda: super(Crashing, self).get(collection, key))
        return found

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        await self._made(lambda: super(Crashing, self).put(collection, key, value, ttl=ttl))

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        version: int | None = await self._made(lambda: super(Crashing, self).add(collection, key, value, ttl=ttl))
        return version

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        version: int | None = await self._made(
            lambda: super(Crashing, self).swap(collection, key, expected, value, ttl=ttl)
        )
        return version

    async def delete(self, collection: str, key: str) -> bool:
        there: bool = await self._made(lambda: super(Crashing, self).delete(collection, key))
        return there


class Crash(Exception):
    """The worker is gone."""


@pytest.mark.usefixtures("small_leaves")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", range(1, 16))
async def test_a_crash_between_any_two_writes_is_healed_by_what_comes_next(where: int, after: bool) -> None:
    """Whatever is lost at that moment: no more is ever kept than may be, and in the end the books agree."""
    store = Crashing()
    tenant = Tenant(store, bytes=100)
    ids = [f"resp_{number}" for number in range(200)]
    for number in range(30):
        await tenant.keep(ids[number], 10)
        store.left, store.after = where, after
        try:
            await tenant.keep(ids[number // 3 if number % 2 else number], 11)
        except Crash:
            pass
        store.left = None
        assert sum((await tenant.kept(ids)).values()) <= 100 + 11, "what was about to be kept comes on top, at worst"
    for number in range(100, 130):
        assert await tenant.keep(ids[number], 10)
    head, kept = await tenant.head(), await tenant.kept(ids)

    assert kept == dict.fromkeys(ids[120:130], 10)
    assert (head.bytes, head.count) == (100, 10)


@pytest.mark.usefixtures("small_leaves")
@pytest.mark.parametrize("lost", range(6))
async def test_lost_records_of_the_journal_are_got_over(lost: int) -> None:
    """An engine that is short of memory may have dropped any of them, and any may be damaged."""
    for damaged in (False, True):
        store = MemoryStore()
        tenant = Tenant(store, bytes=200)
        ids = [f"resp_{number}" for number in range(200)]
        for number in range(40):
            await tenant.keep(ids[number], 10)
        for number, key in enumerate(sorted([key async for key in store.scan(USAGE)])):
            if number % 6 == lost:
                await (store.put(USAGE, key, b"\xff") if damaged else store.delete(USAGE, key))
        for number in range(100, 160):
            assert await tenant.keep(ids[number], 10)
        head, kept = await tenant.head(), await tenant.kept(ids[100:])

        assert kept == dict.fromkeys(ids[140:160], 10)
        assert (head.bytes, head.count) == (200, 20)


async def test_a_damaged_head_is_got_over_in_an_encrypted_store_too() -> None:
    inner = MemoryStore()
    tenant = Tenant(Encrypted(inner, bytes(32)), entries=3)
    await tenant.keep("resp_1", 1)
    await inner.put(USAGE, await tenant.records.tenancy.key(TENANT, HEAD), b"rubbish")

    for number in range(2, 7):
        assert await tenant.keep(f"resp_{number}", 1)
    assert (await tenant.head()).count == 3


async def test_a_head_that_never_holds_still_is_given_up() -> None:
    class Restless(MemoryStore):
        """Somebody else is always quicker."""

        async def swap(
            self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
        ) -> int | None:
            return None

    tenant = Tenant(Restless(), entries=3)
    await tenant.keep("resp_1", 1)
    with pytest.raises(StoreUnavailable, match="changed by others"):
        await tenant.keep("resp_2", 1)


async def test_a_forgotten_tenant_leaves_no_books_behind(open_atomic: Open) -> None:
    store = open_atomic()
    tenant = Tenant(store, entries=3 * LEAF)
    for number in range(2 * LEAF):
        await tenant.quotas.admit_size(TENANT, id_of(number), 1)
    gateway = Gateway(providers=[Provider("p", "http://p/v1")], store=store)
    await gateway.forget(TENANT)
    left = [key async for key in store.scan(USAGE)]
    head = await tenant.head()
    await store.aclose()

    assert left == []
    assert head == Head("none")


# The default...


def test_a_quarter_of_a_gigabyte_is_the_default() -> None:
    assert Limits().tenant_bytes == 256 * MIB
    assert isinstance(Limits().tenant_bytes, Default)
    assert "tenant_bytes=268435456," in repr(Limits())


def made(store: Store, **given: Any) -> Quotas:
    limits = Limits(**given)
    return Gateway(providers=[Provider("p", "http://p/v1")], store=store, limits=limits).state.quotas


def test_a_store_that_cannot_swap_does_without_the_default_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert made(KeyValueStore(KeyValueMemory())).bytes is None
    said = [entry.getMessage() for entry in caplog.records if entry.name == "gomodel_asgi.stores"]

    assert said == [
        "Nothing bounds what is stored of one tenant (Limits.tenant_bytes). "
        "The stores of py-key-value-aio cannot compare and swap. Use a store that can, or bound it there."
    ]


@pytest.mark.parametrize("store", [lambda: KeyValueStore(KeyValueMemory()), NoStore])
def test_a_store_that_cannot_swap_refuses_a_figure_that_was_given(store: Callable[[], Store]) -> None:
    for figure in (256 * MIB, 1):
        with pytest.raises(ValueError, match="quota"):
            made(store(), tenant_bytes=figure)


def test_what_keeps_nothing_or_not_so_much_needs_no_books(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gomodel_asgi.stores")
    assert made(NoStore()).bytes is None
    assert made(MemoryStore()).bytes is None
    assert made(MemoryStore(), tenant_bytes=None).bytes is None
    assert made(Encrypted(MemoryStore(), bytes(32))).bytes is None
    assert made(MemoryStore(max_bytes=1024 * MIB)).bytes == 256 * MIB
    assert made(MemoryStore(), tenant_bytes=MIB).bytes == MIB
    assert not [entry for entry in caplog.records if entry.name == "gomodel_asgi.stores"]


async def test_with_a_figure_that_the_memory_store_cannot_hold_no_record_of_it_is_written() -> None:
    store = MemoryStore()
    tenant = Tenant(store, bytes=256 * MIB)
    assert await tenant.keep("resp_1", 1)
    await tenant.delete("resp_1")
    await tenant.keep("resp_2", 1)

    assert [key async for key in store.scan(USAGE)] == []
    assert len([key async for key in store.scan(TURNS)]) == 1
