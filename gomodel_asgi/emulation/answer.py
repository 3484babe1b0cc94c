"""The state of one gateway: its history, and what it does for upstreams that lack something. The pipeline calls:

    recall    finds what the request names, for the policy to see
    admit     checks all else that it names, once the policy has let the caller in
    emulated  returns the reply to what the upstream lacks
    record    keeps the upstream's answer, and whose it is

Everything that a request names is found under keys that only its tenant has (`history/tenancy.py`), so nothing here
knows whether an id is unknown or somebody else's, and no answer can reveal it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import StoreUnavailable
from ..exchange.job import Job, provider_of
from ..exchange.reply import Reply
from ..history.admission import Admission
from ..history.continuation import Continuation
from ..history.quota import Quotas
from ..history.recorder import Recorder, conversation_of
from ..history.records import (
    COLLECTIONS,
    Records,
    unknown_conversation,
    unknown_previous,
    unknown_response,
    unsupported,
)
from ..operations import BODY, BY_ID, CONVERSATIONS, ROWS
from ..providers.provider import Provider
from ..routing.target import Target
from ..seams.store import Store
from ..seams.transport import Transport
from ..settings import Limits
from ..stores.circuit_breaker import Guarded, guarded
from ..stores.shared import available
from ..tasks import Tasks
from ..upstream.chain import Exchange
from ..wire.ambiguity import brings
from .background import Background
from .compaction import Compactor
from .stored import Conversations, StoredResponses
from .without_generation import count_tokens, warm_up

if TYPE_CHECKING:
    from ..tools import Tool
    from .tools.host import HostTools

# Seconds that the gateway's own work is given to end when it is closed.
FAREWELL = 5.0


class GatewayState:
    """The state of one gateway in *store*. *limits* has the quotas of each tenant; *transport* reaches MCP servers."""

    def __init__(
        self,
        store: Store,
        *,
        limits: Limits,
        transport: Transport,
        tools: Iterable[Tool] = (),
    ) -> None:
        self.tasks = Tasks()
        behind = guarded(store)
        self.circuit = behind.circuit if isinstance(behind, Guarded) else None
        """That of the store, where it could hang."""
        self.records = Records(behind)
        self.quotas = Quotas(self.records, limits.tenant_entries, limits.tenant_bytes)
        self.conversations = Conversations(self.records, self.quotas)
        self.compactor = Compactor(self.records, self.quotas)
        self.admission = Admission(self.records, self.compactor.opened)
        self.names, self.recall = self.admission.names, self.admission.recall
        self.recorder = Recorder(self.records, self.quotas, self.tasks)
        self.stored = StoredResponses(self.records)
        self.background = Background(
            self.records, self.quotas, self.tasks, self.compactor.managed, self.reply_of, self._shown
        )
        self.tools = _host_tools([*tools], transport, self.recorder)
        """None where the host runs no hosted tools: then nothing of them is imported."""
        self.recorder.keeps_all = self.tools is not None
        self.compactor.replayed = None if self.tools is None else self.tools.replayed

    def is_plain(self, job: Job) -> bool:
        """Returns whether the request only asks for a new response, and refers to nothing."""
        request, admission = job.request, self.admission
        if request.operation != "create" or request.envelope.names_state or job.continuation is not None:
            return False
        admission.has_tenants = admission.has_tenants or request.tenant is not None
        return not brings(BODY, request.envelope.members)

    # After the policy...

    async def admit(self, job: Job, target: Target) -> None:
        """Checks everything else that the request brings and names before *target* sees any of it, and reads the
        conversation before it where the upstream may need it.

        :raises InvalidRequest: it cannot be examined, can be read in two ways, or is not this caller's.
        :raises StoreUnavailable: the store does not answer.
        :raises LookupError: the policy named an unknown provider.
        """
        await self.admission.admit(job, target)
        await self._prepare(job, target)

    async def emulated(self, job: Job, target: Target) -> Reply | None:
        """The reply to what *target* lacks, or from the store; None where it is to be asked.

        :raises GatewayError: there is none, and it is not to be asked either.
        :raises LookupError: the policy named an unknown provider.
        """
        operation = job.request.operation
        if operation == "create" and job.continuation is None and not job.request.envelope.names_state:
            return None
        if operation in BY_ID:
            return await self._by_id(job, target)
        if operation in CONVERSATIONS:
            return await self._conversation(job, target)
        return await self._created(job, target)

    async def _created(self, job: Job, target: Target) -> Reply | None:
        provider = provider_of(target, job)
        if not self.records.keeps:
            self._check_stateless(job, provider.keeps_state)
        operation, envelope = job.request.operation, job.request.envelope
        if operation == "compact":
            return await self.compactor.answer(job, target, provider)
        if operation == "input_tokens":
            job, target = await self._prepared(job, target)
            return await count_tokens(job, target, provider)
        if envelope.flag("background") and self._works_here(job, target, provider):
            return await self.background.begin(job, target, provider)
        return None

    def _works_here(self, job: Job, target: Target, provider: Provider) -> bool:
        """Returns whether what is done in the background is done here: for upstreams that keep nothing, and with tools
        of the host's."""
        return not provider.keeps_state or (self.tools is not None and self.tools.wants(job, target))

    def _shown(self, job: Job, target: Target) -> Mapping[str, Any]:
        """Returns the declarations of tools that the host runs, by path, without their credentials."""
        return {} if self.tools is None else self.tools.shown(job, target)

    async def adapted(self, job: Job, target: Target) -> tuple[Job, Target]:
        """Returns the request to send: with its context compacted, if it asks for that and the context is long enough.

        :raises GatewayError: the conversation could not be summed up.
        """
        return await self.compactor.managed(job, target), target

    def places(self, job: Job, target: Target) -> Sequence[Mapping[str, str]]:
        """Returns where the hosted tools that are declared would run, for each Target of the chain.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        from .tools.declarations import Toolbox
        from .tools.host import places

        return places(job, target, Toolbox(job.setup.transport) if self.tools is None else self.tools.toolbox)

    async def warmed(self, job: Job, target: Target) -> Reply:
        """Returns the reply to a request that is to generate nothing.

        :raises GatewayError: it cannot be sent as it is, or nothing answered.
        :raises LookupError: the policy named an unknown provider.
        """
        return await warm_up(*await self._prepared(job, target))

    async def _prepared(self, job: Job, target: Target) -> tuple[Job, Target]:
        """Returns *job* and *target* as they are asked where no tool of the host's may run, and no server of tools be
        asked.

        :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
        :raises StoreUnavailable: the store does not answer.
        :raises LookupError: the policy named an unknown provider.
        """
        return (job, target) if self.tools is None else await self.tools.prepared(job, target)

    def reply_of(self, job: Job, target: Target) -> Awaitable[Reply]:
        """Returns the reply of *target*, or of one of its fallbacks, with the hosted tools that the host runs, and as
        the host's guards have let it pass.

        :raises GatewayError: nothing answered, or nothing that may be given.
        :raises LookupError: the policy named an unknown provider.
        """
        if self.tools is not None:
            answer: Awaitable[Reply] = self.tools.answer(job, target)
        elif target.tools:
            raise LookupError("The policy added hosted tools to a Target, and the gateway runs none.")
        else:
            answer = Exchange(job, target).run()
        guards = job.setup.guards
        return answer if guards is None else guards.filter_reply(job, answer)

    async def record(self, job: Job, target: Target, reply: Reply) -> None:
        """Records what an upstream has answered, as the table of operations says."""
        request = job.request
        if not self.records.keeps:
            return
        match ROWS[request.operation].gives:
            case "response":
                return await self.recorder.record(job, reply)
            case "items":
                return await self.recorder.listed(job, reply)
            case "conversation":
                return await self.recorder.created(job, reply)
        if request.operation == "delete" and reply.status < 300:
            await self._forgotten(job)
        if request.operation == "conversation_delete" and request.response_id is not None:
            await available(partial(self.records.owners.forget, request.tenant, request.response_id))

    def _check_stateless(self, job: Job, keeps_state: bool) -> None:
        """Without a store, what names state means something only to upstreams that keep it.

        :raises InvalidRequest: the upstream does not keep it.
        """
        envelope = job.request.envelope
        if keeps_state:
            return
        if envelope.has("previous_response_id"):
            raise unknown_previous()
        if envelope.has("conversation"):
            raise unknown_conversation()
        if envelope.flag("background"):
            raise unsupported("background")

    async def _prepare(self, job: Job, target: Target) -> None:
        """Reads the conversation so far, if an upstream of the chain or the loop of hosted tools may need it."""
        continuation = job.continuation
        if not isinstance(continuation, Continuation) or continuation.owner is None or not continuation.row.continues:
            return
        owner, chain = continuation.owner, [provider_of(one, job) for one in target.chain()]
        elsewhere = bool(owner.held or continuation.referrals.references)
        elsewhere = elsewhere or [one.name for one in chain] != [owner.provider]
        elsewhere = elsewhere or not chain[0].keeps_state  # as guards ask it
        if elsewhere or (self.tools is not None and self.tools.wants(job, target)):
            await available(partial(self._read, job, continuation))

    async def _read(self, job: Job, continuation: Continuation) -> None:
        request = job.request
        previous = request.envelope.text("previous_response_id")
        if previous is not None:
            continuation.lines = await self.records.turns.history(request.tenant, previous)
        elif (conversation := conversation_of(request.envelope.members.get("conversation"))) is not None:
            continuation.lines = await self.records.conversations.lines(request.tenant, conversation)
        await self.admission.open_last(request.tenant, continuation)

    async def is_anothers(self, job: Job, provider: Provider, id: str) -> bool:
        """Returns whether the *id* that *provider* gave is known to be that of another tenant than the one that asked.

        :raises StoreUnavailable: the store does not answer.
        """
        tenant, upstream = job.request.tenant, self.records.accounts.upstream(provider)
        return self.records.keeps and await available(partial(self.records.claims.is_anothers, tenant, upstream, id))

    async def remembered(self, tenant: str | None, response_id: str) -> bytes:
        """What is remembered of the hosted tools of a response of *tenant*'s; empty where nothing is.

        :raises StoreUnavailable: the store does not answer.
        """
        turn = await self.records.turns.find(tenant, response_id)
        return b"" if turn is None else turn.remembered

    async def take_approval(self, tenant: str | None, id: str) -> bool:
        """Takes the client's answer to the approval request *id*, which counts once as long as there is a store to
        record that. Returns whether it counts.

        :raises StoreUnavailable: the store does not answer.
        """
        return not self.records.keeps or await self.records.take_approval(tenant, id)

    # Operations by id...

    async def _by_id(self, job: Job, target: Target) -> Reply | None:
        """Returns what is kept here under the id of the path; None where the upstream is to be asked.

        :raises InvalidRequest: nothing of this caller has that id.
        """
        continuation, provider = job.continuation, provider_of(target, job)
        if not self.records.keeps:
            self._check_credential(job, target, provider, job.request.operation)
            return None
        if job.request.previous is None and (job.request.tenant is not None or not provider.keeps_state):
            raise unknown_response()
        owner = continuation.owner if isinstance(continuation, Continuation) else None
        if owner is None or not owner.held:
            return None
        return await available(partial(self.stored.answer, job, owner.provider, owner.model, self.background))

    def _check_credential(self, job: Job, target: Target, provider: Provider, what: str) -> None:
        """Without a store an id may only go where its tenant has an account of its own.

        :raises InvalidRequest: it has none (501).
        """
        if not provider.keeps_state or (job.request.tenant is not None and target.api_key is None):
            raise unsupported(what)

    async def _forgotten(self, job: Job) -> None:
        """The upstream has deleted a response: what is known of it goes too, and if that fails it is only of no use."""
        assert job.request.response_id is not None
        try:
            await self.records.delete(job.request.tenant, job.request.response_id)
            await self.quotas.release(job.request.tenant, job.request.response_id)
        except StoreUnavailable as error:
            job.warn([f"the store: {error.detail or error.message}"])

    async def _conversation(self, job: Job, target: Target) -> Reply | None:
        provider = provider_of(target, job)
        if not self.records.keeps:
            self._check_credential(job, target, provider, "conversations")
            return None
        return await self.conversations.answer(job, provider)

    # Life...

    async def forget(self, tenant: str | None) -> int:
        """Makes everything of *tenant* unreachable, and deletes what the store can enumerate: how many records.

        :raises StoreUnavailable: the store does not answer.
        """
        return await self.records.tenancy.forget(tenant, COLLECTIONS) if self.records.keeps else 0

    async def aclose(self) -> None:
        """Lets the work behind replies end, then closes what this event loop has open of the store."""
        await self.tasks.aclose(FAREWELL)
        await self.records.store.aclose()


def _host_tools(tools: list[Tool], transport: Transport, recorder: Recorder) -> HostTools | None:
    if not tools:
        return None
    from .tools.host import HostTools, toolbox_of
    from .tools.loop import complete

    return HostTools(toolbox_of(tools, transport), recorder.records.store.secret, partial(complete, recorder))
