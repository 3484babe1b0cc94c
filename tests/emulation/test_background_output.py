"""What a client sees of a background response while it grows, and where it ends before its answer was whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Limits, tools
from gomodel_asgi.emulation import event_log
from gomodel_asgi.emulation.event_log import EVENTS
from gomodel_asgi.seams.store import Record
from gomodel_asgi.stores import MemoryStore
from gomodel_asgi.testing import Answer, FakeProvider, Scripted, Stall

from ..support.driving import TIMEOUT, Caller, ask
from ..support.engines import Open
from ..support.lab import until
from ..support.remembering import provider_of
from .tools.hosting import WEB, call, calls, kinds, search

Json = dict[str, Any]
Make = Callable[..., Gateway]
BODY: Json = {"model": "m", "input": "Weather?", "background": True, "tools": [WEB]}


class Counting(MemoryStore):
    """Counts what is read of logs, and how often turns are written."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.turns = 0

    async def get(self, collection: str, key: str) -> Record | None:
        if collection == EVENTS:
            self.read.append(key)
        return await super().get(collection, key)

    async def swap(
        self, collection: str, key: str, expected: int, value: bytes, *, ttl: float | None = None
    ) -> int | None:
        self.turns += collection == "turns"
        return await super().swap(collection, key, expected, value, ttl=ttl)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(dialect="chat").run_in_thread() as fake:
        yield fake
        fake.release()


@pytest.fixture
async def make(fake: FakeProvider) -> AsyncIterator[Make]:
    """Makes gateways: each is another worker."""
    made: list[Gateway] = []

    def make(**options: Any) -> Gateway:
        made.append(Gateway(providers=[provider_of("chat", fake)], tools=[tools.web_search(search)], **options))
        return made[-1]

    yield make
    fake.release()
    for gateway in made:
        await gateway.aclose()


async def retrieved(gateway: Gateway, id: str) -> Json:
    caller: Caller = await ask(gateway, path=f"/v1/responses/{id}", method="GET")
    assert caller.status == 200
    found: Json = caller.json()
    return found


async def grown(gateway: Gateway, id: str, count: int) -> Json:
    """The response, once it has so many items."""
    with anyio.fail_after(TIMEOUT):
        while True:
            found = await retrieved(gateway, id)
            if len(found["output"]) >= count:
                return found
            await anyio.sleep(0.01)


def script(fake: FakeProvider) -> None:
    """A search, then an answer that does not come to its end."""
    fake.script(calls(call("web_search", query="rome")))
    fake.script(Scripted(Answer(text="Sunny and warm."), (Stall(after_events=2),)))


async def begun(gateway: Gateway, fake: FakeProvider, **more: Any) -> str:
    script(fake)
    queued = (await ask(gateway, {**BODY, **more})).json()
    assert (queued["status"], queued["output"]) == ("queued", [])
    return str(queued["id"])


async def test_what_is_finished_is_seen_before_the_response_has_ended(make: Make, fake: FakeProvider) -> None:
    gateway = make()
    id = await begun(gateway, fake)

    growing = await grown(gateway, id, 1)
    assert growing["status"] == "in_progress" and kinds(growing) == ["web_search_call"]
    assert growing["output"][0]["status"] == "completed"
    fake.release()
    whole = await grown(gateway, id, 2)
    await until(lambda: not gateway.background._here)
    whole = await retrieved(gateway, id)
    assert whole["status"] == "completed" and whole["output"][0] == growing["output"][0]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_worker_shows_it_too(open_atomic: Open, make: Make, fake: FakeProvider) -> None:
    first, second = make(store=open_atomic()), make(store=open_atomic())
    id = await begun(first, fake)

    assert kinds(await grown(second, id, 1)) == ["web_search_call"]
    assert (await retrieved(second, id)) == (await retrieved(first, id))


async def test_another_tenant_sees_nothing_of_it(make: Make, fake: FakeProvider) -> None:
    gateway = make(tenant=lambda scope: dict(scope["headers"]).get(b"x-tenant", b"acme").decode())
    id = await begun(gateway, fake)
    await grown(gateway, id, 1)

    other = await ask(gateway, path=f"/v1/responses/{id}", method="GET", headers=[(b"x-tenant", b"other")])
    assert other.status == 404


async def test_a_cancelled_response_keeps_what_was_finished(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    id = await begun(first, fake)
    growing = await grown(first, id, 1)

    cancelled = (await ask(second, {}, path=f"/v1/responses/{id}/cancel")).json()
    assert cancelled["status"] == "cancelled" and cancelled["output"] == growing["output"]
    assert (await retrieved(first, id))["output"] == growing["output"]


async def test_a_response_whose_worker_is_gone_keeps_what_was_finished(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    id = await begun(first, fake)
    growing = await grown(second, id, 1)
    await store.delete("leases", await second.state.records.tenancy.key(None, id))  # as if it had run out

    lost = await retrieved(second, id)
    assert (lost["status"], lost["output"]) == ("failed", growing["output"])


async def test_a_gateway_that_closes_keeps_what_was_finished(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    first, second = make(store=store), make(store=store)
    id = await begun(first, fake)
    growing = await grown(second, id, 1)
    await first.aclose()

    ended = await retrieved(second, id)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "server_error")
    assert ended["output"] == growing["output"]


async def test_what_the_quota_does_not_bear_is_not_kept(make: Make, fake: FakeProvider) -> None:
    gateway = make(limits=Limits(tenant_bytes=2_000))
    id = await begun(gateway, fake)
    await grown(gateway, id, 1)
    gateway.state.quotas.bytes = 100

    cancelled = (await ask(gateway, {}, path=f"/v1/responses/{id}/cancel")).json()
    assert (cancelled["status"], cancelled["output"]) == ("cancelled", [])


async def test_a_look_reads_the_segments_in_which_items_were_finished_and_no_others(
    make: Make, fake: FakeProvider
) -> None:
    store = Counting()
    gateway = make(store=store)
    id = await begun(gateway, fake)
    await grown(gateway, id, 1)
    store.read.clear()
    await retrieved(gateway, id)

    assert len(store.read) == 2  # which they are, and the one
    assert store.turns == 1  # it was claimed; what came since is in the log alone


async def test_a_look_is_bounded(make: Make, fake: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = make()
    id = await begun(gateway, fake)
    await grown(gateway, id, 1)
    monkeypatch.setattr(event_log, "MOST_READ", 10)

    assert (await retrieved(gateway, id))["output"] == []


async def test_nothing_of_it_is_left_when_it_is_deleted(make: Make, fake: FakeProvider) -> None:
    store = MemoryStore()
    gateway = make(store=store)
    id = await begun(gateway, fake)
    await grown(gateway, id, 1)
    await ask(gateway, path=f"/v1/responses/{id}", method="DELETE")
    await until(lambda: not gateway.background._here)

    assert [key async for key in store.scan(EVENTS)] == []
