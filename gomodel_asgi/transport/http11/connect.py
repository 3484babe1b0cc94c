"""From a name to a connection: addresses, the race between them (RFC 8305), TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

import certifi

from ...seams.transport import UpstreamRequest
from ..resolve import addresses_of, unreachable
from ..slots import Slots
from .connection import Connection
from .pool import Pool

STAGGER = 0.25
"""Seconds before the next address is tried beside the last one (RFC 8305, 5: "Connection Attempt Delay")."""


def default_context() -> ssl.SSLContext:
    """Certificates checked against certifi's roots, hostnames checked, HTTP/1.1 by ALPN. Reads files: about 10 ms."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(pool: Pool, request: UpstreamRequest, context: ssl.SSLContext | None) -> Connection:
    """A fresh connection for *request*, with TLS if *context* is given.

    :raises UpstreamUnreachable: nobody there, no such name, TLS refused, or an address that is not public.
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
    return await race(addresses, dial, pool.pools.slots)


async def race(addresses: list[str], dial: Callable[[str], Awaitable[Connection]], slots: Slots) -> Connection:
    """The first of *addresses* that answers; the others are given up. One has a slot, others begin beside it only where
    there is one to spare."""
    untried = deque(addresses)
    running: set[asyncio.Future[Connection]] = set()
    error: BaseException = OSError("The name has no address.")
    try:
        while untried or running:
            if untried and (not running or slots.spare()):
                begun = asyncio.ensure_future(dial(untried.popleft()))
                if running:
                    begun.add_done_callback(lambda _: slots.give())
                running.add(begun)
            wait = STAGGER if untried else None
            done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            winners = [attempt for attempt in done if attempt.exception() is None]
            if winners:
                running.update(winners[1:])
                return winners[0].result()
            error = next((attempt.exception() or error for attempt in done), error)
        raise error
    finally:
        for attempt in running:
            attempt.add_done_callback(_give_up)
            attempt.cancel()


def _give_up(attempt: asyncio.Future[Connection]) -> None:
    # One that got through all the same, in the moment of being cancelled.
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().abort()


async def _start_tls(connection: Connection, context: ssl.SSLContext, host: str) -> None:
    if connection.closed or connection.transport.is_closing():
        raise ConnectionResetError("Closed before TLS began.")
    transport = await connection.loop.start_tls(
        connection.transport, connection, context, server_hostname=host.rstrip(".")
    )
    if transport is None:
        raise ConnectionResetError("Closed while TLS began.")
    connection.transport = transport
