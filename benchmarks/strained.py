"""The apps of the load runs: as `app.py`, but one gives up soon and holds little, and one lets few in."""

from __future__ import annotations

import os
import sys

from starlette.types import Receive, Scope, Send

from gomodel_asgi import Gateway, Limits, MemoryStore, Provider, RoutingRequest, Target, Timeouts

from .app import UPSTREAM

SOON = Timeouts(connect=2, pool=10, policy=5, first_event=4, unary=4, idle=4, gate=1, heartbeat=1)
FULL_SOON = 4 << 20  # bytes: records fill the store well within the first tenth, so that growth behind it is a leak
LITTLE = Limits(body=1 << 20, reply=2 << 20, event=1 << 20)
AT_A_TIME = int(os.environ.get("AT_A_TIME", "32"))


async def route(request: RoutingRequest) -> Target:
    """The model says where to go: to nobody, or with another key; one name makes the policy itself fail."""
    match request.model:
        case "raise":
            raise LookupError("The policy is broken, as it should be.")
        case "nowhere":
            return Target("nowhere")
        case "other tenant":
            return Target("bench", api_key="sk-other-tenant")
    return Target("bench")


impatient = Gateway(
    providers=[
        Provider("bench", UPSTREAM, api_key="sk-bench"),
        Provider("nowhere", "http://127.0.0.1:1/v1", api_key="sk-nowhere"),
    ],
    policy=route,
    timeouts=SOON,
    limits=LITTLE,
    store=MemoryStore(max_bytes=FULL_SOON),
)


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """`impatient`, which also says at `/blocks` how many blocks of memory the interpreter has in use."""
    if scope["type"] != "http" or scope["path"] != "/blocks":
        return await impatient(scope, receive, send)
    body = b"%d" % sys.getallocatedblocks()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


limited = Gateway(
    providers=[Provider("bench", UPSTREAM, api_key="sk-bench", max_concurrency=AT_A_TIME)],
    policy=route,
    timeouts=Timeouts(pool=0.2),
)
