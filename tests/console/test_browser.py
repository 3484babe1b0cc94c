"""The console in a real Chromium: what it shows and keeps from others, whatever names clients give."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from anyio import to_thread
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from gomodel_asgi.testing import FakeProvider, Status

from ..support import browser as support, console_demo
from ..support.browser import CHROMIUM, CONTRAST, Heard, chromium, tab
from ..support.console_site import ALL, REFUSED, Behind, Mount, Site, django, fastapi, served, starlette

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian's package of that name)"),
]
PAGES = ("", "providers", "costs", "costs?by=tenant", "costs?by=model", "costs?by=label", "tools", "explain")
LIVE = ("", "providers", "tools")
TABS = 20
WIDTH = 360
BAD = """<script>document.title="hit"</script><img src=x onerror=document.title="hit">\"'&{{7*7}}</td></table>"""
"""A name that breaks out of wherever it is written unescaped."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def browser(anyio_backend: str) -> AsyncIterator[Browser]:
    expect.set_options(timeout=support.TIMEOUT)
    async with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeProvider]:
    with FakeProvider().run_in_thread() as running:
        yield running


@pytest.fixture
async def site(upstream: FakeProvider, tmp_path: Path) -> AsyncIterator[Site]:
    """A console two levels below Starlette."""
    upstream.clear()
    made = Site(upstream, tmp_path, "/ops/gateway")
    with served(made, starlette(made)):
        yield made
        await made.client.aclose()


@asynccontextmanager
async def person(browser: Browser, site: Site, sees: str | None = ALL, **options: Any) -> AsyncIterator[BrowserContext]:
    """Somebody with a browser of their own, who sees these tenants."""
    context = await browser.new_context(**options)
    if sees is not None:
        names = sees if sees == ALL else ",".join(map(quote, sees.split(",")))
        await context.add_cookies([{"name": "sees", "value": names, "url": site.origin}])
    try:
        yield context
    finally:
        await context.close()


async def filled(site: Site) -> str:
    """Requests of every kind: the address of one of them, below the first page."""
    await site.ask("gpt-5", "acme", x_team="red")
    await site.ask("a-model-with-a-long-name-that-no-column-has-room-for-2026-11-29" * 2, "umbrella", x_team="x")
    await site.ask(REFUSED, "acme")
    site.provider.fail_next(Status(500, message="The upstream is out of order."))
    await site.ask("gpt-5", x_first="broken")
    await site.written()
    reply = await site.client.get(site.home, headers={"accept": "application/json", "cookie": f"sees={ALL}"})
    return f"requests/{reply.json()['exchanges'][0]['id']}"


async def live(page: Page) -> None:
    """Wait until *page* is live."""
    await expect(page.locator("#live-state")).to_have_text("Live")


# It opens...


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_each_page_opens_with_nothing_in_the_browsers_log(browser: Browser, site: Site, scheme: str) -> None:
    request = await filled(site)
    async with person(browser, site, color_scheme=scheme) as context:
        page, heard = await tab(context)
        for path in (*PAGES, request, "explain?tenant=acme&model=gpt-5"):
            answer = await page.goto(site.home + path)
            assert answer is not None and answer.status == 200, path
            if path in LIVE:
                await live(page)
            await expect(page.locator("h1")).to_be_visible()
        assert heard.errors == [] and heard.dialogs == []
        assert {url for url in heard.asked if not url.startswith(site.origin)} == set()
        assert any(url.endswith("console.css") for url in heard.asked)


async def test_a_violation_of_the_policy_would_be_seen(browser: Browser, site: Site) -> None:
    async with person(browser, site) as context:
        page, heard = await tab(context)
        answer = await site.client.get(site.home, headers={"cookie": f"sees={ALL}"})
        policy = {"content-security-policy": answer.headers["content-security-policy"]}
        violations = ["<script>1</script>", "<p style='color:red'>x</p>", "<img src=http://127.0.0.2/x>"]

        async def violate(route: Route) -> None:
            body = violations[int(route.request.url[-1])]
            await route.fulfill(body=body, content_type="text/html", headers=policy)

        await page.route("**/control/*", violate)
        for number, violation in enumerate(violations):
            heard.errors.clear()
            await page.goto(f"{site.origin}/control/{number}")
            assert any("Content Security Policy" in text for text in heard.errors), violation


@pytest.mark.parametrize("mount", ["starlette", "fastapi", "django", "told by a proxy", "untold by a proxy"])
async def test_pages_links_and_the_live_stream_work_below_any_path(
    browser: Browser, upstream: FakeProvider, tmp_path: Path, mount: str
) -> None:
    upstream.clear()
    hosts: dict[str, Mount] = {"fastapi": fastapi, "django": django}
    site = Site(upstream, tmp_path, "/ops/gateway")
    app = await to_thread.run_sync(hosts.get(mount, starlette), site)  # Django is set up beside event loops
    proxied = "proxy" in mount
    with served(site, Behind(app, "/behind/it", tells=mount.startswith("told")) if proxied else app):
        home = f"{site.origin}{'/behind/it' if proxied else ''}{site.where}"
        async with person(browser, site) as context:
            page, heard = await tab(context)
            await page.goto(home if mount in ("starlette", "fastapi") else home + "/")
            assert page.url == home + "/"
            await live(page)
            await site.ask("behind-the-page")
            row = page.locator("#rows tr")
            await expect(row).to_have_count(1)
            for name in ("Providers", "Costs", "Tools", "Explain", "Now"):
                await page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
                await expect(page.locator("h1")).to_have_text(name)
                assert page.url.startswith(home + "/")
            await row.get_by_role("link").click()
            await expect(page.locator("h1")).to_contain_text("behind-the-page")
            await page.get_by_role("navigation", name="Breadcrumbs").get_by_role("link").first.click()
            await expect(page.locator("h1")).to_have_text("Now")
            await page.goto(home + "/explain")
            await page.get_by_role("button", name="Explain").click()
            await expect(page.locator("#result")).to_contain_text("fake")
            assert heard.errors == []
        await site.client.aclose()


async def test_whoever_may_see_nothing_finds_nothing(browser: Browser, site: Site) -> None:
    request = await filled(site)
    async with person(browser, site, None) as context:
        page, _ = await tab(context)
        for path in (*PAGES, request, "events", "static/console.css"):
            answer = await page.goto(site.home + path)
            assert answer is not None and answer.status == 404, path
            assert "gpt-5" not in await page.content()


# Names that clients choose...


async def test_a_script_in_a_name_is_inert_and_shown_as_it_is(browser: Browser, site: Site) -> None:
    async with person(browser, site) as context:
        watching, told = await tab(context)
        await watching.goto(site.home)
        await live(watching)
        site.provider.fail_next(Status(400, message=BAD))
        await site.ask(BAD, BAD, x_team=quote(BAD), user_agent=BAD)
        await site.ask(BAD, BAD, x_team=quote(BAD), user_agent=BAD)
        await site.written()
        rows = watching.locator("#rows tr")
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text(BAD)
        ids = [await link.get_attribute("href") for link in await rows.get_by_role("link").all()]
        assert len(ids) == 2
        page, heard = await tab(context)
        shown = 0
        bad = quote(BAD, safe="")
        paths = [*PAGES, *(str(id).removeprefix("./") for id in ids), f"requests/{bad}"]
        for path in (*paths, f"explain?model={bad}&tenant={bad}", f"costs?tenant={bad}&by={bad}&since={bad}"):
            await page.goto(site.home + path)
            shown += BAD in await page.inner_text("main")
            for one in (page, watching):
                assert "hit" not in await one.title()
                assert await one.locator("main script, main img, main [onerror]").count() == 0
        assert shown >= 6
        assert heard.dialogs == told.dialogs == [] and told.errors == []
        assert [text for text in heard.errors if "the server responded with a status of" not in text] == []


async def test_what_an_upstream_said_is_inert_where_it_is_quoted(browser: Browser, site: Site) -> None:
    site.provider.fail_next(Status(400, message=BAD))
    await site.ask("gpt-5", "acme")
    async with person(browser, site) as context:
        page, heard = await tab(context)
        await page.goto(site.home)
        await page.locator("#rows tr").get_by_role("link").click()
        await expect(page.locator("main")).to_contain_text(BAD)
        assert "hit" not in await page.title() and heard.errors == []


# It is live...


async def test_a_request_appears_without_a_reload(browser: Browser, site: Site) -> None:
    async with person(browser, site) as context:
        page, heard = await tab(context)
        await page.goto(site.home)
        await live(page)
        await page.evaluate("window.stays = true")
        await expect(page.locator("#rows tr")).to_have_count(0)
        await site.ask("first-model", "acme")
        await expect(page.locator("#rows tr").first).to_contain_text("first-model")
        await site.ask("second-model", "acme")
        await expect(page.locator("#rows tr").first).to_contain_text("second-model")
        await expect(page.locator("#figures .requests .value")).to_contain_text("2")
        assert await page.evaluate("window.stays") is True
        assert [url for url in heard.asked if url == site.home] == [site.home]


async def test_a_page_that_is_paused_stands_still_until_it_is_resumed(browser: Browser, site: Site) -> None:
    async with person(browser, site) as context:
        page, _ = await tab(context)
        other, _ = await tab(context)
        for one in (page, other):
            await one.goto(site.home)
            await live(one)
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#live-state")).to_contain_text("Paused")
        await site.ask("meanwhile")
        await expect(other.locator("#rows tr")).to_have_count(1)
        assert await page.locator("#rows tr").count() == 0
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#rows tr")).to_have_count(1)


async def test_news_leave_focus_and_scrolling_where_they_are(browser: Browser, site: Site) -> None:
    await site.flood(60)
    async with person(browser, site) as context:
        page, _ = await tab(context)
        await page.goto(site.home)
        await live(page)
        box = page.get_by_role("region", name="The last requests", exact=True)
        link = page.locator("#rows tr").nth(50).get_by_role("link")
        await link.focus()
        held = await link.get_attribute("href")
        await box.evaluate("(box) => { box.scrollTop = 900; }")
        where = "([link, box]) => link.getBoundingClientRect().top - box.getBoundingClientRect().top"
        elements = [await link.element_handle(), await box.element_handle()]
        before = await page.evaluate(where, elements)
        await site.ask("news")
        await expect(page.locator("#rows tr").first).to_contain_text("news")
        assert await page.evaluate("document.activeElement.getAttribute('href')") == held
        assert abs(await page.evaluate(where, elements) - before) < 2


async def test_twenty_tabs_are_live_through_a_flood_and_the_next_one_is_told_why_not(
    browser: Browser, site: Site
) -> None:
    # A browser holds six connections to a host, so that one alone cannot have twenty tabs live.
    async with _people(browser, site, 5) as contexts:
        tabs: list[tuple[Page, Heard]] = []
        for context in contexts[:4]:
            for _ in range(TABS // 4):
                tabs.append(await tab(context))
                await tabs[-1][0].goto(site.home)
                await live(tabs[-1][0])
        late, _ = await tab(contexts[4])
        await late.goto(site.home)
        await expect(late.locator("#live-state")).to_contain_text("20 tabs are live already")
        await expect(late.locator("h1")).to_have_text("Now")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(site.flood(2000, REFUSED))
            tasks.create_task(_look(site, 20))
        await site.ask("after-the-flood")
        for page, heard in tabs:
            await expect(page.locator("#rows tr").first).to_contain_text("after-the-flood")
            assert await page.locator("#rows tr").count() <= 500
            assert heard.errors == []
            await expect(page.locator("#live-state")).to_have_text("Live")

        await tabs[0][0].close()
        await late.reload()
        await live(late)


async def _look(site: Site, times: int) -> None:
    headers = {"accept": "application/json", "cookie": f"sees={ALL}"}
    for _ in range(times):
        answer = await site.client.get(site.home, headers=headers)
        assert answer.status_code == 200 and len(answer.json()["exchanges"]) <= 500


@asynccontextmanager
async def _people(browser: Browser, site: Site, count: int) -> AsyncIterator[list[BrowserContext]]:
    if not count:
        yield []
        return
    async with person(browser, site, reduced_motion="reduce") as one, _people(browser, site, count - 1) as others:
        yield [one, *others]


# Whose it is...


async def test_the_request_of_another_tenant_is_not_there_and_never_comes(browser: Browser, site: Site) -> None:
    async with person(browser, site, "acme") as context, httpx.AsyncClient(timeout=None) as client:
        page, _ = await tab(context)
        await page.goto(site.home)
        await live(page)
        headers = {"cookie": "sees=acme"}
        async with client.stream("GET", site.home + "events?page=now", headers=headers) as stream:
            lines = stream.aiter_lines()
            await site.ask("their-model", "umbrella", x_team="their-team")
            await site.ask("nobodys-model")
            await site.ask("my-model", "acme")
            heard = []
            async for line in lines:
                heard.append(line)
                if "my-model" in line:
                    break
        await expect(page.locator("#rows tr")).to_have_count(1)
        await expect(page.locator("#rows tr")).to_contain_text("my-model")
        await site.written()
        everything = await site.client.get(site.home, headers={"accept": "application/json", "cookie": f"sees={ALL}"})
        ids = {one["model"]: one["id"] for one in everything.json()["exchanges"]}
        assert len(ids) == 3
        said = "\n".join(heard)
        for path in PAGES:
            await page.goto(site.home + path)
            said += await page.content()
        for model in ("their-model", "nobodys-model"):
            answer = await page.goto(f"{site.home}requests/{ids[model]}")
            assert answer is not None and answer.status == 404
            said += await page.content()
        assert not re.search("their-model|nobodys-model|umbrella|their-team", said)
        answer = await page.goto(f"{site.home}requests/{ids['my-model']}")
        assert answer is not None and answer.status == 200


# For everybody...


async def test_the_keyboard_alone_reaches_everything(browser: Browser, site: Site) -> None:
    await filled(site)
    async with person(browser, site) as context:
        page, _ = await tab(context)
        await page.goto(site.home)
        await live(page)
        focused = "document.activeElement.textContent.trim()"
        ring = "getComputedStyle(document.activeElement).outlineStyle"
        await page.keyboard.press("Tab")
        assert (await page.evaluate(focused)).startswith("Skip")
        assert await page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0  # and can be seen
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.tagName") == "MAIN"
        await page.goto(site.home)
        await live(page)
        seen: list[str] = []
        for _ in range(40):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement === document.body"):
                break
            assert await page.evaluate(ring) != "none", seen
            seen.append(await page.evaluate(focused))
        assert {"Now", "Providers", "Costs", "Tools", "Explain", "Pause"} <= set(seen)
        assert sum(bool(re.fullmatch(r"\d\d:\d\d:\d\d", text)) for text in seen) == 4  # a link for each request
        await page.goto(site.home + "explain")
        for _ in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement.name") == "model":
                break
        await page.keyboard.type("typed-model")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_contain_text("It would go to fake")
        await expect(page.locator("input[name=model]")).to_have_value("typed-model")


async def test_no_page_is_wider_than_a_phone(browser: Browser, site: Site) -> None:
    request = await filled(site)
    async with person(browser, site, viewport={"width": WIDTH, "height": 740}) as context:
        page, _ = await tab(context)
        for path in (*PAGES, request, "explain?tenant=acme&model=gpt-5", "nowhere"):
            await page.goto(site.home + path)
            assert await page.evaluate("document.documentElement.scrollWidth") <= WIDTH, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_stands_out_from_what_lies_below_it(browser: Browser, site: Site, scheme: str) -> None:
    request = await filled(site)
    async with person(browser, site, color_scheme=scheme, reduced_motion="reduce") as context:
        page, _ = await tab(context)
        for path in (*PAGES, request, "explain?tenant=acme&model=gpt-5", f"explain?model={REFUSED}", "costs?by=x"):
            await page.goto(site.home + path)
            found = await page.evaluate(CONTRAST)
            assert len(found) > 10
            assert [one for one in found if one["ratio"] < 4.5] == [], path


async def test_what_is_shown_is_named_for_those_who_do_not_see_it(browser: Browser, site: Site) -> None:
    request = await filled(site)
    async with person(browser, site) as context:
        page, _ = await tab(context)
        for path in (*PAGES, request):
            await page.goto(site.home + path)
            for role in ("main", "banner", "contentinfo"):
                await expect(page.get_by_role(role)).to_have_count(1)
            assert await page.locator("html[lang]").count() == await page.locator("h1").count() == 1
            assert await page.locator("table:not(:has(caption))").count() == 0
            assert await page.locator("th:not([scope])").count() == 0
            assert await page.locator("svg:not([aria-hidden]):not([aria-label])").count() == 0
            fields = "[...document.querySelectorAll('input, select, textarea')]"
            assert await page.evaluate(f"{fields}.filter((one) => !one.labels.length).length") == 0
            ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
            assert len(ids) == len(set(ids)), path


async def test_without_scripts_each_page_is_whole(browser: Browser, site: Site) -> None:
    request = await filled(site)
    async with person(browser, site, java_script_enabled=False) as plain, person(browser, site) as other:
        page, heard = await tab(plain)
        with_scripts, _ = await tab(other)
        for path in (*PAGES, request):
            await page.goto(site.home + path)
            await with_scripts.goto(site.home + path)
            for what in ("main tbody th", "main h2"):
                told = await with_scripts.locator(what).all_inner_texts()
                assert await page.locator(what).all_inner_texts() == told
        await page.goto(site.home)
        await expect(page.locator("#rows tr")).to_have_count(4)
        await expect(page.get_by_role("button", name="Pause")).to_be_hidden()
        await site.ask("news")
        await page.reload()
        await expect(page.locator("#rows tr")).to_have_count(5)
        assert heard.errors == []


# In the documentation...


SHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "console-light.png": ("", {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}}),
    "console-dark.png": ("", {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}}),
    "console-phone.png": ("", {"color_scheme": "light", "viewport": {"width": 390, "height": 844}}),
    "console-costs.png": ("costs", {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}}),
}
WRITE = "WRITE_SCREENSHOTS"
"""Set in the environment, the screenshots in the documentation are made anew."""
DOCS = Path(__file__).parents[2] / "docs"


async def test_the_documentation_shows_the_console_as_it_is(
    browser: Browser, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console_demo.stand_still(monkeypatch)
    site.gateway.reload(providers=console_demo.providers(site.provider.base_url))
    console_demo.play(site)
    await site.run(console_demo.spend(site))
    page_of_docs = (DOCS / "console.md").read_text()
    for name, (path, options) in SHOTS.items():
        async with person(browser, site, **options) as context:
            page, heard = await tab(context)
            await page.goto(site.home + path)
            if path in LIVE:
                await live(page)
            await expect(page.locator("h1")).to_be_visible()
            where = DOCS if os.environ.get(WRITE) else tmp_path
            await page.screenshot(path=where / name, animations="disabled")
            assert heard.errors == []
        assert size_of(DOCS / name) == size_of(where / name), f"{WRITE}=1 writes {name} anew"
        assert f"({name})" in page_of_docs


def size_of(png: Path) -> tuple[int, int]:
    """Width and height of an image (PNG, 11.2.1)."""
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
