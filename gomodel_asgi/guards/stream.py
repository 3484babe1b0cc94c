"""A stream that gives only what the guards have let pass."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from ..dialects.reader import Reader
from ..errors import (
    ContentBlocked,
    GatewayError,
    GuardUnavailable,
    ServerShutdown,
    UpstreamProtocolError,
    UpstreamTruncated,
)
from ..exchange.reply import Broken, Stream, parsed
from ..tasks import Task, Tasks
from ..upstream.stream import detached
from ..wire.response import DONE, TERMINAL, Json, encode, error_event, frame, response_error, response_object
from ..wire.sse import Decoder, Event
from .hold import Window
from .inspection import Inspection
from .reader import GuardedReader


class GuardedStream:
    """*stream* behind the guards of *inspection*. An event is of at most *limit* bytes."""

    def __init__(self, stream: Stream, inspection: Inspection, *, model: str, limit: int) -> None:
        self.stream = stream
        self.inspection = inspection
        self.model = model
        self.window = Window(inspection.hold, inspection.places)
        self.decoder = Decoder(limit=limit)
        self.known = GuardedReader(stream.reader)
        self.reader: Reader = self.known
        self.ended = False
        self.held: list[bytes] = []
        """Events that wait for the verdict on all of the reply."""
        self.opening: list[bytes] = []
        """Those with which every response begins, which hold nothing of it."""
        self.is_strict = False
        """Whether nothing has been sent, so that a refusal can be an answer of its own."""
        self.refused: Exception | None = None
        """What was found while nobody had anything yet."""
        self.reading: Task | None = None
        """The task that reads on until the verdict is there."""
        self.is_reading = False
        self.stirred = anyio.Event()
        self.is_torn = False
        """Whether reading was broken off, and may have lost what it had read."""
        self.before_end: Callable[[], Awaitable[object]] | None = None
        self.on_over: Callable[[], None] | None = None

    async def held_for(self, seconds: float, tasks: Tasks) -> None:
        """Reads until the verdict is there, for at most *seconds*. After that a task reads on, and the client gets the
        events with which every response begins, and heartbeats.

        :raises GatewayError: a guard refuses the reply, or fails.
        """
        self.is_strict = self.is_reading = True
        self.reading = tasks.spawn(self._read_on)
        try:
            await self.reading.wait(seconds)
        finally:
            self.is_strict = False
        self._check()

    async def whole(self) -> bytes:
        """Returns all events, where none has left.

        :raises GatewayError: a guard refuses the reply, or fails.
        """
        self.is_strict = True
        while not self.ended:
            await self._advance()
        return await self._last()

    async def _read_on(self) -> None:
        try:
            while self.is_strict and not self.ended:
                await self._advance()
                self.stirred.set()
        except Exception as error:
            self.refused = detached(error) if isinstance(error, GatewayError) else error
        except BaseException:
            self.is_torn = not self.ended
            raise
        finally:
            self.is_reading = False
            self.stirred.set()

    def _check(self) -> None:
        """Raises a refusal, once.

        :raises GatewayError: a guard has refused what was held.
        """
        refused, self.refused = self.refused, None
        try:
            if refused is not None:
                raise refused
        finally:
            refused = None  # whose traceback holds this frame

    async def next(self) -> bytes:
        """See `Stream.next`."""
        while True:
            if self.opening and not self.ended:
                return self._taken(self.opening)
            if self.reading is not None:
                await self._joined()
            elif self.ended or (self.held and self.inspection.hold is not None):
                return await self._last() if self.ended else self._taken(self.held)
            else:
                await self._advance()

    async def _joined(self) -> None:
        """Waits until the reading task has given something, or has ended."""
        if self.is_reading:
            self.stirred = anyio.Event()
            await self.stirred.wait()
        if not self.is_reading:
            self.reading = None
            self._check()
            if self.is_torn:
                await self._failed(ServerShutdown())

    async def _stopped(self) -> None:
        """Cancels the task that reads on, and waits for its end."""
        reading, self.reading = self.reading, None
        if reading is not None:
            reading.cancel()
            with anyio.CancelScope(shield=True):
                await reading.wait(FAREWELL)

    def final(self) -> bytes:
        """See `Stream.final`.

        :raises GatewayError: the stream has failed, or not ended with a response.
        """
        if self.known.response is None:
            raise self.known.failure or UpstreamTruncated("The stream has not ended with a response.")
        return self.known.response

    async def interrupt(self, error: GatewayError) -> bytes:
        """See `Stream.interrupt`: nothing of what is held goes along."""
        await self._stopped()
        if self.ended:
            return b""
        await self._failed(error)
        return await self._last()

    async def aclose(self) -> None:
        """See `Stream.aclose`."""
        before_end, self.before_end = self.before_end, None
        is_left, self.ended = not self.ended, True
        await self._stopped()
        if is_left and before_end is not None:
            self.stream.before_end = partial(self._left, before_end)  # where what has come so far is kept
        await self.stream.aclose()
        self._over()

    async def _left(self, before_end: Callable[[], Awaitable[object]]) -> None:
        """The client has gone, and what there is of the response is kept: what may be."""
        response = self.stream.reader.final()
        if response is None:
            return
        value = await parsed(response)
        try:
            passed = await self.inspection.run(self.window.value(value, [*self.inspection.places(value)]))
        except (ContentBlocked, GuardUnavailable):
            return
        self.known.response, self.known.ended = encode(passed), str(value.get("status"))
        await before_end()

    # One piece of the upstream's...

    async def _advance(self) -> None:
        try:
            data = await self.stream.next()
            events = self.decoder.feed(data) if data else self.decoder.close()
            for event in events:
                if not self.ended:
                    await self._take(event)
            if not data and not self.ended:
                if not self.window.begun and self.stream.reader.terminal is not None:
                    return self._end_of_nothing(self.stream.reader.terminal)
                raise UpstreamTruncated("The upstream's stream ended before the response did.")
        except Broken:
            await self._failed(UpstreamTruncated("The upstream broke off inside an event."))
        except ContentBlocked as error:
            if self.is_strict:
                await self._dropped(error)
                raise
            await self._blocked()
        except GatewayError as error:
            if self.is_strict and isinstance(error, GuardUnavailable):
                await self._dropped(error)
                raise
            await self._failed(error)

    async def _take(self, event: Event) -> None:
        """Takes one event of the upstream's.

        :raises UpstreamProtocolError: it is no object.
        """
        if event.data == b"[DONE]":
            return
        value = await parsed(event.data)
        if not isinstance(value, dict):
            raise UpstreamProtocolError("The upstream sent an event that is no object.")
        if not isinstance(value.get("type"), str):
            value["type"] = event.name
        for one in await self.inspection.run(self.window.event(value)):
            if one["type"] in TERMINAL:
                self._complete(one)
            # Whoever waits for the whole verdict can have what every response begins with.
            is_opening = one["type"] in OPENING and not self.held
            (self.opening if is_opening else self.held).append(frame(one))
        if value["type"] in TERMINAL:
            if self.is_strict and (refusal := self.inspection.refusal) is not None:
                try:
                    raise refusal
                finally:
                    refusal = None  # whose traceback holds this frame
            self.inspection.report()
            self._end(value["type"].partition(".")[2])

    def _complete(self, event: Json) -> None:
        """Puts the members that guards give into *event*, which ends the response."""
        members = self.inspection.members()
        if members:
            self.window.response = event["response"] = {**self.window.response, **members}

    def _end(self, status: str) -> None:
        self.known.response = encode(self.window.response)
        self.known.ended = status
        self.held.append(DONE)
        self.ended = True

    def _end_of_nothing(self, status: str) -> None:
        """Ends a stream whose client had all of it before, the terminal event too."""
        self.known.ended = status
        self.held.append(DONE)
        self.ended = True

    async def _blocked(self) -> None:
        """Ends the response where it stands, since a guard has refused what came."""
        if self.inspection.hold is None:
            self._forget_held()
        self._begin()
        events = self.window.blocked()
        self._complete(events[-1])
        self.held += [frame(event) for event in events]
        self._end("incomplete")
        await self.stream.aclose()

    async def _failed(self, error: GatewayError) -> None:
        """Ends the response as failed, with nothing of what is held."""
        window = self.window
        if self.inspection.hold is None:
            self._forget_held()
        self._begin()
        self.known.error = detached(error)
        output = [window.done[index] for index in sorted(window.done, key=lambda index: index or 0)]
        window.response = {**window.response, "status": "failed", "output": output, "error": response_error(error)}
        failure = window.numbered(error_event(error, 0))
        last = window.numbered({"type": "response.failed", "response": window.response})
        self.held += [frame(failure), frame(last)]
        self._end("failed")
        await self.stream.interrupt(error)
        await self.stream.aclose()

    def _forget_held(self) -> None:
        """Drops the events that wait for the verdict."""
        self.window.number -= len(self.held)
        self.held.clear()
        self.window.open.clear()
        self.window.done.clear()

    def _begin(self) -> None:
        """Sends the opening events, unless the upstream's have come: what ends must have begun."""
        window = self.window
        if window.response:
            return
        id = self.reader.response_id or "resp_" + secrets.token_hex(24)
        window.response = response_object(id, int(time.time()), self.model, {}, None)
        for name in ("response.created", "response.in_progress"):
            self.opening.append(frame(window.numbered({"type": name, "response": window.response})))

    async def _dropped(self, error: GatewayError) -> None:
        """Ends with *error* as an answer of its own, since nothing was sent."""
        self.known.error = error
        self.ended = True
        await self.stream.aclose()

    # What goes out...

    async def _last(self) -> bytes:
        if not self.opening and not self.held:
            while await self.stream.next():  # to its end, so that its connection can be used again
                pass
            self._over()
            return b""
        before_end, self.before_end = self.before_end, None
        if before_end is not None:
            await before_end()
        return self._taken(self.opening) + self._taken(self.held)

    def _taken(self, events: list[bytes]) -> bytes:
        data = b"".join(events)
        events.clear()
        return data

    def _over(self) -> None:
        over, self.on_over = self.on_over, None
        if over is not None:
            over()


FAREWELL = 5.0
"""Seconds that reading which is broken off may take to end."""
OPENING = frozenset({"response.created", "response.queued", "response.in_progress"})
