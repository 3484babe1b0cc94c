"""The connection's memory as the state that a create runs on: a layer over what the gateway itself keeps.

What this connection remembers is looked for first; everything else is the gateway's. A turn that continues a response
of the connection is a turn of the connection: it is not stored, since nobody else could read what it rests on.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ...errors import GatewayError
from ...exchange.job import Job, State, provider_of
from ...exchange.reply import Reply
from ...history.connection_memory import Chunk, ConnectionContinuation, KeptResponse, Memory, account_of, own_items
from ...history.ownership import NOT_OWN
from ...history.references import response_of
from ...providers.provider import Provider
from ...routing.target import Target
from ...wire.websocket_frames import Create


class ConnectionState:
    """The state of one create: the connection's *memory* over the gateway's own; see `exchange.job.State`.

    *has_store*: the gateway keeps something at all.
    """

    def __init__(self, create: Create, memory: Memory, gateways: State, *, has_store: bool) -> None:
        self.create = create
        self.memory = memory
        self.gateways = gateways
        self.has_store = has_store
        self.earlier: KeptResponse | None = None
        self.own: Job | None = None
        """The create without what the connection itself continues."""
        self.answered: tuple[Job, Target] | None = None

    @property
    def continues(self) -> str | None:
        """The response that the connection continues itself, without the upstream knowing its id."""
        if self.earlier is None or self.earlier.chunks is None:
            return None
        return self.create.envelope.text("previous_response_id")

    def is_plain(self, job: Job) -> bool:
        """Returns whether neither the connection nor the gateway's own state has anything to do with the request."""
        return self.create.generate and self.gateways.is_plain(job)

    def names(self, job: Job) -> bool:
        """Returns whether there is anything to look for, here or in the gateway's own state."""
        return job.request.envelope.names_state or self.gateways.names(job)

    async def recall(self, job: Job) -> None:
        """Looks for what the request continues, on the connection first; see `exchange.job.State`."""
        self.earlier = self.memory.find(job.request.previous_response_id)
        if self.earlier is None:
            return await self._recall(job)
        self.own = own = job_without_previous(job)
        await self._recall(own)
        files = job.files is not None
        job.continuation = ConnectionContinuation(job.request.envelope, self.earlier, own.continuation, job.warn, files)
        job.request = replace(job.request, previous=self.earlier)

    async def _recall(self, job: Job) -> None:
        if self.gateways.names(job):
            await self.gateways.recall(job)

    async def admit(self, job: Job, target: Target) -> None:
        """Checks that what the create itself names is the tenant's own; see `exchange.job.State`."""
        if self.own is not None:
            self.own.guarding = job.guarding  # which guards see a request is found once
        await self.gateways.admit(self.own or job, target)
        if self.own is not None and isinstance(job.continuation, ConnectionContinuation):
            job.continuation.own = self.own.continuation

    async def emulated(self, job: Job, target: Target) -> Reply | None:
        """See `exchange.job.State`."""
        if not self.create.generate and not provider_of(target, job).websocket:
            self.answered = job, target
            return await self.gateways.warmed(job, target)
        return await self.gateways.emulated(job, target) if self.earlier is None else None

    async def adapted(self, job: Job, target: Target) -> tuple[Job, Target]:
        """See `exchange.job.State`; what only warms up has no fallback."""
        if not self.create.generate:
            target = replace(target, fallbacks=())
        return await self.gateways.adapted(job, target) if self.earlier is None else (job, target)

    async def reply_of(self, job: Job, target: Target) -> Reply:
        """See `exchange.job.State`."""
        return await (self.gateways.reply_of if self.create.generate else self.gateways.warmed)(job, target)

    async def warmed(self, job: Job, target: Target) -> Reply:
        """See `exchange.job.State`."""
        return await self.gateways.warmed(job, target)

    async def record(self, job: Job, target: Target, reply: Reply) -> None:
        """See `exchange.job.State`; what goes on from the connection's own memory is the connection's affair."""
        named = (one for one in target.chain() if provider_of(one, job).name == reply.provider)
        self.answered = job, next(named, target)
        if self.earlier is None:
            await self.gateways.record(job, target, reply)

    async def is_anothers(self, job: Job, provider: Provider, id: str) -> bool:
        """See `exchange.job.State`."""
        return await self.gateways.is_anothers(job, provider, id)

    async def remembered(self, tenant: str | None, response_id: str) -> bytes:
        """See `exchange.job.State`; a connection has one tenant."""
        chunk = self.memory.of_tools.get(response_id)
        return await self.gateways.remembered(tenant, response_id) if chunk is None else chunk.remembered

    async def take_approval(self, tenant: str | None, id: str) -> bool:
        """See `exchange.job.State`."""
        chunk = self.memory.of_tools.get(response_of(id) or "")
        if chunk is not None and id in chunk.answered:
            return False
        if not await self.gateways.take_approval(tenant, id):
            return False
        if chunk is not None:
            chunk.answered.add(id)
        return True

    async def remember(self, reply: Reply, response_id: str, output: Iterable[bytes]) -> None:
        """Keeps a response that has ended well, unless the gateway or the upstream does."""
        if self.answered is None:
            return
        job, target = self.answered
        provider = provider_of(target, job)
        if self._kept_elsewhere(target, provider, reply.remembered is not None):
            return
        account = account_of(provider, _key(target))
        chunks: tuple[Chunk, ...] | None = None
        if not provider.websocket or reply.remembered is not None:
            earlier = self.earlier.chunks or () if self.earlier is not None else ()
            type = provider.type or provider.name
            own = Chunk(own_items(job.request.envelope), account, type)
            remembered = b"" if reply.remembered is None else reply.remembered()
            chunks = (*earlier, own, Chunk(b",".join(output), account, type, response_id, remembered))
        elif not await self._is_own(job, provider, response_id):
            return  # its id would go to the upstream
        self.memory.keep(response_id, KeptResponse(provider.name, reply.model, account, chunks))

    async def _is_own(self, job: Job, provider: Provider, response_id: str) -> bool:
        try:
            own = not await self.is_anothers(job, provider, response_id)
        except GatewayError:
            own = False
        if not own:
            job.warn([NOT_OWN])
        return own

    def _kept_elsewhere(self, target: Target, provider: Provider, has_hosted: bool) -> bool:
        """Returns whether the gateway, or the upstream where no tools of the host's have a part in it, keeps it."""
        if self.earlier is not None or not self.create.generate:
            return False
        asked = bytes(self.create.envelope.members.get("store", b"null")) != b"false"
        stores = (target.params or {}).get("store", asked)
        return stores is not False and ((provider.keeps_state and not has_hosted) or self.has_store)


def job_without_previous(job: Job) -> Job:
    """Returns *job* as it would be if it continued nothing that a connection remembers."""
    envelope = job.request.envelope
    members = {name: raw for name, raw in envelope.members.items() if name != "previous_response_id"}
    return replace(job, request=replace(job.request, envelope=envelope.with_members(members)))


def _key(target: Target) -> str | None:
    key = target.api_key
    if key is None or isinstance(key, str):
        return key
    return None if callable(key) else key.get_secret_value()
