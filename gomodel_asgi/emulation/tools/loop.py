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
from .round import Round
from .round_chain import RoundChain
from .run import FAREWELL, Run
from .seams import Json
from .servers import emit_lists, open_servers

LEAST = 16
"""Tokens below which an upstream is not asked for more (OpenAI: `max_output_tokens` is at least 16)."""
REASONS = ("max_output_tokens", "content_filter")
ANEW = frozenset({b"cache-control", b"vary", UNSUPPORTED})
"""Headers of the first round's reply that the response has its own of."""


async def complete(recorder: Recorder, run: Run) -> Reply:
    """Works on a response: its reply, or its stream once the first round has begun to answer. What came of one whose
    client leaves is kept by *recorder*.

    :raises GatewayError: it failed before the client had anything of it.
    """
    loop = Loop(run)
    if run.job.stream:
        return await loop.streamed(recorder.tasks)
    try:
        return await loop.whole()
    except BaseException:
        if run.cancel() and recorder.records.keeps:
            await _keep(recorder, loop)
        raise


async def _keep(recorder: Recorder, loop: Loop) -> None:
    """Keeps a response whose client has left, as far as it had come."""
    with anyio.move_on_after(FAREWELL, shield=True), suppress(ContentBlocked, GuardUnavailable):
        job, kept = loop.run.job, loop.reply()
        guards = job.setup.guards
        reply = await (kept if guards is None else guards.filter_reply(job, kept))
        await recorder.record(job, reply)
        if reply.before_end is not None:
            await reply.before_end()


class Loop:
    """The walk of one response."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.chain = RoundChain(run)
        self.error: GatewayError | None = None
        """Why nothing came of it, where the client has nothing of it yet."""
        self.fault: Exception | None = None
        """What is wrong with the gateway, the policy or the host."""
        if run.job.trace is not None:
            run.job.trace.reads(run.reader, run.emitter.warnings)

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
        outlet = self.run.outlet
        assert outlet is not None
        outlet.task = tasks.spawn(self._worked)
        try:
            await self.run.begun.wait()
            self._check()
            return await self.reply()
        except BaseException:
            await outlet.aclose()
            raise

    def _check(self) -> None:
        """Raises the failure of the response, unless it is reported in the response itself.

        :raises GatewayError: it is not.
        """
        failure = self.fault or self.error
        if failure is not None and not self._is_in_band(failure):
            raise failure

    def _is_in_band(self, failure: Exception) -> bool:
        """Whether *failure* is reported in the response: a stream's once it has begun, else once a tool was called,
        unless it is a guard's, which lets nobody have any of it."""
        if self.run.outlet is not None:
            return self.run.emitter.begun
        return self.run.ran and not isinstance(failure, ContentBlocked | GuardUnavailable)

    async def _worked(self) -> None:
        """Walks to the end. A failure ends the response, or is kept where the client has nothing of it."""
        run = self.run
        try:
            with anyio.move_on_after(run.until - clock()) as scope:
                await self._walked()
            if scope.cancelled_caught:
                await self._fail(UpstreamTimeout("The response took longer than allowed."))
        except ContentBlocked as error:
            await self._blocked(error)
        except GatewayError as error:
            await self._fail(error)
        except Exception as error:
            self.fault = error
            run.job.warn([f"hosted tools: {type(error).__name__}"])
            await self._fail(GatewayFault("The gateway failed to work on this response."))
        finally:
            run.begun.set()
            if run.outlet is not None:
                run.outlet.end()

    async def _blocked(self, error: ContentBlocked) -> None:
        """Ends the response where it stands: a guard has refused the arguments or the result of a tool."""
        self.error = detached(error)
        if self._is_in_band(error):
            self.run.rewriter.cut_off()
            await self._end("content_filter", early=True)

    async def _fail(self, error: GatewayError) -> None:
        self.error = detached(error)
        if not self._is_in_band(error):
            return
        if self.run.job.trace is not None:
            self.run.job.trace.failed(error)
        self.run.rewriter.cut_off()
        usage = self.run.rewriter.usage
        self.run.emitter.usage(usage, usage)
        self.run.emitter.fail(error)
        await self.run.flush(last=True)

    async def reply(self) -> Reply:
        """Returns the reply as far as it has come; its provider is known even where no upstream has answered yet."""
        run, first = self.run, self.chain.first
        candidate = self.chain.answerer or await resolve(run.target, run.job)
        provider = provider_of(run.target, run.job).name
        model = run.target.model or run.job.request.model
        made = Reply(
            status=200,
            raw_headers=self._headers(provider, model),
            provider=provider,
            model=model,
            attempts=0,
            body=None if run.outlet is not None else run.reader.final(),
            stream=run.outlet,
            candidate=candidate,
            response_id=None if run.outlet is not None else run.id,
            remembered=lambda: encode(run.remembered),
        )
        if first is not None:
            made.provider, made.model, made.attempts, made.labels = (
                first.provider, first.model, first.attempts, first.labels
            )  # fmt: skip
        return made

    def _headers(self, provider: str, model: str | None) -> Headers:
        left_out = [path for plan in self.run.plans[:1] for path in plan.left_out]
        first = self.chain.first
        if first is None:
            kind = [STREAM_TYPE, *STREAM_HEADERS] if self.run.outlet is not None else [JSON_TYPE]
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
        async with self.run.sessions:
            await open_servers(self.run)
            pairs = await self._resumed()
            replay = self.chain.replay()
            replay.round_items += pairs
            await self._rounds(replay, resumed=bool(pairs))

    async def _resumed(self) -> list[Json]:
        """Calls what the client has approved, without asking the model: the calls and their outputs."""
        run, approved = self.run, await take_approved(self.run)
        if not approved:
            return []
        await emit_lists(run, run.plans[0].upstream)
        round = begin_approved(run, approved)
        outputs = await run_calls(run, round)
        return [*(call_of(call) for call in round.calls), *outputs]

    async def _rounds(self, replay: Replay, resumed: bool) -> None:
        """Asks the upstream and runs the tools it calls, round by round.

        :raises GatewayError: a round has failed.
        """
        run, number = self.run, 1 if resumed else 0
        most = run.job.setup.limits.tool_rounds
        while True:
            last = number >= most or (number > 0 and run.call_limits.spent)
            left = self.chain.tokens_left()
            if left is not None and left < LEAST and number:
                return await self._end("max_output_tokens", early=True)
            round = await self._round(number, last=last, left=left, listed=resumed)
            if round.failure is not None or round.status == "failed":
                raise round.failure or UpstreamProtocolError("The upstream's response failed.")
            if round.status != "completed":
                run.rewriter.cut_off()
                return await self._end(round.reason if round.reason in REASONS else None, early=True)
            outputs = await run_calls(run, round)
            waits = [call for call in round.calls if call.approves]
            for call in waits:
                request_approval(run, call, round.number)
            if not round.calls or waits or round.client_calls or last:
                return await self._end(None)
            replay.round_items += [*round.output, *outputs]
            replay.latest = outputs
            number += 1

    async def _end(self, reason: Any, *, early: bool = False) -> None:
        emitter, usage = self.run.emitter, self.run.rewriter.usage
        emitter.usage(usage, usage)
        await self.run.flush()
        if early:
            emitter.incomplete(reason)
        else:
            emitter.complete(int(time.time()))
        await self.run.flush(last=True)

    # One round...

    async def _round(self, number: int, *, last: bool, left: int | None, listed: bool) -> Round:
        run = self.run
        trace = None if run.job.trace is None else RoundTrace(run.job.trace, first=self.chain.first is None)
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
        run = self.run
        try:
            is_first = self.chain.first is None
            plan = self.chain.answered(reply)
            alone, native = run.body.get("parallel_tool_calls") is False, plan.upstream.native
            run.rewriter.begin(plan.shown, plan.functions, native=native, last=last, alone=alone)
            if is_first and not listed:
                await emit_lists(run, plan.upstream)
            if reply.stream is not None:
                await self._read(reply)
            else:
                run.rewriter.whole(await parsed(reply.body or b"null"))
        finally:
            with anyio.CancelScope(shield=True):
                await reply.aclose()
        if run.rewriter.round.status is None and run.rewriter.round.failure is None:
            raise UpstreamProtocolError("The upstream's stream ended without a response.")
        return run.rewriter.round

    async def _read(self, reply: Reply) -> None:
        while data := await reply.next():
            await self.run.give(await fed(self.run.reader, data))
