"""Everything that is kept of responses, in one place, and everything that goes when a tenant is forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ..errors import InvalidRequest
from ..seams.store import NoStore, Store, is_immediate
from .conversation_log import CONVERSATIONS, ConversationLog
from .ownership import OWNERS, Accounts, Ownership
from .tenancy import Codec, Tenancy
from .turns import TURNS, Turns

ITEMS = "items"
COMPACTIONS = "compactions"
APPROVALS = "approvals"
SETTLEMENTS = "settlements"
"""What was booked for responses that their upstreams work on in the background, until their end is seen."""
CACHED = "cached"
CACHED_ID = "cached_"
"""What the ids of answers in the cache begin with, among a tenant's others."""


class ItemPlace(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which response an item that an upstream made came with; of one that is not stored, "" and instead the *account*
    and *type* of the provider that can make something of the item."""

    response: str
    account: str = ""
    type: str = ""


PLACES = Codec(ItemPlace)
LISTED = b"\x01"


class Records:
    """The records of one gateway in *store*."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keeps = not isinstance(store, NoStore)
        self.immediate = is_immediate(store)
        """Whether a call ends within the step in which it is made, so that it needs no task of its own."""
        self.tenancy = Tenancy(store)
        self.accounts = Accounts(self.tenancy)
        self.owners = Ownership(store, self.tenancy)
        self.claims = self.owners.claims
        self.turns = Turns(store, self.tenancy)
        self.cached = Tenancy(store, b"cache")
        """Where the answers lie that the cache keeps."""
        self.conversations = ConversationLog(store, self.tenancy)

    async def claim_items(self, tenant: str | None, item_ids: Iterable[str], response_id: str, upstream: str) -> bool:
        """Remembers items that came with a response. Returns whether none is another tenant's at *upstream*."""
        claims, mine = self.claims, True
        for id in item_ids:
            mine = await claims.keep(tenant, upstream, id, note=response_id) and mine
        return mine

    async def place(self, tenant: str | None, item_ids: Iterable[str], response_id: str) -> None:
        """Remembers with which response these items came, for a tenant who may have them without their upstream."""
        value = PLACES.encode(ItemPlace(response_id))
        for key in await self.tenancy.keys(tenant, item_ids):
            await self.store.put(ITEMS, key, value)

    async def name_items(self, tenant: str, item_ids: Iterable[str], upstream: str, account: str, type: str) -> bool:
        """Remembers items of a response that is not stored, as `claim_items` does."""
        value, ids, mine = PLACES.encode(ItemPlace("", account, type)), [*item_ids], True
        for id, key in zip(ids, await self.tenancy.keys(tenant, ids), strict=True):
            mine = await self.claims.keep(tenant, upstream, id, (ITEMS, key, value)) and mine
        return mine

    async def list_items(self, tenant: str | None, container: str, item_ids: Iterable[str]) -> None:
        """Remembers that these items were listed as those of a response or conversation."""
        for key in await self.tenancy.keys(tenant, [f"{container}/{id}" for id in item_ids]):
            await self.store.put(ITEMS, key, LISTED)

    async def is_listed(self, tenant: str | None, container: str, item_id: str) -> bool:
        """Returns whether *tenant* has seen the item in a list of that response or conversation."""
        key = await self.tenancy.key(tenant, f"{container}/{item_id}")
        return await self.store.get(ITEMS, key) is not None

    async def placed(self, tenant: str | None, item_id: str, upstreams: Iterable[str]) -> ItemPlace | None:
        """Returns where an item of *tenant*'s came from: from one of *upstreams*, or from any that is known."""
        if tenant is not None:
            for upstream in upstreams:
                response_id = await self.claims.note(tenant, upstream, item_id)
                if response_id:
                    return ItemPlace(response_id)
        return PLACES.decode(await self.store.get(ITEMS, await self.tenancy.key(tenant, item_id)))

    async def take_approval(self, tenant: str | None, id: str) -> bool:
        """Remembers that the client has answered the request *id*. Returns whether it is the first time."""
        key = await self.tenancy.key(tenant, id)
        if self.store.atomic:
            return await self.store.add(APPROVALS, key, b"1") is not None
        if await self.store.get(APPROVALS, key) is not None:
            return False
        await self.store.put(APPROVALS, key, b"1")
        return True

    async def delete(self, tenant: str | None, response_id: str) -> bool:
        """Removes a response, a conversation, what a compaction item stands for, or an answer in the cache, and its
        owner. Returns whether there was one."""
        if response_id.startswith(CACHED_ID):
            return await self.store.delete(CACHED, await self.cached.key(tenant, response_id))
        if response_id.startswith("cmp_"):
            return await self.store.delete(COMPACTIONS, await self.tenancy.key(tenant, response_id))
        if response_id.startswith("conv_"):
            await self.conversations.delete(tenant, response_id)
        await self.turns.delete(tenant, response_id)
        return await self.owners.forget(tenant, response_id)


COLLECTIONS = [OWNERS, TURNS, ITEMS, CONVERSATIONS, COMPACTIONS, SETTLEMENTS, "events", "leases", "usage", APPROVALS]


# The answers to ids that are unknown, expired, deleted, somebody else's, or one too many: one for each kind.


def unknown_response() -> InvalidRequest:
    """Returns the answer to an unknown response that a path names."""
    return InvalidRequest("No such response is known here.", status=404, code="response_not_found", param="response_id")


def unknown_previous(param: str = "previous_response_id") -> InvalidRequest:
    """Returns the answer to an unknown response that a member of the body names."""
    what = "No such response is known here; leave it out."
    if param == "previous_response_id":
        what = "No such previous response is known here; send the whole conversation as 'input'."
    return InvalidRequest(what, code="previous_response_not_found", param=param)


def unknown_conversation() -> InvalidRequest:
    """Returns the answer to an unknown conversation, in a path or in a request."""
    return InvalidRequest(
        "No such conversation is known here.", status=404, code="conversation_not_found", param="conversation"
    )


def unknown_item() -> InvalidRequest:
    """Returns the answer to an unknown item that a path or an `item_reference` names."""
    return InvalidRequest("No such item is known here.", status=404, code="item_not_found", param="item_id")


def unopened() -> InvalidRequest:
    """A compaction item of ours that does not open."""
    return InvalidRequest(
        "A compaction item cannot be opened: it was not made here, was changed, or is kept no longer. Send the "
        "conversation itself in its place, or compact that again.",
        code="invalid_encrypted_content",
        param="input",
    )


def exclusive() -> InvalidRequest:
    """Returns the answer to a request that names what it continues in two ways."""
    return InvalidRequest(
        "Give either 'previous_response_id' or 'conversation'.",
        code="mutually_exclusive_parameters",
        param="conversation",
    )


def unsupported(operation: str) -> InvalidRequest:
    """Returns the answer to what the upstream cannot do, where nothing is stored to do it with."""
    return InvalidRequest(
        f"This provider does not support '{operation}' here.", status=501, code="unsupported_response_operation"
    )
