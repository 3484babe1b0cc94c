"""Requests that name their tenant in a header, and two upstreams for the accounts of different tenants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.testing import FakeProvider

from .driving import ask

CREATE = {"model": "gpt-5", "input": "hi"}


def tenant(scope: Any) -> str | None:
    """Tests name their tenant in a header."""
    found = dict(scope["headers"]).get(b"x-tenant")
    return None if found is None else found.decode()


def of(name: str | None, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json"), *more]
    return headers if name is None else [*headers, (b"x-tenant", name.encode())]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def one() -> Iterator[FakeProvider]:
    with FakeProvider(name="one").run_in_thread() as fake:
        yield fake


@pytest.fixture
def two() -> Iterator[FakeProvider]:
    with FakeProvider(name="two").run_in_thread() as fake:
        yield fake


async def created(gateway: Gateway, model: str, name: str | None = "acme", **members: Any) -> str:
    caller = await ask(gateway, {"model": model, "input": "hi", **members}, headers=of(name))
    assert caller.status == 200
    response = caller.events()[-1]["response"] if members.get("stream") else caller.json()
    return str(response["id"])
