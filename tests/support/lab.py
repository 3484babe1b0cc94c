"""A gateway driven by hand in front of upstreams on real sockets, on each transport and event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx2
import pytest
import trio

from gomodel_asgi import Gateway, Provider, Retries
from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.transport import Http11Transport, HttpxTransport, Transport

from .driving import TIMEOUT, Caller, ask
from .scripted_upstream import Script, Upstream

KEY = "sk-canary-house-key"
ONCE = Retries(per_target=1)
KINDS = [("http11", "asyncio"), ("httpx", "trio"), ("httpx2", "asyncio")]
"""`httpx` is the transport that the package makes itself, `httpx2` a pooled one that it is given."""


TRUST = ssl.create_default_context()
"""The system's roots, read once: the libraries would read theirs for each transport."""


def transport_of(kind: str) -> Transport:
    if kind == "http11":
        return Http11Transport()
    if kind == "httpx":
        return HttpxTransport(verify=TRUST)
    return HttpxTransport(httpx2.AsyncHTTPTransport(trust_env=False, verify=TRUST))


def living_tasks() -> int:
    """How many tasks the running event loop has."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return trio.lowlevel.current_statistics().tasks_living


class Lab:
    """*bad* and *good* are fake providers; `upstream(script)` is one of plain sockets; `gateway` is the last made."""

    def __init__(self, kind: str, bad: FakeProvider, good: FakeProvider) -> None:
        self.kind = kind
        self.bad = bad
        self.good = good
        self.transport = transport_of(kind)
        self.upstreams: list[Upstream] = []
        self.gateways: list[Gateway] = []
        self.tasks = 0

    def provider(self, where: FakeProvider | Upstream | str, name: str = "bad", **options: Any) -> Provider:
        if isinstance(where, FakeProvider):
            where = where.base_url
        elif isinstance(where, Upstream):
            where = f"http://127.0.0.1:{where.port}/v1"
        options.setdefault("api_key", KEY)
        return Provider(name, where, **options)

    def make(self, *providers: Provider, **options: Any) -> Gateway:
        """A gateway; without *providers*, in front of *bad*."""
        options.setdefault("retries", ONCE)
        given = providers or (self.provider(self.bad),)
        self.gateways.append(Gateway(providers=given, transport=self.transport, **options))
        return self.gateways[-1]

    @property
    def gateway(self) -> Gateway:
        return self.gateways[-1]

    def upstream(self, script: Script) -> Upstream:
        """An upstream that does to every connection what *script* says."""
        self.upstreams.append(Upstream(script))
        return self.upstreams[-1]

    async def ask(self, body: Any, **options: Any) -> Caller:
        """The gateway's answer to *body*."""
        return await ask(self.gateway, body, **options)

    async def release(self, condition: Any) -> None:
        """Let the providers' stalled replies go on, those too that have not begun to stall, until *condition* holds."""

        def released() -> object:
            self.bad.release()
            self.good.release()
            return condition()

        await until(released)

    async def settle(self) -> None:
        """Nothing may be left: no task, no connection, no place in a pool, no request that is under way."""
        for gateway in self.gateways:
            await gateway.aclose()
            assert not gateway.in_flight.watches
            slots = gateway.connections.here()
            await until(lambda slots=slots: not slots.open)
            assert all(not breaker.in_flight for breaker in gateway.setup.health.breakers.values())
        await until(lambda: not self.bad.open_connections and not self.good.open_connections)
        await until(lambda: not any(upstream.open for upstream in self.upstreams))
        if isinstance(self.transport, Http11Transport):
            assert not any(pools.pools for pools in self.transport._loops.values())
        await until(lambda: living_tasks() <= self.tasks)


async def until(condition: Any) -> None:
    """Let the loop run until *condition* holds; at most `TIMEOUT`."""
    with anyio.fail_after(TIMEOUT):
        while not condition():  # noqa: ASYNC110  another thread brings it about
            await anyio.sleep(0.001)


@pytest.fixture(scope="module")
def fakes() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    """Two providers for all tests of a module."""
    with FakeProvider(name="bad").run_in_thread() as bad, FakeProvider(name="good").run_in_thread() as good:
        yield bad, good


@pytest.fixture(params=KINDS, ids=["-".join(kind) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    assert isinstance(request.param, tuple)
    return request.param


@pytest.fixture
def anyio_backend(kind: tuple[str, str]) -> str:
    return kind[1]


@pytest.fixture
async def lab(kind: tuple[str, str], fakes: tuple[FakeProvider, FakeProvider]) -> AsyncIterator[Lab]:
    """A lab of the test's own; nothing may be left of it afterwards."""
    made = Lab(kind[0], *fakes)
    for fake in fakes:
        fake.clear()
    made.tasks = living_tasks()
    yield made
    for fake in fakes:
        fake.release()
    await made.settle()
    await made.transport.aclose()
    for upstream in made.upstreams:
        upstream.close()
        assert upstream.errors == []
