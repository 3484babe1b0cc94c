"""Stores in another process: what happens when that process is gone, stuck, or holds what we did not write."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import trio
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory
from redis.asyncio import Redis

from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.seams.store import unreadable
from gomodel_asgi.stores import KeyValueStore, PostgresStore, Record, RedisStore, Store
from gomodel_asgi.stores.postgres import DDL, PURGE_EVERY
from gomodel_asgi.stores.postgres_pool import LOCK
from gomodel_asgi.stores.redis import REPLACE, packed
from gomodel_asgi.stores.shared import PUBLIC_SECRET, PerLoop

from ..support.databases import PostgresServer, RedisServer, Server

PASSWORD = "hunter2-in-the-url"


@pytest.fixture
def refused() -> Iterator[int]:
    """A port of the loopback that refuses connections for as long as the test runs: bound, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def store_on(server: Server, timeout: float = 20.0) -> Store:
    name = f"t{os.urandom(8).hex()}"
    if isinstance(server, RedisServer):
        return RedisStore(server.url, namespace=name, timeout=timeout)
    assert isinstance(server, PostgresServer)
    return PostgresStore(server.dsn, table=name, timeout=timeout)


@pytest.fixture(params=["redis_server", "postgres_server"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


async def every_call(store: Store) -> None:
    """Each call in turn must raise StoreUnavailable, and tell nothing."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get("things", "a"),
        lambda: store.put("things", "a", b"one"),
        lambda: store.add("things", "a", b"one"),
        lambda: store.swap("things", "a", 1, b"one"),
        lambda: store.delete("things", "a"),
        lambda: anext(store.scan("things")),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        assert 503 == caught.value.status
        assert "store_unavailable" == caught.value.code
        assert PASSWORD not in f"{caught.value} {caught.value.detail} {caught.value.payload}"


# Down...


async def test_a_store_whose_server_stops_is_unavailable_and_comes_back_with_it(server: Server) -> None:
    store = store_on(server)
    await store.put("things", "a", b"one")
    await asyncio.to_thread(server.stop)
    try:
        await every_call(store)
    finally:
        await asyncio.to_thread(server.start)
    await store.put("things", "a", b"two")
    record = await store.get("things", "a")
    await store.aclose()

    assert record is not None
    assert b"two" == record.value


async def test_connections_that_a_restart_has_closed_are_not_an_error(redis_server: RedisServer) -> None:
    store = store_on(redis_server)
    await asyncio.gather(*(store.put("things", str(number), b"one") for number in range(5)))
    await asyncio.to_thread(redis_server.stop)
    await asyncio.to_thread(redis_server.start)

    assert await store.get("things", "0") is None
    await store.aclose()


class Forgetful:
    """A relay to Redis that passes the first EVAL on, takes the answer, and breaks the connection instead."""

    def __init__(self, upstream: Path) -> None:
        self.upstream = upstream
        self.forgot = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self.upstream)
        try:
            while data := await reader.read(65536):
                upstream_writer.write(data)
                answer = await upstream_reader.read(65536)
                if b"EVAL" in data and not self.forgot:
                    self.forgot += 1
                    break
                writer.write(answer)
        finally:
            for each in (writer, upstream_writer):
                each.close()
                await each.wait_closed()


async def test_an_add_whose_answer_was_lost_is_tried_again_and_has_won(redis_server: RedisServer) -> None:
    relay = Forgetful(redis_server.socket)
    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        store = RedisStore(f"redis://127.0.0.1:{port}", namespace=f"t{os.urandom(8).hex()}")
        version = await store.add("things", "a", b"one")
        record = await store.get("things", "a")
        await store.aclose()

    assert 1 == relay.forgot
    assert version is not None
    assert Record(b"one", version) == record


async def test_a_refused_connection_is_unavailable_and_tells_no_password(refused: int) -> None:
    for store in (
        RedisStore(f"redis://:{PASSWORD}@127.0.0.1:{refused}/0"),
        PostgresStore(f"postgresql://user:{PASSWORD}@127.0.0.1:{refused}/db"),
    ):
        assert PASSWORD not in repr(store)
        await every_call(store)
        await store.aclose()


async def test_a_server_that_does_not_speak_the_protocol_is_unavailable() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        for store in (RedisStore(f"redis://127.0.0.1:{port}"), PostgresStore(f"postgresql://u@127.0.0.1:{port}/db")):
            await every_call(store)
            await store.aclose()


@asynccontextmanager
async def impatient_and_patient(server: Server) -> AsyncGenerator[tuple[Store, Store], None]:
    """Two stores on the same open connection."""
    name = f"t{os.urandom(8).hex()}"
    if isinstance(server, RedisServer):
        async with Redis.from_url(server.url) as client:
            yield RedisStore(client, namespace=name, timeout=0.1), RedisStore(client, namespace=name, timeout=60)
    else:
        assert isinstance(server, PostgresServer)
        async with asyncpg.create_pool(server.dsn, min_size=0, max_size=2) as pool:
            yield PostgresStore(pool, table=name, timeout=0.1), PostgresStore(pool, table=name, timeout=60)


async def test_a_stuck_server_is_unavailable_within_the_timeout(server: Server) -> None:
    async with impatient_and_patient(server) as (impatient, patient):
        await patient.put("things", "a", b"one")
        server.signal(signal.SIGSTOP)
        try:
            await every_call(impatient)
        finally:
            server.signal(signal.SIGCONT)
        await patient.put("things", "b", b"two")

        assert await patient.get("things", "b") is not None


async def test_a_server_that_never_answers_the_first_word_is_unavailable_within_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        for store in (
            RedisStore(f"redis://127.0.0.1:{port}", timeout=0.1),
            PostgresStore(f"postgresql://u@127.0.0.1:{port}/db", timeout=0.1),
        ):
            await every_call(store)
            await store.aclose()


async def test_a_cancelled_call_leaves_the_store_usable(server: Server) -> None:
    store = store_on(server)
    await store.put("things", "a", b"one")
    for _ in range(20):
        task = asyncio.create_task(store.get("things", "a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    record = await store.get("things", "a")
    await store.aclose()

    assert record is not None
    assert b"one" == record.value


async def test_more_calls_than_connections_wait_their_turn(server: Server) -> None:
    store = store_on(server)
    await asyncio.gather(*(store.put("things", str(number), b"one") for number in range(100)))
    found = await asyncio.gather(*(store.get("things", str(number)) for number in range(100)))
    await store.aclose()

    assert all(found)


# Rubbish...


async def test_a_full_redis_is_unavailable(redis_server: RedisServer) -> None:
    store = store_on(redis_server)
    async with Redis.from_url(redis_server.url) as client:
        await client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable):
                await store.put("things", "a", b"one")
            with pytest.raises(StoreUnavailable):
                await store.add("things", "a", b"one")
        finally:
            await client.config_set("maxmemory", "0")
    await store.aclose()


async def test_what_we_did_not_write_into_redis_is_unreadable_or_unavailable(redis_server: RedisServer) -> None:
    store = RedisStore(redis_server.url, namespace="rubbish")
    async with Redis.from_url(redis_server.url) as client:
        await client.set("rubbish:things:short", b"1234567")
        await client.rpush("rubbish:things:list", b"1")

    assert await store.get("things", "short") == unreadable()
    assert await store.add("things", "short", b"mine") is not None
    with pytest.raises(StoreUnavailable):
        await store.get("things", "list")
    await store.aclose()


@pytest.mark.parametrize(
    ("rubbish", "version"),
    [({}, 0), ({"version": 1}, 0), ({"version": "1", "value": ""}, 0), ({"version": 1, "value": "???"}, 1)],
)
async def test_what_we_did_not_write_into_a_key_value_store_is_unreadable(rubbish: Any, version: int) -> None:
    engine = KeyValueMemory()
    await engine.put("a", rubbish, collection="gomodel_things")

    assert await KeyValueStore(engine).get("things", "a") == unreadable(version)


async def test_a_script_that_runs_again_after_its_answer_was_lost_answers_as_before(redis_server: RedisServer) -> None:
    """Redis keeps the effect of a script whose connection broke; the second run finds its own version."""
    async with Redis.from_url(redis_server.url) as client:
        script = client.register_script(REPLACE)
        for held, value in ((b"", packed(1, b"added")), (packed(1, b""), packed(2, b"swapped"))):
            first = await script(keys=["again"], args=[held, value, ""])
            second = await script(keys=["again"], args=[held, value, ""])
            assert [1, 1] == [first, second]
        assert 0 == await script(keys=["again"], args=[b"", packed(3, b"other"), ""])


# The host's own...


async def test_a_redis_client_of_the_host_is_used_and_left_open(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url) as client:
        store = RedisStore(client, namespace="own")
        await store.put("things", "a", b"one", ttl=60)
        await store.aclose()

        assert 1 == await client.exists("own:things:a")
        assert 0 < await client.pttl("own:things:a") <= 60_000


async def test_a_redis_that_decodes_is_refused_at_construction(redis_server: RedisServer) -> None:
    async with Redis.from_url(redis_server.url, decode_responses=True) as client:
        with pytest.raises(ValueError, match="decode_responses"):
            RedisStore(client)
    with pytest.raises(ValueError, match="decode_responses"):
        RedisStore("redis://127.0.0.1/0?decode_responses=True")


@pytest.fixture
async def pool(postgres_server: PostgresServer) -> AsyncGenerator[asyncpg.Pool, None]:
    async with asyncpg.create_pool(postgres_server.dsn, min_size=0, max_size=4) as pool:
        yield pool


async def test_a_pool_of_the_host_is_used_and_left_open(pool: asyncpg.Pool) -> None:
    store = PostgresStore(pool, table="own")
    await store.put("things", "a", b"one")
    await store.aclose()

    assert b"one" == await pool.fetchval("SELECT value FROM own WHERE collection = 'things' AND key = 'a'")


async def test_workers_that_start_at_once_create_one_table(postgres_server: PostgresServer) -> None:
    name = f"t{os.urandom(8).hex()}"
    stores = [PostgresStore(postgres_server.dsn, table=name) for _ in range(6)]
    won = await asyncio.gather(*(store.add("things", "a", b"one") for store in stores))
    for store in stores:
        await store.aclose()

    assert 1 == sum(version is not None for version in won)


async def test_calls_that_begin_at_once_open_one_pool(postgres_server: PostgresServer) -> None:
    store = store_on(postgres_server)
    await asyncio.gather(*(store.put("things", str(number), b"one") for number in range(8)))
    await store.aclose()


async def test_a_table_that_appears_while_we_wait_to_create_it_is_used(
    pool: asyncpg.Pool, postgres_server: PostgresServer
) -> None:
    store = PostgresStore(postgres_server.dsn, table="appears", timeout=60)
    async with pool.acquire() as other:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            task = asyncio.create_task(store.put("things", "a", b"one"))
            while not await pool.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
                assert not task.done()
            await other.execute(DDL.format(table="appears"))
    await task
    await store.aclose()

    assert 1 == await pool.fetchval("SELECT count(*) FROM appears")


async def test_a_failed_deletion_of_expired_rows_does_not_fail_the_write(pool: asyncpg.Pool) -> None:
    store = PostgresStore(pool, table="unpurged")
    await store.put("things", "a", b"one")
    await pool.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'")
    await pool.execute("CREATE TRIGGER refuse BEFORE DELETE ON unpurged EXECUTE FUNCTION refuse()")
    store._purged -= PURGE_EVERY

    assert await store.add("things", "b", b"one") is not None
    with pytest.raises(StoreUnavailable):
        await store.delete("things", "b")


async def test_a_table_that_the_host_created_needs_no_right_to_create(pool: asyncpg.Pool, postgres_server: Any) -> None:
    await pool.execute("CREATE SCHEMA ours; CREATE ROLE worker LOGIN;" + DDL.format(table="ours.state"))
    await pool.execute("GRANT USAGE ON SCHEMA ours TO worker; GRANT ALL ON ours.state TO worker")
    store = PostgresStore(postgres_server.dsn.replace("state@", "worker@"), table="ours.state")
    await store.put("things", "a", b"one")
    assert await store.get("things", "a") is not None
    await store.aclose()


async def test_writers_delete_rows_that_have_expired(pool: asyncpg.Pool) -> None:
    store = PostgresStore(pool, table="purged")
    await store.put("things", "a", b"one")
    await pool.execute("UPDATE purged SET expires_at = now() - interval '1 second'")
    store._purged -= PURGE_EVERY
    await store.put("things", "b", b"one")

    assert ["b"] == [row["key"] for row in await pool.fetch("SELECT key FROM purged")]


@pytest.mark.parametrize("table", ["", "a b", 'a"b', "a;b", "A", "1a", "a.b.c", "a" * 64, "a\n"])
def test_a_table_name_that_would_need_quoting_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="plain lower-case name"):
        PostgresStore("postgresql://127.0.0.1/db", table=table)


@pytest.mark.parametrize("address", [f"http://{PASSWORD}", PASSWORD, ""])
def test_an_address_of_another_scheme_is_refused_without_being_quoted(address: str) -> None:
    for kind in (RedisStore, PostgresStore):
        with pytest.raises(ValueError, match="://") as caught:
            kind(address)
        assert PASSWORD not in str(caught.value)


# Key-value...


class Broken:
    """An engine whose every call fails in a way of its own, and which cannot enumerate."""

    async def get(self, *arguments: Any, **options: Any) -> Any:
        raise LookupError("engine trouble")

    put = delete = ttl = get_many = put_many = delete_many = ttl_many = get


async def test_whatever_an_engine_raises_is_told_as_unavailable() -> None:
    store = KeyValueStore(Broken())
    for call in (lambda: store.get("c", "k"), lambda: store.put("c", "k", b""), lambda: store.delete("c", "k")):
        with pytest.raises(StoreUnavailable) as caught:
            await call()
        assert "LookupError" == caught.value.detail
        assert "engine trouble" not in str(caught.value)


async def test_an_engine_that_does_not_enumerate_says_so() -> None:
    store = KeyValueStore(Broken())

    assert store.enumerable is False
    with pytest.raises(NotImplementedError, match="Broken does not enumerate its keys"):
        await anext(store.scan("things"))


def test_what_is_no_key_value_store_is_refused_at_construction() -> None:
    with pytest.raises(TypeError, match="store: give a store of py-key-value-aio"):
        KeyValueStore({})  # type: ignore[arg-type]


# All of them...


def test_shared_stores_say_that_they_need_asyncio() -> None:
    async def under_trio(store: Store) -> None:
        with pytest.raises(RuntimeError, match="on asyncio only"):
            await store.get("things", "a")

    for store in (
        RedisStore("redis://127.0.0.1"),
        PostgresStore("postgresql://127.0.0.1/db"),
        KeyValueStore(KeyValueMemory()),
    ):
        trio.run(under_trio, store)


def test_what_belongs_to_a_closed_loop_is_let_go() -> None:
    class Connection:
        pass

    connections = PerLoop(Connection)

    async def opened() -> weakref.ref[Connection]:
        assert connections.get() is connections.get()
        return weakref.ref(connections.get())

    first = asyncio.run(opened())
    second = asyncio.run(opened())

    assert first() is None
    assert second() is not None


def test_the_secret_is_the_same_on_every_worker_and_is_never_the_given_one() -> None:
    one, other = (RedisStore("redis://127.0.0.1", secret="0123456789abcdef") for _ in range(2))
    postgres = PostgresStore("postgresql://127.0.0.1/db", secret=b"0123456789abcdef")
    without = RedisStore("redis://127.0.0.1")

    assert one.secret == other.secret == postgres.secret
    assert b"0123456789abcdef" != one.secret
    assert without.secret == PUBLIC_SECRET != one.secret


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        RedisStore("redis://127.0.0.1", secret="short")


def test_nothing_is_opened_at_construction(tmp_path: Path, refused: int) -> None:
    RedisStore(f"unix://{tmp_path}/none")
    PostgresStore(f"postgresql://127.0.0.1:{refused}/db")
