"""Records in any of the engines of py-key-value-aio: disk, MongoDB, DynamoDB, Elasticsearch, S3 and a dozen more.

Its stores get, put and delete, and cannot add or swap, so nothing here can exclude another worker. What needs that
refuses the store when it is constructed, not when two workers have met.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from ..arguments import refusal
from ..extras import missing
from ..seams.store import THIRTY_DAYS, Record, lifetime, new_version, unreadable
from .shared import answering, check_store, secret_of

try:
    from key_value.aio.protocols.key_value import AsyncEnumerateKeysProtocol, AsyncKeyValueProtocol
except ImportError as exc:  # pragma: no cover - shown in a process of its own
    raise missing("kv", "KeyValueStore needs py-key-value-aio") from exc


class KeyValueStore:
    """Keeps records in *store*, any store or wrapper of py-key-value-aio, which stays yours to set up and to close.

    Collections are named `{namespace}_{collection}`; a record is `{"version": int, "value": base64}`. `scan` works
    where *store* enumerates its keys, and finds as many as it gives. Whatever *store* raises becomes
    `StoreUnavailable`, since each engine raises its own. *secret*, *ttl*, *timeout*: as for RedisStore.

    :raises TypeError: *store* is not one.
    :raises ValueError: *secret* is too short.
    """

    atomic = False
    limitation = "The stores of py-key-value-aio cannot compare and swap."

    def __init__(
        self,
        store: AsyncKeyValueProtocol,
        *,
        namespace: str = "gomodel",
        secret: str | bytes | None = None,
        ttl: float = THIRTY_DAYS,
        timeout: float = 5.0,
    ) -> None:
        if not isinstance(store, AsyncKeyValueProtocol):
            raise refusal("store", "a store of py-key-value-aio", store)
        check_store(namespace=namespace, ttl=ttl, timeout=timeout)
        self.enumerable = isinstance(store, AsyncEnumerateKeysProtocol)
        self.secret = secret_of(secret)
        self._store = store
        self._namespace = namespace
        self._ttl = lifetime(ttl, ttl)
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<KeyValueStore of {type(self._store).__name__} namespace={self._namespace!r}>"

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        async with answering(self._timeout, Exception):
            held = await self._store.get(key, collection=self._name(collection))
        return unpacked(held)

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        """Returns the record of each of *keys*, None where there is none, in as many trips as the engine needs."""
        async with answering(self._timeout, Exception):
            held = await self._store.get_many(keys, collection=self._name(collection))
        return [unpacked(one) for one in held]

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        seconds = lifetime(ttl, self._ttl)
        held = {"version": new_version(), "value": base64.b64encode(value).decode("ascii")}
        async with answering(self._timeout, Exception):
            await self._store.put(
                key, held, collection=self._name(collection), ttl=None if seconds == math.inf else seconds
            )

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """Refuses: the engine cannot check whether something is there while it writes.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError(self.limitation)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """Refuses: the engine cannot compare and swap.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError(self.limitation)

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        # What has expired counts as deleted with some engines, so look before.
        there = await self.get(collection, key) is not None
        async with answering(self._timeout, Exception):
            return await self._store.delete(key, collection=self._name(collection)) and there

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        """Removes the records of *keys* in as many trips as the engine needs."""
        async with answering(self._timeout, Exception):
            await self._store.delete_many(keys, collection=self._name(collection))

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`.

        :raises NotImplementedError: the engine does not enumerate its keys.
        """
        if not isinstance(self._store, AsyncEnumerateKeysProtocol):
            raise NotImplementedError(f"{type(self._store).__name__} does not enumerate its keys.")
        async with answering(self._timeout, Exception):
            keys = await self._store.keys(self._name(collection))
        for key in keys:
            if key.startswith(prefix):
                yield key

    async def aclose(self) -> None:
        """Does nothing: the store is its owner's to close."""

    def _name(self, collection: str) -> str:
        return f"{self._namespace}_{collection}"


def unpacked(held: Mapping[str, Any] | None) -> Record | None:
    """Returns the record; None where there is none."""
    match held:
        case None:
            return None
        case {"version": int(version), "value": str(value)}:
            try:
                return Record(base64.b64decode(value, validate=True), version)
            except (binascii.Error, ValueError):
                return unreadable(version)
    return unreadable()
