"""The same host app behind each server: unary, streamed piece by piece, and left in mid-stream."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import hypercorn.trio
import pytest
import trio

from gomodel_asgi.testing import FakeProvider, Scripted, Stall

from ..support.exchanges import EVENTS, streamed
from ..support.raw_client import call, connected, head, post, read_answer
from ..support.served_app import app_for
from ..support.serving import serve_with_uvicorn
from ..support.stage import until

UNARY = b'{"model":"gpt-5","input":"hi"}'
STREAM = b'{"model":"gpt-5","input":"hi","stream":true}'


def uvicorn_in_front(parser: str) -> Callable[[str], Any]:
    @contextmanager
    def serve(base_url: str) -> Iterator[str]:
        with serve_with_uvicorn(http=parser) as served:
            yield served(app_for(base_url))

    return serve


def hypercorn_in_front(run: Callable[..., None]) -> Callable[[str], Any]:
    @contextmanager
    def serve(base_url: str) -> Iterator[str]:
        listener = socket.create_server(("127.0.0.1", 0))
        config = hypercorn.config.Config()
        config.bind = [f"fd://{listener.fileno()}"]
        config.graceful_timeout = 1
        over = threading.Event()
        thread = threading.Thread(target=run, args=(app_for(base_url), config, over), daemon=True)
        thread.start()
        try:
            yield "http://127.0.0.1:%d" % listener.getsockname()[1]
        finally:
            over.set()
            thread.join(10)
            listener.detach()  # hypercorn has closed it

    return serve


def on_asyncio(app: Any, config: hypercorn.config.Config, over: threading.Event) -> None:
    async def shutdown() -> None:
        await asyncio.to_thread(over.wait)

    asyncio.run(hypercorn.asyncio.serve(app, config, shutdown_trigger=shutdown))


def on_trio(app: Any, config: hypercorn.config.Config, over: threading.Event) -> None:
    async def shutdown() -> None:
        await trio.to_thread.run_sync(over.wait, abandon_on_cancel=True)

    async def main() -> None:
        await hypercorn.trio.serve(app, config, shutdown_trigger=shutdown)

    trio.run(main)


@contextmanager
def granian_in_front(base_url: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", "--port", str(port)]
    environment = {**os.environ, "UPSTREAM": base_url}
    server = subprocess.Popen(
        [*command, "--no-ws", "tests.support.served_app:app"],
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: server.poll() is not None or _answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def _answers(port: int) -> bool:
    try:
        return call(f"http://127.0.0.1:{port}", "GET", "/hello").status == 200
    except OSError:
        return False


SERVERS: dict[str, Callable[[str], Any]] = {
    "uvicorn": uvicorn_in_front("httptools"),
    "uvicorn-h11": uvicorn_in_front("h11"),
    "hypercorn-asyncio": hypercorn_in_front(on_asyncio),
    "hypercorn-trio": hypercorn_in_front(on_trio),
    "granian": granian_in_front,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as provider:
        yield provider


@pytest.fixture(scope="module", params=list(SERVERS.values()), ids=list(SERVERS))
def origin(request: pytest.FixtureRequest, upstream: FakeProvider) -> Iterator[str]:
    with request.param(upstream.base_url) as where:
        until(lambda: _answers(int(where.rpartition(":")[2])))
        yield where


@pytest.fixture(autouse=True)
def fresh(upstream: FakeProvider) -> None:
    upstream.clear()


def test_the_hosts_own_routes_are_untouched(origin: str) -> None:
    assert call(origin, "GET", "/hello").body == b"hello"
    assert call(origin, "GET", "/nothing").status == 404


def test_a_unary_response_passes(origin: str, upstream: FakeProvider) -> None:
    answer = post(origin, UNARY)

    assert (answer.status, answer.json()["provider"]) == (200, "up")
    assert "sk-canary" not in answer.body.decode() + str(answer.headers)


def test_errors_have_the_envelope(origin: str) -> None:
    assert post(origin, b"{").error["code"] == "invalid_json"
    assert call(origin, "GET", "/v1/responses").status == 405


def test_a_stream_arrives_piece_by_piece(origin: str, upstream: FakeProvider) -> None:
    upstream.script(Scripted(streamed(), (Stall(after_events=4),)))

    with connected(origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(STREAM)) + STREAM)
        seen = b""
        while EVENTS[3].split(b"\n")[0] not in seen:  # the upstream is silent behind this event
            seen += sock.recv(65536)
        while not upstream.requests[0].answered.wait_in_thread(0.01):
            upstream.release()
        while b"[DONE]" not in seen:
            seen += sock.recv(65536)

    assert b"response.completed" in seen


def test_a_client_that_leaves_in_mid_stream_cancels_the_upstream(origin: str, upstream: FakeProvider) -> None:
    upstream.script(Scripted(streamed(), (Stall(after_events=4),)))

    with connected(origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(STREAM)) + STREAM)
        assert b"200" in sock.recv(65536)

    assert upstream.requests[0].disconnected.wait_in_thread(10)


def test_a_client_that_leaves_before_the_reply_cancels_the_upstream(origin: str, upstream: FakeProvider) -> None:
    upstream.fail_next(Stall())

    with connected(origin) as sock:
        sock.sendall(head("POST", "/v1/responses", len(UNARY)) + UNARY)
        until(lambda: upstream.requests)

    assert upstream.requests[0].disconnected.wait_in_thread(10)


@pytest.mark.parametrize("sent", [b"", b'{"model"'], ids=["nothing", "a part"])
def test_a_body_that_stops_coming_is_answered_and_its_connection_closed(
    origin: str, upstream: FakeProvider, sent: bytes
) -> None:
    kept_alive = head("POST", "/hasty/responses", 1000).replace(b"connection: close\r\n", b"")
    with connected(origin) as sock:
        sock.sendall(kept_alive + sent)
        answer = read_answer(sock)
        rest = sock.recv(65536)

    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert rest == b""  # the server has closed
    assert not upstream.requests


def test_many_requests_on_one_connection_get_their_own_answers(origin: str) -> None:
    with connected(origin) as sock:
        for number in range(5):
            body = json.dumps({"model": "gpt-5", "input": f"number {number}"}).encode()
            sock.sendall(head("POST", "/v1/responses", len(body)).replace(b"connection: close\r\n", b"") + body)
            answer = read_answer(sock)
            assert answer.json()["output"][0]["content"][0]["text"] == f"You said: number {number}"
