"""Encrypted values open only with their key, and only in their place."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import pytest

from gomodel_asgi.stores import Encrypted, MemoryStore, NoStore, Record

KEY = bytes(range(32))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "gomodel_asgi.stores"]


async def raw(store: MemoryStore, key: str = "a") -> bytes:
    record = await store.get("things", key)
    assert record is not None
    return record.value


def is_unreadable(record: Record | None) -> bool:
    """It is there, under a version that `swap` takes, and says nothing."""
    return record is not None and record.value == b"" and record.version > 0


async def test_the_store_below_never_sees_a_value() -> None:
    inner = MemoryStore()
    store = Encrypted(inner, KEY)
    await store.put("things", "a", b"confidential")
    await store.add("things", "b", b"confidential")
    version = await store.add("things", "c", b"confidential")
    await store.swap("things", "c", version or 0, b"more confidential")

    for key in ("a", "b", "c"):
        assert b"confidential" not in await raw(inner, key)


async def test_the_same_value_is_sealed_differently_each_time() -> None:
    inner = MemoryStore()
    store = Encrypted(inner, KEY)
    seen = set()
    for _ in range(3):
        await store.put("things", "a", b"one")
        seen.add(await raw(inner))

    assert 3 == len(seen)


async def test_another_worker_with_the_key_opens_it_and_one_without_learns_nothing() -> None:
    inner = MemoryStore()
    await Encrypted(inner, KEY).put("things", "a", b"one")
    opened = await Encrypted(inner, KEY).get("things", "a")

    assert opened is not None
    assert b"one" == opened.value
    assert is_unreadable(await Encrypted(inner, os.urandom(32)).get("things", "a"))


async def test_a_value_moved_to_another_place_does_not_open_there() -> None:
    inner = MemoryStore()
    store = Encrypted(inner, KEY)
    await store.put("things", "a", b"one")
    await inner.put("things", "b", await raw(inner))
    await inner.put("others", "a", await raw(inner))

    assert is_unreadable(await store.get("things", "b"))
    assert is_unreadable(await store.get("others", "a"))


async def test_no_changed_byte_goes_unnoticed() -> None:
    inner = MemoryStore()
    store = Encrypted(inner, KEY)
    await store.put("things", "a", b"one")
    sealed = await raw(inner)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        await inner.put("things", "a", bytes(changed))
        assert is_unreadable(await store.get("things", "a"))


@pytest.mark.parametrize("cut", [lambda v: b"", lambda v: v[:1], lambda v: v[:12], lambda v: v[:28], lambda v: v[1:]])
async def test_a_value_cut_short_is_empty_with_one_warning(
    cut: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    inner = MemoryStore()
    store = Encrypted(inner, KEY)
    await store.put("things", "a", b"one")
    await inner.put("things", "a", cut(await raw(inner)))
    with caplog.at_level(logging.WARNING, "gomodel_asgi.stores"):
        assert is_unreadable(await store.get("things", "a"))
        assert is_unreadable(await store.get("things", "a"))

    (line,) = said(caplog)
    assert line.startswith("A record of 'things' does not open with the key given and reads as absent. ")


def test_what_the_store_can_do_is_what_the_store_below_can_do() -> None:
    inner, none = MemoryStore(), NoStore()

    assert Encrypted(inner, KEY).atomic and Encrypted(inner, KEY).enumerable
    assert Encrypted(inner, KEY).secret == inner.secret
    assert not Encrypted(none, KEY).atomic and not Encrypted(none, KEY).enumerable
    assert Encrypted(none, KEY).limitation == none.limitation


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Encrypted(MemoryStore(), bytes(length))


def test_the_key_is_in_no_repr() -> None:
    assert repr(KEY) not in repr(Encrypted(MemoryStore(), KEY))
