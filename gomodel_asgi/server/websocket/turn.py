"""One `response.create`, from its frame to the last event of its response."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal, Protocol

import anyio
from msgspec.structs import force_setattr
from starlette.types import Message, Scope, Send

from ...errors import GatewayError, GatewayFault, InvalidRequest, PolicyFailed, UpstreamTruncated
from ...exchange.reply import Broken, Reply
from ...history.connection_memory import Memory
from ...pipeline import Inbound, answer
from ...transport.websocket import Relay
from ...wire.headers import request_id
from ...wire.websocket_frames import Create, Frames, error_frame
from ..handler import Served
from ..paths import agreed
from .connection_state import ConnectionState
from .upgrade import Admission

# Which response is worked on when: each lane first in, first out; lanes side by side, up to a limit. A lane that has
# nothing to do has no task: an idle connection costs its reader alone.


MOST_NAMED = 32
"""Names that a connection may use in its life, the unnamed lane not counted (the Responses API's own limit)."""
MOST_AT_ONCE = 16
"""Responses in progress at a time, over all lanes (the Responses API's own limit); others wait."""
MOST_WAITING = 256
"""Creates that wait, over all lanes. Clients send one and wait for its end; whoever sends ahead is served in order."""


class Lanes:
    """Runs each create with *work*, in tasks that *start* starts. At most *limit* bytes wait."""

    def __init__(
        self,
        start: Callable[..., Any],
        work: Callable[[Create], Awaitable[None]],
        lane_ended: Callable[[], None],
        limit: int,
    ) -> None:
        self.start = start
        self.work = work
        self.lane_ended = lane_ended
        self.limit = limit
        self.named: set[str] = set()
        self.queues: dict[str | None, deque[Create]] = {}
        self.waiting = 0
        self.size = 0
        self.places = anyio.Semaphore(MOST_AT_ONCE)

    @property
    def busy(self) -> bool:
        """Whether a response is in progress or waits."""
        return bool(self.queues)

    def add(self, create: Create) -> None:
        """Puts *create* at the end of its lane.

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
        """Checks that *create* may wait for its turn.

        :raises InvalidRequest: too many wait (429), or the connection has used too many stream ids.
        """
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
            self.lane_ended()


# The way to the client: one frame after the other, whoever sends it, and none for longer than a client may stall.


class ClientGone(Exception):
    """The client has left (*reason* `"gone"`), or no longer reads (`"stalled"`)."""

    def __init__(self, reason: Literal["gone", "stalled"]) -> None:
        super().__init__(reason)
        self.reason: Literal["gone", "stalled"] = reason


class Outbox:
    """Sends text frames; *stalled* bounds each in seconds."""

    def __init__(self, send: Send, stalled: float) -> None:
        self.send = send
        self.stalled = stalled
        self.turn = anyio.Lock()

    async def text(self, frame: str) -> None:
        """Sends one frame.

        :raises ClientGone: the client has left, or has not read for too long.
        """
        try:
            self.turn.acquire_nowait()  # a checkpoint for each event would cost more than the event
        except anyio.WouldBlock:
            await self.turn.acquire()
        try:
            await self._sent({"type": "websocket.send", "text": frame})
        finally:
            self.turn.release()

    async def _sent(self, message: Message) -> None:
        """Sends one frame.

        :raises ClientGone: the client reads nothing, or has gone.
        """
        try:
            with anyio.fail_after(self.stalled):
                await self.send(message)
        except TimeoutError:
            raise ClientGone("stalled") from None
        except Exception as error:  # each server and middleware has an exception of its own for it
            raise ClientGone("gone") from error

    async def error(self, error: GatewayError, lane: str | None = None) -> None:
        """Sends the frame of a failure that comes instead of a response.

        :raises ClientGone: as `text`.
        """
        await self.text(error_frame(error, lane))


REPEATABLE = ("response.completed", "response.incomplete")


class Peer(Protocol):
    """What a turn needs of the connection that it is of."""

    gateway: Served
    scope: Scope
    memory: Memory
    outbox: Outbox
    relay: Relay
    has_store: bool
    admission: Admission

    def failed(self, cause: BaseException | None) -> None:
        """Keeps *cause*, an exception of the host's own code, to be raised when the connection ends."""


class Turn:
    """Works on one create of *connection*."""

    def __init__(self, connection: Peer, create: Create) -> None:
        self.connection = connection
        self.create = create
        self.setup = connection.gateway.setup
        has_store = connection.has_store
        self.state = ConnectionState(create, connection.memory, self.setup.state, has_store=has_store)
        self.frames = Frames(create.lane, limit=self.setup.limits.event)
        self.reply: Reply | None = None
        self.status: int | None = None
        self.remembered = False
        self.request_id = request_id(None)
        self.trace = connection.gateway.trace(connection.scope)
        if self.trace is not None:
            self.trace.know(request_id=self.request_id, operation="create", tenant=connection.admission.tenant)

    async def run(self) -> None:
        """Answers the create; every failure becomes a frame. Call `over` afterwards, also after a cancellation.

        :raises ClientGone: the client has left.
        """
        try:
            self.reply = await self._answered()
        except GatewayError as error:
            return await self._refused(error)
        await self._deliver(self.reply)

    async def interrupt(self, error: GatewayError) -> None:
        """Ends the response with *error*, in band or instead of it, since the connection ends first."""
        reply = self.reply
        if reply is None or reply.stream is None:
            return await self.connection.outbox.error(error, self.create.lane)
        self.frames.restart()
        await self._send(reply, await reply.stream.interrupt(error), error.status)

    # How it is dispatched...

    async def _answered(self) -> Reply:
        """Returns the reply.

        :raises GatewayFault: something failed that nobody foresaw; the host's error handling has it too.
        """
        try:
            return await self._dispatched()
        except PolicyFailed as error:
            self.connection.failed(error.__cause__)
            raise
        except GatewayError:
            raise
        except Exception as error:
            self.connection.failed(error)
            raise GatewayFault("The gateway failed to handle this request.") from error

    async def _dispatched(self) -> Reply:
        connection, create = self.connection, self.create
        admission = connection.admission
        connection.gateway.in_flight.check_open()
        transport = connection.relay.transport(self.setup.transport, create.lane, create.generate)
        setup = replace(self.setup, transport=transport, state=self.state)
        inbound = Inbound(
            operation="create",
            envelope=create.envelope,
            hint=agreed(create.envelope.hint, connection.scope["headers"], admission.hints),
            scope=connection.scope,
            request_id=self.request_id,
            headers=admission.headers,
            query=admission.query,
            connection=admission.session,
            trace=self.trace,
        )
        return await answer(setup, inbound, admission.tenant)

    # How it is answered...

    async def _refused(self, error: GatewayError) -> None:
        self.status = error.status
        if self.trace is not None:
            self.trace.failed(error)
        self._forget()
        await self.connection.outbox.error(error, self.create.lane)

    async def _deliver(self, reply: Reply) -> None:
        self.status = reply.status
        self.frames.continues = self.state.continues
        stream = reply.stream
        if stream is None:
            if self.trace is not None:
                self.trace.sent(reply.body or b"")
            await self._send(reply, reply.body or b"", 502)
        else:
            try:
                while events := await stream.next():
                    failure = stream.reader.failure
                    await self._send(reply, events, 502 if failure is None else failure.status)
            except Broken:
                error = UpstreamTruncated("The upstream broke off inside an event.")
                self.frames.restart()
                await self._send(reply, stream.reader.fail(error), error.status)
        await self._remember(reply)

    async def _send(self, reply: Reply, events: bytes, status: int) -> None:
        frames = self.frames.feed(events, status)
        if self.frames.terminal is not None:
            await self._remember(reply)  # first: whoever reads the end may continue it at once, on another lane
        for frame in frames:
            await self.connection.outbox.text(frame)

    async def _remember(self, reply: Reply) -> None:
        if self.remembered:
            return
        self.remembered = True
        frames = self.frames
        if frames.terminal in REPEATABLE and frames.response_id is not None:
            await self.state.remember(reply, frames.response_id, frames.output)
            session = self.connection.admission.session
            force_setattr(session, "responses", session.responses + 1)  # frozen for policies
        else:
            self._forget()

    def _forget(self) -> None:
        """A continuation has failed: what it continued is not to be relied upon (WebSocket mode, "Errors")."""
        self.connection.memory.evict(self.create.envelope.text("previous_response_id"))

    async def over(self) -> None:
        """Releases the reply and ends the trace."""
        if self.reply is not None:
            with anyio.CancelScope(shield=True):
                await self.reply.aclose()
        if self.trace is not None:
            done = self.frames.terminal is not None or (self.reply is None and self.status is not None)
            status = self.status
            self.trace.end(status, None if done else "gone")
