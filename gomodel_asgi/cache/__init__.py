"""A cache of whole answers: what a tenant has asked an account before is answered without an upstream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..arguments import check_count, check_function, check_seconds
from ..routing.request import RoutingRequest
from ..settings import MIB

__all__ = ["ResponseCache"]

When = Callable[[RoutingRequest], bool | Awaitable[bool]]
ScopeOf = Callable[[RoutingRequest], str | None | Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCache:
    """Answers are kept in the gateway's store for *ttl* seconds, and given again to requests that say the same.

    *when* decides which requests may be answered from the cache, and their answers kept there; *scope* divides a
    tenant's entries further, by user for example. Both may be plain functions, which run in a worker thread, or
    coroutine functions, and have `timeouts.policy` to answer; where one fails, the request bypasses the cache. With
    *scope* requests are cached too whose Target brought a key of its own. An answer of more than *size* bytes is not
    kept.

    :raises ValueError: *ttl* or *size* is not positive and finite.
    :raises TypeError: *when* or *scope* is no function.
    """

    ttl: float = 3600
    when: When
    scope: ScopeOf | None = None
    size: int = MIB

    def __post_init__(self) -> None:
        check_seconds("ttl", self.ttl, above_zero=True)
        check_count("size", self.size, at_least=1)
        check_function("when", self.when, "a function of a RoutingRequest")
        if self.scope is not None:
            check_function("scope", self.scope, "a function of a RoutingRequest")
