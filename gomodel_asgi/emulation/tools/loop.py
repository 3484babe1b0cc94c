"""The loop: a round through the upstream, the host's functions, the next round, until the model has answered.

A stream's loop is a task of its own, which alone opens and closes what the response needs; who reads the stream reads
what it has written. A unary request is worked on by whoever asked. Both are the same walk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio
from msgspec import structs

from ...deadline import clock
from ...dialects.hosted_items import ShownFunctions
from ...errors import (
    ContentBlocked,
    GatewayError,
    GatewayFault,
    GuardUnavailable,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ...exchange.job import Job, provider_of
from ...exchange.reply import JSON_TYPE, STREAM_HEADERS, STREAM_TYPE, Reply, parsed
from ...observers import RoundTrace
from ...routing.target import ResolvedTarget, Target
from ...tasks import Tasks
from ...upstream.chain import Exchange
from ...upstream.stream import detached, fed
from ...upstream.upstream_request import resolve
from ...wire.headers import UNSUPPORTED, Headers, named, unsupported
from .approvals import request_approval, resume
from .calls import run_calls
from .memory import Replay, encode
from .plan import Plan
from .request import Candidate
from .rounds import Round
from .servers import emit_lists, open_servers
from .source import Json
from .work import Work, whole_number

LEAST = 16
"""Tokens below which an upstream is not asked for more (OpenAI: `max_output_tokens` is at least 16)."""
REASONS = ("max_output_tokens", "content_filter")
ANEW = frozenset({b"cache-control", b"vary", UNSUPPORTED})
"""Headers of the first round's reply that the response has its own of."""


class Loop:
    """The walk of one response. *continuing* gives the request with what items of our tools stand for."""

    def __init__(
        self,
        work: Work,
        continuing: Callable[[], Job],
    ) -> None:
        self.work = work
        self.continuing = continuing
        self.round_job: Job = work.job
        """The request as the rounds ask it."""
        self.targets: list[Target] = []
        """The chain as the round under way has it."""
        self.skipped = 0
        """How many Targets of the whole chain stand before those."""
        self.answerer: ResolvedTarget | None = None
        self.first: Reply | None = None
        self.error: GatewayError | None = None
        """Why nothing came of it, where the client has nothing of it yet."""
        self.fault: Exception | None = None
        """What is wrong with the gateway, the policy or the host."""
        if work.job.trace is not None:
            work.job.trace.reads(work.reader, work.emitter.warnings)

    # From outside...

    async def whole(self) -> Reply:
        """The response, once it has ended.

        :raises GatewayError: it failed before the client had anything of it.
        """
        await self._worked()
        self._check()
        return await self.reply()

    async def streamed(self, tasks: Tasks) -> Reply:
        """Its stream, once the first round has begun to answer.

        :raises GatewayError: it failed before the client had anything of it.
        """
        outlet = self.work.outlet
        assert outlet is not None
        outlet.task = tasks.spawn(self._worked)
        try:
            await self.work.begun.wait()
            self._check()
            return await self.reply()
        except BaseException:
            await outlet.aclose()
            raise

    def _check(self) -> None:
        """Lets a failure of the response pass that the client is told in it.

        :raises GatewayError: it is not told there.
        """
        failure = self.fault or self.error
        if failure is not None and not self._is_in_band(failure):
            raise failure

    def _is_in_band(self, failure: Exception) -> bool:
        """Whether *failure* is reported in the response: a stream's once it has begun, else once a tool was called,
        unless it is a guard's, which lets nobody have any of it."""
        if self.work.outlet is not None:
            return self.work.emitter.begun
        return self.work.ran and not isinstance(failure, ContentBlocked | GuardUnavailable)

    async def _worked(self) -> None:
        """Walks to the end. A failure ends the response, or is kept where the client has nothing of it."""
        work = self.work
        try:
            with anyio.move_on_after(work.until - clock()) as scope:
                await self._walked()
            if scope.cancelled_caught:
                await self._fail(UpstreamTimeout("The response took longer than allowed."))
        except ContentBlocked as error:
            await self._blocked(error)
        except GatewayError as error:
            await self._fail(error)
        except Exception as error:
            self.fault = error
            work.job.warn([f"hosted tools: {type(error).__name__}"])
            await self._fail(GatewayFault("The gateway failed to work on this response."))
        finally:
            work.begun.set()
            if work.outlet is not None:
                work.outlet.end()

    async def _blocked(self, error: ContentBlocked) -> None:
        """A guard of the host's refuses what a tool is to be given, or what it gave: the response ends where it
        stands."""
        self.error = detached(error)
        if self._is_in_band(error):
            self.work.rewriter.cut_off()
            await self._end("content_filter", early=True)

    async def _fail(self, error: GatewayError) -> None:
        self.error = detached(error)
        if not self._is_in_band(error):
            return
        if self.work.job.trace is not None:
            self.work.job.trace.failed(error)
        self.work.rewriter.cut_off()
        usage = self.work.rewriter.usage
        self.work.emitter.usage(usage, usage)
        self.work.emitter.fail(error)
        await self.work.flush(last=True)

    async def reply(self) -> Reply:
        """Returns what there is of it. Whose it is, is known also where no upstream has answered yet."""
        candidate = self.answerer or await resolve(self.work.target, self.work.job)
        work, first = self.work, self.first
        provider = provider_of(work.target, work.job).name
        model = work.target.model or work.job.request.model
        made = Reply(
            status=200,
            raw_headers=self._headers(provider, model),
            provider=provider,
            model=model,
            attempts=0,
            body=None if work.outlet is not None else work.reader.final(),
            stream=work.outlet,
            candidate=candidate,
            response_id=None if work.outlet is not None else work.id,
            remembered=lambda: encode(work.remembered),
        )
        if first is not None:
            made.provider, made.model, made.attempts, made.labels = (
                first.provider, first.model, first.attempts, first.labels
            )  # fmt: skip
        return made

    def _headers(self, provider: str, model: str | None) -> Headers:
        left_out = [path for plan in self.work.plans[:1] for path in plan.left_out]
        if self.first is None:
            kind = [STREAM_TYPE, *STREAM_HEADERS] if self.work.outlet is not None else [JSON_TYPE]
            headers = [*kind, *named(provider, (model or "")[:257], 0)]
        else:
            headers = [one for one in self.first.raw_headers if one[0] not in ANEW]
            named_there = dict(self.first.raw_headers).get(UNSUPPORTED, b"").decode("ascii")
            left_out += [path.strip() for path in named_there.split(",") if path.strip()]
        if left_out:
            headers.append((UNSUPPORTED, unsupported(tuple(dict.fromkeys(left_out)))))
        return headers

    # The walk...

    async def _walked(self) -> None:
        async with self.work.sessions:
            await open_servers(self.work)
            pairs = await resume(self.work)
            self.round_job = self.continuing()
            replay = self.round_job.continuation
            assert isinstance(replay, Replay)
            replay.round_items += pairs
            await self._rounds(replay, resumed=bool(pairs))

    async def _rounds(self, replay: Replay, resumed: bool) -> None:
        """Asks the upstream and runs the tools it calls, round by round.

        :raises GatewayError: a round has failed.
        """
        work, number = self.work, 1 if resumed else 0
        most = work.job.setup.limits.tool_rounds
        while True:
            last = number >= most or (number > 0 and work.call_limits.spent)
            left = self._left()
            if left is not None and left < LEAST and number:
                return await self._end("max_output_tokens", early=True)
            round = await self._round(number, last=last, left=left, listed=resumed)
            if round.failure is not None or round.status == "failed":
                raise round.failure or UpstreamProtocolError("The upstream's response failed.")
            if round.status != "completed":
                work.rewriter.cut_off()
                return await self._end(round.reason if round.reason in REASONS else None, early=True)
            outputs = await run_calls(work, round)
            waits = [call for call in round.calls if call.approves]
            for call in waits:
                request_approval(work, call, round.number)
            if not round.calls or waits or round.client_calls or last:
                return await self._end(None)
            replay.round_items += [*round.output, *outputs]
            replay.latest = outputs
            number += 1

    async def _end(self, reason: Any, *, early: bool = False) -> None:
        emitter, usage = self.work.emitter, self.work.rewriter.usage
        emitter.usage(usage, usage)
        await self.work.flush()
        if early:
            emitter.incomplete(reason)
        else:
            emitter.complete(int(time.time()))
        await self.work.flush(last=True)

    # One round...

    async def _round(self, number: int, *, last: bool, left: int | None, listed: bool) -> Round:
        work = self.work
        trace = None if work.job.trace is None else RoundTrace(work.job.trace, first=self.first is None)
        job, target = self._asking(number, trace), self._target(number, last=last, left=left)
        try:
            return await self._answer(await Exchange(job, target).run(), last=last, listed=listed)
        finally:
            if trace is not None:
                trace.round_over()

    async def _answer(self, reply: Reply, *, last: bool, listed: bool) -> Round:
        """What *reply* has come to, once it has ended.

        :raises UpstreamProtocolError: it ended without a response.
        """
        work = self.work
        try:
            is_first = self.first is None
            plan = self._answered(reply)
            work.rewriter.begin(plan, last=last, alone=work.body.get("parallel_tool_calls") is False)
            if is_first and not listed:
                await emit_lists(work, plan.upstream)
            if reply.stream is not None:
                await self._read(reply)
            else:
                work.rewriter.whole(await parsed(reply.body or b"null"))
        finally:
            with anyio.CancelScope(shield=True):
                await reply.aclose()
        if work.rewriter.round.status is None and work.rewriter.round.failure is None:
            raise UpstreamProtocolError("The upstream's stream ended without a response.")
        return work.rewriter.round

    async def _read(self, reply: Reply) -> None:
        while data := await reply.next():
            await self.work.give(await fed(self.work.reader, data))

    def _asking(self, number: int, trace: RoundTrace | None) -> Job:
        """The request of a round: under an id of its own, so that a native reply is read as any other is."""
        id = f"{self.work.id}r{number:02x}"
        started = clock() if number else self.work.job.started
        round_job = structs.replace(self.round_job, response_id=id, trace=trace, started=started, shown=self._shown_to)
        round_job.leading, round_job.spent = (), None
        if number:  # tools may have run for longer than a key is good for
            round_job.resolved = None
        return round_job

    def _shown_to(self, target: Target) -> ShownFunctions:
        """What *target*, one of the round under way, is shown in place of hosted tools."""
        return self.work.plans[self._place_of(target)].functions_shown

    def _place_of(self, target: Target | None) -> int:
        """Where *target*, one of the round under way, stands in the whole chain."""
        return self.skipped + next(at for at, one in enumerate(self.targets) if one is target)

    def _target(self, number: int, *, last: bool, left: int | None) -> Target:
        """The chain as a round has it: behind the first the one that has answered, and those behind it only where
        nothing that was said is bound to its model."""
        chain = self.work.chain
        self.targets = [
            structs.replace(one.target, params=_params(one, plan, number, last, left), tools=(), fallbacks=())
            for one, plan in zip(chain, self.work.plans, strict=True)
        ]
        if self.answerer is not None:
            at = next(at for at, one in enumerate(chain) if one.target is self.answerer.target)
            replay = self.round_job.continuation
            bound = isinstance(replay, Replay) and any(item.get("encrypted_content") for item in replay.round_items)
            self.targets = self.targets[at : at + 1] if bound else self.targets[at:]
            self.skipped = at
        self.targets[0] = structs.replace(self.targets[0], fallbacks=tuple(self.targets[1:]))
        return self.targets[0]

    def _answered(self, reply: Reply) -> Plan:
        """The plan by which *reply* was asked for; who gave it serves the rounds to come."""
        candidate, work = reply.candidate, self.work
        assert candidate is not None
        at = self._place_of(candidate.target)
        if self.first is None:
            self.first = reply
            if work.job.setup.stamp:
                work.emitter.response["provider"] = reply.provider
        self.answerer = structs.replace(candidate, target=work.chain[at].target)
        return work.plans[at]

    def _left(self) -> int | None:
        """Output tokens that the response may yet have; None: as many as the upstream gives."""
        most = whole_number(self.work.body.get("max_output_tokens"))
        used = (self.work.rewriter.usage or {}).get("output_tokens")
        return None if most is None else most - (used if isinstance(used, int) else 0)


def _params(one: Candidate, plan: Plan, number: int, last: bool, left: int | None) -> Json:
    params = {**(one.target.params or {}), **plan.params(number, last=last)}
    return params | {"max_output_tokens": left} if number and left is not None else params
