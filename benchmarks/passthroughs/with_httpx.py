"""A pass-through with httpx."""

from __future__ import annotations

import httpx
from starlette.types import Receive, Scope, Send

from .asgi import END, HEADERS, URL, piece, read_body, start

client = httpx.AsyncClient(
    timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=1000)
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = await read_body(receive)
    async with client.stream("POST", URL, content=body, headers=HEADERS) as reply:
        await send(start(reply.status_code, reply.headers["content-type"]))
        async for data in reply.aiter_raw():
            await send(piece(data))
    await send(END)
