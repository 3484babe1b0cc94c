"""Replies as Starlette responses, for hosts that answer from their own routes."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..exchange.reply import Reply
from ..settings import Timeouts
from .delivery import Delivery
from .disconnect import watch
from .handler import Handler


class ReplyResponse(Response):
    """Sends a `Reply` that the host's code has asked for, streaming where it streams."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.status_code = reply.status
        self.background = None
        self.raw_headers = list(reply.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        delivery = Delivery(self.reply, send, self.raw_headers, Timeouts())
        guard = watch(receive)
        try:
            async with guard:
                await delivery.run(guard)
        finally:
            await self.reply.aclose()
        if self.background is not None:
            await self.background()


Reply.make_response = ReplyResponse


class EndpointResponse(Response):
    """What `gateway.endpoint` answers: the reply of a request that the gateway has read itself."""

    def __init__(self, handler: Handler, reply: Reply | None) -> None:
        self.handler = handler
        self.reply = reply
        self.status_code = 499 if reply is None else reply.status
        self.background = None
        self.raw_headers = [] if reply is None else list(reply.raw_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.reply is not None:
            self.reply.raw_headers = self.raw_headers
            await self.handler.deliver(self.reply, send)
        if self.handler.raised is not None:
            raise self.handler.raised
        if self.background is not None:
            await self.background()
