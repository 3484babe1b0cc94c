"""Leases: who works on a response says so again and again; who has stopped saying so is gone."""

from __future__ import annotations

import time

from ..history.records import Records

LEASES = "leases"

# Seconds that a lease lasts. Renewed after a third of them, so that two renewals may fail.
LASTS = 30.0

# Seconds that a response may wait for a worker of the host's task queue.
WAITS = 24 * 3600.0

# Seconds between two looks at whether somebody else has ended the response.
LOOKS = 0.5


class Leases:
    """Leases on responses, each tenant's apart; one *lasts* so many seconds, and is renewed after a third of them."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.lasts = LASTS
        # By tenant and id, since the key changes when the tenant is forgotten.
        self._renewed: dict[tuple[str | None, str], tuple[float, float]] = {}

    async def take(self, tenant: str | None, id: str, *, waiting: bool = False) -> None:
        """Hold the lease from now on; *waiting*: until a worker takes it."""
        key = await self.records.tenancy.key(tenant, id)
        await self.records.store.put(LEASES, key, b"1", ttl=WAITS if waiting else self.lasts)
        if not waiting:
            self._renewed[tenant, id] = (time.monotonic(), time.monotonic())

    async def renew(self, tenant: str | None, id: str) -> bool:
        """Renew the lease if it is time to; whether it is time to look around, too."""
        now = time.monotonic()
        renewed, looked = self._renewed.get((tenant, id), (0.0, 0.0))
        if now - renewed >= self.lasts / 3:
            key = await self.records.tenancy.key(tenant, id)
            await self.records.store.put(LEASES, key, b"1", ttl=self.lasts)
            renewed = now
        looks = now - looked >= LOOKS
        self._renewed[tenant, id] = (renewed, now if looks else looked)
        return looks

    async def is_held(self, tenant: str | None, id: str) -> bool:
        """Whether somebody works on the response, or is expected to."""
        key = await self.records.tenancy.key(tenant, id)
        return await self.records.store.get(LEASES, key) is not None

    async def give_back(self, tenant: str | None, id: str) -> None:
        """Hold it no longer."""
        self.leave(tenant, id)
        await self.records.store.delete(LEASES, await self.records.tenancy.key(tenant, id))

    def leave(self, tenant: str | None, id: str) -> None:
        """Leave it to whoever else holds it."""
        self._renewed.pop((tenant, id), None)
