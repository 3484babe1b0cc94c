"""A request that is cancelled at any of its awaits leaves nothing behind: no task, no connection, no place anywhere.

The app's coroutine is driven step by step; at its n-th suspension the cancellation is delivered, for each n that there
is. What the app awaits is real: an upstream on a socket, a policy, the server's `send`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from starlette.types import ASGIApp

from gomodel_asgi import Limits, RoutingRequest, Target
from gomodel_asgi.testing import Answer, Status, ToolCall

from .support.lab import Lab, anyio_backend, fakes, kind, lab
from .support.suspensions import DECLARED, STREAM, TOOLS, UNARY, cancelled_at, left_at, stops

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

# The stream in which httpx sends a request's body is a generator that it does not close; trio reports that.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


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

    for stop in stops():
        lab.bad.clear()
        if fails:
            lab.bad.fail_next(Status(503))
        if not await end(lab.gateway, body, stop):
            break

    lab.bad.clear()
    assert (await lab.ask(UNARY)).status == 200
    assert all(not health.failures or fails for health in lab.gateway.health().values())


ROUNDS = [
    Answer(calls=[ToolCall("web_search", {"query": "rome"}), ToolCall("lookup", {"order": "7"})]),
    Answer(text="Done."),
]


@pytest.mark.parametrize("end", [cancelled_at, left_at], ids=["cancelled", "left"])
@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_response_of_several_rounds_that_ends_at_any_of_its_awaits_leaves_nothing(
    lab: Lab, body: dict[str, Any], end: Callable[[ASGIApp, dict[str, Any], int], Any]
) -> None:
    lab.make(
        lab.provider(lab.bad, hosted_tools=()),
        tools=TOOLS,
        limits=Limits(provider_concurrency=1, tenant_concurrency=1),
        tenant=lambda scope: "one",
    )

    for stop in stops():
        lab.bad.clear()
        lab.bad.script(ROUNDS)
        if not await end(lab.gateway, {**body, "tools": DECLARED}, stop):
            break

    lab.bad.clear()
    assert (await lab.ask(UNARY)).status == 200
    assert all(not health.failures for health in lab.gateway.health().values())


async def test_a_sync_policy_that_is_cancelled_gives_its_thread_back(lab: Lab) -> None:
    lab.make(policy=lambda request: Target("bad"))

    for stop in stops():
        if not await cancelled_at(lab.gateway, UNARY, stop):
            break

    assert (await lab.ask(UNARY)).status == 200
