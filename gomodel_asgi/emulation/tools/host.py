"""The way in: whether a request has anything to do with the host's tools, and its answer if it has."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from msgspec import structs

from ...dialects.base import NOTHING_SHOWN as NOTHING, ShownFunctions
from ...exchange.job import Job
from ...exchange.reply import Reply
from ...routing.target import Target
from ...seams.transport import Transport
from ...tools import HostTool, McpTool, Server, Tool
from ...upstream.chain import Exchange
from .declarations import Toolbox
from .functions import FunctionSource
from .plan import Candidate, Plan, hosted, plan_of
from .remembered import remembered_of
from .remote import client_named, source_of
from .replay import continuing, has_loose, see
from .request import (
    Places,
    are_ours,
    candidates_of,
    labels_of,
    lists_known,
    own_items,
    places_of,
    referred_to,
    said_before,
)
from .results import passed_list
from .run import Run
from .seams import Json


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
                toolbox.client_named = client_named(tool.remote, transport)
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
    """Answers requests that declare tools which the host runs, or continue what such tools have said. *secret* signs
    what comes back from a client or a store; *complete* works on a response, round by round (`loop.complete`)."""

    def __init__(self, toolbox: Toolbox, secret: bytes, complete: Callable[[Run], Awaitable[Reply]]) -> None:
        self.toolbox = toolbox
        self.secret = secret or os.urandom(32)
        self.complete = complete

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
        labels = labels_of(chain, self.toolbox)
        return await self.complete(Run(self.toolbox, job, target, chain, labels, known, own, before, self.secret))

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
        return any(any(hosted(one, self.toolbox)) for one in chain)

    def shown(self, job: Job, target: Target) -> dict[str, Json]:
        """Returns the declarations that run here whoever of the chain answers and whatever the client has given, by
        path, without their credentials. A server that only the client names is none of them.

        :raises InvalidRequest: a declaration is malformed.
        :raises LookupError: the policy named an unknown provider.
        """
        found: dict[str, Json] | None = None
        for one in candidates_of(job, target, self.toolbox):
            here, _ = hosted(one, self.toolbox)
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
