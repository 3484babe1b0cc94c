"""After thousands of requests, a fifth of which fail, ledger, quotas and metrics have what the providers counted."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any
from uuid import uuid4

import anyio
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from gomodel_asgi import Gateway, Provider, Retries, RoutingRequest, Target
from gomodel_asgi.contrib.prometheus import PrometheusObserver
from gomodel_asgi.ledger import Ledger, Row, SqlLedger
from gomodel_asgi.ledger.row import TOKENS
from gomodel_asgi.observers import Ended, Usage
from gomodel_asgi.quotas import Left, Quota, Quotas, RedisCounters
from gomodel_asgi.testing import Cut, FakeProvider, Reply, Scripted, Status

from ..support.databases import RedisServer
from ..support.driving import TIMEOUT, ask
from ..support.ledgers import rows_of
from ..support.seen import Seen

pytestmark = pytest.mark.anyio
COUNT = int(os.environ.get("LEDGER_REQUESTS", "10000"))
AT_ONCE = 16
TENANTS = [f"tenant-{number}" for number in range(4)]
NOVEMBER = datetime(2026, 11, 29, 12, tzinfo=UTC)
PRICES = {"large": Decimal("0.000003"), "small": Decimal("0.000000007")}
SSE = "text/event-stream"
Json = dict[str, Any]


def price(type: str, model: str, usage: Usage) -> Decimal | None:
    return PRICES[model] * usage.total_tokens


@dataclass
class Upstream:
    """A provider that a fifth of all requests fail at, each in another way, and that knows what each has used. Its
    responses are of no model, so that the prices are those of the model that was asked for."""

    provider: FakeProvider
    stream: bool
    used: list[tuple[int, int]] = field(default_factory=list)
    """Input and output of each request that it has told the usage of, in order."""

    def script(self, count: int, chance: random.Random) -> None:
        self.provider.script(self._step(number, chance.random()) for number in range(count))

    def _step(self, number: int, luck: float) -> Scripted | Reply:
        self.used.append((0, 0))
        if luck < 0.06:
            return Scripted(None, (Status((429, 500, 503)[number % 3]),))
        reply = self._reply(number, "failed" if luck < 0.14 else "completed")
        if luck > 0.94:
            return Scripted(reply, (Cut(after_events=0),))
        self.used[-1] = _usage(number)
        return reply

    def _reply(self, number: int, status: str) -> Reply:
        input, output = _usage(number)
        usage = {"input_tokens": input, "output_tokens": output, "total_tokens": input + output}
        response: Json = {"id": f"resp_{number}", "object": "response", "status": status, "output": []}
        response |= {"created_at": 1, "usage": usage}
        if status == "failed":
            response["error"] = {"code": "server_error", "message": "It broke."}
        if not self.stream:
            return Reply(response)
        events = [
            {"type": "response.created", "response": response | {"status": "in_progress", "usage": None}},
            {"type": f"response.{status}", "response": response},
        ]
        told = [event | {"sequence_number": at} for at, event in enumerate(events)]
        return Reply("".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told), content_type=SSE)

    @property
    def counted(self) -> tuple[int, int]:
        """Input and output of all requests that have come."""
        told = self.used[: len(self.provider.requests)]
        return sum(input for input, _ in told), sum(output for _, output in told)


def _usage(number: int) -> tuple[int, int]:
    return 1000 + number % 977, 10 + number % 83


@pytest.fixture
def upstreams() -> Iterator[list[Upstream]]:
    with FakeProvider().run_in_thread() as one, FakeProvider().run_in_thread() as other:
        yield [Upstream(one, False), Upstream(other, True)]


def route(request: RoutingRequest) -> Target:
    kind = "stream" if request.stream else "unary"
    return Target(kind, model="large", fallbacks=(Target(f"{kind}-2", model="small"),))


def rules(request: RoutingRequest) -> Iterator[Quota]:
    yield Quota("month", per="month", requests=COUNT, tokens=10**12, money=10**6)
    yield Quota("house", per="month", tokens=10**12, money=10**6, shared=True)


@pytest.mark.timeout(600)
async def test_ledger_quotas_and_metrics_add_up_to_what_the_providers_counted(
    upstreams: list[Upstream], postgres: AsyncEngine, redis_server: RedisServer
) -> None:
    chance, seen, numbers = random.Random(18), Seen(), iter(range(COUNT))
    providers = []
    for one, name in zip(upstreams, ("unary", "stream"), strict=True):
        one.script(2 * COUNT, chance)
        providers += [Provider(name, one.provider.base_url), Provider(f"{name}-2", one.provider.base_url)]
    ledger, metrics = Ledger(SqlLedger(postgres), price=price), CollectorRegistry()
    counters = RedisCounters(redis_server.url, prefix=f"{uuid4()}:", timeout=TIMEOUT)
    gateway = Gateway(
        providers=providers, policy=route, ledger=ledger, observers=[seen, PrometheusObserver(registry=metrics)],
        tenant=lambda scope: scope["tenant"], retries=Retries(attempts=2, per_target=1),
        quotas=Quotas(rules, counters=counters, price=price, clock=lambda: NOVEMBER),
    )  # fmt: skip

    async def client(tenant: str) -> None:
        for number in numbers:
            body = {"model": "any", "input": f"Number {number}", "stream": number % 2 == 0}
            await ask(gateway, body, tenant=tenant)

    async with gateway:
        async with anyio.create_task_group() as tasks:
            for number in range(AT_ONCE):
                tasks.start_soon(client, TENANTS[number % 4])
        await gateway.quotas.flush()
        left = {tenant: await gateway.quotas.left(tenant=tenant) for tenant in TENANTS}
    rows = await rows_of(ledger.sink)
    assert len(rows) == COUNT and {row.tenant for row in rows} == set(TENANTS)
    told = [attempt for row in rows for attempt in row.attempts if attempt.usage and not attempt.usage.estimated]
    assert sum(one.usage.input_tokens for one in told if one.usage) == sum(one.counted[0] for one in upstreams)
    assert sum(one.usage.output_tokens for one in told if one.usage) == sum(one.counted[1] for one in upstreams)
    failed = [row for row in rows if any(attempt.code for attempt in row.attempts)]
    assert 0.15 < len(failed) / COUNT < 0.35
    check_sums(rows)
    await check_roll_up(ledger, rows)
    ended = seen.of(Ended)
    assert len(ended) == COUNT
    assert sum(row.input_tokens for row in rows) == sum(one.usage.input_tokens for one in ended if one.usage)
    assert sum(row.output_tokens for row in rows) == sum(one.usage.output_tokens for one in ended if one.usage)
    check_quotas(left, rows)
    check_metrics(metrics, rows)


def check_quotas(left: dict[str, tuple[Left, ...]], rows: list[Row]) -> None:
    """What quotas have spent is the sum of the rows, each rounded up to a millionth of a dollar. Nothing is held."""
    for tenant, (requests, tokens, money, *shared) in left.items():
        own = [row for row in rows if row.tenant == tenant]
        assert requests.spent == len(own)
        for (of_tokens, of_money), counted in (((tokens, money), own), (shared, rows)):
            assert of_tokens.held == of_money.held == 0
            assert of_tokens.spent == sum(row.input_tokens + row.output_tokens for row in counted)
            assert of_money.spent == sum(quantized(row.cost) for row in counted)


def quantized(cost: Decimal | None) -> Decimal:
    assert cost is not None
    return cost.quantize(Decimal("0.000001"), ROUND_CEILING)


def check_metrics(metrics: CollectorRegistry, rows: list[Row]) -> None:
    """The metrics have all of the tokens, under the model that was asked for in the end."""
    told = [one for metric in metrics.collect() for one in metric.samples if one.name == "gomodel_tokens_total"]
    for kind in ("input", "output"):
        counted = sum(one.value for one in told if one.labels["type"] == kind)
        assert counted == sum(getattr(row, f"{kind}_tokens") for row in rows)


def check_sums(rows: list[Row]) -> None:
    """Each row is the sum of its attempts, each at its own price."""
    for row in rows:
        usages = [attempt.usage for attempt in row.attempts if attempt.usage is not None]
        assert {name: getattr(row, name) for name in TOKENS} == {
            name: sum(getattr(usage, name) for usage in usages) for name in TOKENS
        }
        assert row.estimated is any(usage.estimated for usage in usages)
        assert row.cost == sum(
            PRICES[str(attempt.model)] * attempt.usage.total_tokens for attempt in row.attempts if attempt.usage
        )


async def check_roll_up(ledger: Ledger, rows: list[Row]) -> None:
    """The roll-up is the sum of the rows, as a whole and by tenant."""
    month = rows[0].started.date().replace(day=1), date(2100, 1, 1)
    (whole,) = await ledger.sums(*month, by=())
    assert whole.requests == COUNT and whole.unpriced == 0
    for name in (*TOKENS, "cost"):
        assert getattr(whole, name) == sum(getattr(row, name) for row in rows)
    for one in await ledger.sums(*month, by=("tenant",)):
        own = [row for row in rows if row.tenant == one.tenant]
        assert one.requests == len(own)
        assert one.cost == sum(row.cost for row in own if row.cost is not None)
        assert await ledger.spent(one.tenant, min(row.started for row in rows)) == one.cost
