"""How a PostgreSQL is reached: by a bounded pool for each event loop, or by the host's, once its schema is there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

from msgspec import Struct

from ..arguments import check_string, refusal
from ..errors import GatewayError
from ..extras import missing
from .shared import answering, store_unavailable

try:
    import asyncpg  # type: ignore[import-untyped]
except ImportError as exc:  # pragma: no cover - shown in a process of its own
    raise missing("postgres", "PostgreSQL is reached through asyncpg") from exc

Pool: TypeAlias = asyncpg.Pool

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# At a time and event loop; more wait for one, within their timeout.
CONNECTIONS = 10

# Seconds that opening a pool and making a table may take; a call waits for it no longer than it may take.
OPENS = 10.0

# Creating a table is not safe to race on, IF NOT EXISTS or not: workers that start at once queue up on this lock.
LOCK = 0x676F6D6F64656C

TABLE_NAME = re.compile(r"(?:[a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}")


def require_table(name: str) -> None:
    """Refuses a *name* that would have to be quoted.

    :raises ValueError: it is not a plain one.
    """
    check_string("table", name)
    if not TABLE_NAME.fullmatch(name):
        raise ValueError("table must be a plain lower-case name, or schema.name.")


def require_address(postgres: str | Pool) -> None:
    """Refuses an address that is none of PostgreSQL's, without quoting it.

    :raises ValueError: it is of another scheme.
    :raises TypeError: it is no address, and no pool.
    """
    if not isinstance(postgres, str) and (isinstance(postgres, type) or not hasattr(postgres, "acquire")):
        raise refusal("postgres", "a DSN, or a pool of asyncpg", postgres)
    if isinstance(postgres, str) and not postgres.startswith(("postgresql://", "postgres://")):
        raise ValueError("The DSN must begin with postgresql:// or postgres://.")


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is not typed
    """A connection of ours: nothing is ever set for its session, so there is nothing to reset before its next use."""

    def get_reset_query(self) -> str:
        """Returns what is sent when it goes back to the pool, a trip for each call otherwise."""
        return ""


class Schema(Struct, frozen=True):
    """What has to be there: *name*, which PostgreSQL's function *finder* finds. If it is not, *ddl* makes it."""

    finder: str
    name: str
    ddl: str


class Database:
    """A pool of one event loop, whose schema is known to be there from the first use on."""

    def __init__(
        self,
        postgres: str | Pool,
        schema: Schema,
        timeout: float,
        unavailable: Callable[[str], GatewayError] = store_unavailable,
    ) -> None:
        self._postgres = postgres
        self._schema = schema
        self._timeout = timeout
        self._unavailable = unavailable
        self._pool: Any = None
        self._opening: asyncio.Task[Any] | None = None

    async def pool(self) -> Any:
        """Returns the pool, opened with the first call, when the schema is there too.

        Opening goes on when the calls that wait for it have no more time: else a slow one would never end.

        :raises ConnectionError: it was closed meanwhile.
        """
        if self._pool is None:
            if self._opening is None:
                self._opening = asyncio.create_task(self._opened())
                self._opening.add_done_callback(self._has_opened)
            await asyncio.wait([opening := self._opening])
            if opening.cancelled():
                raise ConnectionError("It was closed before it was open.")
            return opening.result()
        return self._pool

    async def aclose(self) -> None:
        """Closes the pool. Never raises."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._pool is not None:
            with suppress(GatewayError):
                async with answering(self._timeout, *FAILURES, unavailable=self._unavailable):
                    await self._pool.close()

    def _has_opened(self, opening: asyncio.Task[Any]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._pool = opening.result()

    async def _opened(self) -> Any:
        async with asyncio.timeout(max(OPENS, self._timeout)):
            if not isinstance(self._postgres, str):
                await self._create_schema(self._postgres)
                return self._postgres
            pool = asyncpg.create_pool(
                self._postgres, min_size=0, max_size=CONNECTIONS, timeout=OPENS, connection_class=Connection
            )
            await pool
            try:
                await self._create_schema(pool)
            except BaseException:
                pool.terminate()
                raise
            return pool

    async def _create_schema(self, pool: Any) -> None:
        find = f"SELECT {self._schema.finder}($1)"
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(find, self._schema.name) is None:
                await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                if await connection.fetchval(find, self._schema.name) is None:
                    await connection.execute(self._schema.ddl)
