"""The requests in flight, for a host that goes down to await and then end; and those that outlive their clients."""

from __future__ import annotations

from typing import Protocol

import anyio
import anyio.lowlevel
from starlette.types import Message, Send

from ..errors import ServerShutdown
from ..exchange.reply import Reply
from ..resilience.concurrency import Allowance
from .disconnect import Reason, Watch

FAREWELL = 2.0  # seconds in which streams that were stopped may still be ended in band


class Lasting(Protocol):
    """A connection that outlives its requests."""

    def wind_down(self) -> None:
        """Draining has begun: end as soon as nothing is in flight."""

    def stop(self, reason: Reason) -> None:
        """Ends it now."""


class InFlight:
    """Holds each request's watch, and each lasting connection. Who takes one out of `watches` calls `check_empty`
    where a drain waits for it to be `empty`."""

    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self.connections: set[Lasting] = set()
        self.draining = False
        self.empty: anyio.Event | None = None

    def check_open(self) -> None:
        """Refuses what comes after draining has begun.

        :raises ServerShutdown: it has.
        """
        if self.draining:
            raise ServerShutdown()

    def open(self, connection: Lasting) -> None:
        """Counts a connection. Pair with `close`."""
        self.connections.add(connection)

    def close(self, connection: Lasting) -> None:
        """Notes that the connection has ended."""
        self.connections.discard(connection)
        self.check_empty()

    def check_empty(self) -> None:
        """Wakes the drain that waits, once nothing is in flight."""
        if self.empty is not None and not self.watches and not self.connections:
            self.empty.set()

    async def drain(self, seconds: float) -> None:
        """Refuses new work, gives what is in flight *seconds*, then stops it."""
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


# Background requests whose clients have left: so many of each tenant go on, and nothing of them is sent any more.
#
# An upstream may end a response whose connection is closed, in the background too. What the gateway itself works on
# needs nobody to read it, so a reply that only follows such work ends with its client.


class Absence:
    """Knows whether the client of one background request has left, and the work goes on.

    *allowed* counts such requests, at most *limit* of each tenant. Before its tenant is known, nothing can go on.
    """

    def __init__(self, allowed: Allowance, limit: int | None) -> None:
        self.allowed = allowed
        self.limit = limit
        self.tenant: str | None = None
        self.identified = False
        self.reply: Reply | None = None
        self.left = False

    def identify(self, tenant: str | None) -> None:
        """Notes that the request is *tenant*'s."""
        self.tenant, self.identified = tenant, True

    @property
    def follows(self) -> bool:
        """Whether the reply only shows work that goes on without it."""
        return self.reply is not None and self.reply.candidate is None

    def goes_on(self) -> bool:
        """Returns whether the work goes on without its client, who has left."""
        if not self.left and self.identified and not self.follows:
            self.left = self.allowed.take(self.tenant, self.limit)
            if self.left and self.reply is not None:
                self.reply.left()
        return self.left

    def sending(self, reply: Reply, send: Send) -> Send:
        """Returns a *send* for *reply* that sends nothing once the client has left."""
        self.reply = reply
        if self.left:
            reply.left()

        async def sent(message: Message) -> None:
            if self.left:
                return await anyio.lowlevel.checkpoint()
            try:
                await send(message)
            except OSError:  # how some servers report that the client has left
                if not self.goes_on():
                    raise

        return sent

    def over(self) -> None:
        """Gives back the place of a request whose work has ended."""
        if self.left:
            self.left = False
            self.allowed.give_back(self.tenant)
