"""`background: true` on upstreams that have no such thing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.emulation.event_log import EVENTS, LEASES
from gomodel_asgi.errors import StoreUnavailable
from gomodel_asgi.stores import KeyValueStore, MemoryStore
from gomodel_asgi.testing import FakeProvider, Reply, Scripted, Stall, Status

from ..support.driving import TIMEOUT, Caller, ask, encoded, scope_of
from ..support.engines import Open
from ..support.remembering import EVENT_STREAM, MODELS, TRANSLATED, provider_of, says

BODY = {"model": "m", "input": "hi", "background": True}

Make = Callable[..., Gateway]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make(fake: FakeProvider) -> AsyncIterator[Make]:
    """Makes gateways: each is another worker."""
    made: list[Gateway] = []

    def make(dialect: str = "chat", **options: Any) -> Gateway:
        made.append(Gateway(providers=[provider_of(dialect, fake)], **options))
        return made[-1]

    yield make
    fake.release()
    for gateway in made:
        await gateway.aclose()


async def get(gateway: Gateway, id: str, query: bytes = b"") -> Caller:
    return await ask(gateway, path=f"/v1/responses/{id}", method="GET", query=query)


async def reached(gateway: Gateway, id: str, *statuses: str) -> dict[str, Any]:
    """The response, once its status is one of these."""
    with anyio.fail_after(TIMEOUT):
        while True:
            response: dict[str, Any] = (await get(gateway, id)).json()
            if response["status"] in statuses:
                return response
            await anyio.sleep(0.01)


def stalled(text: str, after: int = 1) -> Scripted:
    """A chat stream that waits, after so many events, for the test to let it go on."""
    return Scripted(says("chat", text, stream=True), (Stall(after_events=after),))


@pytest.mark.parametrize("dialect", TRANSLATED)
async def test_a_background_response_is_queued_then_completed(make: Make, fake: FakeProvider, dialect: str) -> None:
    fake.script(says(dialect, "Done.", stream=True))
    gateway = make(dialect)
    queued = (await ask(gateway, {**BODY, "model": MODELS[dialect]})).json()

    assert (queued["status"], queued["background"], queued["output"]) == ("queued", True, [])
    done = await reached(gateway, queued["id"], "completed")
    assert done["id"] == queued["id"]
    assert done["background"] is True
    assert done["output"][0]["content"][0]["text"] == "Done."
    assert done["usage"]["output_tokens"] == 2
    fake.script(says(dialect, "More."))
    more = await ask(gateway, {"model": MODELS[dialect], "input": "more", "previous_response_id": done["id"]})
    assert more.status == 200
    assert b"Done." in fake.requests[-1].body


async def test_the_work_goes_on_without_its_client(make: Make, fake: FakeProvider) -> None:
    fake.script(stalled("Done."))
    gateway = make()
    caller = Caller(scope_of(), [encoded({**BODY, "stream": True})])
    with anyio.fail_after(TIMEOUT):
        async with anyio.create_task_group() as group:
            group.start_soon(caller.run, gateway)
            await caller.until(2)
            group.cancel_scope.cancel()
    id = caller.events()[0]["response"]["id"]

    assert (await get(gateway, id)).json()["status"] == "in_progress"
    fake.release()
    assert (await reached(gateway, id, "completed"))["output"][0]["content"][0]["text"] == "Done."


async def test_its_stream_is_resumed_after_any_event(make: Make, fake: FakeProvider) -> None:
    fake.script(says("chat", "Done.", stream=True))
    gateway = make()
    whole = await ask(gateway, {**BODY, "stream": True})
    events = whole.events()
    id = events[0]["response"]["id"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"

    for number in range(len(events)):
        again = await get(gateway, id, b"stream=true&starting_after=%d" % number)
        assert again.events() == events[number + 1 :]
        assert again.complete
    assert (await get(gateway, id, b"stream=true")).content == whole.content


async def test_what_an_event_holds_is_not_taken_for_what_it_is(make: Make, fake: FakeProvider) -> None:
    """A response repeats the client's request, which may look like an event that ends one, or has a number."""
    parameters = {"type": "object", "sequence_number": 99, "properties": {}}
    tool = {"type": "function", "name": "f", "parameters": parameters, "strict": False}
    fake.script(says("chat", "Done.", stream=True))
    gateway = make()
    body = {**BODY, "stream": True, "metadata": {"type": "response.completed"}, "tools": [tool]}
    whole = (await ask(gateway, body)).events()

    assert whole[-1]["type"] == "response.completed"
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    id = whole[0]["response"]["id"]
    for number in range(len(whole)):
        assert (await get(gateway, id, b"stream=true&starting_after=%d" % number)).events() == whole[number + 1 :]


async def test_another_worker_follows_a_stream_while_it_comes(fake: FakeProvider, make: Make) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    fake.script(stalled("Done."))
    id = (await ask(first, BODY)).json()["id"]
    caller = Caller(scope_of(f"/v1/responses/{id}", method="GET", query=b"stream=true"))
    async with anyio.create_task_group() as group:
        group.start_soon(caller.run, second)
        await caller.until(2)
        assert b"response.completed" not in caller.content
        fake.release()
    assert caller.events()[-1]["type"] == "response.completed"


async def test_a_cancelled_response_stops_its_work(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    for canceller in (first, second):
        fake.script(stalled("Done."))
        asked = len(fake.requests)
        id = (await ask(first, BODY)).json()["id"]
        with anyio.fail_after(TIMEOUT):
            received = await fake.received(asked + 1)
        cancelled = await ask(canceller, path=f"/v1/responses/{id}/cancel", method="POST")

        assert cancelled.json()["status"] == "cancelled"
        with anyio.fail_after(TIMEOUT):
            await received.disconnected.wait()
        assert (await get(first, id)).json()["status"] == "cancelled"
        assert (await get(first, id, b"stream=true")).events()[-1]["response"]["status"] == "cancelled"
        again = await ask(canceller, path=f"/v1/responses/{id}/cancel", method="POST")
        assert again.json()["status"] == "cancelled"


async def test_only_background_responses_can_be_cancelled(make: Make, fake: FakeProvider) -> None:
    fake.script(says("chat", "Hello."))
    gateway = make()
    id = (await ask(gateway, {"model": "m", "input": "hi"})).json()["id"]

    assert (await ask(gateway, path=f"/v1/responses/{id}/cancel", method="POST")).status == 400


async def test_a_deleted_response_stops_its_work(make: Make, fake: FakeProvider) -> None:
    fake.script(stalled("Done."))
    gateway = make()
    id = (await ask(gateway, BODY)).json()["id"]
    with anyio.fail_after(TIMEOUT):
        received = await fake.received()
    assert (await ask(gateway, path=f"/v1/responses/{id}", method="DELETE")).json()["deleted"] is True
    with anyio.fail_after(TIMEOUT):
        await received.disconnected.wait()
    assert (await get(gateway, id)).status == 404


@pytest.mark.parametrize("end", ["delete", "cancel", "forget"])
async def test_a_response_ended_by_another_worker_leaves_no_lease(make: Make, fake: FakeProvider, end: str) -> None:
    store = MemoryStore()
    working, other = make(store=store), make(store=store)
    fake.script(stalled("Done."))
    id = (await ask(working, BODY)).json()["id"]
    with anyio.fail_after(TIMEOUT):
        received = await fake.received()
    match end:
        case "delete":
            await ask(other, path=f"/v1/responses/{id}", method="DELETE")
        case "cancel":
            await ask(other, path=f"/v1/responses/{id}/cancel", method="POST")
        case _:
            await other.forget(None)
    with anyio.fail_after(TIMEOUT):
        await received.disconnected.wait()
    await working.aclose()

    assert [key async for key in store.scan(LEASES)] == []
    assert not working.background.leases._renewed


@pytest.mark.parametrize("refusal", [Status(400), Reply("", content_type=EVENT_STREAM), Reply("<html>")])
async def test_a_failing_upstream_leaves_a_failed_response(make: Make, fake: FakeProvider, refusal: Any) -> None:
    fake.script(refusal) if isinstance(refusal, Reply) else fake.fail_next(refusal)
    gateway = make()
    id = (await ask(gateway, BODY)).json()["id"]

    failed = await reached(gateway, id, "failed")
    assert failed["error"]["code"]
    assert (await get(gateway, id, b"stream=true")).events()[-1]["type"] == "response.failed"


async def test_a_lost_worker_leaves_a_failed_response(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    fake.script(stalled("Done."))
    id = (await ask(first, BODY)).json()["id"]
    with anyio.fail_after(TIMEOUT):
        await fake.received()
    assert (await get(second, id)).json()["status"] == "in_progress"
    leases = [key async for key in store.scan(LEASES)]
    for key in leases:
        await store.delete(LEASES, key)  # as if its time had run out

    failed = (await get(second, id)).json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "worker" in failed["error"]["message"]
    assert (await get(first, id)).json()["status"] == "failed"


async def test_a_gateway_that_closes_leaves_no_response_in_progress(fake: FakeProvider) -> None:
    store = MemoryStore()
    gateway = Gateway(providers=[provider_of("chat", fake)], store=store)
    fake.script(stalled("Done."))
    id = (await ask(gateway, BODY)).json()["id"]
    with anyio.fail_after(TIMEOUT):
        await fake.received()
    await gateway.state.tasks.aclose(0.01)
    other = Gateway(providers=[provider_of("chat", fake)], store=store)

    failed = (await get(other, id)).json()
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "shut down" in failed["error"]["message"]
    await gateway.aclose()
    await other.aclose()


async def test_background_needs_the_response_to_be_stored(make: Make, fake: FakeProvider) -> None:
    refused = await ask(make(), {**BODY, "store": False})

    assert (refused.status, refused.error["param"]) == (400, "store")
    assert not fake.requests


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_background_refuses_a_store_that_cannot_tell_workers_apart(make: Make, fake: FakeProvider) -> None:
    from key_value.aio.stores.memory import MemoryStore as KeyValueMemory

    refused = await ask(make(store=KeyValueStore(KeyValueMemory())), BODY)

    assert refused.status == 501
    assert "compare and swap" in refused.error["message"]


# On a task queue of the host's...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_queue_runs_each_response_once(open_atomic: Open, fake: FakeProvider, make: Make) -> None:
    web, worker, other = (make(store=open_atomic()) for _ in range(3))
    tickets: list[str] = []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    web.background.enqueue = enqueue
    fake.script(says("chat", "Hello."), says("chat", "Done.", stream=True))
    first = (await ask(web, {"model": "m", "input": "I am Ada."})).json()["id"]
    id = (await ask(web, {**BODY, "previous_response_id": first})).json()["id"]
    assert (await get(web, id)).json()["status"] == "queued"
    assert len(fake.requests) == 1

    ran = await asyncio.gather(worker.run_background(tickets[0]), other.run_background(tickets[0]))

    assert True in ran
    assert (await get(web, id)).json()["status"] == "completed"
    assert len(fake.requests) == 2
    assert b"I am Ada." in fake.requests[1].body
    assert await worker.run_background(tickets[0]) is False
    assert not worker.background.leases._renewed
    assert not other.background.leases._renewed


async def test_a_ticket_that_is_none_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="ticket"):
        await make().run_background("nonsense")


class Hiccup(MemoryStore):
    """Fails for a while when events are written, then works again."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 3
        self.works = anyio.Event()

    async def put(self, collection: str, key: str, value: bytes, *, ttl: float | None = None) -> None:
        if collection == EVENTS and self.failures:
            self.failures -= 1
            raise StoreUnavailable("down")
        if collection == EVENTS:
            self.works.set()
        await super().put(collection, key, value, ttl=ttl)


async def test_a_store_that_fails_for_a_moment_loses_no_event(make: Make, fake: FakeProvider) -> None:
    store = Hiccup()
    fake.script(stalled("Done."))
    gateway = make(store=store)
    id = (await ask(gateway, BODY)).json()["id"]
    with anyio.fail_after(TIMEOUT):
        await store.works.wait()
    fake.release()
    await reached(gateway, id, "completed")

    events = (await get(gateway, id, b"stream=true")).events()
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
