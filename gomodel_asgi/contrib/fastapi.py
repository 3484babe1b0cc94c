"""The Responses API as a FastAPI router: behind `Depends`, and on the OpenAPI page.

    app.include_router(responses_router(gateway, dependencies=[Depends(current_user)]))

Bodies are not parsed by FastAPI: they reach the gateway as they came, and its errors keep OpenAI's form. The models on
the OpenAPI page describe, they do not validate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..endpoints.paths import Route, match
from ..gateway import Gateway
from .openapi import OPERATIONS, Operation, documentation

try:
    from fastapi import APIRouter
    from fastapi.params import Depends
except ImportError:
    raise ImportError("gomodel_asgi.contrib.fastapi needs FastAPI: install gomodel-asgi[fastapi].") from None

NOWHERE = Route({})


def responses_router(
    gateway: Gateway, *, dependencies: Sequence[Depends] = (), tags: list[str | Enum] | None = None
) -> APIRouter:
    """A router with every path that the gateway serves, below its prefix.

    *dependencies* run before the gateway reads anything: what they raise answers the request, what they put into
    `request.state` is in `RoutingRequest.state`. Their exceptions are answered in the app's own form, not in OpenAI's.
    *tags* group the paths on the OpenAPI page.
    """
    router = APIRouter(prefix=gateway.prefix, dependencies=list(dependencies), tags=tags or ["responses"])
    for operation in OPERATIONS:
        described, extra = documentation(operation)
        router.add_api_route(
            operation.path.replace("{model}", "{model:path}"),
            _endpoint(gateway, operation),
            methods=[operation.method],
            name=operation.name,
            operation_id=operation.name,
            summary=operation.name.replace("_", " ").capitalize(),
            description=operation.description,
            response_model=None,
            responses=described,
            openapi_extra=extra,
        )
    return router


def _endpoint(gateway: Gateway, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        path = operation.path.format(**request.path_params)
        return Served(gateway, match({"type": "http", "path": path}, "") or NOWHERE)

    return endpoint


class Served(Response):
    """The gateway's answer, asked for when it is sent: cheaper than one that is there before."""

    def __init__(self, gateway: Gateway, route: Route) -> None:
        self.gateway = gateway
        self.route = route
        self.status_code = 200
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gateway.serve(self.route, scope, receive, send)
        if self.background is not None:
            await self.background()
