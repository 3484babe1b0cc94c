"""Follows a sloppy event stream, and writes what it means with the event writer.

Strategy: nothing that the upstream says about order or numbering is relied on. Every event is taken for what it means
("here is text of a message", "this item has ended") and handed to the item that it speaks of; the writer puts before it
whatever the grammar wants. What is missing when the response ends is written then, from its final object. The rule
for the end itself is strict: a terminal event, or `[DONE]` after an item. A stream that merely closes was cut, however
whole it looks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from secrets import token_hex
from typing import Any

from ...errors import GatewayError, UpstreamAuthError, UpstreamTruncated
from ...settings import Limits
from ...wire.calls import CLIENT_CALLS
from ...wire.event_writer import Emitter
from ...wire.json_scan import parsed
from ...wire.response import encode
from ...wire.sse import Event
from ..failure import reported_failure
from ..reader import TranslatedReader
from .items import ENDS, HANDLERS, PROGRESS, STATES, LenientItems, ended_as, type_of, without
from .response import Identity, Json, UpstreamResponse, repaired_error

ITEM_STATUS = {"completed": "completed", "in_progress": "in_progress"}
"""The status of items that say none, by that of their response; of all others it is incomplete."""
EARLY = 64  # events that we do not know before the response has begun; more are left out


class LenientTranslator:
    """Reads one reply; see `Translator`. *identity* counts as far as the upstream does not say who it is."""

    def __init__(self, emitter: Emitter, identity: Identity) -> None:
        self.emitter = emitter
        self.upstream = UpstreamResponse(emitter, identity)
        self.items = LenientItems(emitter)
        self.unary = False
        """Whether the reply is one response, and no stream."""
        self.early: list[tuple[str, Json]] = []
        """Events that we do not know, and that came before the response had a name."""

    def feed(self, event: str, data: bytes) -> None:
        """Takes an event, or the body of a unary reply.

        :raises ValueError: it is no event of this API.
        """
        if not data.startswith(b"{"):
            if not (data := data.strip()):
                return
            if data == b"[DONE]":
                return self.done()
        found = parsed(data)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        if self.unary:
            return self.whole(found)
        type = type_of(event, found)
        if type is None:
            raise ValueError("an event without a type")
        found.pop("type", None)
        found.pop("sequence_number", None)
        self.event(type, found)

    def close(self) -> None:
        """A stream that merely closes was cut, however whole it looks."""
        self.settle()

    def event(self, type: str, event: Json) -> None:
        """Takes one event, without its type and number."""
        known = HANDLERS.get(type)
        if known is None and type in ENDS:
            return self.end(type, event)
        if self.emitter.failure is not None:
            return  # behind an error only the failed response has a meaning
        if known is None:
            return self.rare(type, event)
        if "in_progress" not in self.emitter.announced:
            self.begin(event)
            self.emitter.begin()
        self.emitter.meaningful = True
        known[0](self.items, event, known[1])

    def rare(self, type: str, event: Json) -> None:
        """Takes an event that brings no text and no item.

        :raises ValueError: its type would break the line of the event's name.
        """
        stem, _, state = type.rpartition(".")
        if type == "error":
            self.emitter.report(reported_failure(encode(event)))
        elif stem == "response" and state in STATES:
            self.upstream.learn(event)
            members = {} if "object" in event else without(event, "response")
            self.begin(event, members if state == "created" else {})
            self.upstream.announce(state, members)
        elif not type.isprintable():
            raise ValueError("a type that would break the line")
        elif (hosted := PROGRESS.fullmatch(type)) is not None and hosted[1] not in CLIENT_CALLS:
            self.begin(event)
            self.emitter.begin()
            self.items.progress(hosted[1], hosted[2], event)
        elif self.emitter.begun:
            self.items.unknown(type, event)
        elif len(self.early) < EARLY:
            self.early.append((type, event))

    def done(self) -> None:
        """Takes `[DONE]`, which ends the response after an item, and fails it without one."""
        if self.emitter.failure is not None:
            self.settle()
            self.emitter.fail(self.emitter.failure)
        elif self.items.roster.slots:
            self.end("response.completed", {})
        else:
            self.emitter.fail(UpstreamTruncated("The upstream's stream ended without a response."))

    def begin(self, event: Json, members: Json | None = None) -> None:
        """Announces the response if it has not been, under the id that *event* may name."""
        if self.upstream.begin(event, members or {}):
            for type, early in self.early:
                self.items.unknown(type, early)
            self.early.clear()

    # The end...

    def end(self, type: str, event: Json) -> None:
        """Takes a terminal event, or what stands for one."""
        self.upstream.learn(event)
        self.begin(event)
        self.emitter.begin()
        status = self.upstream.ending(type)
        self.items.adopt(self.upstream.given.get("output"), status)
        members = {} if "object" in event else without(event, "response", "usage")
        if status == "failed":
            return self.failed(members)
        self.items.close_all(status)
        self.upstream.end(status, members)

    def failed(self, members: Json) -> None:
        """Ends a response of which an error event or its last event says that it failed."""
        error = self.emitter.failure or reported_failure(encode(self.upstream.given))
        given = self.upstream.given.get("error")
        self.settle()
        own = None if isinstance(error, UpstreamAuthError) or not isinstance(given, dict) else repaired_error(given)
        self.emitter.report(error)
        self.emitter.fail(error, own, **members)

    def settle(self) -> None:
        """Makes the response and the open items hold what is known of them, since nothing more comes."""
        for slot in self.items.roster.open:
            slot.settle()
        if self.emitter.begun and self.emitter.terminal is None:
            self.upstream.describe("failed", usage=True)

    # Replies that come whole...

    def whole(self, response: Json) -> None:
        """Takes a response that came whole, in whatever state it is.

        :raises ValueError: it is no response.
        """
        if response.get("object") != "response" and not isinstance(response.get("output"), list):
            raise ValueError("not a response")
        status = response.get("status")
        if not isinstance(status, str) or not status:
            status = "incomplete" if response.get("incomplete_details") else "completed"
        if self.emitter.stream:
            return self.event(ended_as(status), {"response": response})
        self.upstream.learn({"response": response})
        self.begin({})
        self.emitter.begin()
        self.items.adopt(self.upstream.given.get("output"), ITEM_STATUS.get(status, "incomplete"))
        self.upstream.describe(status, usage=True)
        self.emitter.rest(status)


class LenientReader(TranslatedReader):
    """One native reply; *name* is the stamp (None for none), *echo* the client's request, whose members a response
    repeats; *secrets* are what the upstream could quote back. *response_id* is the id that the response has to have,
    None where the upstream's own counts. *leading* and *spent* are those of the emitter.

    A stream is written from its beginning, also when it is sent again: it has numbers of its own, which an upstream
    that is asked to go on behind one of them would take for others. Request the whole of it: of that the client
    gets what stands behind the number *after*.
    """

    translator: LenientTranslator

    def __init__(
        self,
        *,
        name: str | None,
        model: str | None,
        limits: Limits,
        echo: Mapping[str, Any],
        stream: bool = True,
        after: int = -1,
        secrets: tuple[str, ...] = (),
        response_id: str | None = None,
        leading: Iterable[Json] = (),
        spent: Json | None = None,
    ) -> None:
        id = response_id or "resp_" + token_hex(24)
        identity = Identity(id, int(time.time()), model or "", echo, name, fixed_id=response_id is not None)
        emitter = Emitter(
            response_id=identity.id, created_at=identity.created_at, model=identity.model, echo=echo, stamp=name,
            stream=stream, after=after, leading=leading, spent=spent,
        )  # fmt: skip
        super().__init__(LenientTranslator(emitter, identity), emitter, limits, secrets)
        self.response_id = None  # the upstream's own, once the response has been announced

    def _translate(self, events: list[Event], *, checked: bool = False) -> bytes:
        written = super()._translate(events, checked=checked)
        if self.response_id is None and self.emitter.begun:
            self.response_id = self.emitter.response["id"]
        return written

    def whole(self, body: bytes) -> bytes:
        """Returns the events that a unary reply's *body* is written as, where the emitter streams.

        The response may be in any state; `final` returns it repaired.

        :raises UpstreamProtocolError: it is not a response.
        """
        self.translator.unary = True
        events = self._translate([Event("", body)], checked=True)
        if self.emitter.stream and self.terminal is None:
            events += self.fail(UpstreamTruncated("The upstream's response has not ended."))
        return events

    def fail(self, error: GatewayError) -> bytes:
        """Ends the stream in band, with all that is known of its items."""
        self.translator.settle()
        return super().fail(error)

    def final(self) -> bytes | None:
        """Returns the response as JSON, of a unary reply in whatever state; None where a stream has not ended."""
        resting = self.translator.unary and self.emitter.begun
        return encode(self.emitter.response) if resting else super().final()
