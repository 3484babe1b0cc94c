"""Deadlines, bounds and retries: small frozen values that say what was given, so that the rest can be inherited."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Self

from .arguments import check_count, check_seconds, refusal

KIB = 1024
MIB = 1024 * KIB
LITTLE = 128 * KIB
"""Bytes that any of our code goes through in a few milliseconds."""


class Default(int):
    """A figure that nobody gave, and that gives way where it cannot be had; one that was given is insisted on."""


CONNECT = "connect"
"""A connection or TLS session that could not be made."""
STALE = "stale"
"""A reused connection that closed before one byte of the reply."""
CLOSED = "closed"
"""A fresh connection that closed before the reply's headers were whole."""
TIMEOUT = "timeout"
"""An upstream that was asked and did not answer in time."""
MALFORMED = "malformed"
"""An answer that the model has garbled: a call of a tool that is none, which the upstream does not give out."""
AUTH = "auth"
"""A refused credential that the Target brought itself (401, 402, 403)."""

KINDS = (CONNECT, STALE, CLOSED, TIMEOUT, MALFORMED, AUTH)


class Checked:
    """A settings value whose members are given by name, each a number that is not below zero: see `_check`."""

    def __new__(cls, *unnamed: Any, **given: Any) -> Self:
        """Lets members be given by name only: a number alone says nothing.

        :raises TypeError: one is given without its name.
        """
        if unnamed:
            first = next(iter(cls.__dataclass_fields__))  # type: ignore[attr-defined]
            raise TypeError(f"{cls.__name__}: give its members by name, such as {cls.__name__}({first}=5).")
        for name, value in given.items():
            cls._check(name, value)
        return super().__new__(cls)

    @classmethod
    def _check(cls, name: str, value: Any) -> None:
        """Refuses *value* for the member *name*.

        :raises TypeError: it is of another type.
        :raises ValueError: it is out of bounds.
        """
        raise NotImplementedError


class Inheriting(Checked):
    """A settings value whose members yield to those of another one, unless they were given by name."""

    given: frozenset[str]

    def __new__(cls, *unnamed: Any, **given: Any) -> Self:
        self = super().__new__(cls, *unnamed, **given)
        object.__setattr__(self, "given", frozenset(given))
        return self

    def over(self, base: Self | None) -> Self:
        """Returns *base* with the members that were given by name here."""
        if base is None or base is self:
            return self
        if not self.given:
            return base
        return replace(base, **{name: getattr(self, name) for name in self.given})  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class Timeouts(Inheriting):
    """Seconds. On a Provider or Target the members that are not given are inherited.

    *connection* is how old a client's WebSocket may become, *connection_idle* how long nothing may happen on it. *body*
    is the time to the first byte of a request's body and the longest pause in it; so long may it also be behind the
    16 KiB a second that it must average. *tool* is how long one call of a function of the host's may take: of a hosted
    tool, or for a file. These four are the gateway's alone.
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
    body: float = 60.0
    connection: float = 3600.0
    connection_idle: float = 1800.0
    tool: float = 60.0

    @classmethod
    def _check(cls, name: str, value: Any) -> None:
        check_seconds(name, value)


UNLIMITED = frozenset({"tenant_background", "tenant_abandoned", "tenant_bytes"})
"""Limits that have a default, and may be None."""


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """Bytes, but for *depth* (levels of nesting), *items* (of one request's input), *values* (commas and opening
    brackets outside strings, in a request or in a reply that is parsed) and the concurrencies (requests at a time,
    None: unlimited).

    *connections* bounds those to upstreams, idle ones and WebSockets included; None: half of the descriptors that the
    process may open, at least 64 and at most 16,384, in common with the other gateways of the process that say None.
    *tenant_entries* and *tenant_bytes* bound what the store keeps of each tenant's responses (None: unlimited); the
    oldest make room for the newest. A store that cannot compare and swap does without the default of the latter.

    *tenant_background* is how many responses of a tenant may be in the background of this process, at work and queued
    together: work that finds *tenant_concurrency* used up is queued, what would be more is refused with 429.
    *tenant_abandoned* is how many `background` requests go on without their clients; further ones end when their client
    leaves, as all others do. To both, all requests without a tenant are one tenant's; None: unlimited.

    Of hosted tools that the host runs: *tool_rounds* is how often a model may call some before it has to answer,
    *tool_parallel* how many calls of one response run at a time, *tool_result* how many bytes of one result the model
    reads (its head and its tail), *tool_bytes* how many of all results of a response.
    """

    body: int = 32 * MIB
    reply: int = 64 * MIB
    event: int = 16 * MIB
    buffer: int = 256 * KIB
    depth: int = 128
    items: int = 10_000
    values: int = 1_000_000
    connections: int | None = None
    provider_concurrency: int | None = None
    tenant_concurrency: int | None = None
    tenant_background: int | None = 100
    tenant_abandoned: int | None = 20
    tenant_entries: int | None = None
    tenant_bytes: int | None = Default(256 * MIB)
    tool_rounds: int = 10
    tool_parallel: int = 4
    tool_result: int = 64 * KIB
    tool_bytes: int = 4 * MIB

    @classmethod
    def _check(cls, name: str, value: Any) -> None:
        if value is not None or getattr(cls, name, 0) is not None and name not in UNLIMITED:
            check_count(name, value)


@dataclass(frozen=True, kw_only=True)
class Retries(Inheriting):
    """How often and on what an exchange tries again.

    *attempts* counts all requests of an exchange, over every Target; *per_target* those of one Target. *max_wait* is
    the longest pause in seconds that an upstream's Retry-After may ask for before it means "go elsewhere". *on* names
    what is retried: HTTP statuses (int) and the kinds `"connect"`, `"closed"`, `"stale"`, `"timeout"`, `"auth"` and
    `"malformed"` (the model has garbled a call of a tool).
    """

    attempts: int = 3
    per_target: int = 2
    max_wait: float = 10.0
    on: Collection[int | str] = field(default=frozenset({CONNECT, CLOSED, STALE, MALFORMED, 429, 502, 503, 504, 529}))

    @classmethod
    def _check(cls, name: str, value: Any) -> None:
        """Checks one member.

        :raises TypeError: it is of a wrong type.
        :raises ValueError: it is out of range, or *on* names no status or kind of failure.
        """
        if name == "max_wait":
            check_seconds(name, value)
        elif name != "on":
            check_count(name, value)
        elif isinstance(value, str | bytes) or not isinstance(value, Collection):
            raise refusal("on", "a set of HTTP statuses and names", value)
        elif strange := [one for one in value if not isinstance(one, int | str)]:
            raise refusal("on", "a set of HTTP statuses and names", strange[0])
        elif wrong := [one for one in value if not isinstance(one, int) and one not in KINDS]:
            raise ValueError(f"on: {wrong[0]!r} is neither an HTTP status nor one of {', '.join(KINDS)}.")
