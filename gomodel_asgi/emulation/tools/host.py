"""The way in: whether a request has anything to do with the host's tools, and its answer if it has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
from msgspec import structs

from ...dialects.hosted_items import NOTHING_SHOWN as NOTHING, ShownFunctions
from ...errors import ContentBlocked, GuardUnavailable
from ...exchange.job import Job
from ...exchange.reply import Reply
from ...history.continuation import Recalled
from ...history.recorder import Recorder
from ...history.turns import Line
from ...routing.request import Target
from ...seams.transport import Transport
from ...tools import HostTool, McpTool, Server, Tool
from ...upstream.chain import Exchange
from .declarations import Toolbox
from .functions import FunctionSource
from .loop import Loop
from .memory import Remembered, Replay, answers_in, has_loose, readable, remembered_of, replayed
from .passing import passed_list
from .plan import Plan, hosted
from .remote import client_named, source_of
from .request import (
    Candidate,
    Places,
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


def toolbox_of(tools: Iterable[Tool], transport: Transport) -> Toolbox:
    """What the host has configured, looked up by family and label.

    :raises TypeError: something else than a tool is among *tools*, or a server is of no kind that can be opened.
    :raises ValueError: two tools of one family, or two servers of one label; a URL or a header cannot be used.
    :raises ImportError: a server needs the extra `mcp`, which is not installed.
    """
    toolbox = Toolbox(transport)
    for tool in tools:
        if isinstance(tool, HostTool):
            if tool.family in toolbox.hosts:
                raise ValueError(f"tools: {tool.family} is there twice; give it one function.")
            toolbox.hosts[tool.family] = tool
        elif isinstance(tool, McpTool):
            _add_servers(toolbox, tool.servers)
            if tool.remote is not None:
                toolbox.strangers = client_named(tool.remote, transport)
        else:
            raise TypeError(f"tools: {type(tool).__name__} is no tool; make one with tools.web_search and its kin.")
    return toolbox


def _add_servers(toolbox: Toolbox, servers: Mapping[str, Server]) -> None:
    """Adds servers of tools by their labels.

    :raises ValueError: a label is there already.
    """
    for label, server in servers.items():
        if label in toolbox.servers:
            raise ValueError(f"tools: the label {label!r} is there twice; give each server a label of its own.")
        toolbox.servers[label] = server
        toolbox.sources[label] = (
            FunctionSource(label, server.source)
            if isinstance(server.source, tuple)
            else source_of(label, server, toolbox.transport)
        )


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
            return await Exchange(continuing(job, known, own, before, see(chain)), target).run()
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
        """Keeps a response whose client has left, as far as it had come."""
        with anyio.move_on_after(FAREWELL, shield=True), suppress(ContentBlocked, GuardUnavailable):
            if self.records.keeps:
                guards, kept = job.setup.guards, loop.reply()
                reply = await (kept if guards is None else guards.answered(job, kept))
                await self.recorder.record(job, reply)
                if reply.before_end is not None:
                    await reply.before_end()

    async def replayed(self, job: Job, *, sees: bool = False) -> Job:
        """*job* with what the model had of hosted tools in place of their items, images too if it *sees* them.

        :raises StoreUnavailable: the store does not answer.
        """
        own, before = own_items(job), said_before(job)
        mentioned = [*before, *own, *referred_to(job)]
        if not are_ours(mentioned):
            return job
        known = await remembered_of(job, mentioned)
        return continuing(job, known, own, before, sees)

    async def prepared(self, job: Job, target: Target) -> tuple[Job, Target]:
        """*job* and *target* as they are asked where no tool may run: as the first round would ask, with what hosted
        tools gave the model and with the functions that stand for tools which run here. Those of MCP servers are among
        them as far as nobody has to be asked for them: the host's own functions.

        :raises InvalidRequest: a declaration or the `tool_choice` is malformed.
        :raises StoreUnavailable: the store does not answer.
        :raises LookupError: the policy named an unknown provider.
        """
        chain = candidates_of(job, target, self.toolbox)
        known = lists_known(chain, self.toolbox)
        lists = {label: await passed_list(job, label, tools) for label, tools in known.items()}
        plans = [plan_of(one, lists, self.toolbox, keeps=False) for one in chain]
        made = [_prepared(one, plan) for one, plan in zip(chain, plans, strict=True)]
        made[0] = structs.replace(made[0], fallbacks=tuple(made[1:]))

        def shown(target: Target) -> ShownFunctions:
            return next((plan.functions_shown for one, plan in zip(made, plans, strict=True) if one is target), NOTHING)

        job = await self.replayed(job, sees=see(chain))
        return structs.replace(job, shown=shown) if any(plan.shown for plan in plans) else job, made[0]

    def wants(self, job: Job, target: Target) -> bool:
        """Returns whether anything that the request declares is the host's, at any Target of the chain: then it is
        answered here, in rounds.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        return self._wants(candidates_of(job, target, self.toolbox))

    def _wants(self, chain: Sequence[Candidate]) -> bool:
        return any(any(hosted(one.body, one.declared, self.toolbox, one.upstream)) for one in chain)

    def shown(self, job: Job, target: Target) -> dict[str, Json]:
        """Returns the declarations that run here whoever of the chain answers and whatever the client has given, by
        path, without their credentials. A server that only the client names is none of them.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        found: dict[str, Json] | None = None
        for one in candidates_of(job, target, self.toolbox):
            here, _ = hosted(one.body, one.declared, self.toolbox, one.upstream)
            here = [each for each in here if each.family != "mcp" or each.label in self.toolbox.servers]
            found = {each.path: each.shown for each in here if found is None or each.path in found}
        return found or {}


def _prepared(one: Candidate, plan: Plan) -> Target:
    """The Target of *one* as its first round is asked."""
    given = one.target.params
    if plan.wants:
        choice = plan.choice if plan.tools else None
        given = {**(given or {}), "tools": [*plan.tools] or None, "tool_choice": choice}
    return structs.replace(one.target, params=given, tools=(), fallbacks=())


def places(job: Job, target: Target, toolbox: Toolbox) -> list[Places]:
    """Where the declared tools would run, for each Target of the chain; see `places_of`.

    :raises InvalidRequest: a declaration is malformed.
    :raises LookupError: the policy named an unknown provider.
    """
    chain = candidates_of(job, target, toolbox)
    lists = lists_known(chain, toolbox)
    return [places_of(one, job, lists, toolbox) for one in chain]


def _again(work: Work) -> Job:
    """The request of *work* as its rounds ask it."""
    envelope = work.job.request.envelope
    # Each Target of the chain gets tools of its own; what the client's say of a container binds nobody.
    members = {name: raw for name, raw in envelope.members.items() if name != "tools"}
    request = structs.replace(work.job.request, envelope=envelope.with_members(members))
    job = structs.replace(work.job, request=request)
    return continuing(job, work.known, work.own, work.before, see(work.chain))


def continuing(
    job: Job,
    known: Mapping[str, Remembered],
    own: Sequence[Any],
    before: Sequence[Json],
    sees: bool,
) -> Job:
    """*job* with the items of our tools as the model had them, as far as they are *known*, by id; *sees* says that it
    is to have images too."""
    answers = answers_in([*before, *own])
    base = job.continuation
    if isinstance(base, Recalled):
        base = base.changed(partial(_changed, known=known, answers=answers, sees=sees), known)
    twice = frozenset(str(item.get("id")) for item in before)
    transform = partial(replayed, known=known, answers=answers, twice=twice, sees=sees)
    return structs.replace(job, continuation=Replay(job.request.envelope, base, transform))


def see(chain: Sequence[Candidate]) -> bool:
    """Returns whether images in outputs can be given to each Target of *chain*: who of it answers is not known
    before."""
    return all(one.upstream.sees for one in chain)


def _changed(line: Line, known: Mapping[str, Remembered], answers: Mapping[str, Any], sees: bool) -> Line:
    items = replayed(line.items, known, answers, sees=sees)
    is_ours = any(item.get("id") in known for item in line.items)
    return Line(readable(items) if is_ours else items, line.account, line.type)
