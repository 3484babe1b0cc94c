"""`background: true` for upstreams that have no such thing: the work is a task of this process, its traces are stored.

    queued ──claimed──► in_progress ──► completed | incomplete | failed | cancelled

The response lies in the store from the first moment; every change of its status is a compare-and-swap, so that of a
worker that ends, one that cancels and one that declares it lost exactly one is believed. Who works on a response holds
a lease, renewed while it lives. A response under way without a lease has lost its worker (killed, or its machine gone):
whoever looks at it next finds it failed. A process that ends in order marks what it had begun as failed itself.

Events go into a log of numbered segments, which any worker can follow from any sequence number.

What is queued here waits for a place in its tenant's concurrency, and holds its lease meanwhile. How many of a tenant's
are queued and at work in this process is bounded; a task queue of the host's bounds itself.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import msgspec

from ..deadline import clock
from ..errors import GatewayError, GatewayFault, InvalidRequest, RateLimited
from ..exchange.job import Job, Quotas as Spending
from ..exchange.reply import Reply, json_reply
from ..history.continuation import Continuation
from ..history.ownership import HERE, Owner
from ..history.quota import Quotas, too_large
from ..history.recorder import is_stored
from ..history.records import Records, unknown_response
from ..history.turns import Turn
from ..providers.provider import Provider
from ..resilience.concurrency import Allowance
from ..routing.target import Target
from ..tasks import Task, Tasks
from ..upstream.upstream_request import longest, resolve
from ..wire.response import credentials_of, response_object
from .background_worker import FAREWELL, Ask, Prepare, Worker, cut_short, settle_orphaned
from .event_log import EventLog, Follower, Leases, is_unfinished, status_of, with_status

Json = dict[str, Any]
Enqueue = Callable[[str], Awaitable[object]]
ShownTools = Callable[[Job, Target], Mapping[str, Any]]

# Seconds after which a tenant whose background is full may look again: a response takes some.
FULL = 5.0


class Ticket(msgspec.Struct):
    """What a task queue carries: whose response is to be worked on."""

    tenant: str | None
    id: str


class Background:
    """Works on responses behind their requests. *enqueue*, if set, gives the work to a task queue of the host's: it is
    called with a ticket (text), and some worker calls `Gateway.run_background(ticket)`. *shown* gives the declarations
    of tools that run here, by path, without their credentials."""

    def __init__(
        self, records: Records, quotas: Quotas, tasks: Tasks, prepare: Prepare, ask: Ask, shown: ShownTools
    ) -> None:
        self.records = records
        self.quotas = quotas
        self.tasks = tasks
        self.prepare = prepare
        self.ask = ask
        self.shown = shown
        self.leases = Leases(records)
        self.log = EventLog(records)
        self.allowance = Allowance()
        self.enqueue: Enqueue | None = None
        self.spending: Spending | None = None
        """The quotas of what requests may use."""
        self._here: dict[tuple[str | None, str], Task] = {}

    # Beginning...

    async def begin(self, job: Job, target: Target, provider: Provider) -> Reply:
        """Returns the reply to a create that is worked on in the background: the queued response, or its events.

        :raises InvalidRequest: it asks for what cannot be, or the store cannot bear it.
        :raises RateLimited: the tenant has as many in the background as it may.
        :raises LookupError: the policy named an unknown provider.
        """
        self._check(job, target)
        tenant, until, here = job.request.tenant, job.started + longest(target, job), self.enqueue is None
        if here and not self.allowance.take(tenant, job.setup.limits.tenant_background):
            message = "Too many background responses of this account are queued or under way; try again later."
            raise RateLimited(message, retry_after=FULL)
        id = "resp_" + secrets.token_hex(24)
        try:
            model, response = await self._kept(job, target, provider, id)
            if job.hold is not None:
                job.hold.hand_over()
            if self.enqueue is not None:
                await self._enqueued(self.enqueue, tenant, id)
        except BaseException:
            if here:
                self.allowance.give_back(tenant)
            raise
        if job.trace is not None:
            job.trace.received(msgspec.json.encode(response))
        if here:
            self._here[tenant, id] = self.tasks.spawn(partial(self._work_here, job, target, id, until))
        if job.stream:
            return self.followed(job, id, None, provider.name, model)
        return json_reply(response, provider.name, model)

    async def _enqueued(self, enqueue: Enqueue, tenant: str | None, id: str) -> None:
        """Gives a queued response to the task queue; one that it does not take is cancelled, and not left."""
        try:
            await enqueue(msgspec.json.encode(Ticket(tenant, id)).decode())
        except BaseException:
            with anyio.move_on_after(FAREWELL, shield=True), suppress(GatewayError):
                await self.cancel(tenant, id)
            raise

    async def _kept(self, job: Job, target: Target, provider: Provider, id: str) -> tuple[str | None, Json]:
        """The model that is asked, and the queued response, which lies in the store.

        :raises InvalidRequest: the tenant may not store so much.
        """
        candidate = await resolve(target, job)
        tenant = job.request.tenant
        stamp = provider.name if job.setup.stamp else None
        body = dict(job.request.envelope.body)
        if isinstance(body.get("conversation"), str):
            body["conversation"] = {"id": body["conversation"]}
        response = response_object(id, int(time.time()), candidate.model or "", body, stamp)
        response["status"] = "queued"
        account = self.records.accounts.of(provider, candidate.key)
        turn = Turn(
            input=job.continuation.own_input(strict=True)
            if isinstance(job.continuation, Continuation)
            else bytes(_input(job)),
            output=b"[]",
            account=account,
            type=provider.type or provider.name,
            response=msgspec.json.encode(response),
            previous=job.request.envelope.text("previous_response_id"),
            request=b"" if self.enqueue is None else self._body_to_keep(job, target),
            hold=b"" if job.hold is None else job.hold.packed(),
            guards=job.guards,
        )
        turn = await self.records.turns.linked(tenant, turn, getattr(job.continuation, "lines", None))
        if not await self.quotas.admit(tenant, id, turn):
            raise too_large()
        owner = Owner(
            provider.name, candidate.model, account, time.time(), type=provider.type, held=True, upstream=HERE
        )
        await self.leases.take(tenant, id, waiting=self.enqueue is not None)
        await self.records.turns.keep(tenant, id, turn)
        await self.records.owners.remember(tenant, id, owner)
        return candidate.model, response

    def _body_to_keep(self, job: Job, target: Target) -> bytes:
        sealed = getattr(self.records.store, "seals", False)
        return body_to_keep(job, self.shown(job, target), sealed=sealed)

    def _check(self, job: Job, target: Target) -> None:
        """Checks that *job* can run in the background.

        :raises InvalidRequest: the store cannot carry it, the response is not to be stored, or it belongs to a
            conversation.
        """
        store, envelope = self.records.store, job.request.envelope
        if not store.atomic:
            raise InvalidRequest(
                f"Background work is not to be had here: {store.limitation}",
                status=501,
                code="unsupported_response_operation",
                param="background",
            )
        if not is_stored(job, target):
            raise InvalidRequest("'background' needs the response to be stored.", param="store", code="invalid_value")
        if envelope.has("conversation"):
            raise InvalidRequest(
                "'background' cannot go with a 'conversation' here.", param="conversation", code="unsupported_parameter"
            )

    # Working...

    async def opened(self, ticket: str) -> tuple[str | None, str, bytes] | None:
        """Returns tenant, response id and request body of *ticket*; None where there is nothing left to do.

        :raises ValueError: it is no ticket.
        """
        try:
            found = msgspec.json.decode(ticket, type=Ticket)
        except msgspec.MsgspecError:
            raise ValueError("This is no ticket of a background response.") from None
        turn = await self.records.turns.find(found.tenant, found.id)
        if turn is None or not turn.request or status_of(turn.response).status != "queued":
            return None
        return found.tenant, found.id, turn.request

    async def work(self, job: Job, target: Target, id: str) -> None:
        """Works on the response *id*, whose ticket somebody has redeemed, until it has ended. Never raises for a
        failure of the upstream.

        :raises Overloaded: its tenant has had no place for it; it stays queued.
        :raises LookupError: the policy named an unknown provider.
        """
        tenant, concurrency = job.request.tenant, job.setup.concurrency
        until = job.started + longest(target, job)
        worker = self._worker(job, id, until)
        held = await concurrency.enter_work(tenant, until - clock(), background=True)
        try:
            if await worker.claimed():
                await worker.run(target)
        finally:
            concurrency.leave(held)

    async def _work_here(self, job: Job, target: Target, id: str, until: float) -> None:
        """Works on the response *id*, which this process has queued, when its turn comes."""
        tenant = job.request.tenant
        try:
            await self._worker(job, id, until).whole(target)
        finally:
            self._here.pop((tenant, id), None)
            self.allowance.give_back(tenant)

    def _worker(self, job: Job, id: str, until: float) -> Worker:
        return Worker(self.records, self.quotas, self.leases, self.log, self.prepare, self.ask, job, id, until)

    # Looking at it...

    async def settled(self, tenant: str | None, id: str) -> Turn | None:
        """Returns the turn; where its worker is lost, already as failed."""
        found = await self.records.turns.versioned(tenant, id)
        if found is None:
            return None
        turn, version = found
        if not is_unfinished(turn) or await self.leases.is_held(tenant, id):
            return turn
        error = GatewayFault("The worker of this response is gone; send the request again.", code="worker_lost")
        failed = await self._cut_short(tenant, id, turn, version, "failed", error)
        if failed is None:
            return await self.records.turns.find(tenant, id)
        settle_orphaned(self.spending, turn)
        return failed

    async def so_far(self, tenant: str | None, id: str, turn: Turn) -> bytes:
        """Returns the response of *turn*; one that is under way with the items that are finished so far.

        :raises StoreUnavailable: the store does not answer.
        """
        if status_of(turn.response).status != "in_progress":
            return turn.response
        return with_status(turn, "in_progress", output=await self.log.finished(tenant, id)).response

    async def cancel(self, tenant: str | None, id: str) -> bytes:
        """Cancels the response. Returns it as it is then.

        :raises InvalidRequest: it is not there, or was never in the background.
        """
        while True:
            found = await self.records.turns.versioned(tenant, id)
            if found is None:
                raise unknown_response()
            turn, version = found
            if not status_of(turn.response).background:
                raise InvalidRequest("Only responses created with 'background: true' can be cancelled.")
            if not is_unfinished(turn):
                return turn.response
            cancelled = await self._cut_short(tenant, id, turn, version, "cancelled", None)
            if cancelled is not None:
                if status_of(turn.response).status == "queued" or not await self.leases.is_held(tenant, id):
                    settle_orphaned(self.spending, turn)  # nobody works on it
                await self.stop(tenant, id)
                return cancelled.response

    async def _cut_short(
        self, tenant: str | None, id: str, turn: Turn, version: int, status: str, error: GatewayError | None
    ) -> Turn | None:
        """Ends the response, which nobody works on any more or shall. Returns its turn, None where it has ended."""
        made = await cut_short(self.log, self.quotas, tenant, id, turn, status, error)
        if await self.records.turns.replace(tenant, id, version, made) is not None:
            return made
        other = await self.records.turns.find(tenant, id)
        if other is not None:  # its worker was faster, and what it has kept may be larger
            await self.quotas.admit(tenant, id, other)
        return None

    async def stop(self, tenant: str | None, id: str) -> None:
        """Ends the work on a response if it is done here; another worker notices within a beat."""
        task = self._here.pop((tenant, id), None)
        if task is not None:
            task.cancel()

    def followed(self, job: Job, id: str, after: int | None, provider: str, model: str | None) -> Reply:
        """Returns the events of a response behind the number *after*, up to its end, as they come."""
        tenant, seconds = job.request.tenant, job.setup.timeouts.total
        settled = partial(self.settled, tenant, id)
        return Follower(self.log, settled, tenant=tenant, id=id, after=after, model=model).reply(provider, seconds)


def body_to_keep(job: Job, shown: Mapping[str, Any], *, sealed: bool) -> bytes:
    """Returns the body of *job* as it may lie in a store until another worker takes it: without the credentials of its
    tools. *shown* are those of them that need none, by path, without what they were given. What a client's own server
    is asked by must go along: the path of its address may lie in a store that is *sealed*, a credential in none.

    :raises InvalidRequest: the work would need what may not.
    """
    envelope = job.request.envelope
    tools = envelope.values(("tools",)).get("tools")
    if not isinstance(tools, list):
        return envelope.raw
    kept = [shown.get(f"tools[{index}]", tool) for index, tool in enumerate(tools)]
    for index, tool in enumerate(kept):
        if credentials_of(tool, with_path=sealed):
            raise InvalidRequest(
                "Background work waits in a store here, which keeps no credentials of tools; send the request without"
                " them, or without 'background'."
                if credentials_of(tool, with_path=True)
                else "Background work waits in a store here, which would keep the path of this server's address, and"
                " that may be a secret; send the request without 'background'.",
                code="unsupported_parameter",
                param=f"tools[{index}]",
            )
    if all(one is other for one, other in zip(kept, tools, strict=True)):
        return envelope.raw
    return envelope.with_members({**envelope.members, "tools": msgspec.Raw(msgspec.json.encode(kept))}).raw


def _input(job: Job) -> msgspec.Raw:
    return job.request.envelope.members.get("input", msgspec.Raw(b"[]"))
