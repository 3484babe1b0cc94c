"""`background: true` on a task queue: web processes take the requests, workers do the work, Redis stands between them.

    export REDIS_URL=redis://localhost:6379/0 STATE_SECRET=... ANTHROPIC_API_KEY=sk-ant-...
    uvicorn --app-dir examples task_queue:app
    python examples/task_queue.py

Without a queue the web process itself works on such a response, and one that it was working on when it was killed is
found failed. With Celery, Dramatiq, arq or SAQ it is the same two calls: `enqueue` hands a ticket (a short text) to the
queue, and the task calls `gateway.run_background(ticket)`. A ticket that is delivered twice is worked on once.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from accounts import ACCOUNTS, TokenBackend
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.types import Scope

from gomodel_asgi import Gateway, GoModelMiddleware, policies, providers
from gomodel_asgi.errors import GatewayError
from gomodel_asgi.stores import RedisStore

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
QUEUE = "responses"

gateway = Gateway(
    providers=providers.from_env(),
    policy=policies.authenticated(policies.hint),
    store=RedisStore(URL, secret=os.environ["STATE_SECRET"]),
)


async def enqueue(ticket: str) -> None:
    """In the web process: give the ticket to the queue."""
    async with Redis.from_url(URL) as redis:
        await redis.lpush(QUEUE, ticket)


gateway.background.enqueue = enqueue

app = Starlette(
    middleware=[
        Middleware(AuthenticationMiddleware, backend=TokenBackend()),
        Middleware(GoModelMiddleware, gateway=gateway),
    ]
)


def scope_of(ticket: str) -> Scope:
    """What the policy is to see in the worker: the user whose response it is."""
    tenant = json.loads(ticket)["tenant"]
    user = next((account for account in ACCOUNTS.values() if account.identity == tenant), None)
    return {"type": "http", "headers": [], "state": {}, "user": user}


async def work() -> None:
    """In a worker process: one ticket after the other. Start as many workers as should work at a time."""
    print("Waiting for background responses.", flush=True)
    async with gateway, Redis.from_url(URL) as redis:
        while True:
            popped: Any = await redis.brpop([QUEUE])
            ticket = popped[1].decode()
            try:
                await gateway.run_background(ticket, scope=scope_of(ticket))
            except GatewayError as error:
                print(f"A response was refused: {error.message}", flush=True)


if __name__ == "__main__":
    asyncio.run(work())
