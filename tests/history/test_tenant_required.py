"""A gateway that requires a tenant answers nobody without one, at none of its doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gomodel_asgi import Gateway, RoutingRequest, Target, Unauthenticated
from gomodel_asgi.operations import PLACEHOLDER, TABLE, Row
from gomodel_asgi.testing import FakeProvider

from ..support.driving import ask
from ..support.remembering import provider_of
from ..support.tenants import anyio_backend, of, one, tenant
from ..support.websocket_client import knocking

__all__ = ["anyio_backend", "one"]

HELLO = {"model": "m", "input": "hi"}


@pytest.fixture
def asked() -> list[str]:
    """The operations of which the policy was asked."""
    return []


@pytest.fixture
async def gateway(one: FakeProvider, asked: list[str]) -> AsyncIterator[Gateway]:
    def policy(request: RoutingRequest) -> Target:
        asked.append(request.operation)
        return Target("one")

    made = Gateway(providers=[provider_of("responses", one, "one")], policy=policy, tenant=tenant, tenant_required=True)
    yield made
    await made.aclose()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
async def test_without_a_tenant_every_operation_is_a_401(
    gateway: Gateway, one: FakeProvider, asked: list[str], row: Row
) -> None:
    if row.method == "WEBSOCKET":
        async with knocking(gateway) as client:
            await client.ended.wait()
        assert client.messages[0]["status"] == 401
    else:
        path = "/v1" + PLACEHOLDER.sub("id_1", row.path)
        body = HELLO if row.body is not None else b""
        caller = await ask(gateway, body, path=path, method=row.method, headers=of(None))
        assert (caller.status, caller.error["type"]) == (401, "authentication_error")
    assert not asked
    assert not one.requests


async def test_the_hosts_own_code_names_a_tenant_too(gateway: Gateway, one: FakeProvider) -> None:
    for call in (gateway.respond, gateway.explain):
        with pytest.raises(Unauthenticated):
            await call(HELLO)
        await call(HELLO, tenant="acme")
    assert len(one.requests) == 1


async def test_with_a_tenant_nothing_is_different(gateway: Gateway, one: FakeProvider, asked: list[str]) -> None:
    assert (await ask(gateway, HELLO, headers=of("acme"))).status == 200
    assert (await ask(gateway, HELLO, headers=of(""))).status == 200, "any string is a tenant"
    assert asked == ["create", "create"]


async def test_no_tenant_is_required_unless_it_is_said(one: FakeProvider) -> None:
    gateway: Any = Gateway(providers=[provider_of("responses", one, "one")], tenant=tenant)
    assert (await ask(gateway, HELLO, headers=of(None))).status == 200
    await gateway.aclose()
