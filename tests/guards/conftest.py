"""An upstream of one native and of one translated dialect, but where a module has more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gomodel_asgi.testing import FakeProvider


@pytest.fixture(params=["responses", "chat"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """An upstream of the test's dialect, if it has one."""
    kind: Any = request.getfixturevalue("dialect") if "dialect" in request.fixturenames else "responses"
    with FakeProvider(dialect=kind).run_in_thread() as running:
        yield running
