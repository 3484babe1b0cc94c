"""A request's body has a deadline: to its first byte, for a pause, and by the pace that it must keep on average."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message

from gomodel_asgi import Gateway, GoModelMiddleware, Timeouts
from gomodel_asgi.contrib.fastapi import responses_router
from gomodel_asgi.errors import RequestTimeout
from gomodel_asgi.observers import Completed
from gomodel_asgi.server.body import SLOWEST, Pace, read_body
from gomodel_asgi.settings import MIB

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.exchanges import UNARY
from ..support.lab import Lab, anyio_backend, fakes, kind, lab
from ..support.seen import Seen

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

BRIEF = Timeouts(body=0.05)
BODY = encoded(UNARY)


# The pace, on a clock of the test's own...


def lasts(pieces: Iterator[tuple[float, int]], seconds: float = 60.0) -> float | None:
    """When a body whose *pieces* come after these seconds, with so many bytes, is given up; None: it is not."""
    now = 0.0
    pace = Pace(seconds, now)
    for after, size in pieces:
        if pace.left(now) < after:
            return now + pace.left(now)
        now += after
        pace.came(size, now)
    return None


def trickle(every: float, size: int, whole: int) -> Iterator[tuple[float, int]]:
    for _ in range(0, whole, size):
        yield every, size


def test_a_large_body_over_a_slow_line_passes() -> None:
    assert lasts(trickle(1.0, SLOWEST, 32 * MIB)) is None
    assert lasts(trickle(0.1, SLOWEST // 10 + 1, 32 * MIB)) is None
    assert lasts(trickle(59.0, 59 * SLOWEST, 32 * MIB)) is None


@pytest.mark.parametrize("size", [1, 100, SLOWEST // 4])
def test_a_trickle_is_given_up(size: int) -> None:
    given_up = lasts(trickle(1.0, size, 32 * MIB))

    assert given_up is not None and given_up <= 61 / (1 - size / SLOWEST) + 1


def test_a_byte_a_second_is_given_up_within_75_seconds() -> None:
    given_up = lasts(trickle(1.0, 1, 32 * MIB))

    assert given_up is not None and 60 <= given_up <= 75


def test_the_first_byte_may_take_as_long_as_a_pause_and_no_longer() -> None:
    assert lasts(iter([(60.0, 1)])) is None
    assert lasts(iter([(60.1, 1)])) == 60.0
    assert lasts(iter([(1.0, 0), (59.5, 1)])) == 60.0  # an empty piece is no byte


def test_what_came_fast_buys_no_longer_pause() -> None:
    assert lasts(iter([(0.0, 31 * MIB), (60.0, 1)])) is None
    assert lasts(iter([(0.0, 31 * MIB), (60.1, 1)])) == 60.0


def test_a_body_may_be_behind_its_pace_for_as_long_as_one_pause() -> None:
    assert lasts(iter([(0.0, 1), (59.0, 1), (0.9, SLOWEST), (1.0, 1)])) is None
    assert lasts(iter([(0.0, 1), (59.0, 1), (2.0, 1)])) == pytest.approx(60.0, abs=0.001)


# The doors...


class Stalling(Caller):
    """A client that says no more after its pieces: the last of them is not the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.incoming[-1]["more_body"] = True


def middleware(gateway: Gateway) -> tuple[ASGIApp, str]:
    return GoModelMiddleware(Starlette(), gateway=gateway), "/v1/responses"


def mount(gateway: Gateway) -> tuple[ASGIApp, str]:
    return Starlette(routes=[Mount("/llm", gateway)]), "/llm/v1/responses"


def endpoint(gateway: Gateway) -> tuple[ASGIApp, str]:
    async def answer(request: Request) -> Response:
        return await gateway.endpoint(request)

    return Starlette(routes=[Route("/ask", answer, methods=["POST"])]), "/ask"


def router(gateway: Gateway) -> tuple[ASGIApp, str]:
    app = FastAPI()
    app.include_router(responses_router(gateway))
    return app, "/v1/responses"


DOORS: list[Callable[[Gateway], tuple[ASGIApp, str]]] = [middleware, mount, endpoint, router]


@pytest.mark.parametrize("pieces", [[b""], [BODY[:5]]], ids=["nothing", "a part"])
@pytest.mark.parametrize("door", DOORS)
async def test_a_body_that_stops_coming_is_a_408_that_closes_the_connection(
    lab: Lab, door: Callable[[Gateway], tuple[ASGIApp, str]], pieces: list[bytes]
) -> None:
    seen = Seen()
    app, path = door(lab.make(timeouts=BRIEF, observers=[seen]))
    caller = Stalling(scope_of(path), pieces)

    with anyio.fail_after(TIMEOUT):
        await caller.run(app)

    assert (caller.status, caller.error["code"], caller.error["type"]) == (
        408,
        "request_timeout",
        "invalid_request_error",
    )
    assert (caller.headers["x-should-retry"], caller.headers["connection"]) == ("false", "close")
    assert caller.complete and caller.raised is None
    assert not lab.bad.requests
    assert isinstance(seen.ended, Completed) and (seen.ended.status, seen.ended.error) == (408, "request_timeout")


@pytest.mark.parametrize("version", ["2", "3"])
async def test_a_version_of_http_that_has_streams_is_told_nothing_of_its_connection(lab: Lab, version: str) -> None:
    caller = Stalling(scope_of(http_version=version), [b"{"])

    with anyio.fail_after(TIMEOUT):
        await caller.run(lab.make(timeouts=BRIEF))

    assert caller.status == 408
    assert "connection" not in caller.headers


async def test_other_errors_leave_the_connection_open(lab: Lab) -> None:
    assert "connection" not in (await ask(lab.make(timeouts=BRIEF), b"{")).headers


async def test_every_operation_with_a_body_has_the_deadline(lab: Lab) -> None:
    gateway = lab.make(timeouts=BRIEF)
    paths = ["/responses", "/responses/compact", "/responses/input_tokens"]
    paths += ["/conversations", "/conversations/conv_1", "/conversations/conv_1/items"]

    for path in paths:
        caller = Stalling(scope_of("/v1" + path), [b"{"])
        with anyio.fail_after(TIMEOUT):
            await caller.run(gateway)
        assert caller.status == 408, path


async def test_a_body_in_many_pieces_that_are_waited_for_arrives_whole(lab: Lab) -> None:
    class Waiting(Caller):
        async def receive(self) -> Message:
            await anyio.lowlevel.checkpoint()
            return await super().receive()

    text = b'{"model":"m","input":"%s"}' % (b"x" * 5000)
    caller = Waiting(scope_of(), [text[at : at + 100] for at in range(0, len(text), 100)])

    with anyio.fail_after(TIMEOUT):
        await caller.run(lab.make())

    assert caller.status == 200
    assert lab.bad.requests[0].body == text


async def test_a_client_that_leaves_while_its_body_is_awaited_is_no_timeout(lab: Lab) -> None:
    caller = Stalling(scope_of(), [b"{"])
    gateway = lab.make()

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.run, gateway)
            await anyio.wait_all_tasks_blocked()
            caller.leave()

    assert caller.messages == [] and caller.raised is None


async def test_a_cancellation_while_the_body_is_awaited_is_no_timeout(lab: Lab) -> None:
    caller: Any = Stalling(scope_of(), [b"{"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.run, lab.make())
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()

    assert caller.messages == []


async def test_what_was_awaited_too_long_is_let_go_of_at_once(lab: Lab) -> None:
    """Not when the collector comes by: a server may keep the connection open for as long as its `receive` lives."""

    class Awaited:
        async def wait(self) -> None:
            await anyio.sleep_forever()

    async def receive() -> Message:
        awaited = Awaited()
        living.append(weakref.ref(awaited))
        await awaited.wait()
        return {}

    living: list[weakref.ref[Awaited]] = []
    gc.disable()
    try:
        try:
            await read_body(receive, {}, 1000, 0.01)
        except RequestTimeout:  # `pytest.raises` would keep it
            pass
        await anyio.lowlevel.checkpoint()  # the step in which it was cancelled ends
        assert living[0]() is None
    finally:
        gc.enable()
