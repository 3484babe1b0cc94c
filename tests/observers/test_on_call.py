"""Each thing is broken for real, and the lines that are logged are read as somebody on call would read them."""

from __future__ import annotations

import io
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from gomodel_asgi import Gateway, Target
from gomodel_asgi.guards import Guard
from gomodel_asgi.ledger import JsonLines, Ledger
from gomodel_asgi.observers import LoggingObserver
from gomodel_asgi.quotas import Quota, Quotas, RedisCounters
from gomodel_asgi.resilience.circuit import MINIMUM, PAUSE
from gomodel_asgi.stores import RedisStore
from gomodel_asgi.testing import FakeProvider, Status

from ..support.clock import Clock
from ..support.databases import RedisServer
from ..support.driving import ask
from ..support.engines import new_redis, running
from ..support.lab import ONCE, until
from ..support.seen import KEY, gateway_of, native

HELLO = {"model": "m", "input": "Hello, canary"}
EVENTS = "%(levelname)s %(event)s: %(message)s"


class Terminal:
    """The log as a terminal shows it, of the package alone."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(logging.Formatter(EVENTS, defaults={"event": ""}))

    def lines(self, *events: str) -> list[str]:
        """Those of *events*."""
        return [line for line in self.stream.getvalue().splitlines() if line.split(": ")[0].split()[1] in events]

    def line(self, event: str) -> str:
        """The only one of *event*."""
        (line,) = self.lines(event)
        return line


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    seen, logger = Terminal(), logging.getLogger("gomodel_asgi")
    logger.addHandler(seen.handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield seen
    logger.setLevel(before)
    logger.removeHandler(seen.handler)
    text = seen.stream.getvalue()
    assert "canary" not in text and KEY not in text


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may kill."""
    server = new_redis()
    with running(server):
        yield server


async def test_an_outage_is_read_from_its_beginning_to_its_end(provider: FakeProvider, terminal: Terminal) -> None:
    clock = Clock()
    async with gateway_of(provider, LoggingObserver(clock=clock), retries=ONCE) as gateway:
        gateway.setup.health.clock = clock
        for _ in range(MINIMUM + 40):  # and a probe each ten seconds, all of which fail
            provider.fail_next(Status(500))
            await ask(gateway, HELLO)
            clock.now += PAUSE if gateway.health()["fake"].state == "open" else 0
        provider.clear()
        clock.now += PAUSE
        assert (await ask(gateway, HELLO)).status == 200
    told = terminal.lines("breaker_opened", "breaker_still_open", "breaker_closed")
    assert [line.split(":")[0] for line in told] == [
        "WARNING breaker_opened",
        "WARNING breaker_still_open",
        "INFO breaker_closed",
    ]
    assert told[0].startswith("WARNING breaker_opened: fake is failing (model m): at least half of its requests")
    assert "opened 300 s ago, and 30 requests" in told[1]
    assert told[2].endswith("has closed after 420 s. Nothing is to be done.")


async def test_fallbacks_are_counted_and_not_said_each_time(provider: FakeProvider, terminal: Terminal) -> None:
    clock, target = Clock(), Target("one", fallbacks=(Target("two"),))
    providers = [native(provider, "one"), native(provider, "two")]
    observer = LoggingObserver(clock=clock)
    async with gateway_of(
        provider, observer, providers=providers, retries=ONCE, policy=lambda request: target
    ) as gateway:
        for _ in range(3):
            provider.fail_next(Status(429, code="slow_down"))
            assert (await ask(gateway, HELLO)).status == 200
        clock.now += 301
        provider.fail_next(Status(429, code="slow_down"))
        await ask(gateway, HELLO)
    first, second = terminal.lines("fallback")
    assert first.startswith("WARNING fallback: one failed (slow_down), so two is asked instead (for the first time). ")
    assert "(3 times in the last 301 s)" in second


async def test_a_refused_key_is_said_with_whose_it_is_and_once(provider: FakeProvider, terminal: Terminal) -> None:
    async with gateway_of(provider, LoggingObserver(), retries=ONCE) as gateway:
        for _ in range(3):
            provider.fail_next(Status(401, message=f"Incorrect API key provided: {KEY}"))
            await ask(gateway, HELLO)
    assert terminal.line("credential_refused").startswith(
        "ERROR credential_refused: fake refuses the gateway's API key"
    )
    requests = terminal.lines("request")
    assert len(requests) == 3 and all("advice='renew the key of the provider fake" in line for line in requests)


async def test_a_customers_refused_key_wakes_nobody(provider: FakeProvider, terminal: Terminal) -> None:
    target = Target("fake", api_key="sk-canary-of-ada")
    async with gateway_of(provider, LoggingObserver(), policy=lambda request: target) as gateway:
        provider.fail_next(Status(401))
        await ask(gateway, HELLO)
    assert "it is the caller's to renew" in terminal.line("request")
    assert not [line for line in terminal.stream.getvalue().splitlines() if line.startswith("ERROR")]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_counters_whose_redis_is_killed(provider: FakeProvider, terminal: Terminal, redis: RedisServer) -> None:
    quotas = Quotas(lambda request: [Quota("month", per="month", tokens=10_000)], counters=RedisCounters(redis.url))
    async with gateway_of(provider, LoggingObserver(), quotas=quotas) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        redis.stop()
        for _ in range(3):
            assert (await ask(gateway, HELLO)).status == 503
    assert terminal.line("quota_unavailable").startswith(
        "WARNING quota_unavailable: The counters of the quota month (tokens) do not answer: "
    )
    assert "See whether their Redis or PostgreSQL is up" in terminal.line("counters_unavailable")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_store_whose_redis_is_frozen(provider: FakeProvider, terminal: Terminal, redis: RedisServer) -> None:
    store = RedisStore(redis.url, timeout=0.2)
    async with gateway_of(provider, LoggingObserver(), store=store) as gateway:
        redis.signal(signal.SIGSTOP)
        assert (await ask(gateway, path="/v1/responses/resp_1", method="GET")).status == 503
        redis.signal(signal.SIGCONT)
    assert terminal.line("store_unavailable").startswith("WARNING store_unavailable: The state store does not answer: ")


async def test_a_ledger_whose_database_and_spill_are_gone(
    provider: FakeProvider, terminal: Terminal, tmp_path: Path
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    ledger = Ledger(JsonLines(folder / "rows"), spill=folder / "spill", price=lambda *asked: None)
    folder.rmdir()  # as a volume that is no longer mounted
    async with gateway_of(provider, LoggingObserver(), ledger=ledger) as gateway:
        for _ in range(3):
            assert (await ask(gateway, HELLO)).status == 200
        await until(lambda: bool(terminal.lines("ledger_spill_failed")))
        folder.mkdir()
        with anyio.fail_after(20):
            while not terminal.lines("ledger_available"):
                await ledger.flush(1.0)
    assert f"Rows are kept in {folder / 'spill'} until it does." in terminal.line("ledger_unavailable")
    said = terminal.line("ledger_spill_failed")
    assert said.startswith(f"ERROR ledger_spill_failed: The ledger cannot spill rows to {folder / 'spill'}: ")
    assert "See whether the disk is full, or read-only." in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
async def test_a_spill_on_a_full_disk(provider: FakeProvider, terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "spill").symlink_to("/dev/full")
    ledger = Ledger(JsonLines(tmp_path / "none" / "rows"), spill=tmp_path / "spill", price=lambda *asked: None)
    async with gateway_of(provider, LoggingObserver(), ledger=ledger) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        await until(lambda: bool(terminal.lines("ledger_spill_failed")))
    assert "OSError" in terminal.lines("ledger_spill_failed")[0]
    assert terminal.line("ledger_rows_left").startswith(
        "ERROR ledger_rows_left: 1 rows of the ledger wait as it closes"
    )


async def test_a_guard_that_fails_is_said_with_a_count(provider: FakeProvider, terminal: Terminal) -> None:
    clock = Clock()

    def broken(given: object) -> None:
        raise ValueError("canary")

    guards = [Guard("pii", input=broken)]
    async with gateway_of(provider, LoggingObserver(clock=clock), guards=guards) as gateway:
        for _ in range(4):
            assert (await ask(gateway, HELLO)).status == 503
            clock.now += 25
    first, second = terminal.lines("guard_failed")
    assert first.startswith("WARNING guard_failed: The guard pii failed (ValueError) at the input of the request ")
    assert "(for the first time)" in first and "(3 times in the last 75 s)" in second


def test_what_is_remembered_of_outages_and_fallbacks_is_bounded(provider: FakeProvider) -> None:
    gateway: Gateway = gateway_of(provider, LoggingObserver())
    (observer,) = gateway.setup.observers.observers
    assert isinstance(observer, LoggingObserver)
    for number in range(3000):
        observer.failing.count(number, 0.0)
    assert len(observer.failing) == 1000
