"""An `AsyncObserver` gives records to a sink that waits, and never makes a request wait for it."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from gomodel_asgi.observers import AsyncObserver, Completed, Context, Record
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.seen import gateway_of

TIMEOUT = 20.0


def record(number: int) -> Record:
    return Record(Context(number, f"r-{number}"))


class Sink:
    """Keeps what it gets; waits until `go` is set before each."""

    def __init__(self, open: bool = True) -> None:
        self.got: list[int] = []
        self.open = open
        self.go = anyio.Event()
        self.entered = anyio.Event()

    async def __call__(self, record: Record) -> None:
        self.entered.set()
        if not self.open:
            await self.go.wait()
        self.got.append(record.context.exchange)


async def test_records_reach_the_sink_in_order() -> None:
    sink = Sink()
    observer = AsyncObserver(sink)
    for number in range(100):
        observer(record(number))
    await observer.aclose()

    assert sink.got == list(range(100))
    assert observer.dropped == 0


async def test_what_does_not_fit_is_dropped_and_counted() -> None:
    sink = Sink(open=False)
    observer = AsyncObserver(sink, queue=10)
    observer(record(0))
    with anyio.fail_after(TIMEOUT):
        await sink.entered.wait()
    for number in range(1, 31):
        observer(record(number))
    assert observer.dropped == 20
    sink.go.set()
    await observer.aclose()

    assert sink.got == list(range(11))


async def test_what_the_sink_raises_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def sink(record: Record) -> None:
        raise ValueError("sk-canary-key")

    observer = AsyncObserver(sink)
    for number in range(3):
        observer(record(number))
    await observer.aclose()

    assert observer.failed == 3
    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert [entry.name for entry in errors] == ["gomodel_asgi.observers"]


async def test_it_can_be_used_again_after_it_was_closed() -> None:
    sink = Sink()
    observer = AsyncObserver(sink)
    for number in range(2):
        observer(record(number))
        await observer.aclose()
        await observer.aclose()

    assert sink.got == [0, 1]


async def test_closing_what_was_never_used_does_nothing() -> None:
    await AsyncObserver(Sink()).aclose()


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError):
        AsyncObserver(Sink(), queue=0)


def test_each_event_loop_has_a_task_of_its_own() -> None:
    sinks: list[int] = []

    async def sink(record: Record) -> None:
        sinks.append(record.context.exchange)

    observer = AsyncObserver(sink)

    async def once(number: int) -> None:
        observer(record(number))
        await observer.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(once(1))
    asyncio.run(once(2))

    assert sinks == [1, 2]


def test_a_loop_that_ends_without_closing_it_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    async def sink(record: Record) -> None:
        started.set()
        await anyio.sleep_forever()

    observer = AsyncObserver(sink)

    async def once() -> None:
        observer(record(1))
        observer(record(2))
        await started.wait()

    asyncio.run(once())
    assert observer.dropped == 1


async def test_a_request_does_not_wait_for_the_sink(provider: FakeProvider) -> None:
    """The answer is complete while the sink still stands at the first record."""
    sink = Sink(open=False)
    observer = AsyncObserver(sink)
    async with gateway_of(provider, observer) as gateway:
        caller = await ask(gateway, {"model": "m", "input": "x", "stream": True})
        assert caller.complete and sink.got == []
        sink.go.set()

    assert len(sink.got) == 6


async def test_closing_the_gateway_gives_the_rest_to_the_sink(provider: FakeProvider) -> None:
    got: list[Record] = []

    async def sink(record: Record) -> None:
        await anyio.lowlevel.checkpoint()
        got.append(record)

    async with gateway_of(provider, AsyncObserver(sink)) as gateway:
        await ask(gateway, {"model": "m", "input": "x"})

    assert isinstance(got[-1], Completed)


async def test_a_sink_that_never_returns_is_given_up_in_the_end() -> None:
    sink = Sink(open=False)
    observer = AsyncObserver(sink, farewell=0.01)
    observer(record(1))
    observer(record(2))
    with anyio.fail_after(TIMEOUT):
        await observer.aclose()

    assert sink.got == []
    assert observer.dropped == 1
