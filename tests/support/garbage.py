"""What a request leaves that only the garbage collector would free."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest

from .lab import Lab

SOON = 3.0  # seconds within which the event loop has done what it had put off; a test that passes needs none of them
TURNS = 3  # requests of each kind: what one leaves may still be in somebody's hand


@pytest.fixture
def kind() -> tuple[str, str]:
    """Our own transport: what others leave is theirs."""
    return "http11", "asyncio"


@pytest.fixture
def anyio_backend(kind: tuple[str, str]) -> str:
    return kind[1]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what earlier tests have left is not looked at
    gc.disable()
    yield
    gc.enable()


FAKE = (
    "gomodel_asgi.testing",
    "gomodel_asgi.wire.event_writer",
    "gomodel_asgi.wire.items",
    "gomodel_asgi.wire.calls",
)
"""What the fake provider makes, in a thread of its own: nothing of that is told here."""


def held(but: tuple[str, ...]) -> Counter[str]:
    """How many objects of the package there are, of each type, but for those of these modules."""
    kinds = (type(thing) for thing in gc.get_objects())
    named = (kind for kind in kinds if str(kind.__module__).startswith("gomodel_asgi."))
    return Counter(kind.__qualname__ for kind in named if not kind.__module__.startswith(but))


async def leaves_nothing(lab: Lab, once: Callable[[], Awaitable[object]], but: tuple[str, ...] = FAKE) -> None:
    """*once*, again and again: what it makes is gone as soon as the event loop has finished with it."""
    await once()
    await lab.gateway.aclose()
    await anyio.lowlevel.checkpoint()
    before = held(but)
    for _ in range(TURNS):
        await once()
        await lab.gateway.aclose()
    with anyio.move_on_after(SOON):
        while held(but) - before:
            await anyio.lowlevel.checkpoint()
    assert not held(but) - before
