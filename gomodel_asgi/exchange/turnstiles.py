"""The concurrency limits of one gateway: one turnstile for each provider and each tenant that has a limit."""

from __future__ import annotations

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
        self.of_loop: RunVar[dict[tuple[str, str], Turnstile]] = RunVar(f"gomodel_asgi_turnstiles_{id(self)}")

    async def enter_tenant(self, tenant: str | None, timeout: float) -> Held:
        """Take the tenant's place.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = self.limits.tenant_concurrency
        if limit is None or tenant is None:
            return ()
        return await self._enter("account", tenant, limit, timeout)

    async def enter_provider(self, provider: Provider, timeout: float) -> Held:
        """Take a place at the provider.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = provider.max_concurrency or self.limits.provider_concurrency
        if limit is None:
            return ()
        return await self._enter("provider", f"{provider.name} {provider.base_url}", limit, timeout)

    async def _enter(self, what: str, name: str, limit: int, timeout: float) -> Held:
        try:
            known = self.of_loop.get()
        except LookupError:
            known = {}
            self.of_loop.set(known)
        turnstile = known.get((what, name))
        if turnstile is None:
            turnstile = known[what, name] = Turnstile(limit, what)
        await turnstile.enter(timeout)
        return (turnstile,)

    def leave(self, held: Held) -> None:
        """Give places back; forget turnstiles that nobody is inside of."""
        for turnstile in held:
            turnstile.leave()
            if not turnstile.inside:
                self._forget(turnstile)

    def _forget(self, turnstile: Turnstile) -> None:
        known = self.of_loop.get()
        for key in [key for key, value in known.items() if value is turnstile]:
            del known[key]
