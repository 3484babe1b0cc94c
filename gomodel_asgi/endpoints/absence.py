"""Background requests whose clients have left: so many of each tenant go on, and nothing of them is sent any more.

An upstream may end a response whose connection is closed, whatever its request said. What the gateway works on by
itself needs nobody to read it, so a reply that only follows such work ends with its client.
"""

from __future__ import annotations

import anyio.lowlevel
from starlette.types import Message, Send

from ..admission import Allowance
from ..exchange.reply import Reply


class Absence:
    """Knows whether the client of one background request has left, and the work goes on.

    *allowed* counts such requests, at most *limit* of each tenant. A request of which nobody knows yet whose it is has
    begun nothing that could go on.
    """

    def __init__(self, allowed: Allowance, limit: int | None) -> None:
        self.allowed = allowed
        self.limit = limit
        self.tenant: str | None = None
        self.identified = False
        self.reply: Reply | None = None
        self.left = False

    def identify(self, tenant: str | None) -> None:
        """The request is *tenant*'s."""
        self.tenant, self.identified = tenant, True

    @property
    def follows(self) -> bool:
        """Whether the reply only tells of what goes on without it."""
        return self.reply is not None and self.reply.candidate is None

    def goes_on(self) -> bool:
        """The client has left: whether the work goes on."""
        if not self.left and self.identified and not self.follows:
            self.left = self.allowed.take(self.tenant, self.limit)
            if self.left and self.reply is not None:
                self.reply.left()
        return self.left

    def sending(self, reply: Reply, send: Send) -> Send:
        """*send* for *reply*, as long as there is somebody to send to."""
        self.reply = reply
        if self.left:
            reply.left()

        async def sent(message: Message) -> None:
            if self.left:
                return await anyio.lowlevel.checkpoint()
            try:
                await send(message)
            except OSError:  # how some servers tell that the client has left
                if not self.goes_on():
                    raise

        return sent

    def over(self) -> None:
        """The work has ended, or is handed on."""
        if self.left:
            self.left = False
            self.allowed.give_back(self.tenant)
