"""Server-sent events: what happens, as it happens, to the tabs that are open.

A tab is a place in the recorder's memory, from which it goes on; at most `QUEUE` exchanges wait for it, and of more the
oldest are left out. So a record costs the same with no tab and with many, and a tab that is slow holds up nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio
import msgspec
from starlette.types import Message, Receive, Send

from ..tasks import loop_token
from . import books, pages
from .pages import Asked
from .rendering import rendered, row
from .shown import Shown
from .view import View

TABS = 20
"""Tabs of one console that are live at once."""
QUEUE = 100
"""Exchanges that wait for a tab."""
TICK = 1.0
"""Seconds between two looks at what is new."""
HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent."""
AGAIN = 60.0
"""Seconds after which *allow* is asked again, and the ledger."""
LIFE = 600.0
"""Seconds after which a stream ends, and the browser asks for another: a server that goes down waits for no more."""
RETRY = b"retry: 2000\n\n"
FULL = f"{TABS} tabs are live already: close one. This page is whole without, and new when it is loaded again."
LEAVING = "This worker is going down: its requests are being ended, and it begins no more."

PARTS: dict[str, Callable[[Asked], Shown]] = {"providers": pages.providers_live, "tools": pages.tools_live}
"""Pages that are rendered anew as a whole."""


class Tab:
    """One stream. *ended* is set when it has to end."""

    def __init__(self) -> None:
        self.loop = loop_token()
        self.ended = anyio.Event()

    def wind_down(self) -> None:
        """The gateway drains."""
        self.ended.set()

    def stop(self, reason: object) -> None:
        """The gateway has drained."""
        self.ended.set()


class Tabs:
    """The tabs that are live."""

    def __init__(self) -> None:
        self.open: set[Tab] = set()

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self.open) >= TABS

    async def aclose(self) -> None:
        """Ends the tabs of the running event loop."""
        token = loop_token()
        for tab in tuple(self.open):
            if tab.loop is token:
                tab.ended.set()


Ask = Callable[[], Awaitable[View | None]]
"""Asks again what may be seen."""


async def stream(tabs: Tabs, asked: Asked, ask: Ask, start: Message, receive: Receive, send: Send) -> None:
    """Send *start* and then what happens, until the client leaves, may see nothing any more, or the gateway ends."""
    tab = Tab()
    in_flight = asked.gateway.in_flight
    tabs.open.add(tab)
    in_flight.open(tab)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_left, receive, group.cancel_scope)
            with anyio.move_on_after(LIFE):
                await send(start)
                await _send_all(tab, asked, ask, send)
            with anyio.move_on_after(TICK):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()
    finally:
        tabs.open.discard(tab)
        in_flight.close(tab)


async def _left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send_all(tab: Tab, asked: Asked, ask: Ask, send: Send) -> None:
    async with aclosing(events(tab, asked, ask)) as found:
        async for piece in found:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def events(tab: Tab, asked: Asked, ask: Ask) -> AsyncGenerator[bytes, None]:
    """Gives the bytes of a stream, piece by piece, until *tab* has ended."""
    feed = Feed(asked)  # from here on nothing is missed, however long the client takes
    yield RETRY
    spoke = looked = anyio.current_time()
    await feed.refresh()
    while not tab.ended.is_set():
        piece = b"".join([one async for one in feed.news()])
        time = anyio.current_time()
        if piece or time - spoke >= HEARTBEAT:
            spoke = time
            yield piece or b": heartbeat\n\n"
        with anyio.move_on_after(TICK):
            await tab.ended.wait()
        if anyio.current_time() - looked >= AGAIN:
            looked = anyio.current_time()
            view = await ask()
            if view is None:
                return
            feed.asked = replace(feed.asked, view=view)
            await feed.refresh()


class Feed:
    """What is new for one tab: for programs as values, for our own script (`?page=`) as parts of that page."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.page = asked.query.get("page", "")
        self.today: Shown = {}
        self.sent: dict[str, str] = {}
        self.figures = b""
        recorder = asked.recorder
        token, _, serial = asked.after.partition(".")
        known = token == recorder.token and serial.isdecimal() and int(serial) <= recorder.serial
        self.stranger = bool(token) and not known
        """Whether the tab shows another process, whose exchanges are not ours."""
        self.after = int(serial) if known else 0 if self.stranger else recorder.serial

    async def refresh(self) -> None:
        """Ask the ledger again for what was spent today."""
        if self.page in ("", "now"):
            self.today = await books.today(self.asked.ledger, self.asked.view)

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Gives the events that tell what has changed since it was asked last."""
        if self.page in PARTS:
            data = PARTS[self.page](self.asked)
            async for part in self._parts({self.page: rendered(f"live_{self.page}", page=data)}):
                yield part
            return
        recorder, before = self.asked.recorder, self.after
        latest = recorder.latest(self.asked.view, before)[:QUEUE]
        self.after = recorder.serial
        told = await pages.told(self.asked, latest)
        if self.page != "now":
            for one in reversed(told):
                yield event("exchange", one, f"{recorder.token}.{one['serial']}")
            figures = event("figures", self._data()["figures"])
            if figures != self.figures:
                self.figures = figures
                yield figures
            return
        if latest or self.stranger:
            news = {"rows": [row(one) for one in latest], "whole": self.stranger}
            self.stranger = False
            yield event("rows", news, f"{recorder.token}.{self.after}")
        data = self._data()
        parts = {name: rendered(f"live_{name}", page=data) for name in ("figures", "under_way", "sums", "worker")}
        async for part in self._parts(parts):
            yield part

    async def _parts(self, parts: dict[str, str]) -> AsyncGenerator[bytes, None]:
        for name, html in parts.items():
            if self.sent.get(name) != html:
                self.sent[name] = html
                yield event("part", {"name": name, "html": html})

    def _data(self) -> Shown:
        known = [one.told for one in self.asked.recorder.latest(self.asked.view) if one.told is not None]
        return pages.now_live(self.asked, self.today, known)


def event(name: str, data: Any, id: str = "") -> bytes:
    """Returns one server-sent event: *data* as JSON, which stands in one line."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
