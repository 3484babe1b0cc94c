"""How many steps of Python's one request takes: frames and modules of ours, and microseconds in a loop without network.

    python -m benchmarks.frames [--loops 2000] [--rounds 7] [--list] [--only native,chat,large]

A frame is the call of a Python function of this package, or one resumption of a coroutine of its own; what libraries do
is no concern of this count. `native` is a small unary request to a native upstream, `chat` a stream of two deltas from
a Chat Completions upstream, `large` a native request with 256 KiB of items. The gateway runs in this process, its
transport gives replies that stand ready, so that nothing is in these figures but the package. The time is the least of
the rounds, in this process's CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Literal

from starlette.types import Message, Scope

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.seams.transport import Headers, UpstreamReply, UpstreamRequest

PACKAGE = "gomodel_asgi/"
LONG = 3600.0  # seconds


def encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


CONTENT = [{"type": "output_text", "text": "Hello.", "annotations": []}]
OUTPUT = [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": CONTENT}]
UNARY = encoded(
    {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "bench",
        "output": OUTPUT, "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }
)  # fmt: skip


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    return b"data: " + encoded({**head, "choices": [choice]}) + b"\n\n"


STREAM = (
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hel"}),
    chunk({"content": "lo."}),
    chunk({}, "stop") + b"data: [DONE]\n\n",
)

WORDS: dict[str, Any] = {"model": "bench", "provider": "bench", "input": "hello world " * 20}
ITEMS = [
    {
        "role": "user" if number % 2 else "assistant",
        "content": [{"type": "input_text", "text": 'lorem ipsum "dolor" sit amet\n' * 42}],
    }
    for number in range(200)
]
CASES: dict[str, tuple[Literal["responses", "chat"], dict[str, Any], tuple[bytes, ...]]] = {
    "native": ("responses", WORDS, (UNARY,)),
    "chat": ("chat", {**WORDS, "stream": True}, STREAM),
    "large": ("responses", {**WORDS, "input": ITEMS}, (UNARY,)),
}
"""What is measured: the upstream's dialect, the body, and the pieces in which the upstream answers."""


class Given:
    """A reply that stands ready in *pieces*."""

    status = 200
    resumable = True

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        kind = b"application/json" if len(pieces) == 1 else b"text/event-stream"
        self.headers: Headers = [(b"content-type", kind)]
        self.pieces = iter(pieces)

    async def read(self, timeout: float) -> bytes:
        return next(self.pieces, b"")

    async def aclose(self) -> None:
        return None


class Ready:
    """A transport that gives the same reply to every request."""

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self.pieces = pieces

    async def open(self, request: UpstreamRequest) -> UpstreamReply:
        return Given(self.pieces)

    async def aclose(self) -> None:
        return None


async def route(request: RoutingRequest) -> Target:
    return Target(request.provider or "bench")


class Case:
    """One kind of request, asked of a gateway of its own."""

    def __init__(self, name: str) -> None:
        dialect, body, pieces = CASES[name]
        provider = Provider("bench", "http://127.0.0.1:9/v1", api_key="sk-bench", dialect=dialect)
        self.gateway = Gateway(providers=[provider], policy=route, transport=Ready(pieces))
        self.body = json.dumps(body).encode()
        self.headers = [
            (b"host", b"bench"), (b"content-type", b"application/json"), (b"accept", b"*/*"),
            (b"authorization", b"Bearer client"), (b"content-length", b"%d" % len(self.body)),
        ]  # fmt: skip

    def scope(self) -> Scope:
        return {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "root_path": "",
            "scheme": "http", "path": "/v1/responses", "raw_path": b"/v1/responses", "query_string": b"",
            "headers": self.headers, "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
        }  # fmt: skip

    async def ask(self) -> list[Message]:
        """One request: the messages that the server got."""
        sent: list[Message] = []
        come = [self.body]

        async def receive() -> Message:
            if not come:
                await asyncio.sleep(LONG)  # the client stays: who listens for its leaving waits
            return {"type": "http.request", "body": come.pop(), "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        await self.gateway(self.scope(), receive, send)
        return sent

    async def microseconds(self, loops: int, rounds: int) -> float:
        """The least CPU of a request, over *rounds* of so many *loops*."""
        least = float("inf")
        for _ in range(rounds):
            began = time.process_time()
            for _ in range(loops):
                await self.ask()
            least = min(least, (time.process_time() - began) / loops)
        return least * 1e6

    async def calls(self) -> collections.Counter[tuple[str, str]]:
        """The package's functions that one request calls, by module and name, and how often."""
        found: collections.Counter[CodeType] = collections.Counter()

        def called(frame: FrameType, event: str, argument: object) -> None:
            if event == "call":
                found[frame.f_code] += 1

        await traced(called, self.ask)
        counter: collections.Counter[tuple[str, str]] = collections.Counter()
        for code, times in found.items():
            _, ours, module = code.co_filename.rpartition(PACKAGE)
            if ours:
                counter[module, code.co_qualname] += times
        return counter


async def traced(called: Callable[[FrameType, str, object], None], ask: Callable[[], Any]) -> None:
    sys.setprofile(called)
    try:
        await ask()
    finally:
        sys.setprofile(None)


async def measured(name: str, loops: int, rounds: int, listed: bool) -> None:
    case = Case(name)
    first = await case.ask()
    assert first[0]["status"] == 200, first
    loops = max(1, loops // 10) if name == "large" else loops
    time = await case.microseconds(loops, rounds)
    calls = await case.calls()
    modules = {module for module, _ in calls}
    print(f"{name:7s} {calls.total():4d} frames in {len(modules):2d} modules, {time:7.1f} us a request", flush=True)
    if listed:
        for (module, function), times in sorted(calls.items()):
            print(f"  {times:3d}  {module}  {function}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--list", action="store_true", help="name each function and how often it is called")
    parser.add_argument("--only", default=",".join(CASES))
    options = parser.parse_args()
    for name in options.only.split(","):
        asyncio.run(measured(name, options.loops, options.rounds, options.list))


if __name__ == "__main__":
    main()
