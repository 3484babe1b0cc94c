"""Frameworks around the gateway. Their servers run on asyncio."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gomodel_asgi.testing import FakeProvider

from ..support import django_host


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fresh_gateway(provider: FakeProvider) -> Iterator[None]:
    """The gateway of Django's settings, made anew for the test's own upstream."""
    from gomodel_asgi.contrib.django import get_gateway

    django_host.upstreams.append(provider.base_url)
    get_gateway.cache_clear()
    yield
    get_gateway.cache_clear()
