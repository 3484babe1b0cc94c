"""The stream of what happens, and the tabs that it goes to."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from gomodel_asgi import Gateway
from gomodel_asgi.console import Console, View
from gomodel_asgi.console.live import QUEUE, TABS
from gomodel_asgi.testing import FakeProvider
from gomodel_asgi.wire.sse import Decoder

from ..support.console import HTML, JSON, WHOLE, data, look, send, tenant_of, viewed
from ..support.driving import TIMEOUT, Caller, scope_of
from ..support.gateways import Make
from ..support.lab import until

LIVE = "gomodel_asgi.console.live."


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at what is new a hundred times a second."""
    monkeypatch.setattr(LIVE + "TICK", 0.01)


class Tab:
    """One stream, as a client reads it."""

    def __init__(self, query: str = "", headers: Any = ()) -> None:
        self.caller = Caller(scope_of("/events", method="GET", query=query.encode(), headers=headers))
        self.over = anyio.Event()

    async def run(self, app: ASGIApp) -> None:
        try:
            await self.caller.run(app)
        finally:
            self.over.set()

    def events(self, kind: str) -> list[Any]:
        """The data of its events of one kind."""
        found = Decoder().feed(self.caller.content)
        return [json.loads(event.data) for event in found if event.name == kind]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that the stream brings."""
        with anyio.fail_after(TIMEOUT):
            while not condition():
                await self.caller.until(len(self.caller.messages) + 1)

    async def ended(self) -> None:
        with anyio.fail_after(TIMEOUT):
            await self.over.wait()
        assert self.caller.complete and self.caller.raised is None


@asynccontextmanager
async def opened(app: ASGIApp, *tabs: Tab) -> AsyncGenerator[None, None]:
    """*tabs* are open, until the end of the block, at which their clients leave."""
    async with anyio.create_task_group() as group:
        for tab in tabs:
            group.start_soon(tab.run, app)
        for tab in tabs:
            await tab.caller.until(1)
        yield
        for tab in tabs:
            tab.caller.leave()


async def test_what_ends_behind_an_open_tab_is_sent_to_it(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, public=True)
    console, tab = viewed(gateway), Tab()
    await send(gateway, model="before")
    async with opened(console, tab):
        assert tab.caller.headers["content-type"] == "text/event-stream; charset=utf-8"
        await tab.until(lambda: tab.events("figures"))
        await send(gateway, model="behind")
        await tab.until(lambda: tab.events("exchange"))
        [told] = tab.events("exchange")
        assert told == (await data(console))["exchanges"][0] and told["model"] == "behind"
    assert not gateway.in_flight.connections


async def test_a_tab_is_sent_nothing_of_other_tenants(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, tenant=tenant_of, public=True)
    tab, page = Tab(), Tab("page=now")
    async with opened(viewed(gateway, View({"acme"})), tab, page):
        await send(gateway, "globex", model="theirs")
        await send(gateway, "acme", model="mine")
        await tab.until(lambda: tab.events("exchange"))
        await page.until(lambda: page.events("rows"))
        assert [told["model"] for told in tab.events("exchange")] == ["mine"]
    for one in (tab, page):
        assert b"theirs" not in one.caller.content and b"globex" not in one.caller.content


async def test_a_page_is_sent_its_new_rows_and_those_of_its_parts_that_changed(
    provider: FakeProvider, make: Make
) -> None:
    gateway = make(provider, public=True)
    tab = Tab("page=now")
    async with opened(viewed(gateway), tab):
        await tab.until(lambda: len(tab.events("part")) >= 4)
        names = [part["name"] for part in tab.events("part")]
        assert sorted(names[:4]) == ["figures", "sums", "under_way", "worker"]
        await send(gateway, model="behind & <b>")
        await tab.until(lambda: tab.events("rows"))
        [news] = tab.events("rows")
        assert news["whole"] is False and len(news["rows"]) == 1
        assert "behind &amp; &lt;b&gt;" in news["rows"][0]
        await tab.until(lambda: [part["name"] for part in tab.events("part")].count("sums") == 2)
        assert [part["name"] for part in tab.events("part")].count("worker") == 1


@pytest.mark.parametrize("page", ["providers", "tools"])
async def test_the_other_live_pages_are_sent_as_a_whole(provider: FakeProvider, make: Make, page: str) -> None:
    tab = Tab(f"page={page}")
    async with opened(viewed(make(provider)), tab):
        await tab.until(lambda: tab.events("part"))
    assert [part["name"] for part in tab.events("part")] == [page]


@pytest.mark.parametrize("by", ["query", "header"])
async def test_a_tab_that_comes_back_is_sent_what_it_has_missed(provider: FakeProvider, make: Make, by: str) -> None:
    gateway = make(provider, public=True)
    console, first = viewed(gateway), Tab()
    async with opened(console, first):
        await send(gateway, model="seen")
        await first.until(lambda: first.events("exchange"))
    seen = [line[4:] for line in first.caller.content.decode().splitlines() if line.startswith("id: ")][-1]
    await send(gateway, model="missed")
    again = Tab(f"after={seen}") if by == "query" else Tab(headers=[(b"last-event-id", seen.encode())])
    async with opened(console, again):
        await again.until(lambda: again.events("exchange"))
    assert [told["model"] for told in again.events("exchange")] == ["missed"]


async def test_a_tab_of_another_worker_is_sent_all_that_this_one_knows(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider, public=True)
    console, tab = viewed(gateway), Tab("page=now&after=00000000.7")
    await send(gateway, model="here")
    async with opened(console, tab):
        await tab.until(lambda: tab.events("rows"))
    [news] = tab.events("rows")
    assert news["whole"] is True and len(news["rows"]) == 1


async def test_of_a_flood_a_tab_gets_the_newest_and_the_oldest_are_left_out(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make(provider, public=True)
    console, tab = viewed(gateway), Tab()
    tab.caller.stalled = anyio.Event()
    async with opened(console, tab):
        await tab.caller.until(2)  # and stands there
        for number in range(QUEUE + 5):
            await send(gateway, model=f"m{number}")
        tab.caller.stalled.set()
        await tab.until(lambda: any(one["model"] == f"m{QUEUE + 4}" for one in tab.events("exchange")))
    assert [one["model"] for one in tab.events("exchange")] == [f"m{number}" for number in range(5, QUEUE + 5)]


@pytest.mark.parametrize("accept", [HTML, JSON])
async def test_the_21st_tab_is_told_why_there_is_no_room(provider: FakeProvider, make: Make, accept: Any) -> None:
    console = viewed(make(provider))
    async with opened(console, *(Tab() for _ in range(TABS))):
        refused = await look(console, "/events", accept=accept)
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        assert b"20 tabs are live already" in refused.content
        assert (await look(console)).status == 200
    again = Tab()
    async with opened(console, again):
        assert again.caller.status == 200


async def test_whoever_has_most_tabs_gives_one_up_for_whoever_has_fewer(provider: FakeProvider, make: Make) -> None:
    gateway = make(provider)

    async def allow(request: Request) -> View:
        return View({tenant_of(request.scope)})

    def tabs(tenant: str, count: int) -> list[Tab]:
        return [Tab(headers=[(b"x-tenant", tenant.encode())]) for _ in range(count)]

    console, many, few = Console(gateway, allow=allow), tabs("acme", TABS), tabs("globex", TABS // 2)
    async with opened(console, *many), opened(console, *few):
        await until(lambda: sum(tab.over.is_set() for tab in many) == TABS // 2)
        assert not any(tab.over.is_set() for tab in few)
        assert all(tab.caller.complete for tab in many if tab.over.is_set())
        assert {tab.caller.status for tab in (*many, *few)} == {200}
        for tenant in ("acme", "globex"):
            [refused] = tabs(tenant, 1)
            await refused.run(console)
            assert refused.caller.status == 503
        [third] = tabs("initech", 1)
        async with opened(console, third):
            assert third.caller.status == 200


@pytest.mark.parametrize("how", ["drain", "aclose"])
async def test_the_tabs_end_with_the_gateway(provider: FakeProvider, make: Make, how: str) -> None:
    gateway = make(provider)
    console, tab = viewed(gateway), Tab()
    async with opened(console, tab):
        await (gateway.drain() if how == "drain" else gateway.aclose())
        await tab.ended()
        refused = Tab()
        if how == "drain":
            await refused.run(console)
            assert refused.caller.status == 503 and b"going down" in refused.caller.content
            assert (await look(console)).status == 200
        else:
            async with opened(console, refused):
                assert refused.caller.status == 200


async def test_a_silent_stream_says_that_it_is_alive(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIVE + "HEARTBEAT", 0.02)
    tab = Tab("page=tools")
    async with opened(viewed(make(provider)), tab):
        await tab.until(lambda: tab.caller.content.count(b": heartbeat\n\n") >= 2)
    assert len(tab.events("part")) == 1


async def test_who_may_see_nothing_any_more_is_sent_nothing_more(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIVE + "AGAIN", 0.02)
    gateway: Gateway = make(provider, public=True)
    views: list[View | None] = [WHOLE]

    async def allow(request: Request) -> View | None:
        return views[-1]

    tab = Tab()
    async with opened(Console(gateway, allow=allow), tab):
        await tab.until(lambda: tab.events("figures"))
        views.append(None)
        await tab.ended()


async def test_a_stream_ends_after_its_time_though_its_client_reads_nothing(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIVE + "LIFE", 0.05)
    gateway = make(provider)
    console, tab = viewed(gateway), Tab()
    tab.caller.stalled = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(tab.run, console)
        with anyio.fail_after(TIMEOUT):
            await tab.over.wait()
    assert not gateway.in_flight.connections


async def test_what_allow_raises_while_a_stream_runs_ends_it_and_reaches_the_host_as_it_is(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIVE + "AGAIN", 0.02)
    answers = iter([WHOLE])

    async def allow(request: Request) -> View | None:
        return next(answers, None) or fail()

    tab = Tab()
    await tab.run(Console(make(provider), allow=allow))
    assert tab.caller.complete and isinstance(tab.caller.raised, ValueError)


async def test_a_stream_whose_viewer_would_be_sent_to_a_login_ends(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIVE + "AGAIN", 0.02)
    answers = iter([WHOLE])

    async def allow(request: Request) -> View | None:
        for view in answers:
            return view
        raise HTTPException(303, headers={"location": "/login"})

    tab = Tab()
    with anyio.fail_after(TIMEOUT):
        await tab.run(Console(make(provider), allow=allow))
    assert tab.caller.complete and tab.caller.raised is None


def fail() -> View:
    raise ValueError("the host's own")


@pytest.mark.parametrize(
    "after", ["x", ".", "x.y", "x.3", "{token}.", "{token}.-1", "{token}.٣", "{token}." + "9" * 5000]
)
async def test_whatever_a_tab_says_that_it_has_seen_it_is_sent_something_whole(
    provider: FakeProvider, make: Make, after: str
) -> None:
    gateway = make(provider, public=True)
    console = viewed(gateway)
    await send(gateway)
    token = (await data(console))["exchanges"][0]["id"].partition("-")[0]
    tab = Tab("page=now&after=" + quote(after.replace("{token}", token)))
    async with opened(console, tab):
        await tab.until(lambda: tab.events("part"))
        assert tab.caller.status == 200


async def test_tabs_with_one_view_share_what_is_looked_up_for_them(
    provider: FakeProvider, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def today(ledger: object, view: View) -> dict[str, Any]:
        asked.append(view)
        return {"cost": None, "unpriced": 0}

    monkeypatch.setattr("gomodel_asgi.console.books.today", today)
    console = viewed(make(provider, tenant=tenant_of))
    tabs = [Tab("page=now") for _ in range(5)]
    async with opened(console, tabs[0]):
        await tabs[0].until(lambda: tabs[0].events("part"))
        async with opened(console, *tabs[1:]):
            for tab in tabs[1:]:
                await tab.until(lambda tab=tab: tab.events("part"))  # type: ignore[misc]
    assert len(asked) == 1
