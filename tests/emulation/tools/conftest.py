"""One fake provider for each dialect, for all tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gomodel_asgi.testing import FakeProvider

from .hosting import DIALECTS, Hosting, House, fake_of


@pytest.fixture(scope="session")
def dialect_fakes() -> Iterator[dict[str, FakeProvider]]:
    with ExitStack() as stack:
        yield {dialect: stack.enter_context(fake_of(dialect)) for dialect in DIALECTS}


@pytest.fixture
async def hosting(dialect_fakes: dict[str, FakeProvider]) -> AsyncIterator[Hosting]:
    """Makes a house; the dialect is chat if none is named."""
    for fake in dialect_fakes.values():
        fake.clear()
    made: list[House] = []

    def make(*given: Any, dialect: str = "chat", **options: Any) -> House:
        made.append(House(dialect_fakes[dialect], dialect, *given, **options))
        return made[-1]

    yield make
    for house in made:
        await house.gateway.aclose()
    assert [fake.pending for fake in dialect_fakes.values()] == [0, 0, 0, 0]


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
