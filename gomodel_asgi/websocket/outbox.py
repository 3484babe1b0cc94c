"""The way to the client: one frame after the other, whoever sends it, and none for longer than a client may stall."""

from __future__ import annotations

import anyio
from starlette.types import Message, Send

from ..errors import GatewayError
from ..wire.websocket_frames import error_frame


class ClientGone(Exception):
    """The client can no longer be told anything."""


class Outbox:
    """Sends text frames; *stalled* bounds each in seconds."""

    def __init__(self, send: Send, stalled: float) -> None:
        self.send = send
        self.stalled = stalled
        self.turn = anyio.Lock()

    async def text(self, frame: str) -> None:
        """Send one frame.

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
        try:
            with anyio.fail_after(self.stalled):
                await self.send(message)
        except TimeoutError:
            raise ClientGone("stalled") from None
        except Exception as error:  # each server and middleware tells of it by an exception of its own
            raise ClientGone("gone") from error

    async def error(self, error: GatewayError, lane: str | None = None) -> None:
        """Send the frame of a failure that comes instead of a response.

        :raises ClientGone: as `text`.
        """
        await self.text(error_frame(error, lane))
