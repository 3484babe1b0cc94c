"""`Server-Timing` on replies, for those who switch it on."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gomodel_asgi import RateLimited, RoutingRequest, Target
from gomodel_asgi.observers import Observers, Trace
from gomodel_asgi.testing import FakeProvider, Status

from ..support.driving import ask
from ..support.seen import Seen, gateway_of

HELLO = {"model": "m", "input": "Hello"}
METRIC = re.compile(r'([a-z_]+\d*);dur=([\d.]+)(?:;desc="([^"]*)")?')


def metrics(header: str) -> dict[str, tuple[float, str]]:
    """The header's metrics (W3C Server Timing, 2): each with its milliseconds and its description."""
    parts = [METRIC.fullmatch(part) for part in header.split(", ")]
    assert all(parts), header
    return {part[1]: (float(part[2]), part[3]) for part in parts if part}


@pytest.mark.parametrize("stream", [False, True])
async def test_policy_attempts_and_first_event_are_timed(provider: FakeProvider, stream: bool) -> None:
    provider.fail_next(Status(503))
    async with gateway_of(provider, expose_timing=True) as gateway:
        caller = await ask(gateway, HELLO | {"stream": stream})

    found = metrics(caller.headers["server-timing"])
    assert list(found) == ["policy", "attempt1", "attempt2", "first_event"]
    assert found["attempt1"][1] == found["attempt2"][1] == "fake"
    parts = sum(milliseconds for name, (milliseconds, _) in found.items() if name != "first_event")
    assert parts <= found["first_event"][0] + 1


async def test_it_is_off_unless_asked_for(provider: FakeProvider) -> None:
    async with gateway_of(provider, Seen()) as gateway:
        assert "server-timing" not in (await ask(gateway, HELLO)).headers


async def test_a_refusal_tells_what_the_policy_took(provider: FakeProvider) -> None:
    def route(request: RoutingRequest) -> Target:
        raise RateLimited("Slow down.")

    async with gateway_of(provider, policy=route, expose_timing=True) as gateway:
        caller = await ask(gateway, HELLO)

    assert list(metrics(caller.headers["server-timing"])) == ["policy"]


async def test_what_was_refused_before_the_policy_has_nothing_to_tell(provider: FakeProvider) -> None:
    async with gateway_of(provider, expose_timing=True) as gateway:
        caller = await ask(gateway, b"{")

    assert caller.status == 400 and "server-timing" not in caller.headers


async def test_a_failure_tells_its_attempts(provider: FakeProvider) -> None:
    provider.fail_next(Status(400))
    async with gateway_of(provider, expose_timing=True) as gateway:
        caller = await ask(gateway, HELLO)

    assert list(metrics(caller.headers["server-timing"])) == ["policy", "attempt1"]


async def test_the_hosts_own_route_gets_it_too(provider: FakeProvider) -> None:
    gateway = gateway_of(provider, expose_timing=True)

    async def endpoint(request: Request) -> Response:
        return await gateway.endpoint(request)

    async with gateway:
        caller = await ask(
            Starlette(routes=[Route("/responses", endpoint, methods=["POST"])]), HELLO, path="/responses"
        )

    assert "policy" in metrics(caller.headers["server-timing"])


def test_a_name_cannot_break_the_header() -> None:
    trace = Trace(Observers())
    trace.attempt('a"b\\c', "openai", "m", ()).answered(200)

    assert metrics(trace.timing().decode())["attempt1"][1] == "abc"
