"""Holds text of a stream back until it has been looked at, and writes the stream anew with what was put in its place.

A channel is one text of one item: a part's, the arguments of a call. Of each the last *hold* characters stay here, so
that what guards look for is seen whole wherever the events cut it. What was put in place of a text is remembered for
the response, so the same text stands in deltas, `done`, part, item and response alike, and is looked at once.

Pure: the events that come in are dicts, those that go out too, and what is to be looked at is yielded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from os.path import commonprefix
from typing import Any

from msgspec import Struct, field

from ..wire.response import TERMINAL, Json
from .places import IDENTIFIERS, Place, of_event, of_item, of_reply, replaced, spelled, strings

MEMBERS = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
    "response.code_interpreter_call_code": "code",
}
"""Under which member the whole text of a channel stands in its `done` event, and in its part or item."""
OTHERS = ("text", "arguments", "input", "code", "transcript", "delta")
"""Where that of an unknown channel may stand."""
PARTS: dict[str, tuple[str, str, Json]] = {
    "response.output_text": ("content", "content_index", {"type": "output_text", "annotations": [], "logprobs": []}),
    "response.refusal": ("content", "content_index", {"type": "refusal"}),
    "response.reasoning_text": ("content", "content_index", {"type": "reasoning_text"}),
    "response.reasoning_summary_text": ("summary", "summary_index", {"type": "summary_text"}),
}
PART_DONE = {"content": "response.content_part.done", "summary": "response.reasoning_summary_part.done"}
DELTA = frozenset({
    "type", "sequence_number", "output_index", "content_index", "summary_index", "item_id", "delta", "logprobs",
    "obfuscation",
})  # fmt: skip
ITEM = frozenset({"type", "sequence_number", "output_index", "item"})
LIFECYCLE = frozenset({"type", "sequence_number", "response"})
"""The known members of such events; any other may hold text."""
SOUND = frozenset({"response.audio.delta", "response.output_audio.delta"})
"""Deltas that hold no text."""

Key = tuple[Any, ...]


class Scan(Struct, frozen=True):
    """A *text* that stands at *path* is to be looked at; what is sent back takes its place."""

    text: str
    path: str
    final: bool


Steps = Generator[Scan, str, list[Json]]


class Channel(Struct):
    """One text as it comes: *held* and *fresh* have not left, *length* characters in all; *raw* has come, *sent* has
    left."""

    prefix: str
    last: Json
    held: str = ""
    fresh: list[str] = field(default_factory=list)
    """What has come since it was looked at last: put together once, since a text grows by thousands of deltas."""
    length: int = 0
    raw: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    next_scan: int = 0
    """Characters that have to be held before it is looked at again: what changes near its end may still grow."""
    is_done: bool = False

    @property
    def path(self) -> str:
        """Returns where the text stands in the response, as `output[0].content[1]`."""
        where = "".join(f"[{self.last[name]}]" for name in self.last if name.endswith("_index"))
        return f"{self.prefix.removeprefix('response.')}{where}"

    def add(self, text: str) -> None:
        """*text* has come."""
        self.raw.append(text)
        self.fresh.append(text)
        self.length += len(text)

    def keep(self, text: str) -> None:
        """Of all that has come only *text* has not left."""
        self.held, self.fresh, self.length = text, [], len(text)

    def whole(self) -> str:
        """Returns what has not left."""
        self.keep(self.held + "".join(self.fresh))
        return self.held


class Window:
    """One guarded stream. *hold* is in characters; None: all of a text. *places* gives those of a response."""

    def __init__(self, hold: int | None, places: Callable[[Json], Iterable[Place]] = of_reply) -> None:
        self.hold = hold
        self.places = places
        self.channels: dict[Key, Channel] = {}
        self.memory: dict[str, str] = {}
        """What was put in place of each text, by the text."""
        self.open: dict[Any, Json] = {}
        """The items that have been announced and have not ended."""
        self.done: dict[Any, Json] = {}
        self.response: Json = {}
        """The last response object that was written."""
        self.number = 0
        self.begun = False

    def event(self, event: Json) -> Steps:
        """Returns the events that take the place of *event*."""
        if not self.begun:
            first = event.get("sequence_number")
            self.begun, self.number = True, first if isinstance(first, int) else 0
        written = yield from self._rewritten(event)
        return [self.numbered(one) for one in written]

    def numbered(self, event: Json) -> Json:
        """Returns *event* with the next number."""
        number, self.number = self.number, self.number + 1
        return {"type": event["type"], "sequence_number": number, **{k: event[k] for k in event if k not in NUMBERED}}

    def value(self, value: Any, places: list[Place], prefix: str = "") -> Generator[Scan, str, Any]:
        """Returns *value* with what is put in place of the texts at *places*."""
        texts = {}
        for path, text in places:
            new = yield from self._text(text, prefix + spelled(path))
            if new != text:
                texts[path] = new
        return unlogged(replaced(value, texts))

    def blocked(self) -> list[Json]:
        """Returns the events that end the response where it stands: `incomplete`, for its content."""
        events: list[Json] = []
        for index in [*self.open]:
            events += self._cut_off(index)
        output = [self.done[index] for index in sorted(self.done, key=lambda index: index or 0)]
        details = {"reason": "content_filter"}
        self.response = {**self.response, "status": "incomplete", "incomplete_details": details, "output": output}
        events.append({"type": "response.incomplete", "response": self.response})
        return [self.numbered(one) for one in events]

    # What comes in...

    def _rewritten(self, event: Json) -> Steps:
        type = event["type"]
        prefix, _, verb = type.rpartition(".")
        if verb == "delta" and isinstance(event.get("delta"), str):
            event = yield from self._beside(event, DELTA)
            return [event] if type in SOUND else (yield from self._delta(prefix, event))
        if verb == "done" and (member := member_of(prefix, event)) is not None:
            return (yield from self._done(prefix, member, event))
        if isinstance(event.get("item"), dict):
            return (yield from self._item(event))
        if isinstance(event.get("response"), dict):
            return (yield from self._lifecycle(event))
        skipped = IDENTIFIERS if type.startswith("response.") or type == "error" else frozenset({"type"})
        return [(yield from self.value(event, [*of_event(event, skipped)]))]

    def _delta(self, prefix: str, event: Json) -> Steps:
        channel = self.channels.setdefault(key_of(prefix, event), Channel(prefix, event))
        channel.last, hold = event, self.hold
        channel.add(event["delta"])
        if hold is None or channel.length <= max(hold, channel.next_scan):
            return []
        held = channel.whole()
        new = yield Scan(held, channel.path, final=False)
        out = self._leaving(channel, new, hold)
        return [written(channel, out)] if out else []

    def _leaving(self, channel: Channel, new: str, hold: int) -> str:
        """Returns what of the held text, in whose place *new* is to stand, can leave."""
        held, channel.next_scan = channel.held, 0
        keep = len(held) - hold
        if new.endswith(held[keep:]):
            channel.keep(held[keep:])
            return new[: len(new) - hold]
        # What was found may still grow, and may begin before what it has changed: both by less than is held.
        safe = max(0, min(len(commonprefix([held, new])), keep) - hold)
        channel.keep(held[safe:])
        channel.next_scan = 2 * channel.length
        return held[:safe]

    def _done(self, prefix: str, member: str, event: Json) -> Steps:
        key = key_of(prefix, event)
        channel, events = self.channels.get(key), []
        if channel is not None:
            events = yield from self._finished(channel)
        text = yield from self._text(event[member], spelled((member,)))
        rest = {name: value for name, value in event.items() if name != member}
        rest = yield from self.value(rest, [*strings(rest, (), IDENTIFIERS)])
        return [*events, {**rest, member: text}]

    def _finished(self, channel: Channel) -> Steps:
        """Returns the rest of a channel."""
        if channel.is_done:
            return []
        channel.is_done = True
        rest = held = channel.whole()
        channel.keep("")
        if held:
            rest = yield Scan(held, channel.path, final=True)
        event = [written(channel, rest)] if rest else []
        self.memory["".join(channel.raw)] = "".join(channel.sent)
        return event

    def _item(self, event: Json) -> Steps:
        index, events = event.get("output_index"), []
        ended = event["type"] == "response.output_item.done"
        if ended:
            events = yield from self._all_finished(index)
        item = yield from self.value(event["item"], [*of_item(event["item"])], f"output[{index}].")
        event = yield from self._beside(event, ITEM)
        if ended:
            self.open.pop(index, None)
            self.done[index] = item
            self.channels = {key: one for key, one in self.channels.items() if one.last.get("output_index") != index}
        else:
            self.open[index] = item
        return [*events, {**event, "item": item}]

    def _lifecycle(self, event: Json) -> Steps:
        events: list[Json] = []
        if event["type"] in TERMINAL:
            for index in {one.last.get("output_index") for one in self.channels.values()}:
                events += yield from self._all_finished(index)
        response = event["response"]
        self.response = yield from self.value(response, [*self.places(response)])
        rest = yield from self._beside(event, LIFECYCLE)
        return [*events, {**rest, "response": self.response}]

    def _all_finished(self, index: Any) -> Steps:
        events: list[Json] = []
        for channel in self.channels.values():
            if channel.last.get("output_index") == index:
                events += yield from self._finished(channel)
        return events

    def _beside(self, event: Json, known: frozenset[str]) -> Generator[Scan, str, Json]:
        """Returns *event* with what is put in place of the texts in its members that are not *known*."""
        if event.keys() <= known:
            return event
        others = {name: value for name, value in event.items() if name not in known}
        return {**event, **(yield from self.value(others, [*strings(others, (), IDENTIFIERS)]))}

    def _text(self, text: str, path: str) -> Generator[Scan, str, str]:
        if not text:
            return text
        if text not in self.memory:
            self.memory[text] = yield Scan(text, path, final=True)
        return self.memory[text]

    # Where it is cut off...

    def _cut_off(self, index: Any) -> list[Json]:
        """Returns the events that end the item at *index* with what of it has left."""
        item, events = dict(self.open.pop(index)), []
        if "status" in item:
            item["status"] = "incomplete"
        for channel in self.channels.values():
            if channel.last.get("output_index") != index:
                continue
            text, member = "".join(channel.sent), MEMBERS.get(channel.prefix, "text")
            where = {name: value for name, value in channel.last.items() if name.endswith(("_index", "_id"))}
            if not channel.is_done:
                logged: Json = {"logprobs": []} if channel.prefix == "response.output_text" else {}
                events.append({"type": f"{channel.prefix}.done", **where, member: text, **logged})
            if channel.prefix not in PARTS:
                item[member] = text
                continue
            name, _, kind = PARTS[channel.prefix]
            part = {**kind, member: text}
            item[name] = [*(item.get(name) or ()), part]
            if not channel.is_done:
                events.append({"type": PART_DONE[name], **where, "part": part})
        self.done[index] = item
        return [*events, {"type": "response.output_item.done", "output_index": index, "item": item}]


NUMBERED = frozenset({"type", "sequence_number"})


def written(channel: Channel, text: str) -> Json:
    """Returns the delta that carries *text*; log probabilities, which are of another text, are left out."""
    channel.sent.append(text)
    event = {**channel.last, "delta": text}
    if "logprobs" in event:
        event["logprobs"] = []
    return event


def key_of(prefix: str, event: Json) -> Key:
    """Returns what identifies a channel."""
    places = tuple(sorted((name, value) for name, value in event.items() if name.endswith("_index")))
    return (prefix, places) if places else (prefix, event.get("item_id"))


def member_of(prefix: str, event: Json) -> str | None:
    """Returns the member of a `done` event under which the whole text stands, if it has any."""
    names = (MEMBERS[prefix],) if prefix in MEMBERS else OTHERS
    return next((name for name in names if isinstance(event.get(name), str)), None)


def unlogged(value: Any) -> Any:
    """Returns *value* without log probabilities: their tokens spell the text that was replaced."""
    if isinstance(value, dict):
        return {name: [] if name == "logprobs" and each else unlogged(each) for name, each in value.items()}
    return [unlogged(each) for each in value] if isinstance(value, list) else value
