"""Writes the event stream of one response, and the response object itself.

Strategy: a translator says what happened ("here is text", "this call has arguments"); the emitter alone knows the
grammar, that is which event announces what, in which order, with which ids and numbers. Items are handles: several
may be open at once (parallel tool calls arrive interleaved), each knows its place in the output and closes once. The
bytes pile up until `take()`; for a unary reply nobody takes them, and `response` is the result.

It knows no upstream, no socket and no clock: ids derive from the response id, so that the same content gives the same
object whether it was streamed or not.

    created → in_progress → ( item.added → ( part.added → delta* → done → part.done )* → item.done )*
            → completed | incomplete | error, failed → [DONE]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from msgspec import Raw

from ..errors import GatewayError
from .calls import CLASSES, CLIENT_CALLS, PREFIXES, CustomCall, FunctionCall, SearchCall
from .items import STATUSLESS, DeltaFrame, Item, Json, Message, Reasoning
from .response import DONE, FRAME, Reason, added, encode, error_event, response_error, response_object

AnyItem = TypeVar("AnyItem", bound=Item)
VALUE_OF = attrgetter("value")


def _call_ids_of(input: Any) -> set[str]:
    """The ids of the calls among the items of a request's *input*."""
    ids = (item.get("call_id") for item in input if isinstance(item, dict)) if isinstance(input, list) else ()
    return {id for id in ids if isinstance(id, str)}


class _NullWriter:
    """Writes nothing: for a call that the client does not get."""

    def emit(self, type: str, /, **members: Any) -> None:
        pass

    def delta(self, frame: DeltaFrame, text: str) -> None:
        pass


class Emitter:
    """The one writer of a translated response.

    *echo* is the client's request body: its members are repeated in every response object. *stamp* is the provider
    name put first into each response object, None for no stamp. Events up to the number *after* are left out: the
    client has them. *single_call*: only the first call of a client's tool is written, as `parallel_tool_calls: false`
    promises. *leading* are items that stand before all that the upstream says, *spent* is what they have cost. *event*
    are, in all verbs, more members of the event that is written. *public* is that of `response_object`.
    """

    def __init__(
        self,
        *,
        response_id: str,
        created_at: int,
        model: str,
        echo: Mapping[str, Any],
        stamp: str | None = None,
        stream: bool = True,
        after: int = -1,
        single_call: bool = False,
        leading: Iterable[Json] = (),
        spent: Json | None = None,
        public: Collection[str] = (),
    ) -> None:
        self.after = after
        self.leading = list(leading)
        self.spent = spent
        self.single_call = single_call
        self.history = echo.get("input")
        self.suffix = response_id.removeprefix("resp_")
        self.stream = stream
        self.created_at = created_at
        self.sequence_number = 0
        self.begun = False
        """Whether the response has been announced."""
        self.announced: set[str] = set()
        """The states before its end that events have announced."""
        self.meaningful = False
        """Whether anything has come that a client would miss: text, reasoning, a tool call, an end."""
        self.terminal: str | None = None
        """The status that ended the response: completed, incomplete or failed."""
        self.failure: GatewayError | None = None
        """What the upstream reported, or how its reply broke off."""
        self.raw_usage: Any = None
        """The upstream's own usage object, for observers."""
        self.warnings: list[str] = []
        """What the upstream sent that no event can carry, for observers."""
        self.items: list[Item] = []
        self.ids: set[str] = set()
        """The ids of the items."""
        self.call_ids: set[str] | None = None
        """The call ids that no other call may have; those of the request are looked up when the first call opens."""
        self.renames = 0
        """How many ids were taken already."""
        self.out: list[bytes] = []
        self.ended_with: bytes | None = None
        """The response as JSON in the event that has ended a stream."""
        self.response = response_object(response_id, created_at, model, echo, stamp, public)

    def take(self) -> bytes:
        """Returns the events that were written since the last call."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def emit(self, type: str, /, **members: Any) -> None:
        """Writes one event of this type. For items, not for translators."""
        number = self.sequence_number
        if self.stream and number > self.after:
            event = {"type": type, "sequence_number": number, **members}
            self.out.append(FRAME % (type.encode(), encode(event)))
        self.sequence_number = number + 1

    def delta(self, frame: DeltaFrame, text: str) -> None:
        """Writes one delta event, whose bytes are known but for its number and *text*. For items, not translators."""
        number = self.sequence_number
        if self.stream and number > self.after:
            head, middle, tail = frame
            self.out.append(b"%s%d%s%s%s" % (head, number, middle, encode(text), tail))
        self.sequence_number = number + 1

    # What a translator says...

    def begin(self, model: str | None = None) -> None:
        """Announces that the upstream has begun to answer, once; *model* is its own name for itself."""
        if "in_progress" in self.announced:
            return
        if model:
            self.response["model"] = model
        if self.begun or self.response["status"] != "in_progress":
            return self.announce("in_progress")
        self.begun = True
        self.announced.update(("created", "in_progress"))
        response = Raw(encode(self.response)) if self.stream else None  # once: the two events say the same of it
        self.emit("response.created", response=response)
        self.emit("response.in_progress", response=response)

    def announce(self, status: str, /, **event: Any) -> None:
        """Announces that the response is `created`, `queued` or `in_progress`, each once and `created` before the
        others.
        """
        if status in self.announced:
            return
        if status == "created":
            self.begun = True
        else:
            self.announce("created")
            self.response["status"] = status
        self.announced.add(status)
        self.emit(f"response.{status}", **event, response=self.response)

    def describe(self, response: Json) -> None:
        """Lets all events from now on carry *response*. Its id must not change once it is announced."""
        self.response = response
        self.suffix = response["id"].removeprefix("resp_")

    def message(self, **members: Any) -> Message:
        """Opens an assistant message, and returns it; *members* (such as `phase`) are put into the item."""
        return self._add_item(Message, {"type": "message", **members})

    def reasoning(self) -> Reasoning:
        """Opens a reasoning item, and returns it."""
        return self._add_item(Reasoning, {"type": "reasoning"})

    def function_call(self, call_id: str, name: str, **members: Any) -> FunctionCall:
        """Opens a function call, and returns it; *members* such as `namespace` are put into the item."""
        return self._add_item(FunctionCall, {"type": "function_call", "call_id": call_id, "name": name, **members})

    def custom_call(self, call_id: str, name: str, **members: Any) -> CustomCall:
        """Opens a call of a custom (free text) tool, and returns it."""
        return self._add_item(CustomCall, {"type": "custom_tool_call", "call_id": call_id, "name": name, **members})

    def open(self, given: Json, /, **event: Any) -> Item:
        """Opens an item of any type. *given* is what is known of it; its `id` stays unless another item has it.

        *event* are more members of the event that announces it.
        """
        return self._add_item(CLASSES.get(given["type"], Item), given, **event)

    def own_id(self, type: str, ahead: int) -> str:
        """Returns the id of an item of *type* that will be opened behind *ahead* others; open it with that."""
        return f"{PREFIXES[type]}_{self.suffix}{len(self.items) + ahead:02x}"

    def search_call(self, call_id: str) -> SearchCall:
        """Opens a search for tools, which the client runs, and returns it."""
        return self._add_item(SearchCall, {"type": "tool_search_call", "call_id": call_id})

    def item(self, item: Json, *phases: str) -> None:
        """Adds an item that came whole. *phases* are event types between added and done, as hosted tools have them."""
        opened = self.open(item)
        for phase in phases:
            self.emit(phase, **opened.where)
        opened.close(item.get("status", "completed"))

    def free_call_id(self, given: str) -> str:
        """Returns *given* as a call's `call_id`, another id where that is taken."""
        if self.call_ids is None:
            self.call_ids = _call_ids_of(self.history)
        id = given
        while id in self.call_ids:
            self.renames += 1
            id = f"call_{self.suffix}r{self.renames:02x}"
        return id

    def usage(self, usage: Json | None, raw: Any = None) -> None:
        """Sets the usage of the final response; a later call replaces an earlier one."""
        self.response["usage"] = usage
        self.raw_usage = raw

    def warn(self, message: str) -> None:
        """Adds a warning for observers about something that no event can carry."""
        self.warnings.append(message)

    def complete(self, at: int | None = None, /, **event: Any) -> None:
        """Ends the response as completed, at Unix time *at*."""
        self._end_items("completed")
        self.response["completed_at"] = at or self.created_at
        self._finish("response.completed", event)

    def incomplete(self, reason: Reason | None, /, **event: Any) -> None:
        """Ends the response as incomplete; *reason* is None where the upstream does not say why."""
        self._end_items("incomplete")
        known = self.response["incomplete_details"] or {}
        self.response["incomplete_details"] = None if reason is None else {**known, "reason": reason}
        self._finish("response.incomplete", event)

    def report(self, error: GatewayError) -> None:
        """Writes an `error` event, and keeps *error* as `failure`: the upstream has failed, but has not ended its
        reply.
        """
        if self.terminal is not None or self.failure is not None:
            return
        self.begin()
        self.failure = error
        event = error_event(error, self.sequence_number)
        self.emit(event.pop("type"), **{name: event[name] for name in event if name != "sequence_number"})

    def fail(self, error: GatewayError, given: Json | None = None, /, **event: Any) -> None:
        """Ends the response as failed: an `error` event, then `response.failed`.

        *given* is the `error` of the upstream's own response. An error that was reported before takes the place of
        *error*.
        """
        if self.terminal is not None:
            return
        if self.failure is None:
            self.begin()
            self.sequence_number = max(self.sequence_number, self.after + 1)  # which a client cannot have yet
        self.report(error)
        assert self.failure is not None
        for item in self.items:
            item.settle()
        self.terminal = "failed"
        self.response |= {
            "status": "failed",
            "output": [*map(VALUE_OF, self.items)],
            "error": given or response_error(self.failure),
        }
        self._finish("response.failed", event)

    def cancel(self) -> None:
        """Marks the response `cancelled`, with what has come, without an event: nobody waits for it any more."""
        for item in self.items:
            item.settle()
        self.terminal = "cancelled"
        self.rest("cancelled")

    def rest(self, status: str) -> None:
        """Puts a response that came whole into *status*, which need not be an end, without an event."""
        self._add_leading()
        self._add_leading_usage()
        self.response |= {"status": status, "output": [*map(VALUE_OF, self.items)]}
        self.items.clear()

    # How it is written...

    def _add_item(self, kind: type[AnyItem], given: Json, /, **event: Any) -> AnyItem:
        self._ready()
        type, index = given["type"], len(self.items)
        if self.single_call and type in CLIENT_CALLS and any(item.value["type"] in CLIENT_CALLS for item in self.items):
            self.warn(f"a further call of {given.get('name')!r}: left out, since `parallel_tool_calls` is false")
            return kind(_NullWriter(), index, {"id": "", "call_id": "", **given})
        prefix = PREFIXES.get(type) or type.rpartition(":")[2]
        id = given.get("id")
        id = id if isinstance(id, str) and id else f"{prefix}_{self.suffix}{index:02x}"
        while id in self.ids:
            self.renames += 1
            id = f"{prefix}_{self.suffix}r{self.renames:02x}"
        self.ids.add(id)
        if type in CLIENT_CALLS or (given.get("call_id") and not type.endswith("_output")):
            given = {**given, "call_id": self._call_id(index, given.get("call_id"))}
        status = {} if type in STATUSLESS and "status" not in given else {"status": "in_progress"}
        item = kind(self, index, {"id": id} | given | {"id": id} | status, **event)
        self.items.append(item)
        return item

    def _ready(self) -> None:
        """Begins the response and writes the leading items, before the first item of the upstream's."""
        if "in_progress" not in self.announced:
            self.begin()
        self.meaningful = True
        if self.leading:
            self._add_leading()

    def _add_leading(self) -> None:
        leading, self.leading = self.leading, []
        for item in leading:
            self.item(item)

    def _add_leading_usage(self) -> None:
        if self.spent is not None and self.response["usage"] is not None:
            self.response["usage"], self.spent = added(self.response["usage"], self.spent), None

    def _call_id(self, index: int, given: Any) -> str:
        """Returns the call's own `call_id`, another one if it has none, or that of another call of this response or
        before it.

        A `call_id` joins one call to one output.
        """
        id = self.free_call_id(given if isinstance(given, str) and given else f"call_{self.suffix}{index:02x}")
        assert self.call_ids is not None
        self.call_ids.add(id)
        return id

    def _end_items(self, status: str) -> None:
        """Closes what is open; of an incomplete response the last item is the incomplete one."""
        self._ready()
        for item in self.items:
            item.close(status if item is self.items[-1] else "completed")
        self.terminal = status
        self.response |= {"status": status, "output": [*map(VALUE_OF, self.items)]}

    def _finish(self, type: str, event: Json) -> None:
        if self.spent is not None:
            self._add_leading_usage()
        if self.stream:
            self.ended_with = encode(self.response)
            self.emit(type, **event, response=Raw(self.ended_with))
            self.out.append(DONE)
        self.items.clear()  # each knows us
