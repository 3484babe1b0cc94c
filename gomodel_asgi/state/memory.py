"""The default store: a bounded LRU cache in this process.

Two shelves, each in the order of last use. Records that expire lie on one and go first when room is needed; those
meant to last for ever (the generations of forgotten tenants) lie on the other and go only when nothing else is left.
An expired record is removed when it is met, not by a clock of its own: the bounds hold without one.

Nothing here waits, so one lock makes it safe for any number of threads, event loops and async libraries.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable

import anyio.lowlevel
import msgspec

from ..errors import StoreUnavailable
from ..settings import MIB
from .store import THIRTY_DAYS, Record, lifetime, new_version

Place = tuple[str, str]

# What CPython spends on a record beside its bytes: entry, place, version, slot in the table.
OVERHEAD = 400

# Keys looked at between two chances for other tasks to run; about 0.1 ms.
PAGE = 1000


class Entry(msgspec.Struct, frozen=True, gc=False):
    value: bytes
    version: int
    expires: float
    size: int


class MemoryStore:
    """Keeps at most *max_entries* records of at most *max_bytes* together, keys and overhead counted, for *ttl* seconds
    where a write says nothing else; drops the least recently used. All is lost with the process, and no other process
    sees it. *clock* gives seconds that never go back."""

    atomic = True
    enumerable = True
    limitation = ""
    evicts = True
    """Whether it may drop a record before its time: the one that was used longest ago."""

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 64 * MIB,
        ttl: float = THIRTY_DAYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_entries < 1 or max_bytes < 1:
            raise ValueError("max_entries and max_bytes must be at least 1.")
        self.secret = os.urandom(32)
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._ttl = lifetime(ttl, ttl)
        self._clock = clock
        self._lock = threading.Lock()
        self._passing: OrderedDict[Place, Entry] = OrderedDict()
        self._lasting: OrderedDict[Place, Entry] = OrderedDict()
        self._bytes = 0

    async def get(self, collection: str, key: str) -> Record | None:
        with self._lock:
            return self._find((collection, key))

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        seconds = self._ttl if ttl is None else lifetime(ttl, self._ttl)
        with self._lock:
            self._keep((collection, key), value, seconds)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        seconds = self._ttl if ttl is None else lifetime(ttl, self._ttl)
        place = (collection, key)
        with self._lock:
            return None if self._find(place) else self._keep(place, value, seconds)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        seconds = lifetime(ttl, self._ttl)
        place = (collection, key)
        with self._lock:
            held = self._find(place)
            return self._keep(place, value, seconds) if held and held.version == expected else None

    async def delete(self, collection: str, key: str) -> bool:
        place = (collection, key)
        with self._lock:
            there = self._find(place) is not None
            self._drop(place)
            return there

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        with self._lock:
            places = [*self._lasting, *self._passing]
        for start in range(0, len(places), PAGE):
            for key in self._matching(places[start : start + PAGE], collection, prefix):
                yield key
            await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Does nothing: records live as long as the store."""

    def __len__(self) -> int:
        """Records held, expired ones that nobody has met included."""
        return len(self._passing) + len(self._lasting)

    @property
    def lasts(self) -> bool:
        """Whether it holds any record that is meant to last for ever."""
        return bool(self._lasting)

    @property
    def size(self) -> int:
        """Bytes held, as *max_bytes* counts them."""
        return self._bytes

    def __repr__(self) -> str:
        return f"<MemoryStore entries={len(self)}/{self._max_entries} bytes={self._bytes}/{self._max_bytes}>"

    # Under the lock...

    def _find(self, place: Place) -> Record | None:
        shelf = self._passing if place in self._passing else self._lasting
        entry = shelf.get(place)
        if entry is None:
            return None
        if entry.expires <= self._clock():
            self._drop(place)
            return None
        shelf.move_to_end(place)
        return Record(entry.value, entry.version)

    def _keep(self, place: Place, value: bytes, seconds: float) -> int:
        size = len(value) + len(place[0]) + len(place[1]) + OVERHEAD
        if size > self._max_bytes:
            raise StoreUnavailable(
                "The record is larger than the whole store may be: raise MemoryStore(max_bytes=...)."
            )
        passing, lasting = self._passing, self._lasting
        if place in passing or place in lasting:
            self._drop(place)
        while self._bytes + size > self._max_bytes or len(passing) + len(lasting) >= self._max_entries:
            self._drop(next(iter(passing or lasting)))
        entry = Entry(value, new_version(), self._clock() + seconds, size)
        shelf = lasting if seconds == math.inf else passing
        shelf[place] = entry
        self._bytes += size
        return entry.version

    def _drop(self, place: Place) -> None:
        entry = self._passing.pop(place, None) or self._lasting.pop(place, None)
        if entry is not None:
            self._bytes -= entry.size

    def _matching(self, places: list[Place], collection: str, prefix: str) -> list[str]:
        now = self._clock()
        with self._lock:
            return [
                key
                for name, key in places
                if name == collection
                and key.startswith(prefix)
                and (entry := self._passing.get((name, key)) or self._lasting.get((name, key)))
                and entry.expires > now
            ]
