"""Which order of middlewares is safe: what runs outside the gateway runs for its requests, what is inside does not."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount

from gomodel_asgi import Gateway, GoModelMiddleware, Policy, Provider, policies
from gomodel_asgi.testing import Cut, FakeProvider, Stall

from ..support.serving import Served

QUESTION = {"model": "m", "input": "Hello"}
ADA = {"authorization": "Bearer ada"}
STREAM = {**QUESTION, "stream": True}


class Backend(AuthenticationBackend):
    """Whoever sends a bearer token is who it says; who sends none is anonymous, and let through."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("authorization", "").removeprefix("Bearer ")
        return (AuthCredentials(["authenticated"]), SimpleUser(name)) if name else None


AUTHENTICATION = Middleware(AuthenticationMiddleware, backend=Backend())


def gateway(provider: FakeProvider, policy: Policy | None = None) -> Gateway:
    return Gateway(providers=[Provider("fake", provider.base_url)], policy=policy)


def ours(provider: FakeProvider, policy: Policy | None = None) -> Middleware:
    return Middleware(GoModelMiddleware, gateway=gateway(provider, policy))


def app(*middleware: Middleware) -> Starlette:
    return Starlette(middleware=middleware)


def closing(gateway: Gateway) -> Any:
    """A host's lifespan that closes *gateway*: a mount sees none, so the host does what the middleware does itself."""

    @asynccontextmanager
    async def lifespan(host: object) -> AsyncIterator[None]:
        async with gateway:
            yield

    return lifespan


async def ask(url: str, body: object = QUESTION, *, headers: dict[str, str] | None = None) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10) as client:
        return await client.post(f"{url}/v1/responses", json=body, headers=headers)


# Orders that let anonymous callers through...


async def test_authentication_inside_the_gateway_never_runs_and_anonymous_callers_pass(
    provider: FakeProvider, serve: Served
) -> None:
    url = serve(app(ours(provider), AUTHENTICATION))
    assert (await ask(url)).status_code == 200


async def test_authentication_outside_the_gateway_lets_anonymous_callers_through_without_a_policy_that_refuses(
    provider: FakeProvider, serve: Served
) -> None:
    url = serve(app(AUTHENTICATION, ours(provider)))
    assert (await ask(url)).status_code == 200


async def test_the_dependencies_of_an_app_never_run_for_a_middleware(provider: FakeProvider, serve: Served) -> None:
    def nobody() -> None:
        raise HTTPException(401)

    host = FastAPI(dependencies=[Depends(nobody)])
    host.add_middleware(GoModelMiddleware, gateway=gateway(provider))
    assert (await ask(serve(host))).status_code == 200


async def test_the_dependencies_of_an_app_never_run_for_a_mount(provider: FakeProvider, serve: Served) -> None:
    def nobody() -> None:
        raise HTTPException(401)

    mounted = gateway(provider)
    host = FastAPI(dependencies=[Depends(nobody)], lifespan=closing(mounted))
    host.mount("/llm", mounted)
    assert (await ask(serve(host) + "/llm")).status_code == 200


async def test_middleware_added_later_is_outermost_so_authentication_is_added_after_the_gateway(
    provider: FakeProvider, serve: Served
) -> None:
    guarded = policies.authenticated(policies.hint)
    right, wrong = Starlette(), Starlette()
    right.add_middleware(GoModelMiddleware, gateway=gateway(provider, guarded))
    right.add_middleware(AuthenticationMiddleware, backend=Backend())
    wrong.add_middleware(AuthenticationMiddleware, backend=Backend())
    wrong.add_middleware(GoModelMiddleware, gateway=gateway(provider, guarded))
    assert (await ask(serve(right), headers=ADA)).status_code == 200
    assert (await ask(serve(wrong), headers=ADA)).status_code == 401


# ...and what closes the door in each of them


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["outside", "inside"])
async def test_an_authenticated_policy_refuses_anonymous_callers_in_every_order(
    provider: FakeProvider, serve: Served, order: Sequence[int]
) -> None:
    both = (AUTHENTICATION, ours(provider, policies.authenticated(policies.hint)))
    reply = await ask(serve(app(*[both[place] for place in order])))
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "unauthenticated"
    assert not provider.requests


async def test_a_mounted_gateway_is_inside_every_middleware_of_its_host(provider: FakeProvider, serve: Served) -> None:
    mounted = gateway(provider, policies.authenticated(policies.hint))
    routes = [Mount("/llm", app=mounted)]
    url = serve(Starlette(routes=routes, middleware=[AUTHENTICATION], lifespan=closing(mounted))) + "/llm"
    assert (await ask(url)).status_code == 401
    assert (await ask(url, headers=ADA)).status_code == 200


# Orders that matter for other reasons...


@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
async def test_gzip_leaves_a_stream_alone_wherever_it_stands(
    provider: FakeProvider, serve: Served, outside: bool
) -> None:
    both = [Middleware(GZipMiddleware, minimum_size=10), ours(provider)]
    url = serve(app(*both[:: 1 if outside else -1]))
    async with httpx.AsyncClient() as client:
        async with client.stream("POST", f"{url}/v1/responses", json=STREAM) as reply:
            assert "content-encoding" not in reply.headers
            assert b"response.completed" in await reply.aread()


async def test_gzip_outside_compresses_a_whole_reply(provider: FakeProvider, serve: Served) -> None:
    url = serve(app(Middleware(GZipMiddleware, minimum_size=10), ours(provider)))
    async with httpx.AsyncClient() as client:
        headers = {"accept-encoding": "gzip"}
        async with client.stream("POST", f"{url}/v1/responses", json=QUESTION, headers=headers) as reply:
            raw = b"".join([piece async for piece in reply.aiter_raw()])
    assert b"You said: Hello" in gzip.decompress(raw)


PREFLIGHT = {
    "origin": "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}


@pytest.mark.parametrize("outside", [True, False], ids=["outside", "inside"])
async def test_cors_answers_preflights_wherever_it_stands_but_marks_replies_only_from_outside(
    provider: FakeProvider, serve: Served, outside: bool
) -> None:
    cors = Middleware(
        CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["POST"], allow_headers=["content-type"]
    )
    both = [cors, ours(provider)]
    url = serve(app(*both[:: 1 if outside else -1]))
    async with httpx.AsyncClient() as client:
        preflight = await client.options(f"{url}/v1/responses", headers=PREFLIGHT)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    reply = await ask(url, headers={"origin": "https://app.example"})
    assert ("access-control-allow-origin" in reply.headers) == outside


def body_limit(size: int) -> Middleware:
    limits = pytest.importorskip("starlette.middleware.body_limit")
    return Middleware(limits.RequestBodyLimitMiddleware, max_body_size=size)


async def test_a_body_limit_outside_holds_for_the_gateway_too(provider: FakeProvider, serve: Served) -> None:
    url = serve(app(body_limit(1000), ours(provider)))
    assert (await ask(url)).status_code == 200
    assert (await ask(url, {**QUESTION, "input": "x" * 2000})).status_code == 413
    assert len(provider.requests) == 1


class Passing(BaseHTTPMiddleware):
    """What many apps have somewhere: it reads nothing and changes nothing."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_basehttpmiddleware_outside_passes_events_as_they_come(provider: FakeProvider, serve: Served) -> None:
    provider.fail_next(Stall(after_events=3))
    url = serve(app(Middleware(Passing), ours(provider)))
    async with httpx.AsyncClient(timeout=10) as client:
        async with client.stream("POST", f"{url}/v1/responses", json=STREAM) as reply:
            pieces = reply.aiter_text()
            text = ""
            while text.count("event: ") < 3:
                text += await anext(pieces)
            assert "response.completed" not in text
            provider.release()
            text += "".join([piece async for piece in pieces])
    assert "response.completed" in text


async def test_behind_basehttpmiddleware_a_stream_that_broke_off_is_still_told_in_band(
    provider: FakeProvider, serve: Served
) -> None:
    """It ends an aborted stream as if it had ended well, so the connection cannot tell."""
    provider.fail_next(Cut(after_events=5))
    reply = await ask(serve(app(Middleware(Passing), ours(provider))), STREAM)
    assert "upstream_stream_truncated" in reply.text
    assert reply.text.endswith("data: [DONE]\n\n")


async def test_a_request_that_is_not_ours_reaches_the_host_untouched(provider: FakeProvider, serve: Served) -> None:
    host = FastAPI()

    @host.get("/v1/files")
    async def files(provider: str) -> dict[str, str]:
        return {"provider": provider}

    host.add_middleware(GoModelMiddleware, gateway=gateway(provider))
    async with httpx.AsyncClient() as client:
        reply = await client.get(serve(host) + "/v1/files?provider=mine")
    assert reply.json() == {"provider": "mine"}
