"""One client connection, from its upgrade to its close.

Strategy: the connection's own task reads frames and nothing else; each lane that has work runs in a task beside it, so
an idle connection costs one reader. Everything lives in one task group inside one cancel scope: whatever ends the
connection (the client, its age, a drain, a client that no longer reads) cancels the scope with a reason, which becomes
the last frame and the code of the close. A failure of a request is a frame; only failures of the connection close it.
"""

from __future__ import annotations

import time
from typing import Literal

import anyio
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from ...errors import ContentBlocked, GatewayError, GuardUnavailable, InvalidRequest, PolicyFailed, ServerShutdown
from ...exchange.job import Guards
from ...history.connection_memory import Memory
from ...history.mentions import check_steer
from ...operations import BODY
from ...pipeline import Inbound, job_of
from ...stores import NoStore
from ...threads import paced
from ...transport.websocket import Relay
from ...wire.ambiguity import FRAME, check_names
from ...wire.headers import request_id
from ...wire.json_body import Envelope, encode, opening
from ...wire.json_pieces import Members
from ...wire.websocket_frames import (
    Create,
    Steer,
    create_of,
    data_of,
    error_frame,
    lane_of,
    steer_failed,
    steer_of,
    type_of,
)
from ..body import limit_of
from ..handler import Served
from .turn import ClientGone, Lanes, Outbox, Turn
from .upgrade import admitted, refuse

Ending = Literal["gone", "stalled", "old", "idle", "drained", "shutdown"]

BURST = 100
"""Frames that are read in one `WINDOW`; a client that sends faster is read at this rate, and its socket fills up."""
WINDOW = 0.1
CLOSING = 1.0  # seconds for what is still to be sent when the connection ends
MOST_FAILURES = 8  # failures of the host's own code that are kept for it until the connection ends

CLOSE_CODES: dict[Ending, int] = {"old": 1001, "idle": 1001, "drained": 1012, "shutdown": 1012}
"""RFC 6455, 7.4.1 and the IANA registry: going away, service restart. SDKs connect anew after either."""


class Connection:
    """Serves one WebSocket scope for *gateway*."""

    def __init__(self, gateway: Served, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = gateway
        self.scope = scope
        self.receive = receive
        self.send = send
        self.timeouts = gateway.setup.timeouts
        self.limit = limit_of(scope, gateway.setup.limits.body)
        self.outbox = Outbox(send, self.timeouts.stalled_client)
        self.memory = Memory(self.limit)
        self.has_store = not isinstance(gateway.store, NoStore)
        self.ending: Ending | None = None
        self.raised: list[BaseException] = []
        self.turns: list[Turn] = []
        self.scope_of_work = anyio.CancelScope()
        self.window, self.frames = 0.0, 0

    async def serve(self) -> None:
        """Serves the connection, from its upgrade to its close.

        :raises Exception: what the host's own code raised, once the connection has ended.
        """
        if (await self.receive())["type"] != "websocket.connect":
            return
        try:
            self.admission = await admitted(self.gateway, self.scope)
        except GatewayError as error:
            cause = error.__cause__ if isinstance(error, PolicyFailed) else None
            await refuse(error, self.scope, self.send)
            if cause is not None:
                raise cause from None
            return
        id = self.admission.session.id.encode()
        await self.send({"type": "websocket.accept", "headers": [(b"x-request-id", id)]})
        await self._work()
        if self.raised:
            raise self.raised[0] if len(self.raised) == 1 else BaseExceptionGroup("policies failed", self.raised)

    def failed(self, cause: BaseException | None) -> None:
        """Keeps *cause*, an exception of the host's own code, to be raised when the connection ends."""
        if cause is not None and len(self.raised) < MOST_FAILURES:
            self.raised.append(cause)

    def wind_down(self) -> None:
        """Draining has begun: the connection ends as soon as no response is in progress."""
        if not self.lanes.busy:
            self._end("drained")

    def stop(self, reason: Literal["gone", "stalled", "shutdown"]) -> None:
        """Ends the connection now, for *reason*."""
        self._end(reason)

    def _end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self.scope_of_work.cancel()

    # Its life...

    async def _work(self) -> None:
        self.until = time.monotonic() + self.timeouts.connection
        try:
            await self._run()
            if self.ending != "gone":
                await self._close(self.ending or "shutdown")
        except anyio.get_cancelled_exc_class():  # the server goes down, although the client is still there
            await self._close("shutdown")
            raise
        finally:
            for turn in self.turns:
                await turn.over()

    async def _run(self) -> None:
        in_flight = self.gateway.in_flight
        try:
            with self.scope_of_work:
                async with anyio.create_task_group() as tasks:
                    gateway = self.gateway
                    self.relay = Relay(tasks.start_soon, self._unclaimed, gateway.setup.limits, gateway.connections)
                    self.lanes = Lanes(tasks.start_soon, self._turn, self._lane_ended, self.limit)
                    in_flight.open(self)
                    await self._read()
        finally:
            in_flight.close(self)
            with anyio.move_on_after(CLOSING, shield=True):
                await self.relay.aclose()

    async def _read(self) -> None:
        """Reads frames until the client leaves, or nothing has happened for too long."""
        while self.ending is None:
            message = None
            with anyio.CancelScope(deadline=self._deadline()) as self.deadline_timer:
                message = await self.receive()
            if message is None:
                self._end("old" if time.monotonic() + WINDOW >= self.until else "idle")
            elif message["type"] == "websocket.disconnect":
                self._end("gone")
            elif message["type"] == "websocket.receive":
                await self._handle_frame(message.get("text"))
                await self._pace()

    def _deadline(self) -> float:
        """Returns when to stop waiting, on the event loop's clock; idle time counts only between responses."""
        left = self.until - time.monotonic()
        return anyio.current_time() + (left if self.lanes.busy else min(left, self.timeouts.connection_idle))

    def _lane_ended(self) -> None:
        """Closes the connection or sets its next deadline, since a lane has nothing left to do."""
        if self.gateway.in_flight.draining and not self.lanes.busy:
            self._end("drained")
        elif self.ending is None:
            self.deadline_timer.deadline = self._deadline()

    async def _pace(self) -> None:
        now = time.monotonic()
        if now - self.window >= WINDOW:
            self.window, self.frames = now, 0
        self.frames += 1
        if self.frames >= BURST:
            await anyio.sleep(self.window + WINDOW - now)

    # What comes in...

    async def _handle_frame(self, text: str | None) -> None:
        lane: str | None = None
        try:
            if text is None:
                raise InvalidRequest("Send JSON in text frames.", code="invalid_frame")
            data, limits = data_of(text, self.limit), self.gateway.setup.limits
            found = await paced(opening(data, limits))
            lane = lane_of(found.members)
            type = type_of(found.members)
            check_names(found.members, FRAME)
            if type == "response.create":
                self.lanes.add(create_of(found, lane, len(data), limits))
            elif type == "response.steer":
                await paced(check_steer(BODY, found.members, data))
                await self._steer(await paced(steer_of(found.members, limits)), found.members)
            else:
                message = "'type' must be 'response.create' or 'response.steer'."
                raise InvalidRequest(message, param="type", code="unknown_event_type")
        except GatewayError as error:
            await self._send_frame(error_frame(error, lane))

    async def _passed(self, guards: Guards, steer: Steer, members: Members) -> Steer:
        """Returns *steer*, which has these *members*, as the host's guards let it pass.

        :raises GatewayError: they refuse it, or one fails.
        """
        turn = next((turn for turn in self.turns if turn.frames.response_id == steer.target), None)
        kept = self.memory.find(steer.target)
        model = turn.create.envelope.model if turn is not None else kept.model if kept is not None else None
        limits = self.gateway.setup.limits
        envelope = Envelope.of(encode(members), members, limits)
        headers, session = self.admission.headers, self.admission.session
        inbound = Inbound("steer", envelope, None, self.scope, request_id(None), headers, connection=session)
        inbound.trace = None if turn is None else turn.trace
        job = job_of(self.gateway.setup, inbound, self.admission.tenant)
        job.request = replace(job.request, model=model)  # that of its response
        passed = await guards.filter_request(job)
        return steer if passed is None else await paced(steer_of(passed.members, limits))

    async def _steer(self, steer: Steer, members: Members) -> None:
        """Hands input to the response that is to take it up; only upstreams with a socket of their own can."""
        guards = self.gateway.setup.guards
        if guards is not None:
            try:
                steer = await self._passed(guards, steer, members)
            except (ContentBlocked, GuardUnavailable) as error:
                return await self._send_frame(steer_failed(steer, error.code or "", error.message))
        if await self.relay.steer(steer):
            return
        known = self.memory.find(steer.target) is not None
        if known or any(turn.frames.response_id == steer.target for turn in self.turns):
            frame = steer_failed(steer, "steering_not_supported", "This provider cannot steer a response.")
        else:
            frame = steer_failed(steer, "response_not_found", "No such response is known on this connection.")
        await self._send_frame(frame)

    async def _turn(self, create: Create) -> None:
        turn = Turn(self, create)
        self.turns.append(turn)
        try:
            await turn.run()
            self.turns.remove(turn)
            await turn.over()
        except ClientGone as gone:
            self._end(gone.reason)

    async def _unclaimed(self, frame: bytes) -> None:
        """Passes on what belongs to no response of ours: an answer to steering, a successor."""
        await self._send_frame(frame.decode())

    async def _send_frame(self, frame: str) -> None:
        try:
            await self.outbox.text(frame)
        except ClientGone as gone:
            self._end(gone.reason)

    # The close...

    async def _close(self, ending: Ending) -> None:
        """Ends the responses in progress in band, and closes with RFC 6455's code for the reason."""
        with anyio.move_on_after(CLOSING, shield=True):
            try:
                for turn in self.turns if ending in CLOSE_CODES else ():
                    await turn.interrupt(_reason(ending))
                if ending == "old":
                    await self.outbox.error(_reason(ending))
                await self.send({"type": "websocket.close", "code": CLOSE_CODES.get(ending, 1008), "reason": ending})
            except Exception:  # the client has gone, however its server reports it
                return


def _reason(ending: Ending) -> GatewayError:
    if ending == "old":
        message = "This connection is as old as one may become; open another one."
        return InvalidRequest(message, code="websocket_connection_limit_reached")
    return ServerShutdown()
