"""The gateway as a view, behind Django's own middlewares and decorators.

    urlpatterns = [re_path(r"^v1/(?:responses|conversations|models)(?:/.*)?$", view)]

Django wants a response, the gateway sends ASGI messages. So the gateway works in a task of its own, and the response
takes its messages one at a time: a slow client slows the upstream, as everywhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import BadRequest, ImproperlyConfigured, RequestDataTooBig, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from starlette.types import Message, Scope

from ...errors import GatewayFault, Unauthenticated
from ...gateway import Gateway
from ...server.body import too_large
from ...server.handler import failed
from ...server.paths import route_of
from ...threads import in_thread
from .auth import UNKNOWN, in_django_thread
from .configuration import get_gateway
from .tokens import Refused, authentication, token_user

try:  # new in Django 5.1
    from django.contrib.auth.middleware import LoginRequiredMiddleware
except ImportError:
    LoginRequiredMiddleware = None

log = logging.getLogger("django.request")

_working: set[asyncio.Task[None]] = set()


async def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
    """Answers *request* with the gateway of `settings.GOMODEL`. The policy sees the user that the classes of
    `GOMODEL["AUTHENTICATION"]` find, else `request.user`, whoever has set it.

    What one of those classes refuses is answered as REST framework would, in OpenAI's form. Under Django's
    LoginRequiredMiddleware a caller who has not logged in gets 401: an API client cannot follow a redirect to a login
    page.

    Exempt from Django's CSRF check, as API clients have no token: the gateway takes no content type that a browser
    sends across sites unasked. Where a session may call, keep `SESSION_COOKIE_SAMESITE` at its `Lax`. The body is
    bounded by `DATA_UPLOAD_MAX_MEMORY_SIZE` as well.

    :raises ImproperlyConfigured: Django runs under WSGI.
    """
    scope = getattr(request, "scope", None)
    if scope is None:
        raise ImproperlyConfigured("gomodel_asgi.contrib.django.view needs ASGI.")
    try:
        body = request.body
    except RequestDataTooBig:
        refused = failed(too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE))
        return HttpResponse(refused.body or b"", status=refused.status, headers=refused.headers)
    try:
        user = await user_of(request)
    except Refused as refused:
        return _refused(refused)
    except (SuspiciousOperation, BadRequest):
        raise  # the client's fault, which Django knows how to answer
    except Exception as error:
        _tell(error, request)
        return _refused(Refused(GatewayFault(UNKNOWN)))
    if user is not None:
        scope = {**scope, "user": user}
    if _login_required() and not getattr(scope.get("user"), "is_authenticated", False):
        return _refused(Refused(Unauthenticated()))
    work = Work(get_gateway(), scope, body, request)
    try:
        return await _response(work)
    except BaseException:
        work.leave()
        raise


view.csrf_exempt = True  # type: ignore[attr-defined]
view.login_required = False  # type: ignore[attr-defined]  # the view itself does what LoginRequiredMiddleware would


async def user_of(request: HttpRequest) -> Any:
    """Returns the user of *request*, as Django's own code in its place would see it; None where nothing sets one.

    :raises Refused: a class of `GOMODEL["AUTHENTICATION"]` does not accept a credential.
    """
    authenticators = authentication()
    if authenticators:
        found = await sync_to_async(token_user)(authenticators, request)
        if found is not None:
            return found
    # Not `auser`: it is the session's user also where a middleware or decorator has put another one into `user`.
    return await sync_to_async(_evaluated)(request)


def _evaluated(request: HttpRequest) -> Any:
    """In a thread, since `user` is lazy, and may ask the database."""
    user = getattr(request, "user", None)
    if user is not None:
        bool(getattr(user, "is_authenticated", False))
    return user


@cache
def _requires_login(middlewares: tuple[str, ...]) -> bool:
    found = [import_string(path) for path in middlewares]
    return any(isinstance(one, type) and issubclass(one, LoginRequiredMiddleware) for one in found)


def _login_required() -> bool:
    return LoginRequiredMiddleware is not None and _requires_login(tuple(settings.MIDDLEWARE))


def _refused(refused: Refused) -> HttpResponse:
    return HttpResponse(refused.error.body(), status=refused.error.status, headers=refused.headers())


class Work:
    """The gateway at work on one request, and its messages, of which at most one waits."""

    def __init__(self, gateway: Gateway, scope: Scope, body: bytes, request: HttpRequest) -> None:
        self.request = request
        self.body: bytes | None = body
        self.messages: asyncio.Queue[Message] = asyncio.Queue(1)
        self.gone = asyncio.Event()
        route = route_of(scope)
        token = in_thread.set(in_django_thread)  # the task below works in a copy of this context
        self.task = asyncio.create_task(gateway.serve(route, scope, self.receive, self.send))
        in_thread.reset(token)
        _working.add(self.task)
        self.task.add_done_callback(self._ended)

    async def receive(self) -> Message:
        """The gateway's `receive`: returns the body that Django has read, then that the client has left."""
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the gateway sends: taken by the response, or by nobody once the client has left."""
        if not self.gone.is_set():
            await self.messages.put(message)

    async def next(self) -> Message:
        """Returns the next message of the gateway's.

        :raises ConnectionAbortedError: the gateway has ended before its reply had.
        """
        if self.messages.empty() and not self.task.done():
            getting = asyncio.ensure_future(self.messages.get())
            try:
                await asyncio.wait({getting, self.task}, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    return getting.result()
            finally:
                getting.cancel()
        if self.messages.empty():
            raise ConnectionAbortedError("The reply was broken off.")
        return self.messages.get_nowait()

    def leave(self) -> None:
        """Nobody wants the rest. The gateway stops, but for a background response, whose start it sees through."""
        self.gone.set()
        while not self.messages.empty():
            self.messages.get_nowait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        _working.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, OSError):
            _tell(error, self.request)


async def _response(work: Work) -> HttpResponseBase:
    head = await work.next()
    first = await work.next()
    response: HttpResponseBase
    if first["more_body"]:
        response = StreamingHttpResponse(_events(work, first), status=head["status"])
    else:
        await asyncio.wait({work.task})
        response = HttpResponse(first["body"], status=head["status"])
    for name, value in head["headers"]:
        response.headers[name.decode("ascii")] = value.decode("latin-1")
    return response


async def _events(work: Work, message: Message) -> AsyncIterator[bytes]:
    try:
        while message["more_body"]:
            yield message["body"]
            message = await work.next()
        yield message["body"]  # nothing, of a stream; of a large answer, or one that had to be kept first, its end
    finally:
        work.leave()


def _tell(error: BaseException, request: HttpRequest) -> None:
    """What Django does for an exception of a view, but for the response, which is ours."""
    log.error("The gateway's view failed: %s", request.path, exc_info=error, extra={"request": request})
    try:
        raise error
    except BaseException:
        got_request_exception.send(sender=view, request=request)
