"""Operations on what is kept here for upstreams that keep nothing: responses, and conversations, in which any provider
can answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from ..errors import InvalidRequest
from ..exchange.job import Job
from ..exchange.reply import Reply, json_reply, streamed
from ..history.continuation import Continuation
from ..history.conversation_log import Admit, Conversation
from ..history.ownership import HERE, Owner
from ..history.quota import Quotas
from ..history.records import Records, unknown_conversation, unknown_item, unknown_response
from ..history.turns import Turn, encoded, identified, items_of
from ..providers.provider import Provider
from ..stores.shared import available
from ..wire.json_scan import parsed
from ..wire.response import DONE, events_of, frame
from .background import Background

Json = dict[str, Any]

# Pages of items, as the lists of the Responses API have them: `after`, `limit` and `order`.


MOST = 100
USUAL = 20
"""Items of a page at most, and where `limit` is absent (API reference, "List items")."""


def query_parameters(query: str) -> dict[str, str]:
    """Returns the members of a raw query, the last of each."""
    return dict(parse_qsl(query, keep_blank_values=True))


def whole_number(parameters: dict[str, str], name: str, least: int, most: int) -> int | None:
    """Returns the member *name*, None where it is absent.

    :raises InvalidRequest: it is no number from *least* to *most*.
    """
    value = parameters.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 18 and least <= int(value) <= most):
        raise InvalidRequest(f"'{name}' must be a number from {least} to {most}.", param=name, code="invalid_value")
    return int(value)


def page(items: Sequence[Json], query: str) -> Json:
    """Returns the page of *items* (oldest first, each with an `id`) that *query* asks for; by default the 20 latest,
    the latest first.

    :raises InvalidRequest: a member of the query is not usable.
    """
    parameters = query_parameters(query)
    limit = whole_number(parameters, "limit", 1, MOST) or USUAL
    order = parameters.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order", code="invalid_value")
    ordered = list(items) if order == "asc" else list(items)[::-1]
    start = _after(ordered, parameters.get("after"))
    found = ordered[start : start + limit]
    return listed(found, has_more=start + len(found) < len(ordered))


def listed(items: Sequence[Json], *, has_more: bool = False) -> Json:
    """Returns *items* as a list object."""
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return {"object": "list", "data": list(items), **ends, "has_more": has_more}


def _after(ordered: Sequence[Json], after: str | None) -> int:
    """Returns where the page begins: behind the item *after*, or with the first.

    :raises InvalidRequest: the list has no such item.
    """
    if after is None:
        return 0
    # Behind the last of that id: clients choose ids, and a page that begins where it began would be asked for for ever.
    for number in range(len(ordered), 0, -1):
        if ordered[number - 1]["id"] == after:
            return number
    raise InvalidRequest("'after' names no item of this list.", param="after", code="invalid_value")


# Responses...


HIGHEST = 2**53
"""The largest number that each reader of JSON has exactly (RFC 8259, 6)."""


class StoredResponses:
    """Answers retrieve, delete, cancel and input_items from *records*. The policy has let the caller in before."""

    def __init__(self, records: Records) -> None:
        self.records = records

    async def answer(self, job: Job, provider: str, model: str | None, background: Background) -> Reply:
        """Returns the reply to an operation on a response that *provider* once gave.

        :raises InvalidRequest: 404, it is there no longer; 400, it cannot be done with it.
        :raises StoreUnavailable: the store does not answer.
        """
        id, tenant = job.request.response_id, job.request.tenant
        assert id is not None
        turn = await background.settled(tenant, id)
        if turn is None:
            raise unknown_response()
        match job.request.operation:
            case "delete":
                if turn.hold:
                    await background.cancel(tenant, id)  # so that somebody settles what it holds of quotas
                await background.stop(tenant, id)
                await background.log.delete(tenant, id)
                await self.records.delete(tenant, id)
                await background.quotas.release(tenant, id)
                return json_reply({"id": id, "object": "response", "deleted": True}, provider, model)
            case "cancel":
                return _passed(json_reply(await background.cancel(tenant, id), provider, model), turn)
            case "input_items":
                return json_reply(page(await self._inputs(tenant, id, turn), job.query), provider, model)
        return _passed(await self._retrieved(job, id, turn, provider, model, background), turn)

    async def _inputs(self, tenant: str | None, id: str, turn: Turn) -> list[Json]:
        """What the response was given, its history first."""
        lines = await self.records.turns.history(tenant, turn.previous) if turn.previous is not None else []
        if lines is None:
            lines = []  # a part of the history was deleted; what the response itself was given is still known
        return [*(item for line in lines for item in line.items), *items_of(turn.input, id)]

    async def _retrieved(
        self, job: Job, id: str, turn: Turn, provider: str, model: str | None, background: Background
    ) -> Reply:
        parameters, tenant = query_parameters(job.query), job.request.tenant
        if parameters.get("stream") != "true":
            return json_reply(await background.so_far(tenant, id, turn), provider, model)
        after = whole_number(parameters, "starting_after", 0, HIGHEST)
        response: Json = parsed(turn.response)
        if response.get("background"):
            return background.followed(job, id, after, provider, model)
        return streamed(replayed(response, after), provider, model)


def _passed(reply: Reply, turn: Turn) -> Reply:
    """*reply*, which shows *turn* and nothing else."""
    reply.guards = turn.guards
    return reply


def replayed(response: Json, after: int | None) -> bytes:
    """Returns the events of a response that has ended, those behind the sequence number *after*.

    :raises InvalidRequest: it has not ended.
    """
    if response.get("status") in ("queued", "in_progress"):
        raise InvalidRequest("This response has not ended and cannot be streamed.", param="stream")
    first = -1 if after is None else after
    return b"".join(frame(event) for event in events_of(response) if event["sequence_number"] > first) + DONE


# Conversations...


# Items that one request may add (API reference, "Create items").
MOST_ADDED = 20

# Pairs that `metadata` may have (API reference).
MOST_METADATA = 16


class Conversations:
    """Answers what is asked of the conversations in *records*, each tenant's within its share of *quotas*."""

    def __init__(self, records: Records, quotas: Quotas) -> None:
        self.records = records
        self.log = records.conversations
        self.quotas = quotas

    # Operations...

    async def answer(self, job: Job, provider: Provider) -> Reply | None:
        """Returns the reply to an operation on conversations that are held here; None where their owner is to be asked.

        :raises InvalidRequest: it is unknown, or asked for what cannot be.
        """
        request, continuation = job.request, job.continuation
        if request.operation == "conversation_create":
            return None if provider.keeps_state else await available(partial(self._created, job, provider))
        owner = continuation.owner if isinstance(continuation, Continuation) else None
        if owner is not None and owner.held:
            assert request.response_id is not None
            return json_reply(await available(partial(self._result, job, request.response_id)), owner.provider, None)
        if owner is None and (request.tenant is not None or not provider.keeps_state):
            raise unknown_conversation()
        return None

    async def _created(self, job: Job, provider: Provider) -> Reply:
        tenant, body = job.request.tenant, job.request.envelope.body
        id = "conv_" + secrets.token_hex(24)
        items = encoded(given_items(brought(job)))
        conversation = Conversation(int(time.time()), given_metadata(body), 0)
        await self.log.create(tenant, id, conversation, items, self._admit(tenant, id))
        account = self.records.accounts.of(provider, None)
        owner = Owner(provider.name, None, account, time.time(), type=provider.type, held=True, upstream=HERE)
        await self.records.owners.remember(tenant, id, owner)
        return json_reply(shown(id, conversation), provider.name, None)

    async def _result(self, job: Job, id: str) -> Json:
        """Returns the answer to an operation on a conversation that is kept here.

        :raises InvalidRequest: there is no such conversation, or no such item in it.
        """
        tenant, body = job.request.tenant, job.request.envelope.body
        match job.request.operation:
            case "conversation_delete":
                await self.records.delete(tenant, id)
                await self.quotas.release(tenant, id)
                return {"id": id, "object": "conversation.deleted", "deleted": True}
            case "conversation_update":
                metadata = given_metadata(demanded(body, "metadata"))
                return shown(id, await self.log.update(tenant, id, metadata, self._admit(tenant, id)))
            case "conversation_items_create":
                demanded(body, "items")
                items = given_items(brought(job))
                if await self.log.append(tenant, id, encoded(items), self._admit(tenant, id)) is None:
                    raise unknown_conversation()
                return listed(items)
            case "conversation_item_delete":
                try:
                    return shown(id, await self.log.remove_item(tenant, id, job.request.item_id or ""))
                except LookupError:
                    raise unknown_item() from None
            case "conversation_retrieve":
                return shown(id, await self.log.find(tenant, id))
        return await self._items(job, tenant, id)

    async def _items(self, job: Job, tenant: str | None, id: str) -> Json:
        """Returns the page of items, or the one item, that is asked for.

        :raises InvalidRequest: there is no such conversation, or no such item in it.
        """
        lines = await self.log.lines(tenant, id)
        if lines is None:
            raise unknown_conversation()
        items = [item for line in lines for item in line.items]
        if job.request.operation == "conversation_items":
            return page(items, job.query)
        for item in items:
            if item["id"] == job.request.item_id:
                return item
        raise unknown_item()

    def _admit(self, tenant: str | None, id: str) -> Admit:
        return partial(self.quotas.admit_size, tenant, id)


def shown(id: str, conversation: Conversation | None) -> Json:
    """Returns the conversation object.

    :raises InvalidRequest: there is no such conversation.
    """
    if conversation is None:
        raise unknown_conversation()
    about = {"created_at": conversation.created_at, "metadata": conversation.metadata}
    return {"id": id, "object": "conversation", **about}


def demanded(body: Any, name: str) -> Any:
    """Returns *body*, which has the member *name*.

    :raises InvalidRequest: it has not.
    """
    if name not in body:
        raise InvalidRequest(f"Give '{name}'.", param=name, code="missing_required_parameter")
    return body


def given_metadata(body: Any) -> Json:
    """Returns the body's `metadata`: strings by name.

    :raises InvalidRequest: it is something else.
    """
    metadata = body.get("metadata") or {}
    strings = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    if not strings or len(metadata) > MOST_METADATA:
        raise InvalidRequest("'metadata' must be an object of strings.", param="metadata", code="invalid_type")
    return dict(metadata)


def brought(job: Job) -> Any:
    """Returns the body's `items`, with what they refer to put in.

    :raises InvalidRequest: nothing is known here of what one of them refers to.
    """
    if isinstance(job.continuation, Continuation):
        return job.continuation.given_items()
    return job.request.envelope.body.get("items")


def given_items(items: Any) -> list[Json]:
    """Returns the items that a body brings, each with an id.

    :raises InvalidRequest: they are no items, or too many.
    """
    items = [] if items is None else items
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or len(items) > MOST_ADDED:
        raise InvalidRequest(f"'items' must be at most {MOST_ADDED} items.", param="items", code="invalid_type")
    return [identified(item, secrets.token_hex(24)) for item in items]
