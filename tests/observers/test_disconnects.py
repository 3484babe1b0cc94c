"""A client that leaves leaves a record: at whatever point, exactly one, with what had been used by then."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest
from starlette.types import Message

from gomodel_asgi import Gateway, Timeouts
from gomodel_asgi.observers import AttemptEnded, Completed, Disconnected, Ended, Usage
from gomodel_asgi.server.delivery import PIECE
from gomodel_asgi.testing import FakeProvider, Reply, Stall
from gomodel_asgi.testing.provider import Scripted

from ..support.driving import Caller, scope_of
from ..support.lab import until
from ..support.seen import Seen, gateway_of, native

Json = dict[str, Any]

PATIENCE = 5.0
ASKED = json.dumps({"model": "m", "input": "Hello", "stream": True}).encode()
WORDS = 40


def events(*given: Json) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in given)


def talk() -> bytes:
    """A stream of one event, then `WORDS` of five bytes of text each, then the last."""
    response = {"id": "resp_1", "object": "response", "model": "m", "status": "in_progress", "output": []}
    words = [{"type": "response.output_text.delta", "delta": "word "}] * WORDS
    usage = {"input_tokens": 5, "output_tokens": WORDS, "total_tokens": WORDS + 5}
    last = {"type": "response.completed", "response": response | {"status": "completed", "usage": usage}}
    return events({"type": "response.created", "response": response}, *words, last)


def stalled(stream: bytes, after: int) -> Scripted:
    return Scripted(Reply(stream, content_type="text/event-stream"), (Stall(after_events=after),))


@pytest.mark.parametrize("point", random.Random(8).sample(range(1, WORDS), 8))
async def test_leaving_in_mid_stream_gives_one_record_with_an_estimate(provider: FakeProvider, point: int) -> None:
    provider.script(stalled(talk(), point))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await left_after(gateway, point)

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected)
    assert (ended.reason, ended.status, ended.error, ended.events) == ("gone", 200, None, point)
    tokens = -(-(point - 1) * 5 // 4)
    assert ended.usage == Usage(input_tokens=-(-len(ASKED) // 4), output_tokens=tokens, estimated=True)


async def left_after(gateway: Gateway, point: int) -> None:
    caller = Caller(scope_of(), [ASKED])
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            while len(caller.events() if caller.messages else []) < point:
                await caller.until(len(caller.messages) + 1)
            await anyio.wait_all_tasks_blocked()  # the app has returned from `send`, and knows that the event is out
            caller.leave()


async def test_leaving_before_the_first_byte_gives_a_record(provider: FakeProvider) -> None:
    provider.fail_next(Stall())
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        caller = Caller(scope_of(), [ASKED])
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, gateway)
                await provider.received(1)
                caller.leave()

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected)
    assert (ended.reason, ended.status, ended.first_event) == ("gone", None, None)
    assert ended.usage is not None and ended.usage.estimated and ended.usage.output_tokens == 0
    assert seen.of(AttemptEnded)[0].error == "cancelled"


async def test_what_the_upstream_had_counted_is_kept(provider: FakeProvider) -> None:
    """Anthropic reports the input at the start: only the rest is guessed."""
    start = {"type": "message_start", "message": {"id": "m", "model": "claude", "usage": {"input_tokens": 1234}}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word " * 20}}
    provider.script(stalled(events(start, block, delta), 3))
    seen = Seen()
    async with gateway_of(provider, seen, providers=[native(provider, dialect="anthropic")]) as gateway:
        await left_after(gateway, 5)

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected)
    assert ended.usage is not None and ended.usage.estimated
    assert (ended.usage.input_tokens, ended.usage.output_tokens) == (1234, 25)
    assert ended.raw_usage == {"input_tokens": 1234}


async def test_leaving_on_the_last_event_is_no_disconnect(provider: FakeProvider) -> None:
    """Most clients close once they have the terminal event, without waiting for the stream's end."""
    provider.script(stalled(talk(), WORDS + 2))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await left_after(gateway, WORDS + 2)

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Completed)
    assert ended.usage is not None and not ended.usage.estimated


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_tells_of_the_end_while_it_sends_it_is_not_cancelled_and_no_disconnect(
    provider: FakeProvider, stream: bool
) -> None:
    """As hypercorn does: it closes, or readies the connection for the next request, within the last `send`."""

    class Closing(Caller):
        closed = listened = False

        async def receive(self) -> Message:
            self.listened = not self.incoming
            return await super().receive()

        async def send(self, message: Message) -> None:
            await super().send(message)
            if not message.get("more_body", True):
                self.leave()
                await anyio.wait_all_tasks_blocked()
                self.closed = True

    seen, caller = Seen(), Closing(scope_of(), [json.dumps({"model": "m", "input": "x", "stream": stream}).encode()])
    provider.fail_next(Stall(after_events=3) if stream else Stall())
    async with gateway_of(provider, seen) as gateway:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, gateway)
                await until(lambda: caller.listened)
                while not caller.complete:
                    provider.release()
                    await anyio.sleep(0.001)

    assert caller.closed
    assert isinstance(seen.ended, Completed)


async def test_leaving_in_the_middle_of_a_large_answer_is_a_disconnect(provider: FakeProvider) -> None:
    provider.script(Reply({"id": "resp_1", "object": "response", "output": [], "x": "y" * 1_000_000}))
    seen, stalled = Seen(), anyio.Event()
    caller = Caller(scope_of(), [b'{"model":"m"}'], stalled=stalled)
    async with gateway_of(provider, seen) as gateway:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(caller.run, gateway)
                await caller.until(2)
                caller.leave()

    assert isinstance(seen.ended, Disconnected) and seen.ended.reason == "gone"


async def test_a_client_that_takes_nothing_of_a_large_answer_is_recorded_as_stalled(provider: FakeProvider) -> None:
    provider.script(Reply({"id": "resp_1", "object": "response", "output": [], "x": "y" * 1_000_000}))
    seen = Seen()
    caller = Caller(scope_of(), [b'{"model":"m"}'], stalled=anyio.Event())
    async with gateway_of(provider, seen, timeouts=Timeouts(stalled_client=0.05)) as gateway:
        with anyio.fail_after(PATIENCE):
            await caller.run(gateway)

    assert isinstance(seen.ended, Disconnected) and seen.ended.reason == "stalled"


async def test_a_large_answer_goes_in_pieces_byte_for_byte(provider: FakeProvider) -> None:
    whole = {"id": "resp_1", "object": "response", "output": [], "x": "y" * 1_000_000}
    provider.script(Reply(whole))
    caller = Caller(scope_of(), [b'{"model":"m"}'])
    async with gateway_of(provider, Seen(), stamp=False) as gateway:
        await caller.run(gateway)

    assert caller.json() == whole and caller.complete
    assert int(caller.headers["content-length"]) == len(caller.content)
    assert max(map(len, caller.pieces)) <= PIECE


async def test_a_server_whose_send_fails_has_lost_its_client(provider: FakeProvider) -> None:
    class Lost(Caller):
        async def send(self, message: Message) -> None:
            raise OSError("the client has gone")

    provider.script(Reply(talk(), content_type="text/event-stream", chunks=[talk()]))
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        await Lost(scope_of(), [ASKED]).run(gateway)

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected) and ended.reason == "gone"


async def test_a_cancellation_by_the_server_is_recorded(provider: FakeProvider) -> None:
    provider.fail_next(Stall())
    seen = Seen()
    async with gateway_of(provider, seen) as gateway:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(Caller(scope_of(), [ASKED]).run, gateway)
                await provider.received(1)
                group.cancel_scope.cancel()

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected) and ended.reason == "cancelled"


async def test_a_client_that_stops_reading_is_recorded_as_stalled(provider: FakeProvider) -> None:
    provider.script(stalled(talk(), 10))
    seen = Seen()
    async with gateway_of(provider, seen, timeouts=Timeouts(stalled_client=0.05)) as gateway:
        caller = Caller(scope_of(), [ASKED], stalled=anyio.Event())
        with anyio.fail_after(PATIENCE):
            await caller.run(gateway)

    (ended,) = seen.of(Ended)
    assert isinstance(ended, Disconnected)
    assert (ended.reason, ended.status) == ("stalled", 200)
    assert ended.usage is not None and ended.usage.estimated
