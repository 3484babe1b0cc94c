"""What idle WebSocket connections cost, and what one event costs.

    python benchmarks/websocket.py [CONNECTIONS]

A server process (uvicorn, wsproto or websockets, whichever `--ws auto` takes) is measured from outside: its resident
memory before and after CONNECTIONS upgrades, then after each of them has had one turn with `store: false`, then after
all have left. The same with an app that accepts and does nothing says what of it is the server's own. The upstream is
a fake one in a process of its own. Afterwards one connection streams a long response, for the time per event.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CREATE = json.dumps({"type": "response.create", "model": "m", "input": "hello", "store": False})
DELTAS = 20_000

SERVER = """
import socket, sys, uvicorn
from gomodel_asgi import Gateway, Provider

async def nothing(scope, receive, send):
    if scope["type"] != "websocket":
        return
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})

kind, upstream = sys.argv[1:]
app = nothing if kind == "nothing" else Gateway(providers=[Provider("p", upstream)])
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_level="critical", ws_ping_interval=None, lifespan="off")
uvicorn.Server(config).run(sockets=[listener])
"""

UPSTREAM = """
import socket, sys, uvicorn
import json

def event(type, number, **members):
    return b"data: " + json.dumps({"type": type, "sequence_number": number, **members}).encode() + b"\\n\\n"

RESPONSE = {"id": "resp_1", "object": "response", "model": "m", "status": "completed", "output": []}

async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    deltas = DELTAS if b"long" in body else 1
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async def out(data):
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await out(event("response.created", 0, response=RESPONSE))
    piece = event("response.output_text.delta", 1, delta="word ", item_id="msg_1", output_index=0, content_index=0)
    for _ in range(deltas):
        await out(piece)
    await out(event("response.completed", 2, response=RESPONSE))
    await send({"type": "http.response.body", "body": b""})

listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[listener])
""".replace("DELTAS", str(DELTAS))


@contextmanager
def running(program: str, *arguments: str) -> Iterator[tuple[int, int]]:
    """A Python program that prints its port first; gives its process id and port."""
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def spent(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def opened(port: int, count: int) -> list[ClientConnection]:
    """*count* connections, fifty at a time."""
    connections: list[ClientConnection] = []
    url = f"ws://127.0.0.1:{port}/v1/responses"
    while len(connections) < count:
        some = min(50, count - len(connections))
        dials = (connect(url, ping_interval=None, proxy=None, compression=None) for _ in range(some))
        connections += await asyncio.gather(*dials)
    return connections


async def turn(connection: ClientConnection, frame: str = CREATE) -> int:
    """One response; how many events it had."""
    await connection.send(frame)
    events = 1
    while '"response.completed"' not in str(await connection.recv()):
        events += 1
    return events


async def closed(connections: list[ClientConnection]) -> None:
    await asyncio.gather(*(connection.close() for connection in connections))


async def idle(kind: str, upstream: str, count: int) -> None:
    with running(SERVER, kind, upstream) as (pid, port):
        await closed(await opened(port, 10))  # what is loaded on first use is not counted
        before = resident(pid)
        connections = await opened(port, count)
        report(kind, "idle", resident(pid) - before, count)
        if kind == "gateway":
            for number in range(0, count, 50):
                await asyncio.gather(*(turn(one) for one in connections[number : number + 50]))
            report(kind, "idle after a turn", resident(pid) - before, count)
            used, began = spent(pid), time.perf_counter()
            await asyncio.sleep(2)
            print(f"{kind:8} CPU of {count} idle connections: {(spent(pid) - used) / 2:.1%}")
            used, began = spent(pid), time.perf_counter()
            events = await turn(connections[0], CREATE.replace("hello", "long"))
            cpu, wall = spent(pid) - used, time.perf_counter() - began
            print(f"{kind:8} {events} events: {cpu / events * 1e6:.1f} us CPU, {wall / events * 1e6:.1f} us each")
        await closed(connections)
        report(kind, "left behind", resident(pid) - before, count)


def report(kind: str, what: str, size: Any, count: int) -> None:
    print(f"{kind:8} {what:18} {size / 1024:8.0f} KiB in all, {size / count / 1024:6.1f} KiB a connection")


async def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with running(UPSTREAM) as (_, port):
        for kind in ("nothing", "gateway"):
            await idle(kind, f"http://127.0.0.1:{port}/v1", count)


if __name__ == "__main__":
    asyncio.run(main())
