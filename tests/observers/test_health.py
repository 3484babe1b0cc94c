"""`gateway.health()`: a snapshot for policies, health endpoints and tests."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from gomodel_asgi import Retries, RoutingRequest, Target, Timeouts
from gomodel_asgi.resilience.circuit import PAUSE, WINDOW
from gomodel_asgi.resilience.health import Health
from gomodel_asgi.seams.health import GatewayHealth
from gomodel_asgi.testing import FakeProvider, Stall, Status

from ..support.breakers import let_through
from ..support.driving import TIMEOUT, Caller, ask, scope_of
from ..support.seen import gateway_of, native

HELLO = {"model": "m", "input": "Hello"}


async def test_it_knows_each_provider_by_name(provider: FakeProvider) -> None:
    async with gateway_of(provider, providers=[native(provider, "a"), native(provider, "b")]) as gateway:
        await ask(gateway, HELLO | {"provider": "a"})
        health = gateway.health()

    assert set(health) == set(health.providers) == {"a", "b"}
    assert len(health) == 2
    assert (health["a"].requests, health["a"].failures, health["a"].failure_rate) == (1, 0, 0.0)
    assert health["a"].first_event is not None and health["a"].first_event > 0
    assert (health["b"].requests, health["b"].first_event) == (0, None)
    assert health.available and not health.draining


async def test_failures_open_a_breaker_that_is_shown_without_its_credential(provider: FakeProvider) -> None:
    async with gateway_of(provider, retries=Retries(attempts=1)) as gateway:
        for _ in range(10):
            provider.fail_next(Status(503))
            await ask(gateway, HELLO)
        health = gateway.health()

    (breaker,) = health.breakers
    assert (breaker.provider, breaker.model, breaker.state) == ("fake", "m", "open")
    assert (breaker.requests, breaker.failures) == (10, 10)
    assert 0 < breaker.retry_after <= PAUSE
    assert not health["fake"].available and not health.available
    assert health["fake"].failure_rate == 1.0
    assert "canary" not in repr(health)


async def test_what_is_in_flight_is_counted(provider: FakeProvider) -> None:
    provider.fail_next(Stall(after_events=3))
    async with gateway_of(provider) as gateway:
        caller = Caller(scope_of(), [json.dumps(HELLO | {"stream": True}).encode()])
        with anyio.fail_after(TIMEOUT):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, gateway)
                await caller.until(2)
                during = gateway.health()
                caller.leave()
        after = gateway.health()

    assert (during.in_flight, during["fake"].in_flight) == (1, 1)
    assert (after.in_flight, after["fake"].in_flight) == (0, 0)


async def test_a_snapshot_does_not_change(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        before = gateway.health()
        await ask(gateway, HELLO)

    assert before["fake"].requests == 0 and not before.breakers
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.draining = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        before.providers["x"] = before["fake"]  # type: ignore[index]


async def test_draining_is_shown(provider: FakeProvider) -> None:
    async with gateway_of(provider, timeouts=Timeouts(drain=0.01)) as gateway:
        await gateway.drain()

    assert gateway.health().draining and not gateway.health().available


async def test_a_policy_can_go_by_it(provider: FakeProvider) -> None:
    found: list[Any] = []

    def route(request: RoutingRequest) -> Target:
        found.append(request.health("fake"))
        return Target("fake")

    async with gateway_of(provider, policy=route) as gateway:
        await ask(gateway, HELLO)
        await ask(gateway, HELLO)

    assert [one.requests for one in found] == [0, 1]


async def test_providers_made_for_one_request_show_among_the_breakers(provider: FakeProvider) -> None:
    made = native(provider, "made", api_key="sk-canary-tenant-key")

    async with gateway_of(provider, policy=lambda request: Target(made)) as gateway:
        await ask(gateway, HELLO)
        health = gateway.health()

    assert set(health) == {"fake"}
    assert [one.provider for one in health.breakers] == ["made"]


def test_an_open_breaker_is_half_open_after_its_pause(provider: FakeProvider) -> None:
    now = 0.0
    health = Health(lambda: now)
    breaker = health.breaker(native(provider), "m", "x")
    for _ in range(10):
        let_through(breaker, None).leave(True)
    states = [health.of_all(["fake"], False).breakers[0].state]
    now = PAUSE
    states.append(health.of_all(["fake"], False).breakers[0].state)

    assert states == ["open", "half-open"]


def test_a_breaker_that_knows_nothing_is_not_shown(provider: FakeProvider) -> None:
    now = 0.0
    health = Health(lambda: now)
    breaker = health.breaker(native(provider), "m", "x")
    let_through(breaker, None).leave(False)
    shown = [len(health.of_all(["fake"], False).breakers)]
    now = 2 * WINDOW
    shown.append(len(health.of_all(["fake"], False).breakers))

    assert shown == [1, 0]


async def troubled(provider: FakeProvider) -> GatewayHealth:
    """The health of a gateway one of whose two providers has just failed."""
    async with gateway_of(provider, providers=[native(provider, "a"), native(provider, "b")]) as gateway:
        provider.fail_next(Status(400))
        await ask(gateway, HELLO | {"provider": "a"})
        return gateway.health()


async def test_it_is_plain_json(provider: FakeProvider) -> None:
    health = await troubled(provider)
    told = health.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert set(told) == {"available", "draining", "in_flight", "providers", "breakers"}
    assert told["providers"]["a"]["requests"] == 1 and told["breakers"][0]["model"] == "m"
    assert {type(one) for one in leaves(told)} <= {str, int, float, bool, type(None)}
    told["providers"].clear()
    assert set(health) == {"a", "b"}


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [value]


async def test_pydantic_writes_what_it_tells_and_reads_it_back(provider: FakeProvider) -> None:
    health, adapter = await troubled(provider), TypeAdapter(GatewayHealth)
    assert json.loads(adapter.dump_json(health)) == adapter.dump_python(health, mode="json") == health.to_dict()
    assert adapter.validate_python(health.to_dict()) == adapter.validate_json(adapter.dump_json(health)) == health
    properties = adapter.json_schema(mode="serialization")["properties"]
    assert set(properties) == set(health.to_dict())


@pytest.mark.parametrize("declared", ["annotation", "response_model"])
async def test_fastapi_takes_it_as_the_model_of_a_response(provider: FakeProvider, declared: str) -> None:
    health, app = await troubled(provider), FastAPI()
    if declared == "annotation":

        @app.get("/health")
        async def annotated() -> GatewayHealth:
            return health
    else:

        @app.get("/health", response_model=GatewayHealth)
        async def modelled() -> Any:
            return health

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host") as client:
        assert (await client.get("/health")).json() == health.to_dict()
        schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["GatewayHealth"]
    assert set(schema["properties"]) == set(health.to_dict())
