"""Starlette: the gateway as a middleware, inside the app's own authentication.

    OPENAI_API_KEY=sk-... uvicorn --app-dir examples starlette_app:app

Tokens of callers are in `accounts.py`: `token-of-ada`, `token-of-bob`.
"""

from __future__ import annotations

from accounts import TokenBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gomodel_asgi import Gateway, GoModelMiddleware, RoutingRequest, Target, policies, providers


async def route(request: RoutingRequest) -> Target:
    """Teams get the large model, with the small one behind it; everybody else the small one."""
    small = Target("openai", model="gpt-5-mini")
    return Target("openai", model="gpt-5", fallbacks=[small]) if request.user.plan == "team" else small


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("The host's own routes work as ever.")


gateway = Gateway(providers=providers.from_env(), policy=policies.authenticated(route))

app = Starlette(
    routes=[Route("/", home)],
    middleware=[  # the first is the outermost: authentication has run when the gateway answers
        Middleware(AuthenticationMiddleware, backend=TokenBackend()),
        Middleware(GoModelMiddleware, gateway=gateway),
    ],
)
