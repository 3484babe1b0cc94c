"""What the host and its policy may do wrong: one section for each row of the table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from gomodel_asgi import (
    Denied,
    Gateway,
    GoModelMiddleware,
    MemoryStore,
    Provider,
    RateLimited,
    RoutingError,
    RoutingRequest,
    Target,
    Timeouts,
    Unauthenticated,
    UnknownModel,
)
from gomodel_asgi.deadline import ForeignCancellation
from gomodel_asgi.errors import ServerShutdown, StoreUnavailable
from gomodel_asgi.guards import Guard
from gomodel_asgi.observers import AsyncObserver, Record, Warned
from gomodel_asgi.quotas import Quotas
from gomodel_asgi.stores import Record as Stored
from gomodel_asgi.testing import Cut, FakeProvider, Scripted, Stall, Status
from gomodel_asgi.threads import THREADS, call, in_thread

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of, told_failure
from ..support.exchanges import STREAM, UNARY, streamed
from ..support.lab import KEY, KINDS, Lab, anyio_backend, fakes, kind, lab, until

__all__ = ["anyio_backend", "fakes", "kind", "lab"]


class Mistake(Exception):
    """The host's own."""


def raising(error: BaseException) -> Callable[[RoutingRequest], Target]:
    def policy(request: RoutingRequest) -> Target:
        raise error

    return policy


def both_ways(answer: Any) -> list[Any]:
    """A policy that gives *answer*, as a plain function and as a coroutine function."""

    async def waits(request: RoutingRequest) -> Any:
        await anyio.lowlevel.checkpoint()
        return answer() if callable(answer) else answer

    return [lambda request: answer() if callable(answer) else answer, waits]


def fails() -> Target:
    raise Mistake("canary: the host's database said no")


# 1: raises, answers rubbish, names nobody...


@pytest.mark.parametrize("policy", [*both_ways(fails)], ids=["plain", "async"])
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_policy_that_raises_is_a_500_without_detail_and_the_host_gets_the_exception(
    lab: Lab, policy: Any, body: Any
) -> None:
    lab.make(policy=policy)

    answer = await lab.ask(body)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert b"canary" not in answer.content
    assert isinstance(answer.raised, Mistake)
    assert not lab.bad.requests


@pytest.mark.parametrize("rubbish", [None, "bad", 1, {"provider": "bad"}, [], Target])
@pytest.mark.parametrize("way", [0, 1], ids=["plain", "async"])
async def test_a_policy_that_answers_rubbish_is_a_500_and_the_host_gets_a_type_error(
    lab: Lab, rubbish: Any, way: int
) -> None:
    lab.make(policy=both_ways(lambda: rubbish)[way])

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert isinstance(answer.raised, TypeError)


@pytest.mark.parametrize("target", [Target("nobody"), Target("bad", fallbacks=[Target("nobody")])])
async def test_a_target_that_names_an_unknown_provider_is_a_500_and_a_lookup_error(lab: Lab, target: Target) -> None:
    lab.make(policy=lambda request: target)

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert isinstance(answer.raised, LookupError) and "nobody" in str(answer.raised)
    assert not lab.bad.requests


REFUSALS: dict[str, tuple[Exception, int, str | None]] = {
    "routing error": (RoutingError("No.", status=418, code="teapot", param="x"), 418, "teapot"),
    "unauthenticated": (Unauthenticated(), 401, "unauthenticated"),
    "denied": (Denied("No."), 403, "permission_denied"),
    "rate limited": (RateLimited("No.", retry_after=7), 429, "rate_limit_exceeded"),
    "unknown model": (UnknownModel("No."), 404, "model_not_found"),
    "Starlette's": (HTTPException(429, "No.", {"Retry-After": "7"}), 429, None),
}


@pytest.mark.parametrize(("error", "status", "code"), REFUSALS.values(), ids=REFUSALS)
async def test_a_policys_refusal_is_the_clients_answer_and_no_error_of_the_host(
    lab: Lab, error: Exception, status: int, code: str | None
) -> None:
    lab.make(policy=raising(error))

    answer = await lab.ask(STREAM)

    assert (answer.status, answer.error["code"], answer.raised) == (status, code, None)
    assert status != 429 or answer.headers["retry-after"] == "7"


class Keyless:
    """A user without any id."""

    is_authenticated = True

    @property
    def identity(self) -> str:
        raise NotImplementedError


async def test_a_user_who_cannot_be_told_from_others_is_a_500_and_never_nobody(lab: Lab) -> None:
    lab.make()

    answer = await lab.ask(UNARY, user=Keyless())

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert isinstance(answer.raised, LookupError)
    assert not lab.bad.requests


@pytest.mark.parametrize("tenant", [lambda scope: fails(), lambda scope: 7], ids=["raises", "answers rubbish"])
async def test_a_tenant_callable_that_fails_is_a_500_told_to_the_host(lab: Lab, tenant: Any) -> None:
    lab.make(tenant=tenant)

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert isinstance(answer.raised, Mistake | TypeError)
    assert not lab.bad.requests


@pytest.mark.parametrize("key", [lambda: fails(), lambda: "two words", lambda: "line\nbreak", lambda: 7])
async def test_a_key_that_cannot_be_had_or_sent_is_a_500_that_does_not_show_it(lab: Lab, key: Any) -> None:
    lab.make(lab.provider(lab.bad, api_key=key))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert answer.raised is not None
    assert "line" not in str(answer.raised) and "two words" not in str(answer.raised)
    assert not lab.bad.requests


# 2: hangs, blocks, overloads...


async def awaits_what_was_cancelled(*given: Any) -> Any:
    """Host code that awaits a task of its own, which somebody else has cancelled."""
    task = asyncio.get_running_loop().create_task(asyncio.sleep(TIMEOUT))
    task.cancel()
    await task


async def raises_cancelled(*given: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.parametrize("kind", [one for one in KINDS if one[1] == "asyncio"], indirect=True, ids="-".join)
@pytest.mark.parametrize("function", [awaits_what_was_cancelled, raises_cancelled])
@pytest.mark.parametrize(
    "role", ["policy", "tenant", "api_key", "quota rules", "guard of the input", "guard of the output"]
)
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_what_the_host_awaits_and_somebody_else_cancels_is_a_failure_of_the_host_and_no_cancellation(
    lab: Lab, function: Any, role: str, body: Any
) -> None:
    key = function if role == "api_key" else KEY
    options: dict[str, Any] = {
        "policy": {"policy": function},
        "tenant": {"tenant": function},
        "api_key": {},
        "quota rules": {"quotas": Quotas(function)},
        "guard of the input": {"guards": [Guard("g", input=function)]},
        "guard of the output": {"guards": [Guard("g", output=function, hold=5)]},
    }[role]
    lab.make(lab.provider(lab.bad, api_key=key), **options)

    answer = await lab.ask(body)

    if role == "guard of the output" and body is STREAM:
        assert answer.events()[-1]["type"] == "response.failed"
    elif role.startswith("guard"):
        assert (answer.status, answer.error["code"]) == (503, "guard_unavailable")
    else:
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert type(answer.raised) is ForeignCancellation


@pytest.mark.parametrize("shielded", [False, True], ids=["awaits", "swallows the cancellation once"])
async def test_a_policy_that_hangs_is_a_504(lab: Lab, shielded: bool) -> None:
    async def policy(request: RoutingRequest) -> Target:
        if shielded:
            with anyio.CancelScope():
                try:
                    await anyio.sleep_forever()
                finally:
                    pass
        await anyio.sleep_forever()
        raise AssertionError

    lab.make(policy=policy, timeouts=Timeouts(policy=0.1))

    answer = await lab.ask(UNARY)

    assert (answer.status, answer.error["code"], answer.raised) == (504, "policy_timeout", None)
    lab.gateway.reload(policy=at_once)
    assert (await lab.ask(UNARY)).status == 200


async def at_once(request: RoutingRequest) -> Target:
    return request.default()


async def test_a_plain_policy_that_blocks_is_a_504_and_others_go_on(lab: Lab) -> None:
    over = threading.Event()

    def policy(request: RoutingRequest) -> Target:
        if request.model == "slow":
            over.wait(TIMEOUT)
        return request.default()

    lab.make(policy=policy, timeouts=Timeouts(policy=0.2))
    slow = Caller(scope_of(), [encoded({**UNARY, "model": "slow"})])
    try:
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(slow.run, lab.gateway)
                assert (await lab.ask(UNARY)).status == 200
        assert (slow.status, slow.error["code"]) == (504, "policy_timeout")
    finally:
        over.set()


async def test_policies_that_block_never_take_more_threads_than_there_are_slots(lab: Lab) -> None:
    over = threading.Event()
    lock = threading.Lock()
    inside = most = 0

    def policy(request: RoutingRequest) -> Target:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        over.wait(TIMEOUT)
        with lock:
            inside -= 1
        return request.default()

    lab.make(policy=policy, timeouts=Timeouts(policy=0.3))
    try:
        with anyio.fail_after(TIMEOUT):
            while most < THREADS:  # on a busy machine some time out before their thread has begun
                callers = [Caller(scope_of(), [encoded(UNARY)]) for _ in range(THREADS + 20)]
                async with anyio.create_task_group() as tasks:
                    for caller in callers:
                        tasks.start_soon(caller.run, lab.gateway)
                assert {caller.error["code"] for caller in callers} == {"policy_timeout"}
        assert (await lab.ask(UNARY)).error["code"] == "policy_timeout"  # at once: every slot is held
        assert most == THREADS
    finally:
        over.set()
    await until(lambda: not inside)

    async def well() -> bool:
        return (await lab.ask(UNARY)).status == 200

    with anyio.fail_after(TIMEOUT):
        while not await well():
            pass


async def test_a_policy_that_was_given_up_before_its_thread_began_holds_no_slot(lab: Lab) -> None:
    """It is not called any more either. As anyio does it where the machine is too busy to start a thread in time."""
    called: list[object] = []
    late: list[Callable[[], Any]] = []

    async def host(function: Callable[[], Any]) -> Any:
        late.append(function)
        scope.cancel()
        await anyio.sleep_forever()

    token = in_thread.set(host)
    try:
        with anyio.fail_after(TIMEOUT):
            for _ in range(THREADS + 1):
                with anyio.CancelScope() as scope:
                    await call(called.append, "late")
    finally:
        in_thread.reset(token)
    for function in late:
        function()

    with anyio.fail_after(TIMEOUT):
        await call(called.append, "in time")
    assert called == ["in time"]
    assert len(late) == THREADS + 1


# 3: an observer fails, or takes long...


def raises(record: Record) -> None:
    raise Mistake(f"canary: cannot keep {record!r}")


async def never(record: Record) -> None:
    await anyio.sleep_forever()


OBSERVERS: dict[str, Callable[[], Any]] = {
    "raises": lambda: raises,
    "awaits for ever": lambda: AsyncObserver(never, farewell=0.01),
    "has no room": lambda: AsyncObserver(never, 1, farewell=0.01),
}
ENDS: dict[str, tuple[Any, Any]] = {
    "answered": (UNARY, None),
    "streamed": (STREAM, None),
    "refused": (UNARY, Status(400)),
    "failed": (STREAM, Status(503)),
    "cut": (STREAM, Cut(after_events=3)),
}


@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=OBSERVERS)
@pytest.mark.parametrize(("body", "fault"), ENDS.values(), ids=ENDS)
async def test_an_observer_that_fails_or_waits_changes_nothing_of_the_answer(
    lab: Lab, observer: Callable[[], Any], body: Any, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answers = []
    for observers in ([], [observer()]):
        lab.make(observers=observers, stamp=False)
        lab.bad.script(Scripted(streamed() if body is STREAM else None, (fault,) if fault is not None else ()))
        answers.append(await lab.ask(body))

    without, observed = answers
    assert (observed.status, observed.complete, observed.raised) == (without.status, without.complete, None)
    assert [event["type"] for event in observed.events()] == [event["type"] for event in without.events()]
    told = [
        record for record in caplog.records if record.name.startswith("gomodel_asgi") and record.levelname == "ERROR"
    ]
    assert len(told) == (observer is OBSERVERS["raises"])


async def test_a_client_that_leaves_is_let_go_whatever_the_observer_does(lab: Lab) -> None:
    lab.make(observers=[raises])
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            caller.leave()
    with anyio.fail_after(TIMEOUT):
        await lab.bad.requests[0].disconnected.wait()

    assert caller.raised is None


# 4: the store is down, full, or gives rubbish...


class Down(MemoryStore):
    """Every call raises *failure*."""

    failure: Exception = StoreUnavailable("The store does not answer.", detail="canary: down")

    async def get(self, collection: str, key: str) -> Stored | None:
        raise self.failure

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        raise self.failure

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        raise self.failure


class Foreign(Down):
    """Raises what no store may raise."""

    failure = Mistake("canary: the driver's own")


class Full(MemoryStore):
    """Reads well, and has no room for anything."""

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        raise StoreUnavailable("The store does not answer.", detail="canary: full")


class Rubbish(MemoryStore):
    """Finds something under every key, and never what was put there."""

    async def get(self, collection: str, key: str) -> Stored | None:
        return Stored(b"\xff\x00 not what was written", 1)


class Wrong(MemoryStore):
    """Answers what is no record at all."""

    async def get(self, collection: str, key: str) -> Any:
        return "canary"


STORES = [Down, Foreign, Full, Rubbish, Wrong]
failing_stores = pytest.mark.parametrize("store", STORES, ids=[store.__name__.lower() for store in STORES])


@failing_stores
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_request_without_history_is_answered_whatever_the_store_does_and_observers_are_warned(
    lab: Lab, store: type[MemoryStore], body: Any
) -> None:
    told: list[Record] = []
    lab.make(store=store(), observers=[told.append])

    answer = await lab.ask(body)

    assert (answer.status, answer.complete, answer.raised) == (200, True, None)
    assert b"canary" not in answer.content
    assert [record for record in told if isinstance(record, Warned)] or store is Rubbish


@failing_stores
async def test_what_needs_history_is_a_503_or_says_that_there_is_none(lab: Lab, store: type[MemoryStore]) -> None:
    lab.make(store=store(), tenant=lambda scope: "ada")

    answer = await lab.ask({**UNARY, "previous_response_id": "resp_1"})

    absent = store in (Full, Rubbish)
    expected = (400, "previous_response_not_found") if absent else (503, "store_unavailable")
    assert (answer.status, answer.error["code"], answer.raised) == (*expected, None)
    assert b"canary" not in answer.content
    assert not lab.bad.requests


# 5: no lifespan, shutdown...


async def test_streams_that_are_open_when_the_host_drains_end_in_band(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(drain=0.1))
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            await lab.gateway.drain()

    assert told_failure(caller.events(), caller.content) == "server_shutdown"
    assert caller.complete
    late = await lab.ask(UNARY)
    assert (late.status, late.error["code"]) == (503, "server_shutdown")
    assert late.headers["retry-after"]


async def test_a_request_that_waits_when_the_host_drains_is_a_503(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(drain=0.1))
    lab.bad.fail_next(Stall())
    caller = Caller(scope_of(), [encoded(UNARY)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await lab.bad.received()
            await lab.gateway.drain()

    assert (caller.status, caller.error["code"]) == (503, "server_shutdown")


async def test_draining_waits_for_what_ends_in_time(lab: Lab) -> None:
    lab.make(timeouts=Timeouts(drain=TIMEOUT))
    lab.bad.fail_next(Stall())
    caller = Caller(scope_of(), [encoded(UNARY)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await lab.bad.received()
            tasks.start_soon(lab.gateway.drain)
            await lab.release(lambda: caller.messages)

    assert caller.status == 200


async def test_after_draining_the_hosts_own_code_is_refused_too(lab: Lab) -> None:
    lab.make()
    await lab.gateway.drain()

    with pytest.raises(ServerShutdown):
        await lab.gateway.respond(UNARY)


async def test_a_server_that_cancels_while_the_client_is_there_has_the_stream_ended_in_band(lab: Lab) -> None:
    lab.make()
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as server:
                tasks.start_soon(_cancel_when_begun, caller, server)
                await caller.run(lab.gateway)
    assert server.cancelled_caught
    assert told_failure(caller.events(), caller.content) == "server_shutdown"
    assert caller.complete


async def _cancel_when_begun(caller: Caller, server: anyio.CancelScope) -> None:
    await caller.until(2)
    server.cancel()


# 6: several loops, several gateways, reload...


def test_one_gateway_serves_one_event_loop_after_another(fakes: tuple[FakeProvider, FakeProvider]) -> None:
    gateway = Gateway(providers=[Provider("bad", fakes[0].base_url)])

    async def once() -> int:
        answers = [await ask(gateway, UNARY) for _ in range(2)]
        await gateway.aclose()
        return answers[-1].status

    assert [asyncio.run(once()), anyio.run(once), anyio.run(once, backend="trio"), asyncio.run(once())] == [200] * 4


def test_one_gateway_serves_several_event_loops_at_once(fakes: tuple[FakeProvider, FakeProvider]) -> None:
    fakes[0].clear()
    gateway = Gateway(providers=[Provider("bad", fakes[0].base_url, max_concurrency=2)], policy=policy_in_a_thread)
    together = threading.Barrier(4)
    statuses: list[int] = []

    async def several() -> None:
        together.wait(TIMEOUT)
        for body in (UNARY, STREAM) * 5:
            statuses.append((await ask(gateway, body)).status)
        await gateway.aclose()

    threads = [threading.Thread(target=anyio.run, args=(several,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)

    assert statuses == [200] * 40


def policy_in_a_thread(request: RoutingRequest) -> Target:
    return request.default()


async def test_several_gateways_in_one_app_know_nothing_of_each_other(lab: Lab) -> None:
    """One behind the other, each with its own prefix, limit and store, though their provider is the same."""
    stores = MemoryStore(), MemoryStore()
    inner = lab.make(lab.provider(lab.bad, max_concurrency=5), prefix="/inner", store=stores[0])
    outer = lab.make(lab.provider(lab.bad, max_concurrency=1), prefix="/outer", store=stores[1])
    app = GoModelMiddleware(GoModelMiddleware(nobody, gateway=inner), gateway=outer)
    lab.bad.fail_next(Stall())
    stuck = Caller(scope_of("/outer/responses"), [encoded(UNARY)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stuck.run, app)
            await lab.bad.received()
            answers = [await ask(app, UNARY, path="/inner/responses") for _ in range(3)]
            await lab.release(lambda: stuck.complete)

    assert [answer.status for answer in (*answers, stuck)] == [200] * 4
    assert [len(store) for store in stores] == [3, 1]
    assert (await ask(app, path="/v1/responses")).status == 404


async def nobody(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("nothing here", 404)(scope, receive, send)


async def test_a_stream_that_runs_while_providers_are_replaced_ends_on_the_old_ones(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad))
    lab.bad.fail_next(Stall(after_events=4))
    caller = Caller(scope_of(), [encoded(STREAM)])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, lab.gateway)
            await caller.until(2)
            lab.gateway.reload(providers=[lab.provider(lab.good, "new")])
            assert (await lab.ask(UNARY)).headers["x-gomodel-provider"] == "new"
            await lab.release(lambda: caller.complete)

    assert caller.events()[-1]["type"] == "response.completed"
    assert caller.headers["x-gomodel-provider"] == "bad"


async def test_a_reload_that_fails_changes_nothing(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad))
    with pytest.raises(ValueError, match="at least one"):
        lab.gateway.reload(providers=[])

    assert (await lab.ask(UNARY)).headers["x-gomodel-provider"] == "bad"


# 7: middlewares outside us...


async def test_a_gzip_middleware_outside_leaves_a_stream_alone(lab: Lab) -> None:
    app = GZipMiddleware(lab.make())

    answer = await ask(app, STREAM, headers=[(b"content-type", b"application/json"), (b"accept-encoding", b"gzip")])

    assert answer.events()[-1]["type"] == "response.completed"
    assert answer.headers["cache-control"] == "private, no-store, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"


MOST_CALLS = 100_000
"""Of a `receive` that never waits: whoever calls it as often as that keeps the event loop."""


class Replayed:
    """What a middleware gives us for `receive` that has read the body itself: *then* for ever, without waiting."""

    def __init__(self, body: bytes, then: Message) -> None:
        self.messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        self.then = then
        self.calls = 0

    async def __call__(self) -> Message:
        self.calls += 1
        assert self.calls < MOST_CALLS
        return self.messages.pop() if self.messages else self.then


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("more", [False, True], ids=["the body again", "pieces without end"])
async def test_a_middleware_that_replays_the_body_and_never_waits_does_not_keep_the_event_loop(
    lab: Lab, body: Any, more: bool
) -> None:
    gateway = lab.make()
    lab.bad.fail_next(Stall())
    raw = encoded(body)
    receive = Replayed(raw, {"type": "http.request", "body": b"" if more else raw, "more_body": more})
    caller = Caller(scope_of())

    async def asks() -> None:
        await gateway(caller.scope, receive, caller.send)

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asks)
            await until(lambda: receive.calls >= 3)  # one for the body, the others listen for a disconnect
            await lab.release(lambda: caller.complete)

    assert caller.status == 200
    assert more or receive.calls == 3


async def test_a_body_of_empty_pieces_without_end_is_a_408_and_others_go_on(lab: Lab) -> None:
    gateway = lab.make(timeouts=Timeouts(body=0.1))
    receive = Replayed(b"", {"type": "http.request", "body": b"", "more_body": True})
    receive.messages.clear()
    caller = Caller(scope_of())
    turns = 0

    async with anyio.create_task_group() as tasks:

        async def takes_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(takes_turns)
        with anyio.fail_after(TIMEOUT):
            await gateway(caller.scope, receive, caller.send)
        tasks.cancel_scope.cancel()

    assert caller.status == 408
    assert turns >= receive.calls // 2
