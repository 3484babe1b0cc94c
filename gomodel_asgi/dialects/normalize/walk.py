"""Follows a sloppy event stream and writes the proper one.

Strategy: nothing that the upstream says about order or numbering is relied on. Every event is taken for what it means
("here is text of a message", "this item has ended"), is given to the item that it fits best, and whatever the grammar
wants before it is written before it. What has not been told when the response ends is told then, from its final
object. The rule for the end itself is strict: a terminal event, or `[DONE]` after an item. A stream that merely closes
was cut, however whole it looks.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...emitter import DONE, error_event, frame, response_error
from ...errors import GatewayError, UpstreamAuthError, UpstreamTruncated
from ..failure import reported_failure
from ..reader import TERMINAL
from .items import Item
from .kinds import CALLS, PARTS, TEXTS
from .roster import Roster, akin, repeats
from .values import Identity, Json, repaired_error, repaired_response, timestamp

LIFECYCLE = ("response.created", "response.queued", "response.in_progress")
ENDS = (*TERMINAL, "response.done", "response.cancelled")
STATUS_ENDS = {"incomplete": "incomplete", "failed": "failed", "cancelled": "failed"}
NUMBERING = ("type", "sequence_number")
HOSTED = re.compile(r"response\.(\w+_call|mcp_list_tools)\.\w+")

encode = msgspec.json.Encoder().encode


class Walk:
    """One reply; *identity* is used as far as the upstream does not say who it is. `out` collects the events, those
    behind the number *after*: the client has the others."""

    def __init__(self, identity: Identity, *, stream: bool, after: int = -1) -> None:
        self.identity = identity
        self.stream = stream
        self.after = after
        self.out: list[bytes] = []
        self.sequence_number = 0
        self.begun = False
        self.told: set[str] = set()
        self.meaningful = False
        self.terminal: str | None = None
        self.failure: GatewayError | None = None
        self.raw_usage: Any = None
        self.given: Json = {}
        """What the upstream has said of the response so far."""
        self.response: Json | None = None
        self.roster = Roster(self.write)

    def write(self, type: str, members: Json) -> None:
        """Write one event of this type."""
        if self.stream and self.sequence_number > self.after:
            event = {"type": type, "sequence_number": self.sequence_number}
            self.out.append(frame(event | {name: value for name, value in members.items() if name not in NUMBERING}))
        self.sequence_number += 1

    # What the upstream says...

    def event(self, type: str, event: Json) -> None:
        """One event of the upstream.

        :raises ValueError: it is not what this API sends.
        """
        if type in ENDS:
            self.end(type, event)
        elif self.failure is not None:
            return  # behind an error only the failed response has a meaning
        elif type in LIFECYCLE:
            self.lifecycle(type, event)
        elif type == "error":
            self.fail(reported_failure(encode(event)), final=False)
        else:
            self.under_way(event)
            self.meaningful = True
            self.inner(type, event)

    def lifecycle(self, type: str, event: Json) -> None:
        """The response begins; what is told twice is told once."""
        self.learn(event)
        members = {} if "object" in event else event
        self.begin(event, members if type == "response.created" else {})
        if type not in self.told:
            self.tell(type, members)

    def done(self) -> None:
        """`[DONE]`: the upstream says that this was all."""
        if self.failure is not None:
            self.fail(self.failure)
        elif self.roster.items:
            self.end("response.completed", {})
        else:
            self.break_off(UpstreamTruncated("The upstream's stream ended without a response."))

    # The beginning...

    def learn(self, event: Json) -> None:
        """Remember what *event* says of the response; a bare response object may stand in the place of an event."""
        response = event if event.get("object") == "response" else event.get("response")
        given = response if isinstance(response, dict) else {}
        if "usage" in event and not given.get("usage"):
            given = {**given, "usage": event["usage"]}
        self.given |= {name: value for name, value in given.items() if value is not None or name not in self.given}
        self.raw_usage = self.given.get("usage")

    def begin(self, event: Json, members: Json | None = None) -> None:
        """Announce the response; *members* go into the event. Its id is the first that is named, and stays."""
        if self.begun:
            return
        self.begun = True
        id, old = self.given.get("id") or event.get("response_id"), self.identity
        created = timestamp(self.given.get("created_at")) or timestamp(self.given.get("created")) or old.created_at
        id = id if isinstance(id, str) and id else old.id
        self.identity = Identity(id, created, old.model, old.echo, old.stamp)
        self.roster.suffix = id.removeprefix("resp_")
        self.tell("response.created", members or {})

    def tell(self, type: str, members: Json) -> None:
        """Write a lifecycle event."""
        self.told.add(type)
        queued = type == "response.queued" or (type == "response.created" and self.given.get("status") == "queued")
        status = "queued" if queued else "in_progress"
        given = {**self.given, "usage": None}
        self.write(type, {**members, "response": repaired_response(given, self.identity, status, [])})

    def under_way(self, event: Json) -> None:
        """See that the response has been announced, and that work on it has begun."""
        self.begin(event)
        if "response.in_progress" not in self.told:
            self.tell("response.in_progress", {})

    # What stands between...

    def inner(self, type: str, event: Json) -> None:
        stem, _, verb = type.rpartition(".")
        if stem == "response.output_item" and verb in ("added", "done"):
            if not _is_item(event.get("item")):
                raise ValueError("an item without a type")
            self.added(event, event["item"]) if verb == "added" else self.ended(event, event["item"])
        elif stem in TEXTS and verb in ("delta", "done"):
            kind = TEXTS[stem]
            self.text(self.roster.item(event, kind.item), verb, kind.name, event)
        elif stem in CALLS and verb in ("delta", "done"):
            self.call(self.roster.find(event, CALLS[stem].item), verb, stem, event)
        elif stem in PARTS and verb in ("added", "done"):
            self.part(self.roster.item(event, self.holder(stem, event)), verb, PARTS[stem], event)
        elif stem == "response.output_text.annotation" and verb == "added":
            item = self.roster.item(event, "message")
            if not item.closed:
                item.annotation({**event, "type": type})
        else:
            self.other(type, event)

    def text(self, item: Item, verb: str, name: str, event: Json) -> None:
        if not item.closed:
            item.text_delta(TEXTS[name], event) if verb == "delta" else item.text_done(TEXTS[name], event)

    def call(self, item: Item | None, verb: str, name: str, event: Json) -> None:
        # A call that was not announced has no name and no call_id yet, and is of no use to anybody: it is told when its
        # item comes whole.
        if item is not None and not item.closed:
            item.call_delta(CALLS[name], event) if verb == "delta" else item.call_done(CALLS[name], event)

    def part(self, item: Item, verb: str, container: str, event: Json) -> None:
        if not item.closed:
            item.part_added(container, event) if verb == "added" else item.part_done(container, event)

    def holder(self, stem: str, event: Json) -> str:
        """The type of item that a part event belongs to."""
        part = event.get("part")
        kind = part.get("type") if isinstance(part, dict) else None
        reasons = stem != "response.content_part" or kind == "reasoning_text"
        return "reasoning" if reasons else "message"

    def other(self, type: str, event: Json) -> None:
        """An event that we do not know, or of a hosted tool: it goes on, at the place of its item."""
        if hosted := HOSTED.fullmatch(type):
            self.write(type, {**event, **self.roster.item(event, hosted[1]).where})
            return
        item = self.roster.find(event, None) if "item_id" in event or "output_index" in event else None
        place = {} if item is None else {name: value for name, value in item.where.items() if name in event}
        self.write(type, {**event, **place})

    # Items...

    def added(self, event: Json, given: Json) -> None:
        known = self.roster.by_id.get(str(given.get("id") or ""))
        if known is None or known.closed or not akin(known, given):
            self.roster.open(event, given)

    def ended(self, event: Json, given: Json) -> None:
        item = self.roster.find({**event, "item_id": given.get("id")}, given["type"])
        if item is not None and item.closed and repeats(item, given):
            return
        if item is None or item.closed or not akin(item, given):
            item = self.roster.open(event, given)
        item.close(given, "completed", event)

    # The end...

    def end(self, type: str, event: Json) -> None:
        """A terminal event, or what stands for one."""
        if self.terminal is not None:
            return
        self.learn(event)
        self.under_way(event)
        status = self.ending(type)
        self.adopt(self.given.get("output"), status)
        if status == "failed":
            return self.fail(self.failure or reported_failure(encode(self.given)))
        for item in self.roster.items:
            item.close(None, status if item is self.roster.items[-1] else "completed")
        self.meaningful = True
        self.finish(status, {} if "object" in event else event)

    def ending(self, type: str) -> str:
        """The status with which the response ends: a `completed` that says otherwise of itself is not one."""
        if self.failure is not None:
            return "failed"
        named = TERMINAL.get(type)
        if named in (None, "completed"):
            said = self.given.get("status")
            return STATUS_ENDS.get(said if isinstance(said, str) else "", named or "completed")
        return str(named)

    def snapshot(self, response: Json) -> None:
        """A response that came whole, in whatever state it is."""
        self.learn({"response": response})
        self.begin({})
        status = self.given.get("status")
        if not isinstance(status, str) or not status:
            status = "incomplete" if self.given.get("incomplete_details") else "completed"
        self.adopt(self.given.get("output"), status)
        for item in self.roster.items:
            item.settle()
        self.response = repaired_response(self.given, self.identity, status, [item.value for item in self.roster.items])

    def adopt(self, output: Any, status: str) -> None:
        """Tell of the items in the final *output* what has not been told."""
        found = [item for item in output if _is_item(item)] if isinstance(output, list) else []
        for given, item in self.roster.paired(found):
            if item is None and self.failure is not None:
                continue  # behind the error event nothing can be announced any more
            item = item or self.roster.open({}, given)
            if item.closed:
                item.complement(given)
            elif status == "failed":
                item.given = {**item.given, **given}
            else:
                item.close(given, status if given is found[-1] else "completed")

    def fail(self, error: GatewayError, *, final: bool = True) -> None:
        """The response has failed. An error that the upstream reports inside its stream is told at once; its failed
        response, for which *final* is false, may follow."""
        if self.terminal is not None:
            return
        if self.failure is None:
            self.under_way({})
            self.failure = error
            if self.stream and self.sequence_number > self.after:
                self.out.append(frame(error_event(error, self.sequence_number)))
            self.sequence_number += 1
        if final:
            for item in self.roster.items:
                item.settle()
            self.finish("failed", {})

    def break_off(self, error: GatewayError) -> None:
        """The response ends without a word of the upstream, which a client that has much of it must learn too."""
        if self.terminal is None and self.failure is None:
            self.under_way({})
            self.sequence_number = max(self.sequence_number, self.after + 1)
        self.fail(error)

    def finish(self, status: str, event: Json) -> None:
        self.terminal = status
        given = dict(self.given)
        if self.failure is not None:
            own = None if isinstance(self.failure, UpstreamAuthError) else repaired_error(_object(given.get("error")))
            given["error"] = own or response_error(self.failure)
        output = [item.value for item in self.roster.items]
        self.response = repaired_response(given, self.identity, status, output)
        event = {name: value for name, value in event.items() if name != "usage"}
        self.write(f"response.{status}", {**event, "response": self.response})
        if self.stream:
            self.out.append(DONE)


def _is_item(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != ""


def _object(value: Any) -> Json | None:
    return value if isinstance(value, dict) else None
