"""Mounting the gateway below a path: the API is then at /llm/v1/responses.

OPENAI_API_KEY=sk-... uvicorn --app-dir examples mounted:app
"""

from __future__ import annotations

from accounts import TokenBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Mount

from gomodel_asgi import Gateway, policies, providers

# Without a policy of one's own, the client's `provider` hint and the model decide.
gateway = Gateway(providers=providers.from_env(), policy=policies.authenticated(policies.hint))

app = Starlette(
    routes=[Mount("/llm", app=gateway)],
    middleware=[Middleware(AuthenticationMiddleware, backend=TokenBackend())],
)
