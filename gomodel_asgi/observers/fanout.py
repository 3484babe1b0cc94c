"""The observers of a gateway as one: whatever one of them does, the others and the request go on."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import anyio
from anyio.lowlevel import RunVar

from ..arguments import check_count, check_function, check_seconds
from ..logs import log
from ..seams.health import State
from .records import NO_EXCHANGE, BreakerChanged, KeepAliveLost, Record, clean


class Observer(Protocol):
    """Called with each record, on the event loop: it must not block, cannot steer, and what it raises is logged once.

    One that has an `async def aclose(self)` is closed with the gateway.
    """

    def __call__(self, record: Record, /) -> object: ...


class Observers:
    """All of a gateway's observers; false where there is none."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.observers = tuple(observers)
        self.failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.observers)

    def add(self, observer: Observer) -> None:
        """Calls *observer* too, with the records to come."""
        self.observers = (*self.observers, observer)

    def notify(self, record: Record) -> None:
        """Calls each observer with *record*; what one raises is logged the first time."""
        for observer in self.observers:
            try:
                observer(record)
            except Exception as error:
                self._failed(observer, error)

    def keepalive_lost(self, origin: str, seconds: float) -> None:
        """Notifies that connections to *origin* are not used again for *seconds*."""
        if self.observers:
            self.notify(KeepAliveLost(NO_EXCHANGE, origin=origin, seconds=seconds))

    def breaker_changed(self, provider: str, model: str | None, was: State, now: State) -> None:
        """Notifies that a circuit breaker has opened, closed, or is being tried."""
        if self.observers:
            self.notify(BreakerChanged.of(provider, clean(model), was, now))

    @property
    def dropped(self) -> int:
        """Records that observers with a queue of their own had no room for."""
        counts = (getattr(observer, "dropped", 0) for observer in self.observers)
        return sum(count for count in counts if isinstance(count, int))

    async def aclose(self) -> None:
        """Closes the observers that can be closed. Never raises."""
        for observer in self.observers:
            closing: Any = getattr(observer, "aclose", None)
            if closing is not None:
                try:
                    await closing()
                except Exception as error:
                    self._failed(observer, error)

    def _failed(self, observer: object, error: Exception) -> None:
        # Its type only: the text of an exception may quote anything, a key included.
        if id(observer) not in self.failed:
            self.failed.add(id(observer))
            log("observer_failed", observer=type(observer).__qualname__, error=type(error).__name__)


Sink = Callable[[Record], Awaitable[object]]


class AsyncObserver:
    """Gives records to *sink*, an async callable, one after the other in order, without the request waiting for it.

    At most *queue* records wait; what comes beyond that is dropped and counted in `dropped`. What the sink raises is
    counted in `failed` and logged the first time. The task behind it starts with the first record, one for each event
    loop, and ends with `aclose()`, which the gateway calls when it is closed: the sink has *farewell* seconds then.

    :raises ValueError: *queue* is less than 1.
    """

    def __init__(self, sink: Sink, queue: int = 1000, *, farewell: float = 5.0) -> None:
        check_function("sink", sink, "an async function of a record")
        check_count("queue", queue, at_least=1)
        check_seconds("farewell", farewell)
        self.sink = sink
        self.queue = queue
        self.farewell = farewell
        self.dropped = 0
        self.failed = 0
        self.of_loop: RunVar[Worker] = RunVar(f"gomodel_asgi_observer_{id(self)}")

    def __call__(self, record: Record) -> None:
        worker = self.of_loop.get(None)
        if worker is None or worker.closing:
            worker = Worker(self)
            self.of_loop.set(worker)
            worker.start()
        if len(worker.waiting) >= self.queue:
            self.dropped += 1
            return
        worker.waiting.append(record)
        worker.wake.set()

    async def aclose(self) -> None:
        """Ends the running loop's task: the sink still gets what is queued, for *farewell* seconds at the most."""
        worker = self.of_loop.get(None)
        if worker is not None and not worker.closing:
            await worker.close()


class Worker:
    """The task of one event loop."""

    def __init__(self, observer: AsyncObserver) -> None:
        self.observer = observer
        self.waiting: deque[Record] = deque()
        self.wake = anyio.Event()
        self.ended = anyio.Event()
        self.scope = anyio.CancelScope()
        self.closing = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task on the running event loop, outside of any request's own context."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            trio.lowlevel.spawn_system_task(self._run)
            return
        self.task = loop.create_task(self._run(), context=contextvars.Context())

    async def close(self) -> None:
        """Ends the task; the sink has `farewell` seconds for what is queued. Never raises."""
        self.closing = True
        self.wake.set()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(self.observer.farewell):
                await self.ended.wait()
            self.scope.cancel()
            await self.ended.wait()

    async def _run(self) -> None:
        try:
            with self.scope:
                while not self.closing or self.waiting:
                    await self._emptied()
        finally:
            self.closing = True  # however it ended: the next record starts a new one
            self.observer.dropped += len(self.waiting)
            self.waiting.clear()
            self.ended.set()

    async def _emptied(self) -> None:
        while self.waiting:
            await self._given(self.waiting.popleft())
        if not self.closing:
            self.wake = anyio.Event()
            await self.wake.wait()

    async def _given(self, record: Record) -> None:
        try:
            await self.observer.sink(record)
        except Exception as error:
            self.observer.failed += 1
            if self.observer.failed == 1:
                log("sink_failed", error=type(error).__name__)
