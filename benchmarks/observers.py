"""What it costs to be observed: microseconds of CPU for each request and each stream, for each observer.

    python benchmarks/observers.py [ROUNDS]

One process and no socket: a transport that answers at once, a client that takes whatever is sent, the same requests
with and without each observer, in turns, so that a noisy machine troubles all of them alike. The figure is the median
of the rounds' differences to the gateway that nobody observes; in brackets the quartiles.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from starlette.types import Message, Scope

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.opentelemetry import OpenTelemetryObserver
from gomodel_asgi.contrib.prices import Priced
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.observers import AsyncObserver, LoggingObserver, Record
from gomodel_asgi.transport import UpstreamRequest

EVENTS = 100
REQUESTS = 100  # of each kind in a round

USAGE = {"input_tokens": 100, "output_tokens": EVENTS, "total_tokens": EVENTS + 100}
RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-4o", "status": "completed", "output": [{}] * 5}
UNARY = json.dumps(RESPONSE | {"usage": USAGE}).encode()
DELTA = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "delta": "word "}


def event(given: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (given["type"].encode(), json.dumps(given).encode())


STREAM = [
    event({"type": "response.created", "response": RESPONSE}),
    *[event(DELTA)] * EVENTS,
    event({"type": "response.completed", "response": RESPONSE | {"usage": USAGE}}),
]


class Upstream:
    """A reply that is there already: one piece for each read."""

    resumable = True
    status = 200

    def __init__(self, pieces: list[bytes], content_type: bytes) -> None:
        self.pieces = iter([*pieces, b""])
        self.headers = [(b"content-type", content_type)]

    async def read(self, timeout: float) -> bytes:
        return next(self.pieces)

    async def aclose(self) -> None:
        pass


class Instant:
    """A transport without a network, whose replies are *unary* and *stream*."""

    def __init__(self, unary: bytes = UNARY, stream: list[bytes] = STREAM) -> None:
        self.unary = unary
        self.stream = stream

    async def open(self, request: UpstreamRequest) -> Upstream:
        if b'"stream":true' in (request.body or b""):
            return Upstream(self.stream, b"text/event-stream")
        return Upstream([self.unary], b"application/json")

    async def aclose(self) -> None:
        pass


SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "method": "POST",
    "path": "/v1/responses",
    "raw_path": b"/v1/responses",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
}


async def ask(gateway: Gateway, stream: bool) -> None:
    body = b'{"model":"gpt-4o","input":"Hello","stream":%s}' % (b"true" if stream else b"false")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        pass

    await gateway(dict(SCOPE), receive, send)


async def spent(gateway: Gateway, stream: bool) -> float:
    """Microseconds of CPU for one request."""
    started = time.process_time()
    for _ in range(REQUESTS):
        await ask(gateway, stream)
    await asyncio.sleep(0)
    return (time.process_time() - started) / REQUESTS * 1e6


def ignore(record: Record) -> None:
    pass


async def sink(record: Record) -> None:
    pass


def quiet() -> logging.Logger:
    """A logger that formats each line and writes it nowhere."""
    logger, handler = logging.getLogger("benchmark"), logging.StreamHandler(open("/dev/null", "w"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger


OBSERVERS: dict[str, Callable[[], list[Any]]] = {
    "nobody": lambda: [],
    "nobody again (noise)": lambda: [],
    "a function that does nothing": lambda: [ignore],
    "LoggingObserver": lambda: [LoggingObserver(quiet())],
    "AsyncObserver": lambda: [AsyncObserver(sink, queue=100_000)],
    "PrometheusObserver": lambda: [PrometheusObserver(CollectorRegistry())],
    "OpenTelemetryObserver": lambda: [OpenTelemetryObserver(TracerProvider(), MeterProvider())],
    "Priced": lambda: [Priced(ignore)],
}


async def main(rounds: int) -> None:
    provider = Provider("openai", "http://127.0.0.1:9/v1", api_key="k")
    gateways = {
        name: Gateway(providers=[provider], transport=Instant(), observers=make()) for name, make in OBSERVERS.items()
    }
    figures: dict[tuple[str, bool], list[float]] = {(name, stream): [] for name in gateways for stream in (False, True)}
    for number in range(rounds + 1):
        for key, found in figures.items():
            cost = await spent(gateways[key[0]], key[1])
            if number:  # the first round warms up
                found.append(cost)
    report(figures)
    for gateway in gateways.values():
        await gateway.aclose()


def report(figures: dict[tuple[str, bool], list[float]]) -> None:
    print(f"{'microseconds of CPU':32} {'per request':>22} {f'per stream of {EVENTS} events':>28}")
    for name in OBSERVERS:
        cells = []
        for stream in (False, True):
            found, base = figures[name, stream], figures["nobody", stream]
            extra = found if name == "nobody" else [one - other for one, other in zip(found, base, strict=True)]
            low, middle, high = statistics.quantiles(extra, n=4)
            cells.append(f"{'' if name == 'nobody' else '+'}{middle:.0f} [{low:.0f} to {high:.0f}]")
        print(f"{name:32} {cells[0]:>22} {cells[1]:>28}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
