"""`GET {prefix}/models` and `/models/{name}`: which models a caller may name, in OpenAI's form.

The policy is asked first, with operation `"models"` and no model, because it is where a host says who may call at all:
what it refuses is refused here too. That it finds no model in the request is no refusal. Its Target is not used, and
no upstream is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec

from ..errors import InvalidRequest, PolicyFailed, UnknownModel
from ..exchange.job import Job, Setup
from ..exchange.reply import Reply
from ..pipeline import Inbound, answer_of, decide, job_of
from ..routing.registry import Registry
from ..routing.request import RoutingRequest
from ..threads import awaitable

ModelsOf = Callable[[RoutingRequest], Iterable[str] | Awaitable[Iterable[str]]]
"""The names that a caller may use as `model`. A plain function runs in a worker thread, as a plain policy does."""

PATTERN = frozenset("*?[")
UNKNOWN_TIME = 0  # `created` is required in OpenAI's form, and no configuration says when a model was made
OURS = "gateway"  # who owns a name that no provider's patterns match: an alias that the policy knows
TYPE = (b"content-type", b"application/json")


async def list_models(
    setup: Setup, inbound: Inbound, tenant: str | None, given: ModelsOf | None, name: str | None
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
    names = _exact(setup.registry) if given is None else await _given(job, given)
    entries = [_entry(each, setup.registry) for each in names]
    if name is None:
        return _reply({"object": "list", "data": entries})
    found = next((entry for entry in entries if entry["id"] == name), None)
    if found is None:
        raise UnknownModel
    return _reply(found)


def _exact(registry: Registry) -> list[str]:
    """Returns the models that providers name, each once; a pattern names none."""
    patterns = (pattern for provider in registry.by_name.values() for pattern in provider.models)
    return list(dict.fromkeys(pattern for pattern in patterns if PATTERN.isdisjoint(pattern)))


async def _given(job: Job, given: ModelsOf) -> list[str]:
    names = await answer_of(job, awaitable(given))
    try:
        return list(dict.fromkeys(map(_checked, names)))
    except TypeError as error:
        raise PolicyFailed("The gateway could not list its models.") from error


def _checked(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"`models` must give names; it gave {type(name).__name__}.")
    return name


def _entry(name: str, registry: Registry) -> dict[str, Any]:
    owner = registry.serving(name)
    owned_by = OURS if owner is None else owner.name
    return {"id": name, "object": "model", "created": UNKNOWN_TIME, "owned_by": owned_by}


def _reply(value: Any) -> Reply:
    body = msgspec.json.encode(value)
    return Reply(status=200, raw_headers=[TYPE], provider="", model=None, attempts=0, body=body)
