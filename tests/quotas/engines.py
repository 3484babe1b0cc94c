"""The engines of counters, each on data that no other test has."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from gomodel_asgi.quotas.memory import MemoryCounters
from gomodel_asgi.quotas.postgres import PostgresCounters
from gomodel_asgi.quotas.redis import RedisCounters
from gomodel_asgi.seams.counters import Counters

from ..support.databases import PostgresServer, RedisServer

ENGINES = ["memory", "redis", "postgres"]

PATIENCE = 20.0
"""Seconds: the tests are not about the speed of this machine."""

Open = Callable[..., Counters]
"""Opens counters on the data of this test, with that time-out: each call is another worker."""


def opener(kind: str, request: pytest.FixtureRequest) -> Open:
    name = f"t{os.urandom(8).hex()}"
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return lambda timeout=PATIENCE: RedisCounters(server.url, prefix=f"{name}:", timeout=timeout)
    if kind == "postgres":
        database: PostgresServer = request.getfixturevalue("postgres_server")
        return lambda timeout=PATIENCE: PostgresCounters(database.dsn, table=name, timeout=timeout)
    engine = MemoryCounters()
    return lambda: engine
