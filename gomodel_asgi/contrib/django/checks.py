"""The system check: `manage.py check`, `runserver` and `migrate` refuse a `GOMODEL` that could not serve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_resolver
from django.utils.module_loading import import_string

from .configuration import build
from .tokens import authentication

SESSIONS = "django.contrib.sessions"


def check_settings(app_configs: Any = None, **options: Any) -> Sequence[CheckMessage]:
    """Returns the messages of Django's system check: `gomodel.E001` for a wrong setting, `gomodel.E002` where API
    clients would be redirected to a login page, `gomodel.W001` where nobody could ever be authenticated.
    """
    given = getattr(settings, "GOMODEL", None)
    if given is None:
        return []
    try:
        build(given)
        others = authentication()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See gomodel_asgi.contrib.django.configuration.", id="gomodel.E001")]
    found: list[CheckMessage] = []
    if not others and not apps.is_installed(SESSIONS):
        found.append(Warning(f"DjangoAuth knows no user: {SESSIONS} is not installed.", id="gomodel.W001"))
    found += [Error(f"{where}: {REDIRECTS}", hint=WITHOUT, id="gomodel.E002") for where in redirecting()]
    return found


REDIRECTS = (
    "a decorator of django.contrib.auth is around the gateway's view, and redirects API clients to a login page."
)
WITHOUT = "Leave the decorator out: the policy refuses with 401, in the form that clients read."


def redirecting() -> list[str]:
    """Returns the patterns of the URLconf that lead to the view inside a decorator which asks for a login in a
    browser's way: it answers before the view can."""
    return [where for where, around in views() if any(_made_in(one) == DECORATORS for one in around)]


def views() -> Iterator[tuple[str, list[Any]]]:
    """Yields where the URLconf leads to the gateway's view: the pattern, and the functions around the view with it as
    the last."""
    if getattr(settings, "ROOT_URLCONF", None):
        yield from _views(get_resolver().url_patterns, "")


def _views(patterns: Iterable[Any], before: str) -> Iterator[tuple[str, list[Any]]]:
    for pattern in patterns:
        where = f"{before}{pattern.pattern}"
        yield from _views(getattr(pattern, "url_patterns", ()), where)
        around = _wrapped(getattr(pattern, "callback", None))
        if around and around[-1] is import_string(VIEW):
            yield where, around


VIEW = "gomodel_asgi.contrib.django.view"
DECORATORS = "django.contrib.auth.decorators"


def _wrapped(function: Any) -> list[Any]:
    """Returns *function* and what `functools.wraps` says is inside, outermost first."""
    found = []
    while function is not None:
        found.append(function)
        function = getattr(function, "__wrapped__", None)
    return found


def _made_in(function: Any) -> str | None:
    """Returns the module whose code *function* is; its `__module__` is that of what it wraps."""
    module: str | None = getattr(function, "__globals__", {}).get("__name__")
    return module
