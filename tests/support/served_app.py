"""A host app with a gateway inside, for servers that want to import it: `UPSTREAM` names the provider's base URL."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, Timeouts

HASTY = Timeouts(body=0.2)


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


def app_for(base_url: str) -> ASGIApp:
    providers = [Provider("up", base_url, api_key="sk-canary-house-key")]
    patient, hasty = Gateway(providers=providers), Gateway(providers=providers, prefix="/hasty", timeouts=HASTY)
    middleware = [Middleware(GoModelMiddleware, gateway=gateway) for gateway in (patient, hasty)]
    return Starlette(routes=[Route("/hello", hello)], middleware=middleware)


def app() -> ASGIApp:
    """For a server's `--factory`."""
    return app_for(os.environ["UPSTREAM"])
