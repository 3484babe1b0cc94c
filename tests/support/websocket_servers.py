"""The ASGI servers that speak WebSocket, each in a thread of its own on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import uvicorn
from granian.constants import Interfaces
from granian.server.embed import Server as Granian
from starlette.types import ASGIApp

SERVERS = ["uvicorn-websockets-sansio", "uvicorn-wsproto", "hypercorn", "granian"]
TIMEOUT = 20.0


@contextmanager
def serving(kind: str, app: ASGIApp) -> Iterator[str]:
    """*app* behind a server of this *kind*; gives its origin without scheme (`127.0.0.1:port`)."""
    if kind == "granian":
        with _granian(app) as address:
            yield address
        return
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        serve = _hypercorn if kind == "hypercorn" else _uvicorn(kind.removeprefix("uvicorn-"))
        with serve(app, listener):
            yield address


def _uvicorn(protocol: Any) -> Callable[..., Any]:
    @contextmanager
    def serve(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
        config = uvicorn.Config(app, log_level="critical", ws=protocol, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(TIMEOUT)

    return serve


@contextmanager
def _hypercorn(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1
    with _in_thread(lambda stop: hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)):  # type: ignore[arg-type]
        yield


@contextmanager
def _granian(app: ASGIApp) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = Granian(app, port=port, interface=Interfaces.ASGI, log_enabled=False)

    async def run(stop: asyncio.Event) -> None:
        task = asyncio.ensure_future(server.serve())
        await stop.wait()
        server.stop()  # type: ignore[no-untyped-call]
        await task

    with _in_thread(run):
        _wait_for(port)
        yield f"127.0.0.1:{port}"


@contextmanager
def _in_thread(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[None]:
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run(stop)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT)
        if not thread.is_alive():
            loop.close()


def _wait_for(port: int) -> None:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
    raise TimeoutError("The server does not listen.")
