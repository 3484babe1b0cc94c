"""A served gateway that many tests share: one uvicorn, one fake provider, a gateway of its own for each test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.testing import FakeProvider

from .serving import Served

TIMEOUT = 20.0
"""Seconds after which a test is stuck: never reached by one that passes."""


class Switch:
    """An app that is whichever app the test has put in its place."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.failures: list[BaseException] = []
        self.resting: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        assert self.app is not None
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            self.failures.append(error)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        self.loop = asyncio.get_running_loop()
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})

    def run(self, function: Callable[[], Any]) -> Any:
        """What the coroutine function *function* returns, on the server's loop."""
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(function(), self.loop).result(TIMEOUT)

    async def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks of the server's loop but for the one that asks."""
        return asyncio.all_tasks() - {asyncio.current_task()}


class Stage:
    """What a test sees: *provider* is the upstream, `gateway(...)` puts a gateway behind *origin*."""

    def __init__(self, switch: Switch, origin: str, provider: FakeProvider) -> None:
        self.switch = switch
        self.origin = origin
        self.provider = provider
        self.gateways: list[Gateway] = []

    def gateway(self, wrap: Callable[[Gateway], ASGIApp] | None = None, **options: Any) -> Gateway:
        """A gateway in front of the provider; *wrap* makes the app that is served of it."""
        options.setdefault("providers", [Provider("fake", self.provider.base_url, api_key="sk-canary-house-key")])
        gateway = Gateway(**options)
        self.gateways.append(gateway)
        self.switch.app = gateway if wrap is None else wrap(gateway)
        return gateway

    def settle(self) -> None:
        """Nothing may be left of a test: no task, no connection upstream, no work that is under way."""
        for gateway in self.gateways:
            self.switch.run(gateway.aclose)
            until(partial(idle, gateway))
            assert all(not health.in_flight for health in gateway.health().values())
        until(lambda: not self.provider.open_connections)
        until(lambda: self.switch.run(self.switch.tasks) <= self.switch.resting)


@contextmanager
def staged(serve: Served) -> Iterator[Callable[[], Stage]]:
    """Makes a stage for each test out of one server and one provider."""
    switch = Switch()
    origin = serve(switch)
    until(lambda: switch.loop is not None)
    with FakeProvider().run_in_thread() as provider:
        switch.resting = switch.run(switch.tasks)

        def stage() -> Stage:
            provider.clear()
            switch.failures.clear()
            return Stage(switch, origin, provider)

        yield stage


def idle(gateway: Gateway) -> bool:
    """Whether *gateway* has no request under way."""
    return not gateway.in_flight.watches


def until(condition: Callable[[], object]) -> None:
    """Wait, at most `TIMEOUT`, for something that another thread brings about."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.002)
