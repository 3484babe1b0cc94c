"""Stands between routing and exchange: what a request names of earlier ones is found, what it says is kept.

    recall   the records that the request names, before the policy is asked
    answer   the upstream's reply, or one from the store; then `learning` attends to it

Everything that a request names is found under keys that only its tenant has (`keys.py`), so whether an id is unknown or
somebody else's is nowhere known, and cannot be told.
"""

from __future__ import annotations

from functools import partial

from ..envelope import Envelope
from ..errors import InvalidRequest, StoreUnavailable
from ..exchange import Exchange, Job, Reply
from ..exchange.candidate import provider_of
from ..providers.provider import Provider
from ..routing import BY_ID, Target
from . import counting
from .available import available
from .background import Background
from .circuit import guarded
from .compaction import Compactor
from .conversations import Conversations
from .learning import Learner, conversation_of
from .past import Past, Referred
from .quota import Quotas
from .records import COLLECTIONS, Records
from .references import references, response_of
from .store import Store
from .stored import StoredResponses
from .tasks import Tasks
from .turns import items_of
from .unknown import unknown_response, unsupported

CONTINUING = frozenset({"create", "compact", "input_tokens"})

# Seconds that the gateway's own work is given to end when it is closed.
FAREWELL = 5.0

# Items of one request that may be references: each costs a look into the store.
MOST_REFERENCES = 1000


class GatewayState:
    """The state of one gateway in *store*. *tenant_entries* and *tenant_bytes* are the quotas of each tenant."""

    def __init__(self, store: Store, *, tenant_entries: int | None = None, tenant_bytes: int | None = None) -> None:
        self.tasks = Tasks()
        self.records = Records(guarded(store))
        self.quotas = Quotas(self.records, tenant_entries, tenant_bytes)
        self.conversations = Conversations(self.records, self.quotas)
        self.compactor = Compactor(self.records)
        self.learner = Learner(self.records, self.conversations, self.quotas, self.tasks)
        self.stored = StoredResponses(self.records)
        self.background = Background(self.records, self.quotas, self.tasks)

    # Before the policy...

    def names(self, job: Job) -> bool:
        """Whether the request may name anything of earlier ones."""
        operation = job.request.operation
        if operation in CONTINUING:
            # Nothing is stored of a compaction: it opens without a store too.
            return self._names(job) if self.records.keeps else self.compactor.has_mark(job.request.envelope)
        return self.records.keeps and (operation in BY_ID or operation in self.conversations.by_id)

    async def recall(self, job: Job) -> None:
        """Find what the request names, and let the policy see it as `request.previous`.

        :raises StoreUnavailable: the store does not answer.
        """
        request, envelope = job.request, job.request.envelope
        by_id = request.operation not in CONTINUING
        past = Past(
            envelope,
            self.records.accounts,
            warn=job.warn,
            by_id=by_id,
            trusted=request.tenant is None,
            expand=partial(self.compactor.expand, request.tenant) if self.compactor.has_mark(envelope) else None,
        )
        await available(partial(self._find, job, past))
        job.past = past
        request.previous = past.owner

    def _names(self, job: Job) -> bool:
        """Whether anything of an earlier request is named; looked at for every request, so in order of cost."""
        envelope, only = job.request.envelope, job.setup.registry.only
        if envelope.names_state and (envelope.has("previous_response_id") or envelope.has("conversation")):
            return True
        if only is not None and only.native and job.request.tenant is None:
            return (
                False  # of what is asked there, nothing is kept that an item could name (`_elsewhere`: asked elsewhere)
            )
        return self._names_items(envelope)

    def _names_items(self, envelope: Envelope) -> bool:
        return self.compactor.has_mark(envelope) or bool(references(envelope))

    async def _elsewhere(self, job: Job) -> None:
        """Look at the items after all: the policy has built an upstream that the configuration does not know."""
        if self.records.keeps and self._names_items(job.request.envelope):
            await self.recall(job)

    async def _find(self, job: Job, past: Past) -> None:
        request = job.request
        id = request.previous_response_id
        if id is None:
            id = conversation_of(request.envelope.members.get("conversation"))
        if id is not None:
            past.owner = await self.records.owners.find(request.tenant, id)
        if not past.by_id:
            await self._refer(request.tenant, past)

    async def _refer(self, tenant: str | None, past: Past) -> None:
        past.references = references(past.original)
        if len(past.references) > MOST_REFERENCES:
            raise InvalidRequest(f"'input' refers to more than {MOST_REFERENCES} stored items.", param="input")
        for item_id in past.references:
            found = await self._referred(tenant, item_id)
            if found is not None:
                past.referred[item_id] = found

    async def _referred(self, tenant: str | None, item_id: str) -> Referred | None:
        response_id = response_of(item_id) or await self.records.placed(tenant, item_id)
        if response_id is None:
            return None
        turn = await self.records.turns.find(tenant, response_id)
        if turn is None:
            owner = await self.records.owners.find(tenant, response_id)
            return None if owner is None else Referred(None, owner.credential, owner.type or owner.provider)
        said = [*items_of(turn.input, response_id), *items_of(turn.output, response_id)]
        item = next((item for item in said if item.get("id") == item_id), None)
        return None if item is None else Referred(item, turn.account, turn.type)

    # After it...

    async def answer(self, job: Job, target: Target) -> Reply:
        """The reply to *job*, from *target* or from the store.

        :raises GatewayError: there is none.
        :raises LookupError: the policy named an unknown provider.
        """
        operation = job.request.operation
        if job.past is None and operation in CONTINUING and job.setup.registry.only is not None and is_built(target):
            await self._elsewhere(job)
        if operation == "create" and job.past is None and not job.request.envelope.names_state:
            reply = await Exchange(job, target).run()
            if self.records.keeps:
                await self.learner.learn(job, reply)
            return reply
        if operation in BY_ID:
            return await self._by_id(job, target)
        if operation in self.conversations.operations:
            return await self._conversation(job, target)
        return await self._create(job, target)

    async def _create(self, job: Job, target: Target) -> Reply:
        provider = provider_of(target, job)
        if not self.records.keeps:
            self._check_stateless(job, provider.native)
        await self._prepare(job, target)
        operation, envelope = job.request.operation, job.request.envelope
        if operation == "compact":
            return await self.compactor.answer(job, target, provider)
        if operation == "input_tokens":
            return await counting.answer(job, target, provider)
        if envelope.flag("background") and not provider.native:
            return await self.background.begin(job, target, provider)
        try:
            reply = await Exchange(job, target).run()
        except InvalidRequest as error:
            raise error if not isinstance(job.past, Past) else job.past.in_own_terms(error) from error.__cause__
        if self.records.keeps:
            await self.learner.learn(job, reply)
        return reply

    def _check_stateless(self, job: Job, native: bool) -> None:
        """Without a store, what names state means something to native upstreams only."""
        envelope = job.request.envelope
        if native:
            return
        for name in ("previous_response_id", "conversation"):
            if envelope.has(name):
                raise Past(envelope, self.records.accounts, warn=job.warn).unknown()
        if envelope.flag("background"):
            raise unsupported("background")

    async def _prepare(self, job: Job, target: Target) -> None:
        """Read what was said before, if any upstream of the chain may need to be told."""
        past = job.past
        if not isinstance(past, Past) or past.owner is None or past.by_id:
            return
        owner, names = past.owner, [provider_of(one, job).name for one in target.chain()]
        if owner.held or names != [owner.provider] or past.references or past.expand:
            await available(partial(self._read, job, past))

    async def _read(self, job: Job, past: Past) -> None:
        request = job.request
        previous = request.envelope.text("previous_response_id")
        if previous is not None:
            past.lines = await self.records.turns.history(request.tenant, previous)
            return
        conversation = conversation_of(request.envelope.members.get("conversation"))
        if conversation is not None:
            past.lines = await self.conversations.lines(request.tenant, conversation)

    # Operations by id...

    async def _by_id(self, job: Job, target: Target) -> Reply:
        owner, provider = job.request.previous, provider_of(target, job)
        if not self.records.keeps:
            if not provider.native or (job.request.tenant is not None and target.api_key is None):
                raise unsupported(job.request.operation)
            return await Exchange(job, target).run()
        if owner is None and (job.request.tenant is not None or not provider.native):
            raise unknown_response()
        if isinstance(job.past, Past) and job.past.owner is not None and job.past.owner.held:
            owner = job.past.owner
            return await available(partial(self._held, job, owner.provider, owner.model))
        reply = await Exchange(job, target).run()
        if job.request.operation == "delete" and reply.status < 300:
            await self._forgotten(job)
        return reply

    async def _held(self, job: Job, provider: str, model: str | None) -> Reply:
        return await self.stored.answer(job, provider, model, self.background)

    async def _forgotten(self, job: Job) -> None:
        """The upstream has deleted a response: what is known of it goes too, and if that fails it is only of no use."""
        assert job.request.response_id is not None
        try:
            await self.records.delete(job.request.tenant, job.request.response_id)
            await self.quotas.release(job.request.tenant, job.request.response_id)
        except StoreUnavailable as error:
            job.warn([f"the store: {error.detail or error.message}"])

    async def _conversation(self, job: Job, target: Target) -> Reply:
        provider = provider_of(target, job)
        past = job.past if isinstance(job.past, Past) else None
        if not self.records.keeps:
            if not provider.native or (job.request.tenant is not None and target.api_key is None):
                raise unsupported("conversations")
            return await Exchange(job, target).run()
        return await self.conversations.answer(job, target, provider, past)

    async def work(self, job: Job, target: Target, id: str) -> None:
        """Work on the queued background response *id*, here and now.

        :raises LookupError: the policy named an unknown provider.
        """
        await self._prepare(job, target)
        await self.background.work(job, target, id)

    # Life...

    async def forget(self, tenant: str | None) -> int:
        """Make everything of *tenant* unreachable, and delete what the store can enumerate: how many records.

        :raises StoreUnavailable: the store does not answer.
        """
        return await self.records.tenancy.forget(tenant, COLLECTIONS) if self.records.keeps else 0

    async def aclose(self) -> None:
        """Let the work behind replies end, then close what this event loop has open of the store."""
        await self.tasks.aclose(FAREWELL)
        await self.records.store.aclose()


def is_built(target: Target) -> bool:
    """Whether the policy has built an upstream of the chain itself."""
    if not target.fallbacks:
        return isinstance(target.provider, Provider)
    return any(isinstance(one.provider, Provider) for one in target.chain())
