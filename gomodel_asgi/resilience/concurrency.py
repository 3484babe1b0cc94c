"""The concurrency limits of one gateway: turnstiles for each provider and each tenant that has a limit.

A tenant has two of the same limit. One counts its requests, from their arrival to their last byte. The other counts
what is at work for it at an upstream, in the background too. Background work waits at the second only, so that requests
which need no upstream (to look at such work, to cancel it) get through meanwhile.
"""

from __future__ import annotations

from collections.abc import Hashable

from anyio.lowlevel import RunVar

from ..admission import Turnstile
from ..providers.provider import Provider
from ..settings import Limits

Held = tuple[Turnstile, ...]


class Turnstiles:
    """Per event loop, since a waiter can only be woken on its own."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # Under a name of its own: earlier releases of anyio tell such variables apart by nothing else.
        self.of_loop: RunVar[dict[Hashable, Turnstile]] = RunVar(f"gomodel_asgi_turnstiles_{id(self)}")

    async def enter_tenant(self, tenant: str | None, timeout: float) -> Held:
        """Take a place for a request of the tenant.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = self.limits.tenant_concurrency
        if limit is None or tenant is None:
            return ()
        turnstile = self._of("account", tenant, limit)
        await turnstile.enter(timeout)
        return (turnstile,)

    async def enter_work(self, tenant: str | None, timeout: float, *, background: bool = False) -> Held:
        """Take a place for work at an upstream. What waits in the *background* and what does not take turns.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = self.limits.tenant_concurrency
        if limit is None or tenant is None:
            return ()
        turnstile = self._of("account", ("work", tenant), limit)
        await turnstile.enter(timeout, background, patient=background)
        return (turnstile,)

    async def enter_provider(
        self, provider: Provider, tenant: str | None, timeout: float, *, background: bool = False
    ) -> Held:
        """Take a place at the provider. Tenants that wait take turns.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = provider.max_concurrency or self.limits.provider_concurrency
        if limit is None:
            return ()
        turnstile = self._of("provider", (provider.name, provider.base_url), limit)
        await turnstile.enter(timeout, (tenant, background), patient=background)
        return (turnstile,)

    def leave(self, held: Held) -> None:
        """Give places back."""
        for turnstile in held:
            turnstile.leave()

    def _of(self, what: str, name: Hashable, limit: int) -> Turnstile:
        """The turnstile of that name; it is forgotten when nobody is inside."""
        try:
            known = self.of_loop.get()
        except LookupError:
            known = {}
            self.of_loop.set(known)
        key = what, name
        turnstile = known.get(key)
        if turnstile is None:
            turnstile = known[key] = Turnstile(limit, what, lambda: known.pop(key, None))
        return turnstile
