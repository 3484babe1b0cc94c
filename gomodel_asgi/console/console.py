"""The console as an ASGI app: who may see what, which page, and in which form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from ..arguments import check_function, check_instance
from ..deadline import within
from ..gateway import Gateway
from ..ledger import Ledger
from ..server.paths import route_path
from ..threads import call
from . import books, live, pages
from .page import Asked, Page
from .recorder import Recorder
from .rendering import rendered, row
from .view import View

Allow = Callable[[Request], "View | Awaitable[View | None] | None"]
"""Says what a request may see; None: nothing."""

ALLOW = 10.0
"""Seconds that *allow* has to answer."""
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
HEADERS = [
    (b"cache-control", b"private, no-store, no-transform"),
    (b"content-security-policy", POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"vary", b"accept"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
METHODS = ("GET", "HEAD")
HTML = b"text/html; charset=utf-8"
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
EVENTS = b"text/event-stream; charset=utf-8"
PAGES: dict[str, Callable[[Asked], Awaitable[Page | None]]] = {
    "/": pages.now,
    "/providers": pages.providers,
    "/costs": books.costs,
    "/tools": pages.tools,
    "/explain": pages.explain,
}
FILES = {
    "/static/console.css": b"text/css; charset=utf-8",
    "/static/console.js": b"text/javascript; charset=utf-8",
    "/static/icon.svg": b"image/svg+xml",
}
HERE = Path(__file__).parent
NAMES = [(path[1:] or "now", path[1:], (path[1:] or "now").capitalize()) for path in PAGES]
"""What leads from page to page: each page's name, path and title."""
LONGEST_ID = 512
RETRY = [(b"retry-after", b"30")]
NOTHING = "There is nothing here."


class Console:
    """Shows what goes on in *gateway*, to whom *allow* lets: an ASGI app to mount in the host.

    *allow* is asked for each request, with a Starlette `Request`: a plain function, which runs in a worker thread and
    may use the host's database, or an async one. It returns a `View`, or None, which is answered with 404. Whatever it
    raises is answered so too, and raised to the host afterwards. Nothing can be changed here, and nothing is asked of
    an upstream.

    :raises TypeError: *gateway* is none, or *allow* is no function.
    """

    def __init__(self, gateway: Gateway, *, allow: Allow) -> None:
        check_instance("gateway", gateway, Gateway, "a Gateway")
        check_function("allow", allow, "a function that takes a Request and returns a View, or None for a 404")
        self._gateway = gateway
        self._allow = allow
        self._tabs = live.Tabs()
        self._recorder = Recorder(self._tabs.aclose)
        gateway.observe(self._recorder)
        ledger = ledger_of(gateway)
        if ledger is not None:
            ledger.listen(self._recorder.book)

    def __repr__(self) -> str:
        return f"<Console of {self._gateway!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1000})
        await Visit(self, scope, receive, send).run()


class Visit:
    """One request to the console."""

    def __init__(self, console: Console, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway = console._gateway
        self.recorder = console._recorder
        self.tabs = console._tabs
        self.allow = console._allow
        self.scope = scope
        self.receive = receive
        self.send = send
        self.request = Request(scope)
        self.path = route_path(scope) or ("" if scope["path"] else "/")
        self.base = "../" * (self.path.count("/") - 1) or "./"
        """Leads from this page to the first one: relative, so that it holds below any path and behind any proxy."""

    async def run(self) -> None:
        """Answers it.

        :raises Exception: what *allow* raised.
        """
        try:
            view = await self.ask()
        except HTTPException as refused:
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in _items(refused)]
            return await self.problem(refused.status_code, "You may not see this.", headers)
        except Exception:
            await self.problem(404, NOTHING)  # as for those who may see nothing: so nobody learns who is known here
            raise
        if view is None:
            return await self.problem(404, NOTHING)
        if not self.path:
            return await self.redirect()
        await self.answer(view)

    async def ask(self) -> View | None:
        """Returns what the host lets this request see.

        :raises TypeError: it has answered with something else.
        """
        view = await within(ALLOW, call(self.allow, self.request))
        if view is not None and not isinstance(view, View):
            raise TypeError(f"allow: return a View or None, not a {type(view).__name__}.")
        return view

    async def ask_again(self) -> View | None:
        """Returns what it may see while its stream is open. Behind its status there is none to answer with: who would
        be sent to a login sees nothing.

        :raises TypeError: as `ask`.
        """
        try:
            return await self.ask()
        except HTTPException:
            return None

    async def answer(self, view: View) -> None:
        """Answers one who may see *view*."""
        name, _, id = self.path[1:].partition("/")
        is_request = name == "requests" and 0 < len(id) <= LONGEST_ID
        if not is_request and self.path not in (*PAGES, *FILES, "/events"):
            return await self.problem(404, NOTHING, view=view)
        if self.scope["method"] not in METHODS:
            return await self.problem(405, "Nothing can be changed here.", [(b"allow", b"GET, HEAD")], view=view)
        if self.path in FILES:
            return await self.respond(200, FILES[self.path], _file(self.path))
        query = self.request.query_params
        after = self.request.headers.get("last-event-id") or query.get("after", "")
        host = self.gateway.state.tools
        tools = [] if host is None else pages.configured(host.toolbox)
        asked = Asked(self.gateway, tools, ledger_of(self.gateway), self.recorder, view, query, id, after)
        if self.path == "/events":
            return await self.events(asked)
        page = await (pages.request if is_request else PAGES[self.path])(asked)
        if page is None:
            return await self.problem(404, NOTHING, view=view)
        await self.page(page, view)

    # Answers...

    async def page(self, page: Page, view: View) -> None:
        """Answers with *page* in the form that the client wants."""
        if self.wants_json:
            return await self.respond(page.status, JSON, msgspec.json.encode({"page": page.name, **page.data}))
        values = {
            "rows": [row(one) for one in page.exchanges],
            "after": f"{self.recorder.token}.{self.recorder.serial}",
        }
        await self.respond(page.status, HTML, self.html(page, view, **values))

    def html(self, page: Page, view: View | None, **values: Any) -> bytes:
        """Returns *page* as HTML."""
        names = () if view is None else [name for name in NAMES if name[0] != "explain" or view.explain]
        html = rendered(
            page.name, page=page.data, name=page.name, title=page.title, base=self.base, nav=names, **values
        )
        return html.encode("utf-8", "replace")

    async def problem(
        self, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = (), view: View | None = None
    ) -> None:
        """Answers that there is nothing to see, and why."""
        if self.wants_json:
            body = msgspec.json.encode({"error": {"message": text}})
            return await self.respond(status, JSON, body, headers)
        if view is None or self.path == "/events":
            return await self.respond(status, TEXT, text.encode(), headers)
        page = Page("problem", "Not here", {"worker": None, "note": text}, status)
        await self.respond(status, HTML, self.html(page, view), headers)

    async def redirect(self) -> None:
        """Leads to the same path with a slash behind it, where relative links hold."""
        query = self.scope.get("query_string", b"")
        last = quote(self.scope["path"].rpartition("/")[2], safe="")
        where = f"./{last}/".encode() + (b"?" + query if query else b"")
        await self.respond(308, TEXT, b"", [(b"location", where)])

    async def events(self, asked: Asked) -> None:
        """Answers with server-sent events."""
        if self.gateway.in_flight.draining:
            return await self.problem(503, live.LEAVING, RETRY)
        headers = [(b"content-type", EVENTS), (b"x-accel-buffering", b"no"), *HEADERS]
        start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        if self.scope["method"] == "HEAD":
            await self.send(start)
            return await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        if not self.tabs.has_room(asked.view):
            return await self.problem(503, live.FULL, RETRY)
        await live.stream(self.tabs, asked, self.ask_again, start, self.receive, self.send)

    async def respond(self, status: int, kind: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Sends an answer of one piece."""
        length = (b"content-length", b"%d" % len(body))
        whole = [(b"content-type", kind), length, *HEADERS, *headers]
        await self.send({"type": "http.response.start", "status": status, "headers": whole})
        is_head = self.scope["method"] == "HEAD"
        await self.send({"type": "http.response.body", "body": b"" if is_head else body, "more_body": False})

    @property
    def wants_json(self) -> bool:
        """Whether the client names JSON, and does not like HTML better."""
        accepted = accepts(self.request.headers.get("accept", ""))
        return accepted.get("application/json", 0.0) > accepted.get("text/html", 0.0)


def ledger_of(gateway: Gateway) -> Ledger | None:
    """Returns the ledger of *gateway*, None where it keeps none."""
    try:
        return gateway.ledger
    except RuntimeError:
        return None


def accepts(header: str) -> dict[str, float]:
    """Returns the media types that an `accept` header names, each with its weight (RFC 9110, 12.5.1)."""
    found: dict[str, float] = {}
    for part in header.split(","):
        kind, *params = [piece.strip().lower() for piece in part.split(";")]
        weight = 1.0
        for param in params:
            if param.startswith("q="):
                try:
                    weight = float(param[2:])
                except ValueError:
                    weight = 0.0
        found[kind] = weight
    return found


def _items(refused: HTTPException) -> Iterable[tuple[str, str]]:
    return () if refused.headers is None else refused.headers.items()


@cache
def _file(path: str) -> bytes:
    return (HERE / path[1:]).read_bytes()


async def _lifespan(receive: Receive, send: Send) -> None:
    """Served by itself, the console has nothing to start or to stop: the gateway is the host's."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
