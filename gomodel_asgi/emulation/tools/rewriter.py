"""The events of all rounds as those of one response.

It reads what a round's upstream says, in this API's own events, and tells the one event writer. A call of a function
that stands for a hosted tool becomes that tool's item, opened as soon as its name is known and ended when the host's
function has answered; all else passes, under the numbers of the one response. It is a translator like those of the
dialects: events in, verbs of the writer out, no I/O.

Hosted items never overlap: while one is open a further call, and whatever stands behind that, waits for its turn, and
is then told of as far as it has come. The calls themselves do not wait for each other.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ...dialects.failure import reported_failure
from ...wire.calls import Call as WrittenCall, StringMember
from ...wire.event_writer import Emitter
from ...wire.items import TEXT_OF_ITEM, Item, Part, Parted
from ...wire.json_scan import parsed
from ...wire.response import added, encode
from .citations import Citer, Found
from .families import Asked, Begun, Told
from .ledger import ALONE, LIMIT, UNKNOWN, Ledger
from .plan import Plan, Shown
from .request import Containers
from .rounds import HostedCall, Round, Slot
from .source import Json

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
INDEX = {"content": "content_index", "summary": "summary_index"}
PLACED = frozenset({"item_id", "output_index", "sequence_number", "type"})
CLIENT_CALLS = frozenset({"function_call", "custom_tool_call"})


class Rewriter:
    """Reads the rounds of one response and tells *emitter*; see `Translator`. Calls of a code interpreter run in one of
    *containers*."""

    def __init__(self, emitter: Emitter, ledger: Ledger, containers: Containers) -> None:
        self.emitter = emitter
        self.ledger = ledger
        self.containers = containers
        self.found = Found()
        self.plan: Plan | None = None
        self.round = Round(-1)
        self.last = False
        self.slots: dict[int, Slot] = {}
        self.usage: Json | None = None
        self.alone = False
        self.hosted: HostedCall | None = None
        """The call whose item is open."""
        self.waiting: deque[HostedCall | tuple[str, Json]] = deque()
        """Calls, and events of other items, that are told of when it has ended."""
        self.ahead = 0
        """How many items wait to be announced."""
        self.held: set[int] = set()
        """The places in the round of the items whose events wait."""
        self.said: tuple[Item, Json] | None = None
        """A message that has ended but for its last event: whether it is commentary, what follows tells."""
        self.behind: list[tuple[str, Json]] = []
        """Events of reasoning that follows it, which tells nothing, as long as there is no text of it."""
        self.places: set[int] = set()
        """The places in the round of such reasoning."""

    def begin(self, plan: Plan, *, last: bool, alone: bool) -> None:
        """The next round begins. *last*: no tool may be called any more; *alone*: one call at a time."""
        self.plan, self.last, self.alone = plan, last, alone
        self.round = Round(self.round.number + 1)
        self.slots, self.held, self.places = {}, set(), set()

    # What is read...

    def feed(self, event: str, data: bytes) -> None:
        """One event of the round."""
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
            self._told_of(type, event)

    def _told_of(self, type: str, event: Json) -> None:
        stem, _, state = type.rpartition(".")
        if self.said is not None and event.get("output_index") in self.places:
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
        elif stem in CONTAINERS:
            self._part(CONTAINERS[stem], state, event)
        elif stem in TEXTS:
            self._text(*TEXTS[stem], state, event)
        elif stem in ARGUMENTS:
            self._arguments(ARGUMENTS[stem], state, event)
        elif type == "response.output_text.annotation.added":
            self._annotation(event)
        else:
            self._rare(type, state, event)

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
        slot = self.slots[index] = Slot()
        assert self.plan is not None
        if item["type"] == "function_call" and not item.get("namespace"):
            name = item["name"]
            functions = self.plan.functions
            if name in self.plan.shown or (functions is not None and name not in functions):
                slot.call = self._called(item, self.plan.shown.get(name))
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
        if self.said is not None and item["type"] == "reasoning":
            self.places.add(event["output_index"])
            return self.behind.append((ADDED, event))
        self._end_message()
        visible = dict(item)
        assert self.plan is not None
        if not self.plan.upstream.native:
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
        elif self.last or (self.ledger.spent if shown.approval else not self.ledger.take()):
            call.answer = LIMIT
        elif shown.approval:
            call.approves = True
        else:
            return self.begun(call, shown)
        self._in_turn(call)
        return call

    def begun(self, call: HostedCall, shown: Shown) -> HostedCall:
        """*call* is going to be run: its item is announced as soon as it is its turn."""
        container = self.containers.of(shown.declared) if shown.declared.family == "code_interpreter" else None
        call.begun = Begun(shown.declared.shown, shown.label, shown.called, container, call.approved)
        if shown.family.text:
            call.reader = StringMember(shown.family.text)
        self._in_turn(call)
        return call

    def _in_turn(self, call: HostedCall) -> None:
        if not self.waiting:
            self._end_message(COMMENTARY)
        if not self.waiting and (self.hosted is None or call.begun is None):
            return self._tell(call)
        if call.begun is not None and call.shown is not None:
            call.id = self.emitter.own_id(call.shown.family.begun(call.begun)["type"], self.ahead)
        self._wait(call)

    def _wait(self, one: HostedCall | tuple[str, Json]) -> None:
        self.waiting.append(one)
        self.ahead += _opens(one)

    def _tell(self, call: HostedCall) -> None:
        """Announce the item of *call*, and tell of it what is known."""
        self._end_message(COMMENTARY)
        if call.begun is None or call.shown is None:
            return
        self.hosted = call
        call.item = self.emitter.open({"id": call.id, **call.shown.family.begun(call.begun)})
        call.id = call.item.value["id"]
        call.item.progress(call.shown.family.phases[0])
        for piece in call.pieces:
            self._written_arguments(call, piece)
        if call.runs:
            self._started(call, call.item, call.shown)
        for number, encoded in enumerate(call.partials):
            self._partial(call.item, encoded, number)
        if call.told is not None:
            self._end_call(call, call.item, call.shown, call.told)

    def _end_call(self, call: HostedCall, item: Item, shown: Shown, told: Told) -> None:
        if told.status == "completed" or shown.family.tells_failure:
            item.progress(told.status)
        item.close(told.status, told.members)
        self.hosted = None

    def _over(self) -> None:
        """The hosted item that was open has ended: on with what waits, up to one that is not over."""
        while self.waiting and self.hosted is None:
            one = self.waiting.popleft()
            self.ahead -= _opens(one)
            if isinstance(one, HostedCall):
                self._tell(one)
            elif one[0] == ADDED:
                self._open(one[1])
            else:
                self._told_of(*one)
        if self.hosted is None:
            self._end_message()

    def _end_message(self, phase: str | None = None) -> None:
        """End the message that waits for it, in *phase* unless the upstream has said which it is."""
        said, self.said = self.said, None
        if said is not None:
            item, given = said
            named = {} if phase is None or given.get("phase") else {"phase": phase}
            item.close(str(given.get("status") or "completed"), {**given, **named})
        behind, self.behind = self.behind, []
        for type, event in behind:
            if type == ADDED:
                self._open(event)
            else:
                self._told_of(type, event)

    def _done(self, index: int, item: Json) -> None:
        slot = self.slots.get(index)
        if slot is None:
            self._added({"output_index": index, "item": item})
            slot = self.slots[index]
            if index in self.held:
                return self._wait((DONE, {"output_index": index, "item": item}))
        if slot.call is not None:
            if not slot.call.pieces and isinstance(item.get("arguments"), str):
                self.write(slot.call, item["arguments"])
            return
        if slot.item is None or slot.item.closed:
            return
        if isinstance(slot.item, Parted):
            self._untold_parts(slot, slot.item, item)
        elif isinstance(slot.item, WrittenCall) and not slot.item.pieces and not slot.item.text_ended:
            slot.item.text(str(item.get(slot.item.kind.field) or ""))
        if item["type"] == "message":
            self._end_message()
            self.said = slot.item, item
        else:
            slot.item.close(str(item.get("status") or "completed"), item)

    def _untold_parts(self, slot: Slot, written: Parted, item: Json) -> None:
        """Tell of the parts of *item* that no event has told of."""
        for container in written.containers:
            for number, part in enumerate(item.get(container) or ()):
                if (container, number) not in slot.parts:
                    opened = self._opened(slot, written, container, number, part)
                    if opened.kind is not None:
                        self._written(slot, (container, number), str(part.get(opened.kind.field) or ""), None, {})
                    for annotation in part.get("annotations") or ():
                        opened.annotate(annotation)
                self._end_part(slot, (container, number), part)

    # Texts...

    def _part(self, container: str, state: str, event: Json) -> None:
        slot, place = self._place(container, event)
        if slot is None or not isinstance(slot.item, Parted):
            return
        if state == "added" and place not in slot.parts:
            self._opened(slot, slot.item, container, place[1], event["part"])
        elif state == "done" and place in slot.parts:
            self._end_part(slot, place, event["part"])

    def _opened(self, slot: Slot, item: Parted, container: str, number: int, given: Json) -> Part:
        emptied = {name: value for name, value in given.items() if name not in ("annotations", "logprobs")}
        part = slot.parts[container, number] = item.open_part(emptied, container)
        return part

    def _end_part(self, slot: Slot, place: tuple[str, int], given: Json) -> None:
        part = slot.parts[place]
        if part.closed:
            return
        self._rest(slot, place)
        hidden = ("annotations",) if part.listing else ()
        part.close({name: value for name, value in given.items() if name not in hidden})

    def _text(self, container: str, type: str, state: str, event: Json) -> None:
        slot, place = self._place(container, event)
        if slot is None or not isinstance(slot.item, Parted):
            return
        if place not in slot.parts:
            self._opened(slot, slot.item, container, place[1], {"type": type})
        if state == "delta":
            rest = {name: value for name, value in event.items() if name not in PLACED | {"delta", "logprobs"}}
            rest.pop(INDEX[container], None)
            self._written(slot, place, event["delta"], event.get("logprobs"), rest)
        elif state == "done":
            self._rest(slot, place)
            slot.parts[place].end_text()

    def _written(self, slot: Slot, place: tuple[str, int], text: str, logprobs: Any, rest: Json) -> None:
        """More text of a part; in the answer's own text what it cites is looked for."""
        part = slot.parts[place]
        if not part.listing or not self.found:
            return part.text(text, logprobs, **rest) if part.listing else part.text(text, **rest)
        citer = slot.citers.get(place)
        if citer is None:
            citer = slot.citers[place] = Citer(self.found)
        self._cited(part, citer.feed(text), logprobs)

    def _rest(self, slot: Slot, place: tuple[str, int]) -> None:
        if (citer := slot.citers.pop(place, None)) is not None:
            self._cited(slot.parts[place], citer.rest(), None)

    def _cited(self, part: Part, told: Any, logprobs: Any) -> None:
        for one in told:
            if isinstance(one, str):
                part.text(one, logprobs)
                logprobs = None
            else:
                part.annotate(one)

    def _annotation(self, event: Json) -> None:
        slot, place = self._place("content", event)
        if slot is not None and place in slot.parts:
            slot.parts[place].annotate(event["annotation"])

    def _arguments(self, field: str, state: str, event: Json) -> None:
        slot = self.slots.get(event["output_index"])
        if slot is None:
            return
        if slot.call is not None:
            if state == "delta":
                self.write(slot.call, event["delta"])
            elif not slot.call.pieces:
                self.write(slot.call, event[field])
        elif isinstance(slot.item, WrittenCall):
            if state == "delta":
                slot.item.text(event["delta"])
            else:
                slot.item.end_text()

    def write(self, call: HostedCall, text: str) -> None:
        """More of a call's arguments."""
        call.pieces.append(text)
        self._written_arguments(call, text)

    def _written_arguments(self, call: HostedCall, text: str) -> None:
        if not isinstance(call.item, WrittenCall):
            return
        if call.reader is not None:
            text = call.reader.feed(text)
        if text:
            call.item.text(text)

    def _rare(self, type: str, state: str, event: Json) -> None:
        """An event of an item that the upstream runs itself, or that we do not know."""
        slot = self.slots.get(event.get("output_index", -1))
        if slot is None or slot.item is None:
            return
        rest = {name: value for name, value in event.items() if name not in PLACED}
        self.emitter.emit(type, **slot.item.where, **rest)

    def _place(self, container: str, event: Json) -> tuple[Slot | None, tuple[str, int]]:
        return self.slots.get(event["output_index"]), (container, event[INDEX[container]])

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

    def started(self, call: HostedCall) -> None:
        """The host's function is about to be called, with the arguments as they are."""
        call.runs = True
        if call.item is not None and call.shown is not None:
            self._started(call, call.item, call.shown)

    def _started(self, call: HostedCall, item: Item, shown: Shown) -> None:
        if isinstance(item, WrittenCall):
            if call.reader is not None:
                rest = call.reader.rest()
                if rest:
                    item.text(rest)
            item.end_text()
        for phase in shown.family.phases[1:]:
            item.progress(phase)

    def finished(self, call: HostedCall, told: Told) -> None:
        """It has answered: the item ends when it is its turn, and what it found may be cited."""
        call.told = told
        self.found.add(told.sources, told.passages, told.files)
        if call.item is not None and call.shown is not None:
            self._end_call(call, call.item, call.shown, told)
            self._over()

    def asked(self, call: HostedCall, arguments: Json, included: frozenset[str]) -> Asked:
        """*call*, for its family to tell of."""
        assert call.begun is not None
        return Asked(call.begun, arguments, included, len(self.found.passages))

    def partial(self, call: HostedCall, encoded: str) -> None:
        """An image that is not finished."""
        if call.item is None:
            call.partials.append(encoded)
        elif not call.item.closed:
            self._partial(call.item, encoded, len(call.partials))
            call.partials.append("")

    def _partial(self, item: Item, encoded: str, number: int) -> None:
        item.progress("partial_image", partial_image_b64=encoded, partial_image_index=number)

    def cut_off(self) -> None:
        """The response ends early: what has answered is told, what has not is not waited for."""
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
    """Whether *one* of what waits announces an item."""
    return one.begun is not None if isinstance(one, HostedCall) else one[0] == ADDED
