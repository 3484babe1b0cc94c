"""Time for tests: a clock that stands, and waiting for a condition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look until it is so; fail if it is not after 2000 looks."""
    for _ in range(2000):
        if await condition():
            return
        await anyio.sleep(0.01)
    raise AssertionError("it never became so")
