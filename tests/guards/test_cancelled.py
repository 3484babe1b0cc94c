"""A guarded request that ends at any of its awaits leaves nothing: no task, no connection, no place, no guard."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import pytest
from starlette.types import ASGIApp

from gomodel_asgi import Limits
from gomodel_asgi.guards import Guard, Replace, Texts
from gomodel_asgi.testing import Answer, ToolCall

from ..support.lab import KINDS, Lab, anyio_backend, fakes, kind, lab
from ..support.suspensions import DECLARED, STREAM, TOOLS, UNARY, cancelled_at, left_at, stops

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.parametrize("kind", KINDS[:2], ids=["asyncio", "trio"]),
]
ROUNDS = [Answer(calls=[ToolCall("web_search", {"query": "sk-1"})]), Answer(text="It is sk-1.")]
UNDER_WAY: list[Texts] = []


async def mask(given: Texts) -> Replace:
    UNDER_WAY.append(given)
    try:
        await anyio.lowlevel.checkpoint()
        return Replace(tuple(re.sub(r"sk-\d+", "[key]", text) for text in given.texts))
    finally:
        UNDER_WAY.remove(given)


@pytest.mark.parametrize("end", [cancelled_at, left_at], ids=["cancelled", "left"])
@pytest.mark.parametrize(("body", "hold"), [(UNARY, "all"), (STREAM, 5), (STREAM, "all")], ids=["unary", "5", "all"])
async def test_a_guarded_response_that_ends_at_any_of_its_awaits_leaves_nothing(
    lab: Lab, body: dict[str, Any], hold: Any, end: Callable[[ASGIApp, dict[str, Any], int], Any]
) -> None:
    lab.make(
        lab.provider(lab.bad, hosted_tools=()),
        tools=TOOLS,
        guards=[Guard("keys", input=mask, output=mask, hold=hold), Guard("more", output=mask, hold=2)],
        limits=Limits(provider_concurrency=1, tenant_concurrency=1),
        tenant=lambda scope: "one",
    )
    for stop in stops():
        lab.bad.clear()
        lab.bad.script(ROUNDS)
        if not await end(lab.gateway, {**body, "tools": DECLARED}, stop):
            break
        assert UNDER_WAY == []
    lab.bad.clear()
    assert (await lab.ask(UNARY)).status == 200
    assert all(not health.failures for health in lab.gateway.health().values())
