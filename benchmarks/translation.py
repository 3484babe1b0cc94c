"""What it costs to translate a stream, per event, over passing it through.

    python benchmarks/translation.py [EVENTS] [ROUNDS]

One stream of text deltas for each upstream API, fed in pieces as a socket gives them, through the reader that the
gateway uses. The floor is the reader of native streams over the same number of events of the Responses API. CPU time of
this process, no I/O. The median of the rounds counts, the spread is shown.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from gomodel_asgi.dialects.base import Call, built_in
from gomodel_asgi.dialects.lenient.reply import LenientReader
from gomodel_asgi.dialects.native import NativeReader
from gomodel_asgi.dialects.reader import Reader, TranslatedReader
from gomodel_asgi.settings import Limits
from gomodel_asgi.wire.event_writer import Emitter

Json = dict[str, Any]

TARGET = 25.0  # microseconds of CPU that a chat event may cost more than one that passes
WORDS = "Rome is sunny. "
BODY: Json = {"model": "m", "input": "Hi", "stream": True}


def chat(count: int) -> list[Json]:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{**chunk, "choices": [{"index": 0, "delta": {"content": WORDS}, "finish_reason": None}]}] * count
    return [*deltas, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]


def anthropic(count: int) -> list[Json]:
    start = {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "usage": {}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    return [start, block, *[delta] * count, {"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"}]


def gemini(count: int) -> list[Json]:
    content = {"role": "model", "parts": [{"text": WORDS}]}
    chunk = {"candidates": [{"content": content, "index": 0}], "usageMetadata": {"promptTokenCount": 5}}
    return [*[chunk] * count, {"candidates": [{"finishReason": "STOP", "index": 0}]}]


def responses(count: int) -> list[Json]:
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo=BODY)
    message = emitter.message()
    for _ in range(count):
        message.text(WORDS)
    emitter.complete()
    blocks = emitter.take().decode().split("\n\n")[:-2]
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


STREAMS = {"native": responses, "lenient": responses, "chat": chat, "anthropic": anthropic, "gemini": gemini}


def reader_of(name: str) -> Reader:
    if name == "native":
        return NativeReader(name="house", model="m", limits=Limits())
    if name == "lenient":
        return LenientReader(name="house", model="m", limits=Limits(), echo=BODY)
    call = Call("create", BODY, "m", True, name, name)
    emitter = Emitter(response_id="resp_1", created_at=7, model="m", echo=BODY, stamp="house")
    return TranslatedReader(built_in(name).translator(call, emitter), emitter, Limits())


def wire(event: Json) -> bytes:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def pieces_of(name: str, count: int) -> list[bytes]:
    """One event a piece, as streams come that are written by a model."""
    done = [b"data: [DONE]\n\n"] if name == "chat" else []
    return [*map(wire, STREAMS[name](count)), *done]


def cost(make: Callable[[], Reader], pieces: list[bytes]) -> float:
    """Microseconds of CPU per event."""
    reader = make()
    began = time.process_time()
    for piece in pieces:
        reader.feed(piece)
    reader.close()
    used = time.process_time() - began
    assert reader.terminal == "completed", reader.terminal
    return used / len(pieces) * 1e6


def measured(name: str, count: int, rounds: int) -> list[float]:
    pieces = pieces_of(name, count)
    cost(lambda: reader_of(name), pieces)
    return sorted(cost(lambda: reader_of(name), pieces) for _ in range(rounds))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    floor = 0.0
    for name in STREAMS:
        costs = measured(name, count, rounds)
        middle = statistics.median(costs)
        floor = middle if name == "native" else floor
        spread = f"{costs[0]:.2f} to {costs[-1]:.2f}"
        print(f"{name:10} {middle:6.2f} us an event ({spread}), {middle - floor:+6.2f} over native")
    print(f"the budget of a chat event is {TARGET:.0f} us over native")


if __name__ == "__main__":
    main()
