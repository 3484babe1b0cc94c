"""The circuit breaker of a store or of counters: one that hangs is left alone, so that no request waits for it.

    closed ──a call timed out──► open for 1, 2, 4, … 30 s ──► one call goes through ──answered──► closed
                                      ▲                            │ timed out
                                      └────────────────────────────┘

Only waiting opens it. A store that fails at once costs nobody anything, and is called each time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec

from ..errors import GatewayError
from ..logs import log
from ..seams.store import NoStore, Record, Store, is_immediate
from .shared import store_unavailable

T = TypeVar("T")

# Seconds that it is open at first, and at the most.
FIRST, LONGEST = 1.0, 30.0

# Seconds without an answer that count as a time-out however the call then ended: whoever waited may have given up.
SLOW = 2.0

# Seconds that the one call which finds out may take before another one goes through.
PROBE = 10.0


State = Literal["closed", "open", "half-open"]
OnChange = Callable[[State, State], object]


class Pass(msgspec.Struct, frozen=True):
    """Leave to ask the store: in which state of the circuit, since when on the clock, and whether to find out."""

    state: int
    since: float
    probe: bool


class Circuit:
    """Whether an engine may be called, for all threads and event loops of a process. *clock* gives seconds that never
    go back; *engine* is its name in the log, and *unavailable* makes an error of a detail. `on_change` is called with
    the state as it was and as it is."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        engine: str = "state store",
        unavailable: Callable[[str], GatewayError] = store_unavailable,
    ) -> None:
        self.clock = clock
        self.on_change: OnChange | None = None
        self._engine = engine
        self._unavailable = unavailable
        self._lock = threading.Lock()
        self._state = 0  # counted up with each change, so that a call that began before it changes nothing
        self._pause = 0.0  # 0: closed
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the engine did not answer the last call in time."""
        return self._pause > 0

    def enter(self) -> Pass:
        """Returns leave to make one call; pair it with `answered`, `timed_out` or `given_up`.

        :raises GatewayError: what *unavailable* makes: it is open, or somebody finds out at this moment.
        """
        now = self.clock()
        if not self._pause:
            return Pass(self._state, now, False)
        with self._lock:
            left = self._until - now
            if self._pause and left > 0:
                error = self._unavailable(f"not asked, since it did not answer in time; again in {math.ceil(left)} s")
                error.retry_after = left
                raise error
            self._state += 1
            self._until = now + PROBE
            entry = Pass(self._state, now, self._pause > 0)
        if entry.probe:
            self._notify("open", "half-open")
        return entry

    async def ask(self, call: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        """Returns what *call* gives, unless it is open.

        :raises GatewayError: as `enter`; and whatever *call* raises.
        """
        entry = self.enter()
        try:
            answer = await call(*arguments, **options)
        except BaseException as error:
            if is_timeout(error) or self.clock() - entry.since >= SLOW:
                self.timed_out(entry)
            elif isinstance(error, Exception):
                self.answered(entry)
            else:
                self.given_up(entry)
            raise
        self.answered(entry)
        return answer

    def answered(self, entry: Pass) -> None:
        """Notes that the call has ended before anybody lost patience, if with a failure."""
        if entry.probe:
            self._change(entry, 0.0)

    def timed_out(self, entry: Pass) -> None:
        """Notes that the store has not answered in time."""
        pause = min(self._pause * 2, LONGEST) if entry.probe else FIRST
        if self._change(entry, pause):
            log("circuit_opened", engine=self._engine, seconds=pause)

    def given_up(self, entry: Pass) -> None:
        """Notes that the call was cancelled before its end: another one may find out."""
        if entry.probe:
            self._change(entry, self._pause, at_once=True)

    def _change(self, entry: Pass, pause: float, *, at_once: bool = False) -> bool:
        with self._lock:
            if entry.state != self._state:
                return False
            self._state += 1
            self._pause = pause
            self._until = self.clock() + (0.0 if at_once else pause)
        self._notify("half-open" if entry.probe else "closed", "open" if pause else "closed")
        return True

    def _notify(self, was: State, now: State) -> None:
        if self.on_change is not None:
            self.on_change(was, now)


class Guarded:
    """A *store* behind a circuit breaker."""

    def __init__(self, store: Store, circuit: Circuit | None = None) -> None:
        self.circuit = circuit or Circuit()
        self._store = store
        self.atomic = store.atomic
        self.enumerable = store.enumerable
        self.limitation = store.limitation
        self.secret = store.secret
        self.max_bytes: int | None = getattr(store, "max_bytes", None)
        self.seals: bool = getattr(store, "seals", False)
        if hasattr(store, "add_with"):
            self.add_with = partial(self.circuit.ask, store.add_with)

    def __repr__(self) -> str:
        return f"<Guarded {self._store!r}>"

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        return await self.circuit.ask(self._store.get, collection, key)

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        """Returns the record of each of *keys*: one call of a store that has a `get_many`, else one for each."""
        at_once: Callable[..., Awaitable[list[Record | None]]] | None = getattr(self._store, "get_many", None)
        if at_once is None:
            return [await self.get(collection, key) for key in keys]
        return await self.circuit.ask(at_once, collection, keys)

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        await self.circuit.ask(self._store.put, collection, key, value, ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """See `Store.add`."""
        return await self.circuit.ask(self._store.add, collection, key, value, ttl=ttl)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """See `Store.swap`."""
        return await self.circuit.ask(self._store.swap, collection, key, expected, value, ttl=ttl)

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        return await self.circuit.ask(self._store.delete, collection, key)

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        """Removes the records of *keys*: one call of a store that has a `delete_many`, else one for each."""
        at_once: Callable[..., Awaitable[None]] | None = getattr(self._store, "delete_many", None)
        if at_once is not None:
            return await self.circuit.ask(at_once, collection, keys)
        for key in keys:
            await self.delete(collection, key)

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`."""
        async with aclosing(self._store.scan(collection, prefix)) as keys:
            while (key := await self.circuit.ask(anext, keys, None)) is not None:
                yield key

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._store.aclose()


def guarded(store: Store) -> Store:
    """Returns *store* behind a circuit breaker of its own, unless it is one that cannot hang."""
    return store if isinstance(store, NoStore) or is_immediate(store) else Guarded(store)


def is_timeout(error: BaseException) -> bool:
    """Returns whether a time-out is at the bottom of *error*, under whatever name a library raises it."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, TimeoutError) or type(cause).__name__ == "TimeoutError":
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False
