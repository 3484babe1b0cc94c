"""A stream on its way to the client: read, checked, ended properly.

Strategy: pull, never push. `next()` reads the upstream once for each piece it gives, so a slow client slows the
upstream and nothing piles up. Every way in which an upstream can stop is turned into the same end: whole events so
far, then the failure in band. The connection is released the moment the stream has ended, not when the client is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..deadline import clock
from ..dialects.base import Outgoing
from ..dialects.reader import Reader, TranslatedReader
from ..errors import GatewayError, Overloaded, UpstreamError, UpstreamTimeout, UpstreamTruncated
from ..exchange.reply import Broken, Reply
from ..observers.trace import Trace
from ..seams.transport import Headers, UpstreamReply
from ..settings import MIB
from ..threads import beside

# Errors that are kept.
#
# An error's traceback, and that of what caused it, hold the frames of the whole request. A request that holds its
# error would therefore hold itself, with all its bodies, until the garbage collector comes by.


Error = TypeVar("Error", bound=GatewayError)


def detached(error: Error) -> Error:
    """Returns *error*, without its traceback and its causes."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


ENDS = (b"response.completed", b"response.incomplete", b"response.failed")
LINGER = 5.0  # seconds an upstream may keep its stream open after the terminal event


async def fed(reader: Reader, data: bytes) -> bytes:
    """Returns what *reader* gives for *data*; an event that may be large is read in a worker thread.

    :raises UpstreamProtocolError: as `Reader.feed`.
    """
    if reader.waiting <= MIB:
        return reader.feed(data)
    return await beside(reader.waiting, partial(reader.feed, data), ends=True)


OnEnd = Callable[["Stream", GatewayError | None], None]


class Stream:
    """One upstream stream through one reader.

    *held* has been read already. *idle* bounds each read in seconds, *until* is when the whole exchange must have
    ended on the clock. *on_end* is called once, with the failure if there was one.
    """

    def __init__(
        self,
        upstream: UpstreamReply,
        reader: Reader,
        *,
        held: bytes,
        idle: float,
        until: float,
        on_end: OnEnd,
    ) -> None:
        self.upstream = upstream
        self.reader = reader
        self.held = held
        self.idle = idle
        self.until = until
        self.on_end = on_end
        self.ended = False
        self.closed = False
        self.lingering = False
        self.is_large = False
        """Whether the event that is being read is a large one."""
        self.before_end: Callable[[], Awaitable[object]] | None = None
        """Awaited, once, before the client gets the event that ends the response."""

    async def next(self) -> bytes:
        """Returns the next whole events for the client, `b""` at the end.

        :raises Broken: the upstream died inside an event that was already given in part.
        """
        reader = self.reader
        if self.held:
            held, self.held = self.held, b""
            if reader.terminal is not None and self.before_end is not None:
                return await self._parted(held)
            return held
        while not self.ended:
            try:
                left = self.until - clock()  # of the whole exchange; `min` would cost more than the comparison
                if left <= 0:  # a reply gives at once, whatever its timeout, what has come while the client was slow
                    raise UpstreamTimeout("The upstream did not end in time.")
                data = await self.upstream.read(self.idle if left > self.idle else left)
                if not data:
                    events = reader.close()
                else:
                    events = await fed(reader, data) if self.is_large else reader.feed(data)
            except (UpstreamError, Overloaded) as error:
                return await self._failed(error)
            if reader.terminal is not None:
                if not self.lingering:
                    self.lingering, self.until = True, min(self.until, clock() + LINGER)
                if self.before_end is not None and events:
                    events = await self._parted(events)
            if not data:
                await self._end(reader.failure)
                return events
            if events:
                return events
            self.is_large = reader.waiting > MIB  # looked at only here: nearly every piece is an event, or more
        return b""

    def final(self) -> bytes:
        """Returns the response object that ended the stream.

        :raises GatewayError: none did.
        """
        response = self.reader.final()
        if response is None:
            raise self.reader.failure or UpstreamTruncated("The stream has not ended with a response.")
        return response

    async def interrupt(self, error: GatewayError) -> bytes:
        """Ends the stream from our side: the failure in band, the upstream released."""
        events = b"" if self.ended else self.reader.fail(error)
        await self._end(error)
        return events

    async def aclose(self) -> None:
        """Releases the upstream, whatever state it is in. Never raises."""
        self.before_end = None  # it knows the reply, which knows us
        if self.closed:
            return
        self.closed = self.ended = True
        try:
            await self.upstream.aclose()
        finally:  # a close that is cancelled gives its place back too
            self.on_end(self, None)

    async def _failed(self, error: GatewayError) -> bytes:
        """Returns the events that report *error* to the client.

        :raises Broken: none can: the connection is to be broken off.
        """
        if self.reader.terminal is not None:
            await self._end(None)
            return b""
        error = detached(self._named(error))
        broken = self.reader.inside
        events = b"" if broken else self.reader.fail(error)
        if self.before_end is not None:
            await self._ending()
        await self._end(error)
        if broken:
            raise Broken
        return events

    async def _parted(self, events: bytes) -> bytes:
        """Returns those of *events* before the one that ends the response, which is held until `before_end` has run."""
        end = -1
        for mark in ENDS:
            end = max(end, events.rfind(mark))
        start = events.rfind(b"\n\n", 0, max(end, 0)) + 2
        if start > 1:
            self.held = events[start:]
            return events[:start]
        await self._ending()
        return events

    async def _ending(self) -> None:
        before_end, self.before_end = self.before_end, None
        if before_end is not None:
            await before_end()

    def _named(self, error: GatewayError) -> GatewayError:
        if isinstance(error, UpstreamTimeout):
            late = clock() >= self.until
            message = "The response took longer than allowed." if late else "The upstream stopped sending."
            return UpstreamTimeout(message, code="upstream_timeout" if late else "upstream_idle_timeout")
        return error

    async def _end(self, error: GatewayError | None) -> None:
        if self.closed:
            return
        self.closed = self.ended = True
        await self.upstream.aclose()
        self.on_end(self, error)


# Replies of an upstream that wants several requests for one answer, read as one.


class JoinedReplies:
    """An `UpstreamReply` whose body is followed by that of the next request, as often as *reader*, which reads it,
    finds that the upstream wants one. *ask* makes that request."""

    def __init__(
        self, first: UpstreamReply, reader: TranslatedReader, ask: Callable[[Outgoing], Awaitable[UpstreamReply]]
    ) -> None:
        self.status: int = first.status
        self.headers: Headers = first.headers
        self.resumable: bool = first.resumable
        self._upstream = first
        self._reader = reader
        self._ask = ask

    async def read(self, timeout: float) -> bytes:
        """Returns more of the body; see `UpstreamReply.read`.

        :raises GatewayError: the next request failed.
        """
        if (outgoing := self._reader.again) is not None:
            await self._upstream.aclose()
            self._upstream = await self._ask(outgoing)
            self.resumable = self._upstream.resumable
            self._reader.begin_next_reply()
        return await self._upstream.read(timeout)

    async def aclose(self) -> None:
        """Releases the connection of the reply that is being read."""
        await self._upstream.aclose()


# Streams and replies that are traced. Used only where somebody observes, so that others pay nothing for it.


@runtime_checkable
class Ending(Protocol):
    """A stream that calls *on_over*, if set, once when nothing more will come."""

    on_over: Callable[[], None] | None


class TracedStream(Stream):
    """An `Ending` stream whose bytes and events *trace* counts."""

    def __init__(self, *arguments: Any, trace: Trace, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.trace = trace
        self.on_over: Callable[[], None] | None = None

    async def next(self) -> bytes:
        """See `Stream`; what comes is measured too."""
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
        """See `Stream`; what it ends with is measured too."""
        events = await super().interrupt(error)
        self.trace.measure.add(events)
        return events

    async def aclose(self) -> None:
        """See `Stream`; the trace ends with it."""
        try:
            await super().aclose()
        finally:
            self._over()

    async def _end(self, error: GatewayError | None) -> None:
        self.trace.failed(error)
        await super()._end(error)

    def _over(self) -> None:
        over, self.on_over = self.on_over, None
        if over is not None:
            over()


async def followed(pending: Awaitable[Reply], trace: Trace) -> Reply:
    """Returns the reply that *pending* gives to the host's own code; its trace ends with it."""
    try:
        reply = await pending
    except GatewayError as error:
        trace.failed(error)
        trace.end(None)
        raise
    except BaseException:
        trace.end(None, "cancelled")
        raise
    stream = reply.stream

    def over() -> None:  # the host's code has read the stream to its end, or has let go of it
        ended = stream is not None and stream.reader.terminal is not None
        trace.end(reply.status, None if ended else "gone")

    if isinstance(stream, Ending):
        stream.on_over = over
    else:
        trace.sent(reply.body or b"")
        trace.end(reply.status)
    return reply
