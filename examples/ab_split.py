"""An A/B split: a tenth of the accounts try the new model; each account always gets the same one.

    OPENAI_API_KEY=sk-... uvicorn --app-dir examples ab_split:app

Labels of a Target reach observers with every record, so that the arms can be compared.
"""

from __future__ import annotations

from accounts import TokenBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware

from gomodel_asgi import Gateway, GoModelMiddleware, Target, policies, providers

split = policies.weighted(
    [
        (Target("openai", model="gpt-5", labels={"arm": "control"}), 90),
        (Target("openai", model="gpt-6", labels={"arm": "new"}), 10),
    ]
)

app = Starlette(
    middleware=[
        Middleware(AuthenticationMiddleware, backend=TokenBackend()),
        Middleware(
            GoModelMiddleware,
            gateway=Gateway(providers=providers.from_env(), policy=policies.authenticated(split)),
        ),
    ]
)
