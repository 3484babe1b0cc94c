"""Origins that have lost keep-alive.

A byte too many on a connection is harmless where it is seen before the next request is sent on it: the connection is
closed. Where it comes later, it is read as that request's answer, and no client of HTTP/1.1 can tell. So whoever was
once seen to send any is not given the opportunity again, for a while.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from weakref import WeakSet

from ...seams.transport import Listener

Key = tuple[str, str, int, str, str | None, bool]
"""scheme, host, port, credential, Unix socket, allow_private: what must agree for a connection to be shared."""
Origin = tuple[str, str, int, str | None]
"""scheme, host, port, Unix socket."""

PROBATION = 600.0
"""Seconds from the last such byte."""
MOST_SUSPECTS = 1024


def origin_of(key: Key) -> Origin:
    return key[0], key[1], key[2], key[4]


class Suspects:
    """Those of one transport, on all its event loops; *until* is when each is trusted again, on *clock*."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.until: OrderedDict[Origin, float] = OrderedDict()
        self.untold: deque[str] = deque(maxlen=MOST_SUSPECTS)
        self.listeners: WeakSet[Listener] = WeakSet()

    def has(self, origin: Origin) -> bool:
        """Whether *origin* has lost keep-alive. Asked in the task of a request, where listeners can be told."""
        while self.untold:
            named = self.untold.popleft()
            for listener in tuple(self.listeners):
                listener.keepalive_lost(named, PROBATION)
        return self._has(origin)

    def add(self, origin: Origin) -> None:
        """*origin* has sent what nobody asked for; where that is new, listeners are told with the next request."""
        if not self._has(origin):
            scheme, host, port, uds = origin
            self.untold.append(f"{scheme}://{host}:{port}" if uds is None else f"{scheme}+unix://{uds}")
        self.until[origin] = self.clock() + PROBATION
        self.until.move_to_end(origin)
        if len(self.until) > MOST_SUSPECTS:
            self.until.popitem(last=False)

    def _has(self, origin: Origin) -> bool:
        until = self.until.get(origin)
        if until is not None and until <= self.clock():
            self.until.pop(origin, None)
            until = None
        return until is not None
