"""What a connection remembers, and what that may weigh."""

from __future__ import annotations

from hypothesis import given, strategies as st

from gomodel_asgi.history.connection_memory import LONGEST, Chunk, KeptResponse, Memory


def chunk(size: int) -> Chunk:
    return Chunk(b"x" * size, "account", "type")


def remembered(*chunks: Chunk) -> KeptResponse:
    return KeptResponse("provider", "model", "account", chunks)


def test_what_is_kept_is_recalled_until_it_is_evicted() -> None:
    memory, one = Memory(100), remembered(chunk(10))
    memory.keep("a", one)
    assert memory.find("a") is one
    memory.evict("a")
    memory.evict("a")
    assert (memory.find("a"), memory.size) == (None, 0)
    assert memory.find(None) is None


def test_chunks_that_conversations_share_are_weighed_once() -> None:
    memory, shared = Memory(100), chunk(60)
    memory.keep("a", remembered(shared))
    memory.keep("b", remembered(shared, chunk(10)))
    memory.keep("c", remembered(shared, chunk(20)))
    assert memory.size == 90
    memory.evict("a")
    assert memory.size == 90
    memory.evict("b")
    assert memory.size == 80


def test_over_the_limit_the_one_used_longest_ago_is_forgotten() -> None:
    memory = Memory(100)
    memory.keep("a", remembered(chunk(40)))
    memory.keep("b", remembered(chunk(40)))
    memory.find("a")
    memory.keep("c", remembered(chunk(40)))
    assert list(memory.responses) == ["a", "c"]


def test_what_is_remembered_of_hosted_tools_is_weighed_and_forgotten_with_its_chunk() -> None:
    memory, one = Memory(100), Chunk(b"x" * 10, "account", "type", "resp_1", b"y" * 30)
    memory.keep("a", remembered(one))
    memory.keep("b", remembered(one, chunk(10)))
    memory.evict("a")
    assert (memory.size, memory.of_tools) == (50, {"resp_1": one})
    memory.evict("b")
    assert (memory.size, memory.of_tools) == (0, {})


def test_a_conversation_over_the_limit_is_not_remembered() -> None:
    memory = Memory(100)
    memory.keep("a", remembered(chunk(101)))
    assert (memory.find("a"), memory.size) == (None, 0)


def test_no_more_than_so_many_are_remembered() -> None:
    memory = Memory(100)
    for number in range(LONGEST + 10):
        memory.keep(str(number), remembered())
    assert len(memory.responses) == LONGEST


steps = st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 5), st.sampled_from("abcdef")))


@given(steps)
def test_the_size_is_that_of_all_chunks_that_are_reachable(steps: list[tuple[str, bool, int, str]]) -> None:
    memory = Memory(12)
    for name, keep, size, earlier in steps:
        found = memory.find(earlier)
        if keep:
            memory.keep(name, remembered(*((found and found.chunks) or ()), chunk(size)))
        else:
            memory.evict(name)
        chunks = {id(one): one for kept in memory.responses.values() for one in kept.chunks or ()}
        assert memory.size == sum(len(one.items) for one in chunks.values()) <= 12
