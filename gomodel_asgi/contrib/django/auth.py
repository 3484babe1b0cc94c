"""Puts the caller into the ASGI scope, since Django itself puts no user there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.apps import apps
from django.conf import settings
from django.contrib.auth import aget_user, get_user
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, QueryDict
from django.http.cookie import parse_cookie
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...arguments import check_function, listed
from ...errors import GatewayFault
from ...gateway import Gateway
from ...server.paths import match
from ...threads import in_thread
from .tokens import Refused, authentication, made, token_user

# Runs a project's plain functions where Django expects them: in a thread of asgiref's, with fresh connections.
#
# Each call has a thread-sensitive context of its own, so that one slow policy does not hold up the others, in a task
# of its own: a caller that has waited long enough leaves at once, while the context waits for its thread.


_running: set[asyncio.Task[Any]] = set()


async def in_django_thread(function: Callable[[], Any]) -> Any:
    """Calls *function* in a thread of asgiref's and returns what it does. A cancelled caller leaves at once; the call
    goes on.
    """
    task = asyncio.get_running_loop().create_task(_call(function))
    _running.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen: whoever still waits gets it, and nobody else wants it


async def _call(function: Callable[[], Any]) -> Any:
    async with ThreadSensitiveContext():
        return await sync_to_async(with_fresh_connections, thread_sensitive=True)(function)


async def with_fresh_connections_around(look_up: Callable[[], Awaitable[Any]]) -> Any:
    """Awaits *look_up*, whose queries share one thread, as Django's request handler does at a request's two ends."""
    async with ThreadSensitiveContext():
        close = sync_to_async(close_old_connections, thread_sensitive=True)
        await close()
        try:
            return await look_up()
        finally:
            await close()


def with_fresh_connections(function: Callable[[], Any]) -> Any:
    """Calls *function* between two rounds of closing what is broken or past its age."""
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()


OURS = ("http", "websocket")
UNKNOWN = "The gateway could not tell who calls."
"""The message for a client where the host's authentication fails."""


class DjangoAuth:
    """Wraps `GoModelMiddleware` (or a mounted gateway), outermost: `scope["user"]` is Django's user of the request.

    The user is found by the REST framework classes of *authentication* (default: those of
    `GOMODEL["AUTHENTICATION"]`), tried in order, else by the session cookie, else it is an `AnonymousUser`. What one
    of those classes refuses is answered as REST framework would, in OpenAI's form (401, 403, 429); where one fails, the
    client is answered 500, and the exception goes to the server. Sessions are read: a caller who makes no other
    requests does not prolong a sliding one, and one that only an old `SECRET_KEY` verifies stays as it is. One that
    the user's change of password has ended is deleted, as by Django.

    Plain policies and other plain callables run in asgiref's threads, between two calls of `close_old_connections`.
    Requests whose path is not the gateway's pass at the price of one comparison. Needs asyncio.
    """

    def __init__(self, app: ASGIApp, *, authentication: Iterable[Any] | None = None) -> None:
        check_function("app", app, "an ASGI app")
        self.app = app
        self.prefix = _prefix(app)
        self.given = None if authentication is None else listed("authentication", authentication, "a list of classes")
        self._classes: list[Any] | None = None
        if apps.ready:  # else with the first request: REST framework's classes have models
            self._classes = self.authenticators

    @property
    def authenticators(self) -> list[Any]:
        """Objects with the REST framework's `authenticate(request)`."""
        if self._classes is None:
            given = self.given
            self._classes = authentication() if given is None else [made(one, "authentication") for one in given]
        return self._classes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] in OURS and (self.prefix is None or match(scope, self.prefix) is not None)
        if not ours:
            return await self.app(scope, receive, send)
        try:
            user = await self._user(scope)
        except Refused as refused:
            return await _refuse(refused, scope, receive, send)
        except Exception:
            await _refuse(Refused(GatewayFault(UNKNOWN)), scope, receive, send)
            raise  # to the server, and to whatever the host has around it
        token = in_thread.set(in_django_thread)
        try:
            await self.app({**scope, "user": user}, receive, send)
        finally:
            in_thread.reset(token)

    async def _user(self, scope: Scope) -> Any:
        if self.authenticators:
            whole = whole_request_of(scope)
            found = await in_django_thread(lambda: token_user(self.authenticators, whole))
            if found is not None:
                return found
        request = request_of(scope)
        if request.session.session_key is None:
            return anonymous()
        return await with_fresh_connections_around(lambda: aget_user(request))


def anonymous() -> Any:
    """Returns Django's user for a request without one."""
    # Importing a model needs apps that are ready, and an asgi.py imports us before they are.
    from django.contrib.auth.models import AnonymousUser

    return AnonymousUser()


def request_of(scope: Scope) -> HttpRequest:
    """Returns as much of a Django request as authentication reads: headers, cookies, client, and the session,
    unread."""
    request = HttpRequest()
    request.method = scope.get("method", "GET")
    request.path = request.path_info = scope["path"]
    request.META = _meta(scope)
    request.COOKIES = parse_cookie(request.META.get("HTTP_COOKIE", ""))
    _with_session(request)
    return request


def whole_request_of(scope: Scope) -> HttpRequest:
    """Returns a Django request as its handler makes it and its middlewares leave it, with session and user, for
    authentication classes: they may look at anything, the scheme and the host for a CSRF check among it, but for the
    body, which is still to come."""
    schemes = {"ws": "http", "wss": "https"}
    scheme = scope.get("scheme", "http")
    given = {
        **scope,
        "method": scope.get("method", "GET"),
        "scheme": schemes.get(scheme, scheme),
        "query_string": scope.get("query_string", b"").decode("latin-1"),
    }
    request = ASGIRequest(given, Unread())
    request.META |= _meta(scope)
    request._post, request._files = QueryDict(), MultiValueDict()
    _with_session(request)
    request.user = SimpleLazyObject(lambda: get_user(request))
    return request


class Unread:
    """The body of a request that is authenticated before it is read."""

    def read(self, *size: int) -> bytes:
        """Refuses.

        :raises RuntimeError: always.
        """
        raise RuntimeError("DjangoAuth comes before the body; an authentication that reads it needs the view.")

    readline = read

    def close(self) -> None:
        """Does nothing: it is still to come."""


def _with_session(request: HttpRequest) -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore
    request.session = store(request.COOKIES.get(settings.SESSION_COOKIE_NAME) or None)
    # A session that an old SECRET_KEY verifies is renewed by Django, under a key that only its own response could
    # tell the browser; renewed here, it would log the user out.
    request.session.cycle_key = _nothing
    request.session.acycle_key = _nothing_yet


def _nothing() -> None: ...


async def _nothing_yet() -> None: ...


def _meta(scope: Scope) -> dict[str, str]:
    meta: dict[str, str] = {}
    for name, value in scope.get("headers", ()):
        if b"_" in name:
            continue  # would be taken for the same header with hyphens (CVE-2015-0219)
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","
        meta[key] = f"{meta[key]}{joint}{text}" if key in meta else text
    client = scope.get("client")
    if client:
        meta["REMOTE_ADDR"] = client[0]
    return meta


def _prefix(app: Any) -> str | None:
    """Returns the prefix of the gateway in *app*, or None, for every path, where it has no gateway."""
    gateway = app if isinstance(app, Gateway) else getattr(app, "gateway", None)
    return gateway.prefix if isinstance(gateway, Gateway) else None


async def _refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        code = 1008 if refused.error.status < 500 else 1011  # RFC 6455, 7.4.1: a violation of the policy; a failure
        return await send({"type": "websocket.close", "code": code})
    await Response(refused.error.body(), refused.error.status, refused.headers())(scope, receive, send)
