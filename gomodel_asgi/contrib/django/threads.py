"""Runs a project's plain functions where Django expects them: in a thread of asgiref's, with fresh connections.

Each call has a thread-sensitive context of its own, so that one slow policy does not hold up the others, in a task of
its own: a caller that has waited long enough leaves at once, while the context waits for its thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections

_running: set[asyncio.Task[Any]] = set()


async def in_django_thread(function: Callable[[], Any]) -> Any:
    """Call *function* in a thread. Cancelled, it returns at once; the call is then left to end by itself."""
    task = asyncio.get_running_loop().create_task(_call(function))
    _running.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # seen: whoever still waits gets it, and nobody else wants it


async def _call(function: Callable[[], Any]) -> Any:
    async with ThreadSensitiveContext():
        return await sync_to_async(with_fresh_connections, thread_sensitive=True)(function)


async def with_fresh_connections_around(look_up: Callable[[], Awaitable[Any]]) -> Any:
    """Await *look_up*, whose queries share one thread, as Django's request handler does at a request's two ends."""
    async with ThreadSensitiveContext():
        close = sync_to_async(close_old_connections, thread_sensitive=True)
        await close()
        try:
            return await look_up()
        finally:
            await close()


def with_fresh_connections(function: Callable[[], Any]) -> Any:
    """Call *function* between two rounds of closing what is broken or past its age."""
    close_old_connections()
    try:
        return function()
    finally:
        close_old_connections()
