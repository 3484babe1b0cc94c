"""Records replies: whose an id is, and the response.

A stream is never held up. Its owner is kept as soon as the first event has shown the id; the response is kept when the
terminal event has come, just before the client gets it, since the client may go on with the id in the next moment and
on another worker. With a store in this process that takes microseconds. With any other, each write is a task of the
gateway's own, and only the very end of the reply (a stream's terminal event, a body's last byte) waits for it, at most
`LONGEST_WAIT` seconds: a store that is down or slow costs the history, not the answer.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import msgspec

from ..deadline import clock
from ..errors import InvalidRequest, StoreUnavailable
from ..exchange.job import Job
from ..exchange.reply import Reply
from ..routing.target import ResolvedTarget, Target
from ..stores.shared import available
from ..tasks import Task, Tasks
from ..threads import paced
from ..wire.json_scan import Unreadable, counted, short
from .continuation import Continuation
from .ownership import HERE, NOT_OWN, Owner
from .quota import Quotas
from .records import Records
from .references import only_named
from .replies import NO_ITEMS, ResponseMembers, has_few, ids_in, listed_in, members_of, response_in
from .turns import Turn

# Seconds that the end of a reply waits for what is being written about it.
LONGEST_WAIT = 2.0

TOO_MANY = "the reply holds more items than are remembered: none of them can be named"

# Seconds that one write may take in all, whatever the store.
LONGEST_WRITE = 30.0


Wait = Callable[[], Awaitable[object]]


class Recorder:
    """Keeps replies in *records*, within *quotas*; writes that take time are *tasks*."""

    def __init__(self, records: Records, quotas: Quotas, tasks: Tasks) -> None:
        self.records = records
        self.quotas = quotas
        self.tasks = tasks
        self.keeps_all = False
        """Whether the replies of native upstreams are kept in any case: a later turn may be put together here."""

    async def record(self, job: Job, reply: Reply) -> None:
        """Attends to *reply*: its response is kept by the time the client has all of it."""
        candidate = reply.candidate
        if candidate is None:
            return
        store = job.request.envelope.members.get("store")
        if (store is not None or candidate.target.params is not None) and not is_stored(job, candidate.target):
            return await self._record_names(job, reply, candidate)
        held = not candidate.provider.keeps_state or reply.remembered is not None
        account = self.records.accounts.of(candidate.provider, candidate.key)
        kept = held or self.keeps_all or job.setup.registry.only is None
        kept = kept or getattr(job.request.previous, "held", False)
        placed = candidate.dialect is None and (kept or job.request.tenant is not None)
        tenant = job.request.tenant
        recording = Recording(self, job, candidate, tenant, account, held, kept, placed, reply.remembered)
        if reply.stream is None:
            work = partial(recording.whole, reply.body or b"")
            if reply.response_id is not None and not kept and not placed:
                work = partial(recording.own, reply.response_id)
            if self.records.immediate:
                return await self._tried(job, work)
            reply.before_end = await self._now_or_behind(job, work)
            return
        early: Wait | None = None
        id = reply.stream.reader.response_id
        if not held and id is not None:
            early = await self._now_or_behind(job, partial(recording.own, id))
        if early is not None or kept or placed or recording.is_owned is None:
            reply.stream.before_end = partial(self._ending, job, recording, reply, early)

    async def _ending(self, job: Job, recording: Recording, reply: Reply, early: Wait | None) -> None:
        assert reply.stream is not None
        response, late = reply.stream.reader.final(), early
        if response is not None and reply.stream.reader.response_id is not None:
            work = partial(recording.ended, response, early)
            if self.records.immediate:
                return await self._tried(job, work)
            late = await self._now_or_behind(job, work)
        if late is not None:
            await late()

    async def _record_names(self, job: Job, reply: Reply, candidate: ResolvedTarget) -> None:
        """Records of a response that is not stored only the ids that its client can refer to by themselves."""
        if job.request.tenant is None or not candidate.provider.keeps_state:
            return
        if reply.stream is None:
            reply.before_end = await self._now_or_behind(job, partial(self._names, job, candidate, reply.body))
        else:
            reply.stream.before_end = partial(self._naming, job, candidate, reply)

    async def _naming(self, job: Job, candidate: ResolvedTarget, reply: Reply) -> None:
        assert reply.stream is not None
        wait = await self._now_or_behind(job, partial(self._names, job, candidate, reply.stream.reader.final()))
        if wait is not None:
            await wait()

    async def _names(self, job: Job, candidate: ResolvedTarget, body: bytes | None) -> None:
        response = None if body is None else response_in(body)
        try:
            output = members_of(response).output if response is not None else NO_ITEMS
            if not await has_few(output, 1):
                return job.warn([TOO_MANY])
            ids = only_named(output)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, InvalidRequest):
            return
        provider, accounts, tenant = candidate.provider, self.records.accounts, job.request.tenant
        if ids and tenant is not None:
            account, type = accounts.of(provider, candidate.key), provider.type or provider.name
            if not await self.records.name_items(tenant, ids, accounts.upstream(provider), account, type):
                job.warn([NOT_OWN])

    async def listed(self, job: Job, reply: Reply) -> None:
        """Attends to a *reply* that lists items of what the path names: the client may then name each of them."""
        request, candidate = job.request, reply.candidate
        if request.tenant is None or candidate is None or request.response_id is None or reply.status >= 300:
            return
        body = reply.body or b""
        if not await has_few(body, 2):
            return job.warn([TOO_MANY])
        ids = listed_in(body)
        work = partial(self.records.list_items, request.tenant, request.response_id, ids)
        reply.before_end = await self._now_or_behind(job, work)

    async def created(self, job: Job, reply: Reply) -> None:
        """Attends to a *reply* that creates a conversation: from now on its upstream is its owner."""
        found, candidate = short(reply.body or b"{}"), reply.candidate
        if not isinstance(found, dict) or not isinstance(found.get("id"), str) or candidate is None:
            return
        provider, accounts = candidate.provider, self.records.accounts
        account, upstream = accounts.of(provider, candidate.key), accounts.upstream(provider)
        owner = Owner(provider.name, None, account, time.time(), type=provider.type, upstream=upstream)
        if not await available(partial(self.records.owners.remember, job.request.tenant, found["id"], owner)):
            job.warn([NOT_OWN])

    async def _now_or_behind(self, job: Job, work: Callable[[], Awaitable[None]]) -> Wait | None:
        """Does *work* here if that takes no time; else begins it, and returns what waits for it."""
        if self.records.immediate:
            await self._tried(job, work)
            return None
        task: Task = self.tasks.spawn(partial(self._in_time, job, work))
        return partial(task.wait, LONGEST_WAIT)

    async def _in_time(self, job: Job, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with anyio.fail_after(LONGEST_WRITE):
                await self._tried(job, work)
        except TimeoutError:
            job.warn(["the store: TimeoutError"])

    async def _tried(self, job: Job, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreUnavailable as error:
            job.warn([f"the store: {error.detail or error.message}"])
        except Exception as error:  # a store of the host's own: what it raises is not the client's affair
            job.warn([f"the store: {type(error).__name__}"])


class Recording(msgspec.Struct):
    """The record of one reply. *held*: the upstream forgets it."""

    recorder: Recorder
    job: Job
    candidate: ResolvedTarget
    tenant: str | None
    account: str
    held: bool
    is_kept: bool
    """Whether input and output are kept: always where the upstream forgets, else where another could go on."""
    is_placed: bool
    """Whether items are remembered by id: where nobody else may refer to them, or another upstream could."""
    remembered: Callable[[], bytes] | None = None
    """What later turns have to know of its hosted tools, where the host runs some."""
    is_owned: bool | None = None
    """Whether the response is the tenant's own; None: not known yet."""

    async def own(self, id: str) -> None:
        """Keeps whose *id* is: this tenant's, unless another one's."""
        records, provider = self.recorder.records, self.candidate.provider
        if records.tenancy.forgotten and await self._is_forgotten():
            self.is_owned = False
            return
        owner = Owner(
            provider.name,
            self.candidate.model,
            self.account,
            time.time(),
            type=provider.type,
            held=self.held,
            upstream=HERE
            if self.candidate.dialect is not None or self.remembered is not None
            else records.accounts.upstream(provider),
        )
        self.is_owned = await records.owners.remember(self.tenant, id, owner)
        if not self.is_owned:
            self.job.warn([NOT_OWN])

    async def whole(self, body: bytes) -> None:
        """Records a body that came whole: a response, or the events of one."""
        response = response_in(body)
        if response is not None:
            await self.ended(response)

    async def ended(self, response: bytes, early: Wait | None = None) -> None:
        """Records the response that ended a reply, once *early* has found whose it is: only one's own is kept."""
        if early is not None:
            await early()
        try:
            members = members_of(response)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if members.id and self.is_owned is None:
            await self.own(members.id)
        if not self.is_owned or (self.recorder.records.tenancy.forgotten and await self._is_forgotten()):
            return
        # With no more bytes than values are allowed it has no more values either.
        if len(members.output) <= self.job.setup.limits.values or await self._is_readable(members):
            if self.is_kept:
                await self._keep(members, response)
            if self.is_placed:
                await self._place(members)

    async def _is_readable(self, members: ResponseMembers) -> bool:
        """Returns whether the output is no more than may be parsed, now or when it is continued elsewhere."""
        limit = self.job.setup.limits.values
        try:
            await paced(counted(bytes(members.output), depth=len(members.output), values=limit))
        except Unreadable:
            self.job.warn(["the response holds too much to be kept: only its id is"])
            return False
        return True

    async def _is_forgotten(self) -> bool:
        """Returns whether the tenant was forgotten since the request came: a generation is its beginning in ns."""
        generation = await self.recorder.records.tenancy.generation(self.tenant)
        return generation > 0 and generation > time.time_ns() - int((clock() - self.job.started) * 1e9)

    async def _keep(self, members: ResponseMembers, response: bytes) -> None:
        envelope, found = self.job.request.envelope, self.job.continuation
        continuation = found if isinstance(found, Continuation) else None
        named = envelope.members.get("conversation")
        conversation = None if named is None else conversation_of(named)
        turn = Turn(
            input=bytes(envelope.members.get("input", b"[]")) if continuation is None else continuation.own_input(),
            output=bytes(members.output),
            account=self.account,
            type=self.candidate.provider.type or self.candidate.provider.name,
            response=response if self.held else b"",
            previous=envelope.text("previous_response_id"),
            conversation=conversation,
            remembered=b"" if self.remembered is None else self.remembered(),
            guards=self.job.guards,
        )
        before = None if continuation is None else continuation.lines
        turn = await self.recorder.records.turns.linked(self.tenant, turn, before)
        if not await self.recorder.quotas.admit(self.tenant, members.id, turn):
            self.job.warn(["the store: the response is larger than a tenant's quota, and was not kept"])
            return
        await self.recorder.records.turns.keep(self.tenant, members.id, turn)
        if conversation is not None:
            admit = partial(self.recorder.quotas.admit_size, self.tenant, conversation)
            log = self.recorder.records.conversations
            if not await log.append_turn(self.tenant, conversation, turn, members.id, admit):
                self.job.warn(["the store: the conversation is larger than a tenant's quota, and was not continued"])

    async def _place(self, members: ResponseMembers) -> None:
        if not await has_few(members.output, 1):
            return self.job.warn([TOO_MANY])
        ids = [item.id for item in ids_in(members.output) if item.id is not None]
        records, provider = self.recorder.records, self.candidate.provider
        if self.held:  # nobody but us ever looks them up
            await records.place(self.tenant, ids, members.id)
        elif not await records.claim_items(self.tenant, ids, members.id, records.accounts.upstream(provider)):
            self.job.warn([NOT_OWN])
        elif self.is_kept:
            await records.place(self.tenant, ids, members.id)


def is_stored(job: Job, target: Target) -> bool:
    """Returns whether the response may be kept: neither the client nor the Target has `"store": false`."""
    if target.params is not None and "store" in target.params:
        return target.params["store"] is not False
    return bytes(job.request.envelope.members.get("store", b"")) != b"false"


def conversation_of(raw: Any) -> str | None:
    """The id in the member `conversation`: a string, or an object with one."""
    value = None if raw is None else short(raw)
    found = value.get("id") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
