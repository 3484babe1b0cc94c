"""The requests that a fake provider received, and the signals by which a test waits for what happens to them.

A signal happens once, and can be waited for from any thread and any event loop.
`anyio.Event` belongs to one loop, `threading.Event` blocks it; a provider that runs in a thread of its own must be able
to tell an asyncio test, a trio test and a plain function. So a waiter leaves a callback that wakes it where it is.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio


class Signal:
    """Set once, stays set. Safe to set and to wait for from anywhere."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: deque[Callable[[], None]] = deque()

    def is_set(self) -> bool:
        """Returns whether it has happened."""
        return self._set

    def set(self) -> None:
        """Makes it happen. A second call does nothing."""
        self._set = True
        self._wake()

    async def wait(self) -> None:
        """Waits in an event loop, asyncio or trio; bound it with `anyio.fail_after`."""
        event = anyio.Event()
        waiter = thread_safe(event.set)
        self._register(waiter)
        try:
            await event.wait()
        finally:
            self._unregister(waiter)

    def wait_in_thread(self, timeout: float) -> bool:
        """Waits at most *timeout* seconds in a thread without an event loop; returns whether it has happened."""
        event = threading.Event()
        waiter = event.set
        self._register(waiter)
        try:
            return event.wait(timeout)
        finally:
            self._unregister(waiter)

    def _register(self, waiter: Callable[[], None]) -> None:
        # Set between the two lines: `_wake` here finds the waiter that `set` may have missed.
        self._waiters.append(waiter)
        if self._set:
            self._wake()

    def _unregister(self, waiter: Callable[[], None]) -> None:
        try:
            self._waiters.remove(waiter)
        except ValueError:  # woken, and thereby gone
            pass

    def _wake(self) -> None:
        while True:
            try:
                waiter = self._waiters.popleft()
            except IndexError:  # none is left, or another thread has taken the last one
                return
            waiter()

    def __repr__(self) -> str:
        return f"<Signal {'set' if self._set else 'unset'}>"


def backend() -> Literal["asyncio", "trio"] | None:
    """Returns the kind of event loop that runs in this thread, None where none does."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"


def thread_safe(wake: Callable[[], object]) -> Callable[[], None]:
    """Returns *wake* as a call that any thread may make, into the loop that runs now."""
    if backend() == "trio":
        trio = sys.modules["trio"]
        token = trio.lowlevel.current_trio_token()
        return _unless_closed(lambda: token.run_sync_soon(wake), trio.RunFinishedError)
    loop = asyncio.get_running_loop()
    return _unless_closed(lambda: loop.call_soon_threadsafe(wake), RuntimeError)


def _unless_closed(call: Callable[[], object], closed: type[BaseException]) -> Callable[[], None]:
    def waiter() -> None:
        try:
            call()
        except closed:  # the loop has gone, and with it whoever waited
            pass

    return waiter


SHOWN = frozenset({b"accept", b"content-length", b"content-type", b"host", b"user-agent", b"x-request-id"})
"""Headers whose values `repr` shows; any other may hold a credential."""


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedRequest:
    """One request as it came.

    *path* is the raw path of the request line, escapes left as they are, *query* what followed `?`. *headers* have
    lower-case names and keep order, repetitions and value bytes. *connection* numbers the connection that it came on,
    from 1; it is 0 where another server took the request.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: int = 0
    disconnected: Signal = field(default_factory=Signal)
    """Set when the client left before the reply had ended; `await request.disconnected.wait()`."""
    answered: Signal = field(default_factory=Signal)
    """Set when the reply has gone out as scripted, to its end or to its cut."""

    def json(self) -> Any:
        """Returns the body as JSON."""
        return json.loads(self.body)

    def values(self, name: str) -> list[str]:
        """Returns all values of the header *name*, in order; none is an empty list."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    def header(self, name: str) -> str | None:
        """Returns the first value of the header *name*, None where it was not sent."""
        return next(iter(self.values(name)), None)

    def __contains__(self, secret: str | bytes) -> bool:
        """Returns whether *secret* stands anywhere in the request: line, headers or body."""
        wanted = secret.encode() if isinstance(secret, str) else secret
        lines = [b"%s: %s" % header for header in self.headers]
        return any(wanted in part for part in (self.path.encode("latin-1"), self.query, self.body, *lines))

    def __repr__(self) -> str:
        headers = ", ".join(f"{name.decode('latin-1')}: {_shown(name, value)}" for name, value in self.headers)
        query = "?…" if self.query else ""
        return f"<ReceivedRequest {self.method} {self.path}{query} [{headers}] {len(self.body)} bytes>"


def _shown(name: bytes, value: bytes) -> str:
    return value.decode("latin-1") if name in SHOWN else "…"
