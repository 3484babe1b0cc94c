"""What an upstream may do wrong, on every transport: each row is one fault and what comes of it.

After each, the same credential asks again: the answer must be its own, and must not come over the faulty connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import pytest

from gomodel_asgi.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamTruncated
from gomodel_asgi.transport import Transport

from ..support.requests import fetch, post
from ..support.scripted_upstream import PATIENCE, Peer, chunked, reply
from .conftest import Kind, Serve

OK = b"HTTP/1.1 200 OK\r\n"
GOOD = b"content-length: 2\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
BIG = b"x" * 1_000_000
EVIL = reply(b"somebody else's")


def close(peer: Peer) -> None:
    pass


def reset(peer: Peer) -> None:
    peer.reset()


def hold(peer: Peer) -> None:
    """Stay open, and answer anything that is sent on this connection again with what nobody must see."""
    while peer.request() is not None:
        peer.send(EVIL)


Outcome = tuple[type[UpstreamError] | int, str | bytes | None]


class Fault(NamedTuple):
    """*sent* and then *after*; *expected* is an error and its kind, or the status and body that are used."""

    name: str
    sent: bytes
    after: Callable[[Peer], None]
    expected: Outcome


REFUSED = (UpstreamProtocolError, None)
CLOSED = (UpstreamProtocolError, "closed")
TRUNCATED = (UpstreamTruncated, None)
LATE = (UpstreamTimeout, "timeout")

FAULTS = [
    Fault("accepts and closes", b"", close, CLOSED),
    Fault("accepts and resets", b"", reset, CLOSED),
    Fault("closes in the headers", OK + b"content-le", close, CLOSED),
    Fault("garbage", b"\x16\x03\x01\x02\x00\x01\x00", hold, REFUSED),
    Fault("HTTP/0.9", b"<html>hello</html>", hold, REFUSED),
    Fault("version 0.9 written out", b"HTTP/0.9 200 OK\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("version 2.0", b"HTTP/2.0 200 OK\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("version 3.7", b"HTTP/3.7 200 OK\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("another protocol", b"RTSP/1.0 200 OK\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("status 099", b"HTTP/1.1 099 No\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("status 199 for ever", b"HTTP/1.1 199 No\r\n\r\n" * 9, hold, REFUSED),
    Fault("status 600", b"HTTP/1.1 600 No\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("status 999", b"HTTP/1.1 999 No\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("status 1000", b"HTTP/1.1 1000 No\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("status 101", b"HTTP/1.1 101 No\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhi", hold, REFUSED),
    Fault("endless 1xx", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, hold, REFUSED),
    Fault("a header line of 1 MB", OK + b"x: " + BIG + b"\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("a header name of 1 MB", OK + BIG + b": x\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("a reason of 1 MB", b"HTTP/1.1 200 " + BIG + b"\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("10,000 headers", OK + b"x: y\r\n" * 10_000 + GOOD + b"hi", hold, REFUSED),
    Fault("201 headers", OK + b"x: y\r\n" * 200 + GOOD + b"hi", hold, REFUSED),
    Fault("a head of 70 kB at once", OK + (b"x: " + b"y" * 7000 + b"\r\n") * 10 + GOOD + b"hi", hold, REFUSED),
    Fault("NUL in a header", OK + b"x: a\0b\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("CR in a header", OK + b"x: a\rb\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("obs-fold", OK + b"x: a\r\n b\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault("space before the colon", OK + b"x : a\r\n" + GOOD + b"hi", hold, REFUSED),
    Fault(
        "length and chunked", OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", hold, REFUSED
    ),
    Fault(
        "chunked and length", OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n", hold, REFUSED
    ),
    Fault("two lengths", OK + b"content-length: 3\r\ncontent-length: 2\r\n\r\nhi", hold, REFUSED),
    Fault("two equal lengths", OK + b"content-length: 2\r\ncontent-length: 2\r\n\r\nhi", hold, REFUSED),
    Fault("a negative length", OK + b"content-length: -2\r\n\r\nhi", hold, REFUSED),
    Fault("a length that is no number", OK + b"content-length: two\r\n\r\nhi", hold, REFUSED),
    Fault("gzip, chunked", OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", hold, REFUSED),
    Fault("chunked twice", OK + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", hold, REFUSED),
    Fault("identity coding", OK + b"transfer-encoding: identity\r\n\r\nhi", close, REFUSED),
    Fault("chunked in 1.0", b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", hold, REFUSED),
    Fault("length larger than the body", OK + b"content-length: 9\r\n\r\nhi", close, TRUNCATED),
    Fault("reset in the body", OK + b"content-length: 9\r\n\r\nhi", reset, TRUNCATED),
    Fault("length smaller than the body", OK + b"content-length: 2\r\n\r\nhi!", hold, (200, b"hi")),
    Fault("closes in a chunk", OK + b"transfer-encoding: chunked\r\n\r\n9\r\nhi", close, TRUNCATED),
    Fault("closes between chunks", chunked(b"hi", end=b""), close, TRUNCATED),
    Fault("a broken chunk", chunked(b"hi", end=b"zz\r\nhi\r\n"), hold, REFUSED),
    Fault("endless trailers", chunked(b"hi", end=b"0\r\n" + b"x: y\r\n" * 200_000), hold, REFUSED),
    Fault("an endless trailer", chunked(b"hi", end=b"0\r\nx: " + BIG), hold, REFUSED),
    Fault("surplus after length", reply(b"hi") + b"x", hold, (200, b"hi")),
    Fault("surplus after a newline", reply(b"hi\n") + b"\n", hold, (200, b"hi\n")),
    Fault("surplus CRLF after length", reply(b"hi") + b"\r\n", hold, (200, b"hi")),
    Fault("surplus after chunks", chunked(b"hi") + b"x", hold, (200, b"hi")),
    Fault("surplus CRLF after chunks", chunked(b"hi") + b"\r\n", hold, (200, b"hi")),
    Fault("a second reply after length", reply(b"hi") + EVIL, hold, (200, b"hi")),
    Fault("a second reply after chunks", chunked(b"hi") + EVIL, hold, (200, b"hi")),
    Fault("a second reply after 204", b"HTTP/1.1 204 No\r\n\r\n" + EVIL, hold, (204, b"")),
    Fault("a second reply after 304", b"HTTP/1.1 304 No\r\ncontent-length: 2\r\n\r\n" + EVIL, hold, (304, b"")),
    Fault("surplus after connection: close", reply(b"hi", b"connection: close") + EVIL, hold, (200, b"hi")),
    Fault("connection: close, and stays open", reply(b"hi", b"connection: close"), hold, (200, b"hi")),
    Fault("ends by closing", OK + b"\r\nhi", close, (200, b"hi")),
    Fault("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", hold, (200, b"hi")),
]

OF_THE_LIBRARIES: dict[str, Outcome] = {
    # h11 joins folded lines and equal lengths, as RFC 9112 allows a client to do.
    "obs-fold": (200, b"hi"),
    "two equal lengths": (200, b"hi"),
    # It waits for more head or for the end of the interim replies: bounded by the deadline.
    "HTTP/0.9": LATE,
    "status 199 for ever": LATE,
    "endless 1xx": LATE,
    # Broken and unfinished bodies are one exception.
    "a broken chunk": TRUNCATED,
    "endless trailers": TRUNCATED,
    "an endless trailer": TRUNCATED,
}
"""What httpx and httpx2 do otherwise than Http11Transport."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_is_an_error_or_the_first_reply_and_never_the_next_answer(
    fault: Fault, kind: Kind, transport: Transport, serve: Serve
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        if peer.number == 1:
            peer.send(fault.sent)
            fault.after(peer)
        else:
            peer.send(reply(b"its own", b"connection: close"))

    expected = fault.expected
    if kind.name != "http11":
        expected = OF_THE_LIBRARIES.get(fault.name, expected)
    upstream = serve(script)

    assert await outcome(transport, upstream.port, 0.5 if expected == LATE else PATIENCE) == expected
    if kind.name == "httpx2" and reused_by_the_library(fault):
        pytest.skip("a pool that was given is used as it is: this one keeps what follows a whole reply")
    assert await outcome(transport, upstream.port, PATIENCE) == (200, b"its own")


def reused_by_the_library(fault: Fault) -> bool:
    surplus = any(word in fault.name for word in ("surplus", "second reply", "smaller"))
    return (surplus and "connection: close" not in fault.name) or fault.name in ("obs-fold", "two equal lengths")


async def outcome(transport: Transport, port: int, deadline: float) -> Outcome:
    try:
        answer = await fetch(transport, post(port, deadline=deadline), deadline)
    except UpstreamError as error:
        return type(error), cast("str | None", error.kind)
    return answer.status, answer.body


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_time_out_says_whether_the_upstream_may_have_the_request(
    transport: Transport, kind: Kind, serve: Serve, scheme: str
) -> None:
    """With https it is over in the middle of the TLS handshake, which nobody answers."""
    if scheme == "https" and kind.name != "http11":
        pytest.skip("httpcore leaves the socket of a handshake that is given up to the garbage collector")
    upstream = serve(lambda peer: peer.gone())

    with pytest.raises(UpstreamTimeout) as caught:
        await fetch(transport, post(upstream.port, deadline=1.0, scheme=scheme))

    assert caught.value.sent is (scheme == "http")


async def test_an_upstream_that_never_answers_is_a_timeout(transport: Transport, serve: Serve) -> None:
    upstream = serve(lambda peer: peer.gone())

    with pytest.raises(UpstreamTimeout) as caught:
        await fetch(transport, post(upstream.port, deadline=0.05))

    assert caught.value.kind == "timeout"
