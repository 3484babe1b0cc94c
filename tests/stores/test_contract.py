"""What every store keeps, whatever engine it stands on."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import AsyncIterator

import pytest

from gomodel_asgi.seams.store import MOST_KEYS, delete_many, get_many, require_atomic
from gomodel_asgi.stores import NoStore, Record, Store
from gomodel_asgi.stores.circuit_breaker import Guarded

from ..support.clock import until
from ..support.engines import Open

SHORT = 0.02
"""Seconds: a time to live that is over before anyone looks, sooner or later."""


async def keys_in(scan: AsyncIterator[str]) -> list[str]:
    return sorted({key async for key in scan})


async def value_of(store: Store, key: str) -> bytes | None:
    record = await store.get("things", key)
    return None if record is None else record.value


# Keeping...


async def test_what_was_put_is_got(store: Store) -> None:
    await store.put("things", "a", b"one")

    assert b"one" == await value_of(store, "a")


async def test_what_was_never_put_is_absent(store: Store) -> None:
    assert await store.get("things", "a") is None


async def test_a_put_replaces_what_was_there(store: Store) -> None:
    await store.put("things", "a", b"one")
    await store.put("things", "a", b"two")

    assert b"two" == await value_of(store, "a")


@pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), os.urandom(1_000_000)], ids=len)
async def test_any_bytes_come_back_as_they_were(store: Store, value: bytes) -> None:
    await store.put("things", "a", value)

    assert value == await value_of(store, "a")


@pytest.mark.parametrize("key", ["x" * 512, "*", "[a]", "a?c", "a\\b", "%", "_", "'; --", "{}"])
async def test_a_key_means_itself_and_nothing_else(store: Store, key: str) -> None:
    await store.put("things", "abc", b"other")
    assert await store.get("things", key) is None

    await store.put("things", key, b"mine")

    assert b"mine" == await value_of(store, key)
    assert [key] == await keys_in(store.scan("things", key))


async def test_collections_are_apart(store: Store) -> None:
    await store.put("things", "a", b"thing")
    await store.put("others", "a", b"other")
    await store.delete("others", "a")

    assert b"thing" == await value_of(store, "a")
    assert await store.get("others", "a") is None


async def test_a_deleted_record_is_absent_and_delete_says_whether_there_was_one(store: Store) -> None:
    await store.put("things", "a", b"one")

    assert await store.delete("things", "a") is True
    assert await store.delete("things", "a") is False
    assert await store.get("things", "a") is None


async def test_another_worker_sees_what_one_wrote(workers: tuple[Store, Store]) -> None:
    here, there = workers
    await here.put("things", "a", b"one")

    assert b"one" == await value_of(there, "a")


async def test_a_closed_store_opens_anew(store: Store) -> None:
    await store.put("things", "a", b"one")
    await store.aclose()
    await store.aclose()

    assert b"one" == await value_of(store, "a")


async def test_the_repr_of_a_store_and_of_a_record_show_no_value_and_no_secret(store: Store) -> None:
    await store.put("things", "a", b"confidential")
    shown = f"{store!r} {await store.get('things', 'a')!r}"

    assert "confidential" not in shown
    assert repr(store.secret) not in shown
    assert "://" not in shown


# Several at once...


@pytest.mark.parametrize("is_guarded", [False, True], ids=["bare", "guarded"])
async def test_records_that_are_read_together_come_in_the_order_asked_for(store: Store, is_guarded: bool) -> None:
    asked = Guarded(store) if is_guarded else store
    for key in ("a", "b", "c"):
        await store.put("things", key, key.encode())
    await store.put("others", "d", b"d")

    found = await get_many(asked, "things", ["c", "none", "a", "d", "c"])

    assert [None if record is None else record.value for record in found] == [b"c", None, b"a", None, b"c"]
    assert found[0] == await store.get("things", "c")
    assert await get_many(asked, "things", []) == []


async def test_more_records_than_one_trip_carries_are_read_and_deleted_together(store: Store) -> None:
    keys = [f"k{number:04}" for number in range(2 * MOST_KEYS + 3)]
    for key in keys:
        await store.put("things", key, key.encode())
    await store.put("things", "other", b"")

    found = await get_many(store, "things", keys)
    assert [record.value.decode() for record in found if record is not None] == keys

    await delete_many(store, "things", keys)
    assert ["other"] == await keys_in(store.scan("things"))


@pytest.mark.parametrize("is_guarded", [False, True], ids=["bare", "guarded"])
async def test_deleting_together_leaves_everything_else(store: Store, is_guarded: bool) -> None:
    for key in ("a", "b", "c"):
        await store.put("things", key, b"")
        await store.put("others", key, b"")

    await delete_many(Guarded(store) if is_guarded else store, "things", ["a", "none", "c"])
    await delete_many(store, "things", [])

    assert ["b"] == await keys_in(store.scan("things"))
    assert ["a", "b", "c"] == await keys_in(store.scan("others"))


async def test_a_record_whose_time_is_over_is_absent_from_those_read_together(store: Store) -> None:
    async def gone() -> bool:
        return await get_many(store, "things", ["a", "b"]) == [None, await store.get("things", "b")]

    await store.put("things", "a", b"one", ttl=SHORT)
    await store.put("things", "b", b"two")
    await until(gone)
    assert b"two" == await value_of(store, "b")


# Adding and swapping...


async def test_add_keeps_only_what_is_not_there_yet(workers: tuple[Store, Store]) -> None:
    here, there = workers
    version = await here.add("things", "a", b"first")

    assert await there.add("things", "a", b"second") is None
    assert await there.get("things", "a") == Record(b"first", version or 0)


async def test_add_works_again_after_delete(workers: tuple[Store, Store]) -> None:
    here, there = workers
    await here.add("things", "a", b"first")
    await there.delete("things", "a")

    assert await here.add("things", "a", b"second") is not None
    assert b"second" == await value_of(there, "a")


async def test_swap_replaces_the_version_that_was_read_and_gives_the_next(workers: tuple[Store, Store]) -> None:
    here, there = workers
    first = await here.add("things", "a", b"one")
    assert first is not None

    second = await there.swap("things", "a", first, b"two")
    assert second is not None
    assert await here.get("things", "a") == Record(b"two", second)
    assert await here.swap("things", "a", second, b"three") is not None


async def test_swap_leaves_alone_what_somebody_else_has_changed(workers: tuple[Store, Store]) -> None:
    here, there = workers
    version = await here.add("things", "a", b"one")
    await there.put("things", "a", b"theirs")

    assert await here.swap("things", "a", version or 0, b"mine") is None
    assert b"theirs" == await value_of(here, "a")


async def test_swap_of_what_is_absent_adds_nothing(workers: tuple[Store, Store]) -> None:
    here, _ = workers

    assert await here.swap("things", "a", 1, b"one") is None
    assert await here.swap("things", "a", 0, b"one") is None
    assert await here.get("things", "a") is None


async def test_a_version_is_not_used_again_by_a_record_of_the_same_name(workers: tuple[Store, Store]) -> None:
    """A lease that ran out and was taken by another is not renewed by its first owner."""
    here, there = workers
    old = await here.add("things", "a", b"one")
    await there.delete("things", "a")
    await there.add("things", "a", b"one")

    assert await here.swap("things", "a", old or 0, b"two") is None


async def test_of_many_that_add_at_once_exactly_one_wins(workers: tuple[Store, Store]) -> None:
    values = [b"%d" % number for number in range(16)]
    won = await asyncio.gather(*(workers[i % 2].add("things", "a", value) for i, value in enumerate(values)))
    winners = [value for value, version in zip(values, won, strict=True) if version is not None]

    assert [await value_of(workers[0], "a")] == winners


async def test_of_many_that_swap_at_once_exactly_one_wins(workers: tuple[Store, Store]) -> None:
    version = await workers[0].add("things", "a", b"start") or 0
    values = [b"%d" % number for number in range(16)]
    won = await asyncio.gather(*(workers[i % 2].swap("things", "a", version, value) for i, value in enumerate(values)))
    winners = [value for value, version in zip(values, won, strict=True) if version is not None]

    assert [await value_of(workers[0], "a")] == winners


async def test_a_counter_raised_by_many_through_swap_loses_no_step(workers: tuple[Store, Store]) -> None:
    async def raise_it(store: Store) -> None:
        while True:
            held = await store.get("things", "count")
            assert held is not None
            if await store.swap("things", "count", held.version, b"%d" % (int(held.value) + 1)):
                return

    await workers[0].add("things", "count", b"0")
    await asyncio.gather(*(raise_it(workers[i % 2]) for i in range(12)))

    assert b"12" == await value_of(workers[0], "count")


def test_one_store_serves_several_event_loops_at_once(open_atomic: Open) -> None:
    store = open_atomic()
    won: list[bool] = []

    async def take_all() -> None:
        for number in range(20):
            won.append(await store.add("things", str(number), b"mine") is not None)
        await store.aclose()

    threads = [threading.Thread(target=lambda: asyncio.run(take_all())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert 80 == len(won)
    assert 20 == sum(won)


def test_a_store_outlives_the_event_loop_that_it_first_ran_on(open_store: Open) -> None:
    store = open_store()

    async def write() -> None:
        await store.put("things", "a", b"one")
        await store.aclose()

    async def read() -> bytes | None:
        value = await value_of(store, "a")
        await store.aclose()
        return value

    asyncio.run(write())
    assert b"one" == asyncio.run(read())


# Time...


async def test_a_record_is_absent_when_its_time_is_over(store: Store) -> None:
    async def gone() -> bool:
        return await store.get("things", "a") is None

    await store.put("things", "a", b"one", ttl=SHORT)
    await until(gone)
    assert await store.delete("things", "a") is False
    assert [] == await keys_in(store.scan("things"))


async def test_a_put_begins_the_time_anew(store: Store) -> None:
    async def gone() -> bool:
        return await store.get("things", "witness") is None

    await store.put("things", "a", b"one", ttl=SHORT)
    await store.put("things", "b", b"one", ttl=SHORT)
    await store.put("things", "a", b"two", ttl=3600)
    await store.put("things", "b", b"two", ttl=math.inf)
    await store.put("things", "witness", b"", ttl=2 * SHORT)
    await until(gone)

    assert b"two" == await value_of(store, "a")
    assert b"two" == await value_of(store, "b")


async def test_what_has_expired_can_be_added_and_not_swapped(workers: tuple[Store, Store]) -> None:
    here, there = workers

    async def added() -> bool:
        return await there.add("things", "a", b"theirs") is not None

    old = await here.add("things", "a", b"mine", ttl=SHORT)
    await until(added)
    assert await here.swap("things", "a", old or 0, b"mine") is None
    assert b"theirs" == await value_of(here, "a")


async def test_an_expired_record_cannot_be_swapped(workers: tuple[Store, Store]) -> None:
    here, _ = workers

    async def gone() -> bool:
        return await here.get("things", "witness") is None

    version = await here.add("things", "a", b"mine", ttl=SHORT)
    await here.put("things", "witness", b"", ttl=2 * SHORT)
    await until(gone)

    assert await here.swap("things", "a", version or 0, b"again") is None


async def test_a_swap_sets_the_time_too(workers: tuple[Store, Store]) -> None:
    here, there = workers

    async def gone() -> bool:
        return await there.get("things", "a") is None

    version = await here.add("things", "a", b"one", ttl=3600)
    await here.swap("things", "a", version or 0, b"two", ttl=SHORT)
    await until(gone)


@pytest.mark.parametrize("ttl", [0, -1, -math.inf, math.nan])
async def test_a_time_to_live_that_is_not_positive_is_refused_and_nothing_written(store: Store, ttl: float) -> None:
    with pytest.raises(ValueError, match="ttl must be a positive number"):
        await store.put("things", "a", b"one", ttl=ttl)

    assert await store.get("things", "a") is None


@pytest.mark.parametrize("ttl", [1e-9, 1e9, 1e18, 1e300])
async def test_no_time_to_live_overflows_an_engine(store: Store, ttl: float) -> None:
    await store.put("things", "a", b"one", ttl=ttl)
    await store.put("things", "a", b"one", ttl=3600)

    assert b"one" == await value_of(store, "a")


# Scanning...


async def test_scan_gives_the_keys_of_one_collection_that_begin_so(store: Store) -> None:
    for key in ("a1", "a2", "b1", "A1", "1a"):
        await store.put("things", key, b"")
    await store.put("others", "a3", b"")

    assert ["a1", "a2"] == await keys_in(store.scan("things", "a"))
    assert ["1a", "A1", "a1", "a2", "b1"] == await keys_in(store.scan("things"))
    assert [] == await keys_in(store.scan("none"))


async def test_scan_gives_every_key_of_more_than_one_page(store: Store) -> None:
    keys = sorted(f"k{number}" for number in range(1203))
    for start in range(0, len(keys), 100):
        await asyncio.gather(*(store.put("things", key, b"") for key in keys[start : start + 100]))

    assert keys == await keys_in(store.scan("things", "k"))


async def test_what_is_scanned_may_be_deleted_meanwhile(store: Store) -> None:
    for number in range(30):
        await store.put("things", str(number), b"")
    async for key in store.scan("things"):
        await store.delete("things", key)

    assert [] == await keys_in(store.scan("things"))


# What a store cannot do...


async def test_a_store_that_is_not_atomic_says_why_when_it_is_asked_for_what_needs_it(store: Store) -> None:
    if store.atomic:
        require_atomic(store, "Background work")
        return
    with pytest.raises(ValueError, match=r"^Background work needs .* cannot compare and swap"):
        require_atomic(store, "Background work")
    with pytest.raises(NotImplementedError):
        await store.add("things", "a", b"")
    with pytest.raises(NotImplementedError):
        await store.swap("things", "a", 1, b"")


async def test_no_store_keeps_nothing() -> None:
    store: Store = NoStore()
    await store.put("things", "a", b"one")

    assert await store.get("things", "a") is None
    assert await store.delete("things", "a") is False
    assert [] == await keys_in(store.scan("things"))
    with pytest.raises(NotImplementedError, match="keeps nothing"):
        await store.add("things", "a", b"one")
    with pytest.raises(NotImplementedError, match="keeps nothing"):
        await store.swap("things", "a", 1, b"one")
    with pytest.raises(ValueError, match="keeps nothing"):
        require_atomic(store, "A quota")
    await store.aclose()
