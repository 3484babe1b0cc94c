"""Records in PostgreSQL 11 or later, for several workers and machines.

The table is created on first use where it is missing, which needs CREATE in the schema; a host that grants less runs
this once itself (`DDL` with the table's name):

    CREATE TABLE gomodel_state (
        collection text COLLATE "C" NOT NULL,
        key        text COLLATE "C" NOT NULL,
        value      bytea NOT NULL,
        version    bigint NOT NULL,
        expires_at timestamptz,                -- NULL: never
        PRIMARY KEY (collection, key)
    );
    CREATE INDEX ON gomodel_state (expires_at);

Behind a pooler that gives each transaction another connection (PgBouncer), pass a pool of your own that was made with
`statement_cache_size=0`.

Every write is one statement, atomic under READ COMMITTED; the server's clock alone decides what has expired. What has
expired is deleted by the writers themselves, a bounded number of rows at most once a minute and worker.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from ..errors import StoreUnavailable
from ..seams.store import THIRTY_DAYS, Record, lifetime, new_version
from .postgres_pool import FAILURES, Database, Pool, Schema, require_address, require_table
from .shared import PerLoop, answering, check_store, secret_of

# Keys per statement of a scan.
PAGE = 500

# Seconds between two deletions of expired rows by one worker, and how many rows one deletes: some milliseconds' work.
PURGE_EVERY = 60.0
PURGE_ROWS = 1000
"""Expired rows that one statement deletes, so that it locks few."""

DDL = """
CREATE TABLE IF NOT EXISTS {table} (
    collection text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (collection, key)
);
CREATE INDEX ON {table} (expires_at);
"""

ALIVE = "(expires_at IS NULL OR expires_at > now())"

# $5 is the life in seconds, NULL for ever.
INSERT = """
INSERT INTO {table} AS held (collection, key, value, version, expires_at)
VALUES ($1, $2, $3, $4, now() + $5::float8 * interval '1 second')
ON CONFLICT (collection, key) DO UPDATE
SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at
"""

# $6 to $8 are collection, key and value of what is kept with it.
ADD_WITH = (
    "WITH added AS ("
    + INSERT
    + """WHERE held.expires_at <= now() RETURNING version, expires_at
), kept AS (
INSERT INTO {table} (collection, key, value, version, expires_at)
SELECT $6::text, $7::text, $8::bytea, added.version, added.expires_at FROM added
ON CONFLICT (collection, key) DO UPDATE
SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at
)
SELECT version FROM added
"""
)

STATEMENTS = {
    "get": "SELECT value, version FROM {table} WHERE collection = $1 AND key = $2 AND " + ALIVE,
    "get_many": "SELECT key, value, version FROM {table} WHERE collection = $1 AND key = ANY($2::text[]) AND " + ALIVE,
    "put": INSERT,
    "add": INSERT + "WHERE held.expires_at <= now() RETURNING version",
    "add_with": ADD_WITH,
    "swap": "UPDATE {table} SET value = $3, version = $4, expires_at = now() + $5::float8 * interval '1 second' "
    "WHERE collection = $1 AND key = $2 AND version = $6 AND " + ALIVE + " RETURNING version",
    "delete": "DELETE FROM {table} WHERE collection = $1 AND key = $2 RETURNING " + ALIVE,
    "delete_many": "DELETE FROM {table} WHERE collection = $1 AND key = ANY($2::text[])",
    "scan": "SELECT key FROM {table} WHERE collection = $1 AND key > $2 AND starts_with(key, $3) AND "
    + ALIVE
    + " AND key >= $3 ORDER BY key LIMIT $4",
    "purge": "DELETE FROM {table} WHERE (collection, key) IN (SELECT collection, key FROM {table} "
    "WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED)",
}


class PostgresStore:
    """Keeps records in *table* (`name` or `schema.name`) of the database at *postgres*: a DSN (`postgresql://…`), or an
    asyncpg pool of your own, which belongs to one event loop and stays yours to close.

    *secret* keys the hashes under which records are found, the same on every worker; without one they keep tenants
    apart but hide nothing. *ttl* and *timeout* are in seconds, *timeout* for each call.

    :raises ValueError: *table* is not a plain lower-case name, *secret* is too short.
    """

    atomic = True
    enumerable = True
    limitation = ""

    def __init__(
        self,
        postgres: str | Pool,
        *,
        table: str = "gomodel_state",
        secret: str | bytes | None = None,
        ttl: float = THIRTY_DAYS,
        timeout: float = 5.0,
    ) -> None:
        require_table(table)
        require_address(postgres)
        check_store(ttl=ttl, timeout=timeout)
        self.secret = secret_of(secret)
        self._table = table
        self._ttl = lifetime(ttl, ttl)
        self._timeout = timeout
        self._statements = {name: text.format(table=table) for name, text in STATEMENTS.items()}
        self._ours = isinstance(postgres, str)
        schema = Schema("to_regclass", table, DDL.format(table=table))
        self._databases = PerLoop(partial(Database, postgres, schema, timeout))
        self._purged = time.monotonic()

    def __repr__(self) -> str:
        return f"<PostgresStore table={self._table!r}>"

    async def get(self, collection: str, key: str) -> Record | None:
        """See `Store.get`."""
        row = await self._row("get", collection, key)
        return None if row is None else Record(row["value"], row["version"])

    async def get_many(self, collection: str, keys: Sequence[str]) -> list[Record | None]:
        """Returns the record of each of *keys*, None where there is none, in one round trip."""
        async with self._connection() as connection:
            rows = await connection.fetch(self._statements["get_many"], collection, keys)
        found = {row["key"]: Record(row["value"], row["version"]) for row in rows}
        return [found.get(key) for key in keys]

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        """See `Store.put`."""
        await self._write("put", collection, key, value, ttl)

    async def add(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> int | None:
        """See `Store.add`."""
        return await self._write("add", collection, key, value, ttl)

    async def add_with(
        self, collection: str, key: str, value: bytes, record: tuple[str, str, bytes], *, ttl: float | None = None
    ) -> int | None:
        """Adds as `add` does; in the same step and trip keeps *record* (collection, key, value) if it was added."""
        return await self._write("add_with", collection, key, value, ttl, *record)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        """See `Store.swap`."""
        return await self._write("swap", collection, key, value, ttl, expected)

    async def delete(self, collection: str, key: str) -> bool:
        """See `Store.delete`."""
        row = await self._row("delete", collection, key)
        return bool(row and row[0])

    async def delete_many(self, collection: str, keys: Sequence[str]) -> None:
        """Removes the records of *keys* in one round trip."""
        async with self._connection() as connection:
            await connection.execute(self._statements["delete_many"], collection, keys)

    async def scan(self, collection: str, prefix: str = "") -> AsyncGenerator[str, None]:
        """See `Store.scan`."""
        last = ""
        while True:
            async with self._connection() as connection:
                rows = await connection.fetch(self._statements["scan"], collection, last, prefix, PAGE)
            for row in rows:
                yield row["key"]
            if len(rows) < PAGE:
                return
            last = rows[-1]["key"]

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        database = self._databases.take()
        if database is not None and self._ours:
            await database.aclose()

    # One call...

    async def _write(
        self, statement: str, collection: str, key: str, value: bytes, ttl: float | None, *more: object
    ) -> int | None:
        seconds = lifetime(ttl, self._ttl)
        life = None if seconds == math.inf else seconds
        row = await self._row(statement, collection, key, value, new_version(), life, *more)
        await self._purge()
        return None if row is None else int(row["version"])

    async def _row(self, statement: str, *arguments: object) -> Any:
        async with self._connection() as connection:
            return await connection.fetchrow(self._statements[statement], *arguments)

    async def _purge(self) -> None:
        if time.monotonic() - self._purged < PURGE_EVERY:
            return
        self._purged = time.monotonic()
        # The write that came before has succeeded, whatever becomes of this.
        with suppress(StoreUnavailable):
            async with self._connection() as connection:
                await connection.execute(self._statements["purge"], PURGE_ROWS)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Any, None]:
        async with answering(self._timeout, *FAILURES):
            pool = await self._databases.get().pool()
            # The pool waits as long again for a connection whose statement is being cancelled.
            async with pool.acquire(timeout=self._timeout) as connection:
                yield connection
