"""An origin that has sent bytes after a complete reply gets no second request on a connection, for a while."""

from __future__ import annotations

import random
import threading

import pytest

from gomodel_asgi.seams.transport import Listener
from gomodel_asgi.transport import Http11Transport
from gomodel_asgi.transport.http11.connection import MOST_SUSPECTS, PROBATION, Suspects
from gomodel_asgi.transport.http11.framing import After
from gomodel_asgi.transport.slots import ConnectionLimit

from ..support.requests import Answer, fetch, post, until
from ..support.scripted_upstream import TIMEOUT, Peer, chunked, reply
from .conftest import HTTP11, Kind, Serve, label

EVIL = reply(b"somebody else's")
TIMED_OUT = b"HTTP/1.1 408 Request Time-out\r\ncontent-length: 4\r\n"
WHOLE_408 = TIMED_OUT + b"\r\nslow"
CLOSING_408 = TIMED_OUT + b"connection: close\r\n\r\nslow"


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


class Reported:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def keepalive_lost(self, origin: str, seconds: float) -> None:
        assert seconds == PROBATION
        self.lost.append(origin)


class Odd:
    """Its first connection adds something to its first reply; all else it does is as it should be."""

    def __init__(self, sent: bytes, *then: bytes, closes: bool = False, first: bytes = b"") -> None:
        self.sent = sent
        self.then = then
        self.closes = closes
        self.first = first or reply(b"connection 1")
        self.go_on = threading.Event()
        self.over = threading.Event()

    def __call__(self, peer: Peer) -> None:
        while peer.request() is not None:
            if peer.number > 1:
                peer.send(reply(b"connection %d" % peer.number))
                continue
            peer.send(self.first + self.sent)
            if self.then:
                self.go_on.wait(TIMEOUT)
                peer.send(*self.then)
            self.over.set()
            if self.closes:
                return


def listening(transport: Http11Transport) -> Reported:
    reported = Reported()
    listener: Listener = reported
    transport.attach(ConnectionLimit(100), listener)
    return reported


async def asked(transport: Http11Transport, port: int, *who: str) -> list[bytes]:
    return [(await fetch(transport, post(port, credential=one))).body for one in who]


def patient() -> Http11Transport:
    return Http11Transport(keepalive=3600)


IN_ONE_PIECE = {
    "a reply": EVIL,
    "a byte": b"x",
    "a byte after a line end": b"\r\nx",
    "a 408 behind the reply": CLOSING_408,
}


@pytest.mark.parametrize("framed", [reply(b"connection 1"), chunked(b"connection 1")], ids=["length", "chunked"])
@pytest.mark.parametrize("sent", IN_ONE_PIECE.values(), ids=IN_ONE_PIECE)
async def test_bytes_right_behind_a_reply_cost_the_origin_its_keepalive(
    serve: Serve, sent: bytes, framed: bytes
) -> None:
    transport = patient()
    reported, port = listening(transport), serve(Odd(sent, first=framed)).port

    assert await asked(transport, port, "a", "a", "a", "b", "b") == [b"connection %d" % one for one in range(1, 6)]
    assert reported.lost == [f"http://127.0.0.1:{port}"]
    assert not transport._pools().idle
    await transport.aclose()


LATER = {
    "a reply": (EVIL,),
    "a byte": (b"x",),
    "no reply of HTTP": (b"HTTP/3.7 408 No\r\n\r\n",),
    "a 408 with something behind it": (CLOSING_408 + b"x",),
    "two of them": (WHOLE_408, CLOSING_408),
    "an endless 408": (TIMED_OUT, b"x: y\r\n" * 20_000),
}


@pytest.mark.parametrize("sent", LATER.values(), ids=LATER)
async def test_bytes_on_an_idle_connection_cost_the_origin_its_keepalive(serve: Serve, sent: tuple[bytes, ...]) -> None:
    transport, odd = patient(), Odd(b"", *sent)
    reported, port = listening(transport), serve(odd).port
    await asked(transport, port, "a")

    odd.go_on.set()
    await until(lambda: transport._suspects.until)

    assert await asked(transport, port, "a", "a", "b", "b") == [b"connection %d" % one for one in range(2, 6)]
    assert reported.lost == [f"http://127.0.0.1:{port}"]
    await transport.aclose()


HARMLESS = {
    "a line end": (b"\r\n",),
    "line ends": (b"\n", b"\r\n\r\n"),
    "a 408": (WHOLE_408,),
    "a 408 that says so": (CLOSING_408,),
    "a 408 without a body": (b"HTTP/1.0 408 Request Time-out\r\ncontent-length: 0\r\n\r\n",),
    "a 408 until the close": (b"HTTP/1.1 408 Request Time-out\r\n\r\nslow",),
    "a 408 in pieces": (CLOSING_408[:7], CLOSING_408[7:50], CLOSING_408[50:]),
    "a 408 behind a line end": (b"\r\n", CLOSING_408),
    "nothing": (b"",),
}


@pytest.mark.parametrize("sent", HARMLESS.values(), ids=HARMLESS)
async def test_what_a_server_says_when_it_closes_costs_it_nothing(serve: Serve, sent: tuple[bytes, ...]) -> None:
    transport, odd = patient(), Odd(b"", *sent, closes=True)
    reported, port = listening(transport), serve(odd).port
    await asked(transport, port, "a")

    odd.go_on.set()
    await until(lambda: not transport._pools().idle)

    assert await asked(transport, port, "a", "a", "b", "b") == [b"connection %d" % one for one in (2, 2, 3, 3)]
    assert reported.lost == []
    await transport.aclose()


@pytest.mark.parametrize("sent", [b"HTT", b"HTTP/1.1 40", b"HTTP/1.1 200 OK\r\n"])
async def test_the_beginning_of_something_that_is_no_408_costs_keepalive_when_it_closes(
    serve: Serve, sent: bytes
) -> None:
    transport, odd = patient(), Odd(b"", sent, closes=True)
    reported, port = listening(transport), serve(odd).port
    await asked(transport, port, "a")

    odd.go_on.set()
    await until(lambda: not transport._pools().idle)

    assert await asked(transport, port, "a", "a") == [b"connection 2", b"connection 3"]
    assert len(reported.lost) == 1
    await transport.aclose()


async def test_a_connection_that_said_it_would_close_is_not_used_meanwhile(serve: Serve) -> None:
    transport, odd = patient(), Odd(b"", CLOSING_408)
    reported, port = listening(transport), serve(odd).port
    await asked(transport, port, "a")
    (connection,) = transport._pools().idle

    odd.go_on.set()
    await until(lambda: connection.undecided)

    assert await asked(transport, port, "a", "a") == [b"connection 2", b"connection 2"]
    assert reported.lost == []
    assert connection in transport._pools().idle
    await transport.aclose()
    assert not transport._pools().pools


async def test_a_server_that_says_it_closes_and_does_not_loses_keepalive(serve: Serve) -> None:
    transport, odd = Http11Transport(keepalive=0.1), Odd(b"", CLOSING_408)
    reported, port = listening(transport), serve(odd).port
    await asked(transport, port, "a")
    odd.go_on.set()

    await until(lambda: transport._suspects.until)

    assert await asked(transport, port, "a", "a") == [b"connection 2", b"connection 3"]
    assert len(reported.lost) == 1


async def test_idle_connections_of_others_to_the_same_origin_are_closed(serve: Serve) -> None:
    transport, odd = patient(), Odd(b"", EVIL)
    listening(transport)
    port, other = serve(odd).port, serve(Odd(b"")).port
    await asked(transport, port, "a", "b", "c")
    await asked(transport, other, "a")

    odd.go_on.set()
    await until(lambda: transport._suspects.until)

    assert [pool.origin[2] for pool in transport._pools().pools.values()] == [other]
    assert await asked(transport, other, "a") == [b"connection 1"]
    await transport.aclose()


async def test_bytes_that_have_come_unseen_are_not_the_next_answer(serve: Serve) -> None:
    """They are in the system's buffer, but the event loop has not had the time to read them."""
    transport, odd = patient(), Odd(b"", EVIL)
    port = serve(odd).port
    await asked(transport, port, "a")

    odd.go_on.set()
    odd.over.wait(TIMEOUT)  # the event loop stands still

    assert await asked(transport, port, "a") == [b"connection 2"]
    await transport.aclose()


async def test_a_connection_that_was_closed_unseen_is_not_used(serve: Serve) -> None:
    transport, odd = patient(), Odd(b"", b"", closes=True)
    upstream = serve(odd)
    await asked(transport, upstream.port, "a")

    odd.go_on.set()
    while upstream.open:
        threading.Event().wait(0.001)

    assert await asked(transport, upstream.port, "a") == [b"connection 2"]
    await transport.aclose()


async def test_bytes_that_come_after_the_next_request_are_seen_by_its_own_credential_at_the_worst_and_only_once(
    serve: Serve,
) -> None:
    """No client of HTTP/1.1 that keeps connections can tell them from the answer; but the answer then follows."""

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if peer.number == 1 and b"/second" in request:
                peer.send(EVIL)
            peer.send(reply(b"connection %d" % peer.number))

    transport = patient()
    reported, port = listening(transport), serve(script).port
    await asked(transport, port, "a", "b")
    second: Answer = await fetch(transport, post(port, credential="a", target=b"/second"))

    assert second.body == b"somebody else's"
    await until(lambda: transport._suspects.until)
    assert await asked(transport, port, "a", "b", "b") == [b"connection %d" % one for one in (3, 4, 5)]
    assert len(reported.lost) == 1
    await transport.aclose()


@pytest.mark.parametrize("seed", range(3))
async def test_once_an_origin_is_known_nothing_of_what_it_sends_too_much_is_taken_for_an_answer(
    serve: Serve, seed: int
) -> None:
    """Until then a connection that always has its next request out before the surplus comes may be off by one."""
    draw = random.Random(seed)

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            peer.send(reply(request.partition(b"\r\n\r\n")[2]))
            if draw.random() < 0.12:
                peer.send(reply(b"stray"))

    async def wrong(count: int) -> int:
        bodies = [b"%d" % number for number in range(count)]
        return sum([(await fetch(transport, post(port, body))).body != body for body in bodies])

    transport, port = patient(), serve(script).port
    await wrong(100)
    await until(lambda: transport._suspects.until)

    assert await wrong(200) == 0
    await transport.aclose()


# How long, and how many...


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ten_minutes_after_the_last_such_byte_an_origin_is_trusted_again() -> None:
    clock, reported, origin = Clock(), Reported(), ("https", "api.example", 443, None)
    suspects = Suspects(clock)
    suspects.listeners.add(reported)

    suspects.add(origin)
    assert suspects.has(origin)
    clock.now = 599.0
    suspects.add(origin)
    clock.now = 600.0 + 598.0
    assert suspects.has(origin)
    clock.now = 600.0 + 599.0
    assert not suspects.has(origin)
    assert reported.lost == ["https://api.example:443"]

    suspects.add(origin)
    assert suspects.has(origin)
    assert len(reported.lost) == 2


def test_origins_are_told_apart_by_all_that_makes_one() -> None:
    suspects = Suspects(Clock())
    suspects.add(("https", "a", 443, None))

    others = [("http", "a", 443, None), ("https", "b", 443, None), ("https", "a", 80, None), ("https", "a", 443, "/s")]
    assert not any(suspects.has(other) for other in others)


def test_no_more_than_a_thousand_are_remembered() -> None:
    suspects, reported = Suspects(Clock()), Reported()
    suspects.listeners.add(reported)
    for number in range(3 * MOST_SUSPECTS):
        suspects.add(("http", f"h{number}", 80, None))

    assert len(suspects.until) == len(suspects.unreported) == MOST_SUSPECTS
    assert not suspects.has(("http", "h0", 80, None))
    assert len(reported.lost) == MOST_SUSPECTS and not suspects.unreported


def test_a_listener_that_is_gone_is_not_kept() -> None:
    suspects = Suspects(Clock())
    suspects.listeners.add(Reported())
    suspects.add(("http", "h", 80, None))

    assert suspects.has(("http", "h", 80, None))
    assert not suspects.listeners


def test_of_what_follows_a_reply_nothing_is_kept() -> None:
    after = After()
    after.feed(b"HTTP/1.1 408 No\r\ncontent-length: 1000000\r\n\r\n")
    assert after.open
    for _ in range(60):
        after.feed(b"x" * 1000)
    assert after.open and after.reader is not None and after.reader.size == 0
    for _ in range(10):
        after.feed(b"x" * 1000)
    assert after.stray
