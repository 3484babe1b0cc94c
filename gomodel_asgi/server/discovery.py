"""The models that upstreams list themselves: asked for under the house's keys, kept in this process, and renewed
beside the requests that find them out of date."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextvars import Context
from functools import partial

import anyio

from ..deadline import clock
from ..dialects.model_list import ListedModel
from ..errors import GatewayError
from ..exchange.job import Job, Setup
from ..providers.provider import Provider
from ..settings import KIB
from ..tasks import Task, Tasks, loop_token
from ..threads import beside
from ..upstream.listed_models import DEADLINE, listed_models

FIRST_WAIT = 2.0  # seconds that requests wait for a list that was never read
PAUSE = 30.0  # seconds until a list that could not be read is asked for again; `discover`, if that is less
FAREWELL = 5.0  # seconds that what is cancelled has to end


class NotListed(Exception):
    """The upstream gave no list; the message says what it did instead."""


class KnownList:
    """What is known of the models of one provider."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.every = provider.discover or math.inf
        self.models: Mapping[str, int] | None = None
        """When each was made, by name, in order; None: it was never read."""
        self.problem: str | None = None
        self.due = -math.inf
        """When it is to be asked for again."""
        self.waits_until = -math.inf
        self.tried = False
        """Whether an attempt has ended: from then on nobody waits for it."""
        self.reading: dict[object, Task] = {}
        """What asks for it, by event loop: no loop can wait for another's."""

    def begin(self, setup: Setup, tasks: Tasks) -> None:
        """Has it asked for, if it is due and nobody does so already."""
        loop, now = loop_token(), clock()
        if loop in self.reading or (self.tried and now < self.due):
            return
        self.waits_until = now + FIRST_WAIT
        self.due = now + 2 * DEADLINE + self._pause()  # for other loops, should this one end meanwhile
        # In a context of its own: the list is everybody's, so nothing of whoever asked first may be in it.
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

        Lists that are due are asked for in the background. Only for those that were never read the request waits, all
        in all `FIRST_WAIT` seconds at the most. Of what could not be read its observers are warned.
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
        """Ends what this event loop is asking for."""
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
