"""The authentication classes of Django REST framework that `GOMODEL["AUTHENTICATION"]` names, and its tokens as API
clients send them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, QueryDict
from django.utils.module_loading import import_string

from ...arguments import listed
from ...errors import Denied, GatewayError, RateLimited, RoutingError, Unauthenticated

TOKENS = "rest_framework.authtoken"
"""The app whose table holds the tokens."""
NOT_ACCEPTED = "The credential was not accepted."


class Refused(Exception):
    """An authentication class does not accept the request: *error* is what the client is answered, *challenge* the
    value of `www-authenticate`, if any."""

    def __init__(self, error: GatewayError, challenge: str | None = None) -> None:
        super().__init__()
        self.error = error
        self.challenge = challenge

    def headers(self) -> dict[str, str]:
        """Returns the headers of the answer."""
        found = {name.decode(): value.decode() for name, value in self.error.headers()}
        challenge = {"www-authenticate": self.challenge} if self.challenge else {}
        return {"content-type": "application/json"} | found | challenge


def authentication() -> list[Any]:
    """Returns the REST framework authentication classes under `AUTHENTICATION`, made ready.

    :raises ImproperlyConfigured: one cannot be imported, or is none.
    """
    given = getattr(settings, "GOMODEL", None) or {}
    paths = given.get("AUTHENTICATION", ())
    try:
        paths = listed("GOMODEL['AUTHENTICATION']", paths, "a list of dotted paths")
    except TypeError as error:
        raise ImproperlyConfigured(str(error)) from None
    return [made(imported("AUTHENTICATION", path), "GOMODEL['AUTHENTICATION']") for path in paths]


def imported(key: str, value: Any) -> Any:
    """Returns what a dotted path names; anything else as it is.

    :raises ImproperlyConfigured: it cannot be imported.
    """
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {error}") from error


def made(given: Any, setting: str) -> Any:
    """Returns an object of the authentication class *given*, or it if it is one; messages call it *setting*.

    :raises ImproperlyConfigured: it is neither, or cannot be made.
    """
    if not callable(getattr(given, "authenticate", None)):
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise ImproperlyConfigured(f"{setting}: {name} is no authentication class: it has no method authenticate.")
    if iscoroutinefunction(given.authenticate):
        raise ImproperlyConfigured(f"{setting}: authenticate must be a plain function, as REST framework has it.")
    try:
        from rest_framework import authentication  # noqa: F401  its requests and exceptions are what such a class knows
    except ImportError as error:
        raise ImproperlyConfigured(f"{setting}: install djangorestframework, whose classes these are.") from error
    try:
        return given() if isinstance(given, type) else given
    except TypeError as error:
        raise ImproperlyConfigured(f"{setting}: {given.__name__} cannot be made: {error}") from error


def token_user(authenticators: Iterable[Any], request: HttpRequest) -> Any:
    """Returns the user found by the first of *authenticators* that knows the kind of credential, or None. They are
    given what REST framework gives them: a request of its own around Django's.

    :raises Refused: that one does not accept it.
    """
    from rest_framework.exceptions import APIException
    from rest_framework.parsers import JSONParser

    whole = _request_class()(request, parsers=[JSONParser()])
    for authenticator in authenticators:
        try:
            found = authenticator.authenticate(whole)
        except (APIException, PermissionDenied) as error:
            answer = _answer_to(error)
            header = getattr(authenticator, "authenticate_header", None) if answer.status == 401 else None
            raise Refused(answer, None if header is None else header(whole)) from None
        if found is not None:
            return found[0]
    return None


@cache
def _request_class() -> Any:
    # Made on first use, since the REST framework may not be installed.
    from rest_framework.request import Request

    class JsonRequest(Request):
        """REST framework's request, of which the body is no form: it is not parsed to look for a CSRF token in it."""

        @property
        def POST(self) -> QueryDict:
            return QueryDict()

    return JsonRequest


def _answer_to(error: Any) -> GatewayError:
    """Returns what REST framework would answer to *error*, in OpenAI's form. A 401 does not say what was wrong."""
    status = getattr(error, "status_code", 403)  # Django's own PermissionDenied has none
    if status == 401:
        return Unauthenticated(NOT_ACCEPTED)
    detail = getattr(error, "detail", None)
    message = str(detail) if isinstance(detail, str) else "The request was refused."
    if status == 403:
        return Denied(message)
    if status == 429:
        return RateLimited(message, retry_after=getattr(error, "wait", None))
    return RoutingError(message, status=status)


def __getattr__(name: str) -> Any:
    """Makes `BearerToken` when it is first used, since it needs Django REST framework.

    :raises AttributeError: there is no such name.
    """
    if name != "BearerToken":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _bearer_token()
    return globals()[name]


def _bearer_token() -> type:
    """Returns the class, made of the framework's own.

    :raises ImportError: Django REST framework is not installed.
    """
    # Made on first use: importing it touches models, and the REST framework may not be installed.
    try:
        from rest_framework.authentication import TokenAuthentication
    except ImportError:
        raise ImportError("BearerToken needs Django REST framework: run `pip install djangorestframework`.") from None

    class BearerToken(TokenAuthentication):
        """The REST framework's tokens in the form that OpenAI's clients send: `Authorization: Bearer <token>`."""

        keyword = "Bearer"

        def __init__(self) -> None:
            if self.model is None and not apps.is_installed(TOKENS):
                raise ImproperlyConfigured(f"BearerToken: add {TOKENS!r} to INSTALLED_APPS, and migrate.")

    return BearerToken


if TYPE_CHECKING:
    BearerToken: type
