"""Citations in a model's text, found while it is written: links to what a tool has found become annotations.

Of `([t](url))` and `[t](url)` whose address is a source of this response the whole is cited, as OpenAI does; the text
stays as it is. The mark of a passage, `【n†name】`, is taken out of the text and becomes a `file_citation` where it
stood; so what may yet become a mark is held back. A file of a sandbox is cited over its address alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from ...tools import Page, Passage

Json = dict[str, Any]

LINK = re.compile(r"\[[^\[\]\n]{0,500}\]\(((?:https?://|sandbox:)[^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)\)")
"""A markdown link; the address may hold one pair of parentheses, as Wikipedia's do."""
SANDBOX = "sandbox:/mnt/data/"
"""Where the files stand that a code interpreter has written."""
MARK = re.compile(r"【(\d{1,6})†[^】]{0,200}】")
MARKS = "【"
LONGEST_MARK = 220
"""Characters that an open mark may have; what is longer is text."""
LONGEST_LINK = 2600
"""Characters; what is longer is not cited."""


def same_address(url: str) -> str:
    """What is equal for addresses of one page: without `utm_*`, fragment, and a slash at the end."""
    try:
        parts = urlsplit(url)
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not pair[0].startswith("utm_")]
        return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), urlencode(query), ""))
    except ValueError:
        return url


class Found:
    """What the tools of one response have found, and its text may cite."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.passages: list[Passage] = []
        self.files: dict[str, tuple[str, str]] = {}
        """By name: container and file id."""

    def __bool__(self) -> bool:
        return bool(self.pages or self.passages or self.files)

    def add(self, pages: Iterable[Page], passages: Iterable[Passage], files: Iterable[tuple[str, str, str]]) -> None:
        """Adds what a tool has found."""
        for page in pages:
            self.pages.setdefault(same_address(page.url), page)
        self.passages.extend(passages)
        self.files.update((name, (container, id)) for container, id, name in files)


class Citer:
    """One part of text: `feed` takes it in pieces and gives what a client gets of it, `rest` what was held back.

    Both give texts and annotations in the order of the text."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.held = ""
        """What may yet be a mark."""
        self.length = 0
        """Characters that have been given."""
        self.tail = ""
        """The last of them, in which a link may have begun."""

    def feed(self, text: str) -> Iterator[str | Json]:
        """Gives what a client gets of *text*, the next piece: what may be the beginning of a mark is held back."""
        if not self.found:
            if text:
                yield self._given(text)
            return
        text, self.held = self.held + text, ""
        at = text.rfind(MARKS)
        if self.found.passages and at >= 0 and "】" not in text[at:] and len(text) - at < LONGEST_MARK:
            text, self.held = text[:at], text[at:]
        yield from self._unmarked(text)

    def rest(self) -> Iterator[str | Json]:
        """Gives what was held back: the text has ended."""
        text, self.held = self.held, ""
        if text:
            yield self._given(text)
        yield from self._links(ended=True)

    def _unmarked(self, text: str) -> Iterator[str | Json]:
        at = 0
        for match in MARK.finditer(text) if self.found.passages else ():
            number = int(match[1])
            if not 1 <= number <= len(self.found.passages):
                continue
            yield from self._linked(text[at : match.start()])
            passage = self.found.passages[number - 1]
            citation = {"type": "file_citation", "file_id": passage.file_id, "filename": passage.filename}
            yield {**citation, "index": self.length}
            at = match.end()
        yield from self._linked(text[at:])

    def _linked(self, text: str) -> Iterator[str | Json]:
        if text:
            yield self._given(text)
            yield from self._links(ended=False)

    def _given(self, text: str) -> str:
        self.length += len(text)
        if self.found:
            self.tail += text
        return text

    def _links(self, ended: bool) -> Iterator[Json]:
        """The citations of the links that are whole. One in parentheses is not whole without the last."""
        at = 0
        start = self.length - len(self.tail)
        for match in LINK.finditer(self.tail):
            if match.end() == len(self.tail) and self.tail[match.start() - 1 : match.start()] == "(" and not ended:
                break
            at = match.end()
            if (cited := self._cited(match, start)) is not None:
                yield cited
        self.tail = self.tail[max(at, len(self.tail) - LONGEST_LINK) :]

    def _cited(self, match: re.Match[str], start: int) -> Json | None:
        url = match[1]
        if url.startswith(SANDBOX):
            name = unquote(url.removeprefix(SANDBOX))
            known = self.found.files.get(name)
            if known is None:
                return None
            container, id = known
            return {
                "type": "container_file_citation", "container_id": container, "file_id": id,
                "filename": name, "start_index": start + match.start(1),
                "end_index": start + match.end(1),
            }  # fmt: skip
        page = self.found.pages.get(same_address(url))
        if page is None:
            return None
        first, last, text = match.start(), match.end(), match.string
        if text[first - 1 : first] == "(" and text[last : last + 1] == ")" and first:
            first, last = first - 1, last + 1
        place = {"start_index": start + first, "end_index": start + last}
        return {"type": "url_citation", **place, "title": page.title, "url": page.url}
