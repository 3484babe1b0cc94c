"""How much one tenant can have in the background: at work, queued, and left running by clients that have gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gomodel_asgi import Gateway, Limits, Provider, RoutingRequest, Target, Timeouts
from gomodel_asgi.emulation.event_log import LEASES
from gomodel_asgi.errors import Overloaded
from gomodel_asgi.observers import Ended, Record, RequestStarted
from gomodel_asgi.seams.transport import UpstreamReply, UpstreamRequest
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.testing import FakeProvider, Scripted, Stall
from gomodel_asgi.transport import DefaultTransport

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.lab import until
from ..support.remembering import provider_of, says

BODY = {"model": "m", "input": "hi", "background": True}
ONE = Limits(tenant_concurrency=1)

Make = Callable[..., Gateway]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make(fake: FakeProvider) -> AsyncIterator[Make]:
    """Makes gateways, whose tenants are the scope's: each is another worker."""
    made: list[Gateway] = []

    def make(dialect: str = "chat", **options: Any) -> Gateway:
        provider = Provider("native", fake.base_url) if dialect == "native" else provider_of(dialect, fake)
        made.append(Gateway(providers=[provider], tenant=lambda scope: scope.get("tenant"), **options))
        return made[-1]

    yield make
    with anyio.fail_after(TIMEOUT):
        await go_on(fake, lambda: all(nothing_left(gateway) for gateway in made))
    for gateway in made:
        await gateway.aclose()


class Counting(DefaultTransport):
    """Counts the replies that are open at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.open_now = self.most = 0

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        reply = await super().open(request)
        self.open_now += 1
        self.most = max(self.most, self.open_now)
        aclose = reply.aclose

        async def closing() -> None:
            self.open_now -= 1
            await aclose()

        return Counted(reply, closing)


@dataclass
class Counted:
    reply: UpstreamReply
    aclose: Callable[[], Coroutine[Any, Any, None]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reply, name)


def nothing_left(gateway: Gateway) -> bool:
    """Whether no request is under way, no work in the background, and no place taken."""
    state = gateway.state
    idle = not gateway.in_flight.watches and not state.tasks._running and not state.background.allowance.taken
    return idle and not gateway.abandoned.taken and not gateway.setup.concurrency.of_loop.get({})


def stall(fake: FakeProvider, count: int) -> None:
    """The next chat streams wait, each after its first event."""
    for _ in range(count):
        fake.script(Scripted(says("chat", "Done.", stream=True), (Stall(after_events=1),)))


async def begun(gateway: Gateway, tenant: str | None = "a") -> str:
    """The id of another response in the background."""
    answer = await ask(gateway, BODY, tenant=tenant)
    assert answer.status == 200, answer.content
    return str(answer.json()["id"])


async def status(gateway: Gateway, id: str, tenant: str | None = "a") -> str:
    answer = await ask(gateway, path=f"/v1/responses/{id}", method="GET", tenant=tenant)
    return str(answer.json()["status"]) if answer.status == 200 else str(answer.status)


async def reached(gateway: Gateway, id: str, wanted: str, tenant: str | None = "a") -> dict[str, Any]:
    """The response, once it is there."""
    with anyio.fail_after(TIMEOUT):
        while await status(gateway, id, tenant) != wanted:  # noqa: ASYNC110  others bring it about
            await anyio.sleep(0.005)
    answer = await ask(gateway, path=f"/v1/responses/{id}", method="GET", tenant=tenant)
    found: dict[str, Any] = answer.json()
    return found


async def go_on(fake: FakeProvider, condition: Callable[[], object]) -> None:
    """Let what stalls go on, until *condition* holds."""

    def released() -> object:
        fake.release()
        return condition()

    await until(released)


async def received(fake: FakeProvider, count: int) -> None:
    """Wait for so many requests, and let no stalled one go on."""
    with anyio.fail_after(TIMEOUT):
        await fake.received(count)


async def test_background_responses_run_one_at_a_time_where_their_tenant_may_have_one(
    make: Make, fake: FakeProvider
) -> None:
    transport = Counting()
    gateway = make(limits=ONE, transport=transport)
    stall(fake, 1)
    fake.script([says("chat", "Done.", stream=True)] * 99)
    ids = [await begun(gateway) for _ in range(100)]
    cancelled = await ask(gateway, path=f"/v1/responses/{ids[50]}/cancel", method="POST", tenant="a")
    assert cancelled.json()["status"] == "cancelled"
    assert {await status(gateway, id) for id in ids[1:]} == {"queued", "cancelled"}

    await received(fake, 1)
    assert len(fake.requests) == 1
    await go_on(fake, lambda: not gateway.state.tasks._running)
    assert [await status(gateway, id) for id in ids] == ["completed"] * 50 + ["cancelled"] + ["completed"] * 49
    assert (transport.most, len(fake.requests)) == (1, 99)


async def test_what_a_tenant_has_queued_and_at_work_is_bounded(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_concurrency=1, tenant_background=3))
    stall(fake, 6)
    ids = [await begun(gateway) for _ in range(3)]
    refused = await ask(gateway, BODY, tenant="a")

    assert (refused.status, refused.error["type"], refused.error["code"]) == (
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
    )
    assert int(refused.headers["retry-after"]) >= 1
    await begun(gateway, "b")
    await go_on(fake, lambda: gateway.background.allowance.taken["a"] < 3)
    await reached(gateway, ids[0], "completed")
    await begun(gateway)


async def test_a_response_that_cannot_be_queued_takes_up_nothing(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_background=1, tenant_bytes=10))
    for _ in range(2):
        refused = await ask(gateway, BODY, tenant="a")
        assert refused.error["code"] == "quota_exceeded"

    assert not gateway.background.allowance.taken


async def test_what_a_background_response_answers_counts_in_its_tenants_quota(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_bytes=16_000))
    ids = []
    for _ in range(3):
        fake.script(says("chat", "x" * 2500, stream=True))
        ids.append(await begun(gateway))
        await reached(gateway, ids[-1], "completed")

    statuses = [(await ask(gateway, path=f"/v1/responses/{id}", method="GET", tenant="a")).status for id in ids]
    assert statuses == [404, 200, 200], "the answer, and the response that it is part of"


async def test_a_background_answer_that_is_larger_than_the_quota_fails_and_says_so(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make(limits=Limits(tenant_bytes=5000))
    fake.script(says("chat", "x" * 2500, stream=True))
    id = await begun(gateway)
    failed = await reached(gateway, id, "failed")

    assert failed["output"] == []
    assert failed["error"]["message"] == "The response is larger than what may be stored."


async def test_requests_without_a_tenant_share_one_allowance(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_concurrency=1, tenant_background=2))
    stall(fake, 2)
    for _ in range(2):
        await begun(gateway, None)
    await received(fake, 2)  # a concurrency is the tenants', who are none

    assert (await ask(gateway, BODY)).status == 429


async def test_a_background_that_is_full_can_be_unlimited(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_background=None))
    stall(fake, 120)
    for _ in range(120):
        await begun(gateway)


async def test_a_request_waits_in_turn_with_what_is_queued(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=ONE)
    stall(fake, 1)
    ids = [await begun(gateway) for _ in range(5)]
    await received(fake, 1)
    caller = Caller(scope_of(tenant="a"), [encoded({"model": "m", "input": "at once"})])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, gateway)
        await until(lambda: gateway.setup.concurrency.of_loop.get()["account", ("work", "a")].waiting == 1)
        stall(fake, 2)
        fake.script(says("chat", "Hello."))
        await go_on(fake, lambda: caller.messages)

    at = next(number for number, request in enumerate(fake.requests) if b"at once" in request.body)
    assert at <= 2, "the request waited behind all that was queued"
    assert ids


async def test_a_request_is_turned_away_where_background_work_keeps_the_place(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=ONE, timeouts=Timeouts(pool=0.01))
    stall(fake, 1)
    id = await begun(gateway)
    await received(fake, 1)
    refused = await ask(gateway, {"model": "m", "input": "at once"}, tenant="a")

    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert await status(gateway, id) == "in_progress"
    fake.script(says("chat", "Hello."))
    assert (await ask(gateway, {"model": "m", "input": "hi"}, tenant="b")).status == 200


async def test_background_work_waits_for_a_busy_provider_too(make: Make, fake: FakeProvider) -> None:
    transport = Counting()
    limits = Limits(provider_concurrency=1)
    gateway = make(limits=limits, timeouts=Timeouts(pool=0.01, first_event=5), transport=transport)
    stall(fake, 5)
    ids = [await begun(gateway) for _ in range(5)]
    await received(fake, 1)
    refused = await ask(gateway, {"model": "m", "input": "at once"}, tenant="b")
    await go_on(fake, lambda: not gateway.state.tasks._running)

    assert refused.status == 503
    assert {await status(gateway, id) for id in ids} == {"completed"}
    assert transport.most == 1


async def test_the_wait_for_a_busy_provider_is_no_part_of_the_wait_for_its_first_event(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make(limits=Limits(provider_concurrency=1), timeouts=Timeouts(first_event=1.0))
    stall(fake, 1)
    fake.script(says("chat", "Done.", stream=True))
    await begun(gateway)
    await received(fake, 1)
    second = await begun(gateway)
    await reached(gateway, second, "in_progress")
    await anyio.sleep(1.1)  # so much later
    fake.release()

    assert (await reached(gateway, second, "completed"))["error"] is None


# While it is queued...


class Watched(MemoryStore):
    """Counts how often a lease is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, int] = {}

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        if collection == LEASES:
            self.taken[key] = self.taken.get(key, 0) + 1
        await super().put(collection, key, value, ttl=ttl)


async def queued(make: Make, fake: FakeProvider, lasts: float = 30.0, **options: Any) -> tuple[Gateway, str, str]:
    """A gateway with one response at work, and one queued behind it."""
    gateway = make(limits=ONE, **options)
    gateway.background.leases.lasts = lasts
    stall(fake, 2)
    first, second = [await begun(gateway) for _ in range(2)]
    await received(fake, 1)
    return gateway, first, second


async def test_what_is_queued_for_long_is_not_taken_for_lost(make: Make, fake: FakeProvider) -> None:
    store = Watched()
    gateway, first, second = await queued(make, fake, lasts=1.5, store=store)
    await until(lambda: len(store.taken) == 2 and min(store.taken.values()) > 8)

    assert await status(gateway, second) == "queued"
    assert await status(gateway, first) == "in_progress"


@pytest.mark.parametrize("end", ["cancel", "delete", "forget"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_what_is_ended_while_queued_is_never_sent_and_leaves_nothing(
    make: Make, fake: FakeProvider, end: str, where: str
) -> None:
    store = MemoryStore()
    gateway, first, second = await queued(make, fake, lasts=1.5, store=store)
    other = gateway if where == "here" else make(store=store)
    if end == "cancel":
        await ask(other, path=f"/v1/responses/{second}/cancel", method="POST", tenant="a")
    elif end == "delete":
        await ask(other, path=f"/v1/responses/{second}", method="DELETE", tenant="a")
    else:
        await other.forget("a")
    expected = {"cancel": "cancelled", "delete": "404", "forget": "404"}[end]

    await until(lambda: gateway.background.allowance.taken.get("a", 0) < 2)
    assert await status(gateway, second) == expected
    await go_on(fake, lambda: nothing_left(gateway))
    assert len(fake.requests) == 1
    assert await status(gateway, second) == expected
    assert not gateway.background.leases._renewed
    assert [key async for key in store.scan(LEASES)] == []


async def test_observers_are_told_of_work_when_it_begins_and_once_that_it_has_ended(
    make: Make, fake: FakeProvider
) -> None:
    told: list[Record] = []
    gateway, first, second = await queued(make, fake, observers=[told.append])
    requests = 2  # the creates themselves
    await ask(gateway, path=f"/v1/responses/{second}/cancel", method="POST", tenant="a")
    await until(lambda: gateway.background.allowance.taken == {"a": 1})
    begun = [one for one in told if isinstance(one, RequestStarted) and one.context.operation == "create"]
    assert len(begun) == requests + 1
    await go_on(fake, lambda: nothing_left(gateway))

    begun = [one for one in told if isinstance(one, RequestStarted) and one.context.operation == "create"]
    ended = [one for one in told if isinstance(one, Ended) and one.context.operation == "create"]
    assert len(begun) == len(ended) == requests + 1


async def test_a_gateway_that_closes_leaves_nothing_queued(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    gateway, first, second = await queued(make, fake, store=store)
    await gateway.state.tasks.aclose(0.01)
    other = make(store=store)

    for id in (first, second):
        failed = await reached(other, id, "failed")
        assert "shut down" in failed["error"]["message"]
    assert len(fake.requests) == 1
    assert [key async for key in store.scan(LEASES)] == []


async def test_a_response_that_does_not_get_its_turn_in_all_its_time_has_failed(make: Make, fake: FakeProvider) -> None:
    gateway, first, second = await queued(make, fake, timeouts=Timeouts(total=1.0))

    assert "longer than allowed" in (await reached(gateway, first, "failed"))["error"]["message"]
    assert (await reached(gateway, second, "failed"))["error"]["message"]


async def test_an_upstream_that_never_answers_is_given_no_more_than_the_total_time(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make(timeouts=Timeouts(total=0.1))
    fake.fail_next(Stall())
    failed = await reached(gateway, await begun(gateway), "failed")

    assert "longer than allowed" in failed["error"]["message"]


async def test_work_that_waits_for_ever_is_followed_for_the_total_time(make: Make, fake: FakeProvider) -> None:
    gateway = make(timeouts=Timeouts(total=0.1))
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    gateway.background.enqueue = enqueue
    followed = await ask(gateway, {**BODY, "stream": True}, tenant="a")

    assert followed.complete
    assert followed.events()[-1]["type"] == "response.failed"
    assert tickets and not fake.requests


# Tickets...


async def test_redeemed_tickets_wait_for_their_tenants_place(make: Make, fake: FakeProvider) -> None:
    transport = Counting()
    gateway = make(limits=Limits(tenant_concurrency=1, tenant_background=1), transport=transport)
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    gateway.background.enqueue = enqueue
    ids = [await begun(gateway) for _ in range(3)]  # the host's queue bounds itself
    stall(fake, 3)
    async with anyio.create_task_group() as tasks:
        for ticket in tickets:
            tasks.start_soon(gateway.run_background, ticket)
        await received(fake, 1)
        await go_on(fake, lambda: len(fake.requests) == 3)
        await go_on(fake, lambda: fake.requests[2].answered.is_set())

    assert {await status(gateway, id) for id in ids} == {"completed"}
    assert transport.most == 1


async def test_a_ticket_that_finds_no_place_in_time_stays_queued(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    gateway, worker = make(store=store), make(store=store, limits=ONE, timeouts=Timeouts(total=0.1))
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    gateway.background.enqueue = enqueue
    id = await begun(gateway)
    held = await worker.setup.concurrency.enter_work("a", 1)
    with pytest.raises(Overloaded):
        await worker.run_background(tickets[0])
    assert await status(gateway, id) == "queued"
    worker.setup.concurrency.leave(held)
    fake.script(says("chat", "Done.", stream=True))

    assert await make(store=store, limits=ONE).run_background(tickets[0])
    assert await status(gateway, id) == "completed"


# What clients leave running...


async def left(gateway: Gateway, tasks: Any, tenant: str | None = "a") -> Caller:
    """A background stream whose client leaves after its first events."""
    caller = Caller(scope_of(tenant=tenant), [encoded({**BODY, "stream": True})])
    tasks.start_soon(caller.run, gateway)
    await caller.until(2)
    caller.leave()
    return caller


def running(fake: FakeProvider) -> int:
    return sum(not request.answered.is_set() and not request.disconnected.is_set() for request in fake.requests)


async def test_so_many_streams_go_on_without_their_clients(make: Make, fake: FakeProvider) -> None:
    gateway = make("native")
    for _ in range(202):
        fake.fail_next(Stall(after_events=2))
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            await left(gateway, tasks)
        await until(lambda: running(fake) == 20 == len(gateway.in_flight.watches))
        assert gateway.abandoned.taken == {"a": 20}
        kept = [request for request in fake.requests if not request.disconnected.is_set()]
        assert len(kept) == 20
        await left(gateway, tasks, "b")
        await until(lambda: gateway.abandoned.taken.get("b") == 1)
        await go_on(fake, lambda: not gateway.in_flight.watches)
        await until(lambda: all(request.answered.is_set() for request in kept))
        assert not any(request.disconnected.is_set() for request in kept)

        fake.clear()
        fake.fail_next(Stall(after_events=2))
        await left(gateway, tasks)
        await until(lambda: gateway.abandoned.taken == {"a": 1})
        await go_on(fake, lambda: not gateway.in_flight.watches)


async def test_who_has_left_a_stream_running_can_still_look_at_it_but_begin_nothing(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make("native", limits=ONE, timeouts=Timeouts(pool=0.01))
    fake.fail_next(Stall(after_events=2))
    async with anyio.create_task_group() as tasks:
        caller = await left(gateway, tasks)
        await until(lambda: gateway.abandoned.taken == {"a": 1})
        id = caller.events()[0]["response"]["id"]

        assert await status(gateway, id) == "completed"  # the fake provider knows how it will end
        assert (await ask(gateway, {"model": "m", "input": "hi"}, tenant="a")).status == 503
        await go_on(fake, lambda: not gateway.in_flight.watches)
    assert (await ask(gateway, {"model": "m", "input": "hi"}, tenant="a")).status == 200


async def test_who_leaves_what_the_gateway_works_on_leaves_nothing_but_that(make: Make, fake: FakeProvider) -> None:
    gateway = make()
    stall(fake, 1)
    async with anyio.create_task_group() as tasks:
        caller = await left(gateway, tasks)
        await until(lambda: not gateway.in_flight.watches)
    assert not gateway.abandoned.taken
    id = caller.events()[0]["response"]["id"]

    assert await status(gateway, id) == "in_progress"
    fake.release()
    await reached(gateway, id, "completed")


async def test_a_client_that_leaves_before_it_is_known_whose_it_is_leaves_nothing_running(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make("native")
    asked = anyio.Event()

    async def tenant(scope: Any) -> str:
        asked.set()
        await anyio.sleep_forever()
        return "a"

    gateway.tenant = tenant
    caller = Caller(scope_of(), [encoded(BODY)])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, gateway)
            await asked.wait()
            caller.leave()

    assert not fake.requests and not gateway.abandoned.taken


async def test_who_leaves_before_there_is_anything_to_follow_leaves_nothing_but_the_work(
    make: Make, fake: FakeProvider
) -> None:
    asked, decided = anyio.Event(), anyio.Event()

    async def policy(request: RoutingRequest) -> Target:
        asked.set()
        await decided.wait()
        return Target("chat")

    gateway = make(policy=policy)
    stall(fake, 1)
    caller = Caller(scope_of(tenant="a"), [encoded({**BODY, "stream": True})])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, gateway)
        await asked.wait()
        caller.leave()
        await until(lambda: gateway.abandoned.taken == {"a": 1})
        decided.set()
        await until(lambda: not gateway.in_flight.watches)
    assert not gateway.abandoned.taken
    await received(fake, 1)


async def test_who_leaves_a_route_of_the_hosts_counts_as_long_as_the_stream_goes_on(
    make: Make, fake: FakeProvider
) -> None:
    gateway = make("native")
    fake.fail_next(Stall(after_events=2))

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        response = await gateway.endpoint(Request(scope, receive))
        await response(scope, receive, send)

    caller = Caller(scope_of(tenant="a"), [encoded({**BODY, "stream": True})])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, route)
        await caller.until(2)
        caller.leave()
        await until(lambda: gateway.abandoned.taken == {"a": 1})
        await go_on(fake, lambda: fake.requests[0].answered.is_set())

    assert not gateway.abandoned.taken and caller.raised is None


class Broken(Caller):
    """A client whose server tells by an error of `send` that it has left."""

    async def send(self, message: Any) -> None:
        if len(self.messages) >= 2:
            raise OSError("the client has gone")
        await super().send(message)


@pytest.mark.parametrize("limit", [20, 0])
async def test_a_send_that_fails_is_a_client_that_has_left(make: Make, fake: FakeProvider, limit: int) -> None:
    gateway = make("native", limits=Limits(tenant_abandoned=limit))
    fake.fail_next(Stall(after_events=2))
    caller = Broken(scope_of(tenant="a"), [encoded({**BODY, "stream": True})])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, gateway)
        await caller.until(2)
        await go_on(fake, lambda: not gateway.in_flight.watches)

    assert isinstance(caller.raised, OSError) == (limit == 0)
    assert len(caller.messages) == 2
