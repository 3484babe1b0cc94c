"""The Responses API as a FastAPI router: behind `Depends`, and on the OpenAPI page.

    app.include_router(responses_router(gateway, dependencies=[Depends(current_user)]))

Bodies are not parsed by FastAPI: they reach the gateway as they came, and every error has OpenAI's form, whether it is
the gateway's or a dependency's. The models on the OpenAPI page describe, they do not validate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..errors import GatewayError, InvalidRequest
from ..extras import missing
from ..gateway import Gateway
from ..pipeline import refusal_of
from ..server.handler import failed
from ..server.paths import Route, base_of, match, route_path
from ..server.websocket.upgrade import refuse
from ..wire.headers import Headers, request_id
from .openapi import OPERATIONS, documentation

try:
    from fastapi import APIRouter
    from fastapi.exceptions import RequestValidationError
    from fastapi.params import Depends
    from fastapi.routing import APIRoute
except ImportError as error:
    raise missing("fastapi", "gomodel_asgi.contrib.fastapi needs FastAPI") from error

OURS = ("/responses", "/responses/{rest}", "/conversations", "/conversations/{rest}", "/models")
"""Paths at which a method that none of them has, and what is below them, is answered here and not by the app."""
FOREIGN = ("/chat/completions", "/completions", "/embeddings", "/messages")
"""Paths that clients of other APIs ask for."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
HANDLERS = "starlette.exception_handlers"
"""The scope key of an app's own answers to exceptions."""

__all__ = ["responses_router"]


class OpenAIRoute(APIRoute):
    """A route whose refusals have OpenAI's form, those of its dependencies too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, its refusals turned into OpenAI's form."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except (HTTPException, RequestValidationError, GatewayError) as error:
                return _refused(error, request)

        return handler


def responses_router(
    gateway: Gateway, *, dependencies: Sequence[Depends] = (), tags: list[str | Enum] | None = None
) -> APIRouter:
    """Returns a router with every path that the gateway serves, below its prefix, WebSocket mode included.

    *dependencies* run before the gateway reads anything: what they put into `request.state` is in
    `RoutingRequest.state`, an `HTTPException` of theirs answers the request in OpenAI's form. They see the upgrade of a
    WebSocket as a GET; those that `yield` stay open as long as the connection. *tags* group the paths on the OpenAPI
    page.
    """
    router = APIRouter(prefix=gateway.prefix, tags=tags or ["responses"], route_class=OpenAIRoute)
    for operation in OPERATIONS:
        described, extra = documentation(operation)
        router.add_api_route(
            _pattern(operation.path),
            _endpoint(gateway, operation.path),
            methods=[operation.method],
            dependencies=dependencies,
            name=operation.name,
            operation_id=operation.name,
            summary=operation.name.replace("_", " ").capitalize(),
            description=operation.description,
            response_model=None,
            responses=described,
            openapi_extra=extra,
        )
    for path in (*OURS, *FOREIGN):
        router.add_api_route(
            _pattern(path),
            _endpoint(gateway, path),
            methods=METHODS,
            dependencies=dependencies,
            include_in_schema=False,
            response_model=None,
        )
    router.add_api_websocket_route("/responses", _upgrade(gateway, dependencies), name="connect_responses")
    return router


def _pattern(path: str) -> str:
    """Returns *path* as a route: a model's name may hold slashes."""
    return path.replace("{model}", "{model:path}").replace("{rest}", "{rest:path}")


def _endpoint(gateway: Gateway, path: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asked = path.format(**request.path_params)
        route = match({"type": "http", "path": asked}, "")
        if route is None:
            whole = base_of(request.scope, route_path(request.scope))
            route = Route({}, base=whole.removesuffix(asked))
        return Served(gateway, route)

    return endpoint


def _upgrade(gateway: Gateway, dependencies: Sequence[Depends]) -> Callable[[WebSocket], Awaitable[None]]:
    """Returns the endpoint of WebSocket mode. An upgrade is a GET (RFC 6455, 4.1): so the *dependencies* see it, as
    those that guard the other paths do, and what they refuse is answered here and not by the app's own handlers.
    """

    async def upgrade(websocket: WebSocket) -> None:
        async def converse(request: Request) -> Response:
            scope = {**request.scope, "type": "websocket"}
            await gateway.converse(scope, websocket.receive, websocket.send)
            return Response()

        scope = {name: value for name, value in websocket.scope.items() if name != HANDLERS}
        scope |= {"type": "http", "method": "GET"}
        guarded = APIRoute(
            "/responses",
            converse,
            methods=["GET"],
            dependencies=dependencies,
            dependency_overrides_provider=scope.get("app"),
            response_model=None,
        )
        try:
            await guarded.app(scope, _no_body, _to_nobody)
        except (HTTPException, RequestValidationError, GatewayError) as error:
            await refuse(_error_of(error), websocket.scope, websocket.send)

    return upgrade


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _to_nobody(message: Message) -> None:
    """The answer to the GET was the upgrade."""


def _refused(error: Exception, request: Request) -> Response:
    reply = failed(_error_of(error))
    id = request_id(request.headers.get("x-request-id", "").encode("latin-1"))
    headers: Headers = [*reply.raw_headers, (b"x-request-id", id.encode("ascii"))]
    given = (error.headers or {}) if isinstance(error, HTTPException) else {}
    named = {name for name, _ in headers}
    response = Response(reply.body, reply.status)
    response.raw_headers = [
        *((name, value) for name, value in response.raw_headers if name == b"content-length"),
        *headers,
        *(
            (key, value.encode("latin-1"))
            for name, value in given.items()
            if (key := name.lower().encode()) not in named
        ),
    ]
    return response


def _error_of(error: Exception) -> GatewayError:
    """Returns our error for what FastAPI or a dependency refuses."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, HTTPException):
        return refusal_of(error)
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
    return InvalidRequest(f"The request is not what this app expects: {'; '.join(faults)}.", status=422)


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
