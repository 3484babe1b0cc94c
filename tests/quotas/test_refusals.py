"""A request without room is refused before anything is sent, with what its client needs to know and nothing more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gomodel_asgi import Denied, Gateway, Provider, Target
from gomodel_asgi.contrib.fastapi import responses_router
from gomodel_asgi.errors import QuotaExceeded
from gomodel_asgi.observers import QuotaChecked
from gomodel_asgi.quotas import Quota, Quotas
from gomodel_asgi.testing import ExtraHeaders, FakeProvider, Stall, Status

from ..support.driving import Caller, ask, encoded, scope_of
from ..support.lab import ONCE
from ..support.seen import Seen, native
from ..support.spending import always, done, left, month, released, settled
from ..support.websocket_client import connected

HELLO = {"model": "m", "input": "Hello"}
NOON = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)


def gateway_of(provider: FakeProvider, quotas: Quotas, *observers: Any, **options: Any) -> Gateway:
    options.setdefault("providers", [native(provider)])
    return Gateway(observers=observers, quotas=quotas, retries=ONCE, **options)


def minute(**options: Any) -> Quotas:
    options.setdefault("clock", lambda: NOON)
    return always(Quota("minute", per="minute", requests=1), **options)


async def test_a_rate_that_is_reached_is_a_429_that_says_when_there_is_room(provider: FakeProvider) -> None:
    async with gateway_of(provider, minute()) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        refused = await ask(gateway, HELLO)

    assert refused.status == 429 and len(provider.requests) == 1
    assert refused.error == {
        "message": "The quota 'minute' of 1 request per minute has no room for this request: 1 request spent. "
        "Please try again in 120s.",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    headers = refused.headers
    assert headers["x-gomodel-quota"] == "minute"
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("120", "120000")
    assert (headers["ratelimit-policy"], headers["ratelimit"]) == ('"minute";q=1;w=60', '"minute";r=0;t=120')
    assert headers["x-ratelimit-limit-requests"] == "1" and headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "2m0s"
    assert "x-should-retry" not in headers


@pytest.mark.parametrize("unit", ["requests", "tokens", "money"])
@pytest.mark.parametrize("per", ["minute", "hour", "day", "week", "month"])
async def test_a_refused_request_is_admitted_at_the_very_second_that_it_was_told(
    provider: FakeProvider, unit: str, per: Any
) -> None:
    now = NOON + timedelta(seconds=17, microseconds=300_000)
    limit: dict[str, Any] = {unit: {"requests": 1, "tokens": 100, "money": "0.0001"}[unit]}
    quotas = always(Quota("q", per=per, **limit), clock=lambda: now, expected_output=60)
    provider.script(done(10, 90), done(1, 1))
    async with gateway_of(provider, quotas) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        refused = await ask(gateway, HELLO)
        assert refused.status == 429
        seconds, millis = int(refused.headers["retry-after"]), int(refused.headers["retry-after-ms"])
        assert 0 <= seconds * 1000 - millis < 1000
        now += timedelta(seconds=seconds - 1, milliseconds=-1)
        assert (await ask(gateway, HELLO)).status == 429
        now += timedelta(seconds=1, milliseconds=1)
        assert (await ask(gateway, HELLO)).status == 200


async def test_a_budget_that_is_used_up_is_final_until_its_window_ends(provider: FakeProvider) -> None:
    provider.script(done(10, 90))
    quotas = always(Quota("month", per="month", money="0.0001"), clock=lambda: NOON)
    async with gateway_of(provider, quotas) as gateway:
        assert (await ask(gateway, HELLO | {"max_output_tokens": 50})).status == 200
        refused = await ask(gateway, HELLO | {"max_output_tokens": 50})

    assert refused.status == 429 and refused.headers["x-should-retry"] == "false"
    assert (refused.error["type"], refused.error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert refused.error["message"].startswith(
        "The quota 'month' of $0.0001 per month has no room for this request, which may use $0.000065: $0.0001 spent."
    )
    assert int(refused.headers["retry-after"]) == 36 * 3600
    assert refused.headers["x-gomodel-quota"] == "month"


async def test_what_others_hold_is_told_apart_from_what_is_spent(provider: FakeProvider) -> None:
    provider.fail_next(Stall())
    quotas = always(Quota("month", per="month", tokens=200), clock=lambda: NOON)
    async with gateway_of(provider, quotas) as gateway, anyio.create_task_group() as group:
        caller = Caller(scope_of(), [encoded(HELLO | {"max_output_tokens": 150})])
        group.start_soon(caller.run, gateway)
        await provider.received(1)
        held = (await left(gateway)).held
        refused = await ask(gateway, HELLO | {"max_output_tokens": 150})
        assert f"0 tokens spent, {held} tokens held by requests under way" in refused.error["message"]
        assert refused.error["type"] == "tokens" and "x-should-retry" not in refused.headers
        assert int(refused.headers["retry-after"]) <= 2 * 3600  # by then no hold of today counts any more
        await released(provider, lambda: caller.complete)


async def test_what_is_larger_than_a_whole_limit_is_told_so_and_never_to_come_back(provider: FakeProvider) -> None:
    async with gateway_of(provider, always(Quota("minute", per="minute", tokens=20))) as gateway:
        refused = await ask(gateway, HELLO | {"input": "many words " * 20})

    assert refused.status == 429 and provider.requests == []
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
    assert (refused.error["type"], refused.error["code"]) == ("tokens", "rate_limit_exceeded")
    assert "more than the quota 'minute' of 20 tokens per minute allows at all" in refused.error["message"]


async def test_a_guess_of_the_output_alone_makes_nothing_too_large(provider: FakeProvider) -> None:
    async with gateway_of(provider, always(Quota("minute", per="minute", tokens=100, money="0.0001"))) as gateway:
        assert (await ask(gateway, HELLO)).status == 200


async def test_the_worst_that_a_request_may_use_can_be_too_large(provider: FakeProvider) -> None:
    async with gateway_of(provider, always(Quota("minute", per="minute", tokens=100), reserve="worst")) as gateway:
        assert (await ask(gateway, HELLO | {"max_output_tokens": 200})).status == 429
        assert (await ask(gateway, HELLO | {"max_output_tokens": 60})).status == 200


async def test_the_worst_of_a_request_without_a_bound_is_asked_for_by_name(provider: FakeProvider) -> None:
    async with gateway_of(provider, month(reserve="worst")) as gateway:
        refused = await ask(gateway, HELLO)

    assert refused.status == 400 and refused.error["param"] == "max_output_tokens" and provider.requests == []


async def test_a_quota_of_nothing_refuses_all(provider: FakeProvider) -> None:
    async with gateway_of(provider, always(Quota("none", per="day", money=0))) as gateway:
        refused = await ask(gateway, HELLO)

    assert refused.error["code"] == "insufficient_quota" and refused.headers["x-should-retry"] == "false"


async def test_a_shared_quota_is_never_named_to_clients(provider: FakeProvider) -> None:
    quotas = always(Quota("whole-house", per="minute", requests=1, shared=True), clock=lambda: NOON)
    async with gateway_of(provider, quotas, tenant=lambda scope: scope["tenant"]) as gateway:
        first = await ask(gateway, HELLO, tenant="a")
        refused = await ask(gateway, HELLO, tenant="b")

    assert (first.status, refused.status) == (200, 429)
    for answer in (first, refused):
        assert not [name for name in answer.headers if "ratelimit" in name or name == "x-gomodel-quota"]
        assert b"house" not in answer.content
    assert refused.headers["retry-after"] == "120" and refused.error["code"] == "rate_limit_exceeded"


async def test_tenants_and_keys_are_counted_apart(provider: FakeProvider) -> None:
    async def rules(request: Any) -> Any:
        return [Quota("minute", per="minute", requests=1, key=request.headers.get("x-user"))]

    quotas = Quotas(rules, clock=lambda: NOON)
    async with gateway_of(provider, quotas, tenant=lambda scope: scope["tenant"]) as gateway:
        for tenant in ("a", "b", None):
            for user in ("1", "2"):
                headers = [(b"content-type", b"application/json"), (b"x-user", user.encode())]
                assert (await ask(gateway, HELLO, tenant=tenant, headers=headers)).status == 200
                assert (await ask(gateway, HELLO, tenant=tenant, headers=headers)).status == 429


async def test_what_one_quota_refuses_is_booked_in_no_other(provider: FakeProvider) -> None:
    quotas = always(
        Quota("a", per="day", requests=5, tokens=100_000), Quota("b", per="day", requests=1), clock=lambda: NOON
    )
    async with gateway_of(provider, quotas) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        spent = [one.spent for one in await gateway.quotas.left()]
        refused = await ask(gateway, HELLO)
        assert refused.headers["x-gomodel-quota"] == "b"
        assert [one.spent for one in await gateway.quotas.left()] == spent


async def test_of_several_full_quotas_the_one_that_has_room_last_is_named(provider: FakeProvider) -> None:
    quotas = always(
        Quota("minute", per="minute", requests=1), Quota("month", per="month", requests=1), clock=lambda: NOON
    )
    async with gateway_of(provider, quotas) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        refused = await ask(gateway, HELLO)

    assert refused.headers["x-gomodel-quota"] == "month" and refused.headers["retry-after"] == str(36 * 3600)


async def test_what_the_policy_refuses_is_not_counted(provider: FakeProvider) -> None:
    def no(request: Any) -> Target:
        raise Denied("No.")

    asked: list[Any] = []

    async def rules(request: Any) -> list[Quota]:
        asked.append(request)
        return [Quota("day", per="day", requests=1)]

    async with gateway_of(provider, Quotas(rules), policy=no) as gateway:
        assert (await ask(gateway, HELLO)).status == 403
        assert asked == []


# Headers...


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_says_what_is_left_and_not_what_the_upstream_says_of_its_account(
    provider: FakeProvider, stream: bool
) -> None:
    provider.fail_next(ExtraHeaders([("x-ratelimit-remaining-tokens", "9"), ("x-ratelimit-limit-images", "7")]))
    quotas = always(
        Quota("minute", per="minute", requests=60, tokens=10_000),
        Quota("month", per="month", requests=50, money=5),
        clock=lambda: NOON,
        expected_output=100,
    )
    body = HELLO | {"stream": stream}
    async with gateway_of(provider, quotas) as gateway:
        headers = (await ask(gateway, body)).headers

    used = -(-len(encoded(body)) // 4) + 100
    assert {name: value for name, value in headers.items() if "ratelimit" in name} == {
        "x-ratelimit-limit-requests": "50",
        "x-ratelimit-remaining-requests": "49",
        "x-ratelimit-reset-requests": "36h0m0s",
        "x-ratelimit-limit-tokens": "10000",
        "x-ratelimit-remaining-tokens": str(10_000 - used),
        "x-ratelimit-reset-tokens": "1m0s",
        "ratelimit-policy": '"minute";q=60;w=60, "month";q=50',
        "ratelimit": '"minute";r=59;t=60, "month";r=49;t=129600',
    }


async def test_an_upstreams_refusal_says_nothing_of_its_account_either(provider: FakeProvider) -> None:
    provider.fail_next(Status(429, headers=[("x-ratelimit-remaining-tokens", "9")]))
    async with gateway_of(provider, minute()) as gateway:
        refused = await ask(gateway, HELLO)

    assert refused.status == 429 and not [name for name in refused.headers if name == "x-ratelimit-remaining-tokens"]


async def test_of_many_quotas_the_headers_name_those_that_have_the_least_left(provider: FakeProvider) -> None:
    many = [Quota(f"{number:0>64}", per="month", requests=2**53 - 1 - number) for number in range(300)]
    async with gateway_of(provider, always(*many)) as gateway:
        answer = await ask(gateway, HELLO)
    named = [f'"{quota.name}"' for quota in reversed(many[-8:])]
    for name in ("ratelimit", "ratelimit-policy"):
        assert [one.partition(";")[0] for one in answer.headers[name].split(", ")] == named
    assert sum(len(name) + len(value) for name, value in answer.headers.items()) < 4096


async def test_headers_can_be_left_out(provider: FakeProvider) -> None:
    async with gateway_of(provider, minute(headers=False)) as gateway:
        answers = [await ask(gateway, HELLO), await ask(gateway, HELLO)]

    assert [answer.status for answer in answers] == [200, 429]
    assert not [name for answer in answers for name in answer.headers if "ratelimit" in name]
    assert answers[1].headers["x-gomodel-quota"] == "minute" and answers[1].headers["retry-after"] == "120"


# Every door...


async def by_asgi(gateway: Gateway) -> int:
    return (await ask(gateway, HELLO)).status


async def by_stream(gateway: Gateway) -> int:
    return (await ask(gateway, HELLO | {"stream": True})).status


async def by_compact(gateway: Gateway) -> int:
    return (await ask(gateway, HELLO, path="/v1/responses/compact")).status


async def by_background(gateway: Gateway) -> int:
    return (await ask(gateway, HELLO | {"background": True})).status


async def by_endpoint(gateway: Gateway) -> int:
    async def own(request: Request) -> Response:
        return await gateway.endpoint(request)

    app = Starlette(routes=[Route("/own/responses", own, methods=["POST"])])
    return (await ask(app, HELLO, path="/own/responses")).status


async def by_router(gateway: Gateway) -> int:
    app = FastAPI()
    app.include_router(responses_router(gateway))
    return (await ask(app, HELLO)).status


async def by_the_hosts_code(gateway: Gateway) -> int:
    try:
        await (await gateway.respond(HELLO)).read()
    except QuotaExceeded as error:
        return error.status
    return 200


async def by_websocket(gateway: Gateway) -> int:
    async with connected(gateway) as client:
        await client.create()
        event = (await client.until("response.completed", "error"))[-1]
        if event["type"] != "error":
            return 200
        assert event["error"]["code"] == "rate_limit_exceeded"
        return int(event["status"])


DOORS = [by_asgi, by_stream, by_compact, by_background, by_endpoint, by_router, by_the_hosts_code, by_websocket]


@pytest.mark.parametrize("door", DOORS)
async def test_no_door_leads_past_the_quotas(provider: FakeProvider, door: Any) -> None:
    async with gateway_of(provider, minute()) as gateway:
        assert await door(gateway) == 200
        count = len(provider.requests)
        assert await door(gateway) == 429
        assert len(provider.requests) == count


async def test_a_refused_turn_of_a_websocket_is_an_event_and_the_connection_stays(provider: FakeProvider) -> None:
    now = NOON
    async with gateway_of(provider, minute(clock=lambda: now)) as gateway, connected(gateway) as client:
        await client.talk()
        await client.create()
        event = await client.error()
        assert (event["status"], event["error"]["type"]) == (429, "requests")
        assert "'minute'" in event["error"]["message"]
        now += timedelta(minutes=2)
        await client.talk()


# What the host is told...


async def test_observers_are_told_of_each_check(provider: FakeProvider) -> None:
    seen = Seen()
    quotas = always(Quota("minute", per="minute", requests=1), Quota("month", per="month", money=5), clock=lambda: NOON)
    async with gateway_of(provider, quotas, seen) as gateway:
        await ask(gateway, HELLO | {"max_output_tokens": 10})
        await ask(gateway, HELLO | {"max_output_tokens": 10})

    told = [(one.name, one.unit, one.outcome, one.limit) for one in seen.of(QuotaChecked)]
    assert told == [
        ("minute", "requests", "admitted", 1),
        ("month", "money", "admitted", 5_000_000),
        ("minute", "requests", "refused", 1),
    ]
    assert seen.of(QuotaChecked)[0].spent == 1 and seen.of(QuotaChecked)[1].held > 0


async def test_in_the_shadow_all_is_counted_and_nothing_refused(provider: FakeProvider) -> None:
    seen = Seen()
    provider.script(done(10, 90), done(10, 90))
    quotas = always(Quota("month", per="month", tokens=50, requests=1), shadow=True, clock=lambda: NOON)
    async with gateway_of(provider, quotas, seen) as gateway:
        answers = [await ask(gateway, HELLO) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 200]
        assert not [name for name in answers[0].headers if "ratelimit" in name]
        assert await settled(gateway) == (200, 0)
        assert [one.spent for one in await gateway.quotas.left()] == [2, 200]

    assert "shadow" in [one.outcome for one in seen.of(QuotaChecked)]


async def test_what_is_left_is_told_in_the_units_of_the_host(provider: FakeProvider) -> None:
    quotas = always(
        Quota("month", per="month", money="5.50"), Quota("day", per="day", requests=3), clock=lambda: NOON,
        zone="Europe/Berlin",
    )  # fmt: skip
    provider.script(done(100, 400))
    async with gateway_of(provider, quotas) as gateway:
        await ask(gateway, HELLO)
        await settled(gateway)
        money, requests = await gateway.quotas.left()

    assert (money.name, money.unit, money.limit) == ("month", "money", Decimal("5.50"))
    assert (money.spent, money.held, money.left) == (Decimal("0.0005"), 0, Decimal("5.4995"))
    assert money.resets == datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert (requests.spent, requests.left, requests.resets) == (1, 2, datetime(2026, 11, 29, 23, 0, tzinfo=UTC))


async def test_what_is_left_is_told_of_a_tenant_or_of_whoever_a_scope_says(provider: FakeProvider) -> None:
    async with gateway_of(provider, minute(), tenant=lambda scope: scope["tenant"]) as gateway:
        await ask(gateway, HELLO, tenant="a")
        assert [one.spent for one in await gateway.quotas.left(tenant="a")] == [1]
        assert [one.spent for one in await gateway.quotas.left(tenant="b")] == [0]
        assert [one.spent for one in await gateway.quotas.left(scope=scope_of(tenant="a"))] == [1]


def test_a_gateway_without_quotas_says_so() -> None:
    with pytest.raises(RuntimeError, match="quotas"):
        Gateway(providers=[Provider("fake", "http://127.0.0.1:9/v1")]).quotas  # noqa: B018
