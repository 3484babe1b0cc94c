"""The requests that are under way, so that a host that goes down can wait for them and then end them."""

from __future__ import annotations

from typing import Protocol

import anyio

from ..errors import ServerShutdown
from .disconnect import Reason, Watch

FAREWELL = 2.0  # seconds in which streams that were stopped may still tell their clients


class Lasting(Protocol):
    """A connection that outlives its requests."""

    def wind_down(self) -> None:
        """Draining has begun: end as soon as nothing is under way."""
        ...

    def stop(self, reason: Reason) -> None:
        """End now."""
        ...


class UnderWay:
    """Knows each request's watch, and each lasting connection, while there is one."""

    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self.connections: set[Lasting] = set()
        self.draining = False
        self.empty: anyio.Event | None = None

    def check_open(self) -> None:
        """Refuse what comes after draining has begun.

        :raises ServerShutdown: it has.
        """
        if self.draining:
            raise ServerShutdown()

    def begin(self, watch: Watch) -> None:
        """Count the work that *watch* watches. Pair with `end`."""
        self.watches.add(watch)

    def end(self, watch: Watch) -> None:
        """The work has ended."""
        self.watches.discard(watch)
        self._check_empty()

    def open(self, connection: Lasting) -> None:
        """Count a connection. Pair with `close`."""
        self.connections.add(connection)

    def close(self, connection: Lasting) -> None:
        """The connection has ended."""
        self.connections.discard(connection)
        self._check_empty()

    def _check_empty(self) -> None:
        if self.empty is not None and not self.watches and not self.connections:
            self.empty.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new work, give what is under way *seconds*, then stop it."""
        self.draining = True
        for connection in tuple(self.connections):
            connection.wind_down()
        await self._emptied(seconds)
        for watch in tuple(self.watches):
            watch.stop("shutdown")
        for connection in tuple(self.connections):
            connection.stop("shutdown")
        await self._emptied(FAREWELL)

    async def _emptied(self, seconds: float) -> None:
        if self.watches or self.connections:
            self.empty = anyio.Event()
            with anyio.move_on_after(seconds):
                await self.empty.wait()
