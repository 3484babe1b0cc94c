"""Counters that several processes share: exact to the bound, whatever becomes of a process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from gomodel_asgi.seams.counters import Counters

from ..support.databases import PostgresServer, RedisServer
from .lines import NOON, SLOT, line
from .worker import LIMIT, counters_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shared(NamedTuple):
    """The arguments by which a process finds the counters of this test."""

    engine: str
    address: str
    name: str

    def open(self) -> Counters:
        return counters_of(*self)


@pytest.fixture(params=["redis", "postgres"])
def shared(request: pytest.FixtureRequest) -> Shared:
    server: RedisServer | PostgresServer = request.getfixturevalue(f"{request.param}_server")
    address = server.url if isinstance(server, RedisServer) else server.dsn
    return Shared(request.param, address, f"t{os.urandom(8).hex()}")


@asynccontextmanager
async def workers(shared: Shared, number: int, streams: int) -> AsyncGenerator[list[Process], None]:
    """So many processes that are ready to begin."""
    command = [sys.executable, "-m", "tests.quotas.worker", *shared, str(streams)]
    started = [await asyncio.create_subprocess_exec(*command, str(n), stdin=PIPE, stdout=PIPE) for n in range(number)]
    try:
        for worker in started:
            assert await told(worker) == "ready"
        yield started
    finally:
        for worker in started:
            if worker.returncode is None:
                worker.kill()
            await worker.wait()


async def told(worker: Process) -> Any:
    assert worker.stdout is not None
    return json.loads(await worker.stdout.readline())


def go(worker: Process) -> None:
    assert worker.stdin is not None
    worker.stdin.write(b"\n")


async def read(counters: Counters, now: float = NOON) -> list[tuple[int, int]]:
    found = await counters.figures([line(now, per="month"), line(now, per="hour")], now)
    return [(one.spent, one.held) for one in found]


async def test_fifty_streams_of_two_processes_share_a_budget_of_ten_to_the_bound(shared: Shared) -> None:
    counters = shared.open()
    async with workers(shared, 2, 25) as started:
        for worker in started:
            go(worker)
        admitted = [hold for worker in started for hold in await told(worker)]
        assert len(admitted) == LIMIT
        assert await read(counters) == [(0, LIMIT)] * 2
        for worker in started:
            go(worker)
        assert [await told(worker) for worker in started] == ["settled"] * 2

    # The bound: the limit, and what the running ones have used beyond what they had reserved.
    assert await read(counters) == [(LIMIT + LIMIT * (2 - 1), 0)] * 2
    await counters.aclose()


async def test_what_a_killed_process_held_is_free_a_lifetime_later_and_what_it_spent_stays(shared: Shared) -> None:
    counters = shared.open()
    await counters.settle("before", [line(per="month"), line(per="hour")], [3, 3], NOON)
    async with workers(shared, 1, 25) as (worker,):
        go(worker)
        assert len(await told(worker)) == LIMIT - 3
        worker.kill()
        await worker.wait()
    assert await read(counters) == [(3, LIMIT - 3)] * 2
    last = NOON + 7 * SLOT - 1

    assert (await read(counters, last))[0] == (3, LIMIT - 3)
    assert (await read(counters, last + 1))[0] == (3, 0)
    free = line(last + 1, limit=LIMIT, amount=LIMIT - 3)
    assert (await counters.reserve("after", [free], last + 1)).refused is None
    await counters.aclose()
