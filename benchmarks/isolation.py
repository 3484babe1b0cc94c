"""Whether every answer is its own: many tenants, one transport, an upstream that misbehaves, clients that give up.

    python benchmarks/isolation.py [REQUESTS] [TENANTS]

The upstream echoes who asked and what. In about a fifth of its replies it does something wrong: bytes or a whole
foreign reply after the end, a close in the middle, at once, or just after a good reply, a broken chunk. A tenth of the
requests are cancelled at a random moment. Each reply that gets through is compared with its request; afterwards the
pool must hold nothing but idle connections. No figure here depends on time.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections import Counter
from typing import cast

from gomodel_asgi.errors import GatewayError
from gomodel_asgi.transport import Http11Transport, UpstreamRequest

FOREIGN = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nforeign"
AT_A_TIME = 64


class Misbehaving(asyncio.Protocol):
    """Answers each request with its own `x-tenant` and body, more or less."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0 and not self.transport.is_closing():
            head, rest = self.buffer[:end], self.buffer[end + 4 :]
            length = int(header(head, b"content-length"))
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            self.answer(header(head, b"x-tenant") + b" " + rest[:length])

    def answer(self, echo: bytes) -> None:
        good = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(echo), echo)
        parts = b"%x\r\n%s\r\n%x\r\n%s\r\n" % (3, echo[:3], len(echo) - 3, echo[3:])
        streamed = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + parts
        kind = self.chance.randrange(35)
        if kind < 14:
            self.transport.write(good)
        elif kind < 28:
            self.transport.write(streamed + b"0\r\n\r\n")
        else:
            self.misbehave(kind, good, streamed)

    def misbehave(self, kind: int, good: bytes, streamed: bytes) -> None:
        faults = {28: good + FOREIGN, 29: streamed + b"0\r\n\r\n" + FOREIGN, 30: good[:-2], 31: b"", 32: good}
        self.transport.write(faults.get(kind, streamed + b"zz\r\n"))
        if kind == 33:  # the foreign reply comes when the connection is idle, or somebody else's
            asyncio.get_running_loop().call_soon(self.transport.write, FOREIGN)
        elif kind in (30, 31, 32):
            self.transport.close()


def header(head: bytes, name: bytes) -> bytes:
    return head.split(b"\r\n" + name + b": ", 1)[1].split(b"\r\n", 1)[0]


async def ask(transport: Http11Transport, port: int, tenant: int, number: int) -> str:
    """One request: `"own"`, `"failed"`, or `"FOREIGN"`."""
    body = b"request %d" % number
    headers = [(b"x-tenant", b"%d" % tenant)]
    request = UpstreamRequest(b"POST", "http", "127.0.0.1", port, b"/", headers, body, f"tenant {tenant}")
    received = b""
    try:
        reply = await transport.open(request)
        try:
            while chunk := await reply.read(10):
                received += chunk
        finally:
            await reply.aclose()
    except GatewayError:
        return "failed" if (b"%d %s" % (tenant, body)).startswith(received) else "FOREIGN"
    return "own" if received == b"%d %s" % (tenant, body) else "FOREIGN"


async def client(transport: Http11Transport, port: int, numbers: range, tenants: int, found: Counter[str]) -> None:
    chance = random.Random(numbers.start)
    for number in numbers:
        task = asyncio.ensure_future(ask(transport, port, chance.randrange(tenants), number))
        if chance.randrange(10) == 0:
            for _ in range(chance.randrange(8)):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        found["cancelled" if task.cancelled() else task.result()] += 1


async def run(requests: int, tenants: int) -> Counter[str]:
    """Outcomes by name, and what the transport still holds: `open` and `idle` must be the same, `waiting` nothing."""
    loop = asyncio.get_running_loop()
    chance = random.Random(requests)
    server = await loop.create_server(lambda: Misbehaving(chance), "127.0.0.1", 0, backlog=1024)
    transport = Http11Transport()
    found: Counter[str] = Counter()
    share = requests // AT_A_TIME
    port = server.sockets[0].getsockname()[1]
    turns = [range(share * i, share * (i + 1)) for i in range(AT_A_TIME)]
    await asyncio.gather(*(client(transport, port, turn, tenants, found) for turn in turns))
    pools = transport._pools()
    found["open"] = sum(pool.open for pool in pools.pools.values())
    found["idle"] = len(pools.idle)
    found["waiting"] = sum(len(pool.waiting) for pool in pools.pools.values())
    await transport.aclose()
    server.close()
    return found


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    tenants = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    began, used = time.perf_counter(), time.process_time()
    found = asyncio.run(run(requests, tenants))
    for name, count in sorted(found.items()):
        print(f"{name:10} {count}")
    print(
        f"{time.perf_counter() - began:.1f} s, {time.process_time() - used:.1f} s of CPU, upstream and client together"
    )
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")
    sys.exit(1 if found["FOREIGN"] or found["open"] != found["idle"] or found["waiting"] else 0)


if __name__ == "__main__":
    main()
