"""A served gateway with a console, and clients that make requests behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RateLimited, RoutingRequest, Target
from gomodel_asgi.console import Console, View
from gomodel_asgi.ledger import Ledger, SqlLedger
from gomodel_asgi.testing import FakeProvider

from .ledgers import sqlite_engine
from .serving import serve_with_uvicorn

ALL = "*"
REFUSED = "refused"
"""The model that the policy lets nobody have."""
TIMEOUT = 20.0
Mount = Callable[["Site"], ASGIApp]
"""Makes the host's app of a site."""


def tenant(scope: Scope) -> str | None:
    """Whose request it is: what the header `x-tenant` says, quoted."""
    return unquote(Headers(scope=scope).get("x-tenant", "")) or None


def policy(request: RoutingRequest) -> Target:
    """The one provider, and a fallback that never answers where the client asks for one."""
    if request.model == REFUSED:
        raise RateLimited("Not now.")
    label = unquote(request.headers.get("x-team", ""))
    labels = {"team": label} if label else None
    if request.headers.get("x-first"):
        return Target(request.headers["x-first"], labels=labels, fallbacks=[Target("fake")])
    return Target("fake", labels=labels)


def allow(request: Request) -> View | None:
    """What the cookie `sees` says: names of tenants, quoted, or all of them; without one, nothing."""
    names = request.cookies.get("sees")
    if names is None:
        return None
    tenants = View.ALL if names == ALL else {unquote(name) for name in names.split(",")}
    return View(tenants, detail=True, explain=True)


class Site:
    """What a test sees: pages below *home*, the gateway behind them, `ask` for a request."""

    def __init__(self, provider: FakeProvider, directory: Path, where: str) -> None:
        self.provider = provider
        self.where = where
        self.engine = sqlite_engine(directory / "ledger.sqlite3")
        self.ledger = Ledger(SqlLedger(self.engine), price=lambda *used: Decimal("0.0125"))
        broken = Provider("broken", provider.origin + "/broken/v1", api_key="sk-canary-house-key")
        fake = Provider("fake", provider.base_url, api_key="sk-canary-house-key")
        self.gateway = Gateway(providers=[fake, broken], policy=policy, tenant=tenant, ledger=self.ledger)
        self.console = Console(self.gateway, allow=allow)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.ready = threading.Event()
        self.origin = ""
        self.client = httpx.AsyncClient(timeout=TIMEOUT)

    @property
    def home(self) -> str:
        """The address of the first page."""
        return f"{self.origin}{self.where}/"

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """The host's: it closes what it has opened."""
        self.loop = asyncio.get_running_loop()
        self.ready.set()
        yield
        await self.gateway.aclose()
        await self.engine.dispose()

    async def ask(self, model: str = "gpt-5", tenant: str | None = None, **headers: str) -> httpx.Response:
        """The answer to one request; *headers* with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if tenant is not None:
            named["x-tenant"] = quote(tenant)
        return await self.client.post(
            f"{self.origin}/v1/responses", json={"model": model, "input": "Hello"}, headers=named
        )

    async def flood(self, count: int, model: str = "gpt-5", clients: int = 8) -> None:
        """So many requests, one after the other at each of some clients."""
        left = iter(range(count))

        async def one_after_the_other() -> None:
            for _ in left:
                await self.ask(model)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(one_after_the_other())

    async def written(self) -> None:
        """What was asked so far is in the ledger."""
        await self.run(self.ledger.flush())

    async def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do *work* on the server's event loop, which the engine belongs to."""
        assert self.loop is not None
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))


@asynccontextmanager
async def served(site: Site, app: ASGIApp) -> AsyncIterator[Site]:
    """The site behind uvicorn, in a thread of its own."""
    with serve_with_uvicorn() as serve:
        site.origin = serve(app)
        assert site.ready.wait(TIMEOUT)
        async with site.client:
            yield site


# Hosts...


def starlette(site: Site) -> ASGIApp:
    """The console two levels below, beside the gateway."""
    app = Starlette(lifespan=site.lifespan)
    app.add_middleware(GoModelMiddleware, gateway=site.gateway)
    app.mount(site.where, site.console)
    return app


def fastapi(site: Site) -> ASGIApp:
    """The same in FastAPI."""
    from fastapi import FastAPI

    app = FastAPI(lifespan=site.lifespan)
    app.add_middleware(GoModelMiddleware, gateway=site.gateway)
    app.mount(site.where, site.console)
    return app


def django(site: Site) -> ASGIApp:
    """The console in front of Django, which mounts no ASGI apps itself."""
    from django.core.asgi import get_asgi_application

    from . import django_host

    django_host.set_up()
    inner = GoModelMiddleware(get_asgi_application(), gateway=site.gateway)
    lifespan = Starlette(lifespan=site.lifespan)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(scope, receive, send)
        if scope["path"].startswith(site.where + "/"):
            scope = dict(scope, root_path=scope.get("root_path", "") + site.where)
            return await site.console(scope, receive, send)
        await inner(scope, receive, send)

    return application


class Behind:
    """What a proxy makes of requests below *prefix*: it takes it off, and tells the server of it or not (`root_path`,
    which servers put before the path: ASGI, HTTP connection scope)."""

    def __init__(self, app: ASGIApp, prefix: str, *, tells: bool) -> None:
        self.app = app
        self.prefix = prefix
        self.tells = tells

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self.prefix + "/"):
            path = scope["path"] if self.tells else scope["path"][len(self.prefix) :]
            scope = dict(scope, path=path, raw_path=path.encode(), root_path=self.prefix if self.tells else "")
        await self.app(scope, receive, send)
