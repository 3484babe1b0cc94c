"""The bounds of the store in memory: entries, bytes and time, on any event loop."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest

from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.state import MemoryStore
from gomodel_asgi.state.memory import OVERHEAD


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"max_bytes": 0}, {"ttl": 0}, {"ttl": math.nan}])
def test_a_bound_that_is_not_positive_is_refused_at_construction(bounds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
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
