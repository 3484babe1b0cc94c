"""Plays chat replies through the dialect, and shows what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gomodel_asgi.dialects.base import Call, Outgoing
from gomodel_asgi.dialects.chat import ChatDialect
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]


def call_of(body: Json | None = None, **options: Any) -> Call:
    body = {"model": "m", "input": "hi"} | (body or {})
    known: Json = {"operation": "create", "model": "m", "stream": False, "provider": "p", "type": "vllm"}
    return Call(body=body, **(known | options))


def sent(body: Json | None = None, **options: Any) -> Json:
    """The chat request for a Responses request."""
    found: Json = json.loads(outgoing(body, **options).body)
    return found


def outgoing(body: Json | None = None, **options: Any) -> Outgoing:
    return ChatDialect().request(call_of(body, **options))


class Play:
    """One reply being translated: `events` are those that left, `response` is the response object."""

    def __init__(self, call: Call) -> None:
        self.emitter = Emitter(response_id="resp_1", created_at=7, model=call.model, echo=call.body, stream=call.stream)
        self.translator = ChatDialect().translator(call, self.emitter)
        self.frames: list[list[Json]] = []
        self.done = False

    def feed(self, data: Any, event: str = "") -> list[Json]:
        """Feed one event, a string as it is; the events that left in answer."""
        raw = data if isinstance(data, str) else json.dumps(data)
        self.translator.feed(event, raw.encode())
        frames = self.parsed(self.emitter.take())
        self.frames.append(frames)
        return frames

    def close(self) -> Play:
        self.translator.close()
        self.frames.append(self.parsed(self.emitter.take()))
        return self

    def parsed(self, data: bytes) -> list[Json]:
        blocks = [block for block in data.decode().split("\n\n") if block]
        self.done = self.done or "data: [DONE]" in blocks
        found = [json.loads(block.partition("\ndata: ")[2]) for block in blocks if block != "data: [DONE]"]
        names = [block.partition("\n")[0].removeprefix("event: ") for block in blocks if block != "data: [DONE]"]
        assert names == [event["type"] for event in found]
        return found

    @property
    def events(self) -> list[Json]:
        return [event for frames in self.frames for event in frames]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def response(self) -> Json:
        """As it would go over the wire."""
        found: Json = json.loads(json.dumps(self.emitter.response))
        return found

    @property
    def output(self) -> list[Json]:
        output: list[Json] = self.response["output"]
        return output


def play(data: Iterable[Any], body: Json | None = None, *, close: bool = True, **options: Any) -> Play:
    """A stream of these events."""
    found = Play(call_of(body, **({"stream": True} | options)))
    for event in data:
        found.feed(event)
    return found.close() if close else found


def whole(reply: Any, body: Json | None = None, **options: Any) -> Play:
    """A unary reply."""
    found = Play(call_of(body, **options))
    found.feed(reply)
    return found.close()


def chunk(delta: Json | None = None, finish: str | None = None, **members: Any) -> Json:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "up", "choices": [choice], **members}


def message(finish: str | None = "stop", usage: Json | None = None, **members: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **members}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "model": "up", "choices": [choice], "usage": usage}


def text_of(output: list[Json]) -> str:
    parts = [part for item in output if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


def reasoning_of(output: list[Json]) -> str:
    parts = [part for item in output if item["type"] == "reasoning" for part in item["summary"]]
    return "".join(part["text"] for part in parts)


def calls_of(output: list[Json]) -> list[list[str]]:
    calls = [item for item in output if item["type"] == "function_call"]
    return [[item["call_id"], item["name"], item["arguments"]] for item in calls]
