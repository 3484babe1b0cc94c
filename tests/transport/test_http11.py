"""Connections are shared with care: who may have one, for how long, who waits, and what flows over it."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
from pathlib import Path

import pytest
import trustme

from gomodel_asgi.errors import Overloaded, UpstreamError, UpstreamStale, UpstreamTimeout, UpstreamUnreachable
from gomodel_asgi.settings import Timeouts
from gomodel_asgi.transport import Http11Transport
from gomodel_asgi.transport.http11 import pool as pools_module
from gomodel_asgi.transport.http11.connection import Connection
from gomodel_asgi.transport.http11.pool import Pools
from gomodel_asgi.transport.request import race
from gomodel_asgi.transport.slots import ConnectionLimit

from ..support.requests import fetch, post, rest, until
from ..support.scripted_upstream import TIMEOUT, Peer, answer, chunked, reply
from .conftest import HTTP11, Kind, Serve, label

TIGHT = Timeouts(connect=0.05, pool=0.05)


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


# Sharing...


async def test_a_connection_is_used_again_by_the_same_credential_only(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port

    bodies = [(await fetch(transport, post(port, credential=who))).body for who in ("one", "one", "two", "one", "two")]

    assert bodies == [b"connection %d" % number for number in (1, 1, 2, 1, 2)]


async def test_allow_private_does_not_share_with_its_opposite(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port
    await fetch(transport, post(port))

    with pytest.raises(UpstreamUnreachable):
        await fetch(transport, post(port, allow_private=False))


async def test_a_reply_that_was_not_read_to_its_end_is_not_followed_by_another(
    transport: Http11Transport, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(chunked(b"connection %d" % peer.number, end=b"" if peer.number == 1 else b"0\r\n\r\n"))

    port = serve(script).port
    first = await transport.open(post(port))
    assert await first.read(10) == b"connection 1"
    await first.aclose()

    assert (await fetch(transport, post(port))).body == b"connection 2"


async def test_a_byte_on_an_idle_connection_closes_it(serve: Serve) -> None:
    sent, gone = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"connection %d" % peer.number))
        if peer.number == 1:
            sent.wait(10)
            peer.send(reply(b"foreign"))
            peer.gone()
            gone.set()

    transport, port = Http11Transport(keepalive=3600), serve(script).port
    await fetch(transport, post(port))
    sent.set()
    assert await asyncio.to_thread(gone.wait, 10)

    assert (await fetch(transport, post(port))).body == b"connection 2"
    await transport.aclose()


async def test_a_connection_that_closed_while_idle_is_not_used(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"connection %d" % peer.number))

    transport, port = Http11Transport(keepalive=3600), serve(script).port
    await fetch(transport, post(port))
    await until(lambda: not transport._pools().idle)

    assert (await fetch(transport, post(port))).body == b"connection 2"
    await transport.aclose()


async def test_a_reused_connection_that_closes_unheard_is_stale(transport: Http11Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"first"))
        peer.request()

    port = serve(script).port
    await fetch(transport, post(port))

    with pytest.raises(UpstreamStale) as caught:
        await fetch(transport, post(port))
    assert caught.value.kind == "stale"


async def test_of_idle_connections_the_one_used_last_is_used_next(serve: Serve) -> None:
    transport, port = Http11Transport(keepalive=3600), serve(answer).port
    replies = [await transport.open(post(port)) for _ in range(2)]
    for one in (replies[1], replies[0]):
        await rest(one)
        await one.aclose()

    assert (await fetch(transport, post(port))).body == b"connection 1"
    assert (await fetch(transport, post(port))).body == b"connection 1"
    await transport.aclose()


async def test_a_request_that_must_be_fresh_uses_no_idle_connection(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port

    answers = [await fetch(transport, post(port, fresh=fresh)) for fresh in (False, False, True)]

    assert [one.body for one in answers] == [b"connection 1", b"connection 1", b"connection 2"]


async def test_heads_that_differ_with_each_request_do_not_pile_up(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port
    for number in range(pools_module.MOST_OPENINGS + 1):
        await fetch(transport, post(port, headers=[(b"idempotency-key", b"%d" % number)]))

    (pool,) = transport._pools().pools.values()
    assert len(pool.openings) == 1


async def test_an_idle_connection_expires(serve: Serve) -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        answer(peer)
        gone.set()

    transport = Http11Transport(keepalive=0.02)
    await fetch(transport, post(serve(script).port))

    assert await asyncio.to_thread(gone.wait, 10)
    assert not transport._pools().pools


async def test_without_keepalive_a_connection_serves_once(serve: Serve) -> None:
    transport, port = Http11Transport(keepalive=0), serve(answer).port

    assert [(await fetch(transport, post(port))).body for _ in range(2)] == [b"connection 1", b"connection 2"]
    await transport.aclose()


async def test_closing_the_transport_closes_idle_connections_and_it_still_works(
    transport: Http11Transport, serve: Serve
) -> None:
    port = serve(answer).port
    await fetch(transport, post(port))

    await transport.aclose()

    assert not transport._pools().pools
    assert (await fetch(transport, post(port))).body == b"connection 2"


def test_one_transport_serves_several_loops_and_forgets_closed_ones(serve: Serve) -> None:
    transport, port = Http11Transport(), serve(answer).port

    async def once() -> bytes:
        try:
            return (await fetch(transport, post(port))).body
        finally:
            await transport.aclose()

    assert [asyncio.run(once()) for _ in range(3)] == [b"connection 1", b"connection 2", b"connection 3"]
    gc.collect()
    assert len(transport._loops) <= 1


# Waiting...


async def test_who_asked_first_is_served_first(serve: Serve) -> None:
    transport, port = Http11Transport(max_connections=1), serve(answer).port
    holder = await transport.open(post(port))
    served: list[int] = []

    async def wait(number: int) -> None:
        await fetch(transport, post(port))
        served.append(number)

    waiting = [asyncio.ensure_future(wait(number)) for number in range(5)]
    await until(lambda: len(only_pool(transport).waiting) == 5)
    await rest(holder)
    await holder.aclose()
    await asyncio.gather(*waiting)

    assert served == [0, 1, 2, 3, 4]
    await transport.aclose()


async def test_waiting_for_a_connection_ends_in_overloaded(serve: Serve) -> None:
    transport, port = Http11Transport(max_connections=1), serve(answer).port
    holder = await transport.open(post(port))

    with pytest.raises(Overloaded):
        await fetch(transport, post(port, timeouts=TIGHT))
    with pytest.raises(UpstreamTimeout):
        await fetch(transport, post(port, deadline=0.05))

    await holder.aclose()
    await transport.aclose()


async def test_the_oldest_idle_pool_makes_room_for_a_new_one(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port
    pools = Pools(asyncio.get_running_loop(), 5.0, 10)
    transport._loops[asyncio.get_running_loop()] = pools
    for who in "abc":
        await fetch(transport, post(port, credential=who))
    pools.max_pools = 3

    await fetch(transport, post(port, credential="d"))

    assert [key[3] for key in pools.pools] == ["b", "c", "d"]
    holders = [await transport.open(post(port, credential=who)) for who in "bcd"]
    with pytest.raises(Overloaded):
        await transport.open(post(port, credential="e"))
    for holder in holders:
        await holder.aclose()


def test_ten_thousand_pools_are_the_most() -> None:
    assert pools_module.MAX_POOLS == 10_000


# Connecting...


async def test_nobody_there_is_unreachable(transport: Http11Transport, serve: Serve) -> None:
    upstream = serve(answer)
    upstream.close()
    upstream.close = lambda: None  # type: ignore[method-assign]

    for request in (post(upstream.port), post(1, host="name.invalid"), post(1, uds="/nowhere"), post(70_000)):
        with pytest.raises(UpstreamUnreachable) as caught:
            await transport.open(request)
        assert caught.value.kind == "connect"
    assert not transport._pools().pools


async def test_a_connection_that_does_not_come_in_time_is_a_timeout_of_kind_connect(
    transport: Http11Transport, serve: Serve
) -> None:
    """TLS to an upstream that says nothing."""
    port = serve(lambda peer: peer.gone()).port

    with pytest.raises(UpstreamTimeout) as caught:
        await transport.open(post(port, scheme="https", timeouts=TIGHT))

    assert caught.value.kind == "connect"


async def test_the_next_address_is_tried_when_one_fails_or_hangs(transport: Http11Transport, serve: Serve) -> None:
    port, loop = serve(answer).port, asyncio.get_running_loop()
    pool = Pools(loop, 5.0, 10).of(("http", "x", 80, "", None, True))
    given_up, slots = asyncio.Event(), ConnectionLimit(10).here()

    async def dial(address: str) -> Connection:
        if address == "hangs":
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()
        if address == "fails":
            raise OSError("refused")
        return (await loop.create_connection(lambda: Connection(loop, pool), address, port))[1]

    async def close(connection: Connection) -> None:
        connection.abort()

    for bad in ("hangs", "fails"):
        connection = await race([bad, "127.0.0.1"], dial, slots, close)
        connection.abort()
    await given_up.wait()

    with pytest.raises(OSError, match="refused"):
        await race(["fails", "fails"], dial, slots, close)


async def test_a_unix_socket_is_an_upstream(transport: Http11Transport, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    serve(answer, path=path)

    assert (await fetch(transport, post(80, uds=str(path)))).body == b"connection 1"
    with pytest.raises(UpstreamUnreachable):
        await transport.open(post(80, uds=str(path), allow_private=False))


class Certificates:
    """An authority, a server of it for *name*, and a client that trusts it."""

    def __init__(self, name: str = "127.0.0.1") -> None:
        self.authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(self.server)
        self.client = ssl.create_default_context()
        self.authority.configure_trust(self.client)


async def test_tls_works_and_is_kept_alive(serve: Serve) -> None:
    certificates = Certificates()
    port = serve(answer, context=certificates.server).port
    transport = Http11Transport(ssl_context=certificates.client)

    bodies = [(await fetch(transport, post(port, scheme="https"))).body for _ in range(2)]

    assert bodies == [b"connection 1"] * 2
    await transport.aclose()


async def test_a_certificate_of_another_name_or_authority_is_refused(serve: Serve) -> None:
    elsewhere, unknown = Certificates("elsewhere.example"), Certificates()
    rows = [(elsewhere, elsewhere.client), (unknown, Certificates().client), (unknown, None)]
    for certificates, client in rows:
        port = serve(lambda peer: peer.gone(), context=certificates.server).port
        with pytest.raises(UpstreamUnreachable) as caught:
            await Http11Transport(ssl_context=client).open(post(port, scheme="https"))
        assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.detail)


async def test_mutual_tls_shows_the_clients_certificate(serve: Serve) -> None:
    certificates = Certificates()
    certificates.server.verify_mode = ssl.CERT_REQUIRED
    certificates.authority.configure_trust(certificates.server)
    port = serve(answer, context=certificates.server).port

    without = Http11Transport(ssl_context=certificates.client)
    with pytest.raises(UpstreamError):
        await fetch(without, post(port, scheme="https"))

    certificates.authority.issue_cert("client").configure_cert(certificates.client)
    transport = Http11Transport(ssl_context=certificates.client)
    assert (await fetch(transport, post(port, scheme="https"))).status == 200
    await transport.aclose()


# Reading and writing...


async def test_a_read_that_timed_out_can_be_repeated_without_loss(transport: Http11Transport, serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(b"one", end=b""))
        go_on.wait(10)
        peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    reply = await transport.open(post(serve(script).port))
    assert reply.resumable
    assert await reply.read(10) == b"one"
    for _ in range(3):
        with pytest.raises(UpstreamTimeout):
            await reply.read(0.01)
    go_on.set()
    assert await rest(reply) == b"two"
    await reply.aclose()


async def test_a_read_that_was_cancelled_can_be_repeated_without_loss(transport: Http11Transport, serve: Serve) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(b"one", end=b""))
        go_on.wait(10)
        peer.send(b"3\r\ntwo\r\n0\r\n\r\n")

    reply = await transport.open(post(serve(script).port))
    await reply.read(10)
    reading = asyncio.ensure_future(reply.read(10))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    go_on.set()
    assert await rest(reply) == b"two"
    await reply.aclose()


async def test_headers_at_one_byte_at_a_time_are_bounded_by_the_deadline(
    transport: Http11Transport, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.sock.settimeout(0.01)
        for byte in reply(b"", *[b"x: y"] * 100):
            peer.send(bytes([byte]))
            try:
                if not peer.sock.recv(1):
                    return
            except TimeoutError:
                pass

    with pytest.raises(UpstreamTimeout):
        await fetch(transport, post(serve(script).port, deadline=0.1))


async def test_a_burst_is_one_chunk(transport: Http11Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(*[b"x" * 10] * 100))

    reply = await transport.open(post(serve(script).port))
    await until(lambda: reply._connection is not None and reply._connection.reader.done)

    assert await reply.read(10) == b"x" * 1000
    assert await reply.read(10) == b""
    await reply.aclose()


async def test_who_does_not_read_holds_little_and_loses_nothing(transport: Http11Transport, serve: Serve) -> None:
    size = 20_000_000

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"x" * size))

    held = await transport.open(post(serve(script).port))
    connection = held._connection
    assert connection is not None
    await until(lambda: connection.reading_paused)
    for _ in range(100):
        await asyncio.sleep(0)

    assert connection.reader.size <= 64 * 1024 + 256 * 1024
    assert len(await rest(held)) == size
    await held.aclose()


async def test_a_large_body_arrives_whole_and_the_connection_is_kept(transport: Http11Transport, serve: Serve) -> None:
    body = bytes(range(256)) * 40_000

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            peer.send(reply(b"%d %d" % (peer.number, request.endswith(body))))

    port = serve(script).port

    assert [(await fetch(transport, post(port, body))).body for _ in range(2)] == [b"1 1", b"1 1"]


async def test_an_early_answer_is_used_and_the_connection_closed(transport: Http11Transport, serve: Serve) -> None:
    heard = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.send(reply(b"too large", status=b"413 Too Large"))
            heard.wait(TIMEOUT)  # nothing of the body is read meanwhile, so the answer is an early one
            peer.gone()
        else:
            answer(peer)

    port = serve(script).port

    early = await transport.open(post(port, b"x" * 30_000_000))
    heard.set()
    assert (early.status, await rest(early)) == (413, b"too large")
    await early.aclose()
    assert (await fetch(transport, post(port))).body == b"connection 2"


async def test_an_early_answer_is_the_last_even_where_the_body_is_taken_in_the_end(
    transport: Http11Transport, serve: Serve
) -> None:
    heard = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.send(chunked(b"early", end=b""))
            heard.wait(TIMEOUT)
        while peer.request() is not None:
            peer.send(b"0\r\n\r\n" if peer.number == 1 else reply(b"connection %d" % peer.number))

    port = serve(script).port

    early = await transport.open(post(port, b"x" * 30_000_000))
    heard.set()
    assert await rest(early) == b"early"
    await early.aclose()
    assert (await fetch(transport, post(port))).body == b"connection 2"


async def test_an_upstream_that_never_takes_the_body_is_a_timeout(transport: Http11Transport, serve: Serve) -> None:
    stop = threading.Event()
    port = serve(lambda peer: stop.wait(10)).port

    with pytest.raises(UpstreamTimeout):
        await fetch(transport, post(port, b"x" * 30_000_000, deadline=0.1))
    stop.set()


async def test_closing_a_reply_wakes_its_reader(transport: Http11Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(chunked(end=b""))
        peer.gone()

    reply = await transport.open(post(serve(script).port))
    reading = asyncio.ensure_future(reply.read(10))
    await asyncio.sleep(0)

    await reply.aclose()

    with pytest.raises(UpstreamError):
        await reading
    with pytest.raises(UpstreamError):
        await reply.read(10)
    await reply.aclose()


async def test_headers_are_lower_case_and_trailers_are_not_among_them(transport: Http11Transport, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(reply(b"", b"Set-Cookie: a=b", b"X-Y:  Z "))

    answer = await fetch(transport, post(serve(script).port))

    assert answer.headers == [(b"content-length", b"0"), (b"set-cookie", b"a=b"), (b"x-y", b"Z")]


def only_pool(transport: Http11Transport) -> pools_module.Pool:
    (pool,) = transport._pools().pools.values()
    return pool
