from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gomodel_asgi.transport import DefaultTransport


@pytest.fixture
async def transport() -> AsyncIterator[DefaultTransport]:
    """What sessions go through; its idle connections are closed when the test is over."""
    made = DefaultTransport()
    yield made
    await made.aclose()
