"""What an attempt makes of a reply: when a failure counts, in which pieces an answer leaves, and what it is called."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import anyio
import pytest

from gomodel_asgi import Target, Timeouts
from gomodel_asgi.errors import Overloaded
from gomodel_asgi.settings import MIB
from gomodel_asgi.testing import FakeProvider, Scripted, Stall
from gomodel_asgi.upstream.stream import fed

from ..support.driving import TIMEOUT, Caller, ask, scope_of
from ..support.exchanges import EVENTS, STREAM, UNARY, answered_by, streamed, with_fallback
from ..support.lab import Lab, anyio_backend, fakes, kind, lab

__all__ = ["anyio_backend", "fakes", "kind", "lab"]

FAILED = (
    b"event: response.failed\ndata: %b\n\n"
    % json.dumps(
        {
            "type": "response.failed",
            "sequence_number": 1,
            "response": {
                **json.loads(EVENTS[0].split(b"data: ", 1)[1])["response"],
                "status": "failed",
                "error": {"code": "server_error", "message": "overheated"},
            },
        }
    ).encode()
)


async def test_a_failure_before_anything_meaningful_has_its_fallback_asked_without_waiting_for_the_end(
    lab: Lab,
) -> None:
    with_fallback(lab)
    lab.bad.script(Scripted(streamed(EVENTS[0], FAILED), (Stall(after_events=2),)))

    with anyio.fail_after(TIMEOUT):
        answered_by(await lab.ask(STREAM), "good")


async def test_a_failure_that_comes_at_once_with_the_beginning_is_passed_where_no_fallback_is_left(lab: Lab) -> None:
    lab.make(stamp=False)
    lab.bad.script(streamed(EVENTS[0] + FAILED))

    answer = await lab.ask(STREAM)

    answered_by(answer, "bad")
    assert answer.content.startswith(EVENTS[0] + FAILED)


async def test_what_ends_a_response_leaves_whole_and_behind_all_else(lab: Lab) -> None:
    """By then it has been recorded: what a client has all of it can name in its next request."""
    two = lab.provider(lab.bad), lab.provider(lab.good, "good")  # so that it is recorded whose the response is
    lab.make(*two, policy=lambda request: Target("bad"), stamp=False)
    lab.bad.script(Scripted(streamed(), (Stall(after_events=4),)))
    answer = Caller(scope_of(), [json.dumps(STREAM).encode()])

    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer.run, lab.gateway)
            await answer.until(2)
            await lab.release(lambda: answer.complete)

    assert answer.content == b"".join(EVENTS)
    assert all(piece.startswith((b"event:", b"data: [DONE]")) and piece.endswith(b"\n\n") for piece in answer.pieces)
    (end,) = (piece for piece in answer.pieces if b"event: response.completed" in piece)
    assert end.startswith(b"event: response.completed")


async def test_a_stream_that_is_let_go_of_twice_gives_its_place_back_once_and_nothing_more(lab: Lab) -> None:
    lab.make(lab.provider(lab.bad, max_concurrency=2), timeouts=Timeouts(pool=0.0))
    lab.bad.script([Scripted(streamed(), (Stall(after_events=3),))] * 3)
    first, second = [await lab.gateway.respond(STREAM) for _ in range(2)]
    assert first.stream is not None and await first.stream.next()

    await first.stream.aclose()
    await first.stream.aclose()
    async with second, await lab.gateway.respond(STREAM):
        with pytest.raises(Overloaded):
            await lab.gateway.respond(STREAM)

    assert await first.stream.next() == b""


@pytest.mark.parametrize("waiting, elsewhere", [(MIB, False), (MIB + 1, True)])
async def test_an_event_that_has_become_large_is_read_beside_the_loop(waiting: int, elsewhere: bool) -> None:
    class Large:
        thread = 0

        def feed(self, data: bytes) -> bytes:
            self.thread = threading.get_ident()
            return data

    reader: Any = Large()
    reader.waiting = waiting
    assert await fed(reader, b"x") == b"x"
    assert (reader.thread != threading.get_ident()) is elsewhere


@pytest.mark.parametrize("body", [UNARY, STREAM], ids=["unary", "stream"])
async def test_a_translated_response_is_called_by_48_digits_at_random(lab: Lab, body: dict[str, object]) -> None:
    with FakeProvider(dialect="chat").run_in_thread() as chat:
        lab.make(lab.provider(chat, dialect="chat"))
        found = [re.findall(rb'"resp_[^"]*"', (await ask(lab.gateway, body)).content) for _ in range(2)]

    first, second = ({*ids} for ids in found)
    assert len(first) == len(second) == 1 and first != second
    assert all(re.fullmatch(rb'"resp_[0-9a-f]{48}"', id) for id in first | second)
