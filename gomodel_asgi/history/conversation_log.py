"""What was said in the conversations that are kept here.

One record holds a conversation whole, and every change is a compare-and-swap on it, so that two workers that append at
once both succeed. Where the store cannot swap, the last writer wins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from ..errors import InvalidRequest, StoreUnavailable
from ..wire.json_scan import parsed
from .quota import Quotas
from .records import CONVERSATIONS as NAME, Records, unknown_conversation
from .tenancy import Codec
from .turns import Line, Turn, items_of

Json = dict[str, Any]

# Tries to change a conversation that others change at the same time.
ATTEMPTS = 32


class Entry(msgspec.Struct, frozen=True):
    """One item as JSON, and which account at which type of provider has said or taken it: there it can be told again as
    it is. "" where no response had to do with it."""

    item: bytes
    account: str = ""
    type: str = ""


class Conversation(msgspec.Struct, frozen=True):
    """Its items are in order; *created_at* is Unix time in seconds."""

    created_at: int
    metadata: Json
    entries: tuple[Entry, ...] = ()


CODEC = Codec(Conversation)


Change = Callable[[Conversation], Conversation]


def too_large() -> InvalidRequest:
    return InvalidRequest("The conversation is larger than what may be stored.", code="quota_exceeded")


def added(conversation: Conversation, entries: list[Entry]) -> Conversation:
    return msgspec.structs.replace(conversation, entries=(*conversation.entries, *entries))


class ConversationLog:
    """Keeps conversations in *records*, each tenant's apart, within the tenant's share of *quotas*."""

    def __init__(self, records: Records, quotas: Quotas) -> None:
        self.records = records
        self.quotas = quotas

    async def lines(self, tenant: str | None, id: str) -> list[Line] | None:
        """What was said in the conversation; None where it is not held here."""
        found = CODEC.decode(await self.records.store.get(NAME, await self.records.tenancy.key(tenant, id)))
        if found is None:
            return None
        return [Line([parsed(entry.item)], entry.account, entry.type) for entry in found.entries]

    async def append_turn(self, tenant: str | None, id: str, turn: Turn, response_id: str) -> bool:
        """Add what a response was given and what it answered, where the conversation is held here. False where the
        tenant's quota does not bear it."""
        items = [*items_of(turn.input, response_id), *items_of(turn.output, "")]
        said = [Entry(msgspec.json.encode(item), turn.account, turn.type) for item in items]
        with suppress(InvalidRequest):  # another upstream keeps it, or it has been deleted meanwhile
            return await self.change(tenant, id, lambda old: added(old, said)) is not None
        return True

    async def change(self, tenant: str | None, id: str, change: Change) -> Conversation | None:
        """Change the conversation, whoever else changes it: it, as it is then; None where the quota is too small."""
        store, key = self.records.store, await self.records.tenancy.key(tenant, id)
        for _ in range(ATTEMPTS):
            record = await store.get(NAME, key)
            old = CODEC.decode(record)
            if record is None or old is None:
                raise unknown_conversation()
            new = change(old)
            value = CODEC.encode(new)
            if len(value) > len(record.value) and not await self.quotas.admit_size(tenant, id, len(value)):
                return None
            if not store.atomic:
                await store.put(NAME, key, value)
                return new
            if await store.swap(NAME, key, record.version, value) is not None:
                return new
        raise StoreUnavailable("The conversation is being changed by others at this moment; try again.")
