"""The app of `app.py` with quotas: `rules` gives a minute's requests and tokens and a month's money, all in memory.

    UPSTREAM=… uvicorn benchmarks.quotas:app
    python -m benchmarks.quotas

The second prints microseconds a request: what asking, reserving and settling three lines adds in this process, with the
counters in memory and with the price list or a price function of the host's.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from decimal import Decimal
from typing import Any

from gomodel_asgi import Gateway, Provider, RoutingRequest, Target
from gomodel_asgi.observers import Usage
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import FakeProvider

from .app import UPSTREAM, route

ROUNDS = 5
REQUESTS = 300


async def rules(request: RoutingRequest) -> list[Quota]:
    """What a host's rules give at least: a rate and a budget, made for each request."""
    return [Quota("minute", per="minute", requests=2**50, tokens=2**50), Quota("month", per="month", money=10**6)]


def price(type: str, model: str, usage: Usage) -> Decimal:
    """A host's own price."""
    return usage.total_tokens * Decimal("0.000001")


app = Gateway(
    providers=[Provider("bench", UPSTREAM, api_key="sk-bench")], policy=route, quotas=Quotas(rules, price=price)
)


def _gateway(origin: str, quotas: Quotas | None, observers: tuple[Any, ...]) -> Gateway:
    one = Provider("bench", origin, api_key="sk-bench", type="openai")
    return Gateway(providers=[one], policy=lambda request: _target(), quotas=quotas, observers=observers)


async def _target() -> Target:
    return Target("bench")


async def _cpu(gateway: Gateway) -> float:
    """Microseconds of this thread that one `respond()` takes."""
    body = {"model": "gpt-4o-mini", "input": "hello world " * 20}
    gc.collect()
    began = time.thread_time()
    for _ in range(REQUESTS):
        await (await gateway.respond(body)).read()
    return (time.thread_time() - began) / REQUESTS * 1e6


async def _main() -> None:
    async with FakeProvider().serve() as provider:
        kinds = {
            "off": (None, ()),
            "a trace alone": (None, (lambda record: None,)),
            "price function": (Quotas(rules, price=price), ()),
            "price list": (Quotas(rules), ()),
        }
        gateways = {name: _gateway(provider.base_url, *given) for name, given in kinds.items()}
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, gateway in gateways.items():
                taken[name].append(await _cpu(gateway))
                provider.clear()
        for name, values in taken.items():
            print(f"{name:16} {statistics.median(values):8.1f} µs")
        for gateway in gateways.values():
            await gateway.aclose()


if __name__ == "__main__":
    asyncio.run(_main())
