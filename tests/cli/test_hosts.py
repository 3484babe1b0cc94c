"""The gateway is found wherever a host's app has it, and the path below which it is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Gateway, GoModelMiddleware, Provider
from gomodel_asgi.cli import main
from gomodel_asgi.cli.hosts import gateways_in

from ..support import cli_host, django_host

django_host.set_up()

from django.core.asgi import get_asgi_application  # noqa: E402  Django is configured first
from django.test import override_settings  # noqa: E402
from django.urls import clear_url_caches, include, path, re_path  # noqa: E402

from gomodel_asgi.contrib.django import DjangoAuth, get_gateway, view  # noqa: E402

GATEWAY = Gateway(providers=[Provider("small", "http://127.0.0.1:9/v1")])


def in_fastapi() -> FastAPI:
    app, router = FastAPI(), APIRouter()

    @router.api_route("/v1/responses", methods=["POST"])
    async def responses(request: Request) -> Response:
        return await GATEWAY.endpoint(request)

    app.include_router(router, prefix="/api")
    return app


def mounted_in_a_router() -> FastAPI:
    app, router = FastAPI(), APIRouter()
    router.mount("/llm", GATEWAY)
    app.include_router(router, prefix="/api")
    return app


def mounted_in_fastapi() -> FastAPI:
    app, inner = FastAPI(), FastAPI()
    inner.mount("/llm", GATEWAY)
    app.mount("/api", inner)
    return app


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    await GATEWAY(scope, receive, send)


def closed_over(app: ASGIApp) -> ASGIApp:
    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return wrapper


def decorated(app: Any) -> Any:
    @functools.wraps(app)
    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
        await bare(scope, receive, send)

    return wrapper


class Wrapper:
    """A middleware of the host's own, under whose name nothing is known."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Calling:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await GATEWAY(scope, receive, send)


class Itself:
    """A wrapper that has itself inside."""

    def __init__(self) -> None:
        self.app = self


def behind() -> GoModelMiddleware:
    return GoModelMiddleware(Starlette(), gateway=GATEWAY)


def added() -> FastAPI:
    app = FastAPI()
    app.add_middleware(GoModelMiddleware, gateway=GATEWAY)
    app.add_middleware(CORSMiddleware)
    return app


APPS: dict[str, tuple[Any, str]] = {
    "the gateway": (GATEWAY, ""),
    "a middleware": (behind(), ""),
    "Starlette's middlewares": (Starlette(middleware=[Middleware(GoModelMiddleware, gateway=GATEWAY)]), ""),
    "FastAPI's middlewares": (added(), ""),
    "a mount": (Starlette(routes=[Mount("/llm", app=GATEWAY)]), "/llm"),
    "nested mounts": (Starlette(routes=[Mount("/a", routes=[Mount("/b", Router([Mount("/c", GATEWAY)]))])]), "/a/b/c"),
    "a mount with middlewares": (Starlette(routes=[Mount("/a", behind(), middleware=[Middleware(Wrapper)])]), "/a"),
    "a mount of FastAPI": (mounted_in_fastapi(), "/api/llm"),
    "a router of FastAPI": (in_fastapi(), "/api"),
    "a mount in a router of FastAPI": (mounted_in_a_router(), "/api/llm"),
    "a host's name": (Starlette(routes=[Host("llm.example.org", app=GATEWAY)]), ""),
    "a route": (Starlette(routes=[Route("/v1/responses", GATEWAY.endpoint, methods=["POST"])]), ""),
    "a wrapper": (Wrapper(Wrapper(CORSMiddleware(behind()))), ""),
    "a function": (bare, ""),
    "a closure": (closed_over(closed_over(behind())), ""),
    "a decorator": (decorated(bare), ""),
    "a partial": (functools.partial(GATEWAY), ""),
    "an object that calls it": (Calling(), ""),
    "Django behind the middleware": (DjangoAuth(GoModelMiddleware(get_asgi_application(), gateway=GATEWAY)), ""),
    "Django in a mount": (Starlette(routes=[Mount("/d", app=DjangoAuth(behind()))]), "/d"),
}


@pytest.mark.parametrize(("app", "path"), APPS.values(), ids=APPS)
def test_the_gateway_of_an_app_is_found_with_the_path_below_which_it_is(app: Any, path: str) -> None:
    with override_settings(ROOT_URLCONF=OfDjango()):
        assert [(one.gateway, one.path) for one in gateways_in(app)] == [(GATEWAY, path)]


def test_the_path_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    cli_host.gateway = Starlette(routes=[Mount("/llm", app=GATEWAY)])
    main(["check", "tests.support.cli_host:gateway"])
    assert "paths   /llm/v1/responses and below, /llm/v1/models" in capsys.readouterr().out


class OfDjango:
    """A URLconf whose view is two levels down, once behind a login page."""

    def __init__(self, *views: Any) -> None:
        self.urlpatterns = [path("api/", include([re_path(r"^v1/(?:responses)$", each) for each in views]))]


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    get_gateway.cache_clear()
    yield
    cli_host.gateway = None
    get_gateway.cache_clear()
    clear_url_caches()


def test_djangos_application_has_the_gateway_of_its_settings_where_a_url_leads_to_the_view() -> None:
    with override_settings(ROOT_URLCONF=OfDjango(view)):
        assert [one.gateway for one in gateways_in(get_asgi_application())] == [get_gateway()]
    with override_settings(ROOT_URLCONF=OfDjango()):
        assert gateways_in(get_asgi_application()) == []


def test_a_login_page_before_djangos_view_is_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    from django.contrib.auth.decorators import login_required

    cli_host.gateway = get_asgi_application()
    for view_of_urls, found in ((login_required(view), True), (view, False)):
        with override_settings(ROOT_URLCONF=OfDjango(view_of_urls)):
            main(["check", "tests.support.cli_host:gateway"])
        printed = capsys.readouterr().out
        assert ("login_redirect URLconf: api/^v1/(?:responses)$: a decorator" in printed) is found, printed


def test_wrong_settings_of_django_are_said_and_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    cli_host.gateway = get_asgi_application()
    with override_settings(ROOT_URLCONF=OfDjango(view), GOMODEL={"POLICY": 5}):
        assert main(["check", "tests.support.cli_host:gateway"]) == 2
    assert "ImproperlyConfigured: GOMODEL['POLICY']: give a function" in capsys.readouterr().err


def test_where_there_are_several_the_outermost_is_checked_and_the_others_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Gateway(providers=[Provider("other", "http://127.0.0.1:9/v1")])
    app = Starlette(routes=[Mount("/deep", routes=[Mount("/llm", app=other)]), Mount("/llm", app=GATEWAY)])
    assert [(one.gateway, one.path) for one in gateways_in(app)] == [(GATEWAY, "/llm"), (other, "/deep/llm")]
    cli_host.gateway = app
    main(["check", "tests.support.cli_host:gateway"])
    assert "There are 1 more gateways in it" in capsys.readouterr().out


@pytest.mark.parametrize("app", [Itself(), Starlette(), FastAPI(), object(), 5, None, print])
def test_where_there_is_none_none_is_found(app: Any) -> None:
    assert gateways_in(app) == []


def test_the_names_beside_an_app_without_one_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tests.support.cli_host:not_a_gateway"]) == 2
    assert "name the Gateway itself, such as tests.support.cli_host:small." in capsys.readouterr().err
