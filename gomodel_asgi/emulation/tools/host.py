"""The way in: whether a request has anything to do with the host's tools, and its answer if it has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import anyio
from msgspec import structs

from ...exchange.job import Job
from ...exchange.reply import Reply
from ...history.continuation import Recalled
from ...history.recorder import Recorder
from ...history.turns import Line
from ...routing.request import Target
from ...upstream.chain import Exchange
from .declarations import Toolbox
from .loop import Loop
from .memory import Remembered, Replay, answers_in, has_loose, readable, remembered_of, replayed
from .plan import hosted
from .request import (
    Candidate,
    are_ours,
    candidates_of,
    labels_of,
    lists_known,
    own_items,
    places_of,
    plan_of,
    referred_to,
    said_before,
)
from .source import Json
from .work import FAREWELL, Work


class HostTools:
    """Answers requests that declare tools which the host runs, or continue what such tools have said."""

    def __init__(self, toolbox: Toolbox, recorder: Recorder) -> None:
        self.toolbox = toolbox
        self.recorder = recorder
        self.records = recorder.records
        self.secret = self.records.store.secret or os.urandom(32)

    async def answer(self, job: Job, target: Target) -> Reply:
        """The reply of *target*, or of one of its fallbacks, in as many rounds as the model asks for.

        :raises GatewayError: nothing answered, or the request cannot be answered as it is.
        :raises LookupError: the policy named an unknown provider.
        """
        if job.request.operation != "create":
            return await Exchange(job, target).run()
        chain = candidates_of(job, target, self.toolbox)
        wants = self._wants(chain)
        own, before = own_items(job), said_before(job)
        mentioned = [*before, *own, *referred_to(job)]
        if not wants and not are_ours(mentioned) and not has_loose(before):
            return await Exchange(job, target).run()
        known = await remembered_of(job, mentioned)
        if not wants:
            return await Exchange(continuing(job, known, own, before), target).run()
        work = Work(self.toolbox, job, target, chain, labels_of(chain, self.toolbox), known, own, before, self.secret)
        again = partial(_again, work)
        loop = Loop(work, again)
        if job.stream:
            return await loop.streamed(self.recorder.tasks)
        try:
            return await loop.whole()
        except BaseException:
            if work.cancel():
                await self._keep(job, loop)
            raise

    async def _keep(self, job: Job, loop: Loop) -> None:
        """Keep a response whose client has left, as far as it had come."""
        with anyio.move_on_after(FAREWELL, shield=True):
            if self.records.keeps:
                reply = await loop.reply()
                await self.recorder.learn(job, reply)
                if reply.before_end is not None:
                    await reply.before_end()

    async def replayed(self, job: Job) -> Job:
        """*job* with what the model had of hosted tools in place of their items.

        :raises StoreUnavailable: the store does not answer.
        """
        own, before = own_items(job), said_before(job)
        mentioned = [*before, *own, *referred_to(job)]
        if not are_ours(mentioned):
            return job
        known = await remembered_of(job, mentioned)
        return continuing(job, known, own, before)

    def prepared(self, job: Job, target: Target) -> Target:
        """*target* as it is asked where no tool may run: with the functions that stand for tools which run here. Those
        of MCP servers are among them as far as nobody has to be asked for them: the host's own functions.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        chain = candidates_of(job, target, self.toolbox)
        lists = lists_known(chain, self.toolbox)
        plans = [plan_of(one, lists, self.toolbox, keeps=False) for one in chain]
        made = [
            structs.replace(
                one.target,
                params={**(one.target.params or {}), "tools": [*plan.tools] or None, "tool_choice": None}
                if plan.wants
                else one.target.params,
                tools=(),
                fallbacks=(),
            )
            for one, plan in zip(chain, plans, strict=True)
        ]
        return structs.replace(made[0], fallbacks=tuple(made[1:]))

    def wants(self, job: Job, target: Target) -> bool:
        """Whether anything that the request declares is the host's, at any Target of the chain: then it is answered
        here, in rounds.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        return self._wants(candidates_of(job, target, self.toolbox))

    def _wants(self, chain: Sequence[Candidate]) -> bool:
        return any(any(hosted(one.body, one.declared, self.toolbox, one.upstream)) for one in chain)

    def places(self, job: Job, target: Target) -> list[dict[str, str]]:
        """Where the declared tools would run, for each Target of the chain: `here`, `upstream` or `nowhere`.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        return [places_of(one, self.toolbox) for one in candidates_of(job, target, self.toolbox)]

    def shown(self, job: Job, target: Target) -> dict[str, Json]:
        """Returns the declarations that run here whoever of the chain answers, by path, without their credentials.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        found: dict[str, Json] | None = None
        for one in candidates_of(job, target, self.toolbox):
            here, _ = hosted(one.body, one.declared, self.toolbox, one.upstream)
            found = {each.path: each.shown for each in here if found is None or each.path in found}
        return found or {}


def _again(work: Work) -> Job:
    """The request of *work* as its rounds ask it."""
    envelope = work.job.request.envelope
    # Each Target of the chain gets tools of its own; what the client's say of a container binds nobody.
    members = {name: raw for name, raw in envelope.members.items() if name != "tools"}
    request = structs.replace(work.job.request, envelope=envelope.with_members(members))
    job = structs.replace(work.job, request=request)
    return continuing(job, work.known, work.own, work.before)


def continuing(
    job: Job,
    known: Mapping[str, Remembered],
    own: Sequence[Any],
    before: Sequence[Json],
) -> Job:
    """*job* with the items of our tools as the model had them, as far as they are *known*, by id."""
    answers = answers_in([*before, *own])
    base = job.continuation
    if isinstance(base, Recalled):
        base = base.changed(partial(_changed, known=known, answers=answers), known)
    twice = frozenset(str(item.get("id")) for item in before)
    transform = partial(replayed, known=known, answers=answers, twice=twice)
    return structs.replace(job, continuation=Replay(job.request.envelope, base, transform))


def _changed(line: Line, known: Mapping[str, Remembered], answers: Mapping[str, Any]) -> Line:
    items = replayed(line.items, known, answers)
    is_ours = any(item.get("id") in known for item in line.items)
    return Line(readable(items) if is_ours else items, line.account, line.type)
