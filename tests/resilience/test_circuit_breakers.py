"""Circuit breakers where tenants share a credential: who is shut out, by whose failures, and what opens the door."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.resilience import health as health_room
from gomodel_asgi.resilience.circuit import MINIMUM, PAUSE, SPACING, WINDOW
from gomodel_asgi.resilience.circuit_breaker import MOST_TENANTS, Breaker
from gomodel_asgi.resilience.health import MAX_BREAKERS, MOST_SEEN, Health
from gomodel_asgi.testing import Scripted, Stall, Status

from ..support.breakers import Clock, let_through
from ..support.driving import TIMEOUT, Caller, scope_of
from ..support.exchanges import STREAM, UNARY, streamed
from ..support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

UP = Provider("up", "http://127.0.0.1:9/v1")


def shared(lab: Lab, **options: Any) -> Clock:
    """A gateway whose tenants (the scope's) share a key, on a clock of the test's own."""
    gateway: Gateway = lab.make(tenant=lambda scope: scope.get("tenant"), **options)
    clock = Clock()
    gateway.setup = replace(gateway.setup, health=Health(clock))
    return clock


async def fails(lab: Lab, times: int, **options: Any) -> None:
    for _ in range(times):
        lab.bad.fail_next(Status(500))
        await lab.ask(UNARY, **options)


async def statuses(lab: Lab, times: int, **options: Any) -> list[int]:
    return [(await lab.ask(UNARY, **options)).status for _ in range(times)]


async def test_failures_of_one_tenant_shut_out_that_tenant_alone(lab: Lab) -> None:
    shared(lab)
    await fails(lab, 12, tenant="hostile")
    lab.bad.clear()

    assert await statuses(lab, 52, tenant="other") == [200] * 52
    assert await statuses(lab, 1, tenant="hostile") == [503]


@pytest.mark.parametrize("fault", [Stall(after_events=1), Stall(after_events=3)], ids=["first event", "later"])
async def test_a_probe_that_never_ends_holds_nobody_up(lab: Lab, fault: Stall) -> None:
    clock = shared(lab)
    await fails(lab, 10)
    lab.bad.clear()
    assert await statuses(lab, 1) == [503]
    clock.now += PAUSE
    lab.bad.fail_next(fault)
    probe = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(probe.run, lab.gateway)
            await probe.until(2)
            answers = await statuses(lab, 3)
            probe.leave()

    assert answers == [200] * 3


async def test_a_probe_answered_by_a_stream_that_never_ends_holds_nobody_up(lab: Lab) -> None:
    clock = shared(lab)
    await fails(lab, 10)
    lab.bad.clear()
    clock.now += PAUSE
    lab.bad.script(Scripted(streamed(), (Stall(after_events=2),)))
    probe = Caller(scope_of(), [json.dumps(UNARY).encode()])  # who asked for no stream is answered at its end

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(probe.run, lab.gateway)
            await lab.bad.received()
            while await statuses(lab, 1) != [200]:  # noqa: ASYNC110  another thread brings it about
                await anyio.sleep(0.01)
            assert not probe.messages
            probe.leave()


async def test_a_policy_sees_a_provider_as_its_requests_tenant_does(lab: Lab) -> None:
    seen: dict[str | None, bool] = {}

    def policy(request: RoutingRequest) -> Target:
        seen[request.tenant] = request.health("bad").available
        return Target("bad")

    shared(lab, policy=policy)
    await fails(lab, 10, tenant="hostile")
    lab.bad.clear()
    await statuses(lab, 1, tenant="hostile")
    await statuses(lab, 1, tenant="other")

    assert seen == {"hostile": False, "other": True}
    assert lab.gateway.health().available
    assert [one.shut_out for one in lab.gateway.health().breakers] == [1]


# By hand, on a clock of the test's own...


class Door:
    """One breaker, and what tenants find there."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.health = Health(self.clock)
        self.breaker: Breaker = self.health.breaker(UP, "m", "key")

    def fails(self, tenant: str | None, times: int = 1, every: float = 0.0) -> None:
        for _ in range(times):
            let_through(self.breaker, tenant).leave(True)
            self.clock.now += every

    def answers(self, tenant: str | None, times: int = 1) -> None:
        for _ in range(times):
            let_through(self.breaker, tenant).leave(False)

    def lets_in(self, tenant: str | None) -> bool:
        """Whether it would; the client leaves before anything has come."""
        permit = self.breaker.admit(tenant)
        if permit is not None:
            permit.leave(None)
        return permit is not None

    def break_for_all(self, tenants: Iterable[str] = ("a", "b")) -> None:
        """Open the shared circuit, and that of no tenant."""
        names = list(tenants)
        for number in range(2 * MINIMUM):
            if self.breaker.state(self.clock.now) == "open":
                return
            self.fails(names[number % len(names)])
            self.clock.now += SPACING / 2
        raise AssertionError("it never opened")


@pytest.mark.parametrize("tenant", [None, "a"])
def test_a_probe_is_let_through_after_the_pause_and_decides(tenant: str | None) -> None:
    door = Door()
    door.fails(tenant, MINIMUM)
    assert door.breaker.admit(tenant) is None
    door.clock.now += PAUSE
    let_through(door.breaker, tenant).leave(True)
    assert (door.breaker.admit(tenant), door.breaker.retry_after(tenant)) == (None, PAUSE)
    door.clock.now += PAUSE
    let_through(door.breaker, tenant).leave(None)  # its client left, which says nothing: the next one may try
    let_through(door.breaker, tenant).leave(False)

    door.answers(tenant, 3)
    assert door.breaker.counts(door.clock.now)[:2] == (4, 0)


@pytest.mark.parametrize("tenant", [None, "a"])
def test_a_second_probe_is_let_through_ten_seconds_after_the_first(tenant: str | None) -> None:
    door = Door()
    door.fails(tenant, MINIMUM)
    door.clock.now += PAUSE
    first = let_through(door.breaker, tenant)
    assert door.breaker.admit(tenant) is None
    door.clock.now += PAUSE - 0.1
    assert door.breaker.admit(tenant) is None
    assert 0 < door.breaker.retry_after(tenant) <= 0.11
    door.clock.now += 0.1
    second = let_through(door.breaker, tenant)

    first.leave(True)  # the later one decides
    assert door.breaker.admit(tenant) is None
    second.leave(False)
    assert door.lets_in(tenant)


def test_a_request_from_before_the_circuit_opened_decides_nothing() -> None:
    door = Door()
    early, late = let_through(door.breaker, None), let_through(door.breaker, None)
    door.fails(None, MINIMUM)
    early.leave(False)
    assert door.breaker.admit(None) is None
    door.clock.now += PAUSE
    probe = let_through(door.breaker, None)
    late.leave(True)
    assert door.breaker.admit(None) is None
    probe.began()

    assert door.lets_in(None)


def test_one_tenants_failures_never_open_the_circuit_of_all() -> None:
    door = Door()
    for _ in range(20):
        for _ in range(50):
            if (permit := door.breaker.admit("hostile")) is not None:
                permit.leave(True)
        assert not door.lets_in("hostile")
        assert door.lets_in("newcomer")
        assert door.lets_in(None)
        door.clock.now += 5


def test_one_tenants_slow_failures_never_open_the_circuit_of_all() -> None:
    door = Door()
    door.fails("hostile", MINIMUM, every=SPACING)

    assert not door.lets_in("hostile")
    assert door.lets_in("newcomer")


def test_two_tenants_among_many_never_open_the_circuit_of_all() -> None:
    door = Door()
    for second in range(30):
        for hostile in ("x", "y"):
            if (permit := door.breaker.admit(hostile)) is not None:
                permit.leave(True)
        if second < 3:
            door.answers(f"modest {second}")
        door.clock.now += 1

    assert door.breaker.state(door.clock.now) == "closed"
    assert door.lets_in("newcomer")


def test_an_outage_opens_the_circuit_of_all_though_no_tenant_asks_often() -> None:
    door = Door()
    for number in range(MINIMUM):
        assert door.lets_in("newcomer")
        door.fails(f"tenant {number}")

    assert not door.lets_in("newcomer")
    assert not door.lets_in(None)
    assert door.breaker.state(door.clock.now) == "open"


def test_a_tenants_failures_count_once_a_second_in_the_circuit_of_all() -> None:
    door = Door()
    for counted in (3, 6, 9):
        door.clock.now += SPACING
        for tenant in ("a", "b", "c"):
            door.fails(tenant, 3)
        assert door.breaker.counts(door.clock.now)[2] == counted
        assert door.lets_in("newcomer")

    door.clock.now += SPACING
    door.fails("d")
    assert not door.lets_in("newcomer")


def test_who_is_answered_goes_on_and_opens_the_door_for_the_others() -> None:
    door = Door()
    door.answers("modest", 3)
    door.break_for_all(["a", "b", "c", "d"])
    assert not door.lets_in("newcomer")

    permit = let_through(door.breaker, "modest")
    assert not door.lets_in("newcomer")
    permit.began()

    assert door.lets_in("newcomer")


def test_who_is_answered_no_more_is_shut_out_with_the_others() -> None:
    door = Door()
    door.answers("modest", 3)
    door.break_for_all(["a", "b", "c", "d"])
    door.fails("modest", 3)

    assert not door.lets_in("modest")


def test_a_failure_of_who_goes_on_does_not_put_the_probe_off() -> None:
    door = Door()
    door.answers("modest", 3)
    door.break_for_all(["a", "b", "c", "d"])
    door.clock.now += PAUSE
    door.fails("modest")

    assert door.lets_in("newcomer")


def test_who_has_probed_last_comes_last() -> None:
    door = Door()
    door.break_for_all()
    door.clock.now += PAUSE
    for _ in range(3):
        assert door.lets_in("a")  # and leaves before anything has come
        assert not door.lets_in("a")
        assert door.lets_in("b")
        assert not door.lets_in("b")

    door.clock.now += 2 * PAUSE
    assert door.lets_in("b")


def test_tenants_made_up_to_fail_shut_out_nobody_who_is_answered() -> None:
    door, names = Door(), count()
    for _ in range(40):
        door.answers("modest")
        for _ in range(100):
            if (permit := door.breaker.admit(f"made up {next(names)}")) is not None:
                permit.leave(True)
        door.clock.now += 1
        assert len(door.breaker.failing) <= MOST_TENANTS

    assert door.health.tenants == len(door.breaker.failing) + len(door.breaker.answered) <= MOST_TENANTS + 1


def test_a_tenant_that_is_quiet_is_none_of_those_that_asked() -> None:
    door = Door()
    for number in range(20):
        door.answers(f"yesterday {number}")
    door.clock.now += 2 * WINDOW
    door.break_for_all()

    assert len(door.breaker.answered) == 0


def test_a_breaker_whose_tenants_have_gone_is_idle() -> None:
    door = Door()
    door.fails("gone", MINIMUM)
    assert (door.breaker.shut_out(door.clock.now), door.breaker.is_idle(door.clock.now)) == (1, False)
    door.clock.now += 2 * WINDOW

    assert door.breaker.is_idle(door.clock.now)
    assert door.health.tenants == 0


def test_requests_without_a_tenant_have_a_circuit_of_their_own() -> None:
    door = Door()
    door.answers("modest")
    door.fails(None, MINIMUM)

    assert not door.lets_in(None)
    assert door.lets_in("newcomer")
    assert door.breaker.state(door.clock.now) == "closed"
    door.clock.now += 2 * WINDOW
    assert door.breaker.state(door.clock.now) == "half-open"  # there are no tenants by now


# Bounds...


def many(health: Health, number: int, name: str = "up") -> None:
    """So many requests under way, each of a model of its own."""
    provider = Provider(name, "http://127.0.0.1:9/v1")
    for model in range(number):
        let_through(health.breaker(provider, f"m{model}", "key"), "a")


def test_breakers_are_bounded_also_while_all_of_them_are_in_use() -> None:
    health = Health(Clock())
    first = let_through(health.breaker(UP, "first", "key"), "a")
    most = []
    for model in range(MAX_BREAKERS + 100):
        let_through(health.breaker(UP, f"m{model}", "key"), "a")
        most.append(len(health.breakers))
    first.leave(True)

    assert max(most) == MAX_BREAKERS == len(health.breakers)
    assert len(health.tallies["up"].breakers) == MAX_BREAKERS
    assert health.tenants == 0  # what was dropped learns for itself alone


def test_what_is_known_of_tenants_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_room, "MAX_TENANTS", 3000)
    health = Health(clock := Clock())
    for number in range(10_000):
        breaker = health.breaker(UP, f"m{number // 700}", "key")
        let_through(breaker, f"tenant {number}").leave(number % 3 == 0)
        assert health.tenants == sum(one.known for one in health.breakers.values()) <= 3000
        clock.now += 0.001

    assert health.breakers


def test_a_provider_whose_breakers_are_dropped_is_forgotten() -> None:
    health = Health(Clock())
    many(health, 1, "early")
    many(health, MAX_BREAKERS)

    assert list(health.tallies) == ["up"]
    assert health.snapshot("early").in_flight == 0


def steps(function: Callable[[], object]) -> int:
    """How many functions are called by *function*."""
    called = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.parametrize("name", ["other", "up"], ids=["elsewhere", "its own"])
def test_the_health_of_a_provider_is_told_in_few_steps_however_many_breakers_there_are(name: str) -> None:
    health = Health(Clock())
    health.breaker(UP, "m", "key")
    few = steps(lambda: health.seen_by("a", "up"))
    many(health, 5000, name)
    let_through(health.breaker(UP, "m", "key"), "a").leave(True)

    assert steps(lambda: health.seen_by("a", "up")) <= few + 20 * MOST_SEEN
    assert steps(lambda: health.snapshot("up")) <= few + 20 * MOST_SEEN
    assert not health.seen_by("a", "up").failures == 0
