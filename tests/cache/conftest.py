"""An upstream of each dialect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gomodel_asgi.testing import FakeProvider


@pytest.fixture(params=["responses", "chat", "anthropic", "gemini"])
def upstream(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    with FakeProvider(dialect=request.param).run_in_thread() as running:
        yield running
