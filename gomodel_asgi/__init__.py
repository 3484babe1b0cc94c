"""The OpenAI Responses API inside your own ASGI app, routed per request by your own Python."""

from .errors import Denied, ProviderConflict, RateLimited, RoutingError, Unauthenticated, UnknownModel, UnknownProvider
from .exchange.reply import Reply
from .gateway import Gateway
from .middleware import GoModelMiddleware
from .observers import Observer
from .providers import Provider
from .routing.request import Explanation, Policy, RoutingRequest, Target
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
]
