"""`Limits.connections`: what tenants with keys of their own can make a gateway hold open."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Limits, Provider, RoutingRequest, Target, Timeouts
from gomodel_asgi.testing import Stall
from gomodel_asgi.transport.slots import of_process

from ..support.driving import TIMEOUT, Caller, ask, scope_of
from ..support.exchanges import STREAM, UNARY
from ..support.lab import KINDS, Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

bounded = pytest.mark.parametrize("kind", KINDS[:2], indirect=True, ids=lambda kind: kind[0])
"""A transport that the host gives to HttpxTransport bounds itself."""


async def own_key(request: RoutingRequest) -> Target:
    return Target("bad", api_key=f"sk-canary-{request.tenant}")


def gateway_of(lab: Lab, connections: int) -> Gateway:
    return lab.make(
        policy=own_key,
        tenant=lambda scope: scope["tenant"],
        limits=Limits(connections=connections),
        timeouts=Timeouts(pool=0.05),
    )


@bounded
async def test_past_it_tenants_are_told_to_come_again_and_no_breaker_counts_it(lab: Lab) -> None:
    gateway = gateway_of(lab, 2)
    for _ in range(2):
        lab.bad.fail_next(Stall(after_events=3))
    streams = [Caller(scope_of(tenant=tenant), [json.dumps(STREAM).encode()]) for tenant in "ab"]

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(stream.run, gateway)
                await stream.until(2)
            refused = await ask(gateway, UNARY, tenant="c")
            health = gateway.health()["bad"]
            await lab.release(lambda: all(stream.complete for stream in streams))

    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "overloaded", "1")
    assert (health.requests, health.failures) == (0, 0)
    assert (await ask(gateway, UNARY, tenant="c")).status == 200


@bounded
async def test_any_number_of_tenants_with_keys_of_their_own_fits(lab: Lab) -> None:
    gateway = gateway_of(lab, 3)

    for number in range(20):
        assert (await ask(gateway, UNARY, tenant=f"t{number}")).status == 200
        assert gateway.connections.open <= 3


def test_gateways_that_name_no_figure_have_the_process_in_common() -> None:
    def gateway(**options: Any) -> Gateway:
        return Gateway(providers=[Provider("p", "http://127.0.0.1:1/v1")], **options)

    assert gateway().connections is gateway().connections is of_process()
    assert gateway(limits=Limits(connections=5)).connections.limit == 5
