"""Which tenant holds an id at an upstream: the first that was given it, and nobody beside it.

    claims / MAC(secret, upstream, id)  →  a tag of the tenant's

An upstream's word does not make an id somebody's own: some let the client choose it (vLLM takes a response's id from
the `request_id` of the body), and whoever is given another tenant's id as its own could read what lies under it. So an
id is claimed in the same step in which its record is kept, and a record is not kept without the claim. A claim is found
without knowing whose it is, and outlives the forgetting of its tenant, until its time is over.
"""

from __future__ import annotations

from ..seams.store import Store
from .tenancy import TAG_BYTES, Tenancy

CLAIMS = "claims"

HERE = "here"
"""The upstream of what is kept in the store itself."""

NOT_OWN = "an id that the upstream gave is another tenant's, or none at all: it stays unknown"
"""What observers are told."""

# Tries to claim what expires at that moment.
ATTEMPTS = 3

Place = tuple[str, str, bytes]
"""Collection, key and value of a record."""


class Claims:
    """Claims ids in *store*. Every method raises `StoreUnavailable` where the store does."""

    def __init__(self, store: Store, tenancy: Tenancy) -> None:
        self._store = store
        self._tenancy = tenancy
        self._add_with = getattr(store, "add_with", None)
        self._add_for = getattr(store, "add_for", None)

    async def keep(
        self,
        tenant: str | None,
        upstream: str,
        id: str,
        record: Place | None = None,
        *,
        note: str = "",
        ttl: float | None = None,
    ) -> bool:
        """Claim *id* for *tenant*, with a *note* for it to read, then keep *record*: in one step and trip where the
        store can. False, and nothing kept, where another tenant holds the id. Without a tenant nothing is claimed."""
        store, place = self._store, self._tenancy.claim(upstream, id)
        if tenant is None:
            free = await store.get(CLAIMS, place) is None
            return free and (record is None or await self._put(record, ttl))
        tag = self._tenancy.tag(tenant)
        value = tag + note.encode("utf-8", "surrogatepass") if note else tag
        for _ in range(ATTEMPTS):
            if store.atomic:
                if record is not None and self._add_with is not None:
                    if await self._add_with(CLAIMS, place, value, record, ttl=ttl) is not None:
                        return True
                elif await self._add(tenant, place, value, ttl) is not None:
                    return record is None or await self._put(record, ttl)
            held = await store.get(CLAIMS, place)
            if held is not None and held.value[:TAG_BYTES] != tag:
                return False
            if held is not None or not store.atomic:
                await store.put(CLAIMS, place, value, ttl=ttl)  # it has to live as long as the record
                return record is None or await self._put(record, ttl)
        return False

    async def note(self, tenant: str, upstream: str, id: str) -> str | None:
        """The note on a claim of *tenant*'s; None where it has none on *id*."""
        held = await self._store.get(CLAIMS, self._tenancy.claim(upstream, id))
        if held is None or held.value[:TAG_BYTES] != self._tenancy.tag(tenant):
            return None
        return held.value[TAG_BYTES:].decode("utf-8", "replace")

    async def is_anothers(self, tenant: str | None, upstream: str, id: str) -> bool:
        """Whether another tenant than *tenant* holds *id*."""
        held = await self._store.get(CLAIMS, self._tenancy.claim(upstream, id))
        return held is not None and (tenant is None or held.value[:TAG_BYTES] != self._tenancy.tag(tenant))

    async def _add(self, tenant: str, place: str, value: bytes, ttl: float | None) -> int | None:
        """Add a claim; it takes up room of its tenant's, and not of what all others keep."""
        if self._add_for is None:
            return await self._store.add(CLAIMS, place, value, ttl=ttl)
        owner = (await self._tenancy.prefix(tenant)).rstrip(".")
        version: int | None = await self._add_for(owner, CLAIMS, place, value, ttl=ttl)
        return version

    async def _put(self, record: Place, ttl: float | None) -> bool:
        await self._store.put(*record, ttl=ttl)
        return True
