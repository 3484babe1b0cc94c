"""The OpenAI Responses API inside your own ASGI app, routed per request by your own Python."""

from importlib import import_module
from typing import Any

from .errors import Denied, ProviderConflict, RateLimited, RoutingError, Unauthenticated, UnknownModel, UnknownProvider
from .exchange.reply import Reply
from .explanation import Explanation
from .gateway import Gateway
from .middleware import GoModelMiddleware
from .observers import Observer
from .providers import Provider
from .routing.request import Policy, RoutingRequest
from .routing.target import Target
from .settings import Limits, Retries, Timeouts
from .stores import MemoryStore, NoStore, Store
from .version import __version__

__all__ = [
    "Denied",
    "Explanation",
    "Gateway",
    "GoModelMiddleware",
    "Limits",
    "MemoryStore",
    "NoStore",
    "Observer",
    "Policy",
    "Provider",
    "ProviderConflict",
    "RateLimited",
    "Reply",
    "Retries",
    "RoutingError",
    "RoutingRequest",
    "Store",
    "Target",
    "Timeouts",
    "Unauthenticated",
    "UnknownModel",
    "UnknownProvider",
    "__version__",
    "policies",
    "providers",
    "tools",
]


def __getattr__(name: str) -> Any:
    """Hosted tools are imported by those who use them.

    :raises AttributeError: the package has no such name.
    """
    if name == "tools":
        return import_module(".tools", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
