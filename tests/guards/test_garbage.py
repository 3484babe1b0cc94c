"""A guarded request frees what it held when it ends, by counting references alone, however its guards decide."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi import Timeouts, tools
from gomodel_asgi.guards import Block, Guard, Replace, Texts
from gomodel_asgi.testing import Answer, ToolCall

from ..support.exchanges import STREAM, UNARY
from ..support.garbage import anyio_backend, kind, leaves_nothing, no_collector
from ..support.lab import Lab, fakes, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab", "no_collector"]

WEB = [{"type": "web_search"}]


async def search(call: tools.Call) -> str:
    return "found it"


async def mask(given: Texts) -> Replace:
    return Replace(tuple(text.replace("a", "b") for text in given.texts))


async def block(given: Texts) -> Block:
    return Block()


async def fail(given: Texts) -> None:
    raise RuntimeError


async def block_found(given: Texts) -> Block | None:
    return Block() if "found" in given.texts[0] else None


async def fail_found(given: Texts) -> None:
    if "found" in given.texts[0]:
        raise RuntimeError


GUARDS: dict[str, Any] = {
    "replaced": Guard("g", input=mask, output=mask, hold=3),
    "held": Guard("g", output=mask),
    "the request is blocked": Guard("g", input=block),
    "the reply is blocked": Guard("g", output=block),
    "the reply is blocked on its way": Guard("g", output=block, hold=3),
    "the request's guard fails": Guard("g", input=fail),
    "the reply's guard fails": Guard("g", output=fail),
    "the reply's guard fails on its way": Guard("g", output=fail, hold=3),
    "what a tool gives is blocked": Guard("g", input=block_found, output=mask),
    "the guard of what a tool gives fails": Guard("g", input=fail_found),
}


CASES = [(guard, body, 15.0) for guard in GUARDS for body in (UNARY, STREAM)]
CASES += [(guard, STREAM, 1e-9) for guard in ("held", "the reply is blocked", "the reply's guard fails")]


@pytest.mark.parametrize(("guard", "body", "gate"), CASES)
async def test_nothing_of_a_guarded_request_waits_for_the_collector(
    lab: Lab, guard: str, body: Any, gate: float
) -> None:
    lab.make(
        lab.provider(lab.bad, hosted_tools=()), guards=[GUARDS[guard]], tools=[tools.web_search(search)],
        timeouts=Timeouts(gate=gate),
    )  # fmt: skip

    async def once() -> None:
        lab.bad.clear()
        lab.bad.script(Answer(calls=[ToolCall("web_search", {"query": "a"})]), Answer(text="a word or two"))
        answer = await lab.ask({**body, "tools": WEB, "store": False})
        assert answer.messages
        answer.raised = None

    await leaves_nothing(lab, once)
