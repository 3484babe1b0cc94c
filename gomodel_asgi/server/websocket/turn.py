"""One `response.create`, from its frame to the last event of its response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import anyio
from starlette.types import Scope

from ...errors import GatewayError, GatewayFault, PolicyFailed, UpstreamTruncated
from ...exchange.reply import Broken, Reply
from ...pipeline import Inbound, dispatch
from ...transport.websocket.relay import Relay
from ...websocket.memory import Memory
from ...websocket.outbox import Outbox
from ...wire.headers import request_id
from ...wire.websocket_frames import Create, Frames
from ..handler import Served
from ..hints import agreed
from .connection_history import Recall
from .handshake import Session

REPEATABLE = ("response.completed", "response.incomplete")


class Peer(Protocol):
    """What a turn needs of the connection that it is of."""

    gateway: Served
    scope: Scope
    memory: Memory
    outbox: Outbox
    relay: Relay
    lasting: bool
    session: Session
    tenant: str | None
    headers: Mapping[bytes, bytes]
    query: str
    hints: list[str]

    def failed(self, cause: BaseException | None) -> None:
        """The host's own code has failed: it is told when the connection ends."""
        ...


class Turn:
    """Works on one create of *connection*."""

    def __init__(self, connection: Peer, create: Create) -> None:
        self.connection = connection
        self.create = create
        self.setup = connection.gateway.setup
        lasting = connection.lasting
        self.recall = Recall(create, connection.memory, self.setup.state, lasting=lasting)
        self.frames = Frames(create.lane, limit=self.setup.limits.event)
        self.reply: Reply | None = None
        self.status: int | None = None
        self.learned = False
        self.request_id = request_id(None)
        self.trail = connection.gateway.trail()
        if self.trail is not None:
            self.trail.know(request_id=self.request_id, operation="create", tenant=connection.tenant)

    async def run(self) -> None:
        """Answer it; every failure becomes a frame. Call `over` afterwards, or once it has been cancelled.

        :raises ClientGone: nobody is left to be told.
        """
        try:
            self.reply = await self._answered()
        except GatewayError as error:
            return await self._refused(error)
        await self._deliver(self.reply)

    async def last_words(self, error: GatewayError) -> None:
        """The connection ends before the response does: say so, in band or instead of it."""
        reply = self.reply
        if reply is None or reply.stream is None:
            return await self.connection.outbox.error(error, self.create.lane)
        self.frames.restart()
        await self._send(reply, await reply.stream.interrupt(error), error.status)

    # How it is asked...

    async def _answered(self) -> Reply:
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
        connection.gateway.under_way.check_open()
        transport = connection.relay.transport(self.setup.transport, create.lane, create.generate)
        setup = replace(self.setup, transport=transport, state=self.recall)
        inbound = Inbound(
            operation="create",
            envelope=create.envelope,
            hint=agreed(create.envelope.hint, connection.scope["headers"], connection.hints),
            scope=connection.scope,
            request_id=self.request_id,
            headers=connection.headers,
            query=connection.query,
            connection=connection.session,
            trail=self.trail,
        )
        return await dispatch(setup, inbound, connection.tenant)

    # How it is answered...

    async def _refused(self, error: GatewayError) -> None:
        self.status = error.status
        if self.trail is not None:
            self.trail.failed(error)
        self._forget()
        await self.connection.outbox.error(error, self.create.lane)

    async def _deliver(self, reply: Reply) -> None:
        self.status = reply.status
        self.frames.continues = self.recall.continues
        stream = reply.stream
        if stream is None:
            if self.trail is not None:
                self.trail.sent(reply.body or b"")
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
        await self._learn(reply)

    async def _send(self, reply: Reply, events: bytes, status: int) -> None:
        frames = self.frames.feed(events, status)
        if self.frames.terminal is not None:
            await self._learn(reply)  # first: whoever reads the end may continue it at once, on another lane
        for frame in frames:
            await self.connection.outbox.text(frame)

    async def _learn(self, reply: Reply) -> None:
        if self.learned:
            return
        self.learned = True
        frames = self.frames
        if frames.terminal in REPEATABLE and frames.response_id is not None:
            await self.recall.learn(reply, frames.response_id, frames.output)
            self.connection.session.responses += 1
        else:
            self._forget()

    def _forget(self) -> None:
        """A continuation has failed: what it continued is not to be relied upon (WebSocket mode, "Errors")."""
        self.connection.memory.evict(self.create.envelope.text("previous_response_id"))

    async def over(self) -> None:
        """Release what it has used."""
        if self.reply is not None:
            with anyio.CancelScope(shield=True):
                await self.reply.aclose()
        if self.trail is not None:
            done = self.frames.terminal is not None or (self.reply is None and self.status is not None)
            status = self.status
            self.trail.end(status, None if done else "gone")
