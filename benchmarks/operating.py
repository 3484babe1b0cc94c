"""What each operating feature costs: microseconds of CPU for each request and each stream, one switched on at a time.

    python -m benchmarks.operating [--rounds 20] [--requests 50] [--beside COMMIT]

One process and no socket: a transport that answers at once, a client that takes whatever is sent. The same requests go
through a gateway with nothing switched on and through one for each feature, by turns; the figure is the median of the
rounds' differences to the former, in brackets the quartiles. CPU is that of the whole process, so worker threads count.
*COMMIT* is run too, with nothing switched on, in a process of its own and by the same turns: its figure, less that of
this version's process with nothing switched on, says what the features cost where they are not used.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import itertools
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from gomodel_asgi import Gateway, Provider, Target

from . import serving
from .observers import SCOPE, Instant

EVENTS = 100
CARD = re.compile(r"\b(?:\d[ -]?){12,18}\d\b")
QUESTION = "Where do the birds go when it rains, and who tells them to? " * 8

# What the upstream says...


def _response(status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": 120, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": EVENTS,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": EVENTS + 120,
    }  # fmt: skip
    known = {"id": "resp_1", "object": "response", "created_at": 1764000000, "model": "gpt-4o", "status": status}
    return known | {"output": output, "usage": usage if status == "completed" else None, "error": None}


def _events() -> Iterator[dict[str, Any]]:
    """A stream of `EVENTS` deltas, complete as the API has it."""
    text = "word " * EVENTS
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    done = item | {"status": "completed", "content": [part | {"text": text}]}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": _response("in_progress", [])}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", **place, "part": part}
    for _ in range(EVENTS):
        yield {"type": "response.output_text.delta", **place, "delta": "word ", "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part | {"text": text}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": done}
    yield {"type": "response.completed", "response": _response("completed", [done])}


def _written(number: int, event: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (
        event["type"].encode(),
        json.dumps(event | {"sequence_number": number}).encode(),
    )


ALL = list(_events())
STREAM = [_written(number, event) for number, event in enumerate(ALL)]
UNARY = json.dumps(ALL[-1]["response"]).encode()


# What is switched on...


async def route(request: object) -> Target:
    return Target("openai")


def price(*used: object) -> Decimal:
    return Decimal("0.0025")


async def look(given: Any) -> None:
    """A guard that finds nothing, on the loop."""
    for text in given.texts:
        CARD.search(text)


def look_in_a_thread(given: Any) -> None:
    """The same as a plain function, which a worker thread runs."""
    for text in given.texts:
        CARD.search(text)


def _quotas() -> dict[str, Any]:
    from gomodel_asgi.quotas import Quota, Quotas

    async def rules(request: object) -> list[Quota]:
        return [Quota("minute", per="minute", requests=2**50, tokens=2**50), Quota("month", per="month", money=10**6)]

    return {"quotas": Quotas(rules, price=price)}


def _ledger() -> dict[str, Any]:
    from gomodel_asgi.ledger import Ledger

    from .ledger import Nowhere

    return {"ledger": Ledger(Nowhere("/nowhere"), price=price)}


def _guards(**given: Any) -> dict[str, Any]:
    from gomodel_asgi.guards import Guard

    return {"guards": [Guard("cards", **given)]}


def _cache() -> dict[str, Any]:
    from gomodel_asgi.cache import ResponseCache

    async def always(request: object) -> bool:
        return True

    return {"cache": ResponseCache(when=always)}


def _everything() -> dict[str, Any]:
    return _quotas() | _ledger() | _guards(input=look, output=look, hold=200) | _cache()


FEATURES: dict[str, Callable[[], dict[str, Any]]] = {
    "nothing": lambda: {},
    "nothing again (noise)": lambda: {},
    "a function that observes nothing": lambda: {"observers": [lambda record: None]},
    "quotas in memory: requests, tokens, money": _quotas,
    "ledger, its sink not counted": _ledger,
    "guard of the input": lambda: _guards(input=look),
    "guard of the input, in a thread": lambda: _guards(input=look_in_a_thread),
    "guard of the output, hold=200": lambda: _guards(output=look, hold=200),
    "guard of the output, hold='all'": lambda: _guards(output=look),
    "guard of both, hold=200": lambda: _guards(input=look, output=look, hold=200),
    "cache, a miss and its entry": _cache,
    "cache, a hit": _cache,
    "console, that nobody looks at": lambda: {},
    "all of it, and a miss": _everything,
}
NOTHING = "nothing"
WATCHED = ("console, that nobody looks at", "all of it, and a miss")
MISSES = ("cache, a miss and its entry", "all of it, and a miss")


def gateway_of(name: str) -> Gateway:
    """The gateway that has switched on what *name* says."""
    provider = Provider("openai", "http://127.0.0.1:9/v1", api_key="k")
    gateway = Gateway(providers=[provider], policy=route, transport=Instant(UNARY, STREAM), **FEATURES[name]())
    if name in WATCHED:
        from gomodel_asgi.console import Console

        Console(gateway, allow=lambda request: None)
    return gateway


# Measuring...


numbers = itertools.count()


async def ask(gateway: Gateway, stream: bool, fresh: bool) -> None:
    """One request: *fresh*, one that was never made before."""
    asked: dict[str, Any] = {"model": "gpt-4o", "input": QUESTION, "store": False, "stream": stream}
    if fresh:
        asked["metadata"] = {"number": str(next(numbers))}
    body, answered = json.dumps(asked, separators=(",", ":")).encode(), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        answered.append(message.get("status"))

    await gateway(dict(SCOPE), receive, send)
    if answered[0] != 200:
        raise SystemExit(f"answered with {answered[0]}")


async def spent(gateway: Gateway, stream: bool, fresh: bool, requests: int) -> float:
    """Microseconds of CPU for one of so many *requests*."""
    began = time.process_time()
    for _ in range(requests):
        await ask(gateway, stream, fresh)
    await asyncio.sleep(0)
    return (time.process_time() - began) / requests * 1e6


class Other:
    """Another process that measures a gateway with nothing switched on, when it is told to."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.operating", "--answer"],
            cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.communicate()

    def spent(self, stream: bool, requests: int) -> float:
        """Microseconds of CPU for one request there."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(int(stream), requests, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


async def answer() -> None:
    """What `Other` runs."""
    gateway = gateway_of(NOTHING)
    for line in sys.stdin:
        stream, requests = map(int, line.split())
        print(await spent(gateway, bool(stream), False, requests), flush=True)
    await gateway.aclose()


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The package as of *commit*, beside the benchmarks as they are."""
    with tempfile.TemporaryDirectory() as directory:
        packed = subprocess.run(
            ["git", "archive", commit, "gomodel_asgi"], cwd=serving.ROOT, check=True, stdout=subprocess.PIPE
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(directory, filter="data")
        (Path(directory) / "benchmarks").symlink_to(serving.ROOT / "benchmarks")
        yield Path(directory)


Figures = dict[tuple[str, bool], list[float]]


async def measure(rounds: int, requests: int, others: dict[str, Other]) -> Figures:
    """The microseconds of each feature in each round, by turns."""
    gateways = {name: gateway_of(name) for name in FEATURES}
    figures: Figures = {(name, stream): [] for name in (*FEATURES, *others) for stream in (False, True)}
    for number in range(rounds + 1):
        gc.collect()
        for (name, stream), found in figures.items():
            if name in others:
                cost = await asyncio.to_thread(others[name].spent, stream, requests)
            else:
                cost = await spent(gateways[name], stream, name in MISSES, requests)
            if number:  # the first round warms up, and fills the cache
                found.append(cost)
    for gateway in gateways.values():
        await gateway.aclose()
    return figures


def report(figures: Figures, base: dict[str, str]) -> None:
    """Print the table; *base* names what each is compared with."""
    print(f"{'microseconds of CPU':44} {'per request':>22} {f'per stream of {EVENTS} deltas':>26}")
    for name in dict.fromkeys(name for name, _ in figures):
        cells = []
        for stream in (False, True):
            found, other = figures[name, stream], figures.get((base.get(name, ""), stream))
            extra = found if other is None else [one - less for one, less in zip(found, other, strict=True)]
            low, middle, high = statistics.quantiles(extra, n=4)
            cells.append(f"{'' if other is None else '+' if middle >= 0 else ''}{middle:.0f} [{low:.0f} to {high:.0f}]")
        print(f"{name:44} {cells[0]:>22} {cells[1]:>26}")


async def main(rounds: int, requests: int, commit: str | None) -> None:
    base = {name: NOTHING for name in FEATURES if name != NOTHING}
    if commit is None:
        return report(await measure(rounds, requests, {}), base)
    here, there = "this version, nothing switched on", f"{commit}, nothing switched on"
    with checked_out(commit) as directory, Other(serving.ROOT) as ours, Other(directory) as theirs:
        figures = await measure(rounds, requests, {there: theirs, here: ours})
    report(figures, base | {here: there})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=50, help="of each kind, in each round")
    parser.add_argument("--beside", metavar="COMMIT")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(answer() if options.answer else main(options.rounds, options.requests, options.beside))
