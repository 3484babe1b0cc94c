"""A thread of responses, each continuing another: read in few round trips, and told right whatever became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi import Gateway
from gomodel_asgi.history.records import Records
from gomodel_asgi.history.turns import CODEC, LONGEST, STEP, TURNS, Line, Turn, _lines
from gomodel_asgi.stores import MemoryStore, Store
from gomodel_asgi.testing import FakeProvider
from tests.support.driving import ask
from tests.support.engines import Open
from tests.support.remembering import MODELS, provider_of, says

from .counted import Counted

TENANT = "acme"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running


def id_of(number: int) -> str:
    return f"resp_{number:048x}"


def turn_of(number: int, previous: int | None) -> Turn:
    text = json.dumps(f"turn {number}").encode()
    return Turn(text, b"[]", "account", "chat", previous=None if previous is None else id_of(previous))


class Thread:
    """The responses of one tenant in *store*."""

    def __init__(self, store: Store) -> None:
        self.store = Counted(store)
        self.turns = Records(self.store).turns

    async def keep(self, number: int, previous: int | None, before: Sequence[Line] | None = None) -> Turn:
        turn = await self.turns.linked(TENANT, turn_of(number, previous), before)
        await self.turns.keep(TENANT, id_of(number), turn)
        return turn

    async def said(self, number: int) -> list[int] | None:
        """The numbers of the turns that the history up to *number* tells."""
        lines = await self.turns.history(TENANT, id_of(number))
        return None if lines is None else [int(line.items[0]["content"][0]["text"][5:]) for line in lines]


# Few trips...


async def test_a_thread_of_a_thousand_turns_is_read_in_eight_round_trips(open_atomic: Open) -> None:
    thread = Thread(open_atomic())
    for number in range(LONGEST):
        await thread.keep(number, number - 1 if number else None)
    thread.store.clear()
    said = await thread.said(LONGEST - 1)
    trips = thread.store.trips
    await thread.store.aclose()

    assert said == [*range(LONGEST)]
    assert trips <= 8, "the generation, and the turns in four steps of at most 256"


async def test_a_turn_that_is_written_with_its_history_at_hand_needs_no_trip_for_its_links() -> None:
    thread = Thread(MemoryStore())
    for number in range(130):
        before = await thread.turns.history(TENANT, id_of(number - 1)) if number else None
        thread.store.clear()
        turn = await thread.turns.linked(TENANT, turn_of(number, number - 1 if number else None), before)
        assert thread.store.trips == 0
        assert turn == await thread.keep(number, number - 1 if number else None), "as read from the turn before"


async def test_what_a_thread_costs_grows_with_its_length_alone() -> None:
    async def written(count: int) -> int:
        thread = Thread(MemoryStore())
        for number in range(count):
            await thread.keep(number, number - 1 if number else None)
        return thread.store.written

    assert await written(LONGEST) <= 1000 * LONGEST
    assert await written(2 * LONGEST) <= 2 * await written(LONGEST)


async def test_a_thread_that_is_too_long_is_found_so_at_once() -> None:
    thread = Thread(MemoryStore())
    for number in range(LONGEST + 20):
        await thread.keep(number, number - 1 if number else None)
    assert await thread.said(LONGEST - 1) == [*range(LONGEST)]
    for number in (LONGEST, LONGEST + 19):
        thread.store.clear()
        assert await thread.said(number) is None
        assert thread.store.trips <= 2


@pytest.mark.parametrize(("size", "steps"), [(1, 0), (STEP // 20, 4), (STEP + 1, 100)])
def test_a_thread_is_read_in_steps_as_its_bytes_demand(size: int, steps: int) -> None:
    said = json.dumps("x" * (size - 2)).encode() if size > 2 else b""
    turns = {
        id_of(number): msgspec.structs.replace(turn_of(number, number - 1 if number else None), input=said, output=b"")
        for number in range(100)
    }

    assert len(list(_lines(turns, id_of(99)))) == steps


# Told right...

PARENTS = st.lists(st.integers(0, 1000), min_size=1, max_size=60)


@given(PARENTS, st.integers(1, 4), st.sets(st.integers(0, 150), max_size=2), st.data())
@settings(max_examples=60, deadline=None)
def test_the_history_is_what_the_links_say_through_branches_and_deletions(
    parents: list[int], width: int, deleted: set[int], data: st.DataObject
) -> None:
    """A trunk of 105 turns, on which others grow: near the last one, or anywhere."""
    thread = Thread(MemoryStore())
    links: dict[int, int | None] = {number: number - 1 if number else None for number in range(105)}
    for number, parent in enumerate(parents, 105):
        links[number] = parent % number if parent % 5 == 0 else max(0, number - 1 - parent % width)

    def model(number: int) -> list[int] | None:
        said: list[int] = []
        following: int | None = number
        while following is not None:
            if following in deleted:
                return None
            said.append(following)
            following = links[following]
        return said[::-1]

    async def play() -> None:
        for number, parent in links.items():
            await thread.keep(number, parent)
        for number in deleted:
            await thread.turns.delete(TENANT, id_of(number))
        asked = data.draw(st.lists(st.sampled_from([*links]), min_size=1, max_size=8))
        for number in [*asked, len(links) - 1]:
            assert await thread.said(number) == model(number)

    asyncio.run(play())


async def test_turns_that_name_none_before_them_are_followed_link_by_link() -> None:
    thread = Thread(MemoryStore())
    for number in range(30):
        await thread.turns.keep(TENANT, id_of(number), turn_of(number, number - 1 if number else None))
    for number in range(30, 60):
        await thread.keep(number, number - 1)

    assert await thread.said(59) == [*range(60)]


@pytest.mark.parametrize("named", [("resp_none",), ("a b",), (id_of(3),)], ids=["missing", "no id", "another"])
async def test_a_wrong_name_in_a_turn_changes_nothing_that_is_told_but_may_make_it_unknown(
    named: tuple[str, ...],
) -> None:
    thread = Thread(MemoryStore())
    for number in range(4):
        await thread.keep(number, number - 1 if number not in (0, 3) else None)
    turn = await thread.turns.find(TENANT, id_of(2))
    assert turn is not None
    await thread.turns.keep(TENANT, id_of(2), msgspec.structs.replace(turn, ancestors=named))

    assert await thread.said(2) in ([0, 1, 2], None)


async def test_a_ring_of_turns_ends() -> None:
    thread = Thread(MemoryStore())
    for number in range(3):
        await thread.keep(number, (number + 2) % 3)

    assert await thread.said(2) is None


async def test_what_another_tenant_said_is_never_read_for_its_name() -> None:
    thread = Thread(MemoryStore())
    await thread.turns.keep("other", id_of(0), turn_of(0, None))
    await thread.keep(1, 0)

    assert await thread.said(1) is None


# In a gateway...


@pytest.mark.parametrize("dialect", ["chat", "responses"])
async def test_what_a_gateway_keeps_names_what_came_before(fake: FakeProvider, dialect: str) -> None:
    store = MemoryStore()
    providers = [provider_of(dialect, fake), provider_of("chat", fake, "other", models=())]
    async with Gateway(providers=providers, store=store) as gateway:
        previous: str | None = None
        for _ in range(12):
            if dialect == "chat":
                fake.script(says("chat", "ok"))
            body = {"model": MODELS[dialect], "input": "hi", "previous_response_id": previous}
            caller = await ask(gateway, {name: value for name, value in body.items() if value is not None})
            assert caller.status == 200
            previous = caller.json()["id"]
        found = [CODEC.decode(await store.get(TURNS, key)) async for key in store.scan(TURNS)]

    named = sorted((turn.depth, len(turn.ancestors)) for turn in found if turn is not None)
    assert named == [*((depth, depth) for depth in range(11)), (11, 2)]
