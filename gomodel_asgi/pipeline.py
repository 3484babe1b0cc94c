"""The life of a request, from the moment that it has been opened to the reply that a client gets.

    job_of    the request as policy and upstreams see it
    recall    the response or conversation that it names: one look-up each, for the policy to see
    decide    the host's policy; its answer is final, and nothing expensive happens before it
    admit     all else that it brings and names, each checked against its tenant
    reserve   what it may use, in all of the host's quotas or in none; where its trace ends, what it has used is booked
    guarded   the request as the host's guards have let it pass; `reply_of` gives the reply so
    emulated  what the upstream lacks: stored responses, conversations, background work, compaction, token counts
    adapted   the request as the upstream is to get it: with its context compacted, if that is due
    look_up   the same answer again, from the cache, where the host has one and lets it answer
    reply_of  one Target in, one Reply out, with the hosted tools that the host runs
    record    whose the answer is, and the answer; the end of a stream waits for it, never its beginning

Every entry point goes through `answer`: HTTP, WebSocket, `respond()`, the router and the host's own routes. `explain()`
and the workers of background responses go through its first steps, `routed`.
"""

from __future__ import annotations

import inspect
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace
from starlette.exceptions import HTTPException
from starlette.types import Scope

from .deadline import DeadlineExceeded, ForeignCancellation, clock, refuse_foreign, within
from .errors import GatewayError, PolicyFailed, PolicyTimeout, RoutingError, Unauthenticated
from .exchange.job import Guards, Job, Quotas, Setup
from .exchange.reply import Reply
from .observers import Trace
from .operations import BILLED, BY_ID, SHOWING, Operation
from .resilience.concurrency import Held
from .routing.request import RoutingRequest, identity, split_model
from .routing.target import Target
from .wire.ambiguity import check_names
from .wire.headers import cache_header
from .wire.json_body import Envelope

TenantOf = Callable[[Scope], str | None | Awaitable[str | None]]
NO_DETAIL = "The gateway could not route this request."


class Inbound(Struct):
    """A request as the edge has opened it. *headers*: lower-case, first of each; *query*: raw, hint removed."""

    operation: Operation
    envelope: Envelope
    hint: str | None
    scope: Scope
    request_id: str
    headers: Mapping[bytes, bytes]
    query: str = ""
    response_id: str | None = None
    item_id: str | None = None
    connection: object | None = None
    started: float = field(default_factory=clock)
    trace: Trace | None = None

    def __repr__(self) -> str:
        return f"<Inbound {self.request_id} {self.operation}>"


async def answer(setup: Setup, inbound: Inbound, tenant: str | None) -> Reply:
    """Routes and answers the request.

    :raises GatewayError: with a defined answer; `PolicyFailed` has the host's own exception as its cause.
    """
    job = job_of(setup, inbound, tenant)
    if job.trace is not None:
        size = len(inbound.envelope.raw)
        job.trace.arrived(tenant, job.request.model, job.stream, inbound.hint, size)
    held: Held = ()
    if setup.limits.tenant_concurrency is not None and tenant is not None:
        held = await setup.concurrency.enter_tenant(tenant, setup.timeouts.pool)
    try:
        reply = await _answered(job)
    except LookupError as error:
        setup.concurrency.leave(held)
        raise PolicyFailed(NO_DETAIL) from error
    except CancelledError as error:
        setup.concurrency.leave(held)
        try:
            refuse_foreign(error)
        except ForeignCancellation as fault:
            raise PolicyFailed(NO_DETAIL) from fault
        raise
    except BaseException:
        setup.concurrency.leave(held)
        raise
    if held:
        reply.on_close(lambda: setup.concurrency.leave(held))
    if job.hold is not None:
        reply.raw_headers += job.hold.headers
    if setup.cache is not None:
        reply.raw_headers += cache_header(inbound.operation, reply.raw_headers)
    return reply


async def _answered(job: Job) -> Reply:
    state, quotas, ledger = job.setup.state, job.setup.quotas, job.setup.ledger
    plain = state.is_plain(job)  # as most are: whatever stands between its policy and its upstream has nothing to do
    target = await (decide(job) if plain else routed(job))
    if quotas is not None:
        await reserve(job, target, quotas)
    if job.setup.guards is not None:
        job = await guarded(job, target, job.setup.guards)
    if ledger is not None and job.trace is not None:
        await ledger.admit(job.trace, job.request)
    if not plain:
        emulated = await state.emulated(job, target)
        if emulated is not None:
            return await guarded_reply(job, emulated)
        job, target = await state.adapted(job, target)
    cache = job.setup.cache
    found = None if cache is None else await cache.look_up(job, target, partial(call_host, job))
    reply = found.reply if found is not None else None
    try:
        if reply is None:
            reply = await state.reply_of(job, target)
        if quotas is not None and job.hold is not None and job.request.envelope.flag("background"):
            await quotas.note_background(job, reply)
        await state.record(job, target, reply)
    except GatewayError as error:
        if found is not None:
            error.cache = found.result
        raise
    if found is not None:
        await found.answered(reply)
    return reply


async def reserve(job: Job, target: Target, quotas: Quotas) -> None:
    """Reserves what the request may use, before any upstream is asked.

    :raises GatewayError: there is no room, or the host's rules or price refused, failed or took too long.
    """
    operation = job.request.operation
    if operation in BY_ID:
        return quotas.note_lookup(job)
    if operation not in BILLED:
        return
    try:
        await quotas.reserve(job, target, await call_host(job, quotas.rules, tuple))
    except RoutingError:
        raise
    except Exception as error:
        if quotas.shadow:
            return job.warn([f"quotas: {type(error).__name__}; the request was not counted"])
        if isinstance(error, GatewayError):
            raise
        raise PolicyFailed(NO_DETAIL) from error


async def guarded(job: Job, target: Target, guards: Guards) -> Job:
    """Returns *job* as the host's guards let it pass: from here on nobody sees anything else of it.

    :raises GatewayError: a guard refuses it, or fails.
    """
    envelope = await guards.filter_request(job)
    if envelope is None:
        return job
    again = job.continuation is not None
    job = replace(job, request=replace(job.request, envelope=envelope), continuation=None)
    if again:  # the conversation so far is put before the new input
        if job.setup.state.names(job):
            await job.setup.state.recall(job)
        await job.setup.state.admit(job, target)
    return job


async def guarded_reply(job: Job, kept: Reply) -> Reply:
    """Returns *kept*, from the store, as the host's guards let it pass: it may be older than they are.

    :raises GatewayError: a guard refuses it, or fails.
    """
    guards = job.setup.guards
    if guards is None or job.request.operation not in SHOWING:
        return kept

    async def ready() -> Reply:
        return kept

    return await guards.filter_reply(job, ready())


async def routed(job: Job) -> Target:
    """Returns the policy's Target. What the policy may see is looked up before it runs, all else after it.

    :raises GatewayError: the policy refuses it, or it names what cannot be found.
    """
    state = job.setup.state
    if state.names(job):
        await state.recall(job)
    target = await decide(job)
    if job.setup.guards is not None:
        job.setup.guards.select(job)
    await state.admit(job, target)
    return target


def job_of(setup: Setup, inbound: Inbound, tenant: str | None) -> Job:
    """Returns the request as policy and exchange see it.

    :raises Unauthenticated: it has no *tenant*, and the gateway requires one.
    :raises InvalidRequest: its body can be read in two ways.
    """
    if tenant is None and setup.tenant_required:
        raise Unauthenticated
    envelope, provider = inbound.envelope, inbound.hint
    check_names(envelope.members)
    model = envelope.model
    if model is not None and "/" in model:
        provider, model = split_model(model, provider, setup.registry)
    request = RoutingRequest(
        operation=inbound.operation,
        envelope=envelope,
        provider=provider,
        model=model,
        registry=setup.registry,
        scope=inbound.scope,
        tenant=tenant,
        response_id=inbound.response_id,
        item_id=inbound.item_id,
        connection=inbound.connection,
        health_of=setup.health_of,
    )
    id, started, trace = inbound.request_id, inbound.started, inbound.trace
    job = Job(request, setup, id, inbound.headers, inbound.query, started, envelope.stream, trace)
    if setup.files is not None:
        job.files = setup.files.of_request()
    return job


async def decide(job: Job) -> Target:
    """Runs the policy.

    :raises GatewayError: it refused, failed, or took too long.
    """
    trace = job.trace
    if trace is None:
        target: Target = await call_host(job, job.setup.ask, Target)
        return target
    started = clock()
    try:
        target = await call_host(job, job.setup.ask, Target)
    except GatewayError as error:
        trace.refused(clock() - started, error)
        raise
    names = tuple(_name(one) for one in target.chain())
    trace.decided(clock() - started, names, target.model or job.request.model, target.labels or {})
    return target


async def call_host(
    job: Job, function: Callable[[RoutingRequest], Coroutine[Any, Any, Any]], kind: type[Any] = object
) -> Any:
    """Calls the host's *function* with a copy of the request. Returns what it returns, an instance of *kind*; nothing
    else that it does to the copy counts.

    :raises GatewayError: it refused, failed, or took too long.
    """
    # The function gets an envelope of its own: whatever it does to it, what is sent stays as it came, and a plain
    # policy that has overrun shares nothing with the request that goes on.
    envelope = job.request.envelope
    request = replace(job.request, envelope=replace(envelope, members=envelope.members.copy(), parsed=None))
    try:
        answer = await within(job.setup.timeouts.policy, function(request))
        if not isinstance(answer, kind):
            raise TypeError(f"The policy returned {type(answer).__name__}, not a {kind.__name__}.")
        return answer
    except GatewayError:
        raise
    except DeadlineExceeded:
        raise PolicyTimeout("The routing policy took too long; try again later.") from None
    except HTTPException as error:
        raise refusal_of(error) from error
    except Exception as error:
        raise PolicyFailed(NO_DETAIL) from error


def refusal_of(error: HTTPException) -> RoutingError:
    """Returns the `HTTPException` that the host's own code raised as an error of ours."""
    retry_after = (error.headers or {}).get("retry-after") or (error.headers or {}).get("Retry-After")
    seconds = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else None
    return RoutingError(str(error.detail), status=error.status_code, retry_after=seconds)


def _name(target: Target) -> str:
    return target.provider if isinstance(target.provider, str) else target.provider.name


async def tenant_of(scope: Scope, given: TenantOf | None) -> str | None:
    """Returns whose request this is: the answer of the host's callable, by default the authenticated user's id.

    :raises PolicyFailed: the callable failed, or the user has no id; the cause goes to the host. Such a user is never
        taken for nobody.
    """
    try:
        if given is None:
            return identity(scope.get("user"))
        answer: Any = given(scope)
        try:
            tenant = await answer if inspect.isawaitable(answer) else answer
        except CancelledError as error:
            refuse_foreign(error)
            raise
    except GatewayError:
        raise
    except Exception as error:
        raise PolicyFailed(NO_DETAIL) from error
    if tenant is not None and not isinstance(tenant, str):
        raise PolicyFailed(NO_DETAIL) from TypeError(f"The tenant must be a str or None, not {type(tenant).__name__}.")
    return tenant
