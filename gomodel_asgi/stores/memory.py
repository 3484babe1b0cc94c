"""The default store: a bounded LRU cache in this process, which its tenants share.

Each tenant's records lie on a shelf of their own, in the order of last use; the key names the owner, before the last
dot. When room is needed, the largest share gives way, its least recently used record first: so nobody can push out what
those have who have less. Only among shares of less than a thousandth of the store, which happens where very many
tenants are, the one goes first whose owner has been idle longest: else those who left would keep the room from those
who come.

Records that are meant to last for ever (the generations of forgotten tenants) lie apart, and go only when nothing else
is left. An expired record is removed when it is met, not by a clock of its own: the bounds hold without one.

Nothing here waits, so one lock makes it safe for any number of threads, event loops and async libraries.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection
from itertools import count

import anyio.lowlevel
import msgspec

from ..arguments import check_count, check_plain_function, check_seconds
from ..errors import StoreUnavailable
from ..seams.store import THIRTY_DAYS, Local, Packable, Record, lifetime
from ..settings import MIB
from .shares import Shares

Place = tuple[str, str]

# What CPython spends on a record beside its bytes: entry, place, version, slot in the table.
OVERHEAD = 400

# What it spends on each share but the first.
SHARE_OVERHEAD = 600

# Of this part of the store nobody is ever deprived by those who have more than it: enough for a response or two.
SMALL = 1 / 1024

# Keys looked at between two chances for other tasks to run; about 0.1 ms.
PAGE = 1000


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One record: its *version*, when it *expires* on the store's clock, and what it counts for, in bytes."""

    value: bytes | Packable
    version: int
    expires: float
    size: int


class MemoryStore:
    """Keeps at most *max_entries* records of at most *max_bytes* together, keys and overhead counted, for *ttl* seconds
    where a write gives none. When it is full the largest of the tenants' shares gives way, its least recently
    used record first; a write raises `StoreUnavailable` where only smaller ones could. All is lost with the process,
    and no other process sees it. *clock* gives seconds that never go back.

    :raises ValueError: a bound is less than 1.
    """

    atomic = True
    enumerable = True
    limitation = ""
    evicts = True
    immediate = True
    shared = False

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 64 * MIB,
        ttl: float = THIRTY_DAYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_count("max_entries", max_entries, at_least=1)
        check_count("max_bytes", max_bytes, at_least=1)
        check_seconds("ttl", ttl)
        check_plain_function("clock", clock)
        self.secret = os.urandom(32)
        self.max_bytes = max_bytes
        self.ttl = lifetime(ttl, ttl)
        self._max_entries = max_entries
        self._clock = clock
        self._lock = threading.Lock()
        self._versions = count(1)
        """Of all records alike, so that none has the version of one that was there before."""
        self._shares: Shares[Place, Entry] = Shares(max_bytes // max_entries, small=int(max_bytes * SMALL))
        self._counted: dict[Place, str] = {}
        """Whose a record is where its key does not say so."""
        self._lasting: OrderedDict[Place, Entry] = OrderedDict()
        self.lasting: Collection[object] = self._lasting
        self._bytes = 0
        self._entries = 0

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        with self._lock:
            entry = self._used((collection, key))
        if entry is None:
            return None
        value = entry.value
        return Record(value if isinstance(value, bytes) else value.packed(), entry.version)

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        life = self.ttl if ttl is None else lifetime(ttl, self.ttl)
        with self._lock:
            self._keep((collection, key), value, len(value), life, ttl == math.inf)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """See `Store.add`."""
        life = self.ttl if ttl is None else lifetime(ttl, self.ttl)
        place = (collection, key)
        with self._lock:
            return None if self._used(place) else self._keep(place, value, len(value), life, ttl == math.inf)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """See `Store.swap`."""
        life = self.ttl if ttl is None else lifetime(ttl, self.ttl)
        place = (collection, key)
        with self._lock:
            held = self._used(place)
            if held is None or held.version != expected:
                return None
            return self._keep(place, value, len(value), life, ttl == math.inf)

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        place = (collection, key)
        with self._lock:
            there = self._used(place) is not None
            self._drop(place)
            return there

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`."""
        with self._lock:
            places = [*self._lasting, *(place for share in self._shares.by_owner.values() for place in share.entries)]
        for start in range(0, len(places), PAGE):
            for key in self._matching(places[start : start + PAGE], collection, prefix):
                yield key
            await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Does nothing: records live as long as the store."""

    def __len__(self) -> int:
        """Records held, expired ones that nobody has met included."""
        return self._entries

    @property
    def lasts(self) -> bool:
        """Whether it holds any record that is meant to last for ever."""
        return bool(self._lasting)

    @property
    def size(self) -> int:
        """Bytes held, as *max_bytes* counts them."""
        return self._bytes

    def __repr__(self) -> str:
        return f"<MemoryStore entries={len(self)}/{self._max_entries} bytes={self._bytes}/{self.max_bytes}>"

    async def add_for(
        self, owner: str, collection: str, key: str, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """`add` a record whose *key*, without a dot, does not say whose it is: it counts as *owner*'s."""
        life = self.ttl if ttl is None else lifetime(ttl, self.ttl)
        place = (collection, key)
        with self._lock:
            if self._used(place) is not None:
                return None
            self._counted[place] = owner
            try:
                return self._keep(place, value, len(value), life, ttl == math.inf)
            except StoreUnavailable:
                del self._counted[place]
                raise

    # At once: `Local`...

    @property
    def local(self) -> Local | None:
        """It, at once; None of a class made of this one, which may do something of its own in `get` and `put`."""
        return self if type(self) is MemoryStore else None

    def find(self, collection: str, key: str) -> bytes | Packable | None:
        """See `Local`."""
        with self._lock:
            entry = self._used((collection, key))
        return None if entry is None else entry.value

    def keep(
        self, collection: str, key: str, value: bytes | Packable, size: int, *, ttl: float | None = None
    ) -> object:
        """See `Local`."""
        life = self.ttl if ttl is None else lifetime(ttl, self.ttl)
        with self._lock:
            return self._keep((collection, key), value, size, life, ttl == math.inf)

    # Under the lock...

    def _owner_of(self, place: Place) -> str:
        return place[1].rpartition(".")[0] or self._counted.get(place, "")

    def _used(self, place: Place) -> Entry | None:
        """What is there, from now on the one used last."""
        share = self._shares.by_owner.get(place[1].rpartition(".")[0] or self._counted.get(place, ""))
        entry = None if share is None else share.entries.get(place)
        if share is None or entry is None:
            entry = self._lasting.get(place)
            if entry is not None:
                self._lasting.move_to_end(place)
            return entry
        if entry.expires <= self._clock():
            self._drop(place)
            return None
        share.entries.move_to_end(place)
        self._shares.by_owner.move_to_end(share.owner)
        return entry

    def _keep(self, place: Place, value: bytes | Packable, size: int, life: float, lasts: bool) -> int:
        size += len(place[0]) + len(place[1]) + OVERHEAD
        entry = Entry(value, next(self._versions), self._clock() + life, size)
        owner = place[1].rpartition(".")[0] or self._counted.get(place, "")
        share = self._shares.by_owner.get(owner)
        old = share.entries.get(place) if share is not None else None
        if share is None or lasts or (old is None and place in self._lasting):
            self._replace(place, entry, lasts)
            return entry.version
        more = size if old is None else size - old.size
        if self._bytes + more > self.max_bytes or (old is None and self._entries >= self._max_entries):
            self._replace(place, entry, lasts)
            return entry.version
        # There is room, and the shelf is there: nearly always so.
        share.entries[place] = entry
        share.entries.move_to_end(place)
        share.bytes += more
        self._bytes += more
        self._entries += old is None
        self._shares.settle(share)
        self._shares.by_owner.move_to_end(owner)
        return entry.version

    def _replace(self, place: Place, entry: Entry, lasts: bool) -> None:
        """Keeps *entry*, whatever has to go for it; what it was to replace stays where there is no room.

        :raises StoreUnavailable: there is none.
        """
        if entry.size > self.max_bytes:
            raise StoreUnavailable(
                "The record is larger than the whole store may be: raise MemoryStore(max_bytes=...)."
            )
        lasted, owner = place in self._lasting, self._owner_of(place)
        old = self._drop(place)
        try:
            self._make_room(None if lasts else owner, entry.size)
        except StoreUnavailable:
            if old is not None:
                self._put(place, old, owner, lasts=lasted)
            raise
        self._put(place, entry, owner, lasts=lasts)

    def _put(self, place: Place, entry: Entry, owner: str, *, lasts: bool) -> None:
        self._bytes += entry.size
        self._entries += 1
        if lasts:
            self._lasting[place] = entry
            return
        shares = self._shares
        if owner and "." not in place[1]:
            self._counted[place] = owner
        share = shares.by_owner.get(owner)
        if share is None:
            self._bytes += SHARE_OVERHEAD if shares.by_owner else 0
            share = shares.opened(owner)
        share.entries[place] = entry
        share.bytes += entry.size
        shares.settle(share)
        shares.by_owner.move_to_end(owner)

    def _drop(self, place: Place) -> Entry | None:
        """Takes away what is there, and returns it."""
        shares = self._shares
        share = shares.by_owner.get(self._owner_of(place))
        entry = None if share is None else share.entries.pop(place, None)
        self._counted.pop(place, None)
        if share is not None and entry is not None:
            share.bytes -= entry.size
            shares.settle(share)
            self._bytes -= 0 if share.entries or not shares.by_owner else SHARE_OVERHEAD
        else:
            entry = self._lasting.pop(place, None)
        if entry is not None:
            self._bytes -= entry.size
            self._entries -= 1
        return entry

    def _make_room(self, owner: str | None, size: int) -> None:
        """Makes room for one more record of *size* bytes, of *owner* or (None) to last for ever.

        :raises StoreUnavailable: it could only be had from those who have less.
        """
        shares = self._shares
        while True:
            mine = None if owner is None else shares.by_owner.get(owner)
            more = SHARE_OVERHEAD if mine is None and owner is not None and shares.by_owner else 0
            if self._bytes + more + size <= self.max_bytes and self._entries < self._max_entries:
                return
            held, entries = (0, 0) if mine is None else (mine.bytes, len(mine.entries))
            fits = self._bytes - held + size <= self.max_bytes and self._entries - entries < self._max_entries
            try:
                share = shares.giving_way(mine, 0 if owner is None else size, fits=fits)
            except LookupError:
                message = "The store is full, and all others have less of it: raise MemoryStore(max_bytes=...)."
                raise StoreUnavailable(message) from None
            self._drop(next(iter(self._lasting if share is None else share.entries)))

    def _entry(self, place: Place) -> Entry | None:
        share = self._shares.by_owner.get(self._owner_of(place))
        return (share.entries.get(place) if share is not None else None) or self._lasting.get(place)

    def _matching(self, places: list[Place], collection: str, prefix: str) -> list[str]:
        now = self._clock()
        with self._lock:
            return [
                key
                for name, key in places
                if name == collection
                and key.startswith(prefix)
                and (entry := self._entry((name, key)))
                and entry.expires > now
            ]
