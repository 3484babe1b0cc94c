"""Puts the parts of one reply in order: which item is open, and which opaque state stands before and after it.

Strategy: deltas leave at once, everything else waits for its place. What must come back on the next turn gathers in
`entries` until the next visible item begins; then it goes into the reasoning item that stands before that item,
which is the one with the thoughts if there is one. Signatures of text are known only after the text: they go into the
reasoning item after the message. Receipts of Gemini's own tools wait for their results, at most until the next item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ...wire.event_writer import Emitter
from ...wire.items import Message, Reasoning
from ..base import pack_state, unpack_state
from ..emulations import Unfenced
from ..tools import Tools
from . import hosted
from .hosted import Grounding
from .models import model_name

Json = dict[str, Any]


class Output:
    """The items of one reply.

    *pack* makes `encrypted_content` of entries, *tools* returns the tools of the request. *json*: the answer is one
    JSON object, and a code fence around it does not belong to it.
    """

    def __init__(
        self, emitter: Emitter, pack: Callable[[list[Json]], str], tools: Callable[[], Tools], *, json: bool = False
    ) -> None:
        self.emitter = emitter
        self.pack = pack
        self.tools = tools
        self.unfenced = Unfenced() if json else None
        self.grounding = Grounding()
        self.message: Message | None = None
        self.thinking: Reasoning | None = None
        self.entries: list[Json] = []
        self.thoughts: list[str] = []
        self.length = 0
        self.spans: list[Json] = []
        self.hosted_items: list[hosted.HostedItem] = []
        self.calls = 0
        self.pages: set[str] = set()
        self.searched = False
        self.usable = False

    # What a part brings...

    def text(self, text: str, signature: str, logprobs: list[Json]) -> None:
        """Adds text of the answer, whose *signature* may be empty."""
        if self.unfenced is not None:
            text = self.unfenced.feed(text)
        if self.message is None and not text:
            if signature:
                self._add_entry({"part": {"text": "", "thoughtSignature": signature}})
            return
        message = self.message or self._open_message()
        if text:
            message.text(text, logprobs)
        if signature:
            self.spans.append({"text": [self.length, len(text)], "signature": signature})
        self.length += len(text)

    def thought(self, text: str, signature: str) -> None:
        """Adds a thought to the summary of the open reasoning item."""
        if not text and not signature:
            return
        self._end_message()
        if text:
            self.thinking = self.thinking or self.emitter.reasoning()
            self.thinking.text(text)
        if signature:
            self._add_entry({"part": {"text": text, "thought": True, "thoughtSignature": signature}})
        else:
            self.thoughts.append(text)

    def call(self, name: str, call_id: str, arguments: Json, signature: str) -> None:
        """A function call; arguments come whole."""
        call_id = self.emitter.free_call_id(call_id or f"call_{self.emitter.suffix}{self.calls:02x}")
        self.calls += 1
        self._end_message()
        if signature:
            self._add_entry({"call": call_id, "signature": signature})
        self._flush()
        call = self.tools().open_call(self.emitter, name, call_id)
        call.arguments(msgspec.json.encode(arguments).decode())
        call.close()
        self.usable = True

    def image(self, data: str, media_type: str, signature: str) -> None:
        """Adds an image: base64 *data* of a *media_type*."""
        self._end_message()
        if signature:
            self._add_entry({"image": True, "signature": signature})
        item = {"type": "image_generation_call", "status": "completed", "result": data}
        item["output_format"] = media_type.removeprefix("image/")
        self.hosted_items.append(hosted.hosted_item(item, ("in_progress", "generating", "completed")))
        self._flush()
        self.usable = True

    def keep(self, part: Json, receipt: hosted.HostedItem | None = None) -> None:
        """Keeps a part that only Gemini understands for the next turn; *receipt* is the item that shows it to the
        client.
        """
        self._end_message()
        self._add_entry({"part": part})
        if receipt is not None:
            self.hosted_items.append(receipt)
            self.searched = self.searched or receipt.item["type"] == "web_search_call"

    def page(self, url: str) -> None:
        """A page that the model has read; every chunk may say so again."""
        if url and url not in self.pages:
            self.pages.add(url)
            self.hosted_items.append(hosted.page(url))

    # How it ends...

    def finish(self) -> None:
        """Writes what is due at the end. Open items are left to the emitter, which knows how the response ends."""
        self._end_text()
        self._cite()
        searches = self._searches()
        if self.spans or self.hosted_items or searches:
            self._end_message()
        self.hosted_items += searches
        if self.hosted_items:
            self._flush()
        self._attach_state()
        if self.grounding.unnamed:
            self.emitter.warn(f"{self.grounding.unnamed} grounding sources without an address")

    def _searches(self) -> list[hosted.HostedItem]:
        """Returns the search that the sources come from, unless the model's own call of it was seen."""
        queries, urls = self.grounding.queries, self.grounding.urls
        return [hosted.search(queries, urls)] if queries and not self.searched else []

    def _open_message(self) -> Message:
        if self.message is None:
            self._flush()
            self.message, self.length = self.emitter.message(), 0
            self.usable = True
        return self.message

    def _end_message(self) -> None:
        self._end_text()
        if self.message is not None:
            self._cite()
            self.message.close()
            for span in self.spans:
                self._add_entry(span)
            self.message, self.spans = None, []

    def _end_text(self) -> None:
        """Ends the text: what was held back of it is no fence."""
        if self.unfenced is not None and (rest := self.unfenced.close()):
            self._open_message().text(rest)
            self.length += len(rest)

    def _cite(self) -> None:
        if self.message is not None:
            for annotation in self.grounding.annotations("".join(self.message.pieces)):
                self.message.annotate(annotation)

    def _flush(self) -> None:
        """Writes what stands before the next item."""
        self._attach_state()
        if self.thinking is not None:
            self.thinking.close()
        for receipt in self.hosted_items:
            self.emitter.item(receipt.item, *receipt.phases)
        self.thinking, self.entries, self.hosted_items = None, [], []

    def _add_entry(self, entry: Json) -> None:
        self._settle_thoughts()
        self.entries.append(entry)

    def _settle_thoughts(self) -> None:
        """Thoughts that came in pieces are one part."""
        if self.thoughts:
            self.entries.append({"part": {"text": "".join(self.thoughts), "thought": True}})
            self.thoughts.clear()

    def _attach_state(self) -> None:
        self._settle_thoughts()
        if self.entries:
            self.thinking = self.thinking or self.emitter.reasoning()
            self.thinking.set_encrypted_content(self.pack(self.entries))


# What Gemini wants back on the next turn: thought signatures with the parts they belong to, and parts that no item of
# the Responses API can hold.
#
# It travels as a list of entries in the `encrypted_content` of reasoning items, each of them one of
# - `{"part": {...}}`: a part as it came (thoughts, server tools, a signed empty text), to be put where the item stands;
# - `{"call": call_id, "signature": ...}`: for the function call of that id, wherever it stands;
# - `{"text": [start, length], "signature": ...}`: for that stretch of the text before the item, a part of its own;
# - `{"image": true, "signature": ...}`: for the next image.
#
# A signed part must come back unmerged with its unsigned neighbours (Gemini API, "Thought signatures").


def pack(entries: list[Json], provider: str, model: str) -> str:
    """Returns *entries* as `encrypted_content`."""
    return pack_state(provider, model_name(model), {"entries": entries})


def unpack(encrypted: str | None, provider: str, model: str) -> list[Json]:
    """Returns the entries of an `encrypted_content`, none where another provider or model made it.

    It comes from the client, so entries of another shape are left out.
    """
    payload = unpack_state(encrypted, provider, model_name(model)) or {}
    entries = payload.get("entries")
    return [entry for entry in entries if is_entry(entry)] if isinstance(entries, list) else []


def is_entry(entry: Any) -> bool:
    """Returns whether *entry* has one of the shapes above."""
    if not isinstance(entry, dict):
        return False
    if isinstance(part := entry.get("part"), dict):
        return bool(part) and not part.keys() & {"functionCall", "functionResponse"}
    if not isinstance(entry.get("signature"), str):
        return False
    return isinstance(entry.get("call"), str) or entry.get("image") is True or _is_span(entry.get("text"))


def _is_span(span: Any) -> bool:
    return isinstance(span, list) and len(span) == 2 and all(type(number) is int and number >= 0 for number in span)


def divide(text: str, entries: list[Json]) -> Iterator[Json]:
    """Yields *text* as parts: each signed stretch, and each unsigned one between them."""
    at = 0
    for entry in entries:
        start, length = entry["text"]
        start = min(max(start, at), len(text))
        if text[at:start]:
            yield {"text": text[at:start]}
        at = min(start + length, len(text))
        yield {"text": text[start:at], "thoughtSignature": entry["signature"]}
    if text[at:]:
        yield {"text": text[at:]}
