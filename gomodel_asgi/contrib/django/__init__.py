"""The gateway in a Django project under ASGI. Put `"gomodel_asgi.contrib.django"` into `INSTALLED_APPS`.

    # settings.py
    GOMODEL = {"POLICY": "shop.routing.route", "PROVIDERS": "shop.routing.providers"}

    # asgi.py
    application = DjangoAuth(GoModelMiddleware(get_asgi_application(), gateway=get_gateway()))

Django's own middlewares and view decorators never run for a request that the middleware answers: `DjangoAuth` does what
authentication needs of them. `view` is for those who want all of them.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ...extras import missing

if find_spec("django") is None:
    raise missing("django", "gomodel_asgi.contrib.django needs Django")

if TYPE_CHECKING:
    from .auth import DjangoAuth
    from .configuration import get_gateway
    from .views import view

__all__ = ["DjangoAuth", "get_gateway", "view"]

# Django imports this package before its apps are ready; models may be touched only afterwards.
LAZY = {"DjangoAuth": "auth", "get_gateway": "configuration", "view": "views"}


def __getattr__(name: str) -> Any:
    """Imports what needs Django's models when it is first used.

    :raises AttributeError: there is no such name.
    """
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
