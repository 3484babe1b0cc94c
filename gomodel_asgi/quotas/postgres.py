"""Counters in PostgreSQL 12 or later, for several workers and machines.

Two tables and three functions are created on first use where they are missing, which needs CREATE in the schema; a host
that grants less runs `ddl("gomodel_counters")` once itself:

    gomodel_counters         (key, name) → spent, held (a JSON object: slot → amount), until (Unix seconds)
    gomodel_counters_holds   (hold)      → settled, until

Behind a pooler that gives each transaction another connection (PgBouncer), pass a pool of your own that was made with
`statement_cache_size=0`.

Each call is one statement, which runs a function. The function makes the rows that are missing and locks all of them,
both in the order of their keys, so that no two calls can wait for each other; then it decides. What is needed no more
is deleted by the writers, a bounded number of rows with every so many calls.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from ..arguments import check_seconds, check_string
from ..errors import QuotaUnavailable
from ..seams.counters import (
    PARTS,
    REPEATS,
    Figures,
    Line,
    Reserved,
    open_for,
    quota_unavailable,
    require_countable,
    require_distinct,
    reserved,
)
from ..stores.postgres_pool import FAILURES, Database, Pool, Schema, require_address, require_table
from ..stores.shared import PerLoop, answering

BIGINT = 2**63 - 1
"""The largest `bigint`."""

MOST = BIGINT - 1
"""The largest limit: what wants more than can be written is cut to the largest bigint, and has no room."""

# A worker deletes after so many reservations, or when so many seconds have passed: more rows than it has made.
PURGE_AFTER, PURGE_EVERY = 500, 60.0
PURGE_ROWS = 2 * PURGE_AFTER

LONGEST_NAME = 40
"""Characters of a table's name: the names that are made of it must fit into 63."""

# The functions carry a number, which goes up when they change: workers of two versions may share one database.
FUNCTIONS = "1"

DDL = """
CREATE TABLE IF NOT EXISTS {table} (
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    spent bigint NOT NULL,
    held jsonb NOT NULL,
    until float8 NOT NULL,
    PRIMARY KEY (key, name)
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS {table}_holds (
    hold text COLLATE "C" PRIMARY KEY,
    settled boolean NOT NULL,
    until float8 NOT NULL
);
CREATE INDEX IF NOT EXISTS {bare}_until ON {table} (until);
CREATE INDEX IF NOT EXISTS {bare}_holds_until ON {table}_holds (until);

CREATE OR REPLACE FUNCTION {table}_figures_{functions}(
    keys text[], names text[], befores text[], parts int[], oldests bigint[]
) RETURNS TABLE (spent bigint, held bigint, before bigint) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan AS $figures$
BEGIN
    RETURN QUERY
    WITH counted AS (
        SELECT line.number, line.parts,
            coalesce(here.spent, 0)::numeric AS spent, coalesce((
                SELECT sum(slot.value::numeric) FROM jsonb_each_text(here.held) AS slot
                WHERE slot.key::bigint >= line.oldest
            ), 0) AS held,
            coalesce(past.spent, 0)::numeric AS past_spent, coalesce((
                SELECT sum(slot.value::numeric) FROM jsonb_each_text(past.held) AS slot
                WHERE slot.key::bigint >= line.oldest
            ), 0) AS past_held
        FROM unnest(keys, names, befores, parts, oldests) WITH ORDINALITY
            AS line (key, name, before, parts, oldest, number)
        LEFT JOIN {table} AS here ON here.key = line.key AND here.name = line.name
        LEFT JOIN {table} AS past ON past.key = line.key AND past.name = line.before
    ), shared AS (
        SELECT counted.*, ceil(counted.past_spent * counted.parts / {parts}) AS spent_share,
            ceil((counted.past_spent + counted.past_held) * counted.parts / {parts}) AS share
        FROM counted
    )
    SELECT least(shared.spent + shared.spent_share, {most})::bigint,
        least(shared.held + shared.share - shared.spent_share, {most})::bigint,
        least(shared.past_spent + shared.past_held, {most})::bigint
    FROM shared ORDER BY shared.number;
END
$figures$;

CREATE OR REPLACE FUNCTION {table}_reserve_{functions}(
    the_hold text, keys text[], names text[], befores text[], parts int[], oldests bigint[], forgotten bigint[],
    limits bigint[], amounts bigint[], holding boolean[], slots bigint[], untils float8[], hold_until float8
) RETURNS TABLE (refused bigint, known boolean, spent bigint, held bigint, before bigint) LANGUAGE plpgsql AS $reserve$
DECLARE
    full_line bigint;
    is_known boolean;
    all_spent bigint[];
    all_held bigint[];
    all_before bigint[];
BEGIN
    INSERT INTO {table} AS counter (key, name, spent, held, until)
    SELECT line.key, line.name, 0, '{{}}', line.until FROM unnest(keys, names, untils) AS line (key, name, until)
    ORDER BY line.key COLLATE "C", line.name COLLATE "C"
    ON CONFLICT DO NOTHING;
    PERFORM FROM {table} AS counter
    WHERE (counter.key, counter.name) IN (SELECT * FROM unnest(keys || keys, names || befores))
    ORDER BY counter.key, counter.name FOR UPDATE;
    is_known := EXISTS (SELECT FROM {table}_holds AS holds WHERE holds.hold = the_hold);
    SELECT array_agg(line.spent ORDER BY line.number), array_agg(line.held ORDER BY line.number),
        array_agg(line.before ORDER BY line.number), min(line.number) FILTER (
            WHERE NOT is_known AND line.spent::numeric + line.held + amounts[line.number] > limits[line.number])
    INTO all_spent, all_held, all_before, full_line
    FROM {table}_figures_{functions}(keys, names, befores, parts, oldests)
        WITH ORDINALITY AS line (spent, held, before, number);
    IF NOT is_known AND full_line IS NULL THEN
        UPDATE {table} AS counter SET
            spent = counter.spent + CASE WHEN line.holds THEN 0 ELSE line.amount END,
            held = CASE WHEN line.holds THEN coalesce((
                SELECT jsonb_object_agg(slot.key, slot.value) FROM jsonb_each(counter.held) AS slot
                WHERE slot.key::bigint >= line.forgotten
            ), '{{}}') || jsonb_build_object(
                line.slot::text, coalesce((counter.held ->> line.slot::text)::bigint, 0) + line.amount
            ) ELSE counter.held END,
            until = greatest(counter.until, line.until)
        FROM unnest(keys, names, forgotten, amounts, holding, slots, untils)
            AS line (key, name, forgotten, amount, holds, slot, until)
        WHERE counter.key = line.key AND counter.name = line.name;
        INSERT INTO {table}_holds AS holds (hold, settled, until) VALUES (the_hold, false, hold_until);
    END IF;
    RETURN QUERY SELECT full_line, is_known, * FROM unnest(all_spent, all_held, all_before);
END
$reserve$;

CREATE OR REPLACE FUNCTION {table}_settle_{functions}(
    the_hold text, keys text[], names text[], amounts bigint[], holding boolean[], slots bigint[], untils float8[],
    actual numeric[], hold_until float8
) RETURNS void LANGUAGE plpgsql AS $settle$
DECLARE
    was_settled boolean;
BEGIN
    INSERT INTO {table} AS counter (key, name, spent, held, until)
    SELECT line.key, line.name, 0, '{{}}', line.until FROM unnest(keys, names, untils) AS line (key, name, until)
    ORDER BY line.key COLLATE "C", line.name COLLATE "C"
    ON CONFLICT DO NOTHING;
    PERFORM FROM {table} AS counter
    WHERE (counter.key, counter.name) IN (SELECT * FROM unnest(keys, names))
    ORDER BY counter.key, counter.name FOR UPDATE;
    SELECT holds.settled INTO was_settled FROM {table}_holds AS holds WHERE holds.hold = the_hold FOR UPDATE;
    IF was_settled THEN
        RETURN;
    END IF;
    UPDATE {table} AS counter SET
        spent = greatest(0, least({most}, counter.spent + line.actual
            - CASE WHEN was_settled IS NULL OR line.holds THEN 0 ELSE line.amount END))::bigint,
        held = CASE
            WHEN was_settled IS NULL OR NOT line.holds THEN counter.held
            WHEN coalesce((counter.held ->> line.slot::text)::bigint, 0) > line.amount THEN
                counter.held || jsonb_build_object(
                    line.slot::text, (counter.held ->> line.slot::text)::bigint - line.amount)
            ELSE counter.held - line.slot::text END,
        until = greatest(counter.until, line.until)
    FROM unnest(keys, names, amounts, holding, slots, untils, actual)
        AS line (key, name, amount, holds, slot, until, actual)
    WHERE counter.key = line.key AND counter.name = line.name;
    INSERT INTO {table}_holds AS holds (hold, settled, until) VALUES (the_hold, true, hold_until)
    ON CONFLICT (hold) DO UPDATE SET settled = true, until = excluded.until;
END
$settle$;
"""

STATEMENTS = {
    "reserve": "SELECT * FROM {table}_reserve_{functions}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    "settle": "SELECT {table}_settle_{functions}($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    "figures": "SELECT * FROM {table}_figures_{functions}($1, $2, $3, $4, $5)",
    # $1 is the time. It is not taken from a worker whose clock is ahead.
    "purge": "WITH past AS (SELECT least($1::float8, extract(epoch FROM now())::float8) AS time), gone AS ("
    "DELETE FROM {table}_holds WHERE hold IN (SELECT hold FROM {table}_holds, past WHERE until <= past.time "
    "ORDER BY until LIMIT $2 FOR UPDATE OF {bare}_holds SKIP LOCKED)) "
    "DELETE FROM {table} WHERE (key, name) IN (SELECT key, name FROM {table}, past WHERE until <= past.time "
    "ORDER BY until LIMIT $2 FOR UPDATE OF {bare} SKIP LOCKED)",
}


def ddl(table: str) -> str:
    """Returns what makes the tables and functions of *table* (`name` or `schema.name`).

    :raises ValueError: *table* is not a plain lower-case name, or too long.
    """
    require_table(table)
    if len(table.rpartition(".")[2]) > LONGEST_NAME:
        raise ValueError(f"table must have at most {LONGEST_NAME} characters, since other names are made of it.")
    return filled(DDL, table)


def filled(text: str, table: str) -> str:
    """Returns *text* about *table*."""
    bare = table.rpartition(".")[2]
    return text.format(table=table, bare=bare, functions=FUNCTIONS, parts=PARTS, most=BIGINT)


class PostgresCounters:
    """Counts in *table* (`name` or `schema.name`) of the database at *postgres*: a DSN (`postgresql://…`), or an
    asyncpg pool of your own, which belongs to one event loop and stays yours to close. *timeout* is in seconds, for
    each call.

    :raises ValueError: *table* is not a plain lower-case name, or too long.
    """

    shared = True

    def __init__(self, postgres: str | Pool, *, table: str = "gomodel_counters", timeout: float = 0.25) -> None:
        require_address(postgres)
        check_string("table", table)
        check_seconds("timeout", timeout)
        schema = Schema("to_regproc", f"{table}_settle_{FUNCTIONS}", ddl(table))
        self._table = table
        self.timeout = timeout
        self._statements = {name: filled(text, table) for name, text in STATEMENTS.items()}
        self._ours = isinstance(postgres, str)
        self._databases = PerLoop(partial(Database, postgres, schema, timeout, quota_unavailable))
        self._purged = time.monotonic()
        self._reserved = 0

    def __repr__(self) -> str:
        return f"<PostgresCounters table={self._table!r}>"

    async def reserve(self, hold: str, lines: Sequence[Line], now: float) -> Reserved:
        """Reserves all *lines* for *hold*, or none. Returns which one had no room, and the figures.

        :raises QuotaUnavailable: PostgreSQL does not answer.
        :raises ValueError: two of *lines* have the same key and window, or a limit is beyond 2**63 - 2.
        """
        require_distinct(lines)
        require_countable(lines, MOST, "PostgreSQL")
        if not lines:
            return Reserved(None, ())
        async with self._connection() as connection:
            rows = await connection.fetch(
                self._statements["reserve"],
                hold,
                *self._read(lines),
                [line.forgotten for line in lines],
                [line.limit for line in lines],
                [min(line.amount, BIGINT) for line in lines],
                [line.holds for line in lines],
                [line.slot for line in lines],
                [line.until for line in lines],
                now + open_for(lines),
            )
        self._reserved += 1
        refused, known = rows[0]["refused"], rows[0]["known"]
        found = map(figures_of, rows)
        if refused is not None or known:
            return Reserved(refused and refused - 1, tuple(found))
        return Reserved(None, tuple(map(reserved, lines, found)))

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        """Releases what *hold* holds in each of *lines* and books *actual*, once; see `Counters`."""
        async with self._connection() as connection:
            await connection.execute(
                self._statements["settle"],
                hold,
                [line.key for line in lines],
                [line.window.name for line in lines],
                [min(line.amount, BIGINT) for line in lines],
                [line.holds for line in lines],
                [line.slot for line in lines],
                [line.until for line in lines],
                list(actual),
                now + REPEATS,
            )
        await self._purge(now)

    async def figures(self, lines: Sequence[Line], now: float) -> tuple[Figures, ...]:
        """Returns what each line has spent and held; see `Counters`."""
        async with self._connection() as connection:
            rows = await connection.fetch(self._statements["figures"], *self._read(lines))
        return tuple(map(figures_of, rows))

    async def aclose(self) -> None:
        """Closes what the running event loop has open. The counters stay usable."""
        database = self._databases.take()
        if database is not None and self._ours:
            await database.aclose()

    def _read(self, lines: Sequence[Line]) -> tuple[list[Any], ...]:
        return (
            [line.key for line in lines],
            [line.window.name for line in lines],
            [line.window.before for line in lines],
            [line.window.parts for line in lines],
            [line.oldest for line in lines],
        )

    async def _purge(self, now: float) -> None:
        if self._reserved < PURGE_AFTER and time.monotonic() - self._purged < PURGE_EVERY:
            return
        self._reserved, self._purged = 0, time.monotonic()
        # The settlement that came before has succeeded, whatever becomes of this.
        with suppress(QuotaUnavailable):
            async with self._connection() as connection:
                await connection.execute(self._statements["purge"], now, PURGE_ROWS)

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Any, None]:
        async with answering(self.timeout, *FAILURES, unavailable=quota_unavailable):
            pool = await self._databases.get().pool()
            # The pool waits as long again for a connection whose statement is being cancelled.
            async with pool.acquire(timeout=self.timeout) as connection:
                yield connection


def figures_of(row: Any) -> Figures:
    """Returns the figures in *row*."""
    return Figures(row["spent"], row["held"], row["before"])
