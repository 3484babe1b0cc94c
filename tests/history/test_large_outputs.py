"""Replies that hold more items than anybody could name: what is learned of them is bounded, whatever they are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.history.recorder import TOO_MANY
from gomodel_asgi.history.replies import MOST_ITEMS
from gomodel_asgi.observers import Record, Warned
from gomodel_asgi.testing import FakeProvider, Reply

from ..support.driving import ask

EMPTY = b"[" + b",".join([b"{}"] * 500_000) + b"]"
TENANT: dict[str, Any] = {"state": {"tenant": "a"}}


def items(count: int, size: int = 0) -> bytes:
    text = b"x," * size
    return b"[%s]" % b",".join(
        b'{"type":"image_generation_call","id":"ig_%d","x":"%s"}' % (i, text) for i in range(count)
    )


def gateway_of(fake: FakeProvider, seen: list[Record], **options: Any) -> Gateway:
    return Gateway(
        providers=[Provider("up", fake.base_url)],
        tenant=lambda scope: scope["state"].get("tenant"),
        observers=[seen.append],
        **options,
    )


def response(output: bytes) -> Reply:
    return Reply(b'{"object":"response","id":"resp_large","status":"completed","output":%s}' % output)


def events(output: bytes) -> Reply:
    data = b'{"type":"response.completed","response":%s}' % response(output).data()
    return Reply(b"data: %s\n\ndata: [DONE]\n\n" % data, content_type="text/event-stream")


def told(seen: list[Record]) -> bool:
    return any(isinstance(one, Warned) and one.message == TOO_MANY for one in seen)


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_learned_of_an_output_of_empty_items_takes_less_than_the_output(
    store: bool, stream: bool
) -> None:
    fake, seen = FakeProvider(), list[Record]()
    fake.script((events if stream else response)(EMPTY))
    with fake.run_in_thread():
        async with gateway_of(fake, seen) as gateway:
            tracemalloc.start()
            try:
                body = {"model": "m", "input": "hello", "store": store, "stream": stream}
                answer = await ask(gateway, body, **TENANT)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    assert answer.status == 200 and EMPTY in answer.content
    assert peak < 16 * len(EMPTY)
    assert told(seen)


async def test_a_list_of_empty_items_is_passed_on_and_not_learned_from() -> None:
    fake, seen = FakeProvider(), list[Record]()
    fake.script(response(items(1)), Reply(b'{"object":"list","data":%s}' % EMPTY))
    with fake.run_in_thread():
        async with gateway_of(fake, seen) as gateway:
            await ask(gateway, {"model": "m", "input": "hello"}, **TENANT)
            path = "/v1/responses/resp_large/input_items"
            answer = await ask(gateway, method="GET", path=path, **TENANT)
    assert answer.status == 200 and EMPTY in answer.content
    assert told(seen)


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("size", [0, 50])
@pytest.mark.parametrize(("count", "status"), [(MOST_ITEMS, 200), (MOST_ITEMS + 1, 404)])
async def test_as_many_items_as_are_remembered_can_be_named(store: bool, size: int, count: int, status: int) -> None:
    fake, seen = FakeProvider(), list[Record]()
    fake.script(response(items(count, size)), Reply(b'{"object":"response","id":"resp_next","output":[]}'))
    with fake.run_in_thread():
        async with gateway_of(fake, seen) as gateway:
            await ask(gateway, {"model": "m", "input": "hello", "store": store}, **TENANT)
            named = [{"type": "item_reference", "id": f"ig_{count - 1}"}]
            answer = await ask(gateway, {"model": "m", "input": named}, **TENANT)
    assert answer.status == status
    assert told(seen) is (status == 404)
