"""OpenAI's client in front of a fake provider. On trio it leaves async generators to the collector, which warns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from gomodel_asgi.testing import FakeProvider

KEY = "sk-canary-of-the-client"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def dialect() -> str:
    return "responses"


@pytest.fixture
async def provider(dialect: Any) -> AsyncIterator[FakeProvider]:
    async with FakeProvider(dialect=dialect).serve() as provider:
        yield provider


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key=KEY, max_retries=0) as client:
        yield client
