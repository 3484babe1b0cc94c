"""Requests as the exchange makes them, and replies read to their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import anyio

from gomodel_asgi.settings import Timeouts
from gomodel_asgi.transport import Headers, Transport, UpstreamReply, UpstreamRequest


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


def post(port: int, body: bytes | None = b"{}", **options: Any) -> UpstreamRequest:
    values: dict[str, Any] = {
        "method": b"POST",
        "scheme": "http",
        "host": "127.0.0.1",
        "port": port,
        "target": b"/v1/responses",
        "headers": [(b"content-type", b"application/json")],
        "body": body,
        "credential": "one",
        "timeouts": Timeouts(connect=5, pool=5),
        "deadline": 10.0,
    }
    return UpstreamRequest(**{**values, **options})


async def fetch(transport: Transport, request: UpstreamRequest, timeout: float = 10.0) -> Answer:
    """The whole answer; whatever happens, the reply is closed."""
    reply = await transport.open(request)
    try:
        return Answer(reply.status, reply.headers, await rest(reply, timeout))
    finally:
        await reply.aclose()


async def rest(reply: UpstreamReply, timeout: float = 10.0) -> bytes:
    chunks = []
    while chunk := await reply.read(timeout):
        chunks.append(chunk)
    return b"".join(chunks)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition* holds."""
    for _ in range(10_000):
        if condition():
            return
        await anyio.sleep(0.001)
    raise AssertionError("it never came to be")
