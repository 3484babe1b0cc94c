"""Whether what a gateway keeps its state in answers: the store, the counters of its quotas, the ledger. All are read,
and nothing is written but what each makes for itself at its first use, such as its table."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial

import anyio

from ..ledger import Ledger
from ..seams.counters import Counters, Line, Window
from ..seams.store import Store, is_immediate

SECONDS = 10.0
KEY = "check"

Reading = Callable[[], Awaitable[str | None]]


def probes(store: Store, counters: Counters | None, ledger: Ledger | None) -> Iterator[tuple[str, str, Reading]]:
    """Yields, for each of them, the name of the finding where it does not answer, what that is about, and what reads
    it: that returns a message, or None."""
    if not is_immediate(store):
        yield "store_unreachable", "store", partial(_tried, store, partial(_read_store, store))
    if counters is not None:
        yield "counters_unreachable", "quotas", partial(_tried, counters, partial(_read_counters, counters))
    if ledger is not None:
        yield "ledger_unreachable", "ledger", partial(_tried, ledger.sink, partial(_read_ledger, ledger))


async def _tried(engine: object, read: Callable[[], Awaitable[None]]) -> str | None:
    """Returns why *read* failed, None where it did not: the type of what it raised, and the system's error of its
    connection. An engine's message may quote addresses, users and statements."""
    until = anyio.current_time() + SECONDS
    while True:
        try:
            with anyio.fail_after(SECONDS):
                await read()
            return None
        except Exception as error:
            # Counters give a call little time, and their first connection may take longer: it is being opened still.
            if not _is_late(error) or anyio.current_time() > until:
                return f"{type(engine).__name__} does not answer: {_reason(error)}"


def _is_late(error: BaseException) -> bool:
    return any(isinstance(one, TimeoutError) and not getattr(one, "errno", None) for one in _causes(error))


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    return causes


def _reason(error: BaseException) -> str:
    causes = _causes(error)
    system = next((one for one in reversed(causes) if isinstance(one, OSError) and one.errno), None)
    if system is not None and system.errno is not None:
        return f"{type(system).__name__}: {os.strerror(system.errno)}."
    if _is_late(error):
        return f"nothing within {SECONDS:g} seconds."
    missing = any("UndefinedTable" in type(one).__name__ or "no such table" in str(one) for one in causes)
    return "its tables are not there: create them first." if missing else f"{type(causes[1 % len(causes)]).__name__}."


async def _read_store(store: Store) -> None:
    await store.get(KEY, KEY)


async def _read_counters(counters: Counters) -> None:
    now = time.time()
    window = Window(f"minute:{KEY}", ends=now + 60)
    await counters.figures([Line(KEY, window, limit=1, amount=0, holds=False, slot=0, oldest=0, keeps=60)], now)


async def _read_ledger(ledger: Ledger) -> None:
    """Reads nothing of *ledger*, or sees whether its file can be written.

    :raises PermissionError: it cannot.
    """
    path = getattr(ledger.sink, "path", None)
    if path is not None:  # a file may be long; it is only to be written
        place = path if path.exists() else path.parent
        if not os.access(place, os.W_OK):
            raise PermissionError(13 if place.exists() else 2, "")
        return
    now = datetime.now(UTC)
    await ledger.sums(now.date(), now.date())
    async with aclosing(ledger.rows(now, now)) as rows:
        async for _ in rows:
            break
