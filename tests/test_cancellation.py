"""A request that is cancelled at any of its awaits leaves nothing behind: no task, no connection, no place anywhere.

The app's coroutine is driven step by step; at its n-th suspension the cancellation is delivered, for each n that there
is. What the app awaits is real: an upstream on a socket, a policy, the server's `send`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import ASGIApp

from gomodel_asgi import Limits, RoutingRequest, Target, tools
from gomodel_asgi.testing import Answer, Status, ToolCall

from .support.driving import TIMEOUT, Caller, scope_of
from .support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

# The stream in which httpx sends a request's body is a generator that it does not close; trio reports that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

UNARY: dict[str, Any] = {"model": "gpt-5", "input": "one two three"}
STREAM = {**UNARY, "stream": True}
MOST = 400
"""More suspensions than a request has; a request that never ends would be noticed here."""


class Counted:
    """Counts the suspensions of a coroutine, and calls *at* at the one of number *stop*."""

    def __init__(self, stop: int, at: Callable[[], None]) -> None:
        self.stop = stop
        self.at = at
        self.seen = 0

    @coroutine
    def run(self, work: Any) -> Generator[Any, Any, Any]:
        """*work*, each of its suspensions handed to the loop as its own would be."""
        steps = work.__await__()
        sent: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                waits_for = steps.send(sent) if thrown is None else steps.throw(thrown)
            except StopIteration as stop:
                return stop.value
            self.seen += 1
            if self.seen == self.stop:
                self.at()
            thrown = sent = None
            try:
                sent = yield waits_for
            except BaseException as error:
                thrown = error


async def cancelled_at(app: ASGIApp, body: dict[str, Any], stop: int) -> bool:
    """Make a request and cancel it at its suspension number *stop*; whether it got that far."""
    caller = Caller(scope_of(), [json.dumps(body).encode()])
    with anyio.fail_after(TIMEOUT):
        with anyio.CancelScope() as scope:
            counted = Counted(stop, scope.cancel)
            await counted.run(app(caller.scope, caller.receive, caller.send))
    return counted.seen >= stop


async def left_at(app: ASGIApp, body: dict[str, Any], stop: int) -> bool:
    """The same, but it is the client that leaves."""
    caller = Caller(scope_of(), [json.dumps(body).encode()])
    with anyio.fail_after(TIMEOUT):
        counted = Counted(stop, caller.leave)
        await counted.run(app(caller.scope, caller.receive, caller.send))
    return counted.seen >= stop


async def policy(request: RoutingRequest) -> Target:
    await anyio.lowlevel.checkpoint()
    return Target("bad", fallbacks=[Target("good")])


@pytest.mark.parametrize("end", [cancelled_at, left_at], ids=["cancelled", "left"])
@pytest.mark.parametrize("fails", [False, True], ids=["answered", "failed over"])
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_request_that_ends_at_any_of_its_awaits_leaves_nothing(
    lab: Lab, body: dict[str, Any], fails: bool, end: Callable[[ASGIApp, dict[str, Any], int], Any]
) -> None:
    limits = Limits(provider_concurrency=1, tenant_concurrency=1)
    providers = lab.provider(lab.bad), lab.provider(lab.good, "good")
    lab.make(*providers, policy=policy, limits=limits, tenant=lambda scope: "one")

    for stop in range(1, MOST):
        lab.bad.clear()
        if fails:
            lab.bad.fail_next(Status(503))
        if not await end(lab.gateway, body, stop):
            break
    else:
        raise AssertionError("a request did not come to its end")

    lab.bad.clear()
    assert (await lab.ask(UNARY)).status == 200
    assert all(not health.failures or fails for health in lab.gateway.health().values())


async def search(call: tools.Call) -> str:
    await anyio.lowlevel.checkpoint()
    return "Sunny."


async def lookup(order: str) -> str:
    """Look an order up."""
    await anyio.lowlevel.checkpoint()
    return "On its way."


ROUNDS = [
    Answer(calls=[ToolCall("web_search", {"query": "rome"}), ToolCall("lookup", {"order": "7"})]),
    Answer(text="Done."),
]
DECLARED = [{"type": "web_search"}, {"type": "mcp", "server_label": "crm", "require_approval": "never"}]


@pytest.mark.parametrize("end", [cancelled_at, left_at], ids=["cancelled", "left"])
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_response_of_several_rounds_that_ends_at_any_of_its_awaits_leaves_nothing(
    lab: Lab, body: dict[str, Any], end: Callable[[ASGIApp, dict[str, Any], int], Any]
) -> None:
    lab.make(
        lab.provider(lab.bad, hosted_tools=()),
        tools=[tools.web_search(search), tools.mcp({"crm": [lookup]})],
        limits=Limits(provider_concurrency=1, tenant_concurrency=1),
        tenant=lambda scope: "one",
    )

    for stop in range(1, MOST):
        lab.bad.clear()
        lab.bad.script(ROUNDS)
        if not await end(lab.gateway, {**body, "tools": DECLARED}, stop):
            break
    else:
        raise AssertionError("a request did not come to its end")

    lab.bad.clear()
    assert (await lab.ask(UNARY)).status == 200
    assert all(not health.failures for health in lab.gateway.health().values())


async def test_a_sync_policy_that_is_cancelled_gives_its_thread_back(lab: Lab) -> None:
    lab.make(policy=lambda request: Target("bad"))

    for stop in range(1, MOST):
        if not await cancelled_at(lab.gateway, UNARY, stop):
            break

    assert (await lab.ask(UNARY)).status == 200
