"""Who answered a response id: what `previous_response_id`, retrieve, cancel and delete need to find their way back."""

from __future__ import annotations

import sys

import msgspec

from ..providers.provider import Provider
from ..seams.store import Store
from .tenancy import TAG_BYTES, Codec, Tenancy, valid_id

# Which tenant holds an id at an upstream: the first that was given it, and nobody beside it.
#
#     claims / MAC(secret, upstream, id)  →  a tag of the tenant's
#
# An upstream's answer does not make an id somebody's own: some let the client choose it (vLLM takes a response's id
# from the `request_id` of the body), and whoever is given another tenant's id as its own could read what lies under
# it. So an id is claimed in the same step in which its record is kept, and a record is not kept without the claim. A
# claim is found without knowing whose it is, and outlives the forgetting of its tenant, until its time is over.


CLAIMS = "claims"

HERE = "here"
"""The upstream of what is kept in the store itself."""

NOT_OWN = "an id that the upstream gave is another tenant's, or none at all: it stays unknown"
"""A warning for observers."""

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
        self, tenant: str | None, upstream: str, id: str, record: Place | None = None, *, note: str = ""
    ) -> bool:
        """Claims *id* for *tenant*, with a *note* for it to read, then keeps *record*: in one step and trip where the
        store can. False, and nothing kept, where another tenant holds the id. Without a tenant nothing is claimed."""
        store, place, local = self._store, self._tenancy.claim(upstream, id), self._tenancy.local
        if tenant is None:
            free = (await store.get(CLAIMS, place) if local is None else local.find(CLAIMS, place)) is None
            if free and record is not None:
                await store.put(*record)
            return free
        tag = self._tenancy.tag(tenant)
        value = tag + note.encode("utf-8", "surrogatepass") if note else tag
        for _ in range(ATTEMPTS):
            if store.atomic:
                if record is not None and self._add_with is not None:
                    if await self._add_with(CLAIMS, place, value, record) is not None:
                        return True
                elif await self._add(tenant, place, value) is not None:
                    break
            held = await store.get(CLAIMS, place)
            if held is not None and held.value[:TAG_BYTES] != tag:
                return False
            if held is not None or not store.atomic:
                await store.put(CLAIMS, place, value)  # it has to live as long as the record
                break
        else:
            return False
        if record is not None:
            await store.put(*record)
        return True

    async def note(self, tenant: str, upstream: str, id: str) -> str | None:
        """The note on a claim of *tenant*'s; None where it has none on *id*."""
        held = await self._store.get(CLAIMS, self._tenancy.claim(upstream, id))
        if held is None or held.value[:TAG_BYTES] != self._tenancy.tag(tenant):
            return None
        return held.value[TAG_BYTES:].decode("utf-8", "replace")

    async def is_anothers(self, tenant: str | None, upstream: str, id: str) -> bool:
        """Returns whether another tenant than *tenant* holds *id*."""
        held = await self._store.get(CLAIMS, self._tenancy.claim(upstream, id))
        return held is not None and (tenant is None or held.value[:TAG_BYTES] != self._tenancy.tag(tenant))

    async def _add(self, tenant: str, place: str, value: bytes) -> int | None:
        """Adds a claim; it takes up room of its tenant's, and not of what all others keep."""
        if self._add_for is None:
            return await self._store.add(CLAIMS, place, value)
        owner = (await self._tenancy.prefix(tenant)).rstrip(".")
        version: int | None = await self._add_for(owner, CLAIMS, place, value)
        return version


OWNERS = "owners"


class Owner(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The upstream that holds a response, as it was when it answered.

    *provider* is the Provider's name, *model* the upstream's, *credential* a fingerprint
    (`Tenancy.fingerprint`) of the account that the response lies in, never a key, *created_at* seconds of Unix time.
    *type* and *conversation* are the Provider's type and the conversation's id, None where unknown. *held*: the
    response lies in the store and not at the upstream, which keeps none. *upstream* is where its id means
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

    def packed(self) -> bytes:
        """It as a store keeps it that keeps bytes."""
        return CODEC.encode(self)


# Bytes of memory that an owner takes beside its model, whose name may be a client's: all else is the provider's.
SIZE = 200


CODEC = Codec(Owner)


class Ownership:
    """Remembers owners in *store*, each tenant's apart. Every method raises `StoreUnavailable` where the store does."""

    def __init__(self, store: Store, tenancy: Tenancy | None = None) -> None:
        self._store = store
        self._tenancy = tenancy or Tenancy(store)
        self._evicts: bool = getattr(store, "evicts", False)
        self.claims = Claims(store, self._tenancy)

    async def remember(self, tenant: str | None, response_id: str, owner: Owner) -> bool:
        """Keeps *owner*, in place of an earlier one. False, and nothing kept, for an id that no request could name, and
        for one that another tenant holds at the same upstream."""
        if not valid_id(response_id):
            return False
        key, local = await self._tenancy.key(tenant, response_id), self._tenancy.local
        if local is not None:
            upstream = owner.upstream
            if upstream and not await self.claims.keep(tenant, upstream, response_id):
                return False
            local.keep(OWNERS, key, owner, SIZE + sys.getsizeof(owner.model))
            return True
        record = (OWNERS, key, owner.packed())
        if owner.upstream:
            return await self.claims.keep(tenant, owner.upstream, response_id, record)
        await self._store.put(*record)
        return True

    async def find(self, tenant: str | None, response_id: str) -> Owner | None:
        """The owner of *tenant*'s response; None, by the same steps, for an unknown id and for another tenant's."""
        if not valid_id(response_id):
            return None
        key, local = await self._tenancy.key(tenant, response_id), self._tenancy.local
        owner = None if local is None else local.find(OWNERS, key)
        if not isinstance(owner, Owner):
            owner = CODEC.decode(await self._store.get(OWNERS, key))
        if owner is None or tenant is None or not owner.upstream or not self._evicts:
            return owner
        # The claim is used with its owner, so that it is not dropped first and another tenant claims the id.
        return None if await self.claims.note(tenant, owner.upstream, response_id) is None else owner

    async def forget(self, tenant: str | None, response_id: str) -> bool:
        """Removes the owner; returns whether there was one."""
        if not valid_id(response_id):
            return False
        return await self._store.delete(OWNERS, await self._tenancy.key(tenant, response_id))


# Which account at which upstream something belongs to, as a fingerprint that all workers share.
#
# An id is only ever sent to the account that issued it. Without that, a tenant whose own upstream answers with an id
# of somebody else's could have a policy carry it to the house's account, where it means another tenant's response.


# Accounts whose fingerprints are kept; about 300 bytes each.
REMEMBERED = 4096

# No provider's name.
NOBODY = "*"


class Accounts:
    """Names accounts. The provider's own credential is one account whatever its key is today, since keys rotate; a key
    that a Target brings is an account of its own."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy
        self._known: dict[tuple[str, str, str | None], str] = {}

    def of(self, provider: Provider, key: str | None) -> str:
        """The account at *provider*; *key* is the Target's own, None for the provider's."""
        place = (provider.name, provider.base_url, key)
        found = self._known.get(place)
        if found is None:
            own = ("house",) if key is None else ("key", key)
            found = self._keep(place, provider.name, provider.base_url, *own)
        return found

    def upstream(self, provider: Provider) -> str:
        """Where *provider* is, whatever its name and key: an id is one upstream's."""
        place = (NOBODY, provider.base_url, None)
        found = self._known.get(place)
        return self._keep(place, NOBODY, *map(str, provider.origin), provider.base_path) if found is None else found

    def _keep(self, place: tuple[str, str, str | None], *parts: str) -> str:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = self._known[place] = self._tenancy.fingerprint(*parts)
        return found
