"""Quotas for tests: a price by the token, rules that are always the same, and what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import anyio

from gomodel_asgi import Gateway
from gomodel_asgi.observers import Usage
from gomodel_asgi.quotas import Left, MemoryCounters, Quota, Quotas
from gomodel_asgi.seams.counters import Line
from gomodel_asgi.testing import FakeProvider, Reply

from .driving import TIMEOUT, Caller, encoded, scope_of
from .lab import until

RATES = {"dear": 10, "cheap": 2}
"""Millionths of a dollar for a token, by model; of any other 1."""


def price(type: str, model: str, usage: Usage) -> Decimal | None:
    """What a host says its models cost; of the model `secret` it does not know."""
    if model == "secret":
        return None
    return Decimal(usage.total_tokens * RATES.get(model, 1)) / 1_000_000


def always(*quotas: Quota, **options: Any) -> Quotas:
    """Quotas that are the same for every request."""

    async def rules(request: Any) -> tuple[Quota, ...]:
        return quotas

    options.setdefault("price", price)
    return Quotas(rules, **options)


def month(tokens: int = 1_000_000, money: int = 10, **options: Any) -> Quotas:
    """A month's quota of so many tokens and so much money."""
    return always(Quota("month", per="month", tokens=tokens, money=money), **options)


async def left(gateway: Gateway, unit: str = "tokens", name: str = "month", tenant: str | None = None) -> Left:
    """What is left of one unit of one quota."""
    (found,) = [one for one in await gateway.quotas.left(tenant=tenant) if one.unit == unit and one.name == name]
    return found


async def settled(gateway: Gateway, tenant: str | None = None) -> tuple[int, int]:
    """Tokens and millionths of dollars that are booked, once nothing is held any more."""
    found: list[Left] = []
    with anyio.fail_after(TIMEOUT):
        while not found or any(one.held for one in found):
            await anyio.sleep(0.001)
            found = [*await gateway.quotas.left(tenant=tenant)]
    spent = {one.unit: one.spent for one in found}
    return int(spent.get("tokens", 0)), int(spent.get("money", 0) * 1_000_000)


def done(input: int, output: int, **members: Any) -> Reply:
    """A native upstream's answer that has used so much."""
    usage = {"input_tokens": input, "output_tokens": output, "total_tokens": input + output}
    return Reply({"id": "resp_2", "object": "response", "status": "completed", "output": [], "usage": usage} | members)


async def leave(provider: FakeProvider, gateway: Gateway, after: int, body: Any) -> None:
    """A client that leaves once it has so many events, or (0) once its request has arrived."""
    caller = Caller(scope_of(), [encoded(body)])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await provider.received(1)
            while after and len(caller.events() if caller.messages else []) < after:
                await caller.until(len(caller.messages) + 1)
            await anyio.wait_all_tasks_blocked()
            caller.leave()
    provider.release()


async def released(provider: FakeProvider, condition: Callable[[], object]) -> None:
    """Let the provider's stalled replies go on, those too that have not begun to stall, until *condition* holds."""

    def holds() -> object:
        provider.release()
        return condition()

    await until(holds)


class BooksEach(MemoryCounters):
    """Counters that book each settlement, however often it is asked for: only its callers can see to it that it is
    asked for once. *settled* are the holds, in that order."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[str] = []

    async def settle(self, hold: str, lines: Sequence[Line], actual: Sequence[int], now: float) -> None:
        self.settled.append(hold)
        again = self.settled.count(hold) - 1
        await super().settle(f"{hold} {again}" if again else hold, lines, actual, now)
