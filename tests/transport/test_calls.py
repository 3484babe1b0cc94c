"""What a reply costs on its way through our transport, in calls of its own functions: counted, since time is not the
same twice."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from gomodel_asgi.transport import Http11Transport

from ..support.requests import fetch, post, rest
from ..support.scripted_upstream import TIMEOUT, Peer, answer
from .conftest import HTTP11, Kind, Serve, label

ROOM = "gomodel_asgi/transport/"
MOST_OF_A_REPLY = 29
"""Of a small one on a kept connection, whose head has one header."""
MOST_OF_A_PIECE = 6
"""Of one that a stream's reader waits for: it is asked for, comes through connection and framing, and is given."""


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@contextmanager
def counted() -> Iterator[list[str]]:
    """The calls of the transport's functions, and resumptions of its coroutines, by this thread."""
    calls: list[str] = []

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and ROOM in frame.f_code.co_filename:
            calls.append(frame.f_code.co_qualname)

    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(None)


async def test_a_reply_on_a_kept_connection_takes_few_calls(transport: Http11Transport, serve: Serve) -> None:
    port = serve(answer).port
    for _ in range(2):
        await fetch(transport, post(port))

    with counted() as calls:
        assert (await fetch(transport, post(port))).body == b"connection 1"

    assert len(calls) <= MOST_OF_A_REPLY, calls


async def test_a_piece_of_a_stream_takes_few_calls(transport: Http11Transport, serve: Serve) -> None:
    wanted = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in (b"5\r\nfirst\r\n", b"6\r\nsecond\r\n", b"0\r\n\r\n"):
            assert wanted.acquire(timeout=TIMEOUT)
            peer.send(piece)

    reply = await transport.open(post(serve(script).port))
    wanted.release()
    assert await reply.read(TIMEOUT) == b"first"

    with counted() as calls:
        wanted.release()
        assert await reply.read(TIMEOUT) == b"second"

    assert len(calls) <= MOST_OF_A_PIECE, calls
    wanted.release()
    assert await rest(reply) == b""
    await reply.aclose()
