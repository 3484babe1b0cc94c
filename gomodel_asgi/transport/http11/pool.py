"""Which connection serves whom. Pools of one event loop, each for one origin and one credential.

Strategy: a pool lives as long as it has a connection, open or being opened, or somebody waiting for one. Idle
connections stand in two orders at once: their pool's (the newest is used first, so that the others can expire) and
the loop's (the oldest is dropped first). Every step is O(1), and nothing here awaits but `turn`: a cancelled request
can leave no half-made book entry.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from ...errors import Overloaded, UpstreamTimeout
from ..base import UpstreamRequest
from ..head import authority, finished, opening
from .connection import Connection

MAX_POOLS = 10_000
"""An open pool costs a socket and about 4 kB: this bounds what tenants with keys of their own can make us hold."""

Key = tuple[str, str, int, str, str | None, bool]
"""scheme, host, port, credential, Unix socket, allow_private: what must agree for a connection to be shared."""
Turn = asyncio.Future["Connection | None"]

MOST_OPENINGS = 64
"""Beginnings of heads that a pool keeps. Few kinds of request go to one upstream with one key; a header that is new
with each request (an idempotency key) is what the bound is for."""


class Pool:
    """Connections to one origin with one credential. *open* counts those that are made or being made."""

    def __init__(self, pools: Pools, key: Key, host: bytes) -> None:
        self.pools = pools
        self.key = key
        self.host = host
        self.open = 0
        self.idle: dict[Connection, None] = {}
        self.waiting: OrderedDict[Turn, None] = OrderedDict()
        self.openings: dict[object, bytes] = {}

    def head(self, request: UpstreamRequest) -> bytes:
        """The head of *request*; what it has in common with others is put together once.

        :raises ValueError: as `request_head`.
        """
        kind = (request.method, request.target, *request.headers)
        begun = self.openings.get(kind)
        if begun is None:
            if len(self.openings) >= MOST_OPENINGS:
                self.openings.clear()
            begun = self.openings[kind] = opening(request, self.host)
        return finished(begun, request)

    def take(self) -> Connection | None:
        """The idle connection that was used last, if it is still good."""
        while self.idle:
            connection, _ = self.idle.popitem()
            del self.pools.idle[connection]
            if connection.healthy and connection.idle_since + self.pools.keepalive > self.pools.loop.time():
                return connection
            self.discard(connection)
        return None

    def reserve(self) -> bool:
        """Take the right to open one connection, if the limit allows it."""
        if self.open >= self.pools.limit:
            return False
        self.open += 1
        return True

    async def turn(self, until: float, deadline: float) -> Connection | None:
        """Wait, first come first served, for a connection or (None) for the right to open one.

        :raises Overloaded: loop time *until* has come.
        :raises UpstreamTimeout: it was the request's *deadline*.
        """
        loop = self.pools.loop
        turn: Turn = loop.create_future()
        self.waiting[turn] = None
        timer = loop.call_at(until, _expire, turn, until >= deadline)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._decline(turn.result())
            raise
        finally:
            timer.cancel()
            self.waiting.pop(turn, None)

    def give_back(self, connection: Connection) -> None:
        """Take back a connection: for whoever waits, to stay idle, or to be closed."""
        if not connection.reusable:
            return self.discard(connection)
        connection.rest()
        turn = self._next()
        if turn is not None:
            turn.set_result(connection)
        else:
            self.idle[connection] = None
            self.pools.keep(connection)

    def discard(self, connection: Connection) -> None:
        """Close a connection that is not idle."""
        connection.abort()
        self.vacate()

    def vacate(self) -> None:
        """Pass on the right to a connection that was closed or could not be made."""
        turn = self._next()
        if turn is not None:
            turn.set_result(None)
            return
        self.open -= 1
        self.pools.settle(self)

    def stray(self, connection: Connection) -> None:
        """Something came on a connection, or it was closed, out of turn. One in use is judged when it comes back."""
        if connection in self.idle:
            del self.idle[connection], self.pools.idle[connection]
            self.discard(connection)

    def _next(self) -> Turn | None:
        while self.waiting:
            turn, _ = self.waiting.popitem(last=False)
            if not turn.done():
                return turn
        return None

    def _decline(self, given: Connection | None) -> None:
        """What was given in the very moment of being cancelled goes to the next."""
        if given is None:
            self.vacate()
        else:
            self.give_back(given)


def _expire(turn: Turn, deadline: bool) -> None:
    if turn.done():
        return
    if deadline:
        turn.set_exception(UpstreamTimeout("No connection to the upstream became free in time."))
    else:
        turn.set_exception(Overloaded("Too many requests to this upstream at once."))


class Pools:
    """Every pool of *loop*. Idle connections are closed after *keepalive* seconds; a pool opens at most *limit*."""

    def __init__(self, loop: asyncio.AbstractEventLoop, keepalive: float, limit: int) -> None:
        self.loop = loop
        self.keepalive = keepalive
        self.limit = limit
        self.max_pools = MAX_POOLS
        self.pools: dict[Key, Pool] = {}
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        self.timer: asyncio.TimerHandle | None = None

    def of(self, key: Key) -> Pool:
        """The pool of *key*, made if need be.

        :raises Overloaded: MAX_POOLS are in use, none of them idle.
        """
        pool = self.pools.get(key)
        if pool is None:
            if len(self.pools) >= self.max_pools:
                self._make_room()
            pool = self.pools[key] = Pool(self, key, authority(key[0], key[1], key[2]))
        return pool

    def keep(self, connection: Connection) -> None:
        """Count *connection* as idle from now on."""
        connection.idle_since = self.loop.time()
        self.idle[connection] = None
        if self.timer is None:
            self.timer = self.loop.call_later(self.keepalive, self._sweep)

    def settle(self, pool: Pool) -> None:
        """Forget *pool* if nothing is left of it."""
        if not pool.open and not pool.waiting and self.pools.get(pool.key) is pool:
            del self.pools[pool.key]

    def close_idle(self) -> None:
        """Close every idle connection."""
        while self.idle:
            self._drop(next(iter(self.idle)))
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _sweep(self) -> None:
        self.timer = None
        due = self.loop.time() - self.keepalive
        while self.idle:
            connection = next(iter(self.idle))
            if connection.idle_since > due:
                self.timer = self.loop.call_at(connection.idle_since + self.keepalive, self._sweep)
                return
            self._drop(connection)

    def _make_room(self) -> None:
        while self.idle and len(self.pools) >= self.max_pools:
            self._drop(next(iter(self.idle)))
        if len(self.pools) >= self.max_pools:
            raise Overloaded("Too many upstreams at once.")

    def _drop(self, connection: Connection) -> None:
        connection.pool.stray(connection)
