"""Fixtures for pytest, there as soon as the package is installed: `fake_provider`, `run_policy`, `run_tool`.

The plugin is loaded by every run of pytest, so everything but pytest is imported inside the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .policy import Decision
    from .provider import FakeProvider
    from .tool import Ran


@pytest.fixture
def run_policy() -> Callable[..., Decision]:
    """`gomodel_asgi.testing.run_policy`: asks a policy where a request would go, without HTTP."""
    from .policy import run_policy

    return run_policy


@pytest.fixture
def run_tool() -> Callable[..., Ran]:
    """`gomodel_asgi.testing.run_tool`: runs a hosted tool without a model."""
    from .tool import run_tool

    return run_tool


@pytest.fixture
def fake_provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """A fake provider, served on a real socket from a thread: for tests with an event loop and without.

    `@pytest.mark.parametrize("fake_provider", ["chat", "anthropic"], indirect=True)` chooses its dialects.
    """
    from .provider import FakeProvider

    with FakeProvider(dialect=getattr(request, "param", "responses")).run_in_thread() as provider:
        yield provider
