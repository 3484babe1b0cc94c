"""What it costs to look at a body, or at a reply, before anything is made of it: seconds, memory and the longest step.

    python -m benchmarks.checks [MIB ...]          # 1, 8 and 32 by default

Bodies of one kind of bytes each, as a hostile client would send them, through each check that the gateway makes. CPU
time of this process, no I/O; the best of five runs. Memory is the most that was held at once beside the text, as
`tracemalloc` counts it in a run of its own, over the size of the text. A step is what runs between two turns of the
event loop.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.history.mentions import lists_of, mentions_of
from gomodel_asgi.operations import BODY
from gomodel_asgi.settings import MIB, Limits
from gomodel_asgi.wire.json_body import Envelope
from gomodel_asgi.wire.json_pieces import read_object
from gomodel_asgi.wire.json_scan import Unreadable, counted
from gomodel_asgi.wire.usage import estimated

Steps = Generator[None, None, Any]

LIMITS = Limits()
RUNS = 5
RANDOM = bytes(random.Random(1).choices(b'"a', k=64 * 1024)).replace(b'"', rb"\"")
TEXT = rb"Lorem \"ipsum\" dolor, sit [amet].\n" * 120
TURN = b'{"role":"user","content":[{"type":"input_text","text":"%b"}]}' % TEXT
SPOKEN = TURN.replace(b"Lorem", b"item_reference")


def string(piece: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"model":"m","input":"%b"}' % (piece * (size // len(piece)))


def array(element: bytes) -> Callable[[int], bytes]:
    return lambda size: b'{"model":"m","input":[%b%b]}' % ((element + b",") * (size // (len(element) + 1)), element)


KINDS: dict[str, Callable[[int], bytes]] = {
    "text": string(b"Plain text, as it is written. "),
    "base64": string(b"iVBORw0KGgoAAAANSUhEUgAA"),
    "text in another script": string("\u00e9t\u00e9 \u6f22\u5b57 ".encode()),
    "escapes": string(rb"\n"),
    "escaped quotes": string(rb"\""),
    "escapes at random": string(RANDOM),
    "opening brackets": lambda size: b'{"model":"m","input":' + b"[" * size,
    "pairs of brackets": array(b"[]"),
    "nested brackets": array(b"[" * 100 + b"]" * 100),
    "empty strings": array(b'""'),
    "digits": lambda size: b'{"model":"m","input":%b}' % (b"1" * size),
    "items": array(b"1"),
    "white space": lambda size: b'{"model":"m","input":%b1}' % (b" " * size),
    "a conversation": array(TURN),
    "a conversation about references": array(SPOKEN),
}


def mentioned(data: bytes) -> Steps:
    """What a body names of others, once it is open."""
    envelope = Envelope.parse(data, LIMITS)

    def steps() -> Steps:
        lists = yield from lists_of(BODY, envelope.members)
        return (yield from mentions_of(BODY, envelope.members, envelope.raw, lists, strict=True))

    return steps()


CHECKS: dict[str, Callable[[bytes], Steps]] = {
    "a body is opened": lambda data: Envelope.opening(data, LIMITS),
    "what it names is looked for": mentioned,
    "a reply is opened": lambda data: read_object(data, depth=0, values=len(data), most=10_000),
    "a tree may be built": lambda data: counted(data, depth=LIMITS.depth, values=LIMITS.values),
    "tokens are estimated": estimated,
}


def outcome(steps: Steps) -> tuple[str, float, float]:
    """Whether the check passes; the seconds of all its steps, and of the longest."""
    whole = longest = 0.0
    while True:
        began = time.process_time()
        try:
            next(steps)
        except StopIteration:
            result = "passes"
        except (InvalidRequest, Unreadable):
            result = "refused"
        else:
            result = ""
        took = time.process_time() - began
        whole, longest = whole + took, max(longest, took)
        if result:
            return result, whole, longest


def memory(steps: Steps) -> int:
    tracemalloc.start()
    outcome(steps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    sizes = [int(given) for given in sys.argv[1:]] or [1, 8, 32]
    for name, check in CHECKS.items():
        print(f"\n| {name} | MiB | seconds | ns a byte | longest step, ms | memory | |\n|---|---|---|---|---|---|---|")
        for kind, make in KINDS.items():
            for size in sizes:
                data = make(size * MIB)
                try:
                    result, whole, longest = min((outcome(check(data)) for _ in range(RUNS)), key=lambda run: run[1])
                except InvalidRequest:
                    continue  # it comes to that check no more
                held = memory(check(data)) / len(data)
                figures = f"{whole:.4f} | {whole / len(data) * 1e9:.2f} | {longest * 1e3:.1f} | {held:.3f}"
                print(f"| {kind} | {size} | {figures} | {result} |", flush=True)


if __name__ == "__main__":
    main()
