from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trustme

from gomodel_asgi import tools
from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.transport import DefaultTransport, Http11Transport, HttpxTransport, Transport, request as resolving
from tests.emulation.tools.hosting import DIALECTS, House, fake_of
from tests.support.scripted_upstream import Upstream

from .servers import NAME, PUBLIC, Houses, Json, Names, Start


@pytest.fixture(scope="module")
def fakes() -> Iterator[dict[str, FakeProvider]]:
    with ExitStack() as stack:
        yield {dialect: stack.enter_context(fake_of(dialect)) for dialect in DIALECTS}


@pytest.fixture
async def house_of(fakes: dict[str, FakeProvider]) -> AsyncIterator[Houses]:
    """Makes a gateway in front of the servers that it is given by label."""
    made: list[House] = []
    for fake in fakes.values():
        fake.clear()

    def make(servers: Json, *, dialect: str = "chat", remote: Any = None, **options: Any) -> House:
        made.append(House(fakes[dialect], dialect, tools.mcp(servers, remote=remote), **options))
        return made[-1]

    yield make
    for house in made:
        await house.gateway.aclose()
    assert not any(fake.pending for fake in fakes.values())


@pytest.fixture
async def transport() -> AsyncIterator[DefaultTransport]:
    """What sessions go through; its idle connections are closed when the test is over."""
    made = DefaultTransport()
    yield made
    await made.aclose()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(resolving, "getaddrinfo", made)
    monkeypatch.setattr(resolving, "is_public", lambda address: address == PUBLIC)
    return made


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def trusting(authority: trustme.CA, anyio_backend: str) -> AsyncIterator[Transport]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    made: Transport = (
        Http11Transport(ssl_context=context) if anyio_backend == "asyncio" else HttpxTransport(verify=context)
    )
    yield made
    await made.aclose()


@pytest.fixture
def start(authority: trustme.CA) -> Iterator[Start]:
    """Serves a script over TLS at an address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(NAME).configure_cert(context)
    started: list[Upstream] = []

    def begin(script: Any, address: str = PUBLIC) -> Upstream:
        started.append(Upstream(script, context=context, address=(address, 0)))
        return started[-1]

    yield begin
    for upstream in started:
        upstream.close()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Sessions of the SDK run on both event loops."""
    return str(request.param)
