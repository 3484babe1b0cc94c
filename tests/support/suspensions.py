"""Requests that end at one of their awaits: the app's coroutine is driven step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
from starlette.types import ASGIApp

from gomodel_asgi import tools

from .driving import TIMEOUT, Caller, scope_of

UNARY: dict[str, Any] = {"model": "gpt-5", "input": "one two three"}
STREAM = {**UNARY, "stream": True}
MOST = 400
"""More suspensions than a request has."""


def stops() -> Iterator[int]:
    """The numbers of the suspensions at which a request is to end, until it ends by itself.

    :raises AssertionError: it never does.
    """
    yield from range(1, MOST)
    raise AssertionError("a request did not come to its end")


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


async def search(call: tools.Call) -> str:
    await anyio.lowlevel.checkpoint()
    return "Sunny."


async def lookup(order: str) -> str:
    """Look an order up."""
    await anyio.lowlevel.checkpoint()
    return "On its way."


TOOLS = [tools.web_search(search), tools.mcp({"crm": [lookup]})]
DECLARED = [{"type": "web_search"}, {"type": "mcp", "server_label": "crm", "require_approval": "never"}]
"""How a client declares them."""
