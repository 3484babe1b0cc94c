"""A store that hangs is left alone: after one time-out nobody waits for it, and one call at a time finds out."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import anyio
import pytest
from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

from gomodel_asgi import Gateway
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.observers import Warned
from gomodel_asgi.stores import Encrypted, KeyValueStore, MemoryStore, NoStore, PostgresStore, Record, RedisStore, Store
from gomodel_asgi.stores.circuit_breaker import FIRST, LONGEST, PROBE, SLOW, Circuit, Guarded, guarded, is_timeout
from gomodel_asgi.testing import FakeProvider

from ..support.clock import Clock
from ..support.databases import Server
from ..support.driving import Caller, ask
from ..support.lab import until
from ..support.remembering import provider_of, says
from ..support.tenants import of, tenant
from .test_shared import every_call, store_on


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock)


def refuses(circuit: Circuit) -> bool:
    """Whether a call is refused at this moment; one that is not is answered."""
    try:
        circuit.answered(circuit.enter())
    except StoreUnavailable:
        return True
    return False


# The circuit...


def test_it_is_open_after_one_time_out_and_closed_by_one_answer(circuit: Circuit, clock: Clock) -> None:
    assert not refuses(circuit) and not circuit.is_open
    circuit.timed_out(circuit.enter())
    assert refuses(circuit) and circuit.is_open
    clock.now += FIRST - 0.01
    assert refuses(circuit)
    clock.now += 0.01
    circuit.answered(circuit.enter())

    assert not circuit.is_open and not refuses(circuit)


def test_each_time_out_of_a_call_that_finds_out_doubles_the_pause_up_to_half_a_minute(
    circuit: Circuit, clock: Clock
) -> None:
    pauses = []
    for _ in range(8):
        circuit.timed_out(circuit.enter())
        start = clock.now
        while refuses_for(circuit):
            clock.now += 0.5
        pauses.append(clock.now - start)

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    circuit.answered(circuit.enter())
    circuit.timed_out(circuit.enter())
    clock.now += FIRST
    assert not refuses(circuit), "it begins anew"
    assert LONGEST == 30


def refuses_for(circuit: Circuit) -> bool:
    """Whether it is refused; a call that is not has given up at once, and leaves the circuit as it was."""
    try:
        circuit.given_up(circuit.enter())
    except StoreUnavailable:
        return True
    return False


def test_calls_that_were_under_way_when_it_opened_change_nothing_more(circuit: Circuit, clock: Clock) -> None:
    in_flight = [circuit.enter() for _ in range(100)]
    for entry in in_flight:
        circuit.timed_out(entry)
    clock.now += FIRST
    probe = circuit.enter()
    for entry in in_flight:
        circuit.answered(entry)
        circuit.timed_out(entry)

    assert circuit.is_open and refuses(circuit)
    circuit.answered(probe)
    assert not circuit.is_open


def test_one_call_at_a_time_finds_out_and_another_one_if_it_takes_too_long(circuit: Circuit, clock: Clock) -> None:
    circuit.timed_out(circuit.enter())
    clock.now += FIRST
    first = circuit.enter()
    assert refuses(circuit)
    clock.now += PROBE
    second = circuit.enter()
    assert refuses(circuit)
    circuit.timed_out(first)
    assert refuses(circuit), "the first has been given up"
    circuit.answered(second)

    assert not circuit.is_open


def test_a_call_that_is_cancelled_leaves_the_finding_out_to_the_next(circuit: Circuit, clock: Clock) -> None:
    circuit.timed_out(circuit.enter())
    clock.now += FIRST
    for _ in range(3):
        circuit.given_up(circuit.enter())
    circuit.answered(circuit.enter())

    assert not circuit.is_open


def test_what_is_refused_says_when_to_come_again_and_what_the_operator_may_know(circuit: Circuit, clock: Clock) -> None:
    circuit.timed_out(circuit.enter())
    clock.now += 0.25
    with pytest.raises(StoreUnavailable) as refused:
        circuit.enter()

    assert refused.value.retry_after == 0.75
    assert refused.value.detail == "not asked, since it did not answer in time; again in 1 s"


def test_of_many_threads_exactly_one_finds_out() -> None:
    clock = Clock()
    circuit = Circuit(clock)
    circuit.timed_out(circuit.enter())
    clock.now += FIRST
    let_in: list[bool] = []
    together = threading.Barrier(16)

    def enter() -> None:
        together.wait(20)
        try:
            circuit.enter()
        except StoreUnavailable:
            return
        let_in.append(True)

    threads = [threading.Thread(target=enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert let_in == [True]


# Around a store of the host's...


class Own:
    """A store of the host's that does what the test says before each answer, and counts its calls."""

    def __init__(self, before: Callable[[], Awaitable[object]]) -> None:
        self.inner = MemoryStore()
        self.atomic, self.enumerable, self.limitation, self.secret = True, True, "", self.inner.secret
        self.before = before
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.inner, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            await self.asked()
            return await inner(*arguments, **options)

        return call

    async def asked(self) -> None:
        self.calls += 1
        await self.before()

    async def scan(self, collection: str, prefix: str = "") -> AsyncIterator[str]:
        await self.asked()
        async for key in self.inner.scan(collection, prefix):
            yield key

    async def aclose(self) -> None:
        return None


class WithNameOnly(Exception):
    """As redis-py and others tell it: no TimeoutError of Python's."""


WithNameOnly.__name__ = "TimeoutError"


def failing(error: BaseException) -> Callable[[], Awaitable[object]]:
    async def fail() -> object:
        raise error

    return fail


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


TIMEOUTS = {
    "Python's": TimeoutError(),
    "a library's": WithNameOnly(),
    "ours": caused(StoreUnavailable("x"), TimeoutError()),
    "two deep": caused(StoreUnavailable("x"), caused(OSError(), WithNameOnly())),
}


@pytest.mark.parametrize("error", TIMEOUTS.values(), ids=TIMEOUTS)
async def test_after_one_time_out_no_call_reaches_the_store(error: Exception, clock: Clock) -> None:
    own = Own(failing(error))
    store = Guarded(own, Circuit(clock))  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await store.get("things", "a")
    await every_call(store)

    assert own.calls == 1
    clock.now += FIRST
    own.before = anyio.lowlevel.checkpoint
    assert await store.add("things", "a", b"one") is not None
    assert [key async for key in store.scan("things")] == ["a"]
    assert await store.get("things", "a") is not None and await store.delete("things", "a")


@pytest.mark.parametrize("error", [ConnectionRefusedError(), StoreUnavailable("full"), ValueError(), LookupError()])
async def test_a_store_that_fails_at_once_is_asked_each_time(error: Exception, clock: Clock) -> None:
    own = Own(failing(error))
    store = Guarded(own, Circuit(clock))  # type: ignore[arg-type]
    for _ in range(5):
        with pytest.raises(type(error)):
            await store.get("things", "a")

    assert own.calls == 5


def test_what_was_being_handled_is_a_cause_unless_it_was_left_behind() -> None:
    error = OSError()
    error.__context__, error.__suppress_context__ = TimeoutError(), True

    assert not is_timeout(error)
    error.__suppress_context__ = False
    assert is_timeout(error)
    error.__context__ = ValueError()
    error.__context__.__context__ = error  # a circle, as a library may tie one
    assert not is_timeout(error)


async def test_who_gave_up_after_a_long_wait_has_seen_a_time_out_and_who_left_at_once_has_not(clock: Clock) -> None:
    own = Own(anyio.sleep_forever)
    store = Guarded(own, Circuit(clock))  # type: ignore[arg-type]
    for waited, is_open in ((SLOW - 0.1, False), (SLOW, True)):
        async with anyio.create_task_group() as group:
            group.start_soon(store.get, "things", "a")
            await anyio.wait_all_tasks_blocked()
            clock.now += waited
            group.cancel_scope.cancel()
        assert store.circuit.is_open is is_open


async def test_a_cancelled_call_that_should_find_out_does_not_leave_the_store_shut(clock: Clock) -> None:
    own = Own(failing(TimeoutError()))
    store = Guarded(own, Circuit(clock))  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        await store.get("things", "a")
    clock.now += FIRST
    own.before = anyio.sleep_forever
    async with anyio.create_task_group() as group:
        group.start_soon(store.get, "things", "a")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    own.before = anyio.lowlevel.checkpoint

    assert await store.get("things", "a") is None
    assert not store.circuit.is_open


def test_one_circuit_serves_several_event_loops(clock: Clock) -> None:
    own = Own(failing(TimeoutError()))
    store = Guarded(own, Circuit(clock))  # type: ignore[arg-type]

    async def look() -> Record | None:
        return await store.get("things", "a")

    with pytest.raises(TimeoutError):
        asyncio.run(look())
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            asyncio.run(look())
    clock.now += FIRST
    own.before = anyio.lowlevel.checkpoint
    asyncio.run(look())

    assert own.calls == 2


def test_what_cannot_hang_has_no_circuit_and_all_others_have() -> None:
    for plain in (MemoryStore(), NoStore()):
        assert guarded(plain) is plain
    for shared in (
        RedisStore("redis://127.0.0.1"),
        PostgresStore("postgresql://127.0.0.1/db"),
        KeyValueStore(KeyValueMemory()),
        Encrypted(RedisStore("redis://127.0.0.1"), bytes(32)),
    ):
        around = guarded(shared)
        assert isinstance(around, Guarded)
        for name in ("atomic", "enumerable", "limitation", "secret"):
            assert getattr(around, name) == getattr(shared, name)
        assert "://" not in repr(around)


# Behind a gateway...


class Hanging(NamedTuple):
    """A store that answers, and how it is made to hang and to answer again."""

    store: Store
    hang: Callable[[], object]
    resume: Callable[[], object]


class HangingEngine(KeyValueMemory):
    """An engine of py-key-value-aio."""

    hangs = False

    async def get(self, *arguments: Any, **options: Any) -> Any:
        while self.hangs:
            await anyio.sleep_forever()
        return await super().get(*arguments, **options)

    async def put(self, *arguments: Any, **options: Any) -> Any:
        while self.hangs:
            await anyio.sleep_forever()
        return await super().put(*arguments, **options)


async def until_it_times_out() -> None:
    with anyio.fail_after(0.05):
        await anyio.sleep_forever()


@pytest.fixture(params=["redis", "postgres", "key-value", "own"])
def hanging(request: pytest.FixtureRequest) -> Iterator[Hanging]:
    if request.param in ("redis", "postgres"):
        server: Server = request.getfixturevalue(f"{request.param}_server")
        yield Hanging(
            store_on(server, timeout=1.0),
            lambda: server.signal(signal.SIGSTOP),
            lambda: server.signal(signal.SIGCONT),
        )
        server.signal(signal.SIGCONT)
    elif request.param == "key-value":
        engine = HangingEngine()
        store = KeyValueStore(engine, timeout=0.05)
        yield Hanging(store, lambda: setattr(engine, "hangs", True), lambda: setattr(engine, "hangs", False))
    else:
        own, answers = Own(anyio.lowlevel.checkpoint), anyio.lowlevel.checkpoint
        yield Hanging(
            own,  # type: ignore[arg-type]
            lambda: setattr(own, "before", until_it_times_out),
            lambda: setattr(own, "before", answers),
        )


class Counting:
    """Counts the calls that reach *store*."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.store, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return inner(*arguments, **options)

        return call


@pytest.fixture
def chat() -> Iterator[FakeProvider]:
    with FakeProvider(name="chat").run_in_thread() as fake:
        yield fake


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_store_that_hangs_costs_one_time_out_and_not_each_request(
    hanging: Hanging, chat: FakeProvider, clock: Clock, stream: bool
) -> None:
    told: list[Any] = []
    gateway = Gateway(
        providers=[provider_of("chat", chat)], store=hanging.store, tenant=tenant, observers=[told.append]
    )
    store = gateway.state.records.store
    assert isinstance(store, Guarded)
    store.circuit.clock = clock
    reached = Counting(store._store)
    store._store = reached

    async def say(previous: str | None = None) -> Caller:
        chat.clear()
        chat.script(says("chat", "ok", stream=stream))
        body = {"model": "m", "input": "hi", "stream": stream, "previous_response_id": previous}
        return await ask(gateway, body, headers=of("acme"))

    def id_of(answer: Caller) -> str:
        return str((answer.events()[-1]["response"] if stream else answer.json())["id"])

    first = id_of(await say())
    assert (await say(first)).status == 200 and reached.calls
    hanging.hang()
    try:
        assert (await say()).status == 200
        await until(lambda: store.circuit.is_open)
        reached.calls = 0
        told.clear()
        lost = [id_of(await say()) for _ in range(3)]
        path = f"/v1/responses/{first}"
        refused = [await say(first), await ask(gateway, path=path, method="GET", headers=of("acme"))]
    finally:
        hanging.resume()

    assert reached.calls == 0
    assert len([one for one in told if isinstance(one, Warned) and "not asked" in one.message]) == 3
    for answer in refused:
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "store_unavailable", "1")
    clock.now += FIRST
    assert (await say(first)).status == 200
    assert not store.circuit.is_open
    assert (await say(lost[0])).error["code"] == "previous_response_not_found"
    assert (await say(id_of(await say()))).status == 200
    await gateway.aclose()
