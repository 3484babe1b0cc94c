"""One response being worked on in the background: the upstream read, the log written, the lease renewed."""

from __future__ import annotations

from contextlib import suppress
from copy import copy

import anyio
import msgspec

from ..errors import GatewayError, GatewayFault, ServerShutdown, StoreUnavailable
from ..exchange import Exchange, Job
from ..exchange.told import followed
from ..observers import Trail
from ..routing import Target
from .event_log import EventLog
from .learning import last_response
from .lease import Leases
from .past import Past
from .records import Records
from .standing import ended_by, marked, standing, with_status
from .turns import Turn

# Seconds between two looks at the store while working: events are written, the lease is renewed, a cancel is seen.
BEAT = 0.1

# Seconds in which a worker that ends may still say so.
FAREWELL = 2.0


class Worker:
    """Works on one response: reads the upstream, writes the log, renews the lease."""

    def __init__(self, records: Records, leases: Leases, log: EventLog, job: Job, id: str) -> None:
        self.leases = leases
        self.log = log
        self.turns = records.turns
        self.job = in_stream(job, id)
        self.tenant = job.request.tenant
        self.id = id
        self.version = 0
        self.turn: Turn | None = None
        self.pending: list[bytes] = []
        self.segments = 0
        self.writing = anyio.Lock()

    async def claimed(self) -> bool:
        """Whether the response was queued, and is now this worker's."""
        found = await self.turns.versioned(self.tenant, self.id)
        if found is None or standing(found[0].response).status != "queued":
            return False
        await self.leases.take(self.tenant, self.id)
        self.turn = with_status(found[0], "in_progress")
        version = await self.turns.replace(self.tenant, self.id, found[1], self.turn)
        self.version = version or 0
        if version is None:
            self.leases.leave(self.tenant, self.id)
        return version is not None

    async def run(self, target: Target) -> None:
        """Read the reply to its end, and keep how it ended."""
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._beats, beside.cancel_scope)
                await self._read(target)
                beside.cancel_scope.cancel()
            if self.turn is None:
                with suppress(StoreUnavailable):
                    await self.leases.give_back(self.tenant, self.id)
        except BaseException as error:
            with anyio.move_on_after(FAREWELL, shield=True), suppress(StoreUnavailable):
                await self._ended(ended_by(self.turn, reason_of(error)))
            raise

    async def _read(self, target: Target) -> None:
        response: bytes | None = None
        try:
            asked = Exchange(self.job, target).run()
            async with await (asked if self.job.trail is None else followed(asked, self.job.trail)) as reply:
                while data := await reply.next():
                    self.pending.append(data)
                    response = data if reply.stream is None else None
                response = response if reply.stream is None else reply.stream.reader.final()
        except GatewayError as error:
            return await self._ended(ended_by(self.turn, error))
        except LookupError:
            return await self._ended(ended_by(self.turn, GatewayFault("The gateway could not route this request.")))
        await self._finished(response)

    async def _finished(self, response: bytes | None) -> None:
        if response is not None and not response.startswith(b"{"):
            response = last_response(response)  # events that came in one piece
        assert self.turn is not None
        if response is None:
            return await self._ended(ended_by(self.turn, GatewayFault("The upstream gave no response.")))
        output = msgspec.json.decode(response, type=dict[str, msgspec.Raw])["output"]
        await self._ended(
            msgspec.structs.replace(self.turn, response=marked(response), output=bytes(output), request=b"")
        )

    async def _ended(self, turn: Turn | None) -> None:
        """The last change; it comes behind the last event, so that whoever sees it sees all of them."""
        await self._flush()
        if turn is not None:
            await self.turns.replace(self.tenant, self.id, self.version, turn)
        await self.leases.give_back(self.tenant, self.id)

    async def _beats(self, scope: anyio.CancelScope) -> None:
        """Every beat what has come is written; now and then the lease is renewed, and a cancel is seen."""
        while True:
            await anyio.sleep(BEAT)
            with suppress(StoreUnavailable):  # it may be back at the next beat; the lease outlives several
                await self._flush()
                if await self.leases.renew(self.tenant, self.id) and not await self._is_wanted():
                    self.turn = None
                    scope.cancel()

    async def _is_wanted(self) -> bool:
        """Whether the response is still this worker's: neither cancelled nor deleted nor declared lost."""
        found = await self.turns.versioned(self.tenant, self.id)
        return found is not None and found[1] == self.version

    async def _flush(self) -> None:
        """Write what has come as the next segment; one at a time, so that the log never has a gap."""
        async with self.writing:
            if self.pending:
                events = b"".join(self.pending)
                count = len(self.pending)
                await self.log.append(self.tenant, self.id, self.segments, events)
                del self.pending[:count]
                self.segments += 1


def reason_of(error: BaseException) -> GatewayError:
    """What a response is told of the *error* that ended its work."""
    if isinstance(error, Exception):
        return GatewayFault("The gateway failed to work on this response.")
    return ServerShutdown("The server was shut down; send the request again.")


def in_stream(job: Job, id: str) -> Job:
    """*job* as the work behind it has to be done: with a stream, under the response's id."""
    request = copy(job.request)
    envelope = request.envelope.with_members({**request.envelope.members, "stream": msgspec.Raw(b"true")})
    envelope.stream = True
    request.envelope = envelope
    past = job.past
    if isinstance(past, Past):
        past = copy(past)
        past.original = envelope
    trail = trail_of(job)
    return msgspec.structs.replace(job, request=request, stream=True, past=past, response_id=id, trail=trail)


def trail_of(job: Job) -> Trail | None:
    """A trail for the work behind *job*, whose own ends with the queued response; its usage is told here, once."""
    if not job.setup.observers:
        return None
    request, trail = job.request, Trail(job.setup.observers, job.request_id)
    trail.know(operation=request.operation)
    trail.arrived(request.tenant, request.model, True, request.provider, len(request.envelope.raw))
    return trail
