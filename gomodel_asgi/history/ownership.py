"""Who answered a response id: what `previous_response_id`, retrieve, cancel and delete need to find their way back."""

from __future__ import annotations

import msgspec

from ..seams.store import Store
from .claims import Claims
from .codec import Codec
from .tenancy import Tenancy, valid_id

OWNERS = "owners"


class Owner(msgspec.Struct, frozen=True, omit_defaults=True):
    """The upstream that holds a response, as it was when it answered.

    *provider* is the Provider's name, *model* the one that was asked upstream, *credential* a fingerprint
    (`Tenancy.fingerprint`) of the account that the response lies in, never a key, *created_at* seconds of Unix time.
    *type* and *conversation* are the Provider's type and the conversation's id, None where unknown. *held* says that
    the response lies in the store and not at the upstream, which keeps none. *upstream* is where its id means
    something (`Accounts.upstream`, or `HERE`), "" where that is unknown.
    """

    provider: str
    model: str | None
    credential: str
    created_at: float
    type: str | None = None
    conversation: str | None = None
    held: bool = False
    upstream: str = ""


CODEC = Codec(Owner)


class Ownership:
    """Remembers owners in *store* for *ttl* seconds (None: the store's default), each tenant's apart from the others'.

    Every method raises `StoreUnavailable` where the store does.
    """

    def __init__(self, store: Store, *, tenancy: Tenancy | None = None, ttl: float | None = None) -> None:
        self._store = store
        self._tenancy = tenancy or Tenancy(store)
        self._ttl = ttl
        self._evicts: bool = getattr(store, "evicts", False)
        self.claims = Claims(store, self._tenancy)

    async def remember(self, tenant: str | None, response_id: str, owner: Owner) -> bool:
        """Keep *owner*, in place of an earlier one. False, and nothing kept, for an id that no request could name, and
        for one that another tenant holds at the same upstream."""
        if not valid_id(response_id):
            return False
        record = (OWNERS, await self._tenancy.key(tenant, response_id), CODEC.encode(owner))
        if owner.upstream:
            return await self.claims.keep(tenant, owner.upstream, response_id, record, ttl=self._ttl)
        await self._store.put(*record, ttl=self._ttl)
        return True

    async def find(self, tenant: str | None, response_id: str) -> Owner | None:
        """The owner of *tenant*'s response; None, by the same steps, for an unknown id and for another tenant's."""
        if not valid_id(response_id):
            return None
        owner = CODEC.decode(await self._store.get(OWNERS, await self._tenancy.key(tenant, response_id)))
        if owner is None or tenant is None or not owner.upstream or not self._evicts:
            return owner
        # What is asked for is used, and the claim with it, lest it be dropped first and another tenant claim the id.
        return None if await self.claims.note(tenant, owner.upstream, response_id) is None else owner

    async def forget(self, tenant: str | None, response_id: str) -> bool:
        """Remove the owner; whether there was one."""
        if not valid_id(response_id):
            return False
        return await self._store.delete(OWNERS, await self._tenancy.key(tenant, response_id))
