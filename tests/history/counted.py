"""A store that counts what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from gomodel_asgi.seams.store import delete_many, get_many
from gomodel_asgi.stores import Record, Store


class Counted:
    """*store*, with its round trips and the bytes that are read and written. It takes `MOST_KEYS` keys in one trip, as
    the stores of other processes do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.atomic = store.atomic
        self.enumerable = store.enumerable
        self.limitation = store.limitation
        self.secret = store.secret
        self.clear()

    def clear(self) -> None:
        """Begins to count anew."""
        self.trips = self.read = self.written = 0

    async def get(self, collection: str, key: str) -> Record | None:
        return self._got(await self.store.get(collection, key))

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        records = await get_many(self.store, collection, keys)
        self.trips -= len(records) - 1
        return [self._got(record) for record in records]

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        self._wrote(value)
        await self.store.put(collection, key, value, ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        self._wrote(value)
        return await self.store.add(collection, key, value, ttl=ttl)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        self._wrote(value)
        return await self.store.swap(collection, key, expected, value, ttl=ttl)

    async def delete(self, collection: str, key: str) -> bool:
        self.trips += 1
        return await self.store.delete(collection, key)

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        self.trips += 1
        await delete_many(self.store, collection, keys)

    def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        return self.store.scan(collection, prefix)

    async def aclose(self) -> None:
        await self.store.aclose()

    def _got(self, record: Record | None) -> Record | None:
        self.trips += 1
        self.read += 0 if record is None else len(record.value)
        return record

    def _wrote(self, value: bytes) -> None:
        self.trips += 1
        self.written += len(value)
