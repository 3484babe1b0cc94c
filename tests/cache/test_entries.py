"""An entry that is not what was kept, or no longer to be given, is none; and a store that fails changes no answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from gomodel_asgi import Limits
from gomodel_asgi.cache import ResponseCache
from gomodel_asgi.cache.entry import ENTRIES, Entry
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.guards import Guard, Texts
from gomodel_asgi.observers import Ended, Warned
from gomodel_asgi.seams.store import Store
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.clock import Clock, until
from ..support.engines import open_atomic, open_store, postgres_server, redis_server
from ..support.seen import Seen
from .gateways import HELLO, KEPT_NOWHERE, always, asked, gateway_of, result

__all__ = ["open_atomic", "open_store", "postgres_server", "redis_server"]


@pytest.fixture
def chat() -> Any:
    with FakeProvider(dialect="chat").run_in_thread() as running:
        yield running


async def kept_in(store: Store) -> list[str]:
    async with aclosing(store.scan("cached")) as keys:
        return [key async for key in keys]


async def changed(store: Store, change: Callable[[bytes], bytes]) -> None:
    """Every entry with *change* made to its bytes."""
    for key in await kept_in(store):
        found = await store.get("cached", key)
        assert found is not None
        await store.put("cached", key, change(found.value))


def of_entry(**members: Any) -> Callable[[bytes], bytes]:
    def change(value: bytes) -> bytes:
        from gomodel_asgi.seams.store import Record

        entry = ENTRIES.decode(Record(value, 1))
        assert isinstance(entry, Entry)
        return ENTRIES.encode(replace(entry, **members))

    return change


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda value: b"",
    "cut": lambda value: value[: len(value) // 2],
    "not ours": lambda value: b'O:8:"stdClass":0:{}',
    "of a newer version": lambda value: b"\x02" + value[1:],
    "of a version that never was": lambda value: b"\xff" + value[1:],
    "another struct": lambda value: b"\x01\x93\x01\x02\x03",
    "with a response that is no JSON": of_entry(response=b"\xff\xfe"),
    "with a response that is cut": of_entry(response=b'{"id":"resp_1","output":['),
    "with a response that is none": of_entry(response=b"[]"),
    "with a response without items": of_entry(response=b'{"id":"resp_1","status":"completed"}'),
    "with items that are none": of_entry(response=b'{"id":"resp_1","status":"completed","output":[1]}'),
    "with items of a hosted tool": of_entry(
        response=b'{"id":"resp_1","status":"completed","output":[{"type":"web_search_call","id":"ws_1"}]}'
    ),
    "older than entries may be": of_entry(created=time.time() - 3700),
    "from another place": of_entry(place="elsewhere"),
    "from no place": of_entry(place=""),
}


def seen_by(given: Texts) -> None:
    """A guard that lets all pass."""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", list(DAMAGE))
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_entry_that_is_not_as_it_was_kept_is_none(
    chat: FakeProvider, name: str, guarded: bool, stream: bool
) -> None:
    store = MemoryStore()
    guards = [Guard("g", output=seen_by)] if guarded else []
    body = KEPT_NOWHERE | {"stream": stream}
    async with gateway_of(chat, store=store, guards=guards) as gateway:
        assert result(await asked(gateway, body)) == "miss"
        await changed(store, DAMAGE[name])
        found = [await asked(gateway, body) for _ in range(2)]
    assert [(one.status, result(one)) for one in found] == [(200, "miss"), (200, "hit")]  # and it was kept anew


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_entry_of_another_tenant_is_not_given_whatever_key_it_lies_under(open_atomic: Any) -> None:
    seen, store = Seen(), open_atomic()
    with FakeProvider(dialect="chat").run_in_thread() as chat:
        chat.script(Answer(text="For acme alone."), Answer(text="For globex."))
        async with gateway_of(chat, seen, store=store) as gateway:
            await asked(gateway, KEPT_NOWHERE, tenant="acme")
            await until(lambda: _is(store, 1))
            (key,) = await kept_in(store)
            record = await store.get("cached", key)
            await asked(gateway, KEPT_NOWHERE, tenant="globex")
            await until(lambda: _is(store, 2))
            (other,) = {*await kept_in(store)} - {key}
            await store.put("cached", other, record.value)
            found = await asked(gateway, KEPT_NOWHERE, tenant="globex")
    assert result(found) == "miss" and b"acme" not in found.content
    assert "the cache: an entry is another's and reads as absent" in [one.message for one in seen.of(Warned)]


async def _is(store: Store, count: int) -> bool:
    return len(await kept_in(store)) == count


# Time...


async def test_an_entry_lives_as_long_as_the_stores_own_clock_says(chat: FakeProvider) -> None:
    clock = Clock()
    cache = ResponseCache(when=always, ttl=60)
    async with gateway_of(chat, cache=cache, store=MemoryStore(clock=clock)) as gateway:
        found = []
        for seconds in (0, 59.5, 1, 59.5):
            clock.now += seconds
            found.append(result(await asked(gateway, KEPT_NOWHERE)))
    assert found == ["miss", "hit", "miss", "hit"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_entry_leaves_every_kind_of_store_when_its_time_is_over(open_atomic: Any) -> None:
    cache = ResponseCache(when=always, ttl=0.1)
    with FakeProvider(dialect="chat").run_in_thread() as chat:
        for _ in range(2):
            async with gateway_of(chat, cache=cache, store=open_atomic()) as gateway:
                assert result(await asked(gateway, KEPT_NOWHERE, tenant="acme")) == "miss"
            left = open_atomic()  # the first has been closed, and with it all that was still to be kept
            await until(lambda left=left: _is(left, 0))  # type: ignore[misc]
            await left.aclose()


@pytest.mark.parametrize(("age", "expected"), [(100, "hit"), (10, "miss"), (0, "miss")])
async def test_an_age_that_the_caller_allows_is_counted_from_when_the_answer_was_made(
    chat: FakeProvider, age: int, expected: str
) -> None:
    store = MemoryStore()
    async with gateway_of(chat, store=store) as gateway:
        await asked(gateway, KEPT_NOWHERE)
        await changed(store, of_entry(created=time.time() - 50))
        caller = await asked(gateway, KEPT_NOWHERE, (b"cache-control", b"max-age=%d" % age))
    assert result(caller) == expected
    assert expected == "miss" or 50 <= int(caller.headers["age"]) < 100


async def test_a_clock_that_was_set_back_makes_no_negative_age(chat: FakeProvider) -> None:
    store = MemoryStore()
    async with gateway_of(chat, store=store) as gateway:
        await asked(gateway, KEPT_NOWHERE)
        await changed(store, of_entry(created=time.time() + 100))
        caller = await asked(gateway, KEPT_NOWHERE)
    assert (result(caller), caller.headers["age"]) == ("hit", "0")


# A store that fails...


class Failing(MemoryStore):
    """A store that does not do what is *broken*."""

    immediate = False
    broken = ""

    async def get(self, collection: str, key: str) -> Any:
        if collection == "cached" and self.broken == "get":
            raise StoreUnavailable("with a secret", detail="detail of the store")
        return await super().get(collection, key)

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        if collection == "cached" and self.broken == "put":
            raise OSError("with a secret")
        await super().put(collection, key, value, ttl=ttl)


@pytest.mark.parametrize("broken", ["get", "put"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_store_that_is_away_is_a_miss_and_told(upstream: FakeProvider, broken: str, stream: bool) -> None:
    seen, store = Seen(), Failing()
    body = KEPT_NOWHERE | {"stream": stream}
    async with gateway_of(upstream, seen, store=store) as gateway:
        store.broken = broken
        found = [await asked(gateway, body) for _ in range(2)]
        await until(lambda: _told(seen, 2))
        store.broken = ""
        found += [await asked(gateway, body)]
        await until(lambda: _is(store, 1))
        found += [await asked(gateway, body)]
    expected = ["miss", "miss", "miss", "hit"]
    assert [(one.status, result(one)) for one in found] == [(200, each) for each in expected]
    assert {one.message for one in seen.of(Warned)} == {
        "the cache: detail of the store" if broken == "get" else "the cache: OSError"
    }
    assert [one.cached for one in seen.of(Ended)] == [each == "hit" for each in expected]


async def _told(seen: Seen, count: int) -> bool:
    return len(seen.of(Warned)) >= count


async def test_a_tenants_quota_bears_what_it_can_and_the_rest_is_not_kept(chat: FakeProvider) -> None:
    store = MemoryStore()
    chat.script(Answer(text="x" * 4000), Answer(text="short"))
    async with gateway_of(chat, store=store, limits=Limits(tenant_bytes=2000)) as gateway:
        found = [result(await asked(gateway, KEPT_NOWHERE, tenant="acme")) for _ in range(3)]
    assert found == ["miss", "miss", "hit"]


# Nothing is readable...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_nothing_of_tenant_or_request_can_be_read_from_a_key_of_an_entry(open_store: Any) -> None:
    store = open_store()
    with FakeProvider(dialect="chat").run_in_thread() as chat:
        async with gateway_of(chat, store=store) as gateway:
            await asked(gateway, HELLO | {"input": "canary"}, tenant="acme-canary")
            if store.enumerable:
                await until(lambda: _is(store, 1))
                (key,) = await kept_in(store)
                assert "canary" not in key and "acme" not in key
