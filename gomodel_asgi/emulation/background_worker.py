"""One response in the background: waited with, then worked on. The upstream is read, the log written, the lease
renewed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy

import anyio
import msgspec
from msgspec import structs

from ..deadline import clock
from ..errors import (
    ContentBlocked,
    GatewayError,
    GatewayFault,
    Overloaded,
    ServerShutdown,
    StoreUnavailable,
    UpstreamTimeout,
)
from ..exchange.job import Job, Quotas as Spending
from ..exchange.reply import Reply
from ..history.continuation import Continuation
from ..history.quota import Quotas, too_large
from ..history.records import Records
from ..history.replies import response_in
from ..history.turns import Turn
from ..observers import Trace
from ..resilience.concurrency import Held
from ..routing.target import Target
from ..upstream.stream import followed
from .event_log import MOST_SEGMENTS, EventLog, Leases, ended, finishes, is_unfinished, marked, status_of, with_status

# Seconds between two looks at the store while working: events are written, the lease is renewed, a cancel is seen.
BEAT = 0.1

# Seconds in which a worker that ends may still say so.
FAREWELL = 2.0


Prepare = Callable[[Job, Target], Awaitable[Job]]
Ask = Callable[[Job, Target], Awaitable[Reply]]


class Worker:
    """Works on one response, which has to be answered by *until* on the clock. *prepare* is asked for each request as
    its upstream is to get it, *ask* for the reply."""

    def __init__(
        self,
        records: Records,
        quotas: Quotas,
        leases: Leases,
        log: EventLog,
        prepare: Prepare,
        ask: Ask,
        job: Job,
        id: str,
        until: float,
    ) -> None:
        self.quotas = quotas
        self.leases = leases
        self.log = log
        self.prepare = prepare
        self.ask = ask
        self.turns = records.turns
        self.job = job
        self.tenant = job.request.tenant
        self.id = id
        self.until = until
        self.version = 0
        self.turn: Turn | None = None
        self.pending: list[bytes] = []
        self.segments = 0
        self.finishing: list[int] = []
        """The segments in which items were finished."""
        self.writing = anyio.Lock()
        self.over = anyio.Event()

    # Waiting...

    async def whole(self, target: Target) -> None:
        """Waits for a place of the tenant's, then works. However that ends, the response does not stay queued."""
        concurrency = self.job.setup.concurrency
        held: Held = ()
        try:
            held = await self._placed()
            if await self.claimed():
                await self.run(target)
            else:
                await self.leases.give_back(self.tenant, self.id)
        except Overloaded:
            await self._given_up(Overloaded("The response has waited for as long as it may take in all."))
        except BaseException as error:
            with anyio.move_on_after(FAREWELL, shield=True), suppress(StoreUnavailable):
                await self._given_up(reason_of(error))
            raise
        finally:
            concurrency.leave(held)

    async def _placed(self) -> Held:
        """The tenant's place, once it is this response's turn.

        :raises Overloaded: that has not come in time.
        """
        held: Held = ()
        late: Overloaded | None = None
        over = anyio.Event()
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._waits, over, beside.cancel_scope)
                try:
                    concurrency, left = self.job.setup.concurrency, self.until - clock()
                    held = await concurrency.enter_work(self.tenant, left, background=True)
                except Overloaded as error:
                    late = error
                over.set()
        except BaseException:
            self.job.setup.concurrency.leave(held)
            raise
        if late is not None:
            raise late
        return held

    async def _waits(self, over: anyio.Event, scope: anyio.CancelScope) -> None:
        """Holds the lease of a response that is queued, until it no longer is: another worker may have cancelled it."""
        while not await _passed(self.leases.lasts / 3, over):
            with suppress(StoreUnavailable):  # it may be back the next time; the lease outlives two of them
                if await self._queued() is None:
                    return scope.cancel()
                await self.leases.take(self.tenant, self.id)

    async def _queued(self) -> tuple[Turn, int] | None:
        """The turn and its version, if it is queued still."""
        found = await self.turns.versioned(self.tenant, self.id)
        return None if found is None or status_of(found[0].response).status != "queued" else found

    async def _given_up(self, error: GatewayError) -> None:
        """Nothing will come of the response any more."""
        found = await self.turns.versioned(self.tenant, self.id)
        if found is not None and is_unfinished(found[0]):
            failed = ended(found[0], "failed", error, [])
            if await self.turns.replace(self.tenant, self.id, found[1], failed) is not None:
                settle_orphaned(self.job.setup.quotas, found[0])
        await self.leases.give_back(self.tenant, self.id)

    # Working...

    async def claimed(self) -> bool:
        """Returns whether the response was queued, and is now this worker's."""
        found = await self._queued()
        if found is None:
            return False
        await self.leases.take(self.tenant, self.id)
        # From here on the request is in this worker's memory; one that takes its place would not go on with it.
        self.turn = structs.replace(with_status(found[0], "in_progress"), request=b"")
        version = await self.turns.replace(self.tenant, self.id, found[1], self.turn)
        self.version = version or 0
        if version is None:
            self.leases.leave(self.tenant, self.id)
        return version is not None

    async def run(self, target: Target) -> None:
        """Reads the reply to its end, and keeps how it ended."""
        self.job = in_stream(self.job, self.id)
        guards = self.job.setup.guards
        if guards is not None and self.turn is not None:
            guards.require(self.job, self.turn.guards)
        trace, spending = self.job.trace, self.job.setup.quotas
        if trace is not None and spending is not None and self.turn is not None:
            spending.resume(self.turn.hold, trace)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._beats, beside.cancel_scope)
                await self._read(target)
            if self.turn is None:
                with suppress(StoreUnavailable):
                    await self.leases.give_back(self.tenant, self.id)
        except BaseException as error:
            with anyio.move_on_after(FAREWELL, shield=True), suppress(StoreUnavailable):
                await self._failed(reason_of(error))
            raise
        finally:
            if trace is not None:
                trace.end(None, "cancelled")  # where nothing has come of it that could end it

    async def _read(self, target: Target) -> None:
        response: bytes | None = None
        remembered = b""
        try:
            pending, trace = self._ask_upstream(target), self.job.trace
            async with await (pending if trace is None else followed(pending, trace)) as reply:
                while data := await reply.next():
                    self.pending.append(data)
                    response = data if reply.stream is None else None
                response = response if reply.stream is None else reply.stream.reader.final()
                remembered = b"" if reply.remembered is None else reply.remembered()
        except ContentBlocked:
            return await self._cut("incomplete", None)
        except GatewayError as error:
            return await self._failed(error)
        except LookupError:
            return await self._failed(GatewayFault("The gateway could not route this request."))
        await self._finished(response, remembered)

    async def _ask_upstream(self, target: Target) -> Reply:
        """The upstream's reply; a stream is bounded by the same time itself.

        :raises GatewayError: there is none, or none in time.
        """
        with anyio.move_on_after(self.until - clock()):
            return await self.ask(await self.prepare(self.job, target), target)
        raise UpstreamTimeout("The response took longer than allowed.")

    async def _finished(self, response: bytes | None, remembered: bytes) -> None:
        response = None if response is None else response_in(response)
        assert self.turn is not None
        if response is None:
            return await self._failed(GatewayFault("The upstream gave no response."))
        output = bytes(msgspec.json.decode(response, type=dict[str, msgspec.Raw])["output"])
        turn = structs.replace(
            self.turn, response=marked(response), output=output, request=b"", remembered=remembered, hold=b"",
            guards=self.job.guards,
        )  # fmt: skip
        if not await self.quotas.admit(self.tenant, self.id, turn):
            turn = ended(self.turn, "failed", too_large(), [])
        await self._flushed()
        await self._ended(turn)

    async def _failed(self, error: GatewayError) -> None:
        """The response has ended with *error*, and with the items that were finished."""
        await self._cut("failed", error)

    async def _cut(self, status: str, error: GatewayError | None) -> None:
        await self._flushed()
        turn, log = self.turn, self.log
        if turn is not None:
            turn = await cut_short(log, self.quotas, self.tenant, self.id, turn, status, error)
        await self._ended(turn)

    async def _flushed(self) -> None:
        """Writes what is left, and lets no beat follow, which would take the lease again."""
        self.over.set()
        async with self.writing:
            await self._flush()

    async def _ended(self, turn: Turn | None) -> None:
        """Writes the last change. It follows the last event, so that whoever sees it can read all events."""
        if turn is not None and await self.turns.replace(self.tenant, self.id, self.version, turn) is None:
            if await self.turns.find(self.tenant, self.id) is None:  # deleted, and its room was given back before
                await self.quotas.release(self.tenant, self.id)
        await self.leases.give_back(self.tenant, self.id)

    async def _beats(self, scope: anyio.CancelScope) -> None:
        """Every beat what has come is written; now and then the lease is renewed, and a cancel is seen."""
        while not await _passed(BEAT, self.over):
            with suppress(StoreUnavailable):  # it may be back at the next beat; the lease outlives several
                if not await self._beat():
                    self.turn = None
                    scope.cancel()

    async def _beat(self) -> bool:
        """Returns whether the response is still to be worked on, as far as has been looked."""
        async with self.writing:
            if self.over.is_set():
                return True
            await self._flush()
            return not await self.leases.renew(self.tenant, self.id) or await self._is_wanted()

    async def _is_wanted(self) -> bool:
        """Returns whether the response is still this worker's: neither cancelled nor deleted nor declared lost."""
        found = await self.turns.versioned(self.tenant, self.id)
        return found is not None and found[1] == self.version

    async def _flush(self) -> None:
        """Writes what has come as the next segment; one at a time, so that the log never has a gap: hold `writing`."""
        if self.pending:
            events = b"".join(self.pending)
            count = len(self.pending)
            await self.log.append(self.tenant, self.id, self.segments, events)
            if finishes(events) and len(self.finishing) < MOST_SEGMENTS:
                await self.log.note(self.tenant, self.id, [*self.finishing, self.segments])
                self.finishing.append(self.segments)
            del self.pending[:count]
            self.segments += 1


async def _passed(seconds: float, over: anyio.Event) -> bool:
    """Waits so many seconds, or until the work is over; returns whether it is. (A cancelled task would leave a
    reference cycle, which keeps everything it held until the garbage collector runs.)"""
    with anyio.move_on_after(seconds):
        await over.wait()
    return over.is_set()


async def cut_short(
    log: EventLog, quotas: Quotas, tenant: str | None, id: str, turn: Turn, status: str, error: GatewayError | None
) -> Turn:
    """Returns *turn* with its response ended before its answer was whole: with the items that were finished, where the
    tenant's quota bears them.

    :raises StoreUnavailable: the store does not answer.
    """
    items = await log.finished(tenant, id)
    found = ended(turn, status, error, items)
    return found if not items or await quotas.admit(tenant, id, found) else ended(turn, status, error, [])


def reason_of(error: BaseException) -> GatewayError:
    """Returns the error that a response ends with where *error* ended its work."""
    if isinstance(error, Exception):
        return GatewayFault("The gateway failed to work on this response.")
    return ServerShutdown("The server was shut down; send the request again.")


def in_stream(job: Job, id: str) -> Job:
    """Returns *job* as the work behind it has to be done: with a stream, under the response's id."""
    members = {name: raw for name, raw in job.request.envelope.members.items() if name != "background"}
    envelope = job.request.envelope.with_members({**members, "stream": msgspec.Raw(b"true")})
    envelope.stream = True
    request = structs.replace(job.request, envelope=envelope)
    continuation = job.continuation
    if isinstance(continuation, Continuation):
        continuation = copy(continuation)
        continuation.original = envelope
    trace = trace_of(job)
    return structs.replace(
        job, request=request, stream=True, continuation=continuation, response_id=id, trace=trace, hold=None,
        background=True, resolved=None,
    )  # fmt: skip


def settle_orphaned(spending: Spending | None, turn: Turn) -> None:
    """Settles what *turn*, which was under way, holds of quotas: it has been ended, and not by who works on it."""
    if spending is not None and turn.hold:
        spending.orphaned(turn.hold, begun=status_of(turn.response).status != "queued")


def trace_of(job: Job) -> Trace | None:
    """Returns a trace for the work behind *job*, whose own ends with the queued response, and counts its usage once."""
    request, trace = job.request, job.setup.trace(job.request_id, job.request.scope, "settled")
    if trace is not None:
        trace.know(operation=request.operation)
        trace.arrived(request.tenant, request.model, True, request.provider, len(request.envelope.raw))
    return trace
