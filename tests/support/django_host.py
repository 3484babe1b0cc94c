"""A Django project in the tests' own process: its settings, its policies, its URLs."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

import django
from django.conf import settings

PASSWORD = "lovelace"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
_directory = tempfile.TemporaryDirectory(prefix="django-host-")


def set_up() -> None:
    """Configure Django, make its tables and the user `ada`. Once in a process."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(_directory.name) / "db.sqlite3"),
                "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},  # no test takes its power away
            }
        },
        MIDDLEWARE=MIDDLEWARE,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "rest_framework",
            "rest_framework.authtoken",
            "gomodel_asgi.contrib.django",
        ],
        GOMODEL={"PROVIDERS": f"{__name__}.providers", "POLICY": f"{__name__}.on_the_orm"},
        REST_FRAMEWORK={},
    )
    django.setup()
    _fill()


def _fill() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", verbosity=0)
    get_user_model().objects.create_user("ada", password=PASSWORD)
    connections.close_all()


upstreams: list[str] = ["http://127.0.0.1:9/v1"]
"""The base URL of the provider, last of the list."""


def providers() -> list[Any]:
    from gomodel_asgi import Provider

    return [Provider("fake", upstreams[-1])]


threads: list[threading.Thread] = []
"""In which threads the plain policy ran."""


def on_the_orm(request: Any) -> Any:
    """The policy: a query, which Django refuses to make on an event loop."""
    from django.contrib.auth import get_user_model

    from gomodel_asgi import Target, Unauthenticated

    threads.append(threading.current_thread())
    if not request.user.is_authenticated:
        raise Unauthenticated
    return Target("fake", model=get_user_model().objects.get(pk=request.user.pk).username)


not_a_policy = 5


def broken_providers() -> list[Any]:
    raise ValueError("no key")


def __getattr__(name: str) -> Any:
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.contrib.auth.decorators import login_required
    from django.http import HttpRequest, HttpResponse
    from django.urls import path, re_path

    from gomodel_asgi.contrib.django import view

    def home(request: HttpRequest) -> HttpResponse:
        return HttpResponse("home")

    return [
        path("", home),
        re_path(r"^view/v1/responses(?:/.*)?$", view),
        re_path(r"^guarded/v1/responses(?:/.*)?$", login_required(view, login_url="/login/")),
    ]
