"""The gateway as a middleware of a host app: what the policy sees of the host, and who is let through."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, RoutingRequest, Target, policies

from .support.driving import JSON, ask, scope_of
from .support.exchanges import UNARY
from .support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

ADA = [JSON, (b"authorization", b"Bearer ada")]


class Bearer(AuthenticationBackend):
    """Whoever shows a token is the user of that name; nobody else is refused."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        scheme, _, name = conn.headers.get("authorization", "").partition(" ")
        return (AuthCredentials(), SimpleUser(name)) if scheme == "Bearer" else None


class State:
    """A middleware that puts something into the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["plan"] = "gold"
        await self.app(scope, receive, send)


async def home(request: Request) -> Response:
    return PlainTextResponse("home")


def host(gateway: Gateway, *outside: Middleware, inside: tuple[Middleware, ...] = ()) -> Starlette:
    """The order of `Middleware(...)` is from the outside in."""
    middleware = [*outside, Middleware(GoModelMiddleware, gateway=gateway), *inside]
    return Starlette(routes=[Route("/", home)], middleware=middleware)


async def test_the_policy_sees_the_hosts_user_state_app_and_headers(lab: Lab) -> None:
    seen: list[Any] = []

    async def policy(request: RoutingRequest) -> Target:
        seen.extend((request.user.display_name, request.tenant, request.state.plan, request.app))
        seen.append(request.headers["authorization"])
        return request.default()

    # SimpleUser has no `identity`: its tenant is told apart by a callable.
    gateway = lab.make(policy=policy, tenant=lambda scope: scope["user"].username)
    app = host(gateway, Middleware(AuthenticationMiddleware, backend=Bearer()), Middleware(State))

    assert (await ask(app, UNARY, headers=ADA)).status == 200
    assert seen == ["ada", "ada", "gold", app, "Bearer ada"]


async def test_the_default_tenant_is_the_authenticated_users_name(lab: Lab) -> None:
    tenants: list[str | None] = []

    async def policy(request: RoutingRequest) -> Target:
        tenants.append(request.tenant)
        return request.default()

    app = host(lab.make(policy=policy), Middleware(AuthenticationMiddleware, backend=Bearer()))

    assert (await ask(app, UNARY, headers=ADA)).status == 200
    assert (await ask(app, UNARY)).status == 200
    assert tenants == ["ada", None]


async def test_starlettes_authentication_lets_the_anonymous_through_and_authenticated_does_not(lab: Lab) -> None:
    backend = Middleware(AuthenticationMiddleware, backend=Bearer())

    assert (await ask(host(lab.make(), backend), UNARY)).status == 200
    guarded = host(lab.make(policy=policies.authenticated(policies.hint)), backend)
    anonymous = await ask(guarded, UNARY)
    assert (anonymous.status, anonymous.error["code"]) == (401, "unauthenticated")
    assert (await ask(guarded, UNARY, headers=ADA)).status == 200


async def test_an_authentication_inside_the_gateway_comes_too_late(lab: Lab) -> None:
    gateway = lab.make(policy=policies.authenticated(policies.hint))
    app = host(gateway, inside=(Middleware(AuthenticationMiddleware, backend=Bearer()),))

    assert (await ask(app, UNARY, headers=ADA)).status == 401


async def test_the_last_added_middleware_is_the_outermost(lab: Lab) -> None:
    gateway = lab.make(policy=policies.authenticated(policies.hint))
    right, wrong = Starlette(), Starlette()
    right.add_middleware(GoModelMiddleware, gateway=gateway)
    right.add_middleware(AuthenticationMiddleware, backend=Bearer())
    wrong.add_middleware(AuthenticationMiddleware, backend=Bearer())
    wrong.add_middleware(GoModelMiddleware, gateway=gateway)

    assert [(await ask(app, UNARY, headers=ADA)).status for app in (right, wrong)] == [200, 401]


async def test_a_host_below_a_prefix_of_its_own_is_served(lab: Lab) -> None:
    app = Starlette(routes=[Mount("/api", app=host(lab.make()))])

    assert (await ask(app, UNARY, path="/api/v1/responses")).status == 200
    assert (await ask(app, UNARY, path="/v1/responses")).status == 404
    assert (await ask(app, UNARY, path="/responses", root_path="/v1")).status == 404


async def test_root_path_of_the_server_is_no_part_of_the_route(lab: Lab) -> None:
    app = host(lab.make())

    assert (await ask(app, UNARY, path="/behind/v1/responses", root_path="/behind")).status == 200
    assert (await ask(app, UNARY, path="/v1/responses", root_path="/behind")).status == 200


async def test_the_hosts_lifespan_runs_and_ends_with_the_gateway_closed(lab: Lab) -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            message = await receive()
            order.append(message["type"])
            await send({"type": message["type"] + ".complete"})

    incoming: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        order.append(message["type"])

    gateway = lab.make()
    assert (await lab.ask(UNARY)).status == 200
    await GoModelMiddleware(app, gateway=gateway)({"type": "lifespan"}, receive, send)

    assert order == [
        "lifespan.startup",
        "lifespan.startup.complete",
        "lifespan.shutdown",
        "lifespan.shutdown.complete",
    ]


@pytest.mark.parametrize("path", ["/", "/v1/responses/", "/v1/response"])
async def test_what_is_not_ours_is_the_hosts(lab: Lab, path: str) -> None:
    answer = await ask(host(lab.make()), path=path, method="GET")

    assert answer.status == (200 if path == "/" else 404)
    assert answer.content in (b"home", b"Not Found")
    assert scope_of(path)["path"] == path
