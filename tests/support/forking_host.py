"""A host that makes its gateway, perhaps uses it, and forks then, as servers do that load the app before their workers.

    python -m tests.support.forking_host UPSTREAM CHILDREN LOOP USES

*UPSTREAM* is the base URL of a Chat Completions API. The gateway is asked *USES* times before the fork, on an event
loop (*LOOP*: asyncio or uvloop) that stays open. Each of the *CHILDREN* serves a socket of its own with uvicorn. The
first line on standard output holds their ports and what the parent was answered, as JSON. For each line on standard
input the parent asks once more, and writes the answer. When that input ends, all end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from typing import Any

import uvicorn
import uvloop

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target


def by_thread(request: RoutingRequest) -> Target:
    """A plain function: it runs in a worker thread, and no thread survives a fork."""
    return Target("up")


def gateway_for(base_url: str) -> Gateway:
    provider = Provider("up", base_url, dialect="chat", api_key="sk-canary-house-key", max_concurrency=4)
    return Gateway(providers=[provider], policy=by_thread)


async def asked(gateway: Gateway) -> Any:
    """The response to a request of the parent's own."""
    return await (await gateway.respond({"model": "m", "input": "hi"})).json()


def serve(gateway: Gateway, listener: socket.socket, loop: str) -> None:
    uvicorn.Server(uvicorn.Config(gateway, log_level="critical", loop=loop)).run(sockets=[listener])


def main(base_url: str, children: int, kind: str, uses: int) -> None:
    gateway = gateway_for(base_url)
    loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
    answers = [loop.run_until_complete(asked(gateway)) for _ in range(uses)]
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(children)]
    pids = []
    for listener in listeners:
        pid = os.fork()
        if pid == 0:
            try:
                serve(gateway, listener, kind)
            finally:
                os._exit(0)
        pids.append(pid)
    try:
        say({"ports": [listener.getsockname()[1] for listener in listeners], "answers": answers})
        while sys.stdin.readline():
            say(loop.run_until_complete(asked(gateway)))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
