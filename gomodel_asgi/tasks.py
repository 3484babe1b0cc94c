"""Work that outlives the request that began it, owned by the gateway: awaited when it closes, lost with the process."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable

import anyio

from .deadline import on_trio
from .logs import log

Work = Callable[[], Awaitable[object]]


class Task:
    """One piece of work. `wait` returns when it is over, however it ended."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.over = anyio.Event()
        self.scope = anyio.CancelScope()

    async def run(self) -> None:
        """Does the work until it ends or is cancelled. What it raises is logged by its type alone."""
        try:
            with self.scope:
                await self.work()
        except Exception as error:
            log("work_failed", error=type(error).__name__)
        finally:
            self.over.set()

    def cancel(self) -> None:
        """Asks the work to stop at its next await."""
        self.scope.cancel()

    async def wait(self, seconds: float) -> bool:
        """Waits at most so long; returns whether it is over."""
        with anyio.move_on_after(seconds):
            await self.over.wait()
        return self.over.is_set()


class Tasks:
    """The work of one gateway, on all its event loops."""

    def __init__(self) -> None:
        self._running: dict[Task, object] = {}

    def spawn(self, work: Work) -> Task:
        """Runs *work* beside everything else."""
        task = Task(work)
        self._running[task] = loop_token()

        async def run() -> None:
            try:
                await task.run()
            finally:
                self._running.pop(task, None)

        start(run, task)
        return task

    def cancel(self) -> None:
        """Cancels the work of this loop; `aclose` waits for its end."""
        for task in self._mine():
            task.cancel()

    async def aclose(self, seconds: float) -> None:
        """Waits for the work of this loop, at most so long; cancels what has not ended by then."""
        mine = self._mine()
        with anyio.move_on_after(seconds):
            for task in mine:
                await task.over.wait()
        for task in mine:
            task.cancel()
        with anyio.move_on_after(seconds, shield=True):
            for task in mine:
                await task.over.wait()

    def _mine(self) -> list[Task]:
        token = loop_token()
        return [task for task, loop in self._running.items() if loop is token]


# asyncio keeps only weak references to tasks.
_alive: set[asyncio.Task[None]] = set()


def start(run: Callable[[], Awaitable[None]], task: Task) -> None:
    """Runs *run* beside what runs now, on the event loop that is current."""
    if on_trio():
        import trio

        trio.lowlevel.spawn_system_task(run, context=contextvars.copy_context())  # as asyncio's tasks have it
        return
    running = asyncio.ensure_future(run())
    assert isinstance(running, asyncio.Task)
    _alive.add(running)
    running.add_done_callback(_alive.discard)


def loop_token() -> object:
    """Returns a token that identifies the running event loop."""
    if on_trio():
        import trio

        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()
