"""What a gateway is made of beside its own arguments: each part is imported where the host uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .arguments import (
    check_flags,
    check_function,
    check_functions,
    check_instance,
    check_plain_function,
    check_protocol,
    check_string,
    listed,
    refusal,
)
from .history.quota import Quotas as Shares
from .history.records import Records
from .observers import Observer, Observers
from .providers.presets import variables
from .providers.provider import Provider
from .routing.request import Registry
from .seams.store import Store
from .seams.transport import Transport
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


def check(arguments: Mapping[str, Any]) -> None:
    """Refuses what a gateway cannot be made of, among its *arguments* by name. What is made of an argument here
    (providers, policy, observers, quotas, cache, guards) checks it itself.

    :raises ValueError: a malformed prefix.
    :raises TypeError: one of them is of another type than it must be.
    """
    prefix, store, transport, ledger = (arguments[name] for name in ("prefix", "store", "transport", "ledger"))
    check_string("prefix", prefix, "a path, such as '/v1', or ''")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ValueError("prefix: begin with a slash and end without one, or give ''.")
    for kind in (Timeouts, Limits, Retries):
        name = kind.__name__.lower()
        check_instance(name, arguments[name], kind, f"{kind.__name__}(...)")
    if store is not None:
        check_protocol("store", store, Store, "a store, such as MemoryStore() or RedisStore(...)")
    if transport is not None:
        check_protocol("transport", transport, Transport, "a transport, such as HttpxTransport()")
    if ledger is not None:
        from .ledger import Ledger

        check_instance("ledger", ledger, Ledger, "gomodel_asgi.ledger.Ledger(...)")
    listed("tools", arguments["tools"], "a list of tools, such as [tools.web_search(search)]")
    check_flags(**{name: arguments[name] for name in ("stamp", "expose_timing", "tenant_required", "public")})
    check_functions(**{name: arguments[name] for name in ("tenant", "models", "files")})


def observing(observers: Iterable[Observer]) -> Observers:
    """The host's *observers* as one.

    :raises TypeError: one of them cannot be called.
    """
    wanted = "a list of observers, each a function of a record"
    for observer in (given := listed("observers", observers, wanted)):
        check_observer("observers", observer, wanted)
    return Observers(given)


def check_observer(name: str, observer: Any, wanted: str = "a function of a record") -> None:
    """Refuse what is no observer.

    :raises TypeError: *observer* cannot be called, is a class, or would have to be awaited.
    """
    if isinstance(observer, type):
        raise refusal(name, wanted, observer)
    check_function(name, observer, wanted)
    check_plain_function(name, observer, "give AsyncObserver(function)")


def registered(providers: Iterable[Provider]) -> Registry:
    """Returns *providers* by name.

    :raises ValueError: there is none, or two have one name.
    :raises TypeError: one is no Provider.
    """
    if isinstance(providers, list | tuple) and not providers:
        names = ", ".join(variables())
        raise ValueError(f"providers: give at least one. from_env() finds one if any of these is set: {names}.")
    return Registry(providers)


def host_files(source: FileSource | None) -> HostFiles | None:
    """What reads the host's files; None where it has none."""
    if source is None:
        return None
    from .emulation.files import HostFiles

    return HostFiles(source)


def guarding(guards: Iterable[Guard], observers: Observers, tasks: Tasks) -> Guarding | None:
    """What runs the host's *guards*; None where there are none.

    :raises TypeError: something else than a guard is among them.
    :raises ValueError: two have one name.
    """
    guards = listed("guards", guards, "a list of Guards")
    if not guards:
        return None
    from .guards import Guard
    from .guards.enforcement import Enforcement

    for guard in guards:
        check_instance("guards", guard, Guard, "a list of Guards")
    if len({guard.name for guard in guards}) < len(guards):
        raise ValueError("guards: give each a name of its own.")
    return Enforcement(guards, observers, tasks)


def caching(cache: ResponseCache | None, records: Records, shares: Shares, tasks: Tasks) -> Cache | None:
    """The cache at work; None where there is none.

    :raises TypeError: *cache* is something else.
    :raises ValueError: there is no store to keep answers in.
    """
    if cache is None:
        return None
    from .cache import ResponseCache as Known
    from .cache.lookup import Cache

    check_instance("cache", cache, Known, "gomodel_asgi.cache.ResponseCache(...)")
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

    check_instance("quotas", quotas, Known, "gomodel_asgi.quotas.Quotas(...)")
    return Enforcement(
        quotas, store, records, total=total, observers=observers, providers=providers, quotas_of=quotas_of
    )
