"""`GET {prefix}/models` and `/models/{name}`: which models a caller may name, in OpenAI's form.

The policy is asked first, with operation `"models"` and no model, because it is where a host says who may call at all:
what it refuses is refused here too. That it finds no model in the request is no refusal. Its Target is not used.

Listed are, each once and in this order, what the providers name in full, what the policy does (`names_of`),
and what upstreams list themselves, of providers that have `discover`. A function of the host's replaces all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import msgspec

from ..errors import InvalidRequest, PolicyFailed, UnknownModel
from ..exchange.job import Job, Setup
from ..exchange.reply import Reply
from ..pipeline import Inbound, answer_of, decide, job_of
from ..providers.provider import Provider, is_pattern
from ..routing.policy import names_of
from ..routing.request import Registry, RoutingRequest
from ..threads import awaitable
from .discovery import Discovery

Offered = str | Mapping[str, Any]
ModelsOf = Callable[[RoutingRequest], Iterable[Offered] | Awaitable[Iterable[Offered]]]
"""The models that a caller may use: names, or mappings with the name as `id` and further members (`created`,
`owned_by`, or of the host's own) as they are to be listed. A plain function runs in a worker thread, as a plain policy
does."""

Entries = dict[str, dict[str, Any]]
UNKNOWN_TIME = 0  # `created` is required in OpenAI's form, and no configuration says when a model was made
OURS = "gateway"  # who owns a name that no provider's patterns match: an alias that the policy knows
TYPE = (b"content-type", b"application/json")


async def list_models(
    setup: Setup, inbound: Inbound, tenant: str | None, given: ModelsOf | None, discovery: Discovery, name: str | None
) -> Reply:
    """Returns the list of models, or the one called *name*.

    :raises GatewayError: the policy, or *given*, refuses; or there is no such model.
    """
    job = job_of(setup, inbound, tenant)
    if job.trace is not None:
        job.trace.arrived(tenant, None, False, inbound.hint, 0)
    try:
        await decide(job)
    except (InvalidRequest, UnknownModel) as error:
        if error.param not in (None, "model"):
            raise
    entries = await _known(job, discovery) if given is None else await _given(job, given)
    if name is None:
        return _reply({"object": "list", "data": [*entries.values()]})
    if name not in entries:
        raise UnknownModel
    return _reply(entries[name])


async def _known(job: Job, discovery: Discovery) -> Entries:
    registry = job.setup.registry
    named: Iterable[str] = await answer_of(job, partial(names_of, job.setup.ask))
    listed = await discovery.known(job)
    entries: Entries = {}
    for name in (*_exact(registry), *named):
        owner = registry.serving(name)
        created = UNKNOWN_TIME if owner is None else listed.get(owner.name, {}).get(name, UNKNOWN_TIME)
        entries.setdefault(name, _entry(name, owner, created))
    for provider_name, models in listed.items():
        provider = registry.by_name[provider_name]
        for name, created in models.items():
            reached = _reached_by(name, provider, registry)
            entries.setdefault(reached, _entry(reached, registry.serving(reached) or provider, created))
    return entries


def _exact(registry: Registry) -> Iterator[str]:
    """Yields the models that providers name; a pattern names none."""
    for provider in registry.by_name.values():
        yield from (name for name in provider.models if not is_pattern(name))


def _reached_by(name: str, provider: Provider, registry: Registry) -> str:
    """Returns what a caller writes to reach the model *name* of *provider*: where no pattern leads to it, and the
    provider is not the only one, the name with a hint before it."""
    return name if provider.models or registry.only is provider else f"{provider.name}/{name}"


async def _given(job: Job, given: ModelsOf) -> Entries:
    """Returns the models that the host's function gives.

    :raises PolicyFailed: it gave what is no list of models.
    """
    offered = await answer_of(job, awaitable(given))
    entries: Entries = {}
    try:
        if isinstance(offered, str | Mapping):
            raise TypeError("`models` must give a list.")
        for each in offered:
            name, members = _checked(each)
            entries.setdefault(name, {**_entry(name, job.setup.registry.serving(name), UNKNOWN_TIME), **members})
        msgspec.json.encode(entries)
    except (TypeError, ValueError, RecursionError) as error:
        raise PolicyFailed("The gateway could not list its models.") from error
    return entries


def _checked(offered: Any) -> tuple[str, Mapping[str, Any]]:
    """Returns the name, and what else the host says of it.

    :raises TypeError: it has no name.
    """
    name = offered.get("id") if isinstance(offered, Mapping) else offered
    if not isinstance(name, str):
        raise TypeError(f"`models` must give names, or mappings with an `id`; it gave {type(offered).__name__}.")
    return name, {**offered, "object": "model"} if isinstance(offered, Mapping) else {}


def _entry(name: str, owner: Provider | None, created: int) -> dict[str, Any]:
    owned_by = OURS if owner is None else owner.name
    return {"id": name, "object": "model", "created": created, "owned_by": owned_by}


def _reply(value: Any) -> Reply:
    body = msgspec.json.encode(value)
    return Reply(status=200, raw_headers=[TYPE], provider="", model=None, attempts=0, body=body)
