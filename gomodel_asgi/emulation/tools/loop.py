"""The loop: a round through the upstream, the host's functions, the next round, until the model has answered.

A stream's loop is a task of its own, which alone opens and closes what the response needs; who reads the stream reads
what it has written. A unary request is worked on by whoever asked. Both are the same walk.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import anyio

from ...deadline import clock
from ...errors import (
    ContentBlocked,
    GatewayError,
    GatewayFault,
    GuardUnavailable,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ...exchange.job import provider_of
from ...exchange.reply import JSON_TYPE, STREAM_HEADERS, STREAM_TYPE, Reply, parsed
from ...history.recorder import Recorder
from ...observers import RoundTrace
from ...tasks import Tasks
from ...upstream.chain import Exchange
from ...upstream.stream import detached, fed
from ...upstream.upstream_request import resolve
from ...wire.headers import UNSUPPORTED, Headers, named, unsupported
from .approvals import begin_approved, call_of, request_approval, take_approved
from .calls import run_calls
from .remembered import encode
from .replay import Replay
from .round_chain import RoundChain
from .rounds import Round
from .seams import Json
from .servers import emit_lists, open_servers
from .work import FAREWELL, Work

LEAST = 16
"""Tokens below which an upstream is not asked for more (OpenAI: `max_output_tokens` is at least 16)."""
REASONS = ("max_output_tokens", "content_filter")
ANEW = frozenset({b"cache-control", b"vary", UNSUPPORTED})
"""Headers of the first round's reply that the response has its own of."""


async def run(recorder: Recorder, work: Work) -> Reply:
    """Works on a response: its reply, or its stream once the first round has begun to answer. What came of one whose
    client leaves is kept by *recorder*.

    :raises GatewayError: it failed before the client had anything of it.
    """
    loop = Loop(work)
    if work.job.stream:
        return await loop.streamed(recorder.tasks)
    try:
        return await loop.whole()
    except BaseException:
        if work.cancel() and recorder.records.keeps:
            await _keep(recorder, loop)
        raise


async def _keep(recorder: Recorder, loop: Loop) -> None:
    """Keeps a response whose client has left, as far as it had come."""
    with anyio.move_on_after(FAREWELL, shield=True), suppress(ContentBlocked, GuardUnavailable):
        job, kept = loop.work.job, loop.reply()
        guards = job.setup.guards
        reply = await (kept if guards is None else guards.answered(job, kept))
        await recorder.record(job, reply)
        if reply.before_end is not None:
            await reply.before_end()


class Loop:
    """The walk of one response."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.chain = RoundChain(work)
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
        work, first = self.work, self.chain.first
        candidate = self.chain.answerer or await resolve(work.target, work.job)
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
        first = self.chain.first
        if first is None:
            kind = [STREAM_TYPE, *STREAM_HEADERS] if self.work.outlet is not None else [JSON_TYPE]
            headers = [*kind, *named(provider, (model or "")[:257], 0)]
        else:
            headers = [one for one in first.raw_headers if one[0] not in ANEW]
            named_there = dict(first.raw_headers).get(UNSUPPORTED, b"").decode("ascii")
            left_out += [path.strip() for path in named_there.split(",") if path.strip()]
        if left_out:
            headers.append((UNSUPPORTED, unsupported(tuple(dict.fromkeys(left_out)))))
        return headers

    # The walk...

    async def _walked(self) -> None:
        async with self.work.sessions:
            await open_servers(self.work)
            pairs = await self._resumed()
            replay = self.chain.replay()
            replay.round_items += pairs
            await self._rounds(replay, resumed=bool(pairs))

    async def _resumed(self) -> list[Json]:
        """Calls what the client has approved, without asking the model: the calls and their outputs."""
        work, approved = self.work, await take_approved(self.work)
        if not approved:
            return []
        await emit_lists(work, work.plans[0].upstream)
        round = begin_approved(work, approved)
        outputs = await run_calls(work, round)
        return [*(call_of(call) for call in round.calls), *outputs]

    async def _rounds(self, replay: Replay, resumed: bool) -> None:
        """Asks the upstream and runs the tools it calls, round by round.

        :raises GatewayError: a round has failed.
        """
        work, number = self.work, 1 if resumed else 0
        most = work.job.setup.limits.tool_rounds
        while True:
            last = number >= most or (number > 0 and work.call_limits.spent)
            left = self.chain.tokens_left()
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
        trace = None if work.job.trace is None else RoundTrace(work.job.trace, first=self.chain.first is None)
        job, target = self.chain.job(number, trace), self.chain.target(number, last=last, left=left)
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
            is_first = self.chain.first is None
            plan = self.chain.answered(reply)
            alone, native = work.body.get("parallel_tool_calls") is False, plan.upstream.native
            work.rewriter.begin(plan.shown, plan.functions, native=native, last=last, alone=alone)
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
