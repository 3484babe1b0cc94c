"""Connections to upstreams are bounded in all: whoever opens them, on whichever event loop, for whichever tenant."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from gomodel_asgi.errors import Overloaded
from gomodel_asgi.settings import Timeouts
from gomodel_asgi.transport import Http11Transport, HttpxTransport, slots as slots_module
from gomodel_asgi.transport.request import race
from gomodel_asgi.transport.slots import ConnectionLimit, Slots, half_of_descriptors, of_process

from ..support.requests import fetch, post, rest, until
from ..support.scripted_upstream import TIMEOUT, Peer, answer, reply
from .conftest import ASYNCIO, HTTP11, TRIO, Kind, Serve, label

BRIEF = Timeouts(connect=5, pool=0.05)


class Silent:
    """A listener that is told and says nothing."""

    def keepalive_lost(self, origin: str, seconds: float) -> None:
        pass


def bounded(connections: int, **options: Any) -> tuple[Http11Transport, ConnectionLimit]:
    transport, limit = Http11Transport(keepalive=3600, **options), ConnectionLimit(connections)
    transport.attach(limit, Silent())
    return transport, limit


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


both_loops = pytest.mark.parametrize(
    "kind", [Kind("http11", ASYNCIO), Kind("httpx", TRIO)], indirect=True, ids=["asyncio", "trio"]
)

# The figure...


@pytest.mark.parametrize(("soft", "limit"), [(20, 64), (256, 128), (1024, 512), (1_048_576, 16_384), (-1, 16_384)])
def test_half_of_the_descriptors_may_be_used_within_bounds(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    monkeypatch.setattr(resource, "getrlimit", lambda which: {resource.RLIMIT_NOFILE: (soft, -1)}[which])

    assert half_of_descriptors() == limit


def test_where_the_platform_tells_nothing_it_is_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")

    assert half_of_descriptors() == 1024


def test_the_figure_is_read_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = ConnectionLimit()
    monkeypatch.setattr(slots_module, "half_of_descriptors", lambda: 7)

    assert limit.limit == 7
    monkeypatch.setattr(slots_module, "half_of_descriptors", lambda: 9)
    assert limit.limit == 7
    assert ConnectionLimit(3).limit == 3


def test_of_two_gateways_with_one_transport_the_lower_figure_holds() -> None:
    low, high, none = ConnectionLimit(1), ConnectionLimit(2), ConnectionLimit()

    assert {low.lower(high), high.lower(low), none.lower(low), low.lower(none)} == {low}
    assert none.lower(of_process()) is none


# Pools...


async def test_an_idle_connection_of_another_makes_room(serve: Serve) -> None:
    transport, limit = bounded(3)
    port = serve(answer).port

    for who in "abcde":
        await fetch(transport, post(port, credential=who))
        assert limit.open <= 3

    assert [key[3] for key in transport._pools().pools] == ["c", "d", "e"]
    await transport.aclose()
    assert limit.open == 0


async def test_with_none_idle_one_waits_and_then_it_is_overloaded(serve: Serve) -> None:
    transport, limit = bounded(2)
    port = serve(answer).port
    holders = [await transport.open(post(port, credential=who)) for who in "ab"]

    with pytest.raises(Overloaded) as caught:
        await transport.open(post(port, credential="c", timeouts=BRIEF))

    assert (caught.value.status, caught.value.retry_after) == (503, 1.0)
    assert [key[3] for key in transport._pools().pools] == ["a", "b"]
    for holder in holders:
        await holder.aclose()
    await fetch(transport, post(port, credential="c"))
    await transport.aclose()
    assert limit.open == 0


async def test_who_waited_first_gets_the_slot_whoevers_connection_it_was(serve: Serve) -> None:
    transport, limit = bounded(1)
    port = serve(answer).port
    holder = await transport.open(post(port, credential="a"))
    served: list[str] = []

    async def ask(who: str) -> None:
        await fetch(transport, post(port, credential=who))
        served.append(who)

    asking = []
    for number, who in enumerate("bcd"):
        asking.append(asyncio.ensure_future(ask(who)))
        await until(lambda count=number + 1: len(slots_of(transport).waiting) == count)  # type: ignore[misc]
    await rest(holder)
    await holder.aclose()
    await asyncio.gather(*asking)

    assert served == ["b", "c", "d"]
    assert limit.open == 1
    await transport.aclose()


async def test_a_connection_of_ones_own_pool_serves_too(serve: Serve) -> None:
    transport, _ = bounded(1)
    port = serve(answer).port
    holder = await transport.open(post(port))
    waiting = asyncio.ensure_future(fetch(transport, post(port)))
    await until(lambda: slots_of(transport).waiting)

    await rest(holder)
    await holder.aclose()

    assert (await waiting).body == b"connection 1"
    assert not slots_of(transport).waiting
    await transport.aclose()


async def test_who_stops_waiting_leaves_the_slot_to_the_next(serve: Serve) -> None:
    transport, limit = bounded(1)
    port = serve(answer).port
    holder = await transport.open(post(port, credential="a"))
    asking = [asyncio.ensure_future(fetch(transport, post(port, credential=who))) for who in "bc"]
    await until(lambda: len(slots_of(transport).waiting) == 2)

    await rest(holder)
    await holder.aclose()  # gives its slot to the first
    asking[0].cancel()

    assert (await asking[1]).status == 200
    assert limit.open == 1
    await transport.aclose()
    assert limit.open == 0


async def test_a_connection_that_cannot_be_made_leaves_no_slot_taken(serve: Serve) -> None:
    transport, limit = bounded(1)
    upstream = serve(answer)

    for request in (post(1), post(80, host="name.invalid"), post(80, uds="/nowhere"), post(upstream.port, deadline=0)):
        with pytest.raises(Exception, match=r"."):
            await transport.open(request)

    assert limit.open == 0
    assert not transport._pools().pools


@pytest.mark.parametrize("seed", range(3))
async def test_the_bound_holds_whatever_is_cancelled_or_fails(serve: Serve, seed: int) -> None:
    """And in the end nothing is taken that is not there."""
    transport, limit = bounded(4, max_connections=2)

    def script(peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if b"/fails" in request:
                return
            peer.send(reply(b"x" * 100))

    port, draw, peak = serve(script).port, random.Random(seed), 0

    async def one(number: int) -> None:
        nonlocal peak
        target = b"/fails" if draw.random() < 0.2 else b"/"
        request = post(port, credential=f"k{number % 7}", target=target, fresh=draw.random() < 0.1)
        try:
            await fetch(transport, request)
        except Exception:
            pass
        peak = max(peak, limit.open)

    tasks = [asyncio.ensure_future(one(number)) for number in range(150)]
    cancelled = draw.sample(tasks, 50)  # not all: on a busy machine none would get as far as a reply
    while not all(task.done() for task in tasks):
        if cancelled and draw.random() < 0.1:
            cancelled.pop().cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)

    assert 1 < peak <= 4
    assert limit.open == len(transport._pools().idle)
    assert not slots_of(transport).waiting
    await transport.aclose()
    assert limit.open == 0 and not transport._pools().pools


async def test_a_second_address_is_tried_beside_the_first_only_with_a_slot_to_spare() -> None:
    limit = ConnectionLimit(2)
    slots, begun, go_on = limit.here(), [], asyncio.Event()
    assert slots.take()

    async def dial(address: str) -> Any:
        begun.append(address)
        await go_on.wait()
        raise OSError(address)

    racing = asyncio.ensure_future(race(["a", "b", "c", "d"], dial, slots, anyio.aclose_forcefully))
    await until(lambda: len(begun) == 2)
    assert limit.open == 2
    go_on.set()
    with pytest.raises(OSError, match="d"):
        await racing
    assert begun == ["a", "b", "c", "d"]
    slots.give()
    await until(lambda: limit.open == 0)


# Others...


@both_loops
async def test_a_transport_of_httpx_that_we_make_is_bounded(serve: Serve) -> None:
    transport, limit = HttpxTransport(), ConnectionLimit(1)
    transport.attach(limit, Silent())
    port = serve(answer).port
    holder = await transport.open(post(port))

    with pytest.raises(Overloaded):
        await transport.open(post(port, timeouts=BRIEF))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetch, transport, post(port))
        await until(lambda: limit.here().waiting)
        await holder.aclose()

    assert limit.open == 0


@both_loops
async def test_a_waiter_that_is_cancelled_while_it_is_given_a_slot_gives_it_back() -> None:
    limit = ConnectionLimit(1)
    slots = limit.here()
    assert slots.take()

    async def hold() -> None:
        await slots.enter(TIMEOUT)
        slots.give()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await until(lambda: slots.waiting)
        slots.give()
        tasks.cancel_scope.cancel()

    assert limit.open == 0


# Event loops...


def test_several_event_loops_share_the_limit_and_serve_each_other(serve: Serve) -> None:
    limit, port = ConnectionLimit(1), serve(answer).port
    held, asked, bodies = threading.Event(), threading.Event(), []
    transport = Http11Transport(keepalive=3600)
    transport.attach(limit, Silent())

    async def hold() -> None:
        await fetch(transport, post(port))
        held.set()
        await asyncio.to_thread(asked.wait, TIMEOUT)  # its connection is idle, and closed for the other loop
        await transport.aclose()

    async def ask() -> None:
        await asyncio.to_thread(held.wait, TIMEOUT)
        bodies.append((await fetch(transport, post(port))).body)
        asked.set()
        await transport.aclose()

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for main in (hold, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    assert bodies == [b"connection 2"]


class AtOnce:
    """Stands for the loop of another thread that is quicker than we are: what is to be called on it has been."""

    def run_sync_soon(self, function: Callable[[], object], **options: Any) -> None:
        function()


class OneIdle:
    """An idle connection of *slots*."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.open = slots.take()

    def close_oldest(self) -> bool:
        was_open, self.open = self.open, False
        if was_open:
            self.slots.give()
        return was_open


@both_loops
async def test_who_is_made_room_for_before_it_waits_does_not_wait() -> None:
    limit = ConnectionLimit(1)
    other, here = Slots(limit, AtOnce()), limit.here()
    limit.of_loops[0] = other
    idle = OneIdle(other)
    other.idle.add(idle)

    with anyio.fail_after(TIMEOUT):
        await here.enter(2 * TIMEOUT)
    here.give()

    assert limit.open == 0


async def test_a_request_that_is_made_room_for_before_it_waits_does_not_wait(serve: Serve) -> None:
    limit = ConnectionLimit(1)
    transport = Http11Transport()
    transport.attach(limit, Silent())
    other = Slots(limit, AtOnce())
    limit.of_loops[0] = other
    idle = OneIdle(other)
    other.idle.add(idle)

    with anyio.fail_after(TIMEOUT):
        assert (await fetch(transport, post(serve(answer).port))).body == b"connection 1"
    await transport.aclose()


def test_a_loop_that_has_nothing_idle_does_not_pass_the_question_on() -> None:
    class Loop:
        """Stands for a loop of trio's; what is to be called on it is kept."""

        def __init__(self) -> None:
            self.calls: list[Any] = []

        def run_sync_soon(self, function: Any, **options: Any) -> None:
            if not options:
                self.calls.append(function)

    limit, loops = ConnectionLimit(2), [Loop(), Loop()]
    slots = [Slots(limit, loop) for loop in loops]
    limit.of_loops = dict(enumerate(slots))
    assert slots[0].take() and slots[1].take() and not slots[0].take()

    (asked,) = loops[1].calls
    asked()

    assert loops[0].calls == [] and len(loops[1].calls) == 1


def test_a_loop_that_was_closed_with_connections_open_holds_no_slots(serve: Serve) -> None:
    limit, port = ConnectionLimit(1), serve(answer).port

    async def leave_open() -> Slots:
        transport = Http11Transport()
        transport.attach(limit, Silent())
        await fetch(transport, post(port))
        return limit.here()

    async def ask() -> None:
        transport = Http11Transport()
        transport.attach(limit, Silent())
        await fetch(transport, post(port))
        await transport.aclose()

    with pytest.warns(ResourceWarning):
        assert asyncio.run(leave_open()).open == 1
        asyncio.run(ask())
        gc.collect()
    assert limit.open == 0


def slots_of(transport: Http11Transport) -> Slots:
    return transport._pools().slots
