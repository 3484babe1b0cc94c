"""Records in Redis (or Valkey, or whatever speaks its protocol and its Lua), for several workers and machines.

    {namespace}:{collection}:{key}  →  8 bytes of version, then the value; expiry is Redis's own

Writes that look before they write run as one script, which Redis runs alone. A script may run twice, when a connection
breaks between its effect and its answer and redis-py tries again; so it recognises its own version, and the second run
answers as the first did.

Set-up: give the records a database, or at least a Redis, whose `maxmemory-policy` is `noeviction` or one of
`volatile-*`. Under `allkeys-*` Redis may forget that a tenant was forgotten.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ..arguments import refusal
from ..errors import StoreUnavailable
from ..extras import missing
from ..seams.store import THIRTY_DAYS, Record, lifetime, new_version, unreadable
from .shared import PerLoop, answering, check_store, secret_of

try:
    from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError, RedisError
except ImportError as exc:  # pragma: no cover - shown in a process of its own
    raise missing("redis", "Redis is reached through redis-py") from exc

__all__ = ["NoScriptError", "Redis", "RedisCluster", "RedisError", "RedisStore", "check_client", "client_of", "decodes"]

VERSION_BYTES = 8
"""Bytes of the version that stands before each value."""

# Keys looked at per SCAN, which blocks Redis for about 0.1 ms.
PAGE = 500

# ARGV: the version that must be there ("": nothing must), the new version and value, milliseconds to live ("": ever),
# then version and value of each further key, which is written with the first.
REPLACE = """
local held = redis.call('GETRANGE', KEYS[1], 0, 7)
if #held < 8 then held = '' end
if held ~= ARGV[1] then
  return held == string.sub(ARGV[2], 1, 8) and 1 or 0
end
for i, key in ipairs(KEYS) do
  local value = i == 1 and ARGV[2] or ARGV[i + 2]
  if ARGV[3] == '' then redis.call('SET', key, value)
  else redis.call('SET', key, value, 'PX', ARGV[3]) end
end
return 1
"""


class RedisStore:
    """Keeps records in the Redis at *redis*: a URL (`redis://`, `rediss://`, `unix://`) or a client of your own, which
    must not decode responses, belongs to one event loop, and stays yours to close.

    *secret* keys the hashes under which records are found, the same on every worker; without one they keep tenants
    apart but hide nothing. *ttl* and *timeout* are in seconds, *timeout* for each call.

    :raises ValueError: the URL is none, the client decodes, *secret* is too short.
    """

    atomic = True
    enumerable = True
    limitation = ""

    def __init__(
        self,
        redis: str | Redis,
        *,
        namespace: str = "gomodel",
        secret: str | bytes | None = None,
        ttl: float = THIRTY_DAYS,
        timeout: float = 5.0,
    ) -> None:
        check_client(redis)
        check_store(namespace=namespace, ttl=ttl, timeout=timeout)
        self.secret = secret_of(secret)
        self._namespace = namespace
        self._ttl = lifetime(ttl, ttl)
        self._timeout = timeout
        self._ours = isinstance(redis, str)
        self._clients = PerLoop(partial(client_of, redis, timeout))
        # Opens nothing; a bad URL is refused here and not with the first request.
        if decodes(client_of(redis, timeout)):
            raise ValueError("RedisStore keeps bytes: its Redis must not have decode_responses set.")

    def __repr__(self) -> str:
        return f"<RedisStore namespace={self._namespace!r}>"

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        async with answering(self._timeout, RedisError):
            held: Any = await self._clients.get().get(self._name(collection, key))
        return unpacked(held)

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        """Returns the record of each of *keys*, None where there is none, in one round trip."""
        if not keys:
            return []
        async with answering(self._timeout, RedisError):
            held: Any = await self._clients.get().mget([self._name(collection, key) for key in keys])
        return [unpacked(one) for one in held]

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        life = milliseconds(lifetime(ttl, self._ttl))
        async with answering(self._timeout, RedisError):
            await self._clients.get().set(self._name(collection, key), packed(new_version(), value), px=life)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """See `Store.add`."""
        return await self._replace(self._name(collection, key), b"", value, lifetime(ttl, self._ttl))

    async def add_with(
        self, collection: str, key: str, value: bytes, record: tuple[str, str, bytes], *, ttl: float | None = None
    ) -> int | None:
        """Adds as `add` does; in the same step and trip keeps *record* (collection, key, value) if it was added."""
        other = self._name(record[0], record[1]), record[2]
        return await self._replace(self._name(collection, key), b"", value, lifetime(ttl, self._ttl), other)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """See `Store.swap`."""
        return await self._replace(self._name(collection, key), packed(expected, b""), value, lifetime(ttl, self._ttl))

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        async with answering(self._timeout, RedisError):
            return bool(await self._clients.get().delete(self._name(collection, key)))

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        """Removes the records of *keys* in one round trip."""
        if keys:
            async with answering(self._timeout, RedisError):
                await self._clients.get().delete(*[self._name(collection, key) for key in keys])

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`."""
        start = self._name(collection, "")
        pattern = literally(start + prefix) + "*"
        cursor = 0
        while True:
            cursor, names = await self._page(cursor, pattern)
            for name in names:
                yield name.decode("utf-8", "replace").removeprefix(start)
            if not cursor:
                return

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        client = self._clients.take()
        if client is not None and self._ours:
            with suppress(StoreUnavailable):
                async with answering(self._timeout, RedisError):
                    await client.aclose()

    # One call...

    async def _replace(
        self, name: str, held: bytes, value: bytes, seconds: float, *others: tuple[str, bytes]
    ) -> int | None:
        version, life = new_version(), milliseconds(seconds)
        keys, values = [name], [packed(version, value), "" if life is None else life]
        for other, written in others:
            keys.append(other)
            values.append(packed(new_version(), written))
        async with answering(self._timeout, RedisError):
            client: Any = self._clients.get()
            done = await client.eval(REPLACE, len(keys), *keys, held, *values)
        return version if done else None

    async def _page(self, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        client: Any = self._clients.get()
        async with answering(self._timeout, RedisError):
            following, names = await client.scan(cursor, match=pattern, count=PAGE)
        return following, names

    def _name(self, collection: str, key: str) -> str:
        return f"{self._namespace}:{collection}:{key}"


def packed(version: int, value: bytes) -> bytes:
    """Returns *value* as it is stored, behind its version."""
    return version.to_bytes(VERSION_BYTES, "big", signed=True) + value


def unpacked(held: bytes | None) -> Record | None:
    """Returns the record; None where there is none."""
    if held is None:
        return None
    if len(held) < VERSION_BYTES:
        return unreadable()
    return Record(held[VERSION_BYTES:], int.from_bytes(held[:VERSION_BYTES], "big", signed=True))


def milliseconds(seconds: float) -> int | None:
    """Returns *seconds* as Redis' PX takes them: at least 1, None for ever."""
    return None if seconds == math.inf else max(1, math.ceil(seconds * 1000))


def literally(text: str) -> str:
    """Returns *text* as a glob pattern that matches nothing else."""
    return "".join("\\" + character if character in "\\*?[]" else character for character in text)


# How a Redis is reached: by a bounded pool of ours, or by a client of the host's...

# At a time and event loop; more wait for one, within their timeout.
CONNECTIONS = 32


Client = TypeVar("Client")


def check_client(redis: object) -> None:
    """Refuses what is neither a URL nor a client.

    :raises TypeError: *redis* is something else.
    """
    if not isinstance(redis, str) and (isinstance(redis, type) or not hasattr(redis, "eval")):
        raise refusal("redis", "a URL, or a client of redis.asyncio", redis)


def client_of(given: str | Client, timeout: float) -> Redis | Client:
    """Returns *given*, or a client of ours for that URL, with one silent retry on a connection that is stale.

    :raises ValueError: the URL is none.
    """
    if not isinstance(given, str):
        return given
    # The time limit is the caller's: with its own, redis-py waits through asyncio.wait_for, which loses cancellations
    # before Python 3.12.
    pool = BlockingConnectionPool.from_url(
        given, max_connections=CONNECTIONS, timeout=timeout, retry=Retry(NoBackoff(), 1), socket_timeout=None
    )
    return Redis.from_pool(pool)


def decodes(client: Redis) -> bool:
    """Returns whether *client* makes text of what Redis answers."""
    return bool(client.connection_pool.connection_kwargs.get("decode_responses"))
