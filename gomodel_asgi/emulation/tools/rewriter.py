"""The events of all rounds as those of one response.

It reads what a round's upstream says, in this API's own events, and drives the one event writer. A call of a function
that stands for a hosted tool becomes that tool's item, opened as soon as its name is known and ended when the host's
function has answered; all else passes, under the numbers of the one response. It is a translator like those of the
dialects: events in, verbs of the writer out, no I/O.

Hosted items never overlap: while one is open a further call, and whatever stands behind that, waits for its turn, and
is then emitted as far as it has come. The calls themselves do not wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ...dialects.failure import reported_failure
from ...wire.calls import Call as WrittenCall
from ...wire.event_writer import Emitter
from ...wire.items import TEXT_OF_ITEM, Item, Parted
from ...wire.json_scan import parsed
from ...wire.response import added, encode
from .call_limits import ALONE, LIMIT, UNKNOWN, CallLimits
from .citations import Found
from .round import PLACED, HostedCall, Round, Slot
from .seams import Begun, CallInput, CallResult, Json, Shown

ADDED, DONE = "response.output_item.added", "response.output_item.done"
COMMENTARY = "commentary"
"""The phase of a message behind which the model calls a tool and goes on (OpenAI, Responses API reference)."""
STATES = frozenset({"response.created", "response.queued", "response.in_progress"})
ENDS = {"response.completed": "completed", "response.incomplete": "incomplete", "response.failed": "failed"}
CONTAINERS = {"response.content_part": "content", "response.reasoning_summary_part": "summary"}
TEXTS = {
    "response.output_text": ("content", "output_text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_text": ("content", "reasoning_text"),
    "response.reasoning_summary_text": ("summary", "summary_text"),
}
"""Texts of parts: the container and the type of the part, by the stem of their events."""
ARGUMENTS = {kind.delta.rpartition(".")[0]: kind.field for kind in TEXT_OF_ITEM.values()}
"""Texts of items: the member that holds one, by the stem of its events."""
CLIENT_CALLS = frozenset({"function_call", "custom_tool_call"})


class Rewriter:
    """Reads the rounds of one response and drives *emitter*; see `Translator`. *container_of* gives the id of the
    container in which calls of a code interpreter run, by its declaration."""

    def __init__(self, emitter: Emitter, call_limits: CallLimits, container_of: Callable[[Json], str]) -> None:
        self.emitter = emitter
        self.call_limits = call_limits
        self.container_of = container_of
        self.found = Found()
        self.shown: Mapping[str, Shown] = {}
        self.functions: frozenset[str] | None = None
        self.native = False
        self.round = Round(-1)
        self.last = False
        self.slots: dict[int, Slot] = {}
        self.usage: Json | None = None
        self.alone = False
        self.hosted: HostedCall | None = None
        """The call whose item is open."""
        self.waiting: deque[HostedCall | tuple[str, Json]] = deque()
        """Calls, and events of other items, that are emitted when it has ended."""
        self.ahead = 0
        """How many items wait to be announced."""
        self.held: set[int] = set()
        """The places in the round of the items whose events wait."""
        self.ended_message: tuple[Item, Json] | None = None
        """A message that has ended but for its last event: whether it is commentary is known by what follows."""
        self.behind: list[tuple[str, Json]] = []
        """Events of reasoning that follows it, by which nothing is known, as long as there is no text of it."""
        self.places: set[int] = set()
        """The places in the round of such reasoning."""

    def begin(
        self, shown: Mapping[str, Shown], functions: frozenset[str] | None, *, native: bool, last: bool, alone: bool
    ) -> None:
        """The next round begins, of a model that is *shown* these functions of ours, by name, beside those *functions*
        of the client's (None: any), at an upstream that is *native* or not. *last*: no tool may be called any more;
        *alone*: one call at a time."""
        self.shown, self.functions, self.native = shown, functions, native
        self.last, self.alone = last, alone
        self.round = Round(self.round.number + 1)
        self.slots, self.held, self.places = {}, set(), set()

    # What is read...

    def feed(self, event: str, data: bytes) -> None:
        """One event of the round.

        :raises ValueError: it is no object, or has no type.
        """
        if data.strip() == b"[DONE]":
            return
        found = parsed(data)
        if not isinstance(found, dict) or not isinstance(found.get("type"), str):
            raise ValueError("an event without a type")
        self.event(found["type"], found)

    def close(self) -> None:
        """A round has ended; the response has not."""

    def event(self, type: str, event: Json) -> None:
        """One event, in this API's form."""
        if self.held and event.get("output_index") in self.held:
            self._wait((type, event))
        else:
            self._handle(type, event)

    def _handle(self, type: str, event: Json) -> None:
        stem, _, state = type.rpartition(".")
        if self.ended_message is not None and event.get("output_index") in self.places:
            if state != "delta":
                return self.behind.append((type, event))
            self._end_message()
        if type in STATES:
            self.emitter.begin(_text(event.get("response"), "model"))
        elif type in ENDS:
            self._ended(ENDS[type], event["response"])
        elif type == "error":
            self.round.failure = reported_failure(encode(event))
        elif type == ADDED:
            self._added(event)
        elif type == DONE:
            self._done(event["output_index"], event["item"])
        elif (slot := self.slots.get(event.get("output_index", -1))) is None:
            return
        elif stem in CONTAINERS:
            slot.part(CONTAINERS[stem], state, event)
        elif stem in TEXTS:
            slot.text(*TEXTS[stem], state, event)
        elif stem in ARGUMENTS:
            self._arguments(slot, ARGUMENTS[stem], state, event)
        elif type == "response.output_text.annotation.added":
            slot.annotate(event)
        else:
            self._rare(slot, type, event)

    def whole(self, response: Json) -> None:
        """A round that came whole."""
        self.emitter.begin(_text(response, "model"))
        for index, item in enumerate(response.get("output") or ()):
            self.event(ADDED, {"output_index": index, "item": {**item, "status": "in_progress"}})
            self.event(DONE, {"output_index": index, "item": item})
        self._ended(str(response.get("status")), response)

    # Items...

    def _added(self, event: Json) -> None:
        index, item = event["output_index"], event["item"]
        slot = self.slots[index] = Slot(self.found)
        if item["type"] == "function_call" and not item.get("namespace"):
            name = item["name"]
            if name in self.shown or (self.functions is not None and name not in self.functions):
                slot.call = self._called(item, self.shown.get(name))
                return
        if item["type"] in CLIENT_CALLS:
            self.round.client_calls += 1
        if self.waiting:
            self.held.add(index)
            self._wait((ADDED, event))
        else:
            self._open(event)

    def _open(self, event: Json) -> None:
        slot, item = self.slots[event["output_index"]], event["item"]
        if self.ended_message is not None and item["type"] == "reasoning":
            self.places.add(event["output_index"])
            return self.behind.append((ADDED, event))
        self._end_message()
        visible = dict(item)
        if not self.native:
            visible.pop("id", None)  # it names the round; items are named after the response
        slot.item = self.emitter.open(visible)

    def _called(self, item: Json, shown: Shown | None) -> HostedCall:
        call = HostedCall(item["call_id"], item["name"], shown)
        alone = self.alone and (self.round.calls or self.round.client_calls)
        self.round.calls.append(call)
        if shown is None:
            call.answer = UNKNOWN
        elif alone:
            call.answer = ALONE
        elif self.last or (self.call_limits.spent if shown.approval else not self.call_limits.take()):
            call.answer = LIMIT
        elif shown.approval:
            call.approves = True
        else:
            return self.begun(call, shown)
        self._in_turn(call)
        return call

    def begun(self, call: HostedCall, shown: Shown) -> HostedCall:
        """*call* is going to be run: its item is announced as soon as it is its turn."""
        container = self.container_of(shown.tool) if shown.family.name == "code_interpreter" else None
        call.begin(Begun(shown.tool, shown.label, shown.called, container, call.approved))
        self._in_turn(call)
        return call

    def _in_turn(self, call: HostedCall) -> None:
        if not self.waiting:
            self._end_message(COMMENTARY)
        if not self.waiting and (self.hosted is None or call.begun is None):
            return self._announce(call)
        if call.begun is not None and call.shown is not None:
            call.id = self.emitter.own_id(call.shown.family.begun(call.begun)["type"], self.ahead)
        self._wait(call)

    def _wait(self, one: HostedCall | tuple[str, Json]) -> None:
        self.waiting.append(one)
        self.ahead += _opens(one)

    def _announce(self, call: HostedCall) -> None:
        """Opens the item of *call*, and emits what is known of it."""
        self._end_message(COMMENTARY)
        if call.begun is not None:
            self.hosted = call
            call.announce(self.emitter)
            if call.result is not None:
                self.hosted = None

    def _over(self) -> None:
        """The hosted item that was open has ended: on with what waits, up to one that is not over."""
        while self.waiting and self.hosted is None:
            one = self.waiting.popleft()
            self.ahead -= _opens(one)
            if isinstance(one, HostedCall):
                self._announce(one)
            elif one[0] == ADDED:
                self._open(one[1])
            else:
                self._handle(*one)
        if self.hosted is None:
            self._end_message()

    def _end_message(self, phase: str | None = None) -> None:
        """Ends the message that waits for it, in *phase* unless the upstream has said which it is."""
        ended_message, self.ended_message = self.ended_message, None
        if ended_message is not None:
            item, given = ended_message
            named = {} if phase is None or given.get("phase") else {"phase": phase}
            item.close(str(given.get("status") or "completed"), {**given, **named})
        behind, self.behind = self.behind, []
        for type, event in behind:
            if type == ADDED:
                self._open(event)
            else:
                self._handle(type, event)

    def _done(self, index: int, item: Json) -> None:
        slot = self.slots.get(index)
        if slot is None:
            self._added({"output_index": index, "item": item})
            slot = self.slots[index]
            if index in self.held:
                return self._wait((DONE, {"output_index": index, "item": item}))
        if slot.call is not None:
            if not slot.call.pieces and isinstance(item.get("arguments"), str):
                slot.call.write(item["arguments"])
            return
        if slot.item is None or slot.item.closed:
            return
        if isinstance(slot.item, Parted):
            slot.end_parts(slot.item, item)
        elif isinstance(slot.item, WrittenCall) and not slot.item.pieces and not slot.item.text_ended:
            slot.item.text(str(item.get(slot.item.kind.field) or ""))
        if item["type"] == "message":
            self._end_message()
            self.ended_message = slot.item, item
        else:
            slot.item.close(str(item.get("status") or "completed"), item)

    def _arguments(self, slot: Slot, field: str, state: str, event: Json) -> None:
        if slot.call is not None:
            if state == "delta":
                slot.call.write(event["delta"])
            elif not slot.call.pieces:
                slot.call.write(event[field])
        elif isinstance(slot.item, WrittenCall):
            if state == "delta":
                slot.item.text(event["delta"])
            else:
                slot.item.end_text()

    def _rare(self, slot: Slot, type: str, event: Json) -> None:
        """An event of an item that the upstream runs itself, or that we do not know."""
        if slot.item is None:
            return
        rest = {name: value for name, value in event.items() if name not in PLACED}
        self.emitter.emit(type, **slot.item.where, **rest)

    def _ended(self, status: str, response: Json) -> None:
        round = self.round
        round.status = status
        round.output = [item for item in response.get("output") or () if isinstance(item, dict)]
        round.usage = response.get("usage") if isinstance(response.get("usage"), dict) else None
        if status == "incomplete":
            round.reason = (response.get("incomplete_details") or {}).get("reason")
        if status == "failed" and round.failure is None:
            round.failure = reported_failure(encode({"error": response.get("error") or {}, "type": "error"}))
        if isinstance(tier := response.get("service_tier"), str):
            self.emitter.response["service_tier"] = tier
        if not self.waiting:
            self._end_message()
        if round.usage is not None:
            self.usage = round.usage if self.usage is None else added(self.usage, round.usage)

    # What the loop says...

    def finished(self, call: HostedCall, result: CallResult) -> None:
        """It has answered: the item ends when it is its turn, and what it found may be cited."""
        self.found.add(result.sources, result.passages, result.files)
        call.finish(result)
        if call.item is not None:
            self.hosted = None
            self._over()

    def call_input(self, call: HostedCall, arguments: Json, included: frozenset[str]) -> CallInput:
        """*call*, for its family to say what came of it."""
        assert call.begun is not None
        return CallInput(call.begun, arguments, included, len(self.found.passages))

    def cut_off(self) -> None:
        """The response ends early: what has answered is emitted, what has not is not waited for."""
        while self.hosted is not None:
            assert self.hosted.item is not None
            self.hosted.item.close("incomplete")
            self.hosted = None
            self._over()
        self._end_message()


def _text(value: Any, name: str) -> str | None:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _opens(one: HostedCall | tuple[str, Json]) -> bool:
    """Returns whether *one* of what waits announces an item."""
    return one.begun is not None if isinstance(one, HostedCall) else one[0] == ADDED
