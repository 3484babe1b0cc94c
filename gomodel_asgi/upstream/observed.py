"""Streams and replies that leave a trail. Used only where somebody observes, so that others pay nothing for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from ..errors import GatewayError
from ..exchange.reply import Broken, Reply
from ..observers import Trace
from .stream import Stream


@runtime_checkable
class Told(Protocol):
    """A stream that leaves a trail; *on_over*, if set, is called once when nothing more will come."""

    on_over: Callable[[], None] | None


class ToldStream(Stream):
    """A stream that counts what it gives; *on_over*, if set, is called once when nothing more will come."""

    def __init__(self, *arguments: Any, trace: Trace, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trace = trace
        self.on_over: Callable[[], None] | None = None

    async def next(self) -> bytes:
        try:
            events = await super().next()
        except Broken:
            self._over()
            raise
        if events:
            self.trace.measure.add(events)
        if self.closed:
            self._over()
        return events

    async def interrupt(self, error: GatewayError) -> bytes:
        events = await super().interrupt(error)
        self.trace.measure.add(events)
        return events

    async def aclose(self) -> None:
        await super().aclose()
        self._over()

    async def _end(self, error: GatewayError | None) -> None:
        self.trace.failed(error)
        await super()._end(error)

    def _over(self) -> None:
        over, self.on_over = self.on_over, None
        if over is not None:
            over()


async def followed(asked: Awaitable[Reply], trace: Trace) -> Reply:
    """The reply that *asked* gives to the host's own code; its trail ends with it."""
    try:
        reply = await asked
    except GatewayError as error:
        trace.failed(error)
        trace.end(None)
        raise
    except BaseException:
        trace.end(None, "cancelled")
        raise
    stream = reply.stream
    if isinstance(stream, Told):
        stream.on_over = lambda: _over(trace, reply)
    else:
        trace.sent(reply.body or b"")
        trace.end(reply.status)
    return reply


def _over(trace: Trace, reply: Reply) -> None:
    """The host's code has read the stream to its end, or has let go of it."""
    stream = reply.stream
    ended = stream is not None and stream.reader.terminal is not None
    trace.end(reply.status, None if ended else "gone")
