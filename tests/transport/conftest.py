from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import httpx2
import pytest
import uvloop

from gomodel_asgi.transport import Http11Transport, HttpxTransport, Transport

from ..support.lab import TRUST
from ..support.scripted_upstream import Script, Upstream

Serve = Callable[..., Upstream]

ASYNCIO: tuple[str, dict[str, Any]] = ("asyncio", {})
UVLOOP: tuple[str, dict[str, Any]] = ("asyncio", {"loop_factory": uvloop.new_event_loop})
TRIO: tuple[str, dict[str, Any]] = ("trio", {})


class Kind(NamedTuple):
    """A transport on a backend. `httpx` is the one that HttpxTransport makes itself, `httpx2` a pooled one given."""

    name: str
    backend: tuple[str, dict[str, Any]]


HTTP11 = [Kind("http11", ASYNCIO), Kind("http11", UVLOOP)]
WRAPPED = [Kind("httpx", ASYNCIO), Kind("httpx", TRIO), Kind("httpx2", ASYNCIO), Kind("httpx2", TRIO)]


def label(kind: Kind) -> str:
    backend, options = kind.backend
    return f"{kind.name}-{'uvloop' if options else backend}"


@pytest.fixture(params=HTTP11 + WRAPPED, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def anyio_backend(kind: Kind) -> tuple[str, dict[str, Any]]:
    return kind.backend


@pytest.fixture
async def transport(kind: Kind) -> AsyncIterator[Transport]:
    made = make(kind.name)
    yield made
    await made.aclose()


def make(name: str) -> Transport:
    if name == "http11":
        return Http11Transport()
    if name == "httpx":
        return HttpxTransport()
    return HttpxTransport(httpx2.AsyncHTTPTransport(trust_env=False, verify=TRUST))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an upstream; when the test is over it is closed, and nothing in it may have failed."""
    started: list[Upstream] = []

    def start(script: Script, **options: Any) -> Upstream:
        started.append(Upstream(script, **options))
        return started[-1]

    yield start
    for upstream in started:
        upstream.close()
        assert upstream.errors == []
