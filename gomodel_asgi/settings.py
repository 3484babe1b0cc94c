"""Deadlines, bounds and retries: small frozen values that say what was given, so that the rest can be inherited."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Self

KIB = 1024
MIB = 1024 * KIB

CONNECT = "connect"
"""A connection or TLS session that could not be made."""
STALE = "stale"
"""A reused connection that closed before one byte of the reply."""
CLOSED = "closed"
"""A fresh connection that closed before the reply's headers were whole."""
TIMEOUT = "timeout"
"""An upstream that was asked and did not answer in time."""
AUTH = "auth"
"""A refused credential that the Target brought itself (401, 402, 403)."""


class Inheriting:
    """A settings value whose members yield to those of another one, unless they were given by name."""

    given: frozenset[str]

    def __new__(cls, **given: Any) -> Self:
        self = super().__new__(cls)
        object.__setattr__(self, "given", frozenset(given))
        return self

    def over(self, base: Self | None) -> Self:
        """*base* with the members that were given here put over it."""
        if base is None or base is self:
            return self
        if not self.given:
            return base
        return replace(base, **{name: getattr(self, name) for name in self.given})  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class Timeouts(Inheriting):
    """Seconds. On a Provider or Target the members that are not given are inherited.

    *connection* is how old a client's WebSocket may become, *connection_idle* how long nothing may happen on it; both
    are the gateway's alone.
    """

    connect: float = 5.0
    pool: float = 5.0
    policy: float = 10.0
    first_event: float = 120.0
    unary: float = 600.0
    idle: float = 300.0
    total: float = 3600.0
    gate: float = 10.0
    drain: float = 30.0
    stalled_client: float = 60.0
    heartbeat: float = 15.0
    connection: float = 3600.0
    connection_idle: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes, but for *depth* (levels of nesting), *items* (of one request's input), *values* (commas and opening
    brackets outside strings, in a request or in a reply that is parsed) and the concurrencies (requests at a time,
    None: unlimited).

    *tenant_entries* and *tenant_bytes* bound what the store keeps of each tenant's responses (None: unlimited); the
    oldest make room for the newest.
    """

    body: int = 32 * MIB
    reply: int = 64 * MIB
    event: int = 16 * MIB
    buffer: int = 256 * KIB
    depth: int = 128
    items: int = 10_000
    values: int = 1_000_000
    provider_concurrency: int | None = None
    tenant_concurrency: int | None = None
    tenant_entries: int | None = None
    tenant_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Retries(Inheriting):
    """How often and on what an exchange tries again.

    *attempts* counts all requests of an exchange, over every Target; *per_target* those of one Target. *max_wait* is
    the longest pause in seconds that an upstream's Retry-After may ask for before it means "go elsewhere". *on* names
    what is retried: HTTP statuses (int) and the kinds `"connect"`, `"closed"`, `"stale"`, `"timeout"` and `"auth"`.
    """

    attempts: int = 3
    per_target: int = 2
    max_wait: float = 10.0
    on: Collection[int | str] = field(default=frozenset({CONNECT, CLOSED, STALE, 429, 502, 503, 504, 529}))
