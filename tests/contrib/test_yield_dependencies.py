"""How long what a dependency of FastAPI's opens stays open, as `docs/getting-started.md` says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.fastapi import responses_router
from gomodel_asgi.testing import FakeProvider, Stall

from ..support.serving import Served

STREAM = {"model": "m", "input": "Hello", "stream": True}
opened: list[str] = []


async def session() -> AsyncIterator[str]:
    """Stands for a database session."""
    opened.append("session")
    yield "session"
    opened.remove("session")


async def user(session: Annotated[str, Depends(session)]) -> None: ...


async def user_found_first(session: Annotated[str, Depends(session, scope="function")]) -> None: ...


@pytest.fixture
def anyio_backend() -> str:
    """FastAPI's dependencies are served by uvicorn, on asyncio."""
    return "asyncio"


@pytest.mark.parametrize(
    ("dependency", "held"),
    [
        pytest.param(Depends(session), ["session"], id="by-itself"),
        pytest.param(Depends(user), ["session"], id="below-another"),
        pytest.param(Depends(session, scope="function"), [], id="function"),
        pytest.param(Depends(user_found_first, scope="function"), [], id="function-below-another"),
    ],
)
async def test_what_a_dependency_opens_is_open_while_the_stream_is_unless_its_scope_is_the_function(
    provider: FakeProvider, serve: Served, dependency: Any, held: list[str]
) -> None:
    provider.fail_next(Stall(after_events=4))
    async with httpx.AsyncClient(base_url=_served(provider, serve, dependency), timeout=20) as client:
        async with client.stream("POST", "/v1/responses", json=STREAM) as reply:
            lines = reply.aiter_lines()
            assert "response.created" in await anext(lines)
            assert opened == held
            provider.release()
            assert any("response.completed" in line for line in [line async for line in lines])
        await client.get("/")  # answered once the server is done with the request before it on this connection
    assert opened == []


def _served(provider: FakeProvider, serve: Served, dependency: Any) -> str:
    gateway = Gateway(providers=[Provider("fake", provider.base_url)])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(responses_router(gateway, dependencies=[dependency]))
    return serve(app)
