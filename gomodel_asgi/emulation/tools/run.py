"""The run of one response: what all parts of the work on it share, and its stream."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio

from ...dialects.reader import Reader, TranslatedReader
from ...errors import GatewayError
from ...exchange.job import Job, provider_of
from ...observers import Trace
from ...observers.records import clean
from ...routing.target import Target
from ...tasks import Task
from ...upstream.upstream_request import longest
from ...wire.event_writer import Emitter
from ...wire.redaction import redacted as without_secrets
from ...wire.response import DEFAULTS, OPTIONAL_ECHO
from .call_limits import CallLimits
from .declarations import Declared, Toolbox
from .plan import Candidate, Plan
from .remembered import Remembered
from .rewriter import Rewriter
from .seams import Json, Listed
from .sessions import Sessions

# The stream of a response that takes several rounds: written by the task of the loop, read by whoever asked.
#
# The loop waits while more lies here than the client has fetched, so that a slow client slows the upstream; and
# whoever lets go of the stream ends the loop.


FAREWELL = 5.0
"""Seconds that a loop may take to end once its client has left."""


class Outlet:
    """See `exchange.reply.Stream`. At most about *most* bytes wait in it. *cancelled* ends the response whose
    client has left, and returns whether there is anything of it to keep."""

    def __init__(self, reader: Reader, most: int, trace: Trace | None, cancelled: Callable[[], bool]) -> None:
        self.reader = reader
        self.cancelled = cancelled
        self.most = most
        self.trace = trace
        self.ended = False
        self.before_end: Callable[[], Awaitable[object]] | None = None
        self.on_over: Callable[[], None] | None = None
        self.task: Task | None = None
        self.pieces: deque[tuple[bytes, bool]] = deque()
        self.size = 0
        self.over = False
        self.came = anyio.Event()
        self.taken = anyio.Event()

    # The loop's side...

    async def give(self, data: bytes, *, last: bool = False) -> None:
        """Puts events into the stream; waits until there is room for more."""
        if data:
            self.pieces.append((data, last))
            self.size += len(data)
            self.came.set()
        while self.size > self.most and not self.ended:
            self.taken = anyio.Event()
            await self.taken.wait()

    def end(self) -> None:
        """Notes that nothing more will come."""
        self.over = True
        self.came.set()

    # The reader's side...

    async def next(self) -> bytes:
        """See `Stream.next`."""
        while not self.pieces and not self.over and not self.ended:
            self.came = anyio.Event()
            await self.came.wait()
        if not self.pieces:
            self.ended = True
            self._notify_over()
            return b""
        if self.pieces[0][1]:
            await self._ending()
        data, _ = self.pieces.popleft()
        self.size -= len(data)
        self.taken.set()
        if self.trace is not None:
            self.trace.measure.add(data)
        return data

    async def _ending(self) -> None:
        before_end, self.before_end = self.before_end, None
        if before_end is not None:
            await before_end()

    def final(self) -> bytes:
        """See `Stream.final`.

        :raises GatewayError: the response has failed, or not ended.
        """
        response = self.reader.final()
        if response is None:
            raise self.reader.failure or GatewayError("The response has not ended.")
        return response

    async def interrupt(self, error: GatewayError) -> bytes:
        """See `Stream.interrupt`: what was written before comes first."""
        await self._stopped()
        pieces = [data for data, _ in self.pieces]
        self.pieces.clear()
        events = b"".join(pieces) + (self.reader.fail(error) if self.reader.terminal is None else b"")
        self.ended = True
        if self.trace is not None:
            self.trace.failed(error)
            self.trace.measure.add(events)
        return events

    async def aclose(self) -> None:
        """See `Stream.aclose`."""
        before_end, self.before_end = self.before_end, None
        self.ended = True
        await self._stopped()
        if before_end is not None and (self.reader.terminal is not None or self.cancelled()):
            with anyio.move_on_after(FAREWELL, shield=True):
                await before_end()
        self.cancelled = _nothing_left  # which knows the whole response, and that knows us
        self._notify_over()

    async def _stopped(self) -> None:
        task, self.task = self.task, None
        if task is None:
            return
        task.cancel()
        self.taken.set()
        with anyio.CancelScope(shield=True):
            await task.wait(FAREWELL)

    def _notify_over(self) -> None:
        over, self.on_over = self.on_over, None
        if over is not None:
            over()


def _nothing_left() -> bool:
    return False


class Run:
    """The run of one response. *chain* is that of *target*, *labels* are the servers to be listed, *known* is what is
    remembered of items, *own* are the items of the request's own input and *before* those of the turns that it
    continues. *secret* signs what comes back from a client or a store."""

    def __init__(
        self,
        toolbox: Toolbox,
        job: Job,
        target: Target,
        chain: Sequence[Candidate],
        labels: Mapping[str, Declared],
        known: dict[str, Remembered],
        own: Sequence[Any],
        before: Sequence[Json],
        secret: bytes,
    ) -> None:
        self.toolbox = toolbox
        self.job = job
        self.target = target
        self.chain = chain
        self.labels = {**labels}
        self.known = known
        self.own = own
        self.before = before
        self.body = chain[0].body
        self.id = job.response_id or "resp_" + secrets.token_hex(24)
        self.until = job.started + longest(target, job)
        """When the response must have ended, on the clock."""
        self.secrets = tuple(secret for one in chain for tool in one.declared for secret in tool.secrets)
        self.included = frozenset(value for value in self.body.get("include") or () if isinstance(value, str))
        self.plans: list[Plan] = []
        """One for each Target of the chain."""
        self.lists: dict[str, Sequence[Listed]] = {}
        """What each server has and may be shown, by label."""
        self.given: set[str] = set()
        """The servers whose lists the client has."""
        self.secret = secret
        self.sessions = Sessions()
        self.remembered: dict[str, Remembered] = {}
        """What later turns have to know of it, by the ids of the items."""
        self.ran = False
        """Whether a tool has been called: from then on a failure is reported in the response."""
        self.emitter = self._emitter()
        self.call_limits = CallLimits(job.setup.limits, whole_number(self.body.get("max_tool_calls")))
        self.rewriter = Rewriter(self.emitter, self.call_limits, Containers(last_container([*before, *own])).of)
        self.reader = TranslatedReader(self.rewriter, self.emitter, job.setup.limits, self.secrets)
        self.outlet = Outlet(self.reader, job.setup.limits.buffer, job.trace, self.cancel) if job.stream else None
        self.begun = anyio.Event()
        """Set once there is something to be read of the stream."""

    async def flush(self, *, last: bool = False) -> None:
        """Lets the client have what was written."""
        await self.give(self.reader.take(), last=last)

    async def give(self, events: bytes, *, last: bool = False) -> None:
        """Lets the client have *events*; the *last* end the response."""
        if self.outlet is not None:
            if events:
                self.begun.set()
            await self.outlet.give(events, last=last)

    def cancel(self) -> bool:
        """Ends the response, whose client has left, with what is finished. Returns whether a tool has run; else nothing
        changes."""
        if not self.ran or self.emitter.terminal is not None:
            return False
        self.rewriter.cut_off()
        usage = self.rewriter.usage
        self.emitter.usage(usage, usage)
        self.emitter.cancel()
        self.reader.take()  # nothing was written, but the reader is to know
        return True

    def redacted(self, text: str) -> str:
        """*text* as observers may have it: without the credentials of the declarations."""
        data = without_secrets(self.secrets, text.encode("utf-8", "replace")).decode("utf-8", "replace")
        return clean(data, 2048) or ""

    def _emitter(self) -> Emitter:
        job, target = self.job, self.target
        echo = {**job.request.envelope.values((*DEFAULTS, *OPTIONAL_ECHO, "input")), **(target.params or {})}
        if isinstance(echo.get("conversation"), str):
            echo["conversation"] = {"id": echo["conversation"]}
        return Emitter(
            response_id=self.id,
            created_at=int(time.time()),
            model=target.model or job.request.model or "",
            echo=echo,
            stamp=provider_of(target, job).name if job.setup.stamp else None,
            stream=job.stream,
            leading=job.leading,
            spent=job.spent,
            public=self.toolbox.public,
        )


def whole_number(value: Any) -> int | None:
    """*value*, if it is an integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def last_container(items: Sequence[Any]) -> str | None:
    """The container in which code was run last."""
    for item in reversed(items):
        if isinstance(item, dict) and item.get("type") == "code_interpreter_call":
            container = item.get("container_id")
            return container if isinstance(container, str) else None
    return None


class Containers:
    """Where code runs: in the client's own container, in the conversation's *last*, or in a new one."""

    def __init__(self, last: str | None) -> None:
        self.last = last

    def of(self, tool: Json) -> str:
        """Returns the id of the container for the calls of *tool*, a declaration; the same for all of them."""
        given = tool.get("container")
        if isinstance(given, str):
            return given
        if self.last is None:
            self.last = "cntr_" + secrets.token_hex(24)
        return self.last
