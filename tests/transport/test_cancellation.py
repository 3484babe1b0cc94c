"""A request cancelled at any of its awaits leaves the pool whole: no place taken, nobody waiting, the next served."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any

import pytest
import trustme

from gomodel_asgi.transport import Http11Transport, HttpxTransport, Transport

from ..support.requests import fetch, post
from ..support.scripted_upstream import Peer, chunked, reply
from .conftest import HTTP11, Kind, Serve, label


class Interrupted:
    """Awaits *work*, and asks for its own task's cancellation when it suspends for the *at*-th time."""

    def __init__(self, work: Coroutine[Any, Any, object], at: int) -> None:
        self.work = work
        self.at = at
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, None]:
        step: Callable[[], Any] = partial(self.work.send, None)
        while True:
            try:
                pending = step()
            except StopIteration:
                return
            self._count()
            try:
                yield pending
            except BaseException as error:
                step = partial(self.work.throw, error)
            else:
                step = partial(self.work.send, None)

    def _count(self) -> None:
        self.suspensions += 1
        if self.suspensions == self.at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()


async def cancel_everywhere(
    work: Callable[[], Coroutine[Any, Any, object]], check: Callable[[], Awaitable[None]]
) -> int:
    """Run *work*, cancelled at its 1st, 2nd, ... await until it gets through; *check* each time. How often it was."""
    for at in range(1, 200):
        task = asyncio.ensure_future(run(Interrupted(work(), at)))
        done, _ = await asyncio.wait([task], timeout=10)
        assert done
        if not task.cancelled():
            task.result()
            return at - 1
        await check()
    raise AssertionError("never got through")


async def run(work: Interrupted) -> None:
    await work


def whole(transport: Transport) -> bool:
    """Nothing is open but what is idle, and nobody waits."""
    assert isinstance(transport, Http11Transport)
    pools = transport._pools()
    return all(pool.open == len(pool.idle) and not pool.waiting for pool in pools.pools.values()) and len(
        pools.idle
    ) == sum(len(pool.idle) for pool in pools.pools.values())


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


def stream(peer: Peer) -> None:
    while peer.request() is not None:
        peer.send(chunked(b"one", b"two", b"three"))


async def test_on_a_fresh_connection(transport: Http11Transport, serve: Serve) -> None:
    """Connecting, waiting for the headers, reading."""
    upstream = serve(stream)

    async def check() -> None:
        assert whole(transport)
        await transport.aclose()
        assert (await fetch(transport, post(upstream.port))).body == b"onetwothree"
        assert whole(transport)
        await transport.aclose()

    assert await cancel_everywhere(lambda: fetch(transport, post(upstream.port)), check) >= 2


async def test_on_a_reused_connection(transport: Http11Transport, serve: Serve) -> None:
    upstream = serve(stream)
    await fetch(transport, post(upstream.port))

    async def check() -> None:
        assert whole(transport)
        assert (await fetch(transport, post(upstream.port))).body == b"onetwothree"
        assert whole(transport)

    assert await cancel_everywhere(lambda: fetch(transport, post(upstream.port)), check) >= 1


async def test_with_tls_and_a_body_that_does_not_fit_into_the_socket(serve: Serve) -> None:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    transport = Http11Transport(ssl_context=client)
    upstream = serve(stream, context=server)
    request = post(upstream.port, b"x" * 3_000_000, scheme="https")

    async def check() -> None:
        assert whole(transport)
        await transport.aclose()
        assert (await fetch(transport, request)).body == b"onetwothree"
        await transport.aclose()

    assert await cancel_everywhere(lambda: fetch(transport, request), check) >= 3
    await transport.aclose()


async def test_while_waiting_for_a_turn(serve: Serve) -> None:
    """Also in the very moment in which the turn has come."""
    transport = Http11Transport(max_connections=1)
    upstream = serve(stream)

    async def work() -> None:
        holder = await transport.open(post(upstream.port))
        waiting = asyncio.ensure_future(fetch(transport, post(upstream.port)))
        try:
            await asyncio.sleep(0)
            while await holder.read(10):
                pass
            await holder.aclose()
            await waiting
        finally:
            await holder.aclose()
            waiting.cancel()
            await asyncio.wait([waiting])

    async def check() -> None:
        assert whole(transport)
        assert (await fetch(transport, post(upstream.port))).body == b"onetwothree"

    assert await cancel_everywhere(work, check) >= 3
    await transport.aclose()


async def test_a_turn_given_in_the_moment_of_cancellation_goes_to_the_next(serve: Serve) -> None:
    transport = Http11Transport(max_connections=1)

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(reply(b"whole")[: -1 if peer.number == 1 else None])

    upstream = serve(script)
    holder = await transport.open(post(upstream.port))
    first, second = (asyncio.ensure_future(fetch(transport, post(upstream.port))) for _ in range(2))
    await asyncio.sleep(0)

    await holder.aclose()  # in the middle: the connection is closed, and its place given to the first
    first.cancel()  # which does not know yet

    assert (await second).body == b"whole"
    assert first.cancelled()
    assert whole(transport)
    await transport.aclose()


async def test_on_a_wrapped_transport_the_next_request_is_served(serve: Serve) -> None:
    transport = HttpxTransport()
    upstream = serve(stream)

    async def check() -> None:
        assert (await fetch(transport, post(upstream.port))).body == b"onetwothree"

    assert await cancel_everywhere(lambda: fetch(transport, post(upstream.port)), check) >= 2
