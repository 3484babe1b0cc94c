"""What the policy would do with a request, and what would become of it then; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .errors import GatewayError
from .exchange.job import Job, Setup, provider_of
from .pipeline import Inbound, decide, job_of
from .providers.provider import Provider
from .routing.target import Target


@dataclass(frozen=True, slots=True)
class Candidate:
    """One upstream that a request could reach: where, with which model, and *why* it stands where it stands. *tools*
    says of each hosted tool that is declared (`web_search`, `mcp:crm`) where it would run: `here`, `upstream`, or
    `nowhere`; empty where the gateway runs none."""

    provider: str
    model: str | None
    url: str
    dialect: str
    why: str
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the policy would do with a request. *candidates* stand in the order in which they would be asked; *error*
    is what the client would get instead, if the policy refuses. *guards* names those that would be asked about it, or
    about its answer."""

    model: str | None
    hint: str | None
    target: Target | None
    candidates: tuple[Candidate, ...] = ()
    error: GatewayError | None = None
    guards: tuple[str, ...] = ()


Places = Callable[[Job, Target], Sequence[Mapping[str, str]]]
"""Where the hosted tools that a request declares would run, for each Target of a chain."""


async def explained(setup: Setup, inbound: Inbound, tenant: str | None, places: Places) -> Explanation:
    """The Target that the policy names for *inbound*, and each that would be asked after it.

    :raises GatewayError: the body is malformed.
    :raises LookupError: the policy named an unknown provider, or added a tool that nobody here runs.
    """
    job = job_of(setup, inbound, tenant)
    if setup.state.names(job):
        await setup.state.recall(job)
    model, hint = job.request.model, job.request.provider
    try:
        target = await decide(job)
    except GatewayError as error:
        return Explanation(model, hint, None, error=error)
    where = places(job, target)
    candidates = tuple(
        replace(candidate(one, provider_of(one, job), model, number), tools=where[number])
        for number, one in enumerate(target.chain())
    )
    guards = () if setup.guards is None else setup.guards.names_for(job)
    return Explanation(model, hint, target, candidates, guards=guards)


def candidate(target: Target, provider: Provider, model: str | None, number: int) -> Candidate:
    """Returns the *number*th Target of a chain as it is explained; *model* is the client's."""
    why = "the policy's Target" if number == 0 else f"fallback {number}, if all before it fail"
    model = model if target.model is None else target.model
    return Candidate(provider.name, model, provider.address, provider.dialect_name, why)
