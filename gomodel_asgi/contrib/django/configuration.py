"""The gateway that `settings.GOMODEL` describes.

    GOMODEL = {
        "PROVIDERS": "shop.routing.providers",   # a list of Provider, or a function that returns one
        "POLICY": "shop.routing.route",
        "TIMEOUTS": {"idle": 60},
        "AUTHENTICATION": ["gomodel_asgi.contrib.django.tokens.BearerToken"],
    }

Keys are all arguments of `Gateway` in capitals. A string where an object is wanted is its dotted path, also in the
lists `OBSERVERS`, `TOOLS` and `GUARDS`. `TIMEOUTS`, `LIMITS` and `RETRIES` may be dicts of their members. Without
`PROVIDERS` they are those of the environment (`providers.from_env`). There must be a `POLICY`, unless
`TENANT_REQUIRED` lets in tenants alone, or `PUBLIC` says that everybody may call. `GATEWAY`, a dotted path, names a
gateway that the project makes itself, and replaces all this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ... import providers as presets
from ...gateway import EXPOSED, Gateway
from ...providers.presets import variables
from ...providers.provider import Provider
from ...settings import Limits, Retries, Timeouts
from .tokens import authentication, imported

VALUES: dict[str, type[Any]] = {"TIMEOUTS": Timeouts, "LIMITS": Limits, "RETRIES": Retries}
FUNCTIONS = ("POLICY", "TENANT", "MODELS", "FILES")
MADE = ("PROVIDERS", "STORE", "TRANSPORT", "OBSERVERS", "TOOLS", "QUOTAS", "GUARDS", "CACHE", "LEDGER")
"""What a function may be named for, to be called once."""
LISTS = ("OBSERVERS", "TOOLS", "GUARDS")
"""What is a list of which each element may be a dotted path."""
OBJECTS = (*MADE, *FUNCTIONS, *VALUES)
PLAIN = {"PREFIX": str, "STAMP": bool, "EXPOSE_TIMING": bool, "PUBLIC": bool, "TENANT_REQUIRED": bool}
ADMITTING = ("policy", "tenant_required", "public")
"""Arguments of which one has to say who may call."""
KEYS = (*OBJECTS, *PLAIN, "GATEWAY", "AUTHENTICATION")
OPEN = """GOMODEL: without a policy everybody on the net could use your providers' keys. Name one:
    GOMODEL = {"POLICY": "yourapp.routing.policy"}
and in yourapp/routing.py let in those who have logged in:
    policy = gomodel_asgi.policies.authenticated(gomodel_asgi.policies.hint)
If everybody may call, say so: "PUBLIC": True."""


@cache
def get_gateway() -> Gateway:
    """Returns the project's gateway, the same object at each call.

    :raises ImproperlyConfigured: `GOMODEL` is missing or wrong; the message names the key.
    """
    given = getattr(settings, "GOMODEL", None)
    if given is None:
        raise ImproperlyConfigured('GOMODEL: add this setting: GOMODEL = {"POLICY": "yourapp.routing.policy"}.')
    gateway = build(given)
    if apps.ready:  # REST framework's classes have models
        authentication()
    return gateway


def forget(*, setting: str, **signal: Any) -> None:
    """Builds the gateway anew when it is next asked for, after *setting* has changed."""
    if setting == "GOMODEL":
        get_gateway.cache_clear()


def build(given: Any) -> Gateway:
    """Returns the gateway of a `GOMODEL` dict.

    :raises ImproperlyConfigured: it is wrong, or lets everybody in without saying so; the message names the key.
    """
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured("GOMODEL: give a dict.")
    for key in given:
        if key not in KEYS:
            raise ImproperlyConfigured(f"GOMODEL: there is no key {key!r}.{_nearest(key, KEYS)}")
    if "GATEWAY" in given:
        if given.keys() - {"GATEWAY", "AUTHENTICATION"}:
            raise ImproperlyConfigured("GOMODEL['GATEWAY']: it is configured where it is made; leave other keys out.")
        return _ready_made(given["GATEWAY"])
    arguments = {key.lower(): _value(key, value) for key, value in given.items() if key != "AUTHENTICATION"}
    try:
        if "providers" not in arguments:
            arguments["providers"] = _of_environment()
        gateway = Gateway(**arguments)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"GOMODEL: {error}") from error
    if not any(arguments.get(name) for name in ADMITTING):
        raise ImproperlyConfigured(OPEN)
    return gateway


def _of_environment() -> list[Provider]:
    """Returns the providers that the environment configures.

    :raises ImproperlyConfigured: there is none.
    """
    found = presets.from_env()
    if not found:
        looked_for = ", ".join(variables())
        raise ImproperlyConfigured(
            f"GOMODEL: there is no provider. Set one of these environment variables for the process that runs Django,"
            f" or name your providers under 'PROVIDERS': {looked_for}."
        )
    return found


def _ready_made(path: Any) -> Gateway:
    """Returns the gateway that the host has made itself.

    :raises ImproperlyConfigured: it is none, or exposed to everybody.
    """
    gateway = imported("GATEWAY", path)
    if not isinstance(gateway, Gateway):
        raise ImproperlyConfigured("GOMODEL['GATEWAY']: this is not a Gateway.")
    if gateway.exposed:
        raise ImproperlyConfigured(f"GOMODEL['GATEWAY']: {EXPOSED}")
    return gateway


def _value(key: str, value: Any) -> Any:
    """Returns the argument that *value* of the settings means.

    :raises ImproperlyConfigured: it is of a wrong type.
    """
    if key in PLAIN:
        if not isinstance(value, PLAIN[key]):
            raise ImproperlyConfigured(f"GOMODEL[{key!r}]: give a {PLAIN[key].__name__}.")
        return value
    found = imported(key, value)
    if key in LISTS and isinstance(found, list | tuple):
        found = [imported(key, one) for one in found]
    if key in VALUES and isinstance(found, Mapping):
        return _settled(key, found)
    if key in VALUES and not isinstance(found, VALUES[key]):
        name = VALUES[key].__name__
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: give a dict of its members, or a {name}.")
    if key in FUNCTIONS and found is not None and not callable(found):
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: give a function.")
    return _called(key, found) if key in MADE and callable(found) and not hasattr(found, "aclose") else found


def _called(key: str, function: Callable[[], Any]) -> Any:
    """Returns what *function* makes.

    :raises ImproperlyConfigured: it fails.
    """
    try:
        return function()
    except Exception as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {type(error).__name__}: {error}") from error


def _settled(key: str, members: Mapping[str, Any]) -> Any:
    """Returns the settings of our own that *members* give.

    :raises ImproperlyConfigured: one is unknown, or has a value that it cannot have.
    """
    known = [member.name for member in fields(VALUES[key])]
    for name in members:
        if name not in known:
            raise ImproperlyConfigured(f"GOMODEL[{key!r}]: there is no member {name!r}.{_nearest(name, known)}")
    try:
        return VALUES[key](**members)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"GOMODEL[{key!r}]: {error}") from error


def _nearest(name: Any, known: Iterable[str]) -> str:
    """Returns a sentence that names what *name* was probably meant to be, or nothing."""
    upper = {one.upper(): one for one in known}
    found = get_close_matches(str(name).upper(), upper, 1)
    return f" Did you mean {upper[found[0]]!r}?" if found else ""
