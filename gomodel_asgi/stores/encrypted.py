"""Values encrypted before they reach a store, for engines whose disks, backups or operators may not read them.

    1 byte of format, 12 bytes of nonce, ciphertext and tag (AES-256-GCM)

Each record has a key of its own, derived from the given one and the record's place. So a value that is moved under
another tenant's key does not open there, and the random nonces of one key never come near their limit (NIST SP 800-38D,
section 8.3: 2**32 messages), since they are shared only by the versions of one record.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import AsyncGenerator, Sequence

from ..arguments import check_instance, check_protocol
from ..extras import missing
from ..logs import log
from ..seams.store import Record, Store, delete_many, get_many, is_shared, unreadable

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError as exc:  # pragma: no cover - shown in a process of its own
    raise missing("encryption", "Encrypted needs cryptography") from exc


FORMAT = b"\x01"
NONCE_BYTES = 12
"""The length that GCM is made for (NIST SP 800-38D, 8.2)."""
KEY_BYTES = 32
"""AES-256."""


class Encrypted:
    """*store* with its values sealed by *key* (32 random bytes, the same on every worker). Keys, versions, sizes and
    times stay visible; the store's `secret` hides whose they are. A value that does not open, because it was damaged,
    moved, or sealed by another key, reads as empty (`unreadable`), with a warning in the log.

    :raises ValueError: *key* is not 32 bytes.
    """

    seals = True
    """Whether what is kept cannot be read by who can read the engine."""

    def __init__(self, store: Store, key: bytes) -> None:
        check_protocol("store", store, Store, "a store, such as RedisStore(...)")
        check_instance("key", key, bytes, f"{KEY_BYTES} bytes")
        if len(key) != KEY_BYTES:
            raise ValueError(f"key: it must be {KEY_BYTES} bytes.")
        self._store = store
        self._key = key
        self._warned: set[str] = set()
        self.atomic = store.atomic
        self.enumerable = store.enumerable
        self.limitation = store.limitation
        self.secret = store.secret
        self.shared = is_shared(store)
        self.evicts = getattr(store, "evicts", False)
        self.max_bytes: int | None = getattr(store, "max_bytes", None)

    def __repr__(self) -> str:
        return f"<Encrypted {self._store!r}>"

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        return self._opened_record(collection, key, await self._store.get(collection, key))

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        """Returns the record of each of *keys*, None where there is none, in as many trips as the store needs."""
        records = await get_many(self._store, collection, keys)
        return [self._opened_record(collection, key, record) for key, record in zip(keys, records, strict=True)]

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        await self._store.put(collection, key, self._sealed(collection, key, value), ttl=ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """See `Store.add`."""
        return await self._store.add(collection, key, self._sealed(collection, key, value), ttl=ttl)

    async def add_with(
        self, collection: str, key: str, value: bytes, record: tuple[str, str, bytes], *, ttl: float | None = None
    ) -> int | None:
        """Adds as `add` does; in the same step and trip keeps *record* (collection, key, value) if it was added."""
        name, other, held = record
        sealed = self._sealed(collection, key, value)
        add_with = getattr(self._store, "add_with", None)
        if add_with is not None:
            version: int | None = await add_with(
                collection, key, sealed, (name, other, self._sealed(name, other, held)), ttl=ttl
            )
            return version
        version = await self.add_for(other.rpartition(".")[0], collection, key, value, ttl=ttl)
        if version is not None:
            await self.put(name, other, held, ttl=ttl)
        return version

    async def add_for(
        self, owner: str, collection: str, key: str, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """Adds as `add` does, counted as *owner*'s where the store shares itself among tenants."""
        add_for, sealed = getattr(self._store, "add_for", None), self._sealed(collection, key, value)
        if add_for is None:
            return await self._store.add(collection, key, sealed, ttl=ttl)
        version: int | None = await add_for(owner, collection, key, sealed, ttl=ttl)
        return version

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """See `Store.swap`."""
        return await self._store.swap(collection, key, expected, self._sealed(collection, key, value), ttl=ttl)

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        return await self._store.delete(collection, key)

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        """Removes the records of *keys* in as many trips as the store needs."""
        await delete_many(self._store, collection, keys)

    def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`."""
        return self._store.scan(collection, prefix)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        await self._store.aclose()

    # One value...

    def _sealed(self, collection: str, key: str, value: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return FORMAT + nonce + self._cipher(collection, key).encrypt(nonce, value, FORMAT)

    def _opened_record(self, collection: str, key: str, record: Record | None) -> Record | None:
        if record is None:
            return None
        value = self._opened(collection, key, record.value)
        return unreadable(record.version) if value is None else Record(value, record.version)

    def _opened(self, collection: str, key: str, sealed: bytes) -> bytes | None:
        nonce, text = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            # ValueError: the nonce is too short, since the value was never one of ours.
            return self._cipher(collection, key).decrypt(nonce, text, sealed[:1])
        except (InvalidTag, ValueError):
            self._warn(collection)
            return None

    def _warn(self, collection: str) -> None:
        """Once per collection, since with a wrong key every request meets such a record."""
        if collection not in self._warned:
            self._warned.add(collection)
            log("record_sealed", collection=collection)

    def _cipher(self, collection: str, key: str) -> AESGCM:
        return AESGCM(hmac.digest(self._key, f"{collection}\0{key}".encode(), "sha256"))
