"""Random tenants, ids and operations against a model: no tenant ever sees, changes or removes what is another's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gomodel_asgi.history.ownership import OWNERS, Owner, Ownership
from gomodel_asgi.history.tenancy import Tenancy
from gomodel_asgi.stores import MemoryStore

T = TypeVar("T")

# Few enough that they meet, and chosen to be mistaken for each other.
TENANTS = st.sampled_from([None, "", "a", "b", "None", "a\0", "a:b"])
IDS = st.sampled_from(["a", "b", "resp_1", "resp_2", "conv_1", "a:b"])
LATER = st.sampled_from([1.0, 40.0, 100.0])

TTL = 100.0


class Tenants(RuleBasedStateMachine):
    """The model is a dict from (tenant, id) to the owner and the time when it expires."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.store = MemoryStore(clock=lambda: self.now, ttl=TTL)
        # Two workers on one store.
        self.workers = [Ownership(self.store), Ownership(self.store)]
        self.model: dict[tuple[str | None, str], tuple[Owner, float]] = {}
        self.written = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.runner.close()

    def expected(self, tenant: str | None, id: str) -> Owner | None:
        owner, expires = self.model.get((tenant, id), (None, 0.0))
        return owner if expires > self.now else None

    @rule(worker=st.integers(0, 1), tenant=TENANTS, id=IDS)
    def remember(self, worker: int, tenant: str | None, id: str) -> None:
        self.written += 1
        owner = Owner(f"provider-of-{tenant!r}", None, "", float(self.written))
        assert self.run(self.workers[worker].remember(tenant, id, owner))
        self.model[tenant, id] = owner, self.now + TTL

    @rule(worker=st.integers(0, 1), tenant=TENANTS, id=IDS)
    def find(self, worker: int, tenant: str | None, id: str) -> None:
        assert self.expected(tenant, id) == self.run(self.workers[worker].find(tenant, id))

    @rule(worker=st.integers(0, 1), tenant=TENANTS, id=IDS)
    def forget(self, worker: int, tenant: str | None, id: str) -> None:
        there = self.expected(tenant, id) is not None
        assert there is self.run(self.workers[worker].forget(tenant, id))
        self.model.pop((tenant, id), None)

    @rule(tenant=TENANTS)
    def forget_tenant(self, tenant: str | None) -> None:
        mine = [key for key in self.model if key[0] == tenant]
        alive = sum(self.expected(*key) is not None for key in mine)
        assert alive == self.run(Tenancy(self.store).forget(tenant, [OWNERS]))
        for key in mine:
            del self.model[key]

    @rule(seconds=LATER)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def every_tenant_has_exactly_its_own(self) -> None:
        async def check() -> None:
            tenancy = Tenancy(self.store)
            for tenant in {tenant for tenant, _ in self.model}:
                mine = {await tenancy.key(tenant, id) for (whose, id) in self.model if whose == tenant}
                async for key in self.store.scan(OWNERS, await tenancy.prefix(tenant)):
                    assert key in mine

        self.run(check())


Tenants.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, database=None)
TestTenants = Tenants.TestCase
