"""How much of the store one tenant may fill: so many responses, so many bytes. The oldest make room for the newest.

An index per tenant lists what is kept, oldest first, and is changed by compare-and-swap, so that several workers agree.
What has expired leaves the index when it is the oldest; until then it counts.
"""

from __future__ import annotations

import msgspec

from ..errors import StoreUnavailable
from .codec import Codec
from .records import Records
from .store import Record, require_atomic
from .turns import Turn

USAGE = "usage"
NAME = "index"

# Tries to change an index that others change at the same time.
ATTEMPTS = 32


class Index(msgspec.Struct):
    """What a tenant keeps: ids and sizes in bytes, oldest first."""

    kept: list[tuple[str, int]]


CODEC = Codec(Index)


class Quotas:
    """The quotas of each tenant; None: unlimited.

    :raises ValueError: there is one, and the store cannot tell workers apart.
    """

    def __init__(self, records: Records, entries: int | None, bytes: int | None) -> None:
        self.records = records
        self.entries = entries
        self.bytes = bytes
        if entries is not None or bytes is not None:
            require_atomic(records.store, "A quota per tenant")

    async def admit(self, tenant: str | None, id: str, turn: Turn) -> bool:
        """Make room for *turn*, which is about to be kept; False where no room would be enough."""
        return await self.admit_size(tenant, id, len(turn.input) + len(turn.output) + len(turn.response))

    async def admit_size(self, tenant: str | None, id: str, size: int) -> bool:
        """Make room for a record of *size* bytes, in place of what *id* had."""
        if self.entries is None and self.bytes is None:
            return True
        if self.entries == 0 or (self.bytes is not None and size > self.bytes):
            return False
        key = await self.records.tenancy.key(tenant, NAME)
        for _ in range(ATTEMPTS):
            held = await self.records.store.get(USAGE, key)
            gone = await self._changed(key, held, id, size)
            if gone is not None:
                for old in gone:
                    await self.records.delete(tenant, old)
                return True
        raise StoreUnavailable("The tenant's quota is being changed by others at this moment; try again.")

    async def _changed(self, key: str, held: Record | None, id: str, size: int) -> list[str] | None:
        """Put *id* into the index: what has to go for it, None where the index is another one by now."""
        index = CODEC.decode(held) or Index([])
        kept = [(name, length) for name, length in index.kept if name != id] + [(id, size)]
        gone: list[str] = []
        while self._is_over(kept):
            gone.append(kept.pop(0)[0])
        value = CODEC.encode(Index(kept))
        store = self.records.store
        if held is None:
            done = await store.add(USAGE, key, value)
        else:
            done = await store.swap(USAGE, key, held.version, value)
        return None if done is None else gone

    def _is_over(self, kept: list[tuple[str, int]]) -> bool:
        if self.entries is not None and len(kept) > self.entries:
            return True
        return self.bytes is not None and sum(size for _, size in kept) > self.bytes
