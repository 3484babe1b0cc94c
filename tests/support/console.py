"""A console in front of a gateway, asked by hand."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Scope

from gomodel_asgi import Gateway
from gomodel_asgi.console import Console, View

from .driving import Caller, ask

WHOLE = View(View.ALL, detail=True, explain=True)
JSON = (b"accept", b"application/json")
HTML = (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")


def tenant_of(scope: Scope) -> str | None:
    """The tenant that a request names by itself: enough for a test."""
    return next((value.decode() for name, value in scope["headers"] if name == b"x-tenant"), None)


def viewed(gateway: Gateway, view: View | None = WHOLE) -> Console:
    """A console that shows *view* to everybody."""

    async def allow(request: Request) -> View | None:
        return view

    return Console(gateway, allow=allow)


async def look(app: ASGIApp, path: str = "/", *, query: str = "", accept: Any = HTML, **options: Any) -> Caller:
    """The answer of a console to a GET."""
    options.setdefault("method", "GET")
    return await ask(app, path=path, query=query.encode(), headers=[accept], **options)


async def data(app: ASGIApp, path: str = "/", **options: Any) -> Any:
    """What a page says to programs."""
    found = await look(app, path, accept=JSON, **options)
    assert found.status == 200, found.content
    return found.json()


async def send(gateway: Gateway, tenant: str | None = None, **body: Any) -> Caller:
    """The gateway's answer to a request of *tenant*."""
    named = [] if tenant is None else [(b"x-tenant", tenant.encode())]
    headers = [(b"content-type", b"application/json"), *named]
    return await ask(gateway, {"model": "m", "input": "Hello", **body}, headers=headers)
