"""What the stores that live in another process have in common: one connection per event loop, bounded waits, a secret.

They run on asyncio only, as the libraries that they stand on do.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio

from ..arguments import check_instance, check_seconds, check_string
from ..errors import GatewayError, StoreUnavailable

T = TypeVar("T")

# A hash under a key that everybody knows keeps tenants apart but hides nothing from who reads the store and can guess.
PUBLIC_SECRET = hmac.digest(b"gomodel_asgi", b"state", "sha256")

SHORTEST_SECRET = 16
"""Bytes: 128 bits cannot be guessed."""


def secret_of(given: str | bytes | None) -> bytes:
    """Returns the key of a shared store's hashes: *given*, or one that is the same everywhere and no secret at all.

    :raises ValueError: *given* has fewer than 16 bytes.
    """
    if given is None:
        return PUBLIC_SECRET
    check_instance("secret", given, str | bytes, "a string or bytes, or None")
    secret = given.encode() if isinstance(given, str) else given
    if len(secret) < SHORTEST_SECRET:
        raise ValueError(f"secret must have at least {SHORTEST_SECRET} bytes.")
    return hmac.digest(secret, b"gomodel_asgi state", "sha256")


def check_store(*, ttl: object, timeout: object, namespace: object = "") -> None:
    """Refuses what no store in another process can be made of.

    :raises TypeError: one of them is of another type.
    :raises ValueError: a time is below zero.
    """
    check_string("namespace", namespace)
    check_seconds("ttl", ttl)
    check_seconds("timeout", timeout)


def store_unavailable(detail: str) -> GatewayError:
    """Returns the error of a store that does not answer."""
    return StoreUnavailable("The state store does not answer; try again later.", detail=detail)


@asynccontextmanager
async def answering(
    timeout: float, *failures: type[Exception], unavailable: Callable[[str], GatewayError] = store_unavailable
) -> AsyncGenerator[None, None]:
    """Bounds its block to *timeout* seconds. *unavailable* makes an error of *failures*, and of the network's.

    Only the failure's class goes into the `detail`: an engine's message may quote addresses, users and statements.

    :raises RuntimeError: the running async library is not asyncio.
    """
    running_loop()
    expected: tuple[type[Exception], ...] = (OSError, TimeoutError, *failures)
    try:
        async with asyncio.timeout(timeout):
            yield
    except expected as exc:
        raise unavailable(type(exc).__name__) from exc


def running_loop() -> asyncio.AbstractEventLoop:
    """Returns asyncio's running loop.

    :raises RuntimeError: there is none.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError("What processes share runs on asyncio only; under trio use what is in memory.") from None


class PerLoop(Generic[T]):
    """One *T* per event loop, made with the first call; those of closed loops are let go."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """Returns what the running loop has, made with the first call."""
        loop = running_loop()
        found = self._held.get(loop)
        return self._open(loop) if found is None else found

    def take(self) -> T | None:
        """Returns what the running loop has, which is from now on the caller's to close."""
        with self._lock:
            return self._held.pop(running_loop(), None)

    def _open(self, loop: asyncio.AbstractEventLoop) -> T:
        with self._lock:
            for other in [other for other in self._held if other.is_closed()]:
                del self._held[other]
            made = self._held[loop] = self._make()
            return made


# Reading from a store that may not be as stores should be: bounded in time, with one error for its failures.


# Seconds in which a store has to give what a request needs; its own limit is shorter.
LONGEST_WAIT = 10.0


async def available(read: Callable[[], Awaitable[T]]) -> T:
    """Returns what *read* gives.

    :raises StoreUnavailable: it takes too long, or the store raises what no store may raise.
    """
    try:
        with anyio.fail_after(LONGEST_WAIT):
            return await read()
    except GatewayError:
        raise
    except Exception as error:
        raise store_unavailable(type(error).__name__) from error
