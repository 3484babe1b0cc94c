"""A real Chromium, Debian's, and what it says of the pages that it opens."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright

TIMEOUT = 20_000
"""Milliseconds after which a test is stuck: never reached by one that passes."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--disable-dev-shm-usage",  # containers have little of it
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host can be reached
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, without a download of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0, args=FLAGS
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Heard:
    """What a tab has said and asked for."""

    errors: list[str] = field(default_factory=list)
    """What stands in the browser's log as an error or a warning: violations of the policy, scripts that failed, files
    that are not there."""
    asked: list[str] = field(default_factory=list)
    """The addresses that it has asked for."""
    dialogs: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Hear *page* from now on."""
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", self._requested)
        page.on("dialog", self._asks)

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _requested(self, request: Request) -> None:
        self.asked.append(request.url)

    async def _asks(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        await dialog.dismiss()


async def tab(context: BrowserContext) -> tuple[Page, Heard]:
    """A new tab, and what it says."""
    page, heard = await context.new_page(), Heard()
    page.set_default_timeout(TIMEOUT)
    heard.listen(page)
    return page, heard


CONTRAST = """() => {
  const parse = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = [];
  const look = (element, colour, text) => {
    const below = ground(element);
    const [one, two] = [light(over(parse(colour), below)), light(below)];
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    found.push({ ratio, text: text.trim().slice(0, 40), class: element.className, tag: element.tagName });
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    look(element, getComputedStyle(element).color, walker.currentNode.data);
  }
  for (const element of document.querySelectorAll("input, textarea")) {
    look(element, getComputedStyle(element).color, element.value || "value");
    if (element.placeholder) look(element, getComputedStyle(element, "::placeholder").color, element.placeholder);
  }
  return found;
}"""
"""The contrast of every text on the page with what lies below it (WCAG 2.2, "relative luminance", "contrast ratio")."""
