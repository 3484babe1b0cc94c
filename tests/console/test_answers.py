"""What the console answers to whom it lets in: forms, headers, paths, methods."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from gomodel_asgi import Provider, Target
from gomodel_asgi.console import View
from gomodel_asgi.testing import FakeProvider

from ..support.console import HTML, JSON, data, look, send, viewed
from ..support.gateways import Make

PAGES = ["/", "/providers", "/costs", "/tools", "/explain"]
FILES = ["/static/console.css", "/static/console.js", "/static/icon.svg"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # nothing here waits for anything


ROOM = Path(__file__).parents[2] / "gomodel_asgi" / "console"


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/nothing", "/requests/nothing"])
@pytest.mark.parametrize("accept", [HTML, JSON])
async def test_every_answer_forbids_whatever_a_page_could_be_made_to_do(
    provider: FakeProvider, make: Make, path: str, accept: Any
) -> None:
    headers = (await look(viewed(make(provider)), path, accept=accept)).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "no-store" in headers["cache-control"] and "private" in headers["cache-control"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_html_unless_json_is_asked_for(provider: FakeProvider, make: Make, path: str) -> None:
    console = viewed(make(provider))
    name = path[1:] or "now"
    for accept in (b"", b"*/*", b"text/html", b"application/json;q=0.5,text/html", b"text/plain;q=x"):
        found = await look(console, path, accept=(b"accept", accept))
        assert found.headers["content-type"] == "text/html; charset=utf-8"
        assert found.content.startswith(b"<!doctype html>")
    for accept in (b"application/json", b"application/json, text/html;q=0.9", b"Application/JSON;charset=utf-8"):
        found = await look(console, path, accept=(b"accept", accept))
        assert (found.headers["content-type"], found.json()["page"]) == ("application/json", name)


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/events", "/nothing"])
async def test_head_has_the_headers_of_get_and_no_body(provider: FakeProvider, make: Make, path: str) -> None:
    console = viewed(make(provider))
    head = await look(console, path, method="HEAD")
    assert head.content == b"" and head.complete
    if path != "/events":
        get = await look(console, path)
        length = head.headers.pop("content-length"), get.headers.pop("content-length")
        assert (head.status, head.headers) == (get.status, get.headers)
        assert length[0] == length[1] == str(len(get.content)) or path == "/"  # whose sizes follow the time


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/events", "/requests/x"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(provider: FakeProvider, make: Make, path: str, method: str) -> None:
    found = await look(viewed(make(provider)), path, method=method)
    assert (found.status, found.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path", ["/nothing", "/providers/", "/Costs", "/requests", "/requests/", "/static", "/static/../console.py", "//"]
)
async def test_other_paths_are_not_there(provider: FakeProvider, make: Make, path: str) -> None:
    console = viewed(make(provider))
    assert (await look(console, path)).status == 404
    assert (await look(console, path, accept=JSON)).json() == {"error": {"message": "There is nothing here."}}


async def test_a_websocket_is_refused(provider: FakeProvider, make: Make) -> None:
    sent: list[Any] = []

    async def send_(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await viewed(make(provider))({"type": "websocket", "path": "/", "headers": []}, receive, send_)
    assert [message["type"] for message in sent] == ["websocket.close"]


# Below whatever path...


def dispatched(app: ASGIApp) -> ASGIApp:
    """What an `asgi.py` of Django's does."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        root = scope.get("root_path", "")
        if f"{scope['path']}/".startswith(f"{root}/ops/"):
            return await app({**scope, "root_path": f"{root}/ops"}, receive, send)
        raise AssertionError(scope["path"])

    return application


def mounted(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/ops", app)])


def in_fastapi(app: ASGIApp) -> ASGIApp:
    host = FastAPI()
    host.mount("/ops", app)
    return host


LINK = re.compile(rb'(?:href|src|action|data-events)="([^"]*)"')


@pytest.mark.parametrize("mount", [dispatched, mounted, in_fastapi])
@pytest.mark.parametrize("root", ["", "/proxy"])
async def test_its_links_hold_below_any_path(provider: FakeProvider, make: Make, mount: Any, root: str) -> None:
    gateway = make(provider, public=True)
    app = mount(viewed(gateway))
    await send(gateway)
    [one] = (await data(app, f"{root}/ops/", root_path=root))["exchanges"]
    seen = set()
    for path in [*PAGES, f"/requests/{one['id']}", "/nothing/at/all"]:
        page = await look(app, f"{root}/ops{path}", root_path=root)
        assert page.status == (404 if "nothing" in path else 200), path
        for link in LINK.findall(page.content):
            target = urlsplit(urljoin(f"http://host{root}/ops{path}", link.decode()))
            assert (target.netloc, target.path.startswith(f"{root}/ops/")) == ("host", True), link
            if target.path not in seen and not link.startswith(b"#"):
                seen.add(target.path)
                there = await look(app, target.path, root_path=root, method="HEAD")
                assert there.status == (404 if "nothing" in target.path else 200), link
    assert len(seen) >= 10


@pytest.mark.parametrize("mount", [dispatched, mounted, in_fastapi])
async def test_without_the_slash_at_its_root_it_leads_there(provider: FakeProvider, make: Make, mount: Any) -> None:
    found = await look(mount(viewed(make(provider))), "/ops", query="a=b", scheme="http", server=("host", 80))
    assert 300 < found.status < 400
    assert urljoin("http://host/ops", found.headers["location"]).endswith("/ops/?a=b")


# Escaping, and what the pages are made of...

SCRIPT = "<script>alert(1)</script>"


async def test_what_others_wrote_is_text_on_every_page(provider: FakeProvider, make: Make) -> None:
    def policy(request: Any) -> Target:
        return Target("fake", labels={SCRIPT: SCRIPT})

    gateway = make(Provider("fake", provider.base_url), policy=policy, tenant=lambda scope: SCRIPT, public=True)
    console = viewed(gateway, View({SCRIPT}, detail=True, explain=True))
    assert (await send(gateway, model=SCRIPT)).status == 200
    [one] = (await data(console))["exchanges"]
    assert (one["model"], one["tenant"], one["labels"]) == (SCRIPT, SCRIPT, {SCRIPT: SCRIPT})
    query = f"tenant={SCRIPT}&model={SCRIPT}&body={SCRIPT}&since={SCRIPT}&by={SCRIPT}"
    for path in [*PAGES, f"/requests/{one['id']}"]:
        for asked in ("", query):
            page = await look(console, path, query=asked)
            assert b"<script>" not in page.content and page.status in (200, 400), path


def test_no_template_and_no_file_needs_more_than_the_policy_allows() -> None:
    for path in [*ROOM.glob("templates/*.html"), *ROOM.glob("static/*")]:
        text = path.read_text()
        assert not re.search(r"\sstyle\s*=|<style|\son\w+\s*=\s*[\"']|javascript:|@import|url\(", text), path
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), path


def test_only_rows_that_a_template_has_made_are_taken_as_they_are() -> None:
    trusted = {path.name: path.read_text().count("|safe") for path in ROOM.glob("templates/*.html")}
    assert {name: count for name, count in trusted.items() if count} == {"now.html": 1}
