"""Budgets hold across processes: whole gateways in two of them, on real Redis and PostgreSQL."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.testing import FakeProvider, Stall

from ..support.driving import encoded, events_of
from ..support.seen import native
from ..support.spending import left, month, released
from ..support.spending_worker import counters_of
from ..support.worker import Worker

TIMEOUT = 60.0
BODY = encoded({"model": "m", "input": "Hello", "stream": True, "max_output_tokens": 100})
RESERVED = -(-len(BODY) // 4) + 100
HEADERS = {"content-type": "application/json", "x-tenant": "t"}

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # shared counters run on asyncio only

Start = Callable[..., list[Worker]]


@pytest.fixture(params=["redis", "postgres"])
def engine(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """An engine's kind, its address, and a name that no other test has."""
    name = f"t{os.urandom(8).hex()}"
    if request.param == "redis":
        return "redis", request.getfixturevalue("redis_server").url, name
    return "postgres", request.getfixturevalue("postgres_server").dsn, name


@pytest.fixture
def start(provider: FakeProvider, engine: tuple[str, str, str]) -> Iterator[Start]:
    """Starts two workers with a month's budget of so many tokens."""
    workers: list[Worker] = []

    def started(tokens: int, **env: str) -> list[Worker]:
        kind, url, name = engine
        known = {"ENGINE": kind, "URL": url, "NAME": name, "UPSTREAM": provider.base_url, "TOKENS": str(tokens)}
        given = {f"WORKER_{key}": value for key, value in {**known, **env}.items()}
        workers.extend(Worker(given, "tests.support.spending_worker:make_app") for _ in range(2))
        for worker in workers:
            worker.start()
        for worker in workers:
            wait_for(worker)
        return workers

    yield started
    provider.release()
    for worker in workers:
        worker.remove()


def wait_for(worker: Worker) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            httpx.get(f"{worker.origin}/v1/models", timeout=TIMEOUT)
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def onlooker(provider: FakeProvider, engine: tuple[str, str, str], tokens: int) -> Gateway:
    """A gateway that sees what the workers count."""
    return Gateway(
        providers=[native(provider)], quotas=month(tokens=tokens, counters=counters_of(*engine)),
        tenant=lambda scope: "t",
    )  # fmt: skip


async def test_fifty_parallel_streams_in_two_processes_get_no_more_than_a_budget_of_ten(
    provider: FakeProvider, engine: tuple[str, str, str], start: Start
) -> None:
    limit = 10 * RESERVED + RESERVED - 1
    workers = start(limit)
    for _ in range(50):
        provider.fail_next(Stall(after_events=2))
    answers: list[tuple[int, bytes]] = []

    async def stream(origin: str) -> None:
        async with client.stream("POST", f"{origin}/v1/responses", content=BODY, headers=HEADERS) as reply:
            answers.append((reply.status_code, await reply.aread()))

    async with AsyncExitStack() as stack:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=TIMEOUT, limits=limits))
        looking = await stack.enter_async_context(onlooker(provider, engine, limit))
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(stream, workers[number % 2].origin)
                await until(lambda: len(answers) == 40 and len(provider.requests) == 10)
                found = await left(looking, tenant="t")
                assert (found.spent, found.held) == (0, 10 * RESERVED)
                await released(provider, lambda: len(answers) == 50)

            assert sorted(status for status, _ in answers) == [200] * 10 + [429] * 40
            responses = [events_of(body)[-1]["response"] for status, body in answers if status == 200]
            used = sum(response["usage"]["total_tokens"] for response in responses)
            assert 0 < used <= limit
            await settled_at(looking, used)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110  another process brings it about
        await anyio.sleep(0.01)


async def settled_at(gateway: Gateway, spent: int) -> None:
    while ((found := await left(gateway, tenant="t")).spent, found.held) != (spent, 0):  # noqa: ASYNC110
        await anyio.sleep(0.01)


async def test_what_a_killed_worker_held_is_free_again_within_the_time_that_a_request_may_take(
    provider: FakeProvider, engine: tuple[str, str, str], start: Start
) -> None:
    first, second = start(RESERVED + 10, TOTAL="3")
    for _ in range(2):
        provider.fail_next(Stall(after_events=2))
    async with httpx.AsyncClient(timeout=TIMEOUT) as client, anyio.create_task_group() as group:

        async def broken_off() -> None:
            with pytest.raises(httpx.TransportError):
                await client.post(f"{first.origin}/v1/responses", content=BODY, headers=HEADERS)

        group.start_soon(broken_off)
        with anyio.fail_after(TIMEOUT):
            await provider.received(1)
            refused = await client.post(f"{second.origin}/v1/responses", content=BODY, headers=HEADERS)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) <= 4
            await anyio.to_thread.run_sync(first.kill)
            await anyio.sleep(float(refused.headers["retry-after"]))
            provider.clear()
            admitted = await client.post(f"{second.origin}/v1/responses", content=BODY, headers=HEADERS)
            assert admitted.status_code == 200
