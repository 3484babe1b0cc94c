"""What a gateway is made of beside its own arguments: each part is imported where the host has asked for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from .history.quota import Quotas as Shares
from .history.records import Records
from .observers import Observers
from .providers.provider import Provider
from .seams.store import Store
from .settings import Limits, Retries, Timeouts
from .tasks import Tasks

if TYPE_CHECKING:
    from starlette.types import Scope

    from .cache import ResponseCache
    from .cache.lookup import Cache
    from .emulation.files import HostFiles
    from .guards import Guard
    from .guards.enforcement import Enforcement as Guarding
    from .quotas import Quota, Quotas
    from .quotas.enforcement import Enforcement
    from .tools import FileSource

    QuotasOf = Callable[[Scope | None, str | None], Awaitable[tuple[str | None, tuple[Quota, ...]]]]


def check(
    prefix: str, tools: object, *, timeouts: object, limits: object, retries: object, **functions: object
) -> None:
    """Refuses what a gateway cannot be made of.

    :raises ValueError: a malformed prefix.
    :raises TypeError: one of them is of another type than it must be.
    """
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError("prefix: begin with a slash and end without one, or give ''.")
    for name, value, kind in (
        ("timeouts", timeouts, Timeouts),
        ("limits", limits, Limits),
        ("retries", retries, Retries),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name}: give {kind.__name__}(...), not a {type(value).__name__}.")
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(f"{name}: give a function, not a {type(function).__name__}.")
    if not isinstance(tools, Iterable):
        raise TypeError("tools: give a list of tools, not one tool.")


def host_files(source: FileSource | None) -> HostFiles | None:
    """What reads the host's files; None where it has none."""
    if source is None:
        return None
    from .emulation.files import HostFiles

    return HostFiles(source)


def guarding(guards: Iterable[Guard], observers: Observers, *, has_tools: bool) -> Guarding | None:
    """What asks the host's *guards*; None where there are none.

    :raises TypeError: something else than a guard is among them.
    :raises ValueError: two have one name, or there are tools too, whose results they would not see.
    """
    guards = tuple(guards) if isinstance(guards, Iterable) else (guards,)
    if not guards:
        return None
    from .guards import Guard
    from .guards.enforcement import Enforcement

    for guard in guards:
        if not isinstance(guard, Guard):
            raise TypeError(f"guards: give a list of Guards, not {type(guard).__name__}.")
    if len({guard.name for guard in guards}) < len(guards):
        raise ValueError("guards: give each a name of its own.")
    if has_tools:
        raise ValueError("guards do not see what hosted tools that run here return: give a gateway one or the other.")
    return Enforcement(guards, observers)


def caching(cache: ResponseCache | None, records: Records, shares: Shares, tasks: Tasks) -> Cache | None:
    """The cache at work; None where there is none.

    :raises TypeError: *cache* is something else.
    :raises ValueError: there is no store to keep answers in.
    """
    if cache is None:
        return None
    from .cache import ResponseCache as Known
    from .cache.lookup import Cache

    if not isinstance(cache, Known):
        raise TypeError(f"cache: give gomodel_asgi.cache.ResponseCache(...), not {type(cache).__name__}.")
    return Cache(cache, records, shares, tasks)


def enforcing(
    quotas: Quotas | None,
    store: Store,
    records: Records,
    *,
    total: float,
    observers: Observers,
    providers: Iterable[Provider],
    quotas_of: QuotasOf,
) -> Enforcement | None:
    """The quotas at work; None where there are none.

    :raises TypeError: *quotas* is something else.
    :raises ValueError: they have counters of this process alone beside a *store* that several share.
    """
    if quotas is None:
        return None
    from .quotas import Quotas as Known
    from .quotas.enforcement import Enforcement

    if not isinstance(quotas, Known):
        raise TypeError(f"quotas: give gomodel_asgi.quotas.Quotas(...), not {type(quotas).__name__}.")
    return Enforcement(
        quotas, store, records, total=total, observers=observers, providers=providers, quotas_of=quotas_of
    )
