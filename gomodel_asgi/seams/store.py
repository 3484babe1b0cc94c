"""What a store is: named collections of versioned bytes that expire.

A store knows nothing of tenants, responses or JSON. Keys arrive scoped and hashed, values arrive encoded, so that
every engine keeps the same thing: bytes under a name, for a time.

A *version* is an opaque number that every write draws afresh. It is random, or counted for the whole store, and not for
each record: one that was deleted and added again would otherwise carry the version of its predecessor, and a `swap`
meant for the old one would change the new one.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Protocol

import msgspec

THIRTY_DAYS = 30 * 24 * 3600.0
"""Seconds. As long as the OpenAI API keeps a stored response."""

# No engine needs to reckon with a longer life, and several overflow long before infinity.
CENTURY = 100 * 365 * 24 * 3600.0

MOST_KEYS = 256
"""Keys in one round trip: what they name comes back in one piece."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """A value as it was stored, and the version that `swap` asks for."""

    value: bytes
    version: int

    def __repr__(self) -> str:
        return f"Record({len(self.value)} bytes, version={self.version})"


def unreadable(version: int = 0) -> Record:
    """A record that is there, and whose value is damaged or not one of ours: it reads as empty, which no value of ours
    is. *version* is 0 where it has none: then `add` replaces it."""
    return Record(b"", version)


class Packable(Protocol):
    """A value that is no bytes yet. It never changes."""

    def packed(self) -> bytes:
        """Returns it as bytes, for a `Record`."""


class Local(Protocol):
    """What a store in this process can do beside: give and keep at once, without a task's turn, and values as they are.

    Its methods may be called from any thread, and raise what those of `Store` do. What `keep` has kept `Store.get`
    gives packed, and what `Store.put` has kept `find` gives as bytes: it is one store.
    """

    @property
    def lasting(self) -> Collection[object]:
        """What is kept that is meant to last for ever, always in one object: while it is empty nobody was forgotten."""

    def find(self, collection: str, key: str) -> bytes | Packable | None:
        """The value, None where there is none; it has been used now."""

    def keep(
        self, collection: str, key: str, value: bytes | Packable, size: int, *, ttl: float | None = None
    ) -> object:
        """Keeps *value*, which takes *size* bytes of memory, in place of what was there."""


class Store(Protocol):
    """Keeps bytes. Implement it for an engine of your own; every method may be called from any task.

    *collection* is a Python identifier; *key* is 1 to 512 printable ASCII characters. *ttl* is in seconds: None means
    the store's own default, `math.inf` means for ever. A record whose time is over is absent everywhere.

    Every method raises `StoreUnavailable` where the engine is down, full, or slower than the store's time limit;
    writes raise `ValueError` for a *ttl* that is not positive.
    """

    atomic: bool
    """Whether `add` and `swap` exclude each other across all users of the same data. Where it is False both raise
    `NotImplementedError`, and what rests on them (background work, a quota that was given) refuses the store:
    `require_atomic`."""

    enumerable: bool
    """Whether `scan` works. Where it is False it raises `NotImplementedError`."""

    limitation: str
    """A sentence on why *atomic* or *enumerable* is False, "" where both are True."""

    secret: bytes
    """Keys the hashes under which tenants' records are kept: the same in every process that shares the data."""

    # What a store may have beside these, which is used where it is there:
    #
    #     max_bytes    it holds at most so many bytes: a quota of as many needs no books
    #     evicts       it may drop a record before its time: what is used has to be seen to be used
    #     immediate    a call ends within the step in which it is made, and cannot hang: `is_immediate`
    #     shared       False where no other process can have the same data: `is_shared`
    #     local        it as a `Local`, or None: it is in this process, which alone can read its keys: `local_of`
    #     add_with     `add`, and `put` another record if it was added, in one step
    #     add_for      `add` a record of an owner's whose key does not say so
    #     get_many     `async (collection, keys) -> list[Record | None]` in their order, in one round trip for up to
    #                  `MOST_KEYS` keys; without it `get_many` below asks for one after the other
    #     delete_many  `async (collection, keys)`, likewise

    async def get(self, collection: str, key: str) -> Record | None:
        """Returns the record, None where there is none. One that is there and cannot be read is `unreadable`: to most
        that is as good as none, but a generation that is damaged must not be taken for one that was never raised."""

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Keeps *value*, in place of what was there."""

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """Keeps *value* only if nothing is there. Returns its version, None where something is. Of several that add the
        same key at once exactly one gets a version."""

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """Replaces the record only if its version is *expected*. Returns the new version, None where it is another one
        or absent. Of several that swap the same version at once exactly one gets a version."""

    async def delete(self, collection: str, key: str) -> bool:
        """Removes the record. Returns whether there was one."""

    def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """Gives the keys that begin with *prefix*, in any order. A key that is there from the first to the last
        moment is given at least once; one that comes or goes meanwhile may or may not be. Close it (`aclosing`) if you
        leave it early."""

    async def aclose(self) -> None:
        """Closes what the running event loop has open. The store stays usable and opens anew. Never raises."""


class NoStore:
    """Keeps nothing: every `get` is None and every `put` is dropped."""

    shared = False
    atomic = False
    enumerable = False
    limitation = "NoStore() keeps nothing."
    secret = b""

    async def get(self, collection: str, key: str) -> Record | None:
        """Returns None."""
        return None

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """Drops *value*."""
        return None

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """Refuses: nothing is kept."""
        raise NotImplementedError(self.limitation)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """Refuses: nothing is kept."""
        raise NotImplementedError(self.limitation)

    async def delete(self, collection: str, key: str) -> bool:
        """Returns False."""
        return False

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """Gives nothing."""
        return
        yield ""

    async def aclose(self) -> None:
        """Does nothing."""
        return None


# The class has to say it: what wraps a store, and passes on all that it does not know, would say it of itself too.


def is_immediate(store: Store) -> bool:
    """Returns whether a call ends within the step in which it is made, and cannot hang: it needs no task, and no
    breaker."""
    return getattr(type(store), "immediate", False) is True


def is_shared(store: Store) -> bool:
    """Returns whether other processes may have the same data: of a store that does not say, it is taken to be so."""
    return getattr(store, "shared", True) is not False


def local_of(store: Store) -> Local | None:
    """*store* as one in this process, if it is one; None if not."""
    found: Local | None = getattr(store, "local", None) if hasattr(type(store), "local") else None
    return found


async def get_many(store: Store, collection: str, keys: Sequence[str]) -> list[Record | None]:
    """Returns the record of each of *keys*, None where there is none. A store that has a `get_many` is asked once for
    `MOST_KEYS` of them, any other once for each.

    :raises StoreUnavailable: as `Store.get`.
    """
    at_once = getattr(store, "get_many", None)
    if at_once is None:
        return [await store.get(collection, key) for key in keys]
    found: list[Record | None] = []
    for start in range(0, len(keys), MOST_KEYS):
        found += await at_once(collection, keys[start : start + MOST_KEYS])
    return found


async def delete_many(store: Store, collection: str, keys: Sequence[str]) -> None:
    """Removes the records of *keys*, those that there are. A store that has a `delete_many` is asked once for
    `MOST_KEYS` of them, any other once for each.

    :raises StoreUnavailable: as `Store.delete`; some of them may be gone by then.
    """
    at_once = getattr(store, "delete_many", None)
    if at_once is None:
        for key in keys:
            await store.delete(collection, key)
        return
    for start in range(0, len(keys), MOST_KEYS):
        await at_once(collection, keys[start : start + MOST_KEYS])


def require_atomic(store: Store, purpose: str) -> None:
    """Refuses *store* for *purpose* ("Background work") unless its `add` and `swap` are atomic.

    :raises ValueError: naming the purpose, the reason, and the stores that can.
    """
    if not store.atomic:
        raise ValueError(
            f"{purpose} needs a store that can add and swap atomically. {store.limitation} "
            "MemoryStore, RedisStore and PostgresStore can."
        )


def lifetime(ttl: float | None, default: float) -> float:
    """Seconds that a record lives, `math.inf` for ever: *ttl*, or *default* where it is None.

    :raises ValueError: it is not positive.
    """
    seconds = default if ttl is None else ttl
    if not seconds > 0:
        raise ValueError(f"ttl must be a positive number of seconds, not {seconds!r}.")
    return seconds if seconds < CENTURY else math.inf


def new_version() -> int:
    """Returns a number of 1 to 2**63 - 1, which every engine can hold, that no other write is expected to have
    drawn."""
    return random.getrandbits(63) or 1
