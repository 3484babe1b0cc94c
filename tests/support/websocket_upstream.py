"""An upstream that speaks the Responses API over WebSocket only: on a real socket, in a thread of its own."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve, unix_serve

Event = dict[str, Any]
Play = Callable[["Upstream", ServerConnection, Event], None]


@dataclass
class Upstream:
    """Answers each create with *plays*, one each, then as usual. *frames* are those received, *texts* how they were
    written, *upgrades* their connections' headers. A connection's responses with `store: false` are known on it alone.
    """

    plays: deque[Play] = field(default_factory=deque)
    frames: list[Event] = field(default_factory=list)
    texts: list[str | bytes] = field(default_factory=list)
    upgrades: list[dict[str, str]] = field(default_factory=list)
    refusal: tuple[int, bytes] | None = None
    stored: set[str] = field(default_factory=set)
    released: threading.Event = field(default_factory=threading.Event)
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    count: int = 0
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        self.upgrades.append(
            {name.lower(): value for name, value in request.headers.raw_items()} | {":path": request.path}
        )
        if self.refusal is None:
            return None
        status, body = self.refusal
        response = connection.respond(status, body.decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def converse(self, connection: ServerConnection) -> None:
        known: set[str] = set()
        try:
            for message in connection:
                frame = json.loads(message)
                self.frames.append(frame)
                self.texts.append(message)
                if frame["type"] == "response.steer":
                    steer = {"id": "steer_1", "previous_response_id": frame["previous_response_id"]}
                    say(connection, {"type": "response.steer.accepted", "sequence_number": 0, "steer": steer})
                elif not self.refused(connection, frame, known):
                    play = self.plays.popleft() if self.plays else whole
                    play(self, connection, frame)
                    known.add(f"resp_up{self.count}")
        except ConnectionClosed:
            pass
        finally:
            self.closed.release()

    def refused(self, connection: ServerConnection, frame: Event, known: set[str]) -> bool:
        previous = frame.get("previous_response_id")
        if previous is None or previous in known | self.stored:
            return False
        error = {
            "type": "invalid_request_error",
            "code": "previous_response_not_found",
            "param": "previous_response_id",
        }
        error["message"] = f"Previous response with id '{previous}' not found."
        say(connection, laned(frame, {"type": "error", "status": 400, "error": error}))
        return True

    def events(self, frame: Event) -> Iterator[Event]:
        """The events of the next response."""
        self.count += 1
        response: Event = {"id": f"resp_up{self.count}", "object": "response", "created_at": 1, "model": frame["model"]}
        response |= {"status": "in_progress", "output": [], "previous_response_id": frame.get("previous_response_id")}
        if frame.get("store") is not False:
            self.stored.add(response["id"])
        text = {"type": "output_text", "text": "hi", "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        items = [] if frame.get("generate") is False else [item]
        events: list[Event] = [
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
        ]
        for one in items:
            place = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
            events.append({"type": "response.output_item.added", "output_index": 0, "item": {**one, "content": []}})
            events.append({"type": "response.output_text.delta", **place, "delta": "hi"})
            events.append({"type": "response.output_item.done", "output_index": 0, "item": one})
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        done = {**response, "status": "completed", "output": items, "usage": usage}
        events.append({"type": "response.completed", "response": done})
        for number, event in enumerate(events):
            yield laned(frame, {**event, "sequence_number": number})


def laned(frame: Event, event: Event) -> Event:
    return {**event, "stream_id": frame["stream_id"]} if "stream_id" in frame else event


def say(connection: ServerConnection, event: Event) -> None:
    connection.send(json.dumps(event))


# What can happen to a create...


def whole(upstream: Upstream, connection: ServerConnection, frame: Event) -> None:
    """All of the response."""
    for event in upstream.events(frame):
        say(connection, event)


def stalled(after: int) -> Play:
    """Nothing more after so many events, until `released`."""

    def play(upstream: Upstream, connection: ServerConnection, frame: Event) -> None:
        for number, event in enumerate(upstream.events(frame)):
            if number == after:
                assert upstream.released.wait(20)
            say(connection, event)

    return play


def dropped(after: int, *, politely: bool = False) -> Play:
    """The connection breaks after so many events; *politely* with a close frame."""

    def play(upstream: Upstream, connection: ServerConnection, frame: Event) -> None:
        for number, event in enumerate(upstream.events(frame)):
            if number < after:
                say(connection, event)
        if politely:
            connection.close(1001)
        else:
            connection.socket.shutdown(socket.SHUT_RDWR)

    return play


def failed(after: int, *events: Event) -> Play:
    """These *events* after so many of the response's own."""

    def play(upstream: Upstream, connection: ServerConnection, frame: Event) -> None:
        for number, event in enumerate(upstream.events(frame)):
            if number < after:
                say(connection, event)
        for event in events:
            say(connection, laned(frame, event))

    return play


@contextmanager
def running(*, path: str | None = None, context: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    """An upstream that is served until the block is left: on loopback, or on a Unix socket at *path*."""
    upstream = Upstream()
    options: Any = {"process_request": upstream.upgrade, "close_timeout": 1, "ssl": context}
    if path is not None:
        made = unix_serve(upstream.converse, path, **options)
    else:
        made = serve(upstream.converse, "127.0.0.1", 0, **options)
    with made as server:
        upstream.port = server.socket.getsockname()[1] if path is None else 0
        thread = threading.Thread(target=Server.serve_forever, args=(server,), daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            upstream.released.set()
            server.shutdown()
            thread.join(10)
