"""Stores over real engines. One contract, told once (`test_contract.py`), holds for every one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

from gomodel_asgi.stores import Encrypted, KeyValueStore, MemoryStore, PostgresStore, RedisStore, Store

from .databases import PostgresServer, RedisServer, Server, postgres_binaries

ATOMIC = ["memory", "redis", "postgres", "encrypted"]

Open = Callable[[], Store]
"""Opens a store on the data of this test: each call is another worker."""


@contextmanager
def running(server: Server) -> Iterator[None]:
    """*server* runs, on data of its own, which is gone afterwards."""
    try:
        server.start()
        yield
    finally:
        server.remove()


def new_redis() -> RedisServer:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    return RedisServer()


def new_postgres() -> PostgresServer:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    return PostgresServer(binaries)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    server = new_redis()
    with running(server):
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = new_postgres()
    with running(server):
        yield server


def opener(kind: str, request: pytest.FixtureRequest) -> Open:
    """How a worker opens the store *kind*, on data that no other test has."""
    name = f"t{os.urandom(8).hex()}"
    held: dict[str, Any] = {}
    match kind:
        case "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            return lambda: RedisStore(server.url, namespace=name)
        case "postgres":
            database: PostgresServer = request.getfixturevalue("postgres_server")
            return lambda: PostgresStore(database.dsn, table=name)
        case "key-value":
            engine = KeyValueMemory()
            return lambda: KeyValueStore(engine)
        case "encrypted":
            key, inner = os.urandom(32), MemoryStore()
            return lambda: Encrypted(inner, key)
    return lambda: held.setdefault("store", MemoryStore())


@pytest.fixture(params=[*ATOMIC, "key-value"])
def open_store(request: pytest.FixtureRequest) -> Open:
    return opener(request.param, request)


@pytest.fixture(params=ATOMIC)
def open_atomic(request: pytest.FixtureRequest) -> Open:
    return opener(request.param, request)


@pytest.fixture
async def store(open_store: Open) -> AsyncGenerator[Store, None]:
    store = open_store()
    yield store
    await store.aclose()


@pytest.fixture
async def workers(open_atomic: Open) -> AsyncGenerator[tuple[Store, Store], None]:
    """Two workers on the same data."""
    first, second = open_atomic(), open_atomic()
    yield first, second
    await first.aclose()
    await second.aclose()
