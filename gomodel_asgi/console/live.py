"""Server-sent events: what happens, as it happens, to the tabs that are open.

A tab is a place in the recorder's memory, from which it goes on; at most `QUEUE` exchanges wait for it, and of more the
oldest are left out. So a record costs the same with no tab and with many, and a tab that is slow holds up nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.types import Message, Receive, Send

from ..server.disconnect import client_left
from ..tasks import loop_token
from . import books, pages
from .page import Asked
from .recorder import Exchange
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
LONGEST = 15
"""Digits of a number that a tab begins behind."""
RETRY = b"retry: 2000\n\n"
FULL = f"{TABS} tabs are live already: close one. This page is whole without, and new when it is loaded again."
LEAVING = "This worker is going down: its requests are being ended, and it begins no more."

PARTS: dict[str, Callable[[Asked], Shown]] = {"providers": pages.providers_live, "tools": pages.tools_live}
"""Pages that are rendered anew as a whole."""


class Tab:
    """One stream of *view*. *ended* is set when it has to end."""

    def __init__(self, view: View) -> None:
        self.tenants = view.named
        self.loop = loop_token()
        self.ended = anyio.Event()

    def wind_down(self) -> None:
        """The gateway drains."""
        self.ended.set()

    def stop(self, reason: object) -> None:
        """The gateway has drained."""
        self.ended.set()


class Tabs:
    """The tabs that are live, and what those with one view share."""

    def __init__(self) -> None:
        self.open: dict[Tab, None] = {}
        """In the order in which they were opened."""
        self.parts: dict[tuple[View, str], tuple[float, dict[str, str]]] = {}
        self.todays: dict[View, tuple[float, Shown]] = {}

    def has_room(self, view: View) -> bool:
        """Returns whether another one of *view* may be opened. Where all places are taken, those who see the same and
        have more of them than these would have give up their oldest one: nobody keeps the others out."""
        if len(self.open) < TABS:
            return True
        token, counts = loop_token(), Counter(tab.tenants for tab in self.open)
        for tab in self.open:
            if counts[tab.tenants] == max(counts.values()) > counts[view.named] + 1 and tab.loop is token:
                del self.open[tab]
                tab.ended.set()
                return True
        return False

    async def aclose(self) -> None:
        """Ends the tabs of the running event loop."""
        token = loop_token()
        for tab in tuple(self.open):
            if tab.loop is token:
                tab.ended.set()

    async def today(self, asked: Asked) -> Shown:
        """Returns what was spent today: the ledger is asked once in `AGAIN` seconds for each view."""
        time, known = asked.recorder.clock(), self.todays.get(asked.view)
        if known is not None and time - known[0] < AGAIN:
            return known[1]
        found = await books.today(asked.ledger, asked.view)
        _keep(self.todays, asked.view, (time, found))
        return found

    def rendered(self, asked: Asked, page: str, today: Shown) -> dict[str, str]:
        """Returns the parts of *page* as HTML, by name: made once a `TICK` for each view."""
        time, known = asked.recorder.clock(), self.parts.get((asked.view, page))
        if known is not None and time - known[0] < TICK / 2:
            return known[1]
        if page in PARTS:
            parts = {page: rendered(f"live_{page}", page=PARTS[page](asked))}
        else:
            ended = [one.shown for one in asked.recorder.latest(asked.view) if one.shown is not None]
            data = pages.now_live(asked, today, ended)
            parts = {name: rendered(f"live_{name}", page=data) for name in ("figures", "under_way", "sums", "worker")}
        _keep(self.parts, (asked.view, page), (time, parts))
        return parts


Key = TypeVar("Key")
Value = TypeVar("Value")


def _keep(known: dict[Key, Value], key: Key, value: Value) -> None:
    """Keeps *value* as the newest; of more than there are tabs, the oldest goes."""
    known.pop(key, None)
    known[key] = value
    if len(known) > TABS:
        known.pop(next(iter(known)), None)


Ask = Callable[[], Awaitable[View | None]]
"""Asks again what may be seen."""


async def stream(tabs: Tabs, asked: Asked, ask: Ask, start: Message, receive: Receive, send: Send) -> None:
    """Sends *start* and then what happens, until the client leaves, may see nothing any more, or the gateway ends.

    :raises Exception: what *ask* raised, once the stream has ended.
    """
    tab = Tab(asked.view)
    in_flight = asked.gateway.in_flight
    tabs.open[tab] = None
    in_flight.open(tab)
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_left, receive, group.cancel_scope)
            try:
                with anyio.move_on_after(LIFE):
                    await send(start)
                    await _send_all(tabs, tab, asked, ask, send)
            except OSError:
                pass  # how some servers report that the client has left
            except Exception as error:  # raised as it is, and not in a group
                failure = error
            with anyio.move_on_after(TICK), suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            group.cancel_scope.cancel()
    finally:
        tabs.open.pop(tab, None)
        in_flight.close(tab)
    if failure is not None:
        raise failure


async def _left(receive: Receive, scope: anyio.CancelScope) -> None:
    with suppress(OSError):
        if not await client_left(receive):
            return  # it lasts for `LIFE`, or until a piece cannot be sent
    scope.cancel()


async def _send_all(tabs: Tabs, tab: Tab, asked: Asked, ask: Ask, send: Send) -> None:
    async with aclosing(events(tabs, tab, asked, ask)) as found:
        async for piece in found:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def events(tabs: Tabs, tab: Tab, asked: Asked, ask: Ask) -> AsyncGenerator[bytes, None]:
    """Gives the bytes of a stream, piece by piece, until *tab* has ended."""
    feed = Feed(tabs, asked)  # from here on nothing is missed, however long the client takes
    yield RETRY
    spoke = looked = anyio.current_time()
    while not tab.ended.is_set():
        piece = b"".join(await feed.news())
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


class Feed:
    """What is new for one tab: for programs as values, for our own script (`?page=`) as parts of that page."""

    def __init__(self, tabs: Tabs, asked: Asked) -> None:
        self.tabs = tabs
        self.asked = asked
        self.page = asked.query.get("page", "")
        self.sent: dict[str, Any] = {}
        recorder = asked.recorder
        token, _, number = asked.after.partition(".")
        serial = int(number) if number.isdecimal() and len(number) <= LONGEST else -1
        known = token == recorder.token and 0 <= serial <= recorder.serial
        self.stranger = bool(token) and not known
        """Whether the tab shows another process, whose exchanges are not ours."""
        self.after = serial if known else 0 if self.stranger else recorder.serial

    async def news(self) -> list[bytes]:
        """Returns the events of what has changed since the last call."""
        if self.page in PARTS:
            return self._parts(self.tabs.rendered(self.asked, self.page, {}))
        recorder = self.asked.recorder
        newest = recorder.serial
        latest = [one for one in recorder.latest(self.asked.view, self.after) if one.serial <= newest][:QUEUE]
        listed = await pages.listed(self.asked, latest)
        self.after = newest
        today = await self.tabs.today(self.asked)
        if self.page == "now":
            return self._rows(latest) + self._parts(self.tabs.rendered(self.asked, self.page, today))
        exchanges = [event("exchange", one, f"{recorder.token}.{one['serial']}") for one in reversed(listed)]
        figures = pages.figures(self.asked, recorder.running(self.asked.view), today)
        if self.sent.get("figures") != figures:
            self.sent["figures"] = figures
            exchanges.append(event("figures", figures))
        return exchanges

    def _rows(self, latest: Sequence[Exchange]) -> list[bytes]:
        if not latest and not self.stranger:
            return []
        news = {"rows": [row(one) for one in latest], "whole": self.stranger}
        self.stranger = False
        return [event("rows", news, f"{self.asked.recorder.token}.{self.after}")]

    def _parts(self, parts: dict[str, str]) -> list[bytes]:
        changed = {name: html for name, html in parts.items() if self.sent.get(name) != html}
        self.sent |= changed
        return [event("part", {"name": name, "html": html}) for name, html in changed.items()]


def event(name: str, data: Any, id: str = "") -> bytes:
    """Returns one server-sent event: *data* as JSON, which stands in one line."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"
