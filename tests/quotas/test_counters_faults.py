"""Engines in another process: what happens when it is gone, stuck or not reached, and what is told of it."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
import trio

from gomodel_asgi.errors import QuotaUnavailable
from gomodel_asgi.extras import to_install
from gomodel_asgi.quotas.postgres import PostgresCounters
from gomodel_asgi.quotas.redis import RedisCounters
from gomodel_asgi.seams.counters import Counters, Figures

from ..support.databases import Server
from .engines import Open, opener
from .lines import NOON, line

PASSWORD = "hunter2-in-the-url"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["redis", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{kind}_server")
    return server


@pytest.fixture
def open_counters(kind: str, request: pytest.FixtureRequest) -> Open:
    return opener(kind, request)


@pytest.fixture
async def counters(open_counters: Open) -> AsyncGenerator[Counters, None]:
    counters = open_counters()
    yield counters
    await counters.aclose()


async def every_call(counters: Counters) -> None:
    """Each call in turn must raise QuotaUnavailable, and tell nothing."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: counters.reserve("a", [line()], NOON),
        lambda: counters.settle("a", [line()], [1], NOON),
        lambda: counters.figures([line()], NOON),
    ]
    for call in calls:
        with pytest.raises(QuotaUnavailable) as caught:
            await call()
        assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "quota_unavailable", 1.0)
        assert PASSWORD not in f"{caught.value} {caught.value.detail} {caught.value.payload}"


async def test_counters_whose_server_stops_are_unavailable_and_come_back_with_it(
    server: Server, counters: Counters
) -> None:
    await counters.reserve("a", [line()], NOON)
    await asyncio.to_thread(server.stop)
    try:
        await every_call(counters)
    finally:
        await asyncio.to_thread(server.start)

    assert (await counters.reserve("b", [line()], NOON)).refused is None


async def test_a_stuck_server_is_unavailable_within_the_timeout(server: Server, open_counters: Open) -> None:
    patient, impatient = open_counters(), open_counters(timeout=0.5)
    await patient.figures([line()], NOON)
    await impatient.figures([line()], NOON)
    server.signal(signal.SIGSTOP)
    try:
        await every_call(impatient)
    finally:
        server.signal(signal.SIGCONT)
    assert (await patient.reserve("b", [line()], NOON)).refused is None
    for counters in (patient, impatient):
        await counters.aclose()


async def test_a_refused_connection_is_unavailable_and_tells_no_password() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        for counters in (
            RedisCounters(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", timeout=5),
            PostgresCounters(f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/db", timeout=5),
        ):
            assert PASSWORD not in repr(counters)
            await every_call(counters)
            await counters.aclose()


async def test_a_cancelled_call_leaves_the_counters_usable_and_counts_once_or_not_at_all(counters: Counters) -> None:
    await counters.figures([line()], NOON)
    for number in range(20):
        task = asyncio.create_task(counters.reserve(f"{number}", [line(amount=5)], NOON))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await counters.settle(f"{number}", [line(amount=5)], [0], NOON)

    assert await counters.figures([line()], NOON) == (Figures(0, 0),)


async def test_more_calls_than_connections_wait_their_turn(counters: Counters) -> None:
    await asyncio.gather(*(counters.reserve(f"{number}", [line()], NOON) for number in range(100)))

    assert await counters.figures([line()], NOON) == (Figures(0, 100),)


def test_each_event_loop_has_connections_of_its_own(open_counters: Open) -> None:
    counters = open_counters()

    async def use(hold: str) -> None:
        await counters.reserve(hold, [line()], NOON)
        await counters.settle(hold, [line()], [2], NOON)
        await counters.aclose()

    for number in range(3):
        asyncio.run(use(f"{number}"))

    async def read() -> tuple[Figures, ...]:
        found: tuple[Figures, ...] = await counters.figures([line()], NOON)
        await counters.aclose()
        return found

    assert asyncio.run(read()) == (Figures(6, 0),)


def test_under_trio_the_counters_in_memory_are_named(open_counters: Open) -> None:
    async def use() -> None:
        with pytest.raises(RuntimeError, match="on asyncio only; under trio use what is in memory"):
            await open_counters().figures([line()], NOON)

    trio.run(use)


@pytest.mark.parametrize("address", [f"http://{PASSWORD}", PASSWORD, ""])
@pytest.mark.parametrize("made", [RedisCounters, PostgresCounters])
def test_an_address_of_another_scheme_is_refused_without_being_quoted(
    made: Callable[[str], Counters], address: str
) -> None:
    with pytest.raises(ValueError, match="://") as caught:
        made(address)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "library"), [("redis", "redis"), ("postgres", "asyncpg")], ids=["redis", "postgres"]
)
def test_an_engine_whose_library_is_missing_names_the_extra(engine: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None\nimport gomodel_asgi.quotas.{engine}"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    said = ended.stderr.strip().splitlines()[-1]

    assert said.startswith("ImportError: ") and said.endswith(f"{to_install(engine)}.")


@pytest.mark.parametrize("module", ["memory", "available", "windows"])
def test_counting_in_memory_needs_no_library_of_an_extra(module: str) -> None:
    code = f"import sys, gomodel_asgi.quotas.{module}; print([n for n in ('redis', 'asyncpg') if n in sys.modules])"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)

    assert ended.stdout == "[]\n", ended.stderr
