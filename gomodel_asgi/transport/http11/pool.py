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
from ...seams.transport import UpstreamRequest
from ..request import authority, finished, opening
from ..slots import Slots, of_process, too_many
from .connection import Connection, Key, Suspects, origin_of

MAX_POOLS = 10_000
"""An open pool costs a socket and about 4 kB: this bounds what tenants with keys of their own can make us hold."""

Turn = asyncio.Future["Connection | None"]

MOST_OPENINGS = 64
"""Beginnings of heads that a pool keeps. Few kinds of request go to one upstream with one key; a header that is new
with each request (an idempotency key) is what the bound is for."""


class Pool:
    """Connections to one origin with one credential. *open* counts those that are made or being made."""

    def __init__(self, pools: Pools, key: Key, host: bytes) -> None:
        self.pools = pools
        self.key = key
        self.origin = origin_of(key)
        self.host = host
        self.open = 0
        self.idle: dict[Connection, None] = {}
        self.waiting: OrderedDict[Turn, None] = OrderedDict()
        self.openings: dict[object, bytes] = {}

    def head(self, request: UpstreamRequest) -> bytes:
        """Returns the head of *request*; what it has in common with others is put together once.

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
        """Returns the idle connection that was used last, or None where none is good."""
        found, aside, trusted = None, [], not (self.pools.suspects.until and self.distrusted)
        while self.idle and found is None:
            connection, _ = self.idle.popitem()
            if (connection.reader.after is not None and connection.undecided) or not connection.quiet:
                aside.append(connection)  # the event loop is about to deliver what has come on it
                continue
            del self.pools.idle[connection]
            fresh = connection.idle_since + self.pools.keepalive > self.pools.loop.time()
            if fresh and trusted and connection.healthy:
                found = connection
            else:
                self.discard(connection)
        for connection in reversed(aside):
            self.idle[connection] = None
        return found

    def reserve(self) -> bool:
        """Takes the right to open one connection; returns False where the limits do not allow it."""
        if self.open >= self.pools.limit or not self.pools.slots.take():
            return False
        self.pools.pools.setdefault(self.key, self)  # it may have been forgotten with its last connection
        self.open += 1
        return True

    async def turn(self, until: float, deadline: float) -> Connection | None:
        """Waits its turn, and returns a connection or, as None, the right to open one.

        :raises Overloaded: loop time *until* has come.
        :raises UpstreamTimeout: it was the request's *deadline*.
        """
        loop, queue = self.pools.loop, self.pools.slots.waiting
        turn: Turn = loop.create_future()
        self.waiting[turn] = None
        waits_for_slot = self.open < self.pools.limit
        if waits_for_slot:
            self.pools.slots.wait(turn, lambda: self._granted(turn))
        timer = loop.call_at(until, _expire, turn, until >= deadline, waits_for_slot)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._decline(turn.result())
            raise
        finally:
            timer.cancel()
            self.waiting.pop(turn, None)
            queue.pop(turn, None)
            self.pools.settle(self)

    def give_back(self, connection: Connection) -> None:
        """Takes back a connection: it goes to the longest waiter, stays idle, or is closed."""
        if not connection.reusable or (self.pools.suspects.until and self.distrusted):
            return self.rest(connection) if connection.undecided and not self.waiting else self.discard(connection)
        turn = self._next() if self.waiting else None
        if turn is not None:
            connection.rest()
            turn.set_result(connection)
        elif self.pools.slots.waiting:
            self.discard(connection)  # another pool needs its slot more
        else:
            self.rest(connection)

    def rest(self, connection: Connection) -> None:
        """Puts *connection* among the idle ones."""
        connection.rest()
        self.idle[connection] = None
        self.pools.keep(connection)

    def discard(self, connection: Connection) -> None:
        """Closes a connection that is not idle."""
        connection.abort()
        self.vacate()

    def vacate(self) -> None:
        """Passes on the right to a connection that was closed or could not be made."""
        turn = self._next()
        if turn is not None:
            turn.set_result(None)
            return
        self.open -= 1
        self.pools.settle(self)
        self.pools.slots.give()

    def stray(self, connection: Connection) -> None:
        """Something came on a connection, or it was closed, out of turn. One in use is judged when it comes back."""
        if connection in self.idle and not connection.undecided:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Closes an idle connection."""
        del self.idle[connection], self.pools.idle[connection]
        self.discard(connection)

    @property
    def distrusted(self) -> bool:
        """Whether the origin has no keep-alive."""
        suspects = self.pools.suspects
        return bool(suspects.until) and suspects.has(self.origin)

    def distrust(self) -> None:
        """Stops using the origin's connections: it has sent bytes after a complete reply."""
        self.pools.suspects.add(self.origin)
        for connection in [one for one in self.pools.idle if one.pool.origin == self.origin]:
            connection.pool.drop(connection)

    def _next(self) -> Turn | None:
        while self.waiting:
            turn, _ = self.waiting.popitem(last=False)
            if not turn.done():
                return turn
        return None

    def _granted(self, turn: Turn) -> bool:
        """Gives *turn* the slot that has become free; returns False where that no longer waits."""
        if turn.done():
            return False
        self.waiting.pop(turn, None)
        self.open += 1
        turn.set_result(None)
        return True

    def _decline(self, given: Connection | None) -> None:
        """What was given in the very moment of being cancelled goes to the next."""
        if given is None:
            self.vacate()
        else:
            self.give_back(given)


def _expire(turn: Turn, deadline: bool, slots: bool) -> None:
    if turn.done():
        return
    if deadline:
        turn.set_exception(UpstreamTimeout("No connection to the upstream became free in time."))
    elif slots:
        turn.set_exception(too_many())
    else:
        turn.set_exception(Overloaded("Too many requests to this upstream at once."))


class Pools:
    """Every pool of *loop*. Idle connections are closed after *keepalive* seconds; a pool opens at most *limit*, all
    together have *slots*."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keepalive: float,
        limit: int,
        suspects: Suspects | None = None,
        slots: Slots | None = None,
    ) -> None:
        self.loop = loop
        self.suspects = Suspects() if suspects is None else suspects
        self.slots = of_process().here() if slots is None else slots
        self.slots.idle.add(self)
        self.keepalive = keepalive
        self.limit = limit
        self.max_pools = MAX_POOLS
        self.pools: dict[Key, Pool] = {}
        self.idle: OrderedDict[Connection, None] = OrderedDict()
        self.timer: asyncio.TimerHandle | None = None

    def of(self, key: Key) -> Pool:
        """Returns the pool of *key*, made if need be.

        :raises Overloaded: MAX_POOLS are in use, none of them idle.
        """
        pool = self.pools.get(key)
        if pool is None:
            if len(self.pools) >= self.max_pools:
                self._make_room()
            pool = self.pools[key] = Pool(self, key, authority(key[0], key[1], key[2]))
        return pool

    def keep(self, connection: Connection) -> None:
        """Counts *connection* as idle from now on."""
        connection.idle_since = self.loop.time()
        self.idle[connection] = None
        if self.timer is None:
            self.timer = self.loop.call_later(self.keepalive, self._sweep)

    def settle(self, pool: Pool) -> None:
        """Forgets *pool* if nothing is left of it."""
        if not pool.open and not pool.waiting and self.pools.get(pool.key) is pool:
            del self.pools[pool.key]

    def close_oldest(self) -> bool:
        """Closes the connection that has been idle longest; returns False where there is none."""
        if not self.idle:
            return False
        self._drop(next(iter(self.idle)))
        return True

    def close_idle(self) -> None:
        """Closes every idle connection."""
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
            if connection.undecided:
                connection.pool.distrust()  # it has announced that it would close, and has not
            if connection in self.idle:
                self._drop(connection)

    def _make_room(self) -> None:
        """Drops an unused pool, if there are as many as there may be.

        :raises Overloaded: all are in use.
        """
        while self.idle and len(self.pools) >= self.max_pools:
            self._drop(next(iter(self.idle)))
        if len(self.pools) >= self.max_pools:
            raise Overloaded("Too many upstreams at once.")

    def _drop(self, connection: Connection) -> None:
        connection.pool.drop(connection)
