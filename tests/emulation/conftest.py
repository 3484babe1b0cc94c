"""Stores of other processes run on asyncio, and so do these tests, but where a module says otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gomodel_asgi.testing import FakeProvider


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running
        running.release()
