"""`GET {prefix}/models` and `/models/{name}`: which models a caller may name, in OpenAI's form.

The policy runs first, with operation `"models"` and no model, since it decides who may call at all: what it refuses is
refused here too. That it finds no model in the request is no refusal. Its Target is not used.

Listed are, each once and in this order, what the providers name in full, what the policy does (`names_of`),
and what upstreams list themselves, of providers that have `discover`. A function of the host's replaces all of them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Context
from functools import partial
from typing import Any

import anyio
import msgspec

from ..deadline import clock
from ..dialects.model_list import ListedModel
from ..errors import GatewayError, InvalidRequest, PolicyFailed, UnknownModel
from ..exchange.job import Job, Setup
from ..exchange.reply import Reply
from ..pipeline import Inbound, call_host, decide, job_of
from ..providers.provider import Provider, is_pattern
from ..routing.policy import names_of
from ..routing.request import RoutingRequest
from ..settings import KIB
from ..tasks import Task, Tasks, loop_token
from ..threads import awaitable, beside
from ..upstream.listed_models import DEADLINE, listed_models

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
    setup: Setup, inbound: Inbound, tenant: str | None, name: str | None, given: ModelsOf | None, discovery: Discovery
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
    exact = [name for one in registry.by_name.values() for name in one.models if not is_pattern(name)]
    named: Iterable[str] = await call_host(job, partial(names_of, job.setup.ask))
    listed = await discovery.known(job)
    entries: Entries = {}
    for name in (*exact, *named):
        owner = registry.serving(name)
        created = UNKNOWN_TIME if owner is None else listed.get(owner.name, {}).get(name, UNKNOWN_TIME)
        entries.setdefault(name, _entry(name, owner, created))
    for provider_name, models in listed.items():
        provider = registry.by_name[provider_name]
        # Where no pattern leads to it, and there are other providers, a caller has to write a hint before its name.
        hint = "" if provider.models or registry.only is provider else f"{provider_name}/"
        for name, created in models.items():
            reached = hint + name
            entries.setdefault(reached, _entry(reached, registry.serving(reached) or provider, created))
    return entries


async def _given(job: Job, given: ModelsOf) -> Entries:
    """Returns the models that the host's function gives.

    :raises PolicyFailed: it gave what is no list of models.
    """
    offered = await call_host(job, awaitable(given))
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
    """Returns the name, and the host's other members of it.

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


# The models that upstreams list themselves: read with the house's keys, kept in this process, and renewed beside the
# requests that find them out of date.


FIRST_WAIT = 2.0  # seconds that requests wait for a list that was never read
PAUSE = 30.0  # seconds until a list that could not be read is read again; `discover`, if that is less
FAREWELL = 5.0  # seconds that what is cancelled has to end


class NotListed(Exception):
    """The upstream gave no list; the message is what it did instead."""


class KnownList:
    """What is known of the models of one provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.every = provider.discover or math.inf
        self.models: Mapping[str, int] | None = None
        """When each was made, by name, in order; None: it was never read."""
        self.problem: str | None = None
        self.due = -math.inf
        """When it is to be read again."""
        self.waits_until = -math.inf
        self.tried = False
        """Whether an attempt has ended: from then on nobody waits for it."""
        self.reading: dict[object, Task] = {}
        """The task that reads it, by event loop: no loop can wait for another's."""

    def begin(self, setup: Setup, tasks: Tasks) -> None:
        """Has it read, if it is due and nobody reads it already."""
        loop, now = loop_token(), clock()
        if loop in self.reading or (self.tried and now < self.due):
            return
        self.waits_until = now + FIRST_WAIT
        self.due = now + 2 * DEADLINE + self._pause()  # for other loops, should this one end first
        # In a context of its own: the list is everybody's, so nothing of the first caller may be in it.
        task = Context().run(tasks.spawn, partial(self._read, setup, loop))
        if not task.over.is_set():  # as where the host's loop starts tasks eagerly
            self.reading[loop] = task

    async def first(self) -> None:
        """Waits until it has been read for the first time, or could not be; for a while at the most."""
        task = self.reading.get(loop_token())
        if task is not None and not self.tried:
            await task.wait(max(0.0, self.waits_until - clock()))

    async def _read(self, setup: Setup, loop: object) -> None:
        due = -math.inf  # for whoever comes after a cancellation
        try:
            self.models = await self._fetch(setup)
            self.problem, self.tried, due = None, True, clock() + self.every
        except Exception as error:
            self.problem, self.tried, due = _problem(error), True, clock() + self._pause()
        finally:
            self.due = due
            self.reading.pop(loop, None)

    async def _fetch(self, setup: Setup) -> Mapping[str, int]:
        """Returns the models that the upstream lists now.

        :raises NotListed: it answered without a list.
        """
        with anyio.fail_after(DEADLINE):
            credential = await self.provider.credential()
        answer = await listed_models(self.provider, credential, setup)
        if answer.models is None:
            raise NotListed(f"It answered {answer.status} without a list of models.")
        return await beside(KIB * len(answer.models), partial(_wanted, self.provider, answer.models))

    def _pause(self) -> float:
        return min(self.every, PAUSE)


class Discovery:
    """The lists of the providers that have `discover`."""

    def __init__(self, providers: Iterable[Provider]) -> None:
        self.lists: dict[Provider, KnownList] = {}
        self.tasks = Tasks()
        self.configure(providers)

    def configure(self, providers: Iterable[Provider]) -> None:
        """Knows *providers* and forgets all others; what is known of an equal one stays."""
        wanted = [one for one in providers if one.discover is not None]
        self.lists = {one: self.lists.get(one) or KnownList(one) for one in wanted}

    async def known(self, job: Job) -> Mapping[str, Mapping[str, int]]:
        """Returns when each model was made (Unix time, or 0), by its provider's name and its own.

        Lists that are due are read in the background. The request waits only for those that were never read, at most
        `FIRST_WAIT` seconds in all. Its observers are warned of those that could not be read.
        """
        if not self.lists:
            return {}
        providers = job.setup.registry.by_name.values()
        lists = [self.lists[one] for one in providers if one.discover is not None and one in self.lists]
        for one in lists:
            one.begin(job.setup, self.tasks)
        for one in lists:
            await one.first()
        job.warn(_warning(one) for one in lists if one.problem is not None or one.models is None)
        return {one.provider.name: one.models for one in lists if one.models is not None}

    async def aclose(self) -> None:
        """Ends what this event loop is reading."""
        self.tasks.cancel()
        await self.tasks.aclose(FAREWELL)


def _wanted(provider: Provider, models: Iterable[ListedModel]) -> Mapping[str, int]:
    """Returns those that the provider's patterns match (all, if it has none), in an order that does not change."""
    found = {one.name: one.created for one in models if not provider.models or provider.serves(one.name)}
    return dict(sorted(found.items()))


def _problem(error: Exception) -> str:
    # Of what the host's own code raised its type only: the text may quote anything, a key included.
    if isinstance(error, GatewayError | NotListed):
        return str(error)
    return f"Its key could not be had, or cannot be sent: {type(error).__name__}."


def _warning(one: KnownList) -> str:
    state = "are not listed" if one.models is None else "are listed as they were before"
    return f"The models of '{one.provider.name}' {state}. {one.problem or 'It has not answered yet.'}"
