"""The bounds of the store in memory: entries, bytes and time, on any event loop."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.stores.memory import OVERHEAD, SHARE_OVERHEAD
from gomodel_asgi.stores.shares import Shares

from ..support.clock import Clock


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


async def keys(store: MemoryStore) -> list[str]:
    return [key async for key in store.scan("things")]


async def test_the_least_recently_used_record_goes_when_there_are_too_many() -> None:
    store = MemoryStore(max_entries=3)
    for key in ("a", "b", "c"):
        await store.put("things", key, b"")
    await store.get("things", "a")
    await store.put("things", "d", b"")

    assert ["c", "a", "d"] == await keys(store)
    assert 3 == len(store)


async def test_old_records_go_until_a_new_one_fits_the_bytes() -> None:
    room = 3 * (OVERHEAD + len("thingsa") + 100)
    store = MemoryStore(max_bytes=room)
    for key in ("a", "b", "c"):
        await store.put("things", key, bytes(100))
    assert room == store.size

    await store.put("things", "d", bytes(101))

    assert ["c", "d"] == await keys(store)
    assert store.size <= room


async def test_the_bytes_of_what_is_replaced_deleted_or_expired_are_given_back() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    for _ in range(3):
        await store.put("things", "a", bytes(1000))
    await store.put("things", "b", bytes(1000), ttl=1)
    await store.put("things", "c", bytes(1000), ttl=math.inf)
    await store.put("things", "c", bytes(1000))
    await store.delete("things", "a")
    await store.delete("things", "c")
    clock.now += 2
    await store.get("things", "b")

    assert 0 == store.size
    assert 0 == len(store)


async def test_a_record_larger_than_the_store_is_refused_and_the_others_stay() -> None:
    store = MemoryStore(max_bytes=1000)
    await store.put("things", "a", b"one")
    for write in (store.put, store.add):
        with pytest.raises(StoreUnavailable, match="larger than the whole store"):
            await write("things", "b", bytes(1000))

    assert ["a"] == await keys(store)


async def test_a_replaced_record_makes_no_room_at_the_cost_of_others() -> None:
    store = MemoryStore(max_entries=2)
    for key in ("a", "b", "b", "b"):
        await store.put("things", key, b"")

    assert ["a", "b"] == await keys(store)


async def test_records_for_ever_stay_while_records_that_expire_can_go() -> None:
    store = MemoryStore(max_entries=3)
    await store.put("things", "ever", b"", ttl=math.inf)
    for number in range(10):
        await store.put("things", str(number), b"")

    assert await store.get("things", "ever") is not None
    assert ["ever", "8", "9"] == await keys(store)


async def test_records_for_ever_are_bounded_too() -> None:
    store = MemoryStore(max_entries=3)
    for number in range(10):
        await store.put("things", str(number), b"", ttl=math.inf)

    assert ["7", "8", "9"] == await keys(store)


async def test_a_record_lives_exactly_its_time() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock, ttl=100)
    await store.put("things", "default", b"")
    await store.put("things", "own", b"", ttl=10)
    await store.put("things", "ever", b"", ttl=math.inf)

    clock.now += 9.99
    assert ["ever", "default", "own"] == await keys(store)
    clock.now += 0.01
    assert await store.get("things", "own") is None
    clock.now += 90
    assert ["ever"] == await keys(store)
    clock.now += 1e12
    assert await store.get("things", "ever") is not None


async def test_reading_does_not_lengthen_a_life() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock, ttl=10)
    await store.put("things", "a", b"")
    clock.now += 9
    assert await store.get("things", "a") is not None
    clock.now += 1
    assert await store.get("things", "a") is None


async def test_two_stores_share_neither_records_nor_secret() -> None:
    one, other = MemoryStore(), MemoryStore()
    await one.put("things", "a", b"")

    assert await other.get("things", "a") is None
    assert one.secret != other.secret
    assert 32 == len(one.secret)


async def test_a_scan_left_early_leaves_nothing_open() -> None:
    store = MemoryStore()
    for number in range(2500):
        await store.put("things", str(number), b"")
    scan = store.scan("things")
    assert "0" == await anext(scan)
    await scan.aclose()

    assert 2500 == len(await keys(store))


# Tenants share...


async def flood(store: MemoryStore, owner: str, count: int, value: bytes = b"", start: int = 0) -> None:
    for number in range(start, start + count):
        await store.put("things", f"{owner}.{number}", value)


async def kept(store: MemoryStore, owner: str) -> int:
    return len([key async for key in store.scan("things", f"{owner}.")])


@pytest.mark.parametrize(
    "bounds", [{"max_entries": 100}, {"max_bytes": 100 * (OVERHEAD + 20)}], ids=["entries", "bytes"]
)
@pytest.mark.parametrize("options", [{}, {"ttl": math.inf}], ids=["for a time", "for ever"])
async def test_one_tenant_cannot_push_out_what_others_keep(bounds: dict[str, Any], options: dict[str, Any]) -> None:
    store = MemoryStore(**bounds, **options)
    for owner in ("a", "b", "c"):
        await flood(store, owner, 20)
    await flood(store, "hostile", 1000)

    assert [await kept(store, owner) for owner in ("a", "b", "c")] == [20, 20, 20]
    assert 20 < await kept(store, "hostile") <= 40


async def test_the_largest_share_gives_way_first_and_of_it_what_was_used_least_recently() -> None:
    store = MemoryStore(max_entries=13)
    for owner, count in (("a", 3), ("b", 6), ("c", 4)):
        await flood(store, owner, count)
    await store.get("things", "b.0")
    await flood(store, "new", 2)

    assert [await kept(store, owner) for owner in ("a", "b", "c", "new")] == [3, 4, 4, 2]
    assert [number for number in range(6) if await store.get("things", f"b.{number}")] == [0, 3, 4, 5]
    await flood(store, "new", 20)
    assert sorted([await kept(store, owner) for owner in ("a", "b", "c", "new")]) == [3, 3, 3, 4]


async def test_few_large_records_and_many_small_ones_are_weighed_by_what_is_scarce() -> None:
    store = MemoryStore(max_entries=100, max_bytes=1_000_000)
    await flood(store, "large", 5, bytes(50_000))
    await flood(store, "many", 300)

    assert (await kept(store, "large"), await kept(store, "many")) == (5, 95)
    await flood(store, "large", 60, bytes(50_000), start=5)
    assert 10 <= await kept(store, "large") <= 19
    assert await kept(store, "many") >= 40


async def test_a_record_that_only_those_who_have_less_could_make_room_for_is_refused_and_nothing_is_lost() -> None:
    store = MemoryStore(max_bytes=20_000)
    await flood(store, "a", 4, bytes(1000))
    await flood(store, "b", 3, bytes(1000))
    before = sorted(await keys(store))
    for write in (store.put, store.add):
        with pytest.raises(StoreUnavailable, match="all others have less"):
            await write("things", "a.large", bytes(15_000))

    assert sorted(await keys(store)) == before
    assert await store.add("things", "a.large", bytes(6000)) is not None


@pytest.mark.parametrize("ttl", [None, math.inf])
async def test_a_record_that_is_refused_leaves_the_one_that_it_was_to_replace(ttl: float | None) -> None:
    store = MemoryStore(max_bytes=20_000)
    await store.put("things", "a.1", b"old", ttl=ttl)
    await flood(store, "b", 5, bytes(1000))
    with pytest.raises(StoreUnavailable):
        await store.put("things", "a.1", bytes(15_000))
    record = await store.get("things", "a.1")

    assert record is not None and record.value == b"old"
    assert store.lasts is (ttl is not None)


async def test_among_very_many_small_shares_the_one_goes_whose_owner_has_been_idle_longest() -> None:
    store = MemoryStore(max_entries=4096)
    for number in range(4096):
        await flood(store, str(number), 1)
    await store.get("things", "0.0")
    await flood(store, "new", 3)

    assert [await kept(store, owner) for owner in ("0", "1", "2", "3", "4", "new")] == [1, 0, 0, 0, 1, 3]
    await flood(store, "new", 100)
    assert await kept(store, "new") == 4, "a thousandth of the store"
    assert len(store) == 4096


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_written_and_deleted_the_books_are_right_and_the_bounds_hold(data: st.DataObject) -> None:
    clock = Clock()
    store = MemoryStore(max_entries=data.draw(st.integers(1, 12)), max_bytes=8000, clock=clock)
    owners, lives = st.sampled_from("abc"), st.sampled_from([None, 5.0, math.inf])
    writes = st.tuples(st.just("put"), owners, st.integers(0, 5), st.integers(0, 3000), lives)
    others = st.tuples(st.sampled_from(["get", "delete", "wait"]), owners, st.integers(0, 5), st.just(0), st.none())

    async def play() -> None:
        for what, owner, number, size, ttl in data.draw(st.lists(writes | others, max_size=40)):
            key = f"{owner}.{number}"
            if what == "put":
                with suppress(StoreUnavailable):
                    await store.put("things", key, bytes(size), ttl=ttl)
                    assert await store.get("things", key) is not None
            elif what == "wait":
                clock.now += 1
            else:
                await getattr(store, what)("things", key)
            check(store)

    asyncio.run(play())


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=80))
@settings(max_examples=200, deadline=None)
def test_the_largest_share_of_all_others_is_found_whatever_the_shares_become(changes: list[tuple[int, int]]) -> None:
    shares: Shares[int, None] = Shares(1)
    for owner, count in changes:
        share = shares.by_owner.get(str(owner))
        if share is None and not count:
            continue
        share = share or shares.opened(str(owner))
        share.entries.clear()
        share.entries.update(dict.fromkeys(range(count)))
        shares.settle(share)
        for one in [None, *shares.by_owner.values()]:
            others = [other.weight for other in shares.by_owner.values() if other is not one]
            largest = shares.largest_but(one)
            assert (largest.weight if largest is not None else None) == max(others, default=None)
            assert largest is None or largest is not one


def check(store: MemoryStore) -> None:
    """What is counted is what is there, within the bounds, and the heap is one."""
    shares, heap = store._shares.by_owner, store._shares._heap
    entries = [*store._lasting.values(), *(entry for share in shares.values() for entry in share.entries.values())]
    assert store.size == sum(entry.size for entry in entries) + max(0, len(shares) - 1) * SHARE_OVERHEAD
    assert len(entries) == len(store) <= store._max_entries
    assert store.size <= store.max_bytes
    assert sorted(map(id, heap)) == sorted(map(id, shares.values()))
    for at, share in enumerate(heap):
        assert share.at == at and share.entries and heap[(at - 1) >> 1 if at else 0].weight >= share.weight
        assert share.bytes == sum(entry.size for entry in share.entries.values())
        assert share.weight == max(share.bytes, len(share.entries) * store._shares.least)


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"max_bytes": 0}, {"ttl": 0}, {"ttl": math.nan}])
def test_a_bound_that_is_not_positive_is_refused_at_construction(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give|must"):
        MemoryStore(**bounds)


def test_many_threads_keep_the_books_in_order() -> None:
    store = MemoryStore(max_entries=50)

    async def work(thread: int) -> None:
        for number in range(500):
            key = str((number * 7 + thread) % 80)
            await store.put("things", key, bytes(number))
            await store.get("things", str(number % 80))
            await store.add("things", str(number % 60), b"", ttl=math.inf)
            await store.delete("things", str((number * 3) % 80))

    threads = [threading.Thread(target=lambda n=number: asyncio.run(work(n))) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    held = asyncio.run(weighed(store))
    assert held == store.size
    assert len(store) <= 50


async def weighed(store: MemoryStore) -> int:
    records = {key: await store.get("things", key) async for key in store.scan("things")}
    return sum(len(record.value) + len("things") + len(key) + OVERHEAD for key, record in records.items() if record)
