"""From a Target to a resolved one: its provider, credential, model, dialect and deadlines."""

from __future__ import annotations

from msgspec.structs import replace

from ..dialects.base import Dialect, built_in
from ..errors import GatewayError, PolicyFailed
from ..exchange.job import Job, Setup, provider_of
from ..providers.provider import Credential, Provider
from ..routing.target import ResolvedTarget, Target
from ..settings import Timeouts
from ..wire.redaction import carried, redactor_of

MOST_CANDIDATES = 1024
"""Pairs of provider and model that are kept; the model is often the client's own word."""


def kept(target: Target, job: Job) -> ResolvedTarget | None:
    """*target* made concrete, where one that says the same has been before."""
    if target.api_key is not None or target.headers is not None or not isinstance(target.provider, str):
        return None
    if target.timeouts is not None or target.retries is not None:
        return None
    model = target.model if target.model is not None else job.request.model
    found = job.setup.candidates.get((target.provider, model))
    if found is not None and job.setup.guards is not None and found.provider is not provider_of(target, job):
        return None  # guards that ask for some requests alone have each provider in two forms
    if found is None or (target.params is None and target.labels is None):
        return found
    return replace(found, target=target)


async def resolve(target: Target, job: Job) -> ResolvedTarget:
    """Resolves *target*. A key that a function gives is asked for once for a *job*.

    :raises PolicyFailed: its key could not be had, or cannot be sent.
    """
    made, candidates = await _resolved(target, job), job.setup.candidates
    job.resolved = made
    own = target.api_key is not None or target.headers is not None
    own = own or target.timeouts is not None or target.retries is not None
    if isinstance(target.provider, str) and not own and made.provider.static_credential is not None:
        if len(candidates) >= MOST_CANDIDATES:
            candidates.clear()
        # Without what else this Target says (what it falls back on, labels, members of the body): others say others.
        candidates[target.provider, made.model] = replace(made, target=Target(target.provider, model=made.model))
    return made


async def _resolved(target: Target, job: Job) -> ResolvedTarget:
    provider, setup = provider_of(target, job), job.setup
    model = target.model if target.model is not None else job.request.model
    dialect = None if provider.native else dialect_of(provider)
    timeouts, retries = timeouts_of(target, provider, setup), setup.retries
    for giver in (provider, target):
        retries = giver.retries.over(retries) if giver.retries else retries
    credential = provider.static_credential if target.api_key is None else None
    known = job.resolved
    if credential is None and known is not None and _is_paid_alike(known, provider, target):
        credential = known.credential
    if credential is None:
        credential = await _credential(provider, target)
    redactor = redactor_of(_secrets(target, provider, credential))
    key = None if target.api_key is None else credential.key
    return ResolvedTarget(target, provider, dialect, credential, model, timeouts, retries, redactor, key)


def _is_paid_alike(known: ResolvedTarget, provider: Provider, target: Target) -> bool:
    """Whether the credential of *known* is that of *target*, at *provider*, too."""
    return known.provider is provider and known.target.api_key is target.api_key


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
    """Returns what an upstream could quote and nobody may see: the key, and other secrets in headers and query."""
    key = (credential.key,) if credential.key else ()
    return (*key, *(carried(target.headers) if target.headers else ()), *provider.carried)


async def _credential(provider: Provider, target: Target) -> Credential:
    """Returns what the request is authorized with.

    :raises PolicyFailed: the host's function for it failed.
    """
    try:
        return await provider.credential(target.api_key)
    except GatewayError:
        raise
    except Exception as error:
        raise PolicyFailed("The gateway has no usable credential for this request.") from error


def dialect_of(provider: Provider) -> Dialect:
    """Returns the dialect of *provider*, which does not speak the Responses API itself."""
    return built_in(provider.dialect) if isinstance(provider.dialect, str) else provider.dialect
