"""Sends one reply to one client: status line, pieces, end; heartbeats in between, and a stalled client cut off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from msgspec import Struct
from starlette.types import Send

from ..errors import ServerShutdown
from ..exchange.reply import Broken, Reply
from ..settings import Timeouts
from ..wire.headers import Headers
from .disconnect import Watch

PIECE = 256 * 1024
"""Bytes of a body that the server gets at a time: they fit into its and the system's buffers."""
HEARTBEAT = b": heartbeat\n\n"
LAST_WORDS = 1.0  # seconds that the error event of a shutdown may take to be sent
TICKS = 2  # looks per heartbeat interval: silence is measured to half of it, at no cost per event


class Delivery(Struct, eq=False):
    """Sends one reply. `sent` counts messages, so that sending needs no clock: a timer compares the count every
    *interval* seconds, and adds up in *quiet* how long it has not changed."""

    reply: Reply
    send: Send
    headers: Headers
    timeouts: Timeouts
    started: bool = False
    done: bool = False
    sent: int = 0
    seen: int = 0
    quiet: float = 0.0
    interval: float = 0.0
    sending: bool = False
    watch: Watch | None = None

    def run(self, watch: Watch) -> Awaitable[None]:
        """Sends the whole reply; where the server cancels it while the client is there, ends it in band first.

        :raises ConnectionAbortedError: the upstream died inside an event; the connection must not be ended properly.
        """
        stream = self.reply.stream  # no coroutine here, which each event of a stream would wake
        return self._body(watch) if stream is None else self._events(stream.next, watch)

    async def _body(self, watch: Watch) -> None:
        reply = self.reply
        body, self.started = reply.body or b"", True
        self.headers.append((b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": reply.status, "headers": self.headers})
        if len(body) > PIECE:
            body = await self._pieces(body, watch)
        if reply.before_end is not None:
            await self.send({"type": "http.response.body", "body": body[:-1], "more_body": True})
            await reply.before_end()
            body = body[-1:]
        watch.answered = True
        await self.send({"type": "http.response.body", "body": body, "more_body": False})
        self.done = True

    async def _events(self, next_events: Callable[[], Awaitable[bytes]], watch: Watch) -> None:
        """Sends a stream.

        :raises ConnectionAbortedError: the upstream broke off inside an event: the server is to close the connection,
            or the client would take the rest for whole.
        """
        self._attend(watch)
        send = self.send
        try:
            events = await next_events()
            self.started = True
            await send({"type": "http.response.start", "status": self.reply.status, "headers": self.headers})
            while events:
                self.sending = True
                await send({"type": "http.response.body", "body": events, "more_body": True})
                self.sending = False
                self.sent += 1
                events = await next_events()
            watch.answered = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except Broken:
            raise ConnectionAbortedError("The upstream broke off inside an event.") from None
        except anyio.get_cancelled_exc_class():
            if watch.reason is None:
                await self.last_words()
            raise
        self.done = True

    @property
    def has_all(self) -> bool:
        """Whether the client has its answer. Many leave on the last event of a stream without waiting for its end."""
        stream = self.reply.stream
        ended = stream is not None and stream.reader.terminal is not None
        return self.done or (ended and self.sent > 0 and not self.sending)

    async def last_words(self) -> None:
        """Ends a stream that has begun in band, within `LAST_WORDS` seconds: the server is shutting down."""
        stream = self.reply.stream
        if stream is None or not self.started or stream.reader.inside:
            return
        with anyio.move_on_after(LAST_WORDS, shield=True):
            events = await stream.interrupt(ServerShutdown())
            await self.send({"type": "http.response.body", "body": events, "more_body": True})
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self, body: bytes, watch: Watch) -> bytes:
        """Sends a large *body* but for its last piece, which it returns: pieces show whether the client reads."""
        self._attend(watch)
        at = 0
        while len(body) - at > PIECE:
            self.sending = True
            await self.send({"type": "http.response.body", "body": body[at : at + PIECE], "more_body": True})
            self.sending = False
            self.sent += 1
            at += PIECE
        return body[at:]

    # Silence...

    def _attend(self, watch: Watch) -> None:
        self.watch = watch
        self.interval = min(self.timeouts.heartbeat, self.timeouts.stalled_client) / TICKS
        watch.every(self.interval, self._look)

    def _look(self) -> None:
        assert self.watch is not None
        self.quiet = self.quiet + self.interval if self.sent == self.seen else 0.0
        self.seen = self.sent
        if self.sending and self.quiet >= self.timeouts.stalled_client:
            self.watch.stop("stalled")
        elif not self.sending and self.quiet >= self.timeouts.heartbeat:
            self._beat(self.watch)

    def _beat(self, watch: Watch) -> None:
        stream = self.reply.stream
        if self.started and stream is not None and not stream.reader.inside and not stream.ended:
            self.quiet = 0.0
            message = {"type": "http.response.body", "body": HEARTBEAT, "more_body": True}
            watch.spawn(lambda: self.send(message))
