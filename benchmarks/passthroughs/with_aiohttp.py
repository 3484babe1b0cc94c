"""A pass-through with aiohttp."""

from __future__ import annotations

from functools import cache

import aiohttp  # type: ignore[import-not-found, unused-ignore]
from starlette.types import Receive, Scope, Send

from .asgi import END, HEADERS, URL, piece, read_body, start


@cache
def session() -> aiohttp.ClientSession:
    """Made with the first request: it wants a running event loop."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    body = await read_body(receive)
    async with session().post(URL, data=body, headers=HEADERS) as reply:
        await send(start(reply.status, reply.headers["content-type"]))
        async for data in reply.content.iter_any():
            await send(piece(data))
    await send(END)
