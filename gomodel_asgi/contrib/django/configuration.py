"""The gateway that `settings.GOMODEL` describes.

    GOMODEL = {
        "PROVIDERS": "shop.routing.providers",   # a list of Provider, or a function that returns one
        "POLICY": "shop.routing.route",
        "TIMEOUTS": {"idle": 60},
        "AUTHENTICATION": ["gomodel_asgi.contrib.django.tokens.BearerToken"],
    }

Keys are the arguments of `Gateway` in capitals. A string where an object is wanted is its dotted path. `TIMEOUTS`,
`LIMITS` and `RETRIES` may be dicts of their members. Without `PROVIDERS` they are those of the environment
(`providers.from_env`). `GATEWAY`, a dotted path, names a gateway that the project makes itself, and replaces all this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ... import providers as presets
from ...gateway import Gateway
from ...settings import Limits, Retries, Timeouts

VALUES: dict[str, Callable[..., Any]] = {"TIMEOUTS": Timeouts, "LIMITS": Limits, "RETRIES": Retries}
FUNCTIONS = ("POLICY", "TENANT", "MODELS")
OBJECTS = ("PROVIDERS", "STORE", "TRANSPORT", "OBSERVERS", "QUOTAS", "GUARDS", "LEDGER", *FUNCTIONS, *VALUES)
PLAIN = {"PREFIX": str, "STAMP": bool, "EXPOSE_TIMING": bool}
MADE = ("PROVIDERS", "STORE", "TRANSPORT", "OBSERVERS", "QUOTAS", "GUARDS", "LEDGER")
"""What a function may be named for, to be called once."""


@cache
def get_gateway() -> Gateway:
    """Returns the project's gateway, the same object at each call.

    :raises ImproperlyConfigured: `GOMODEL` is missing or wrong; the message names the key.
    """
    given = getattr(settings, "GOMODEL", None)
    if given is None:
        raise ImproperlyConfigured("GOMODEL: add this setting, if only as an empty dict.")
    return build(given)


def forget(*, setting: str, **signal: Any) -> None:
    """Builds the gateway anew when it is next asked for, after *setting* has changed."""
    if setting == "GOMODEL":
        get_gateway.cache_clear()


def build(given: Any) -> Gateway:
    """Returns the gateway of a `GOMODEL` dict.

    :raises ImproperlyConfigured: it is wrong; the message names the key.
    """
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("GOMODEL: give a dict.")
    for key in given:
        if key not in (*OBJECTS, *PLAIN, "GATEWAY", "AUTHENTICATION"):
            raise ImproperlyConfigured(f"GOMODEL: there is no key {key!r}.")
    if "GATEWAY" in given:
        if given.keys() - {"GATEWAY", "AUTHENTICATION"}:
            raise ImproperlyConfigured("GOMODEL['GATEWAY']: it is configured where it is made; leave other keys out.")
        return _ready_made(given["GATEWAY"])
    arguments = {key.lower(): _value(key, value) for key, value in given.items() if key != "AUTHENTICATION"}
    try:
        arguments.setdefault("providers", presets.from_env())
        return Gateway(**arguments)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"GOMODEL: {error}") from error


def authentication() -> list[Any]:
    """Returns the REST framework authentication classes under `AUTHENTICATION`, made ready.

    :raises ImproperlyConfigured: one cannot be imported.
    """
    given = getattr(settings, "GOMODEL", None) or {}
    paths = given.get("AUTHENTICATION", ())
    if isinstance(paths, str):
        raise ImproperlyConfigured("GOMODEL['AUTHENTICATION']: give a list of dotted paths, not one string.")
    return [_imported("AUTHENTICATION", path)() for path in paths]


def _ready_made(path: Any) -> Gateway:
    gateway = _imported("GATEWAY", path)
    if not isinstance(gateway, Gateway):
        raise ImproperlyConfigured("GOMODEL['GATEWAY']: this is not a Gateway.")
    return gateway


def _value(key: str, value: Any) -> Any:
    if key in PLAIN:
        if not isinstance(value, PLAIN[key]):
            raise ImproperlyConfigured(f"GOMODEL[{key!r}]: give a {PLAIN[key].__name__}.")
        return value
    found = _imported(key, value)
    if key in VALUES and isinstance(found, Mapping):
        return _settled(key, found)
    if key in FUNCTIONS and found is not None and not callable(found):
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: give a function.")
    return _made(key, found) if key in MADE and callable(found) and not hasattr(found, "aclose") else found


def _made(key: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {type(error).__name__}: {error}") from error


def _settled(key: str, members: Mapping[str, Any]) -> Any:
    try:
        return VALUES[key](**members)
    except TypeError as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {error}") from error


def _imported(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {error}") from error


# The system check: `manage.py check`, `runserver` and `migrate` refuse a `GOMODEL` that could not serve.


SESSIONS = "django.contrib.sessions"


def check_settings(app_configs: Any = None, **options: Any) -> Sequence[CheckMessage]:
    """Returns the messages of Django's system check: `gomodel.E001` for a wrong setting, `gomodel.W001` where nobody
    could ever be authenticated.
    """
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
