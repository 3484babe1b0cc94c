"""Reading from a store that may not be as stores should be: bounded in time, its failures told in one way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..errors import GatewayError, StoreUnavailable

T = TypeVar("T")

# Seconds in which a store has to give what a request needs; its own limit is shorter.
PATIENCE = 10.0


async def available(read: Callable[[], Awaitable[T]]) -> T:
    """What *read* gives.

    :raises StoreUnavailable: it takes too long, or the store raises what no store may raise.
    """
    try:
        with anyio.fail_after(PATIENCE):
            return await read()
    except GatewayError:
        raise
    except Exception as error:
        raise StoreUnavailable(
            "The state store does not answer; try again later.", detail=type(error).__name__
        ) from error
