"""Each limit holds, for requests side by side as one after the other, over a real socket, in the host's own zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import openai
import pytest

from gomodel_asgi import Gateway, Limits
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import FakeProvider, Stall

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.lab import ONCE, until
from ..support.seen import native
from ..support.spending import always, done, released, settled
from ..support.stage import Stage

HELLO = {"model": "m", "input": "Hello"}
BODY = HELLO | {"max_output_tokens": 100, "stream": True}
RESERVED = -(-len(encoded(BODY)) // 4) + 100
LIMITS: dict[str, dict[str, Any]] = {
    "requests": {"requests": 1},
    "tokens": {"tokens": 100},
    "money": {"money": "0.0001"},
}


def gateway_of(provider: FakeProvider, quotas: Quotas, **options: Any) -> Gateway:
    return Gateway(providers=[native(provider)], quotas=quotas, retries=ONCE, **options)


@pytest.mark.parametrize("limits", [{"tokens": 10 * RESERVED}, {"tokens": 11 * RESERVED - 1}, {"money": "0.00125"}])
async def test_parallel_streams_get_what_fits_into_the_budget_and_no_more(
    provider: FakeProvider, limits: dict[str, Any]
) -> None:
    fits = 10 if "tokens" in limits else 1250 // RESERVED
    for _ in range(50):
        provider.fail_next(Stall(after_events=2))
    async with gateway_of(provider, always(Quota("month", per="month", **limits))) as gateway:
        callers = [Caller(scope_of(), [encoded(BODY)]) for _ in range(50)]
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                for caller in callers:
                    group.start_soon(caller.run, gateway)
                await until(lambda: sum(caller.complete for caller in callers) == 50 - fits)
                held = (await gateway.quotas.left())[0].held
                assert int(held * (1 if "tokens" in limits else 1_000_000)) == fits * RESERVED
                await released(provider, lambda: all(caller.complete for caller in callers))
        assert sorted(caller.status for caller in callers) == [200] * fits + [429] * (50 - fits)
        used = [caller.events()[-1]["response"]["usage"]["total_tokens"] for caller in callers if caller.status == 200]
        assert sum(await settled(gateway)) == sum(used)
        assert len(provider.requests) == fits


async def test_the_first_requests_of_a_tenant_that_nobody_knows_are_counted_together(provider: FakeProvider) -> None:
    quotas = always(Quota("day", per="day", requests=3))
    async with gateway_of(provider, quotas, tenant=lambda scope: scope["tenant"]) as gateway:
        callers = [Caller(scope_of(tenant="new"), [encoded(HELLO)]) for _ in range(10)]
        async with anyio.create_task_group() as group:
            for caller in callers:
                group.start_soon(caller.run, gateway)
    assert sorted(caller.status for caller in callers) == [200] * 3 + [429] * 7


async def test_what_is_spent_never_passes_the_limit_by_more_than_running_requests_had_not_reserved(
    provider: FakeProvider,
) -> None:
    quotas = always(Quota("day", per="day", tokens=1000), expected_output=50)
    async with gateway_of(provider, quotas) as gateway:
        for _ in range(20):
            provider.script(done(10, 300))
            answer = await ask(gateway, HELLO)
        found = (await gateway.quotas.left())[0]
        reserved = -(-len(encoded(HELLO)) // 4) + 50
        assert answer.status == 429 and 1000 < found.spent + reserved and found.spent <= 1000 + 310 - reserved


@pytest.mark.parametrize("unit", LIMITS)
def test_every_limit_is_enforced_over_a_real_socket_and_told_to_an_sdk(stage: Stage, unit: str) -> None:
    stage.provider.script(done(10, 90))
    quotas = always(Quota("month", per="month", **LIMITS[unit]), expected_output=50)
    stage.gateway(quotas=quotas, limits=Limits())
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key="sk-canary", max_retries=2) as client:
        client.responses.create(model="m", input="Hello")
        with pytest.raises(openai.RateLimitError) as refused:
            client.responses.create(model="m", input="Hello")
    assert len(stage.provider.requests) == 1
    codes = {"money": ("insufficient_quota", "insufficient_quota")}
    assert (refused.value.type, refused.value.code) == codes.get(unit, (unit, "rate_limit_exceeded"))
    assert refused.value.response.headers["x-gomodel-quota"] == "month"


def test_a_budget_that_is_used_up_is_not_asked_for_again_by_an_sdk(stage: Stage) -> None:
    asked = 0

    async def rules(request: Any) -> list[Quota]:
        nonlocal asked
        asked += 1
        return [Quota("minute", per="minute", money=0)]

    stage.gateway(quotas=Quotas(rules, price=lambda type, model, usage: 1))  # type: ignore[arg-type, return-value]
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key="sk-canary", max_retries=2) as client:
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="m", input="Hello")
    assert asked == 1 and stage.provider.requests == []


@pytest.mark.parametrize(
    ("per", "zone", "before", "after"),
    [
        ("day", "Europe/Berlin", "2026-11-29T22:59:59", "2026-11-29T23:00:00"),
        ("day", "America/New_York", "2026-11-01T03:59:59", "2026-11-01T04:00:00"),  # the day the clocks go back
        ("day", "Asia/Kathmandu", "2026-11-29T18:14:59", "2026-11-29T18:15:00"),
        ("week", "UTC", "2026-11-29T23:59:59", "2026-11-30T00:00:00"),
        ("month", "UTC", "2028-02-29T23:59:59", "2028-03-01T00:00:00"),
        ("month", "Pacific/Auckland", "2026-11-30T10:59:59", "2026-11-30T11:00:00"),
    ],
)
async def test_a_window_ends_with_the_calendar_of_the_hosts_zone(
    provider: FakeProvider, per: Any, zone: str, before: str, after: str
) -> None:
    now = datetime.fromisoformat(before).replace(tzinfo=UTC)
    quotas = always(Quota("q", per=per, requests=1), zone=zone, clock=lambda: now)
    async with gateway_of(provider, quotas) as gateway:
        assert [(await ask(gateway, HELLO)).status for _ in range(2)] == [200, 429]
        now = datetime.fromisoformat(after).replace(tzinfo=UTC)
        assert [(await ask(gateway, HELLO)).status for _ in range(2)] == [200, 429]


async def test_a_week_begins_on_the_day_that_the_host_says(provider: FakeProvider) -> None:
    now = datetime(2026, 11, 28, 12, tzinfo=UTC)  # a Saturday
    quotas = always(Quota("q", per="week", requests=1), week_starts="sunday", clock=lambda: now)
    async with gateway_of(provider, quotas) as gateway:
        assert [(await ask(gateway, HELLO)).status for _ in range(2)] == [200, 429]
        now += timedelta(hours=12)
        assert (await ask(gateway, HELLO)).status == 200


async def test_what_is_settled_late_counts_in_the_window_of_its_reservation(provider: FakeProvider) -> None:
    now = datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC)
    provider.fail_next(Stall())
    quotas = always(Quota("month", per="day", tokens=100_000), clock=lambda: now)
    async with gateway_of(provider, quotas) as gateway, anyio.create_task_group() as group:
        caller = Caller(scope_of(), [encoded(HELLO)])
        group.start_soon(caller.run, gateway)
        await provider.received(1)
        now += timedelta(seconds=2)
        await released(provider, lambda: caller.complete)
        assert await settled(gateway) == (0, 0)
        now -= timedelta(seconds=2)
        assert (await settled(gateway))[0] == caller.json()["usage"]["total_tokens"]
