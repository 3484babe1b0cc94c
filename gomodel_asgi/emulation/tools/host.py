"""The way in: whether a request has anything to do with the host's tools, and its answer if it has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

from msgspec import structs

from ...exchange.job import Job
from ...exchange.reply import Reply
from ...history.continuation import Continuation
from ...history.records import Records
from ...history.turns import Line
from ...routing.request import Target
from ...tasks import Tasks
from ...upstream.chain import Exchange
from .approvals import Approval, unknown
from .loop import Loop
from .memory import Memory, Remembered, answers_in, told_again
from .plan import runs_here
from .replay import Replay
from .request import Candidate, are_ours, candidates_of, labels_of, own_items, plan_of, referred_to, said_before
from .source import Json
from .toolbox import Toolbox
from .work import Work

USED = "approvals"
"""The collection of the requests for approval that have been answered."""
UNTOLD = b"false"


class HostTools:
    """Answers requests that declare tools which the host runs, or continue what such tools have said."""

    def __init__(self, toolbox: Toolbox, records: Records, tasks: Tasks) -> None:
        self.toolbox = toolbox
        self.records = records
        self.tasks = tasks
        self.memory = Memory(records)
        self.secret = records.store.secret or os.urandom(32)

    async def answer(self, job: Job, target: Target) -> Reply:
        """The reply of *target*, or of one of its fallbacks, in as many rounds as the model asks for.

        :raises GatewayError: nothing answered, or the request cannot be answered as it is.
        :raises LookupError: the policy named an unknown provider.
        """
        if not asks_model(job):
            return await Exchange(job, target).run()
        tenant, chain = job.request.tenant, candidates_of(job, target, self.toolbox)
        wants = self._wanted(chain)
        own, before = own_items(job), said_before(job)
        mentioned = [*before, *own, *referred_to(job)]
        if not wants and not are_ours(mentioned):
            return await Exchange(job, target).run()
        known = await self.memory.of(tenant, mentioned)
        if not wants:
            rebuilt = frozenset(self.toolbox.hosts) - chain[0].upstream.runs
            return await Exchange(continuing(job, known, own, before, rebuilt), target).run()
        work = Work(self.toolbox, job, target, chain, labels_of(chain, self.toolbox), known, own, before)
        again = partial(_again, work)
        return await Loop(work, self.secret, partial(self._consume, tenant), again).reply(self.tasks)

    def runs(self, job: Job, target: Target) -> bool:
        """Whether the request declares what the host runs for one of the chain.

        :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        return asks_model(job) and self._wanted(candidates_of(job, target, self.toolbox))

    def shown(self, job: Job, target: Target) -> dict[str, Json]:
        """The declarations that run here whoever of the chain answers, by path, without their credentials."""
        found: dict[str, Json] | None = None
        for one in candidates_of(job, target, self.toolbox):
            here = [each for each in one.declared if runs_here(each, self.toolbox, one.upstream, beside=True)]
            found = {each.path: each.shown for each in here if found is None or each.path in found}
        return found or {}

    def _wanted(self, chain: Sequence[Candidate]) -> bool:
        """Whether one of *chain* is to be asked with tools that the host runs."""
        if labels_of(chain, self.toolbox):
            return True
        return any(plan_of(one, {}, self.toolbox, keeps=False).wants for one in chain)

    async def _consume(self, tenant: str | None, approval: Approval) -> None:
        """Take the client's word on a request, which counts once.

        :raises InvalidRequest: it has been answered already.
        """
        store = self.records.store
        if not self.records.keeps:
            return
        key = await self.records.tenancy.key(tenant, approval.id)
        if store.atomic:
            if await store.add(USED, key, b"1") is None:
                raise unknown()
        elif await store.get(USED, key) is not None:
            raise unknown()
        else:
            await store.put(USED, key, b"1")


def asks_model(job: Job) -> bool:
    """Whether the request is one that a model answers."""
    envelope = job.request.envelope
    return job.request.operation == "create" and bytes(envelope.members.get("generate", b"")) != UNTOLD


def _again(work: Work) -> Job:
    """The request of *work* as its rounds ask it."""
    families = {one.declared.family for plan in work.plans for one in plan.shown.values()}
    return continuing(work.job, work.known, work.own, work.before, frozenset(families))


def continuing(
    job: Job, known: Mapping[str, Remembered], own: Sequence[Any], before: Sequence[Json], rebuilt: frozenset[str]
) -> Job:
    """*job* with the items of our tools as the model had them: what is *known* of them, by id, else, of the families
    *rebuilt*, what they hold themselves."""
    answers = answers_in([*before, *own])
    base = job.continuation
    if isinstance(base, Continuation):
        base = copy(base)
        base.references = [one for one in base.references if one.kind != "approval" or one.id not in known]
        if base.lines is not None:
            told = [told_again(line.items, known, frozenset(), answers) for line in base.lines]
            base.lines = [Line(items, one.account, one.type) for items, one in zip(told, base.lines, strict=True)]
    transform = partial(told_again, known=known, rebuilt=rebuilt, answers=answers)
    return structs.replace(job, continuation=Replay(job.request.envelope, base, transform))
