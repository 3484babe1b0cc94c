"""Counters in Redis: scripts, keys, and what a Redis may do."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot

from gomodel_asgi.errors import QuotaUnavailable
from gomodel_asgi.quotas.redis import MOST, RedisCounters
from gomodel_asgi.seams.counters import REPEATS, Figures

from ..support.clock import until
from ..support.databases import RedisServer
from ..support.engines import running
from .engines import TIMEOUT
from .lines import KEEPS, NOON, SLOT, line


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def prefix() -> str:
    return f"t{os.urandom(8).hex()}:"


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncGenerator[Redis, None]:
    async with Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def counters(redis_server: RedisServer, prefix: str) -> AsyncGenerator[RedisCounters, None]:
    counters = RedisCounters(redis_server.url, prefix=prefix, timeout=TIMEOUT)
    yield counters
    await counters.aclose()


async def test_a_client_of_the_host_is_used_and_left_open_even_one_that_decodes(client: Redis, prefix: str) -> None:
    counters = RedisCounters(client, prefix=prefix, timeout=TIMEOUT)
    await counters.reserve("a", [line(amount=40)], NOON)
    await counters.settle("a", [line(amount=40)], [30], NOON)
    await counters.aclose()

    assert await counters.figures([line()], NOON) == (Figures(30, 0),)
    assert await client.ping()


async def test_all_keys_of_a_call_lie_in_one_slot_of_a_cluster_and_expire(
    counters: RedisCounters, client: Redis, prefix: str
) -> None:
    lines = [line(key="a{b}c"), line(key="d", per="minute", holds=False)]
    await counters.reserve("open", lines, NOON)
    await counters.reserve("closed", lines, NOON)
    await counters.settle("closed", lines, [1, 1], NOON)
    names = [name async for name in client.scan_iter(f"{prefix}*")]

    assert len(names) == 4 and len({key_slot(name.encode()) for name in names}) == 1
    lives = {name.removeprefix(f"{prefix}{{quotas}}:"): await client.pttl(name) / 1000 for name in names}
    until = {
        "counter:month:2026-11:a{b}c": lines[0].until - NOON,
        f"counter:{lines[1].window.name}:d": lines[1].until - NOON,
        "hold:open": KEEPS + REPEATS,
        "hold:closed": REPEATS,
    }
    assert lives.keys() == until.keys()
    for name, seconds in until.items():
        assert seconds - TIMEOUT < lives[name] <= seconds


class ClusterNode(RedisServer):
    """The only node of a cluster, which has all its slots."""

    def __init__(self) -> None:
        super().__init__()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self) -> Sequence[str]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            bus = free.getsockname()[1]
        where = ["--port", str(self.port), "--cluster-port", str(bus), "--bind", "127.0.0.1"]
        return [*super().command(), *where, "--cluster-enabled", "yes"]


@pytest.fixture
def cluster_node(redis_server: RedisServer) -> Iterator[ClusterNode]:
    node = ClusterNode()
    with running(node):
        yield node


async def test_a_cluster_counts_as_one_redis_does(cluster_node: ClusterNode, prefix: str) -> None:
    async with Redis.from_url(cluster_node.url) as node:
        execute: Any = node.execute_command
        await execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def is_ready() -> bool:
            return b"cluster_state:ok" in await execute("CLUSTER", "INFO")

        await until(is_ready)
    async with RedisCluster(host="127.0.0.1", port=cluster_node.port) as cluster:
        counters = RedisCounters(cluster, prefix=prefix, timeout=TIMEOUT)
        lines = [line(key="tokens", amount=40), line(key="requests", per="minute", holds=False)]
        assert (await counters.reserve("a", lines, NOON)).figures == (Figures(0, 40), Figures(1, 0))
        await counters.settle("a", lines, [30, 1], NOON)
        assert await counters.figures(lines, NOON) == (Figures(30, 0), Figures(1, 0))
        await counters.aclose()


async def test_a_counter_is_not_kept_for_a_shorter_time_than_somebody_asked_for(
    counters: RedisCounters, client: Redis, prefix: str
) -> None:
    await counters.reserve("a", [line()], NOON)
    await counters.reserve("b", [line()], line().until - 1)
    (name,) = [name async for name in client.scan_iter(f"{prefix}*counter*")]

    assert await client.pttl(name) / 1000 > line().until - NOON - TIMEOUT


async def test_a_call_after_all_its_time_is_no_error(counters: RedisCounters) -> None:
    late = line().until + 1000
    await counters.reserve("a", [line()], late)
    await counters.settle("b", [line()], [1], late)


async def test_scripts_are_sent_once_and_again_to_a_redis_that_has_lost_them(
    counters: RedisCounters, client: Redis
) -> None:
    async def evals() -> int:
        found = await client.info("commandstats")
        return int(found.get("cmdstat_eval", {"calls": 0})["calls"])

    for number in range(2):
        await client.script_flush()
        before = await evals()
        for each in range(5):
            await counters.reserve(f"{number}{each}", [line()], NOON)
            await counters.settle(f"{number}{each}", [line()], [1], NOON)
            await counters.figures([line()], NOON)
        assert await evals() - before == 3

    assert await counters.figures([line()], NOON) == (Figures(10, 0),)


class Forgetful:
    """A relay to Redis that passes each script on, takes the answer, and breaks the connection instead, as often as it
    is told."""

    def __init__(self, upstream: Path, times: int) -> None:
        self.upstream = upstream
        self.times = times

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self.upstream)
        try:
            while data := await reader.read(65536):
                upstream_writer.write(data)
                answer = await upstream_reader.read(65536)
                if b"EVAL" in data and b"NOSCRIPT" not in answer and self.times:
                    self.times -= 1
                    break
                writer.write(answer)
        finally:
            for each in (writer, upstream_writer):
                each.close()
                await each.wait_closed()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_call_whose_answer_was_lost_counts_once_whoever_repeats_it(
    redis_server: RedisServer, prefix: str, times: int
) -> None:
    """The library repeats a call once by itself, and then it is the caller's turn."""
    relay = Forgetful(redis_server.socket, 0)
    lines = [line(key="tokens", amount=40), line(key="requests", amount=1, holds=False)]
    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        counters = RedisCounters(
            f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}", prefix=prefix, timeout=TIMEOUT
        )

        async def repeated(call: str, *arguments: object) -> object:
            relay.times = times
            for _ in range(3):
                try:
                    return await getattr(counters, call)(*arguments)
                except QuotaUnavailable:
                    continue
            raise AssertionError("it was given up")

        await repeated("reserve", "a", lines, NOON)
        assert relay.times == 0
        assert await counters.figures(lines, NOON) == (Figures(0, 40), Figures(1, 0))
        await repeated("settle", "a", lines, [30, 1], NOON)
        assert await counters.figures(lines, NOON) == (Figures(30, 0), Figures(1, 0))
        await counters.aclose()


async def test_slots_of_holds_that_nobody_settles_do_not_pile_up(
    counters: RedisCounters, client: Redis, prefix: str
) -> None:
    for number in range(40):
        now = NOON + number * SLOT
        await counters.reserve(f"{number}", [line(now, per="week", limit=10**6)], now)
    fields = await client.hkeys(f"{prefix}{{quotas}}:counter:{line(per='week').window.name}:k")

    assert len(fields) <= 13 and all(re.fullmatch(r"h\d+", str(field)) for field in fields)


async def test_a_limit_that_redis_cannot_count_to_is_refused(counters: RedisCounters) -> None:
    with pytest.raises(ValueError, match="Redis counts to 9,007,199,254,740,991: the limit 9,007,199,254,740,992"):
        await counters.reserve("a", [line(), line(key="b", limit=MOST + 1)], NOON)


async def test_a_full_redis_and_one_that_holds_what_is_not_ours_are_unavailable(
    counters: RedisCounters, client: Redis, prefix: str
) -> None:
    await client.rpush(f"{prefix}{{quotas}}:counter:month:2026-11:k", "1")
    with pytest.raises(QuotaUnavailable):
        await counters.figures([line()], NOON)
    await client.config_set("maxmemory", "1")
    try:
        with pytest.raises(QuotaUnavailable) as caught:
            await counters.reserve("a", [line(key="other")], NOON)
    finally:
        await client.config_set("maxmemory", "0")

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "quota_unavailable", 1.0)
