"""Tenants in a store: whose a record is, is part of the key that finds it.

    scope = HMAC-SHA-256(secret, tenant, generation)         16 bytes of tag, 16 bytes of subkey
    key   = hex(tag) "." hex(BLAKE2b-256(subkey, id))

A foreign id and an unknown one therefore take the same way to the same answer: a key under which nothing lies. There
is no comparison of owners that could be forgotten. The tag marks the records of one tenant, so that they can be counted
and deleted, and does not reveal who it is; nor does a key reveal the id that it was made of.

A *generation* is a number per tenant that `forget` raises. What was written under an older one cannot be found any
more, at once and on every worker, whether or not the store can enumerate and delete it.
"""

from __future__ import annotations

import hmac
import math
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from functools import lru_cache
from hashlib import blake2b
from typing import Generic, TypeVar

import msgspec

from ..errors import StoreUnavailable
from ..logs import log
from ..seams.store import Record, Store, local_of

GENERATIONS = "generations"

ID = re.compile(r"[A-Za-z0-9_.:=-]{1,512}")

# Tries to raise a generation that others raise at the same time.
ATTEMPTS = 16

# Tenants whose hashes are kept; about 300 bytes each.
REMEMBERED = 4096

TAG_BYTES = 16
"""Bytes of a hash that stand for a tenant: 128 bits, so that no two tenants share one by chance."""

# Stands for the forgotten tenants of a store that is not in this process: not empty, so every generation is read.
PERHAPS_FORGOTTEN = (None,)

# Characters of a key that is not hashed.
LONGEST_PLAIN = 128


def valid_id(id: object) -> bool:
    """Returns whether *id* can be that of a stored object: 1 to 512 of `[A-Za-z0-9_.:=-]`, not `.` or `..`."""
    return isinstance(id, str) and ID.fullmatch(id) is not None and id not in (".", "..")


class Tenancy:
    """Where in *store* the records of a tenant lie. A tenant is a string, or None where the host has no tenants; None,
    "" and "None" are three tenants. What is kept for a *purpose* of its own is forgotten alone. Methods that look at
    the store raise `StoreUnavailable`."""

    def __init__(self, store: Store, purpose: bytes = b"") -> None:
        self._store = store
        self.local = local_of(store)
        self.forgotten: Collection[object] = PERHAPS_FORGOTTEN if self.local is None else self.local.lasting
        """While it is empty, no tenant was ever forgotten, and all are in their first generation."""
        self._secret = hmac.digest(store.secret, packed(purpose), "sha256") if purpose else store.secret
        self._scope = lru_cache(REMEMBERED)(self._scope_of)
        self._place = lru_cache(REMEMBERED)(self._place_of)
        self.tag = lru_cache(REMEMBERED)(self._tag_of)
        """The mark of a tenant in all its generations: 16 bytes that reveal nothing else."""
        self._claim = mac_of(hmac.digest(self._secret, packed(b"claim"), "sha256"))

    async def key(self, tenant: str | None, id: str) -> str:
        """Returns the key of *tenant*'s record *id*, 97 characters of ASCII."""
        generation = await self.generation(tenant) if self.forgotten else 0  # for each request: nearly always 0
        tag, mac = self._scope(tenant, generation)
        return tag + mac(id.encode("utf-8", "surrogatepass"))

    async def keys(self, tenant: str | None, ids: Iterable[str]) -> list[str]:
        """The keys of several records, for the price of one look at the generation."""
        return [*map(await self.keyed(tenant), ids)]

    async def keyed(self, tenant: str | None) -> Callable[[str], str]:
        """What gives the keys of *tenant*'s records, all of the generation that is now."""
        tag, mac = self._scope(tenant, await self.generation(tenant))
        return lambda id: tag + mac(id.encode("utf-8", "surrogatepass"))

    async def prefix(self, tenant: str | None) -> str:
        """What all keys of *tenant* begin with, and no other's; for `scan`."""
        return self._scope(tenant, await self.generation(tenant))[0]

    async def generation(self, tenant: str | None) -> int:
        """0 until *tenant* is first forgotten."""
        if not self.forgotten:
            return 0
        return generation_in(await self._store.get(GENERATIONS, self._place(tenant)))

    async def forget(self, tenant: str | None, collections: Iterable[str]) -> int:
        """Makes all records of *tenant* unreachable, then deletes those in *collections* if the store can enumerate
        them: how many were deleted. What is written meanwhile, or left when the store fails, is never found, and goes
        with its ttl."""
        tag, _ = self._scope(tenant, await self._raise_generation(tenant))
        if not self._store.enumerable:
            return 0
        deleted = 0
        for collection in collections:
            async with aclosing(self._store.scan(collection, tag)) as keys:
                deleted += sum([await self._store.delete(collection, key) async for key in keys])
        return deleted

    def claim(self, upstream: str, id: str) -> str:
        """Returns where it is stored who owns *id* at *upstream* (which has no colon)."""
        place = f"{upstream}:{id}"
        if self.local is not None and len(place) < LONGEST_PLAIN and "." not in place:
            return place  # nobody reads the keys of this process, and every response is claimed
        return self._claim(place.encode("utf-8", "surrogatepass"))

    def fingerprint(self, *parts: str) -> str:
        """Returns a credential boundary as 32 characters that reveal nothing of *parts* (provider, origin, API key):
        the same ones in all processes that share the store."""
        return hmac.digest(self._secret, packed(b"credential", *parts), "sha256").hex()[:32]

    # Generations...

    async def _raise_generation(self, tenant: str | None) -> int:
        """Raises the tenant's generation, and returns the one before.

        :raises StoreUnavailable: others did the same at each attempt.
        """
        for _ in range(ATTEMPTS):
            held = await self._store.get(GENERATIONS, self._place(tenant))
            generation = generation_in(held)
            # By the clock and not by one, so that the count never begins again where a record was lost or damaged.
            if await self._replace(self._place(tenant), held, max(generation + 1, time.time_ns())):
                return generation
        raise StoreUnavailable("The tenant is being forgotten by others at this moment; try again.")

    async def _replace(self, place: str, held: Record | None, generation: int) -> bool:
        value = b"%d" % generation
        if not self._store.atomic:
            await self._store.put(GENERATIONS, place, value, ttl=math.inf)
            return True
        if held is not None and await self._store.swap(GENERATIONS, place, held.version, value, ttl=math.inf):
            return True
        has_none = held is None or not held.version
        return has_none and await self._store.add(GENERATIONS, place, value, ttl=math.inf) is not None

    # Hashes...

    def _scope_of(self, tenant: str | None, generation: int) -> tuple[str, Callable[[bytes], str]]:
        digest = hmac.digest(self._secret, packed(b"scope", tenant, str(generation)), "sha256")
        return digest[:TAG_BYTES].hex() + ".", mac_of(digest[TAG_BYTES:])

    def _tag_of(self, tenant: str) -> bytes:
        return hmac.digest(self._secret, packed(b"tenant", tenant), "sha256")[:TAG_BYTES]

    def _place_of(self, tenant: str | None) -> str:
        return hmac.digest(self._secret, packed(b"generation", tenant), "sha256").hex()


def generation_in(record: Record | None) -> int:
    """The generation that *record* holds, 0 where there is none. That of one that is not what was written is negative,
    which none ever was, and another one for each such record: what was forgotten stays forgotten."""
    if record is None:
        return 0
    return int(record.value) if re.fullmatch(rb"[1-9][0-9]{0,18}", record.value) else -1 - abs(record.version)


def mac_of(key: bytes) -> Callable[[bytes], str]:
    """BLAKE2b under *key* (RFC 7693, 2.9), 32 bytes in hex. The key is hashed in here, once."""
    keyed = blake2b(key=key, digest_size=32)

    def mac(message: bytes) -> str:
        hashed = keyed.copy()
        hashed.update(message)
        return hashed.hexdigest()

    return mac


def packed(purpose: bytes, *parts: str | None) -> bytes:
    """One message of several parts that no other parts give: each with its length before it, None with none."""
    message = purpose + b"\0"
    for part in parts:
        text = b"" if part is None else part.encode("utf-8", "surrogatepass")
        message += b"-" if part is None else b"%d:%b" % (len(text), text)
    return message


# Structs as bytes and back, for values that outlive the code that wrote them.
#
#     1 byte of schema version, then the struct as msgpack
#
# A reader never trusts what it finds. A record of a newer schema (another worker is being upgraded) and a damaged one
# both read as absent: the request is answered as if nothing were stored, and never by a guess. A member added with a
# default needs no new version, since older readers skip what they do not know; raise it where an older reader would
# misunderstand, and lower it never.


S = TypeVar("S", bound=msgspec.Struct)


class Codec(Generic[S]):
    """Encodes structs of *type* as version *schema* (1 to 255), and decodes that and older ones."""

    def __init__(self, type: type[S], *, schema: int = 1) -> None:
        self._name = type.__name__
        self._schema = schema
        self._mark = bytes([schema])
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(type).decode
        self._warned: set[int] = set()

    def encode(self, struct: S) -> bytes:
        """Returns *struct* as the bytes that `decode` reads, with a mark of their version in front."""
        return self._mark + self._encode(struct)

    def decode(self, record: Record | None) -> S | None:
        """The struct in *record*; None where there is none, or none that can be read."""
        if record is None:
            return None
        schema = record.value[0] if record.value else 0
        if 1 <= schema <= self._schema:
            try:
                return self._decode(memoryview(record.value)[1:])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                pass
        self._warn(schema)
        return None

    def _warn(self, schema: int) -> None:
        """Once per version, since after a rollback every request may meet such a record."""
        if schema not in self._warned:
            self._warned.add(schema)
            why = f"has the newer schema {schema}" if schema > self._schema else "is damaged"
            log("record_unreadable", kind=self._name, why=why)
