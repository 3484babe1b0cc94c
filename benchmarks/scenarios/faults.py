"""Many requests, a fifth of them with a fault: each outcome is the one defined, and nothing is left behind.

Faults of the upstream (`benchmarks/faults.py`), of the client and of the host's policy are drawn evenly. What is
counted as wrong: another outcome than the fault's own, a good request without its own whole answer, memory that grows
after the first tenth, sockets that are left.

Memory is read twice over. Resident memory comes in steps of the interpreter's arenas (1 MiB) and stays where the most
that ever met by chance has pushed it: so the first tenth is harsher than the rest, and fills the store. What a leak of
less than an arena adds is seen in the number of blocks that the interpreter has allocated.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .. import serving
from ..client import Connection, body_of, connect, once, request_of
from ..faults import FAULTS
from ..replies import arriving, arriving_unary

AT_A_TIME = 96
SHARE = 0.2
HARSHER = 2  # times the clients and the share of faults, in the first tenth
PARTS = 20  # of the run, with memory read after each
WARM = 2  # of them, the first tenth
GROWTH = 0.01  # of memory, from the end of the first tenth to that of the run
DELTAS = 5
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""For glibc: large buffers go back to the system when they are freed. Else resident memory follows the largest replies
that met by chance, a few MB up and down, and hides what is really held."""
REST = 1.0  # seconds before memory is read
CLIENT_FAULTS = {
    "client: half JSON": (request_of(b'{"model": "bench", '), "400"),
    "client: not JSON": (request_of(b"\xff\xfe"), "400"),
    "client: wrong type": (request_of(b'{"model": 7}'), "400"),
    "client: GET": (b"GET /v1/responses HTTP/1.1\r\nhost: x\r\n\r\n", "405"),
    "client: text": (b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "415"),
    "client: elsewhere": (b"GET /v1/responses/..%2f HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
    "client: too large": (b"POST /v1/responses HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                          b"content-length: 99999999\r\n\r\n", "413"),
    "client: unknown hint": (request_of(b'{"model": "bench", "provider": "a"}').replace(
        b"host: x", b"host: x\r\nx-gomodel-provider: b"), "400"),
    "host: policy raises": (request_of(body_of(False, "raise")), "500"),
    "upstream refuses": (request_of(body_of(False, "nowhere")), "502 503"),
}  # fmt: skip
ALONE = ("late surplus",)
"""What comes on a connection after its next request has gone out is read as the answer to that: nobody can tell. It
must stay among the requests that use the same credential."""
LEAVES = ("client: leaves at once", "client: leaves in the body", "client: leaves in the stream")


@dataclass
class Run:
    """What is counted. *bad* holds `"case: outcome"` for whatever was not as it should be."""

    port: int
    chance: random.Random
    share: float = SHARE
    left: int = 0
    done: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    cases: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name, fault in FAULTS.items():
            self.cases += [(name, stream) for stream, due in ((False, fault.unary), (True, fault.stream)) if due]
        self.cases += [(name, False) for name in (*CLIENT_FAULTS, *LEAVES)]

    def count(self, case: str, outcome: str, due: str) -> None:
        self.done[case] += 1
        if outcome not in due.split():
            self.bad[f"{case}: {outcome}"] += 1


async def client(run: Run) -> None:
    """Ask until nothing is left to ask, on one connection as long as that lasts."""
    connection: Connection | None = None
    while run.left > 0:
        run.left -= 1
        if connection is None or not connection.reusable:
            if connection is not None:
                connection.abort()
            connection = await connect(run.port)
        await ask(run, connection)
    if connection is not None:
        connection.abort()


async def ask(run: Run, connection: Connection) -> None:
    name, stream = "good", run.chance.random() < 0.5
    if run.chance.random() < run.share:
        name, stream = run.chance.choice(run.cases)
    if name in LEAVES:
        return await leave(run, connection, name)
    if name in CLIENT_FAULTS:
        data, due = CLIENT_FAULTS[name]
        await connection.ask(data)
        return run.count(name, str(connection.status), due)
    tag = f"t{run.chance.getrandbits(60):015x}"
    knobs = {"fault": name} if name in FAULTS else {}
    model = "other tenant" if name in ALONE else "bench"
    await connection.ask(request_of(body_of(stream, model, tag=tag, events=DELTAS, **knobs)))
    expects = (FAULTS[name].stream if stream else FAULTS[name].unary) if knobs else "whole"
    run.count(f"{name} ({'stream' if stream else 'unary'})", outcome(connection, tag, stream), expects or "")


async def leave(run: Run, connection: Connection, name: str) -> None:
    data = request_of(body_of(True, tag="leaver", events=DELTAS, gap_ms=20))
    connection.begin(data[:-20] if name.endswith("body") else data)
    if name.endswith("stream"):
        await connection.begun()
    connection.abort()
    run.count(name, "left", "left")


def outcome(connection: Connection, tag: str, stream: bool) -> str:
    """Which of the outcomes of `faults.py` it was; anything else has a name in capitals."""
    body = connection.body
    if b"resp_foreign" in body or (b"resp_t" in body and b"resp_" + tag.encode() not in body):
        return "FOREIGN"
    if connection.status and connection.status != 200:
        return str(connection.status) if connection.whole and b'"error"' in body else "ODD ERROR"
    if not connection.whole:
        return "broken"
    if body == (arriving(tag, DELTAS) if stream else arriving_unary(tag)):
        return "whole"
    if b"response.failed" in body:
        return "event"
    return "passed" if b'"completed"' in body and b"resp_" + tag.encode() in body else "INCOMPLETE"


async def run(scale: float) -> bool:
    requests = max(500, int(100_000 * scale))
    target = "benchmarks.strained:counted"
    with serving.upstream() as upstream, serving.gateway(target, upstream.port, env=GIVES_BACK) as gateway:
        work = Run(gateway.port, random.Random(requests))
        start = await asyncio.to_thread(gateway.settled_sockets, 0, 1.0)
        await first_good(work)
        began, used = time.perf_counter(), gateway.cpu()
        parts = PARTS if requests >= 10_000 else WARM + 2
        held = [await part(work, gateway, requests // parts, number < WARM) for number in range(parts)]
        seconds, cpu = time.perf_counter() - began, gateway.cpu() - used
        sockets = await asyncio.to_thread(gateway.settled_sockets, start)
    memory, blocks = zip(*held, strict=True)
    grown = growth(memory[WARM - 1 :]), growth(blocks[WARM - 1 :])
    print(
        f"{sum(work.done.values())} requests, {faulty(work)} with one of {len(work.cases)} faults, in {seconds:.0f} s"
    )
    print(f"{cpu / requests * 1e6:.0f} us of CPU a request; sockets {start} before, {sockets} after")
    print(f"MB of memory after each part: {', '.join(f'{size / 1e6:.1f}' for size in memory)}")
    print(f"thousands of blocks: {', '.join(f'{count / 1e3:.1f}' for count in blocks)}")
    print(f"growth after the first tenth, on the line that fits best: {grown[0]:+.2%}, blocks {grown[1]:+.2%}")
    for case, count in sorted(work.bad.items()):
        print(f"  WRONG {count:6} x {case}")
    return not work.bad and sockets <= start and (max(grown) < GROWTH or scale < 1)


async def part(work: Run, gateway: serving.Server, requests: int, harsher: bool) -> tuple[int, int]:
    """So many of the requests; the gateway's memory after them: bytes, blocks."""
    times = HARSHER if harsher else 1
    work.left, work.share = requests, SHARE * times
    await asyncio.gather(*(client(work) for _ in range(AT_A_TIME * times)))
    await asyncio.sleep(REST if requests > 1000 else 0)
    return gateway.held(), int((await once(work.port, b"GET /blocks HTTP/1.1\r\nhost: x\r\n\r\n")).body)


def growth(sizes: Sequence[int]) -> float:
    """How much the straight line that fits *sizes* best rises from the first to the last, as a share of its start."""
    slope, start = statistics.linear_regression(range(len(sizes)), sizes)
    return slope * (len(sizes) - 1) / start


async def first_good(work: Run) -> None:
    """Good requests only, so that no breaker judges by the first ten."""
    connection = await connect(work.port)
    for number in range(100):
        await connection.ask(request_of(body_of(False, tag=f"t{number:015x}")))
    connection.abort()


def faulty(work: Run) -> int:
    return sum(count for case, count in work.done.items() if not case.startswith("good"))
