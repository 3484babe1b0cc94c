"""Real servers in front of an app under test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

Served = Callable[[ASGIApp], str]
"""Serves an app, returns its origin (`http://127.0.0.1:port`)."""


@contextmanager
def serve_with_uvicorn(**options: Any) -> Iterator[Served]:
    """Apps behind uvicorn on loopback, each in a thread of its own; *options* are uvicorn's."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_running(app, options))


@contextmanager
def _running(app: ASGIApp, options: dict[str, Any]) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="auto", timeout_graceful_shutdown=2, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    host, port = listener.getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
