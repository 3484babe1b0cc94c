"""Conversations that are kept here: they grow by what is added, and are right whoever else writes and dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.history.conversation_log import CONVERSATIONS, Conversation
from gomodel_asgi.history.quota import Quotas
from gomodel_asgi.history.records import Records
from gomodel_asgi.history.turns import Turn
from gomodel_asgi.stores import KeyValueStore, MemoryStore, Store
from tests.support.engines import Open

from .counted import Counted
from .test_journal import Crash, Crashing

TENANT = "acme"
ID = "conv_1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def roomy(size: int) -> bool:
    return True


class Log:
    """One worker's view of one conversation, whose items are numbers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Records(store)
        self.log = self.records.conversations

    async def create(self, *numbers: int) -> None:
        await self.log.create(TENANT, ID, Conversation(1, {}, 0), self.items(numbers), roomy)

    async def add(self, *numbers: int) -> bool:
        return await self.log.append(TENANT, ID, self.items(numbers), roomy) is not None

    async def remove(self, number: int) -> None:
        await self.log.remove_item(TENANT, ID, f"msg_{number}")

    async def numbers(self) -> list[int] | None:
        lines = await self.log.lines(TENANT, ID)
        return None if lines is None else [int(item["id"][4:]) for line in lines for item in line.items]

    async def left(self) -> list[str]:
        return [key async for key in self.store.scan(CONVERSATIONS)]

    async def assert_size_is_exact(self) -> None:
        head = await self.log.find(TENANT, ID)
        assert head is not None
        key = await self.records.tenancy.keyed(TENANT)
        found = [await self.store.get(CONVERSATIONS, key(f"{ID}/{number}")) for number in range(head.count)]
        assert head.size == sum(len(record.value) for record in found if record is not None)

    @staticmethod
    def items(numbers: Any) -> bytes:
        return json.dumps([{"id": f"msg_{number}", "type": "message", "content": "hi"} for number in numbers]).encode()


# Cheap...


async def test_a_turn_costs_its_own_bytes_and_five_trips_however_long_the_conversation_is() -> None:
    store = Counted(MemoryStore())
    log = Log(store)
    await log.create()
    turn = Turn(b'"' + b"x" * 500 + b'"', b"[]", "account", "chat")
    costs = []
    for number in range(1000):
        store.clear()
        assert await log.log.append_turn(TENANT, ID, turn, f"resp_{number:048x}", roomy)
        costs.append((store.trips, store.written))

    assert max(trips for trips, _ in costs) <= 4, "the generation, the head, the segment, the head"
    assert max(written for _, written in costs) <= 500 + 400
    assert abs(costs[-1][1] - costs[0][1]) <= 20, "a number or two have more digits"


async def test_a_conversation_of_a_thousand_turns_is_read_in_six_trips_and_deleted_in_eight(open_atomic: Open) -> None:
    store = Counted(open_atomic())
    log = Log(store)
    await log.create()
    for number in range(1000):
        await log.add(number)
    store.clear()
    numbers, read = await log.numbers(), store.trips
    store.clear()
    await log.log.delete(TENANT, ID)
    deleted, left = store.trips, await log.left()
    await store.aclose()

    assert numbers == [*range(1000)]
    assert read <= 6, "the generation, the head, four times 256 segments"
    assert deleted <= 8
    assert left == []


# Right, whoever else writes...


async def test_workers_that_add_at_once_lose_nothing_and_count_it_once(open_atomic: Open) -> None:
    logs = [Log(open_atomic()), Log(open_atomic())]
    await logs[0].create()
    added = await asyncio.gather(*(logs[number % 2].add(number) for number in range(24)))
    numbers = await logs[1].numbers()
    await logs[0].assert_size_is_exact()
    for log in logs:
        await log.store.aclose()

    assert all(added)
    assert sorted(numbers or []) == [*range(24)]


async def test_workers_that_add_remove_and_rename_at_once_agree(open_atomic: Open) -> None:
    logs = [Log(open_atomic()), Log(open_atomic())]
    await logs[0].create(*range(100, 106))
    added = [logs[number % 2].add(number) for number in range(6)]
    removed = [logs[number % 2].remove(number) for number in range(100, 106)]
    await asyncio.gather(*added, *removed, logs[0].log.update(TENANT, ID, {"a": "b"}, roomy))
    numbers, head = await logs[1].numbers(), await logs[0].log.find(TENANT, ID)
    await logs[0].assert_size_is_exact()
    for log in logs:
        await log.store.aclose()

    assert sorted(numbers or []) == [*range(6)]
    assert head is not None and head.metadata == {"a": "b"}


async def test_an_item_is_removed_by_one_of_two_that_remove_it_at_once(open_atomic: Open) -> None:
    logs = [Log(open_atomic()), Log(open_atomic())]
    await logs[0].create(1, 2)
    await logs[0].add(2, 3)
    removed = await asyncio.gather(*(log.remove(2) for log in logs), return_exceptions=True)
    numbers = await logs[0].numbers()
    with pytest.raises(LookupError):
        await logs[1].remove(2)
    for log in logs:
        await log.store.aclose()

    assert numbers == [1, 3], "wherever it stands"
    assert None in removed


async def test_what_is_added_while_the_conversation_is_deleted_leaves_nothing_behind(open_atomic: Open) -> None:
    logs = [Log(open_atomic()), Log(open_atomic())]
    for _ in range(10):
        await logs[0].create(1)
        await asyncio.gather(logs[0].log.delete(TENANT, ID), *(logs[1].add(number) for number in range(3)))
        assert await logs[0].left() == []
        assert await logs[1].numbers() is None
        assert not await logs[1].add(4)
    for log in logs:
        await log.store.aclose()


class Meanwhile(MemoryStore):
    """Lets others do *work* before the next swap of a conversation."""

    work: Callable[[], Awaitable[object]] | None = None

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        work, self.work = self.work, None
        if work is not None:
            await work()
        return await super().swap(collection, key, expected, value, ttl=ttl)


async def test_what_another_worker_has_counted_already_is_not_counted_again() -> None:
    store = Meanwhile()
    log = Log(store)
    await log.create(1)
    store.work = lambda: log.add(3)
    assert await log.add(2)

    assert await log.numbers() == [1, 2, 3]
    await log.assert_size_is_exact()


async def test_what_is_added_between_two_steps_of_a_deletion_goes_too() -> None:
    store = Meanwhile()
    log = Log(store)
    await log.create(1)

    async def add_three() -> None:
        for number in range(3):
            assert await log.add(number)

    store.work = add_three
    await log.log.delete(TENANT, ID)

    assert await log.left() == []


async def test_what_is_added_during_a_removal_stays() -> None:
    store = Meanwhile()
    log = Log(store)
    await log.create(1, 2)
    store.work = lambda: log.add(3)
    await log.remove(1)

    assert await log.numbers() == [2, 3]
    await log.assert_size_is_exact()


async def test_a_store_that_cannot_swap_keeps_conversations_too() -> None:
    log = Log(KeyValueStore(KeyValueMemory()))
    await log.create(1)
    assert await log.add(2, 3)
    await log.remove(2)
    await log.assert_size_is_exact()
    assert await log.numbers() == [1, 3]

    await log.log.delete(TENANT, ID)
    assert await log.left() == []


STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "remove", "rename"]), st.integers(0, 8)), max_size=40)


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_what_is_read_is_what_was_added_and_not_removed(steps: list[tuple[str, int]]) -> None:
    log = Log(MemoryStore())
    model: list[int] = []

    async def play() -> None:
        await log.create()
        for what, number in steps:
            if what == "add":
                await log.add(number, number + 1)
                model.extend((number, number + 1))
            elif what == "rename":
                await log.log.update(TENANT, ID, {"n": "x" * number}, roomy)
            elif number in model:
                await log.remove(number)
                model[:] = [one for one in model if one != number]
            else:
                with pytest.raises(LookupError):
                    await log.remove(number)
            assert await log.numbers() == model
            await log.assert_size_is_exact()

    asyncio.run(play())


# After a crash...

CRASHES = pytest.mark.parametrize(
    ("where", "after"), [(where, after) for where in range(1, 9) for after in (False, True)]
)


async def crashed(store: Crashing, where: int, after: bool, work: Callable[[], Any]) -> bool:
    """Whether the worker died when it did *work*, in its call number *where*."""
    store.left, store.after = where, after
    try:
        await work()
    except Crash:
        return True
    finally:
        store.left = None
    return False


@CRASHES
async def test_what_a_worker_that_died_has_added_is_whole_or_not_there(where: int, after: bool) -> None:
    store = Crashing()
    log = Log(store)
    await log.create(1)
    died = await crashed(store, where, after, lambda: log.add(2))
    assert await log.numbers() in ([1], [1, 2])
    for number in (3, 4):
        assert await log.add(number)

    assert await log.numbers() in (([1, 3, 4], [1, 2, 3, 4]) if died else ([1, 2, 3, 4],))
    await log.assert_size_is_exact()


@CRASHES
async def test_what_a_worker_that_died_has_added_goes_with_the_conversation(where: int, after: bool) -> None:
    store = Crashing()
    log = Log(store)
    await log.create(1)
    await crashed(store, where, after, lambda: log.add(2))
    await log.log.delete(TENANT, ID)

    assert await log.left() == []


@CRASHES
async def test_a_removal_that_was_not_finished_is_finished_by_the_next(where: int, after: bool) -> None:
    store = Crashing()
    log = Log(store)
    await log.create(1, 2)
    await log.add(3)
    await crashed(store, where, after, lambda: log.remove(2))
    assert await log.numbers() in ([1, 2, 3], [1, 3])
    await log.remove(3)
    await log.assert_size_is_exact()


@CRASHES
async def test_a_deletion_that_was_not_finished_is_finished_by_the_next(where: int, after: bool) -> None:
    store = Crashing()
    log = Log(store)
    await log.create(1)
    await log.add(2)
    await crashed(store, where, after, lambda: log.log.delete(TENANT, ID))
    if await log.numbers() is None:
        assert not await log.add(3), "nothing is added to what is half gone"
    await log.log.delete(TENANT, ID)

    assert await log.left() == []


@pytest.mark.parametrize("value", [None, b"\xff"], ids=["lost", "damaged"])
async def test_a_conversation_of_which_a_part_is_lost_is_unknown_and_can_be_deleted(value: bytes | None) -> None:
    log = Log(MemoryStore())
    await log.create(1)
    for number in (2, 3):
        await log.add(number)
    place = (await log.records.tenancy.keyed(TENANT))(f"{ID}/1")
    await (log.store.delete(CONVERSATIONS, place) if value is None else log.store.put(CONVERSATIONS, place, value))

    assert await log.numbers() is None
    await log.log.delete(TENANT, ID)
    assert await log.left() == []


async def test_a_damaged_head_reads_as_unknown_and_is_deleted() -> None:
    log = Log(MemoryStore())
    await log.create(1)
    await log.store.put(CONVERSATIONS, await log.records.tenancy.key(TENANT, ID), b"\xff")

    assert not await log.add(2)
    await log.log.delete(TENANT, ID)
    assert len(await log.left()) == 1, "its segment, until its time is over"


# Within the quota...


async def test_a_conversation_counts_with_all_that_was_added_to_it() -> None:
    log = Log(MemoryStore())
    quotas = Quotas(log.records, None, 3000)

    async def admit(size: int) -> bool:
        return await quotas.admit_size(TENANT, ID, size)

    await log.log.create(TENANT, ID, Conversation(1, {}, 0), b"[]", admit)
    item = b'[{"id":"a","content":"%b"}]' % (b"x" * 900)
    for _ in range(3):
        assert await log.log.append(TENANT, ID, item, admit) is not None
    with pytest.raises(InvalidRequest, match="larger than what may be stored"):
        await log.log.append(TENANT, ID, item, admit)
    lines = await log.log.lines(TENANT, ID)
    assert lines is not None and len(lines) == 4


async def test_a_conversation_that_makes_room_goes_with_all_its_segments(open_atomic: Open) -> None:
    log = Log(open_atomic())
    quotas = Quotas(log.records, 1, None)
    await log.log.create(TENANT, ID, Conversation(1, {}, 0), b"[]", lambda size: quotas.admit_size(TENANT, ID, size))
    await log.add(1, 2)
    await quotas.admit_size(TENANT, "resp_1", 1)
    left = await log.left()
    await log.store.aclose()

    assert left == []


async def test_a_conversation_of_an_older_schema_reads_as_unknown() -> None:
    log = Log(MemoryStore())
    old = b"\x01" + msgspec.msgpack.encode({"created_at": 1, "metadata": {}, "entries": []})
    await log.store.put(CONVERSATIONS, await log.records.tenancy.key(TENANT, ID), old)

    assert await log.numbers() is None
    assert not await log.add(1)
