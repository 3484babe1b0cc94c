"""Which response is worked on when: each lane first in, first out; lanes side by side, up to a limit.

A lane that has nothing to do has no task: an idle connection costs its reader alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ...errors import InvalidRequest
from ...wire.websocket_frames import Create

MOST_NAMED = 32
"""Names that a connection may use in its life, the unnamed lane not counted (the Responses API's own limit)."""
MOST_AT_ONCE = 16
"""Responses under way at a time, over all lanes (the Responses API's own limit); others wait."""
MOST_WAITING = 256
"""Creates that wait, over all lanes. Clients send one and wait for its end; whoever sends ahead is served in order."""


class Lanes:
    """Runs each create with *work*, in tasks that *start* starts. At most *limit* bytes wait."""

    def __init__(
        self,
        start: Callable[..., Any],
        work: Callable[[Create], Awaitable[None]],
        settled: Callable[[], None],
        limit: int,
    ) -> None:
        self.start = start
        self.work = work
        self.settled = settled
        self.limit = limit
        self.named: set[str] = set()
        self.queues: dict[str | None, deque[Create]] = {}
        self.waiting = 0
        self.size = 0
        self.places = anyio.Semaphore(MOST_AT_ONCE)

    @property
    def busy(self) -> bool:
        """Whether a response is under way or waits."""
        return bool(self.queues)

    def add(self, create: Create) -> None:
        """Put *create* at the end of its lane.

        :raises InvalidRequest: one name too many, or too much waits already.
        """
        self._check(create)
        self.waiting += 1
        self.size += create.size
        queue = self.queues.get(create.lane)
        if queue is None:
            self.queues[create.lane] = deque([create])
            self.start(self._run, create.lane)
        else:
            queue.append(create)

    def _check(self, create: Create) -> None:
        lane = create.lane
        if self.waiting >= MOST_WAITING or (self.waiting and self.size + create.size > self.limit):
            message = "Too many requests wait on this connection; let a response end first."
            raise InvalidRequest(message, status=429, code="websocket_queue_full")
        if lane is None or lane in self.named:
            return
        if len(self.named) >= MOST_NAMED:
            message = f"This connection has used {MOST_NAMED} stream ids; use one of them again, or another connection."
            raise InvalidRequest(message, param="stream_id", code="websocket_stream_limit_reached")
        self.named.add(lane)

    async def _run(self, lane: str | None) -> None:
        queue = self.queues[lane]
        try:
            while queue:
                async with self.places:
                    create = queue.popleft()
                    self.waiting -= 1
                    self.size -= create.size
                    await self.work(create)
        finally:
            del self.queues[lane]
            self.settled()
