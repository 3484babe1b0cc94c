"""One Target in, one Reply out: attempts, retries, fallbacks, breakers.

Strategy: a chain of candidates is walked once, from the policy's Target through its fallbacks. One deadline and one
budget span the walk. Each attempt either answers, or fails with an error that knows its kind; the kind alone decides
what happens next: the same upstream again after a pause, the next candidate, or the error passed on. Each step
re-derives the request from the client's own, so nothing of one candidate (key, model, headers) reaches another.
Nothing is tried after the first meaningful byte: from there on the stream itself reports failures.
"""

from __future__ import annotations

from functools import partial

import anyio
from msgspec import Struct

from ..deadline import clock
from ..errors import GatewayError, InvalidRequest, Overloaded, UpstreamAuthError, UpstreamError, UpstreamRejected
from ..exchange.job import FILE_MARK, Job, Setup, provider_of
from ..exchange.reply import JSON_TYPE, NO_LABELS, STREAM_HEADERS, STREAM_TYPE, Reply
from ..observers.records import FIRST, Cause
from ..observers.step import code_of
from ..operations import ROWS
from ..resilience.circuit_breaker import Permit
from ..resilience.concurrency import Held
from ..resilience.retry import backoff
from ..routing.target import ResolvedTarget, Target
from ..settings import AUTH, MALFORMED
from ..wire.headers import FALLBACK, UNSUPPORTED, fallback, for_client, named, unsupported
from .attempt import Answer, Attempt
from .stream import Stream, TracedStream, detached
from .unary import BUSY
from .upstream_request import resolve, resolved_before


class Exchange(Struct):
    """Walks the chain of *target* for *job*. Use once."""

    job: Job
    target: Target
    attempts: int = 0
    deadline: float = 0.0
    place: Held = ()
    """The tenant's concurrency slot, until the reply holds it."""
    cause: Cause = FIRST
    """Why the next attempt is made."""
    fallback: str | None = None
    """The code of the failure that led to the present fallback, None while the policy's own Target is tried."""

    async def run(self) -> Reply:
        """Returns the reply of the Target, or of one of its fallbacks.

        :raises GatewayError: nothing answered; the last failure, or the one that must be passed on.
        :raises LookupError: the policy named an unknown provider.
        """
        job, target, setup = self.job, self.target, self.job.setup
        try:
            others = self._fallbacks() if target.fallbacks else []
            setup.budget.earn(job.request.tenant)
            candidate = resolved_before(target, job) or await resolve(target, job)
            limited = setup.limits.tenant_concurrency is not None and not job.background
            if limited and ROWS[job.request.operation].works:
                self.place = await setup.concurrency.enter_work(job.request.tenant, candidate.timeouts.pool)
            own, given = candidate.timeouts, setup.timeouts  # a Target may have more than the gateway gives, not less
            most = max(own.first_event, given.first_event) if job.stream else max(own.unary, given.unary)
            self.deadline = clock() + most
            return await self._walked(candidate, others)
        except InvalidRequest as error:
            setup.concurrency.leave(self.place)
            raise error if job.continuation is None else job.continuation.in_own_terms(error) from error.__cause__
        except BaseException:
            setup.concurrency.leave(self.place)
            raise

    async def _walked(self, candidate: ResolvedTarget, others: list[Target]) -> Reply:
        """Returns the reply of *candidate*, asked again where that may help, or of one of the *others*.

        :raises GatewayError: nobody is left to be asked.
        """
        job, tries = self.job, 0
        while True:
            try:
                return await self._admitted(candidate, last=not others or not self._may_cross())
            except GatewayError as error:
                tries += 1
                if isinstance(error, Overloaded) and job.trace is not None:
                    provider = candidate.provider
                    job.trace.turned_away_by(provider.name, provider.type or provider.name, candidate.model)
                pause = self._pause(candidate, error, tries)
                if pause is None and not (others and self._falls_back(candidate, error)):
                    raise self._passed(error) from error.__cause__
                reason = code_of(error)
                detached(error)  # the reader whose failure it is still has it
            if pause is not None:
                self.cause = Cause("retry", reason)
                await anyio.sleep(pause)
            else:
                self.cause, self.fallback = Cause("fallback", reason, candidate.provider.name), reason
                candidate, tries = await resolve(others.pop(0), job), 0

    def _fallbacks(self) -> list[Target]:
        others = self.target.chain()[1:]
        for other in others:
            provider_of(other, self.job)
        if self.job.files is not None and FILE_MARK in self.job.request.envelope.raw:
            # The others are given the file's bytes; to another native upstream that keeps files its id means nothing.
            others = [other for other in others if not provider_of(other, self.job).keeps_state]
        return others

    # One attempt...

    async def _admitted(self, candidate: ResolvedTarget, last: bool) -> Reply:
        """Makes one attempt, with breaker and concurrency limit around it.

        :raises Overloaded: the circuit breaker is open.
        """
        setup, tenant = self.job.setup, self.job.request.tenant
        job = self.job
        if setup.guards is not None:
            job = await setup.guards.filter_outgoing(job, candidate.provider, candidate.key)
        limited = candidate.provider.max_concurrency or setup.limits.provider_concurrency
        held = await self._place(candidate) if limited else ()
        breaker = setup.health.breaker(candidate.provider, candidate.model, candidate.credential.fingerprint)
        permit = breaker.admit(tenant)
        if permit is None:
            setup.concurrency.leave(held)
            raise Overloaded("The upstream is failing; try again later.", retry_after=breaker.retry_after(tenant))
        self.attempts += 1
        seconds = candidate.timeouts.first_event if self.job.stream else candidate.timeouts.unary
        attempt = Attempt(job, candidate, min(self.deadline, clock() + seconds), last, permit)
        try:
            answer = await (attempt.run() if self.job.trace is None else self._traced(attempt))
        except BaseException as error:
            if isinstance(error, UpstreamAuthError):
                error.attribute(candidate.provider.name, brought=candidate.own_key)
            permit.leave(counts_as_failure(error))
            setup.concurrency.leave(held)
            raise
        return self._reply(attempt, answer, permit, held)

    async def _place(self, candidate: ResolvedTarget) -> Held:
        """Returns a concurrency slot of the provider. Background work waits for it until its own deadline."""
        job, concurrency = self.job, self.job.setup.concurrency
        if not job.background:
            return await concurrency.enter_provider(candidate.provider, job.request.tenant, candidate.timeouts.pool)
        began = clock()
        left = max(0.0, job.started + candidate.timeouts.total - began)
        held = await concurrency.enter_provider(candidate.provider, job.request.tenant, left, background=True)
        self.deadline += clock() - began
        return held

    async def _traced(self, attempt: Attempt) -> Answer:
        """Makes one attempt, and records it in the trace."""
        trace, candidate, provider = self.job.trace, attempt.candidate, attempt.candidate.provider
        assert trace is not None
        kind = provider.type or provider.name
        step = trace.attempt(provider.name, kind, candidate.model, candidate.secrets, self.cause)
        try:
            answer = await attempt.run()
        except BaseException as error:
            step.failed(error)
            if isinstance(error, UpstreamAuthError):
                trace.credential_refused(candidate.credential.fingerprint, candidate.own_key)
            raise
        step.answered(answer.status)
        return answer

    # What comes next...

    def _pause(self, candidate: ResolvedTarget, error: GatewayError, tries: int) -> float | None:
        """Returns the seconds until the same candidate is tried again; None where it is not."""
        retries = candidate.retries
        if not isinstance(error, UpstreamError) or error.kind not in retries.on or error.kind == AUTH:
            return None
        if tries >= retries.per_target or self.attempts >= retries.attempts:
            return None
        pause = backoff(tries - 1) if error.retry_after is None else error.retry_after
        if pause > retries.max_wait or clock() + pause >= self.deadline:
            return None
        return pause if self.job.setup.budget.spend(self.job.request.tenant) else None

    def _falls_back(self, candidate: ResolvedTarget, error: GatewayError) -> bool:
        """Returns whether the next candidate may be asked after *error*."""
        if self.attempts >= candidate.retries.attempts or clock() >= self.deadline or not self._may_cross():
            return False
        if isinstance(error, UpstreamAuthError):
            return not candidate.own_key or AUTH in candidate.retries.on
        if isinstance(error, UpstreamRejected):
            return error.status in BUSY or error.status >= 500 or error.status in candidate.retries.on
        return isinstance(error, UpstreamError | Overloaded)

    def _may_cross(self) -> bool:
        """Returns whether another upstream could serve the request: none can where it names state that lives at one."""
        return ROWS[self.job.request.operation].falls_back and not self.job.bound

    def _passed(self, error: GatewayError) -> GatewayError:
        """Returns *error* for the client, which must not repeat what we have repeated for it."""
        error.attempts = self.attempts
        if self.attempts > 1 or error.status in BUSY:
            error.should_retry = False
        return error

    # The reply...

    def _reply(self, attempt: Attempt, answer: Answer, permit: Permit, held: Held) -> Reply:
        job, candidate = self.job, attempt.candidate
        setup, provider = job.setup, candidate.provider
        held, self.place = held + self.place, ()
        setup.health.first_event(provider.name, clock() - job.started)
        if job.trace is not None:
            job.trace.first_event()
        stream = None
        if answer.upstream is None or answer.reader is None:
            permit.leave(False)
            if held:
                setup.concurrency.leave(held)
        else:
            stream = (Stream if job.trace is None else partial(TracedStream, trace=job.trace))(
                answer.upstream,
                answer.reader,
                held=answer.held,
                idle=candidate.timeouts.idle,
                until=job.started + candidate.timeouts.total,
                on_end=partial(_stream_ended, setup, permit, held),
            )
        streaming = stream is not None or (job.stream and job.request.operation == "create")
        headers = [STREAM_TYPE if streaming else JSON_TYPE]
        headers += for_client(answer.headers, candidate.redactor.of, limits=setup.quotas is None)
        headers += named(provider.name, (candidate.model or "")[:257], self.attempts)
        if self.fallback is not None:
            headers.append((FALLBACK, fallback(self.fallback)))
        if attempt.unsupported:
            headers.append((UNSUPPORTED, unsupported(attempt.unsupported)))
        if streaming:
            headers += STREAM_HEADERS
        return Reply(
            status=answer.status,
            raw_headers=headers,
            provider=provider.name,
            model=candidate.model,
            attempts=self.attempts,
            labels=candidate.target.labels or NO_LABELS,
            body=answer.body,
            stream=stream,
            candidate=candidate,
            response_id=answer.response_id,
        )


async def guarded_exchange(job: Job, target: Target) -> Reply:
    """Returns the reply of *target*, or of one of its fallbacks, as the host's guards let it pass.

    :raises GatewayError: nothing answered, or nothing that may be given.
    :raises LookupError: the policy named an unknown provider.
    """
    guards, answer = job.setup.guards, Exchange(job, target).run()
    return await (answer if guards is None else guards.filter_reply(job, answer))


def counts_as_failure(error: BaseException) -> bool | None:
    """Returns whether a breaker counts *error*: not what the client did, nor what says nothing about the upstream."""
    if isinstance(error, UpstreamRejected):
        # What a model makes of a client's tools says nothing of its upstream, which has answered.
        return error.kind != MALFORMED and (error.status == 429 or error.status >= 500)
    return True if isinstance(error, UpstreamError) else None


def lacks_operation(error: UpstreamRejected) -> bool:
    """Returns whether *error* of a native upstream means that it lacks the operation, and not only the model."""
    return error.status in (404, 405, 501) and error.code != "model_not_found"


def _stream_ended(setup: Setup, permit: Permit, held: Held, stream: Stream, error: GatewayError | None) -> None:
    """Releases what a stream has held. It ended with *error*, or properly, or because nobody reads on."""
    error = error or stream.reader.failure
    gone = error is None and stream.reader.terminal is None
    permit.leave(counts_as_failure(error) if error is not None else None if gone else False)
    if held:
        setup.concurrency.leave(held)
