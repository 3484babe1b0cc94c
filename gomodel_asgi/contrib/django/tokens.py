"""Tokens of Django REST framework, as API clients send them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

TOKENS = "rest_framework.authtoken"
"""The app whose table holds the tokens."""


NOT_ACCEPTED = "The credential was not accepted."


class Refused(Exception):
    """A credential was sent, and is not accepted. *challenge* is the value of `www-authenticate`, if any."""

    def __init__(self, challenge: str | None) -> None:
        super().__init__()
        self.challenge = challenge


def token_user(authenticators: Iterable[Any], request: HttpRequest) -> Any:
    """Returns the user found by the first of *authenticators* that knows the kind of credential, or None.

    :raises Refused: that one does not accept it.
    """
    from rest_framework.exceptions import APIException

    for authenticator in authenticators:
        try:
            found = authenticator.authenticate(request)
        except APIException:
            raise Refused(authenticator.authenticate_header(request)) from None
        if found is not None:
            return found[0]
    return None


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
