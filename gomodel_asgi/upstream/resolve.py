"""From a Target to a resolved one: its provider, credential, model, dialect and deadlines."""

from __future__ import annotations

from msgspec.structs import replace

from ..dialects.base import Dialect, built_in
from ..errors import GatewayError, PolicyFailed
from ..exchange.job import Job, Setup, provider_of
from ..exchange.resolved_target import ResolvedTarget
from ..providers.provider import Credential, Provider
from ..routing.request import Target
from ..settings import Timeouts
from ..wire.redaction import carried, redactor_of

MOST_CANDIDATES = 1024
"""Pairs of provider and model that are kept; the model is often the client's own word."""


def kept(target: Target, job: Job) -> ResolvedTarget | None:
    """*target* made concrete, where one that says the same has been before."""
    place = _place(target, job)
    found = None if place is None else job.setup.candidates.get(place)
    return None if found is None else replace(found, target=target)


async def resolve(target: Target, job: Job) -> ResolvedTarget:
    """Make *target* concrete.

    :raises PolicyFailed: its key could not be had, or cannot be sent.
    """
    made, place, candidates = await _resolved(target, job), _place(target, job), job.setup.candidates
    if place is not None and made.provider.static_credential is not None:
        if len(candidates) >= MOST_CANDIDATES:
            candidates.clear()
        candidates[place] = made
    return made


def _place(target: Target, job: Job) -> tuple[str, str | None] | None:
    """Under which it is kept; None where it says more than a provider and a model."""
    own = target.api_key is not None or target.headers is not None
    if own or target.timeouts is not None or target.retries is not None or not isinstance(target.provider, str):
        return None
    return target.provider, target.model if target.model is not None else job.request.model


async def _resolved(target: Target, job: Job) -> ResolvedTarget:
    provider, setup = provider_of(target, job), job.setup
    model = target.model if target.model is not None else job.request.model
    dialect = None if provider.native else _dialect(provider)
    timeouts, retries = timeouts_of(target, provider, setup), setup.retries
    for giver in (provider, target):
        retries = giver.retries.over(retries) if giver.retries else retries
    credential = provider.static_credential if target.api_key is None else None
    if credential is None:
        credential = await _credential(provider, target)
    redactor = redactor_of(_secrets(target, provider, credential))
    return ResolvedTarget(target, provider, dialect, credential, model, timeouts, retries, redactor)


def timeouts_of(target: Target, provider: Provider, setup: Setup) -> Timeouts:
    """The gateway's timeouts, with what the provider and then the Target have of their own put over them."""
    timeouts = setup.timeouts
    for giver in (provider, target):
        timeouts = giver.timeouts.over(timeouts) if giver.timeouts else timeouts
    return timeouts


def longest(target: Target, job: Job) -> float:
    """Seconds that the exchange may take in all: the most that any Target of the chain allows.

    :raises LookupError: the policy named an unknown provider.
    """
    return max(timeouts_of(one, provider_of(one, job), job.setup).total for one in target.chain())


def _secrets(target: Target, provider: Provider, credential: Credential) -> tuple[str, ...]:
    """What an upstream could quote back and nobody may be told: the key, and others in headers and query."""
    key = (credential.key,) if credential.key else ()
    return (*key, *(carried(target.headers) if target.headers else ()), *provider.carried)


async def _credential(provider: Provider, target: Target) -> Credential:
    try:
        return await provider.credential(target.api_key)
    except GatewayError:
        raise
    except Exception as error:
        raise PolicyFailed("The gateway has no usable credential for this request.") from error


def _dialect(provider: Provider) -> Dialect:
    return built_in(provider.dialect) if isinstance(provider.dialect, str) else provider.dialect
