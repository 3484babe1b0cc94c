"""Everything that is kept of responses, in one place, and everything that goes when a tenant is forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .accounts import Accounts
from .codec import Codec
from .keys import Tenancy
from .memory import MemoryStore
from .ownership import OWNERS, Ownership
from .store import NoStore, Store
from .turns import TURNS, Turns

ITEMS = "items"
CONVERSATIONS = "conversations"


class ItemPlace(msgspec.Struct, frozen=True):
    """Which response an item that an upstream made came with."""

    response: str


PLACES = Codec(ItemPlace)


class Records:
    """The records of one gateway in *store*."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keeps = not isinstance(store, NoStore)
        self.immediate = isinstance(store, MemoryStore)
        """Whether a call ends within the step in which it is made, so that it needs no task of its own."""
        self.tenancy = Tenancy(store)
        self.accounts = Accounts(self.tenancy)
        self.owners = Ownership(store, tenancy=self.tenancy)
        self.turns = Turns(store, self.tenancy)

    async def place(self, tenant: str | None, item_ids: Iterable[str], response_id: str) -> None:
        """Remember that these items came with a response."""
        value = PLACES.encode(ItemPlace(response_id))
        for key in await self.tenancy.keys(tenant, item_ids):
            await self.store.put(ITEMS, key, value)

    async def placed(self, tenant: str | None, item_id: str) -> str | None:
        """The response that an item came with."""
        found = PLACES.decode(await self.store.get(ITEMS, await self.tenancy.key(tenant, item_id)))
        return None if found is None else found.response

    async def delete(self, tenant: str | None, response_id: str) -> bool:
        """Remove a response, or a conversation, and its owner; whether there was one."""
        if response_id.startswith("conv_"):
            await self.store.delete(CONVERSATIONS, await self.tenancy.key(tenant, response_id))
        await self.turns.delete(tenant, response_id)
        return await self.owners.forget(tenant, response_id)


COLLECTIONS = [OWNERS, TURNS, ITEMS, CONVERSATIONS, "events", "leases", "usage"]
