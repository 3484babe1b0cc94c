"""A client that does not read, with a real server between it and us: the upstream is held up, and nothing piles up."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from ..support.exchanges import EVENTS
from ..support.raw_client import TIMEOUT, connected, head
from ..support.scripted_upstream import Peer, Upstream
from ..support.stage import until
from .test_servers import SERVERS, STREAM, _answers

DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"%s"}\n\n'
MANY = [DELTA % (b"%06d" % number * 1500) for number in range(4000)]
KERNEL = 16 << 20
"""More than the kernel and the server hold of a stream, far less than what the upstream wants to send."""


class Flood:
    """An upstream that sends as fast as it is let; `stuck` is set when it is not, `cut` when it is closed on."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self.cut = threading.Event()
        self.sent = 0

    def __call__(self, peer: Peer) -> None:
        while peer.request() is not None:
            self.sent = 0
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
            peer.sock.settimeout(0.3)
            try:
                for event in (*EVENTS[:4], *MANY, *EVENTS[4:]):
                    self.send(peer.sock, event)
            except ConnectionError:
                return self.cut.set()
            peer.sock.shutdown(socket.SHUT_WR)

    def send(self, sock: socket.socket, event: bytes) -> None:
        at = 0
        while at < len(event):
            try:
                at += sock.send(event[at:])
            except TimeoutError:
                self.stuck.set()
        self.sent += len(event)


@pytest.fixture(scope="module")
def flood() -> Flood:
    return Flood()


@pytest.fixture(autouse=True)
def fresh(flood: Flood) -> None:
    flood.stuck.clear()
    flood.cut.clear()


@pytest.fixture(scope="module", params=list(SERVERS.values()), ids=list(SERVERS))
def origin(request: pytest.FixtureRequest, flood: Flood) -> Iterator[str]:
    upstream = Upstream(flood)
    try:
        with request.param(f"http://127.0.0.1:{upstream.port}/v1") as where:
            until(lambda: _answers(int(where.rpartition(":")[2])))
            yield where
    finally:
        upstream.close()


def test_a_client_that_stops_reading_holds_the_upstream_up_and_then_gets_everything(origin: str, flood: Flood) -> None:
    with connected(origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(STREAM)) + STREAM)
        assert flood.stuck.wait(TIMEOUT)
        assert flood.sent < KERNEL < sum(map(len, MANY))
        response = HTTPResponse(sock, method="POST")
        response.begin()
        body = response.read()

    deltas = body[body.index(MANY[0][:60]) : body.rindex(MANY[-1][-60:]) + 60]
    assert hashlib.sha256(deltas).digest() == hashlib.sha256(b"".join(MANY)).digest()
    assert b"response.completed" in body[-4096:]


def test_a_client_that_stops_reading_and_leaves_lets_go_of_the_upstream(origin: str, flood: Flood) -> None:
    with connected(origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(STREAM)) + STREAM)
        assert flood.stuck.wait(TIMEOUT)

    assert flood.cut.wait(TIMEOUT)
