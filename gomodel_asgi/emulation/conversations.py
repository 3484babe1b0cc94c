"""Conversations held here, for upstreams that have none. Any provider can answer in one: it is told what was said.

One record holds a conversation whole, and every change is a compare-and-swap on it, so that two workers that append at
once both succeed. Where the store cannot swap, the last writer wins.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from ..errors import InvalidRequest, StoreUnavailable
from ..exchange.job import Job
from ..exchange.local_reply import told
from ..exchange.reply import Reply
from ..history.claims import HERE, NOT_OWN
from ..history.codec import Codec
from ..history.continuation import Past, encoded
from ..history.not_found import unknown_conversation, unknown_item
from ..history.ownership import Owner
from ..history.quota import Quotas
from ..history.records import CONVERSATIONS as NAME, Records
from ..history.turns import Line, Turn, identified, items_of
from ..providers.provider import Provider
from ..routing.request import Target
from ..state.available import available
from ..state.paging import listed, page
from ..tree import parsed, short
from ..upstream.chain import Exchange

Json = dict[str, Any]

# Tries to change a conversation that others change at the same time.
ATTEMPTS = 32

# Items that one request may add (API reference, "Create items").
MOST_ADDED = 20

# Pairs that `metadata` may have (API reference).
MOST_METADATA = 16


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


class Conversations:
    """Keeps conversations in *records*, each tenant's apart."""

    def __init__(self, records: Records, quotas: Quotas) -> None:
        self.records = records
        self.quotas = quotas

    # Of responses...

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
            return await self._change(tenant, id, lambda old: added(old, said)) is not None
        return True

    # Operations...

    async def answer(self, job: Job, target: Target, provider: Provider, past: Past | None) -> Reply:
        """The reply to an operation on conversations: from here where it is held here, else from its owner.

        :raises InvalidRequest: it is unknown, or asked for what cannot be.
        """
        request, operation = job.request, job.request.operation
        if operation == "conversation_create":
            if provider.keeps_state:
                return await self._forwarded(job, target)
            return await available(partial(self._created, job, target, provider))
        owner = None if past is None else past.owner
        if owner is not None and owner.held:
            assert request.response_id is not None
            return told(await available(partial(self._asked, job, request.response_id)), owner.provider, None)
        if owner is None and (request.tenant is not None or not provider.keeps_state):
            raise unknown_conversation()
        reply = await Exchange(job, target).run()
        if operation == "conversation_delete" and request.response_id is not None:
            await available(partial(self.records.owners.forget, request.tenant, request.response_id))
        return reply

    async def _forwarded(self, job: Job, target: Target) -> Reply:
        """Created upstream: from now on that is its owner."""
        reply = await Exchange(job, target).run()
        found = short(reply.body or b"{}")
        candidate = reply.candidate
        if isinstance(found, dict) and isinstance(found.get("id"), str) and candidate is not None:
            provider = candidate.provider
            account = self.records.accounts.of(provider, candidate.key)
            upstream = self.records.accounts.upstream(provider)
            owner = Owner(provider.name, None, account, time.time(), type=provider.type, upstream=upstream)
            if not await available(partial(self.records.owners.remember, job.request.tenant, found["id"], owner)):
                job.warn([NOT_OWN])
        return reply

    async def _created(self, job: Job, target: Target, provider: Provider) -> Reply:
        tenant, body = job.request.tenant, job.request.body
        id = "conv_" + secrets.token_hex(24)
        entries = tuple(Entry(encoded([item])[1:-1]) for item in given_items(brought(job)))
        conversation = Conversation(int(time.time()), given_metadata(body), entries)
        key, value = await self.records.tenancy.key(tenant, id), CODEC.encode(conversation)
        if not await self.quotas.admit_size(tenant, id, len(value)):
            raise too_large()
        await self.records.store.put(NAME, key, value)
        account = self.records.accounts.of(provider, None)
        owner = Owner(provider.name, None, account, time.time(), type=provider.type, held=True, upstream=HERE)
        await self.records.owners.remember(tenant, id, owner)
        return told(shown(id, conversation), provider.name, None)

    async def _asked(self, job: Job, id: str) -> Json:
        tenant, body = job.request.tenant, job.request.body
        match job.request.operation:
            case "conversation_delete":
                await self.records.store.delete(NAME, await self.records.tenancy.key(tenant, id))
                await self.records.owners.forget(tenant, id)
                await self.quotas.release(tenant, id)
                return {"id": id, "object": "conversation.deleted", "deleted": True}
            case "conversation_update":
                metadata = given_metadata(demanded(body, "metadata"))
                return shown(id, await self._changed(tenant, id, lambda old: with_metadata(old, metadata)))
            case "conversation_items_create":
                demanded(body, "items")
                items = given_items(brought(job))
                new = [Entry(encoded([item])[1:-1]) for item in items]
                await self._changed(tenant, id, lambda old: added(old, new))
                return listed(items)
            case "conversation_item_delete":
                item_id = job.request.item_id or ""
                return shown(id, await self._changed(tenant, id, lambda old: without(old, item_id)))
        return self._shown(job, id, await self._found(tenant, id))

    def _shown(self, job: Job, id: str, conversation: Conversation) -> Json:
        if job.request.operation == "conversation_retrieve":
            return shown(id, conversation)
        items = [parsed(entry.item) for entry in conversation.entries]
        if job.request.operation == "conversation_items":
            return page(items, job.query)
        for item in items:
            if item["id"] == job.request.item_id:
                return item  # type: ignore[no-any-return]
        raise unknown_item()

    # One record...

    async def _found(self, tenant: str | None, id: str) -> Conversation:
        found = CODEC.decode(await self.records.store.get(NAME, await self.records.tenancy.key(tenant, id)))
        if found is None:
            raise unknown_conversation()
        return found

    async def _changed(self, tenant: str | None, id: str, change: Change) -> Conversation:
        """Change the conversation, as a request asks.

        :raises InvalidRequest: it is unknown, or would be larger than the tenant's quota.
        """
        new = await self._change(tenant, id, change)
        if new is None:
            raise too_large()
        return new

    async def _change(self, tenant: str | None, id: str, change: Change) -> Conversation | None:
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


def too_large() -> InvalidRequest:
    return InvalidRequest("The conversation is larger than what may be stored.", code="quota_exceeded")


def added(conversation: Conversation, entries: list[Entry]) -> Conversation:
    return msgspec.structs.replace(conversation, entries=(*conversation.entries, *entries))


def with_metadata(conversation: Conversation, metadata: Json) -> Conversation:
    return msgspec.structs.replace(conversation, metadata=metadata)


def without(conversation: Conversation, item_id: str) -> Conversation:
    """*conversation* without one item.

    :raises InvalidRequest: it has no such item.
    """
    kept = tuple(entry for entry in conversation.entries if parsed(entry.item)["id"] != item_id)
    if len(kept) == len(conversation.entries):
        raise unknown_item()
    return msgspec.structs.replace(conversation, entries=kept)


def shown(id: str, conversation: Conversation) -> Json:
    """The conversation object."""
    about = {"created_at": conversation.created_at, "metadata": conversation.metadata}
    return {"id": id, "object": "conversation", **about}


def demanded(body: Any, name: str) -> Any:
    """*body*, which has the member *name*.

    :raises InvalidRequest: it has not.
    """
    if name not in body:
        raise InvalidRequest(f"Give '{name}'.", param=name, code="missing_required_parameter")
    return body


def given_metadata(body: Any) -> Json:
    """The body's `metadata`: strings by name.

    :raises InvalidRequest: it is something else.
    """
    metadata = body.get("metadata") or {}
    strings = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    if not strings or len(metadata) > MOST_METADATA:
        raise InvalidRequest("'metadata' must be an object of strings.", param="metadata", code="invalid_type")
    return dict(metadata)


def brought(job: Job) -> Any:
    """The body's `items`, with what they refer to put in.

    :raises InvalidRequest: nothing is known here of what one of them refers to.
    """
    return job.past.given_items() if isinstance(job.past, Past) else job.request.body.get("items")


def given_items(items: Any) -> list[Json]:
    """The items that a body brings, each with an id.

    :raises InvalidRequest: they are no items, or too many.
    """
    items = [] if items is None else items
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or len(items) > MOST_ADDED:
        raise InvalidRequest(f"'items' must be at most {MOST_ADDED} items.", param="items", code="invalid_type")
    return [identified(item, secrets.token_hex(24)) for item in items]
