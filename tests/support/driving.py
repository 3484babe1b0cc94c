"""An ASGI app driven by hand: on whichever event loop runs the test, message by message, without a server between."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp, Message, Scope

from gomodel_asgi.wire.sse import Decoder

JSON = (b"content-type", b"application/json")
TIMEOUT = 20.0
"""Seconds after which a test is stuck: never reached by one that passes."""


def scope_of(
    path: str = "/v1/responses",
    *,
    method: str = "POST",
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = (JSON,),
    **more: Any,
) -> Scope:
    """What a server would make of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
        **more,
    }


@dataclass
class Caller:
    """One client of one request. What the app sends is kept in *messages*; `leave()` disconnects; *stalled* makes the
    app wait in `send` until it is set."""

    scope: Scope
    body: Iterable[bytes] = (b"",)
    stalled: anyio.Event | None = None
    messages: list[Message] = field(default_factory=list)
    raised: BaseException | None = None

    def __post_init__(self) -> None:
        pieces = list(self.body)
        self.incoming: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
            for number, piece in enumerate(pieces)
        ]
        self.left = anyio.Event()
        self.sent = anyio.Event()

    async def run(self, app: ASGIApp) -> Caller:
        """The whole request; an exception of the app is kept in *raised*."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:
            self.raised = error
        return self

    def leave(self) -> None:
        """Disconnect."""
        self.left.set()

    async def receive(self) -> Message:
        if self.incoming:
            return self.incoming.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self.sent.set()
        await anyio.lowlevel.checkpoint()
        if self.stalled is not None and message["type"] == "http.response.body":
            await self.stalled.wait()

    async def until(self, count: int) -> None:
        """Wait until the app has sent *count* messages."""
        with anyio.fail_after(TIMEOUT):
            while len(self.messages) < count:
                self.sent = anyio.Event()
                await self.sent.wait()

    # What came...

    @property
    def status(self) -> int:
        assert self.messages, f"no answer; raised {self.raised!r}"
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.messages[0]["headers"]}

    @property
    def pieces(self) -> list[bytes]:
        """The bodies of the messages, empty ones left out."""
        return [message["body"] for message in self.messages[1:] if message.get("body")]

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def complete(self) -> bool:
        """Whether the app ended its answer."""
        return bool(self.messages) and self.messages[-1].get("more_body") is False

    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> dict[str, Any]:
        """The error of the envelope, which must have exactly its four keys."""
        error: dict[str, Any] = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    def events(self) -> list[dict[str, Any]]:
        """The stream's events, `[DONE]` left out."""
        return events_of(self.content)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of *stream*, `[DONE]` left out."""
    return [json.loads(event.data) for event in Decoder().feed(stream) if event.data != b"[DONE]"]


def encoded(body: Mapping[str, Any] | bytes | str) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


async def ask(app: ASGIApp, body: Mapping[str, Any] | bytes | str = b"", **options: Any) -> Caller:
    """The answer to one request whose client stays to the end."""
    caller = Caller(scope_of(**options), [encoded(body)])
    with anyio.fail_after(TIMEOUT):
        return await caller.run(app)


def told_failure(events: list[dict[str, Any]], stream: bytes) -> str:
    """The code of the failure with which *stream* ends in band: the error event, `response.failed`, `[DONE]`."""
    error, failed = events[-2:]
    assert error["type"] == "error"
    assert {"message", "type", "param", "code"} <= set(error["error"])
    assert (error["code"], error["message"]) == (error["error"]["code"], error["error"]["message"])
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["sequence_number"] == error["sequence_number"] + 1
    assert stream.endswith(b"data: [DONE]\n\n") and stream.count(b"data: [DONE]") == 1
    return str(error["code"])
