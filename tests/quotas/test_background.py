"""What is worked on behind its request holds its quotas until it has ended, whoever works on it, and wherever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from gomodel_asgi import Gateway, Limits, MemoryStore, NoStore
from gomodel_asgi.emulation import answer
from gomodel_asgi.emulation.event_log import EVENTS, LEASES
from gomodel_asgi.history.records import SETTLEMENTS
from gomodel_asgi.quotas import MemoryCounters, Quota
from gomodel_asgi.seams.store import Record
from gomodel_asgi.testing import Cut, FakeProvider, Scripted, Stall, Status
from gomodel_asgi.transport import HttpxTransport, UpstreamRequest

from ..support.driving import TIMEOUT, ask, encoded
from ..support.lab import ONCE
from ..support.remembering import says
from ..support.seen import native
from ..support.spending import BooksEach, always, done, leave, left, month, settled

HELLO = {"model": "m", "input": "Hello", "background": True}
RESERVED = -(-len(encoded(HELLO)) // 4) + 4096


@pytest.fixture
async def chat() -> AsyncIterator[FakeProvider]:
    """An upstream that keeps nothing, so that work in the background is done here."""
    async with FakeProvider(dialect="chat").serve() as provider:
        yield provider
        provider.release()


def gateway_of(provider: FakeProvider, **options: Any) -> Gateway:
    options.setdefault("providers", [native(provider, dialect=provider.dialect)])
    options.setdefault("quotas", month())
    return Gateway(retries=ONCE, **options)


async def retrieved(gateway: Gateway, id: str, **options: Any) -> Any:
    caller = await ask(gateway, path=f"/v1/responses/{id}", method="GET", **options)
    assert caller.status == 200, caller.content
    return caller.json()


async def ended(gateway: Gateway, id: str) -> Any:
    """The response, once it has ended."""
    with anyio.fail_after(TIMEOUT):
        while (found := await retrieved(gateway, id))["status"] in ("queued", "in_progress"):  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return found


async def test_work_that_is_done_here_is_booked_when_it_ends_and_held_until_then(chat: FakeProvider) -> None:
    chat.fail_next(Stall())
    async with gateway_of(chat) as gateway:
        made = (await ask(gateway, HELLO)).json()
        await chat.received(1)
        assert (await left(gateway)).held == RESERVED and (await left(gateway)).spent == 0
        chat.release()
        total = (await ended(gateway, made["id"]))["usage"]["total_tokens"]
        assert await settled(gateway) == (total, total)


async def test_work_that_fails_books_what_it_has_used(chat: FakeProvider) -> None:
    chat.fail_next(Cut(before_head=True))
    async with gateway_of(chat) as gateway:
        made = (await ask(gateway, HELLO)).json()
        assert (await ended(gateway, made["id"]))["status"] == "failed"
        tokens, _ = await settled(gateway)
        assert 0 < tokens < 4096


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_work_that_is_ended_while_it_waits_books_nothing(chat: FakeProvider, way: str) -> None:
    chat.fail_next(Stall())
    async with gateway_of(chat, limits=Limits(tenant_concurrency=1), tenant=lambda scope: "t") as gateway:
        await ask(gateway, HELLO)
        await chat.received(1)
        waiting = (await ask(gateway, HELLO)).json()
        assert (await left(gateway, tenant="t")).held == 2 * RESERVED
        await end(gateway, waiting["id"], way)
        await until_held(gateway, RESERVED)
        assert (await left(gateway, tenant="t")).spent == 0
        chat.release()


@pytest.mark.parametrize("way", ["cancel", "delete"])
async def test_work_that_is_ended_on_its_way_books_what_went_by(chat: FakeProvider, way: str) -> None:
    chat.fail_next(Stall())
    async with gateway_of(chat) as gateway:
        made = (await ask(gateway, HELLO)).json()
        await chat.received(1)
        await end(gateway, made["id"], way)
        tokens, _ = await settled(gateway)
        assert 0 < tokens < 4096


async def end(gateway: Gateway, id: str, way: str) -> None:
    path = f"/v1/responses/{id}" + ("/cancel" if way == "cancel" else "")
    assert (await ask(gateway, path=path, method="POST" if way == "cancel" else "DELETE")).status == 200


async def until_held(gateway: Gateway, amount: int) -> None:
    with anyio.fail_after(TIMEOUT):
        while (await left(gateway, tenant="t")).held != amount:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_work_that_ends_with_its_gateway_is_booked_before_that_is_closed(
    chat: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "FAREWELL", 0.1)
    chat.fail_next(Stall())
    quotas = month()
    async with gateway_of(chat, quotas=quotas) as gateway:
        await ask(gateway, HELLO)
        await chat.received(1)
    other = gateway_of(chat, quotas=quotas)
    assert 0 < (await left(other)).spent < 4096 and (await left(other)).held == 0


class Yielding(HttpxTransport):
    """A transport whose replies can be cancelled while they are closed."""

    async def open(self, request: UpstreamRequest) -> Any:
        reply: Any = await super().open(request)
        close = reply.aclose

        async def aclose() -> None:
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                with anyio.CancelScope(shield=True):
                    await close()

        reply.aclose = aclose
        return reply


async def test_work_that_is_cancelled_while_its_reply_is_closed_is_booked(chat: FakeProvider) -> None:
    chat.script(Scripted(says("chat", "Done.", stream=True), (Stall(after_events=1),)))
    quotas = month()
    async with gateway_of(chat, quotas=quotas, transport=Yielding()) as gateway:
        await ask(gateway, HELLO)
        await chat.received(1)
        await logged(gateway)
        gateway.state.tasks.cancel()
    assert (await left(gateway_of(chat, quotas=quotas))).held == 0


async def logged(gateway: Gateway) -> None:
    """Wait until an event of a reply, which is open therefore, has been written."""
    with anyio.fail_after(TIMEOUT):
        while not [key async for key in gateway.state.records.store.scan(EVENTS)]:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_work_that_still_waits_when_its_gateway_is_closed_books_nothing(chat: FakeProvider) -> None:
    chat.fail_next(Stall())
    store, quotas, limits = MemoryStore(), month(), Limits(tenant_concurrency=1)
    options: dict[str, Any] = {"store": store, "quotas": quotas, "limits": limits, "tenant": lambda scope: "t"}
    async with gateway_of(chat, **options) as gateway:
        await ask(gateway, HELLO)
        await chat.received(1)
        waiting = (await ask(gateway, HELLO)).json()
        gateway.state.tasks.cancel()  # as closing does, once it has waited for long enough
    other = gateway_of(chat, **options)
    found = await left(other, tenant="t")
    assert 0 < found.spent < 4096 and found.held == 0  # of the one that was under way
    assert "shut down" in (await retrieved(other, waiting["id"]))["error"]["message"]


@pytest.mark.parametrize("look", ["retrieve", "cancel", "delete"])
async def test_the_work_of_a_lost_worker_is_booked_as_estimated_by_whoever_finds_it(
    chat: FakeProvider, look: str
) -> None:
    chat.fail_next(Stall())
    store, quotas = MemoryStore(), month()
    async with gateway_of(chat, store=store, quotas=quotas) as lost, anyio.create_task_group() as group:
        made = (await ask(lost, HELLO)).json()
        await chat.received(1)
        async for key in store.scan(LEASES):
            await store.delete(LEASES, key)
        finder = gateway_of(chat, store=store, quotas=quotas)
        if look == "retrieve":
            assert (await retrieved(finder, made["id"]))["status"] == "failed"
        else:
            await end(finder, made["id"], look)
        assert (await left(finder)).spent == RESERVED
        group.cancel_scope.cancel()
    assert await settled(finder) == (RESERVED, RESERVED)  # what its worker says later counts no second time


async def test_a_ticket_carries_what_is_held_to_whoever_redeems_it(chat: FakeProvider) -> None:
    chat.script(says("chat", "Done.", stream=True))
    store, quotas, tickets = MemoryStore(), month(), []

    async def enqueue(ticket: str) -> None:
        tickets.append(ticket)

    async with (
        gateway_of(chat, store=store, quotas=quotas) as web,
        gateway_of(chat, store=store, quotas=quotas) as worker,
    ):
        web.background.enqueue = enqueue
        made = (await ask(web, HELLO)).json()
        assert (await left(web)).held == RESERVED
        assert await worker.run_background(tickets[0])
        assert not await worker.run_background(tickets[0])
        assert (await ended(web, made["id"]))["status"] == "completed"
        assert await settled(web) == (5, 5)
        assert [one.spent for one in await web.quotas.left() if one.unit == "tokens"] == [5]


async def test_a_ticket_that_cannot_be_given_away_holds_nothing(chat: FakeProvider) -> None:
    async def enqueue(ticket: str) -> None:
        raise RuntimeError("no queue today")

    store, quotas = MemoryStore(), always(Quota("day", per="day", requests=9, tokens=100_000))
    async with gateway_of(chat, store=store, quotas=quotas) as gateway:
        gateway.background.enqueue = enqueue
        caller = await ask(gateway, HELLO)
        assert caller.status == 500
        found = [one for one in await gateway.quotas.left() if one.unit == "tokens"]
        assert [(one.spent, one.held) for one in found] == [(0, 0)]


# What an upstream works on in the background...


async def test_the_estimate_is_booked_at_once_and_corrected_by_the_first_end_that_is_seen(
    provider: FakeProvider,
) -> None:
    async with gateway_of(provider) as gateway:
        made = (await ask(gateway, HELLO)).json()
        assert made["status"] == "queued" and await settled(gateway) == (RESERVED, RESERVED)
        found = await ended(gateway, made["id"])
        total = found["usage"]["total_tokens"]
        await until_spent(gateway, total)
        await retrieved(gateway, made["id"])
        assert await settled(gateway) == (total, total)


async def until_spent(gateway: Gateway, amount: int) -> None:
    with anyio.fail_after(TIMEOUT):
        while (await left(gateway)).spent != amount:  # noqa: ASYNC110
            await anyio.sleep(0.001)


async def test_it_is_booked_at_a_provider_whose_answers_are_read_leniently_too(provider: FakeProvider) -> None:
    async with gateway_of(provider, providers=[native(provider, normalize=True)]) as gateway:
        made = (await ask(gateway, HELLO)).json()
        assert await settled(gateway) == (RESERVED, RESERVED)
        total = (await ended(gateway, made["id"]))["usage"]["total_tokens"]
        await until_spent(gateway, total)


async def test_without_a_store_the_estimate_stays(provider: FakeProvider) -> None:
    async with gateway_of(provider, store=NoStore()) as gateway:
        assert (await ask(gateway, HELLO)).status == 200
        assert await settled(gateway) == (RESERVED, RESERVED)


async def test_two_workers_that_see_the_end_at_once_correct_it_once(provider: FakeProvider) -> None:
    store, counters = MemoryStore(), MemoryCounters()
    quotas = month(counters=counters)
    async with (
        gateway_of(provider, store=store, quotas=quotas) as one,
        gateway_of(provider, store=store, quotas=month(counters=counters)) as other,
    ):
        made = (await ask(one, HELLO)).json()
        for gateway in (one, other):  # so far has the upstream come
            await retrieved(gateway, made["id"])
        async with anyio.create_task_group() as group:
            for gateway in (one, other) * 3:
                group.start_soon(retrieved, gateway, made["id"])
        total = (await retrieved(one, made["id"]))["usage"]["total_tokens"]
        await until_spent(one, total)
        await one.quotas.flush()
        await other.quotas.flush()
        assert await settled(other) == (total, total)


class ReadTwice(MemoryStore):
    """A store in which both of two that look for what was booked find it, before either can say that it has."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.both = anyio.Event()

    async def get(self, collection: str, key: str) -> Record | None:
        found = await super().get(collection, key)
        if collection == SETTLEMENTS:
            self.reads += 1
            if self.reads == 2:
                self.both.set()
            await self.both.wait()
        return found


async def test_two_workers_that_have_found_what_was_booked_correct_it_once_on_any_counters(
    provider: FakeProvider,
) -> None:
    store, counters = ReadTwice(), BooksEach()
    async with (
        gateway_of(provider, store=store, quotas=month(counters=counters)) as one,
        gateway_of(provider, store=store, quotas=month(counters=counters)) as other,
    ):
        provider.script(done(0, 0, status="queued", usage=None), done(7, 3), done(7, 3))
        made = (await ask(one, HELLO)).json()
        for gateway in (one, other):
            await retrieved(gateway, made["id"])
        for gateway in (one, other):
            await gateway.quotas.flush()
        assert store.reads == 2
        assert [hold for hold in counters.settled if hold.endswith(".end")] == [f"{counters.settled[0]}.end"]
        assert await settled(other) == (10, 10)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_create_whose_estimate_is_booked_is_settled_by_nobody_else(
    provider: FakeProvider, stream: bool
) -> None:
    counters = BooksEach()
    async with gateway_of(provider, quotas=month(counters=counters)) as gateway:
        caller = await ask(gateway, HELLO | ({"stream": True} if stream else {}))
        assert caller.status == 200
        await gateway.quotas.flush()
        hold = counters.settled[0]
        assert counters.settled == ([hold, f"{hold}.end"] if stream else [hold])
        total = caller.events()[-1]["response"]["usage"]["total_tokens"] if stream else RESERVED
        assert await settled(gateway) == (total, total)


async def test_the_end_counts_that_is_seen_in_a_stream(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        caller = await ask(gateway, HELLO | {"stream": True})
        total = caller.events()[-1]["response"]["usage"]["total_tokens"]
        await until_spent(gateway, total)
        assert await settled(gateway) == (total, total)


async def test_the_end_counts_that_is_seen_in_a_stream_of_what_was_made_before(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        made = (await ask(gateway, HELLO)).json()
        caller = await ask(gateway, path=f"/v1/responses/{made['id']}", method="GET", query=b"stream=true")
        total = caller.events()[-1]["response"]["usage"]["total_tokens"]
        await until_spent(gateway, total)


async def test_a_client_that_leaves_such_a_stream_leaves_the_estimate(provider: FakeProvider) -> None:
    provider.fail_next(Stall(after_events=2))
    async with gateway_of(provider, limits=Limits(tenant_abandoned=0)) as gateway:
        await leave(provider, gateway, 1, HELLO | {"stream": True})
        spent, _ = await settled(gateway)
        assert spent == -(-len(encoded(HELLO | {"stream": True})) // 4) + 4096


async def test_work_that_the_upstream_says_has_failed_books_nothing(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        provider.script(done(0, 0, status="queued", usage=None))
        made = (await ask(gateway, HELLO)).json()
        assert await settled(gateway) == (RESERVED, RESERVED)
        provider.script(done(0, 0, status="failed", usage=None, error={"code": "server_error", "message": "No."}))
        await ask(gateway, path=f"/v1/responses/{made['id']}", method="GET")
        await until_spent(gateway, 0)


async def test_work_that_was_cancelled_upstream_keeps_its_estimate(provider: FakeProvider) -> None:
    async with gateway_of(provider) as gateway:
        made = (await ask(gateway, HELLO)).json()
        await end(gateway, made["id"], "cancel")
        await gateway.quotas.flush()
        assert await settled(gateway) == (RESERVED, RESERVED)


async def test_a_create_that_fails_upstream_books_no_estimate(provider: FakeProvider) -> None:
    provider.fail_next(Status(503))
    async with gateway_of(provider) as gateway:
        assert (await ask(gateway, HELLO)).status == 503
        assert await settled(gateway) == (0, 0)
