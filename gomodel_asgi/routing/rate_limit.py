"""How often something may be done for a key: a rate, counted by the library `limits` in a window that moves."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import anyio

from ..arguments import check_instance, check_string
from ..errors import QuotaUnavailable, RateLimited
from ..extras import missing

if TYPE_CHECKING:
    from limits.aio.storage import Storage

STORAGE_SECONDS = 0.25  # that a storage may take before it counts as away


class RateLimit:
    """At most *rate* (`"60/minute"`) for each key. Counts are kept in *storage*, or in this process's own memory.

    :raises ImportError: the extra `limits` is not installed.
    :raises TypeError: *storage* is none of `limits.aio.storage`.
    :raises ValueError: *rate* is none.
    """

    def __init__(self, rate: str, storage: Storage | None) -> None:
        check_string("rate", rate, "a rate, such as '60/minute'")
        try:
            import limits
        except ImportError as error:
            raise missing("limits", "policies.limited needs limits") from error
        self.rate = rate
        self.item = limits.parse(rate)
        self.limiter: Any
        if storage is None:  # the library's asynchronous memory knows asyncio alone; this one does not block either
            self.limiter = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
        else:
            check_instance("storage", storage, limits.aio.storage.Storage, "a storage of limits.aio.storage")
            self.limiter = limits.aio.strategies.MovingWindowRateLimiter(storage)

    async def hit(self, key: Hashable) -> None:
        """Counts one for *key*.

        :raises RateLimited: the rate is reached.
        :raises QuotaUnavailable: the storage does not answer.
        """
        name = hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
        try:
            with anyio.fail_after(STORAGE_SECONDS):
                seconds = await self._wait(name)
        except Exception as error:
            message = "The gateway cannot check your rate limit right now; try again later."
            raise QuotaUnavailable(message, detail=type(error).__name__) from error
        if seconds is not None:
            again = math.ceil(max(1.0, seconds))
            raise RateLimited(f"Rate limit reached: {self.rate}. Please try again in {again}s.", retry_after=again)

    async def _wait(self, name: str) -> float | None:
        """Returns the seconds until there is room, None where there was some, which is taken now."""
        has_room = self.limiter.hit(self.item, "gomodel", name)
        if await has_room if inspect.isawaitable(has_room) else has_room:
            return None
        stats = self.limiter.get_window_stats(self.item, "gomodel", name)
        until: float = (await stats if inspect.isawaitable(stats) else stats).reset_time
        return until - time.time()
