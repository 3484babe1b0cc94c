"""What a request names of earlier ones, found in the store: first what its policy may see, then what its items say.

    recall   before the policy: the response or conversation of the path, `previous_response_id`, `conversation`
    admit    after it, and before an upstream sees anything: the elements of `input` and `items`, and the rest

Where a request may name something is said in the table of operations, and only there. Nothing is passed over because
it cannot be read: what cannot be examined is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from urllib.parse import unquote_plus

from msgspec import structs

from ..exchange.job import Job, provider_of
from ..operations import ROWS, Row
from ..routing.request import Target
from ..stores.shared import available
from ..threads import paced
from ..wire.ambiguity import OBJECT, first, member_of, text_in
from .continuation import PATH, Continuation, Named, Referred
from .mentions import Mentions, brings, has_mark, lists_of, mentions_of
from .ownership import HERE
from .records import Records, unknown_item
from .references import response_of
from .turns import items_of

Json = dict[str, Any]
NOTHING = Mentions()


class Lookups:
    """Finds what requests name, in *records*. *expand* gives a tenant's items that stand for others as those."""

    def __init__(self, records: Records, expand: Callable[[str | None, Json], list[Json]]) -> None:
        self.records = records
        self.expand = expand
        self.has_tenants = False
        """Whether any caller may have a tenant, as far as is known here."""

    # Before the policy...

    def names(self, job: Job) -> bool:
        """Whether the request names what the policy may see; asked for every request, so in order of cost."""
        if not self.records.keeps:
            return False
        row, envelope = ROWS[job.request.operation], job.request.envelope
        if row.path_names is not None:
            return True
        return envelope.names_state and row.body is not None and any(map(envelope.has, row.body.members))

    async def recall(self, job: Job) -> None:
        """Find it, and let the policy see it as `request.previous`.

        :raises InvalidRequest: a member that names something can be read in two ways.
        :raises StoreUnavailable: the store does not answer.
        """
        request, continuation = job.request, self._continuation(job)
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
        """Find what else the request mentions, for *target* to be asked.

        :raises InvalidRequest: it cannot be examined, can be read in two ways, or is not this caller's.
        :raises StoreUnavailable: the store does not answer.
        :raises LookupError: *target* names an unknown provider.
        """
        request, row = job.request, ROWS[job.request.operation]
        mentions = NOTHING
        self.has_tenants = self.has_tenants or request.tenant is not None
        if row.body is not None and brings(row.body, request.envelope.members):
            envelope, strict, tenants = request.envelope, request.tenant is not None, self.has_tenants
            lists = await paced(lists_of(row.body, envelope.members))
            if self.records.keeps:
                looking = mentions_of(row.body, envelope.members, envelope.raw, lists, strict=strict, tenants=tenants)
                mentions = await paced(looking)
            if has_mark(lists):
                self._of(job).compacted = True
        items = items_named(row, request.item_id, job.query) if self.records.keeps else []
        if mentions or items or (isinstance(job.continuation, Continuation) and job.continuation.trusted):
            continuation = self._of(job)
            upstreams = self._upstreams(job, target)
            await available(partial(self._find, job, continuation, mentions, items, upstreams))

    def _upstreams(self, job: Job, target: Target) -> set[str]:
        """Where *target* and its fallbacks lead, those that could look an id up."""
        providers = [provider_of(one, job) for one in target.chain()]
        return {self.records.accounts.upstream(provider) for provider in providers if provider.keeps_state}

    def _of(self, job: Job) -> Continuation:
        """What is known of the request's past, from here on."""
        if not isinstance(job.continuation, Continuation):
            job.continuation = self._continuation(job)
        return job.continuation

    def continuation_of(self, job: Job) -> Continuation:
        """What is known of the request's past."""
        return job.continuation if isinstance(job.continuation, Continuation) else self._continuation(job)

    def _continuation(self, job: Job) -> Continuation:
        request = job.request
        row, trusted = ROWS[request.operation], request.tenant is None
        expand = partial(self.expand, request.tenant)
        accounts, files = self.records.accounts, job.files is not None
        return Continuation(request.envelope, row, accounts, expand, warn=job.warn, trusted=trusted, files=files)

    # In the store...

    async def _name(
        self, tenant: str | None, continuation: Continuation, named: Iterable[tuple[str, str | None]]
    ) -> None:
        for place, id in named:
            owner = None if id is None else await self.records.owners.find(tenant, id)
            continuation.named.append(Named(place, id, owner))

    async def _find(
        self, job: Job, continuation: Continuation, mentions: Mentions, items: list[str], upstreams: set[str]
    ) -> None:
        tenant = job.request.tenant
        continuation.references = mentions.references
        for one in mentions.references:
            # Without tenants reasoning goes on as it is, whoever issued it.
            if one.id not in continuation.referred and not (continuation.trusted and one.kind == "reasoning"):
                found = await self._referred(tenant, one.id, upstreams)
                if found is not None:
                    continuation.referred[one.id] = found
        await self._name(tenant, continuation, mentions.others)
        if continuation.trusted:
            await self._find_foreign(continuation, [*mentions.below, *items], upstreams)
        elif continuation.owner is not None and not continuation.owner.held:
            await self._check_listed(tenant, job.request.response_id or "", items, upstreams)

    async def _check_listed(self, tenant: str | None, container: str, items: list[str], upstreams: set[str]) -> None:
        """Items that path and query name are the tenant's own like any other: it has seen them in the list, or got
        them as output."""
        for id in items:
            if not await self.records.is_listed(tenant, container, id):
                if await self.records.placed(tenant, id, upstreams) is None:
                    raise unknown_item()

    async def _find_foreign(self, continuation: Continuation, strangers: list[str], upstreams: set[str]) -> None:
        """Find which ids of a caller without a tenant are a tenant's: of *strangers* none may be."""
        ids = {one.id for one in continuation.named if one.owner is None and one.id is not None}
        ids |= {one.id for one in continuation.references if one.id not in continuation.referred} | {*strangers}
        for upstream in upstreams if ids else ():
            continuation.foreign[upstream] = {id for id in ids if await self._is_a_tenants(upstream, id)}
            if not continuation.foreign[upstream].isdisjoint(strangers):
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
        said = [*items_of(turn.input, response_id), *items_of(turn.output, response_id)]
        item = next((item for item in said if item.get("id") == item_id), None)
        return None if item is None else Referred(item, turn.account, turn.type)


def items_named(row: Row, item_id: str | None, query: str) -> list[str]:
    """The ids of items in a path and a *query* of the kind *row*."""
    found = [] if item_id is None else [item_id]
    if query and row.query:
        members = [part.partition("=") for part in re.split("[&;]", query)]
        found += [unquote_plus(value) for name, _, value in members if unquote_plus(name).casefold() in row.query]
    return found
