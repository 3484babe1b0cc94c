"""A session that is cancelled at any of its awaits leaves nothing behind: no task, no connection in use, no answer.

The coroutine is driven step by step; at its n-th suspension the cancellation is delivered, for each n that there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from gomodel_asgi.deadline import on_trio
from gomodel_asgi.emulation.tools import mcp_client  # noqa: F401  # imported beside the loop at the first session else
from gomodel_asgi.transport import Http11Transport, HttpxTransport, Transport
from tests.support.requests import until
from tests.support.serving import Served
from tests.support.suspensions import Counted

from .servers import DONE, HEADERS, Gate, Opened, Raw, Shop, call_of, opened, tool

# httpx sends a body by a generator, and the SDK reads events by one, which nobody closes; trio reports that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MOST = 400
"""More suspensions than there are; a session that never ends would be noticed here."""
SETTLING = 200
"""Turns of the loop in which what was cancelled may end."""


@pytest.fixture(params=["in-process", "modern", "legacy"])
def made(request: pytest.FixtureRequest, serve: Served) -> tuple[str, Any]:
    """The name of a kind of server, and what it is opened by."""
    if request.param == "in-process":
        return request.param, Shop().server
    if request.param == "modern":
        return request.param, serve(Gate(Shop().app())) + "/mcp"
    return request.param, serve(Raw(tools_list={"tools": [tool("echo")]}, tools_call=DONE, DELETE={})) + "/mcp"


@pytest.fixture
async def through(anyio_backend: str) -> AsyncIterator[Transport]:
    transport: Transport = Http11Transport() if anyio_backend == "asyncio" else HttpxTransport()
    yield transport
    await transport.aclose()


def tasks() -> int:
    """How many there are on this loop."""
    if on_trio():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def settled(count: int) -> bool:
    for _ in range(SETTLING):
        if tasks() <= count:
            return True
        await anyio.sleep(0.005)
    return False


async def cancelled_at(work: Callable[[], Any], stop: int) -> bool:
    """Run *work* and cancel it at its suspension number *stop*; whether it got that far."""
    with anyio.fail_after(20):
        with anyio.CancelScope() as scope:
            counted = Counted(stop, scope.cancel)
            await counted.run(work())
    return counted.seen >= stop


async def cancelled_after(work: Callable[[], Any], turns: int) -> bool:
    """Run *work* and cancel it after *turns* of the loop, wherever its owner's task may be then; whether it was still
    under way."""
    over: list[bool] = []

    async def run() -> None:
        await work()
        over.append(True)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            for _ in range(turns):
                if over:
                    break
                await checkpoint()
            group.cancel_scope.cancel()
    return not over


def source_of_kind(made: tuple[str, Any], transport: Transport) -> Opened:
    kind, source = made
    return opened(source, transport) if kind == "in-process" else opened(source, transport, headers=HEADERS)


async def test_a_session_cancelled_at_any_await_leaves_nothing(made: tuple[str, Any], through: Transport) -> None:
    async def whole() -> None:
        async with source_of_kind(made, through) as session:
            await session.list_tools()
            outcome = await session.call_tool("echo", {"text": "done"}, call_of())
            assert outcome.text == "done"

    await whole()
    before = tasks()
    for stop in range(1, MOST):
        if not await cancelled_at(whole, stop):
            break
        assert await settled(before), stop
    else:
        raise AssertionError("a session did not come to its end")

    turns = 0
    while await cancelled_after(whole, turns):
        assert await settled(before), turns
        turns = max(turns + 1, int(turns * 1.2))
    await whole()


async def test_a_call_cancelled_at_any_await_leaves_its_session_whole(
    made: tuple[str, Any], through: Transport
) -> None:
    async with source_of_kind(made, through) as session:

        async def one() -> None:
            outcome = await session.call_tool("echo", {"text": "done"}, call_of())
            assert outcome.text == "done"

        await one()
        for stop in range(1, MOST):
            if not await cancelled_at(one, stop):
                break
            await one()
        else:
            raise AssertionError("a call did not come to its end")


async def test_a_call_that_is_cancelled_is_given_up_by_the_server(through: Transport) -> None:
    shop = Shop()
    async with opened(shop.server, through) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.call_tool, "slow", {}, call_of())
            await until(lambda: "slow" in shop.called)
            group.cancel_scope.cancel()

        assert shop.cancelled == ["slow"]


async def test_a_session_that_is_cancelled_ends_although_its_server_hangs(serve: Served, through: Transport) -> None:
    async def never(message: Any) -> None:
        await anyio.sleep(60)

    raw = Raw(tools_call=DONE, DELETE=never)
    url = serve(raw) + "/mcp"
    before = tasks()

    with anyio.CancelScope() as scope:
        async with opened(url, through, headers=HEADERS) as session:
            await session.call_tool("t", {}, call_of())
            scope.cancel()

    assert raw.asked[-1] == "DELETE"
    assert await settled(before)
