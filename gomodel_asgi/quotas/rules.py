"""The host's rules: asked for each request, their quotas turned into the lines that counters know."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from functools import lru_cache
from typing import Any

from ..arguments import is_coroutine_function
from ..history.tenancy import mac_of, packed
from ..routing.request import RoutingRequest
from ..seams.store import Store, is_shared
from ..stores.shared import PUBLIC_SECRET
from ..threads import call
from .quota import Quota, Unit

Given = Iterable[Quota] | AsyncIterable[Quota] | None
Rules = Callable[[RoutingRequest], Given | Awaitable[Given]]
"""Which quotas a request counts in. A plain function runs in a worker thread, a coroutine function on the loop; either
may yield them."""

REMEMBERED = 4096
"""Keys of counters that are remembered."""


def asking(rules: Rules) -> Callable[[RoutingRequest], Coroutine[Any, Any, tuple[Quota, ...]]]:
    """Returns *rules* as a coroutine function that gives all of its quotas at once.

    :raises TypeError: by it, for what is no quota.
    :raises ValueError: by it, for one that is there twice.
    """
    waits = is_coroutine_function(rules) or inspect.isasyncgenfunction(rules)

    async def quotas_now(request: RoutingRequest) -> tuple[Quota, ...]:
        given: Any = rules(request) if waits else (await call(_iterated, rules, request))[0]
        if inspect.isawaitable(given):
            given = await given
        if isinstance(given, AsyncIterator):
            given = await _all_of(given)
        return _checked(() if given is None else tuple(given))

    return quotas_now


def _iterated(rules: Rules, request: RoutingRequest) -> tuple[Any]:
    """Returns what *rules* give, a generator run to its end: what it does between two quotas may wait too. In a tuple,
    since trio lets no thread return a coroutine."""
    given = rules(request)
    return (tuple(given) if isinstance(given, Iterable) else given,)


async def _all_of(given: AsyncIterator[Quota]) -> list[Quota]:
    if not isinstance(given, AsyncGenerator):
        return [one async for one in given]
    async with aclosing(given):
        return [one async for one in given]


def _checked(quotas: tuple[Quota, ...]) -> tuple[Quota, ...]:
    """Returns *quotas*, which the host's function gave.

    :raises TypeError: one is no `Quota`.
    """
    for quota in quotas:
        if not isinstance(quota, Quota):
            raise TypeError(f"The rules of the quotas gave {type(quota).__name__}, not a Quota.")
    if len(quotas) > 1:
        _check_once(quotas)
    return quotas


def _check_once(quotas: Sequence[Quota]) -> None:
    """Checks that no two of *quotas* count the same.

    :raises ValueError: two do: each request would count twice.
    """
    seen: set[tuple[object, ...]] = set()
    for quota in quotas:
        for unit, _ in quota.limits():
            counted = (quota.name, quota.per, quota.key, quota.shared, unit)
            if counted in seen:
                raise ValueError(f"The rules of the quotas gave '{quota.name}' twice for {unit}.")
            seen.add(counted)


class Keys:
    """The keys of counters: whose they are is a part of them, and cannot be read from them. They are the same in all
    processes that share *store*; with a store of this process alone, in all processes."""

    def __init__(self, store: Store) -> None:
        secret = store.secret if is_shared(store) else PUBLIC_SECRET
        self._mac = mac_of(hmac.digest(secret, packed(b"quotas"), "sha256"))
        self._known = lru_cache(REMEMBERED)(self._key)

    def of(self, tenant: str | None, quota: Quota, unit: Unit) -> str:
        """Returns the key of what *quota* counts of *unit* for *tenant*."""
        return self._known(None if quota.shared else tenant, quota.shared, quota.name, quota.key, unit)

    def _key(self, tenant: str | None, shared: bool, name: str, key: str | None, unit: Unit) -> str:
        purpose = b"shared" if shared else b"tenant"
        return self._mac(packed(purpose, tenant, name, key, unit))[:40]
