"""The engines of the stores run on asyncio, and so do their tests, but where a module says otherwise."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
