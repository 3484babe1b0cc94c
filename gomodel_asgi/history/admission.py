"""Finds what a request names and brings in the store, and holds it against the caller's tenant.

    recall   the response or conversation of the path, `previous_response_id`, `conversation`: the policy may see them
    admit    every element of `input` and `items`, and every other id, once the policy has let the caller in

Where a request may name something stands in the table of operations, and only there. What cannot be examined is
refused, never passed over. `Continuation` judges what was found, for each upstream in turn.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import unquote_plus

from msgspec import structs

from ..errors import InvalidRequest
from ..exchange.job import Job, provider_of
from ..operations import ROWS, Row
from ..routing.target import Target
from ..stores.shared import available
from ..threads import paced
from ..wire.ambiguity import OBJECT, brings, first, member_of, text_in
from .compaction_item import is_ours, items_in
from .continuation import PATH, Continuation, Named
from .mentions import MOST_REFERENCES, Mentions, Referred, lists_of, marked, mentions_of
from .ownership import HERE
from .records import Records, unknown_item
from .references import response_of
from .turns import items_of

Json = dict[str, Any]
NOTHING = Mentions()

# Compaction items of a history that are tried, the latest first: what an older one stands for is in the next one too.
MOST_TRIED = 10

Open = Callable[[str | None, str], Awaitable[bytes | None]]
"""What gives the text that the content of a tenant's compaction item stands for, None where it does not open."""


def continuation_of(job: Job, records: Records) -> Continuation:
    """Returns what is known of the request's past."""
    return job.continuation if isinstance(job.continuation, Continuation) else _continuation(job, records)


def _continuation(job: Job, records: Records) -> Continuation:
    request = job.request
    row, trusted, files = ROWS[request.operation], request.tenant is None, job.files is not None
    return Continuation(request.envelope, row, records.accounts, warn=job.warn, trusted=trusted, files=files)


class Admission:
    """Finds what requests name, in *records*. *open* opens compaction items."""

    def __init__(self, records: Records, open: Open) -> None:
        self.records = records
        self.open = open
        self.has_tenants = False
        """Whether any caller may have a tenant, as far as is known here."""

    # Before the policy...

    def names(self, job: Job) -> bool:
        """Returns whether the request names what the policy may see. Runs for every request, so in order of cost."""
        if not self.records.keeps:
            return False
        row, envelope = ROWS[job.request.operation], job.request.envelope
        if row.path_names is not None:
            return True
        return envelope.names_state and row.body is not None and any(map(envelope.has, row.body.members))

    async def recall(self, job: Job) -> None:
        """Finds what the request names, and shows it to the policy as `request.previous`.

        :raises InvalidRequest: a member that names something can be read in two ways.
        :raises StoreUnavailable: the store does not answer.
        """
        request, continuation = job.request, _continuation(job, self.records)
        envelope, row = request.envelope, continuation.row
        named = [(PATH, request.response_id)] if row.path_names is not None else []
        for member in row.body.members if row.body is not None else ():
            if envelope.has(member):
                raw = envelope.members[member]
                named.append((member, text_in(member_of(raw, member, "id") if first(raw) == OBJECT else raw)))
        await available(partial(self._name, request.tenant, continuation, named))
        job.continuation = continuation
        job.request = structs.replace(request, previous=continuation.owner)

    # After it...

    async def admit(self, job: Job, target: Target) -> None:
        """Finds what else the request mentions, before *target* sees it.

        :raises InvalidRequest: it cannot be examined, can be read in two ways, or is not this caller's.
        :raises StoreUnavailable: the store does not answer.
        :raises LookupError: *target* names an unknown provider.
        """
        request, row = job.request, ROWS[job.request.operation]
        mentions = NOTHING
        self.has_tenants = self.has_tenants or request.tenant is not None
        if row.body is not None and brings(row.body, request.envelope.members):
            envelope, strict, tenants = request.envelope, request.tenant is not None, self.has_tenants
            lists = await paced(lists_of(row.body, envelope.members, envelope.commas))
            if self.records.keeps:
                looking = mentions_of(row.body, envelope.members, envelope.raw, lists, strict=strict, tenants=tenants)
                mentions = await paced(looking)
            contents = marked(lists)
            if contents:
                job.continuation = continuation = continuation_of(job, self.records)
                await available(partial(self._open_own, job, continuation, contents))
        items = items_named(row, request.item_id, job.query) if self.records.keeps else []
        if mentions or items or (isinstance(job.continuation, Continuation) and job.continuation.referrals.trusted):
            job.continuation = continuation = continuation_of(job, self.records)
            upstreams = self._upstreams(job, target)
            await available(partial(self._find, job, continuation, mentions, items, upstreams))

    def _upstreams(self, job: Job, target: Target) -> set[str]:
        """Where *target* and its fallbacks lead, those that could look an id up."""
        providers = [provider_of(one, job) for one in target.chain()]
        return {self.records.accounts.upstream(provider) for provider in providers if provider.keeps_state}

    # Compaction items...

    async def open_last(self, tenant: str | None, continuation: Continuation) -> None:
        """Opens the last compaction item of the conversation so far that opens.

        :raises StoreUnavailable: the store does not answer.
        """
        items = (item for line in reversed(continuation.lines or ()) for item in reversed(line.items))
        for item in islice(filter(is_ours, items), MOST_TRIED):
            text = await self._opened(tenant, continuation, item["encrypted_content"])
            if text is not None:
                return

    async def _open_own(self, job: Job, continuation: Continuation, contents: list[str]) -> None:
        """Opens those that the request brings or refers to: one that is kept is small, and may stand for much.

        :raises InvalidRequest: they are too many, or stand for too much (413).
        """
        continuation.compacted = True
        if len(contents) > MOST_REFERENCES:
            raise InvalidRequest(f"'input' holds more than {MOST_REFERENCES} compaction items.", param="input")
        limit, sizes = job.setup.limits.body, dict[str, int]()
        for content in contents:
            if content not in sizes:
                text = await self._opened(job.request.tenant, continuation, content)
                sizes[content] = 0 if text is None else len(text)
        if sum(sizes[content] for content in contents) > limit:
            message = f"The compaction items of 'input' stand for more than {limit} bytes."
            raise InvalidRequest(message, status=413, code="request_too_large", param="input")

    async def _opened(self, tenant: str | None, continuation: Continuation, content: str) -> bytes | None:
        text = await self.open(tenant, content)
        items = None if text is None else items_in(text)
        continuation.opened[content] = items
        return None if items is None else text

    # In the store...

    async def _name(
        self, tenant: str | None, continuation: Continuation, named: Iterable[tuple[str, str | None]]
    ) -> None:
        """Looks up whose the ids are that stand in these places.

        :raises StoreUnavailable: the store does not answer.
        """
        for place, id in named:
            owner = None if id is None else await self.records.owners.find(tenant, id)
            continuation.named.append(Named(place, id, owner))

    async def _find(
        self, job: Job, continuation: Continuation, mentions: Mentions, items: list[str], upstreams: set[str]
    ) -> None:
        tenant, referrals = job.request.tenant, continuation.referrals
        referrals.references = mentions.references
        for one in mentions.references:
            # Without tenants reasoning goes on as it is, whoever issued it.
            if one.id not in referrals.known and not (referrals.trusted and one.kind == "reasoning"):
                found = await self._referred(tenant, one.id, upstreams)
                if found is not None:
                    referrals.known[one.id] = found
        items_referred = [found.item for found in referrals.known.values() if found.item is not None]
        contents = [item["encrypted_content"] for item in items_referred if is_ours(item)]
        if contents:
            await self._open_own(job, continuation, contents)
        await self._name(tenant, continuation, mentions.others)
        if referrals.trusted:
            await self._find_foreign(continuation, [*mentions.below, *items], upstreams)
        elif continuation.owner is not None and not continuation.owner.held:
            await self._check_listed(tenant, job.request.response_id or "", items, upstreams)

    async def _check_listed(self, tenant: str | None, container: str, items: list[str], upstreams: set[str]) -> None:
        """Checks that the tenant has seen the items that path and query name in a list, or got them as output.

        :raises InvalidRequest: one is not (404).
        """
        for id in items:
            if not await self.records.is_listed(tenant, container, id):
                if await self.records.placed(tenant, id, upstreams) is None:
                    raise unknown_item()

    async def _find_foreign(self, continuation: Continuation, strangers: list[str], upstreams: set[str]) -> None:
        """Finds which ids of a caller without a tenant are a tenant's: of *strangers* none may be.

        :raises InvalidRequest: one of *strangers* is (404).
        """
        referrals = continuation.referrals
        ids = {one.id for one in continuation.named if one.owner is None and one.id is not None}
        ids |= {one.id for one in referrals.references if one.id not in referrals.known} | {*strangers}
        for upstream in upstreams if ids else ():
            referrals.foreign[upstream] = {id for id in ids if await self._is_a_tenants(upstream, id)}
            if not referrals.foreign[upstream].isdisjoint(strangers):
                raise unknown_item()

    async def _is_a_tenants(self, upstream: str, id: str) -> bool:
        claims, ours = self.records.claims, response_of(id) or id
        return await claims.is_anothers(None, upstream, id) or await claims.is_anothers(None, HERE, ours)

    async def _referred(self, tenant: str | None, item_id: str, upstreams: set[str]) -> Referred | None:
        response_id = response_of(item_id)
        if response_id is None:
            place = await self.records.placed(tenant, item_id, upstreams)
            if place is None or place.account:
                return None if place is None else Referred(None, place.account, place.type)
            response_id = place.response
        turn = await self.records.turns.find(tenant, response_id)
        if turn is None:
            owner = await self.records.owners.find(tenant, response_id)
            return None if owner is None else Referred(None, owner.credential, owner.type or owner.provider)
        both = [*items_of(turn.input, response_id), *items_of(turn.output, response_id)]
        item = next((item for item in both if item.get("id") == item_id), None)
        # What is kept here lies nowhere else, also where the upstream that made it keeps responses.
        return None if item is None else Referred(item, "" if turn.response else turn.account, turn.type)


def items_named(row: Row, item_id: str | None, query: str) -> list[str]:
    """The ids of items in a path and a *query* of the kind *row*."""
    found = [] if item_id is None else [item_id]
    if query and row.query:
        members = [part.partition("=") for part in re.split("[&;]", query)]
        found += [unquote_plus(value) for name, _, value in members if unquote_plus(name).casefold() in row.query]
    return found
