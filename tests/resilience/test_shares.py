"""What all tenants share, and how much of it one of them can take: waiting room, turns, retries."""

from __future__ import annotations

import anyio
import pytest

from gomodel_asgi import Limits, Provider
from gomodel_asgi.errors import Overloaded
from gomodel_asgi.resilience.concurrency import ConcurrencyLimit, ConcurrencyLimits, Held
from gomodel_asgi.resilience.retry import MOST_SAVED, MOST_TENANTS, RESERVE, RETRY, RetryBudget

from ..support.driving import TIMEOUT

UP = Provider("up", "http://127.0.0.1:9/v1", max_concurrency=2)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Crowd:
    """Requests of tenants at one limit: *served* in the order in which they got a place, and who was *refused*."""

    def __init__(self, limit: int) -> None:
        self.concurrency_limit = ConcurrencyLimit(limit, "provider")
        self.served: list[str] = []
        self.refused: list[str] = []
        self.scopes: list[anyio.CancelScope] = []

    async def ask(self, tenant: str, patient: bool = False) -> None:
        with anyio.CancelScope() as scope:
            self.scopes.append(scope)
            try:
                await self.concurrency_limit.enter(TIMEOUT, tenant, patient=patient)
            except Overloaded:
                self.refused.append(tenant)
            else:
                self.served.append(tenant)

    async def settle(self) -> None:
        """Everybody has got as far as they get."""
        with anyio.fail_after(TIMEOUT):
            await anyio.wait_all_tasks_blocked()

    async def serve(self, count: int) -> None:
        """As many places become free, one after the other."""
        for _ in range(count):
            self.concurrency_limit.leave()
            await self.settle()


async def test_tenants_that_wait_are_served_in_turn() -> None:
    crowd = Crowd(8)
    async with anyio.create_task_group() as tasks:
        for tenant in ["flood"] * 14 + ["a", "b"]:
            tasks.start_soon(crowd.ask, tenant)
            await crowd.settle()
        assert crowd.served == ["flood"] * 8
        await crowd.serve(16)

    assert crowd.served[8:] == ["flood", "a", "b"] + ["flood"] * 5
    assert not crowd.refused
    assert (crowd.concurrency_limit.inside, crowd.concurrency_limit.waiting) == (0, 0)
    assert not crowd.concurrency_limit.lanes and not crowd.concurrency_limit.crowded


async def test_who_has_nobody_waiting_displaces_the_newest_of_who_has_several() -> None:
    crowd = Crowd(2)
    async with anyio.create_task_group() as tasks:
        for tenant in ["flood"] * 6 + ["a", "b", "a"]:
            tasks.start_soon(crowd.ask, tenant)
            await crowd.settle()
        assert crowd.refused == ["flood", "flood", "flood", "b", "a"]
        await crowd.serve(4)

    assert crowd.served == ["flood", "flood", "flood", "a"]
    assert (crowd.concurrency_limit.inside, crowd.concurrency_limit.waiting) == (0, 0)


async def test_the_patient_find_room_whatever_the_limit_and_take_none_of_it() -> None:
    crowd = Crowd(1)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(crowd.ask, "background", True)
        await crowd.settle()
        tasks.start_soon(crowd.ask, "request")
        await crowd.settle()
        await crowd.serve(51)

    assert crowd.served == ["background"] * 2 + ["request"] + ["background"] * 48
    assert not crowd.refused


async def test_who_gives_up_leaves_no_trace() -> None:
    crowd = Crowd(1)
    async with anyio.create_task_group() as tasks:
        for tenant in ("in", "a", "a"):
            tasks.start_soon(crowd.ask, tenant, tenant == "a")
            await crowd.settle()
        crowd.concurrency_limit.leave()  # the first "a" has a place, and does not know it yet
        for scope in crowd.scopes[1:]:
            scope.cancel()
        await crowd.settle()

    assert crowd.concurrency_limit.inside == len(crowd.served) - 1  # one has left
    assert (crowd.concurrency_limit.waiting, len(crowd.concurrency_limit.lanes)) == (0, 0)


async def test_who_gives_up_while_it_is_displaced_gives_no_place_back() -> None:
    crowd = Crowd(2)

    async def cancel() -> None:
        crowd.scopes[3].cancel()

    async with anyio.create_task_group() as tasks:
        for tenant in ("in", "in", "flood", "flood"):
            tasks.start_soon(crowd.ask, tenant)
            await crowd.settle()
        waiter = crowd.concurrency_limit.lanes["flood"][-1]
        crowd.concurrency_limit._make_room("a")
        tasks.start_soon(cancel)
        crowd.concurrency_limit._give_up(waiter)  # as if the cancellation had been the first to wake it
        await crowd.settle()
        assert (crowd.concurrency_limit.inside, crowd.served) == (2, ["in", "in"])
        await crowd.serve(1)

    assert crowd.served == ["in", "in", "flood"]
    assert crowd.concurrency_limit.inside == 2


async def test_a_limit_is_forgotten_with_the_last_who_leaves_it() -> None:
    concurrency = ConcurrencyLimits(Limits(tenant_concurrency=2))
    held: list[Held] = []
    for number in range(100):
        held.append(await concurrency.enter_tenant(f"tenant {number}", 1))
        held.append(await concurrency.enter_work(f"tenant {number}", 1, background=True))
        held.append(await concurrency.enter_provider(UP, f"tenant {number}", 1) if number < 2 else ())
    assert len(concurrency.of_loop.get()) == 201
    for one in held:
        concurrency.leave(one)

    assert not concurrency.of_loop.get()
    assert await concurrency.enter_tenant(None, 1) == ()
    assert await concurrency.enter_work(None, 1) == ()


# Retries...


def test_without_tenants_retries_are_a_fifth_of_the_requests() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.earn(None)

    assert sum(budget.spend(None) for _ in range(200)) == 10 + 20
    assert not budget.own


def test_a_tenant_that_only_fails_takes_no_retry_that_others_have_earned() -> None:
    budget = RetryBudget()
    taken = {"hostile": 0, "modest": 0}
    for _ in range(100):
        for _ in range(10):
            budget.earn("hostile")
            taken["hostile"] += budget.spend("hostile")
        budget.earn("modest")
    for _ in range(100):
        taken["modest"] += budget.spend("modest")

    assert taken["modest"] >= 10
    assert sum(taken.values()) <= 10 + 1100 * 0.2


def test_purses_are_bounded() -> None:
    budget = RetryBudget()
    for number in range(3 * MOST_TENANTS):
        budget.earn(f"tenant {number}")
    for _ in range(MOST_SAVED):
        budget.earn("one")

    assert len(budget.own) == MOST_TENANTS
    assert budget.own["one"] == MOST_SAVED / 2
    assert RESERVE < budget.purse <= MOST_SAVED
    assert budget.spend("one") and budget.own["one"] == MOST_SAVED / 2 - RETRY
