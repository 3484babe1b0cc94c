"""Gateways that are closed when a test ends, with nothing left of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.testing import FakeProvider

Make = Callable[..., Gateway]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes gateways in front of a fake provider, or of the given providers."""
    made: list[Gateway] = []

    def gateway_of(*providers: FakeProvider | Provider, **options: Any) -> Gateway:
        given = [Provider("fake", one.base_url) if isinstance(one, FakeProvider) else one for one in providers]
        made.append(Gateway(providers=given, **options))
        return made[-1]

    yield gateway_of
    for gateway in made:
        await gateway.aclose()
        assert not gateway.in_flight.connections
        assert not gateway.connections.here().open
        assert all(not breaker.in_flight for breaker in gateway.setup.health.breakers.values())
