"""The concurrency limits of one gateway: places for each provider and each tenant that has a limit.

A tenant has two of the same limit. One counts its requests, from their arrival to their last byte. The other counts
what is at work for it at an upstream, in the background too. Background work waits at the second only, so that requests
which need no upstream (to look at such work, to cancel it) get through meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

import anyio
from anyio.lowlevel import RunVar

from ..errors import Overloaded
from ..providers.provider import Provider
from ..settings import Limits

# Concurrency limits: so many at a time, a few more waiting, the rest turned away at once.
#
# Those who wait stand in lanes, one for each tenant, which are served in turn: who sends a flood waits behind itself.
# Where all waiting room is taken, who has nobody waiting yet displaces the newest of a lane with several.


class Allowance:
    """Counts what each tenant has at a time of something. None is a tenant like others."""

    def __init__(self) -> None:
        self.taken: dict[str | None, int] = {}

    def take(self, tenant: str | None, limit: int | None) -> bool:
        """Returns whether the tenant had fewer than *limit* (None: any number), and has one more now. Pair with
        `give_back`."""
        taken = self.taken.get(tenant, 0)
        if limit is not None and taken >= limit:
            return False
        self.taken[tenant] = taken + 1
        return True

    def give_back(self, tenant: str | None) -> None:
        """Gives one request's share back."""
        left = self.taken.pop(tenant) - 1
        if left:
            self.taken[tenant] = left


class Waiter:
    """A request that waits: *turn* is set when the wait is over, *displaced* if it is refused then."""

    __slots__ = ("displaced", "lane", "patient", "turn")

    def __init__(self, lane: Hashable, patient: bool) -> None:
        self.turn = anyio.Event()
        self.lane = lane
        self.patient = patient
        self.displaced = False


class ConcurrencyLimit:
    """Lets *limit* requests be under way, and as many wait. *empty* is called when nobody is left."""

    def __init__(self, limit: int, what: str, empty: Callable[[], object] = lambda: None) -> None:
        self.limit = limit
        self.what = what
        self.empty = empty
        self.inside = 0
        self.lanes: OrderedDict[Hashable, deque[Waiter]] = OrderedDict()
        self.crowded: dict[Hashable, None] = {}
        """Lanes in which several wait who can be displaced."""
        self.waiting = 0
        """How many wait who count against the limit."""

    async def enter(self, timeout: float, lane: Hashable = None, *, patient: bool = False) -> None:
        """Waits at most *timeout* seconds for a place. Pair with `leave`. A *patient* one is bounded elsewhere: it
        finds room to wait whatever the limit.

        :raises Overloaded: no place came free in time, or too many wait already.
        """
        if self.inside < self.limit:
            self.inside += 1
            return
        if not patient and self.waiting >= self.limit:
            self._make_room(lane)
        waiter = self._joined(Waiter(lane, patient))
        try:
            with anyio.fail_after(timeout):
                await waiter.turn.wait()
        except TimeoutError:
            self._give_up(waiter)
            raise self._full() from None
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.displaced:
            raise self._full()

    def leave(self) -> None:
        """Gives the place to whoever has waited longest in the lane whose turn it is."""
        if not self.lanes:
            self.inside -= 1
            if not self.inside:
                self.empty()
            return
        lane = next(iter(self.lanes))
        waiter = self.lanes[lane][0]
        self._left(waiter)
        if lane in self.lanes:
            self.lanes.move_to_end(lane)
        waiter.turn.set()

    # Waiting...

    def _joined(self, waiter: Waiter) -> Waiter:
        lane = self.lanes.setdefault(waiter.lane, deque())
        lane.append(waiter)
        if not waiter.patient:
            self.waiting += 1
            if len(lane) > 1:
                self.crowded[waiter.lane] = None
        return waiter

    def _left(self, waiter: Waiter) -> None:
        lane = self.lanes[waiter.lane]
        lane.remove(waiter)
        if not waiter.patient:
            self.waiting -= 1
        if len(lane) <= 1:
            self.crowded.pop(waiter.lane, None)
        if not lane:
            del self.lanes[waiter.lane]

    def _make_room(self, lane: Hashable) -> None:
        """Displaces somebody for a request of *lane*, if that has nobody waiting.

        :raises Overloaded: it has, or nobody can be displaced.
        """
        if lane in self.lanes or not self.crowded:
            raise self._full()
        waiter = self.lanes[next(iter(self.crowded))][-1]
        self._left(waiter)
        waiter.displaced = True
        waiter.turn.set()

    def _give_up(self, waiter: Waiter) -> None:
        if not waiter.turn.is_set():
            self._left(waiter)
        elif not waiter.displaced:
            self.leave()  # the place came while we were leaving

    def _full(self) -> Overloaded:
        return Overloaded(f"Too many requests are under way for this {self.what}; try again shortly.")


Held = tuple[ConcurrencyLimit, ...]


class ConcurrencyLimits:
    """Per event loop, since a waiter can only be woken on its own."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # Under a name of its own: earlier releases of anyio tell such variables apart by nothing else.
        self.of_loop: RunVar[dict[Hashable, ConcurrencyLimit]] = RunVar(f"gomodel_asgi_concurrency_limits_{id(self)}")

    async def enter_tenant(self, tenant: str | None, timeout: float) -> Held:
        """Takes a place for a request of the tenant.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = None if tenant is None else self.limits.tenant_concurrency
        return await self._enter("account", tenant, limit, timeout)

    async def enter_work(self, tenant: str | None, timeout: float, *, background: bool = False) -> Held:
        """Takes a place for work at an upstream. What waits in the *background* and what does not take turns.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = None if tenant is None else self.limits.tenant_concurrency
        return await self._enter("account", ("work", tenant), limit, timeout, background, background)

    async def enter_provider(
        self, provider: Provider, tenant: str | None, timeout: float, *, background: bool = False
    ) -> Held:
        """Takes a place at the provider. Tenants that wait take turns.

        :raises Overloaded: none is to be had within *timeout* seconds.
        """
        limit = provider.max_concurrency or self.limits.provider_concurrency
        name, lane = (provider.name, provider.base_url), (tenant, background)
        return await self._enter("provider", name, limit, timeout, lane, background)

    def leave(self, held: Held) -> None:
        """Gives the places in *held* back."""
        for concurrency_limit in held:
            concurrency_limit.leave()

    async def _enter(
        self, what: str, name: Hashable, limit: int | None, timeout: float, lane: Hashable = None, patient: bool = False
    ) -> Held:
        """Enters the limit of that name, if there is a *limit*; it is forgotten when nobody is inside."""
        if limit is None:
            return ()
        try:
            known = self.of_loop.get()
        except LookupError:
            known = {}
            self.of_loop.set(known)
        key = what, name
        concurrency_limit = known.get(key)
        if concurrency_limit is None:
            concurrency_limit = known[key] = ConcurrencyLimit(limit, what, lambda: known.pop(key, None))
        await concurrency_limit.enter(timeout, lane, patient=patient)
        return (concurrency_limit,)
