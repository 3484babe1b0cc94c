"""`Http11Transport`: a request goes to its pool, through a connection, and comes back as a reply."""

from __future__ import annotations

import asyncio
import ssl
import threading
from weakref import WeakKeyDictionary

import certifi

from ...arguments import check_count, check_instance, check_seconds
from ...errors import UpstreamTimeout, UpstreamTruncated
from ...seams.transport import Headers, Listener, UpstreamRequest
from ..request import addresses_of, race, unconnected, unreachable
from ..slots import ConnectionLimit, of_process
from .connection import Connection, Key, Suspects
from .pool import Pool, Pools

# From a name to a connection: addresses, TLS.


def default_context() -> ssl.SSLContext:
    """Returns a context that checks hostnames and, by certifi's roots, certificates. Reads files: about 10 ms."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(pool: Pool, request: UpstreamRequest, context: ssl.SSLContext | None) -> Connection:
    """Returns a fresh connection for *request*, with TLS if *context* is given.

    :raises UpstreamUnreachable: no server, no such name, TLS refused, or an address that is not public.
    """
    try:
        connection = await _dial(pool, request)
        try:
            if context is not None:
                await _start_tls(connection, context, request.host)
        except BaseException:
            connection.abort()
            raise
    except (OSError, ValueError, OverflowError) as error:
        raise unreachable(f"{type(error).__name__}: {error}") from error
    return connection


async def _dial(pool: Pool, request: UpstreamRequest) -> Connection:
    """Returns a new connection without TLS.

    :raises OSError: none can be made.
    """
    loop = pool.pools.loop

    def protocol() -> Connection:
        return Connection(loop, pool)

    if request.uds is not None:
        if not request.allow_private:
            raise OSError("A Unix socket is not a public address.")
        return (await loop.create_unix_connection(protocol, request.uds))[1]

    async def dial(address: str) -> Connection:
        return (await loop.create_connection(protocol, address, request.port))[1]

    addresses = await addresses_of(request)
    if len(addresses) == 1:
        return await dial(addresses[0])
    return await race(addresses, dial, pool.pools.slots, _drop)


async def _drop(connection: Connection) -> None:
    connection.abort()


async def _start_tls(connection: Connection, context: ssl.SSLContext, host: str) -> None:
    """Encrypts *connection*.

    :raises ConnectionResetError: it was closed.
    """
    if connection.closed or connection.transport.is_closing():
        raise ConnectionResetError("Closed before TLS began.")
    transport = await connection.loop.start_tls(
        connection.transport, connection, context, server_hostname=host.rstrip(".")
    )
    if transport is None:
        raise ConnectionResetError("Closed while TLS began.")
    connection.transport = transport


class Http11Reply:
    """A reply that is being read; see `UpstreamReply`. It holds its connection until `aclose`."""

    __slots__ = ("_connection", "headers", "status")

    resumable = True

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self.status: int = connection.reader.status
        self.headers: Headers = connection.reader.headers

    async def read(self, timeout: float) -> bytes:
        """Returns what has come, waiting for it if need be, or `b""` at the end; see `UpstreamReply.read`.

        :raises UpstreamTimeout: nothing came within *timeout* seconds.
        :raises UpstreamTruncated: the connection closed before the end, or the reply was closed.
        :raises UpstreamProtocolError: the framing is broken.
        """
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
        data = b"".join(reader.chunks)  # as `ReplyReader.take`, which each event of a stream would call
        reader.chunks.clear()
        reader.size = 0
        return data

    async def aclose(self) -> None:
        """Gives the connection back to its pool. A second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.pool.give_back(connection)


def key_of(request: UpstreamRequest) -> Key:
    """Returns the key of the pool whose connections can carry *request*."""
    return request.scheme, request.host, request.port, request.credential, request.uds, request.allow_private


class Http11Transport:
    """HTTP/1.1 with keep-alive, for asyncio and uvloop.

    Connections are shared only between requests of the same scheme, host, port, Unix socket, `credential` and
    `allow_private`. *ssl_context* is used for https; by default one that trusts certifi's roots, made with the first
    https request. *keepalive* is how many seconds an unused connection stays open: less than the 5 to 60 s after which
    servers close theirs. *max_connections* bounds one pool: 10,000 leaves room within the 28,000 local ports that
    Linux has for one destination, and is above what one process can stream at a time; for a lower bound set
    `limits.provider_concurrency`. Nothing is read from the environment.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None = None, keepalive: float = 5.0, max_connections: int = 10_000
    ) -> None:
        if ssl_context is not None:
            check_instance("ssl_context", ssl_context, ssl.SSLContext, "an ssl.SSLContext")
        check_seconds("keepalive", keepalive)
        check_count("max_connections", max_connections, at_least=1)
        self._ssl_context = ssl_context
        self._keepalive = keepalive
        self._max_connections = max_connections
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Pools] = WeakKeyDictionary()
        self._suspects = Suspects()
        self._connections = of_process()
        self._last: Pools | None = None
        self._lock = threading.Lock()

    def attach(self, connections: ConnectionLimit, listener: Listener) -> None:
        """Adopts a gateway's limit of *connections* (of several the lowest holds), and its *listener*, which is called
        for what happens outside of any request. Event loops that the transport runs on already keep their limit."""
        self._connections = self._connections.lower(connections)
        self._suspects.listeners.add(listener)

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """Returns the context that was given, for others that connect to the same upstreams."""
        return self._ssl_context

    async def open(self, request: UpstreamRequest) -> Http11Reply:
        """Sends *request* and waits for the reply's headers; see `Transport`.

        :raises ValueError: a header, the method or the target would break the framing.
        :raises Overloaded: no connection became free within `timeouts.pool`.
        """
        pools = self._last
        if pools is None or pools.loop is not asyncio.get_running_loop():
            pools = self._pools()
        deadline = pools.loop.time() + request.deadline
        key = key_of(request)
        pool = pools.pools.get(key) or pools.of(key)
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
        """Closes the idle connections of the running loop; one in use is closed by its reply."""
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
        """Returns a new connection.

        :raises UpstreamTimeout: none came about within the time to connect, or by *deadline* on the loop's clock.
        """
        now = pool.pools.loop.time()
        late = min(now + request.timeouts.connect, deadline)
        try:
            async with asyncio.timeout_at(late):
                context = await self._context() if request.scheme == "https" else None
                return await connect(pool, request, context)
        except TimeoutError:
            error = unconnected()
            if late >= deadline:
                error.kind = UpstreamTimeout.kind
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
