"""A WebSocket client of an ASGI app driven by hand: on whichever event loop runs the test, without a server between."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.types import ASGIApp, Message, Scope

TIMEOUT = 20.0
"""Seconds after which a test is stuck: never reached by one that passes."""
ENDS = ("response.completed", "response.incomplete", "response.failed")

Event = dict[str, Any]


def scope_of(
    path: str = "/v1/responses",
    *,
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"testserver"),),
    **more: Any,
) -> Scope:
    """What a server would make of an upgrade."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "state": {},
        **more,
    }


class Client:
    """One client of one connection. What the app sends is kept in *messages*; *raised* is what the app raised."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.messages: list[Message] = []
        self.raised: BaseException | None = None
        self.ended = anyio.Event()
        self.stalled: anyio.Event | None = None
        self._to_app, self._app_reads = anyio.create_memory_object_stream[Message](math.inf)
        self._from_app, self._reads = anyio.create_memory_object_stream[Message](math.inf)

    async def run(self, app: ASGIApp) -> None:
        self._to_app.send_nowait({"type": "websocket.connect"})
        try:
            await app(self.scope, self._app_reads.receive, self._take)
        except Exception as error:
            self.raised = error
        finally:
            self.ended.set()
            self._from_app.close()

    async def _take(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self.messages.append(message)
        self._from_app.send_nowait(message)
        if self.stalled is not None and message["type"] == "websocket.send":
            await self.stalled.wait()

    # What a test does...

    async def send(self, frame: Mapping[str, Any] | str | bytes) -> None:
        """Send a frame: an object as JSON, text as it is, bytes as a binary one."""
        if isinstance(frame, bytes):
            return self._to_app.send_nowait({"type": "websocket.receive", "bytes": frame})
        text = frame if isinstance(frame, str) else json.dumps(frame)
        self._to_app.send_nowait({"type": "websocket.receive", "text": text})

    async def create(self, input: Any = "hello", **members: Any) -> None:
        """Send a `response.create`."""
        await self.send({"type": "response.create", "model": "m", "input": input, **members})

    async def message(self) -> Message:
        """The app's next message."""
        with anyio.fail_after(TIMEOUT):
            return await self._reads.receive()

    async def event(self) -> Event:
        """The next frame."""
        message = await self.message()
        assert message["type"] == "websocket.send", message
        event: Event = json.loads(message["text"])
        return event

    async def until(self, *types: str) -> list[Event]:
        """The frames up to the next one of these *types*, with it."""
        events = [await self.event()]
        while events[-1]["type"] not in types:
            events.append(await self.event())
        return events

    async def response(self) -> Event:
        """The response that ends the next stream, which must number its events from 0."""
        events = await self.until(*ENDS, "error")
        assert events[-1]["type"] != "error", events[-1]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        response: Event = events[-1]["response"]
        return response

    async def error(self) -> Event:
        """The next frame, which must be an error in the form of the WebSocket mode."""
        event = await self.event()
        assert event["type"] == "error", event
        assert isinstance(event["status"], int)
        assert {"message", "type", "param", "code"} <= set(event["error"])
        return event

    async def talk(self, input: Any = "hello", **members: Any) -> Event:
        """The response to one create."""
        await self.create(input, **members)
        return await self.response()

    async def leave(self) -> None:
        """Disconnect, and wait until the app has ended."""
        self._to_app.send_nowait({"type": "websocket.disconnect", "code": 1006})
        with anyio.fail_after(TIMEOUT):
            await self.ended.wait()

    def close(self) -> None:
        """Give up what the client has open."""
        for stream in (self._to_app, self._app_reads, self._from_app, self._reads):
            stream.close()

    async def closed(self) -> int:
        """The code with which the app closes, whatever it says before that."""
        while (message := await self.message())["type"] != "websocket.close":
            pass
        return int(message["code"])


@asynccontextmanager
async def connected(app: ASGIApp, **options: Any) -> AsyncIterator[Client]:
    """A client whose upgrade has been accepted; it leaves at the end, and the app must end by that."""
    async with knocking(app, **options) as client:
        first = await client.message()
        assert first["type"] == "websocket.accept", first
        yield client
        if not client.ended.is_set():
            await client.leave()


@asynccontextmanager
async def knocking(app: ASGIApp, **options: Any) -> AsyncIterator[Client]:
    """A client whose upgrade has been asked for."""
    client = Client(scope_of(**options))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run, app)
        try:
            yield client
        finally:
            tasks.cancel_scope.cancel()
            client.close()
