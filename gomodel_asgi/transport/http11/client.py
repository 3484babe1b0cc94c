"""`Http11Transport`: a request goes to its pool, through a connection, and comes back as a reply."""

from __future__ import annotations

import asyncio
import ssl
import threading
from weakref import WeakKeyDictionary

from ...errors import UpstreamTimeout, UpstreamTruncated
from ...seams.transport import Headers, Listener, UpstreamRequest
from ..slots import ConnectionLimit, of_process
from .connect import connect, default_context
from .connection import Connection
from .pool import Pool, Pools
from .suspects import Key, Suspects


class Http11Reply:
    """A reply that is being read; see `UpstreamReply`. It holds its connection until `aclose`."""

    __slots__ = ("_connection", "headers", "status")

    resumable = True

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.status: int = connection.reader.status
        self.headers: Headers = connection.reader.headers

    async def read(self, timeout: float) -> bytes:
        connection = self._connection
        if connection is None:
            raise UpstreamTruncated("The reply was closed.")
        reader = connection.reader
        if not reader.chunks:
            deadline = connection.loop.time() + timeout
            while not reader.chunks:
                if reader.done:
                    return b""
                if connection.closed:
                    raise connection.end()
                if not await connection.progress(deadline):
                    raise UpstreamTimeout("The upstream sent nothing for too long.")
        if connection.reading_paused:
            connection.resume_reading()
        return reader.take()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)


def key_of(request: UpstreamRequest) -> Key:
    """What a connection must have been made for to carry *request*."""
    return request.scheme, request.host, request.port, request.credential, request.uds, request.allow_private


class Http11Transport:
    """HTTP/1.1 with keep-alive, for asyncio and uvloop.

    Connections are shared only between requests of the same scheme, host, port, Unix socket, `credential` and
    `allow_private`. *ssl_context* is used for https; by default one that trusts certifi's roots, made with the first
    https request. *keepalive* is how many seconds an unused connection stays open: less than the 5 to 60 s after which
    servers close theirs. *max_connections* bounds one pool: 10,000 leaves room within the 28,000 local ports that
    Linux has for one destination, and is above what one process can stream at a time; who wants less sets
    `limits.provider_concurrency`. Nothing is read from the environment.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None = None, keepalive: float = 5.0, max_connections: int = 10_000
    ) -> None:
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._max_connections = max_connections
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Pools] = WeakKeyDictionary()
        self._suspects = Suspects()
        self._connections = of_process()
        self._last: Pools | None = None
        self._lock = threading.Lock()

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """Work for a gateway that has a limit of *connections*, the lowest of which holds where there are several, and
        tell its *listener* of what happens outside of any request. For event loops that are yet to come."""
        self._connections = self._connections.lower(connections)
        self._suspects.listeners.add(listener)

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The context that was given, for whoever else connects to the same upstreams."""
        return self._ssl_context

    async def open(self, request: UpstreamRequest) -> Http11Reply:
        """Send *request* and wait for the reply's headers; see `Transport`.

        :raises ValueError: a header, the method or the target would break the framing.
        :raises Overloaded: no connection became free within `timeouts.pool`.
        """
        pools = self._pools()
        deadline = pools.loop.time() + request.deadline
        pool = pools.of(key_of(request))
        try:
            head = pool.head(request)
        except ValueError:
            pools.settle(pool)
            raise
        connection = None if request.fresh else pool.take()
        connection = connection or await self._obtain(pool, request, deadline)
        try:
            connection.send(head, request.body, request.method == b"HEAD")
            while not connection.reader.status:
                if connection.closed:
                    raise connection.end()
                if not await connection.progress(deadline):
                    raise UpstreamTimeout("The upstream did not answer in time.")
            return Http11Reply(connection)
        except BaseException:
            pool.discard(connection)
            raise

    async def aclose(self) -> None:
        """Close the idle connections of the running loop; one in use is closed by its reply."""
        pools = self._loops.get(asyncio.get_running_loop())
        if pools is not None:
            pools.close_idle()
            await asyncio.sleep(0)  # the loop closes an aborted socket in its next round

    # A connection that has to be waited for...

    async def _obtain(self, pool: Pool, request: UpstreamRequest, deadline: float) -> Connection:
        if not pool.reserve():
            until = min(pool.pools.loop.time() + request.timeouts.pool, deadline)
            given = await pool.turn(until, deadline)
            if given is not None:
                if given.healthy and given.quiet:
                    return given
                given.abort()  # its place in the pool is ours, for a fresh one
        try:
            return await self._connect(pool, request, deadline)
        except BaseException:
            pool.vacate()
            raise

    async def _connect(self, pool: Pool, request: UpstreamRequest, deadline: float) -> Connection:
        now = pool.pools.loop.time()
        late = min(now + request.timeouts.connect, deadline)
        try:
            async with asyncio.timeout_at(late):
                context = await self._context() if request.scheme == "https" else None
                return await connect(pool, request, context)
        except TimeoutError:
            error = UpstreamTimeout("No connection to the upstream could be made in time.")
            if late < deadline:
                error.kind = "connect"
            raise error from None

    async def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            # Reads files, which is not for the event loop to wait for.
            self._ssl_context = await asyncio.get_running_loop().run_in_executor(None, default_context)
        return self._ssl_context

    def _pools(self) -> Pools:
        loop, pools = asyncio.get_running_loop(), self._last
        if pools is None or pools.loop is not loop:
            pools = self._last = self._loops.get(loop) or self._make_pools(loop)
        return pools

    def _make_pools(self, loop: asyncio.AbstractEventLoop) -> Pools:
        # A weak key is not enough to let a closed loop go: its connections refer to it.
        with self._lock:
            for other in list(self._loops):
                if other.is_closed():
                    del self._loops[other]
            slots = self._connections.here()
            pools = Pools(loop, self._keepalive, self._max_connections, self._suspects, slots)
            self._loops[loop] = pools
        return pools
