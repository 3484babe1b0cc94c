"""Finds what a request names for its policy to see: the response or conversation of the path, `previous_response_id`,
`conversation`. Where a request may name something is said in the table of operations, and only there."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from msgspec import structs

from ..exchange.job import Job
from ..operations import ROWS
from ..stores.shared import available
from ..wire.ambiguity import OBJECT, first, member_of, text_in
from .continuation import PATH, Continuation, Named
from .records import Records


class Recall:
    """Looks up, in *records*, what requests name."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def names(self, job: Job) -> bool:
        """Returns whether the request names what the policy may see; asked for every request, so in order of cost."""
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
        request, continuation = job.request, self._continuation(job)
        envelope, row = request.envelope, continuation.row
        named = [(PATH, request.response_id)] if row.path_names is not None else []
        for member in row.body.members if row.body is not None else ():
            if envelope.has(member):
                raw = envelope.members[member]
                named.append((member, text_in(member_of(raw, member, "id") if first(raw) == OBJECT else raw)))
        await available(partial(self.name, request.tenant, continuation, named))
        job.continuation = continuation
        job.request = structs.replace(request, previous=continuation.owner)

    def continuation_of(self, job: Job) -> Continuation:
        """What is known of the request's past."""
        return job.continuation if isinstance(job.continuation, Continuation) else self._continuation(job)

    def _continuation(self, job: Job) -> Continuation:
        request = job.request
        row, trusted = ROWS[request.operation], request.tenant is None
        accounts, files = self.records.accounts, job.files is not None
        return Continuation(request.envelope, row, accounts, warn=job.warn, trusted=trusted, files=files)

    async def name(
        self, tenant: str | None, continuation: Continuation, named: Iterable[tuple[str, str | None]]
    ) -> None:
        """Looks up whose the ids are that stand in these places.

        :raises StoreUnavailable: the store does not answer.
        """
        for place, id in named:
            owner = None if id is None else await self.records.owners.find(tenant, id)
            continuation.named.append(Named(place, id, owner))
