"""The system check: `manage.py check`, `runserver` and `migrate` refuse a `GOMODEL` that could not serve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

from .configuration import authentication, build

SESSIONS = "django.contrib.sessions"


def check_settings(app_configs: Any = None, **options: Any) -> Sequence[CheckMessage]:
    """`gomodel.E001` for a setting that is wrong, `gomodel.W001` where nobody could ever be authenticated."""
    given = getattr(settings, "GOMODEL", None)
    if given is None:
        return []
    try:
        build(given)
        others = authentication()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="See gomodel_asgi.contrib.django.configuration.", id="gomodel.E001")]
    if others or apps.is_installed(SESSIONS):
        return []
    return [Warning(f"DjangoAuth knows no user: {SESSIONS} is not installed.", id="gomodel.W001")]
