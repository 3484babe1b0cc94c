"""A gateway that lets everybody use its keys says so when it starts, unless that is meant."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gomodel_asgi import Gateway, GoModelMiddleware, Provider, RoutingRequest, Target, policies
from gomodel_asgi.testing import FakeProvider

QUESTION = {"model": "m", "input": "Hello"}


def keyed(provider: FakeProvider, **options: Any) -> Gateway:
    return Gateway(providers=[Provider("house", provider.base_url, api_key="sk-canary")], **options)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record for record in caplog.records if record.name == "gomodel_asgi.gateway"]
    assert all(record.levelno == logging.WARNING for record in found)
    return [record.getMessage() for record in found]


async def route(request: RoutingRequest) -> Target:
    return Target("house")


@pytest.mark.parametrize("policy", [None, policies.hint])
async def test_it_warns_once_at_its_first_request_and_answers_it(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, policy: Any
) -> None:
    gateway = keyed(provider, policy=policy)
    assert not warnings(caplog)
    for _ in range(3):
        assert (await (await gateway.respond(QUESTION)).json())["provider"] == "house"
    await gateway.aclose()
    [warning] = warnings(caplog)
    assert "policies.authenticated" in warning and "public=True" in warning
    assert "sk-canary" not in warning


@pytest.mark.parametrize("door", ["middleware", "mounted", "entered"])
async def test_it_warns_before_the_first_request_where_there_is_a_start(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, door: str
) -> None:
    gateway = keyed(provider)
    if door == "entered":
        async with gateway:
            pass
    else:
        with TestClient(gateway if door == "mounted" else GoModelMiddleware(Starlette(), gateway=gateway)):
            pass
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    "options", [{"public": True}, {"policy": policies.authenticated(route)}, {"tenant_required": True}]
)
async def test_it_does_not_warn_where_it_is_said_who_may_call(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    async with keyed(provider, **options) as gateway:
        assert not gateway.exposed
    assert not warnings(caplog)


async def test_it_does_not_warn_where_there_is_no_key_to_use(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway(providers=[Provider("local", provider.base_url)]):
        pass
    assert not warnings(caplog)


@pytest.mark.parametrize("options", [{"headers": {"x-api-key": "k"}}, {"query": {"key": "k"}}])
def test_a_key_in_headers_or_query_is_a_key(provider: FakeProvider, options: dict[str, Any]) -> None:
    assert Gateway(providers=[Provider("house", provider.base_url, **options)]).exposed


def test_a_reload_decides_anew(provider: FakeProvider) -> None:
    gateway = keyed(provider)
    assert gateway.exposed
    gateway.reload(policy=route)
    assert not gateway.exposed
    gateway.reload(policy=policies.hint)
    assert gateway.exposed
