"""Writes the event stream of one response, and the response object itself.

Strategy: a translator says what happened ("here is text", "this call has arguments"); the emitter alone knows the
grammar, that is which event announces what, in which order, with which ids and numbers. Items are handles: several
may be open at once (parallel tool calls arrive interleaved), each knows its place in the output and closes once. The
bytes pile up until `take()`; a unary reply is the same walk with nobody taking, and `response` at the end of it.

It knows no upstream, no socket and no clock: ids derive from the response id, so that the same content gives the same
object whether it was streamed or not.

    created → in_progress → ( item.added → ( part.added → delta* → done → part.done )* → item.done )*
            → completed | incomplete | error, failed → [DONE]
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from ..errors import GatewayError
from .declared_tools import scrubbed
from .items import (
    CLASSES,
    CLIENT_CALLS,
    PREFIXES,
    STATUSLESS,
    CustomCall,
    FunctionCall,
    Item,
    Json,
    Message,
    Reasoning,
    SearchCall,
)

AnyItem = TypeVar("AnyItem", bound=Item)

DONE = b"data: [DONE]\n\n"

DEFAULTS: Json = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""Members of a response that repeat the request, and their values where the request is silent (Open Responses,
ResponseResource: all of them are required)."""

OPTIONAL_ECHO = ("conversation", "user", "prompt", "prompt_cache_retention")

Reason = Literal["max_output_tokens", "max_messages", "content_filter", "steered"]
"""Why a response is incomplete (OpenAI, Responses API reference); SDKs take it for an enumeration."""

CODES = frozenset(
    {
        "server_error", "rate_limit_exceeded", "invalid_prompt", "data_residency_mismatch", "bio_policy",
        "misalignment_policy_violation", "vector_store_timeout", "invalid_image", "invalid_image_format",
        "invalid_base64_image", "invalid_image_url", "image_too_large", "image_too_small", "image_parse_error",
        "image_content_policy_violation", "invalid_image_mode", "image_file_too_large",
        "unsupported_image_media_type", "empty_image_file", "failed_to_download_image", "image_file_not_found",
        # Not among OpenAI's, but final to Codex, which repeats a request after any other.
        "context_length_exceeded", "insufficient_quota", "usage_not_included",
    }
)  # fmt: skip
"""The codes that a response's `error` may have (OpenAI, Responses API reference); SDKs take it for an enumeration."""

encode = msgspec.json.Encoder().encode


def frame(event: Mapping[str, Any]) -> bytes:
    """*event* as one server-sent event, named by its type."""
    return b"event: %s\ndata: %s\n\n" % (event["type"].encode(), encode(event))


def usage(*, input: int, output: int, cached: int = 0, written: int = 0, reasoning: int = 0) -> Json:
    """The usage object. *input* includes cached and cache-written tokens, *output* includes reasoning tokens."""
    return {
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": input + output,
    }


def added(first: Json, second: Json) -> Json:
    """The usage of two answers together; both are usage objects."""
    found = dict(first)
    for name, value in second.items():
        known = found.get(name)
        if isinstance(value, dict):
            found[name] = added(known if isinstance(known, dict) else {}, value)
        elif isinstance(value, int):
            found[name] = value + (known if isinstance(known, int) else 0)
    return found


def error_event(error: GatewayError, sequence_number: int) -> Json:
    """One `error` event in both spellings: OpenAI's flat members and the nested object that other clients read."""
    nested = error.payload["error"]
    assert isinstance(nested, dict)
    flat = {"code": nested["code"], "message": nested["message"], "param": nested["param"]}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": nested}


def response_error(error: GatewayError) -> Json:
    """The `error` member of a failed response; a code of ours that clients do not know is a `server_error` to them."""
    return {"code": error.code if error.code in CODES else "server_error", "message": error.message}


def response_object(
    id: str, created_at: int, model: str, echo: Mapping[str, Any], stamp: str | None, public: Collection[str] = ()
) -> Json:
    """A response that has just begun, with every member that Open Responses requires. *public* are the labels of those
    servers of tools whose whole address may be shown."""
    repeated = {name: echo[name] for name in (*DEFAULTS, *OPTIONAL_ECHO) if echo.get(name) is not None}
    response: Json = {"provider": stamp} if stamp else {}
    response |= {"id": id, "object": "response", "created_at": created_at, "status": "in_progress"}
    response |= {"completed_at": None, "error": None, "incomplete_details": None, "model": model, "output": []}
    response |= DEFAULTS | repeated | {"usage": None}
    response["reasoning"] = DEFAULTS["reasoning"] | response["reasoning"]
    response["text"] = _echoed_text(response["text"])
    response["tools"] = [_echoed_tool(tool, public) for tool in response["tools"]]
    return response


def _echoed_text(text: Any) -> Any:
    """*text* with the members of its format that Open Responses requires."""
    if not isinstance(text, dict):
        return text
    format = text.get("format") or DEFAULTS["text"]["format"]
    if isinstance(format, dict) and format.get("type") == "json_schema":
        format = {"description": None, **format, "strict": bool(format.get("strict"))}
    return {**text, "format": format}


def _echoed_tool(tool: Any, public: Collection[str]) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return scrubbed(tool, public)
    return {"description": None, "parameters": None, "strict": None, **tool}


def _call_ids_of(input: Any) -> set[str]:
    """The ids of the calls among the items of a request's *input*."""
    ids = (item.get("call_id") for item in input if isinstance(item, dict)) if isinstance(input, list) else ()
    return {id for id in ids if isinstance(id, str)}


def _unseen(type: str, /, **members: Any) -> None:
    """Writes nothing: for a call that the client does not get."""


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
        self.told: set[str] = set()
        """The states before its end that events have told of."""
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
        self.renamed = 0
        """How many ids were taken already."""
        self.out: list[bytes] = []
        self.response = response_object(response_id, created_at, model, echo, stamp, public)

    def take(self) -> bytes:
        """The events written since the last call."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def emit(self, type: str, /, **members: Any) -> None:
        """Write one event of this type. Not for translators: they use the verbs below."""
        number = self.sequence_number
        if self.stream and number > self.after:
            self.out.append(frame({"type": type, "sequence_number": number, **members}))
        self.sequence_number = number + 1

    # What a translator says...

    def begin(self, model: str | None = None) -> None:
        """The upstream has begun to answer; *model* is what it says it is. Only the first call counts."""
        if "in_progress" in self.told:
            return
        if model:
            self.response["model"] = model
        self.announce("in_progress")

    def announce(self, status: str, /, **event: Any) -> None:
        """The response is `created`, `queued` or `in_progress`: each is told once, and `created` before the others."""
        if status in self.told:
            return
        if status == "created":
            self.begun = True
        else:
            self.announce("created")
            self.response["status"] = status
        self.told.add(status)
        self.emit(f"response.{status}", **event, response=self.response)

    def describe(self, response: Json) -> None:
        """Say of the response what *response* says, in all events from now on. Its id stays once it is announced."""
        self.response = response
        self.suffix = response["id"].removeprefix("resp_")

    def message(self, **members: Any) -> Message:
        """Open an assistant message; *members* (such as `phase`) are put into the item."""
        return self._opened(Message, {"type": "message", **members})

    def reasoning(self) -> Reasoning:
        """Open a reasoning item."""
        return self._opened(Reasoning, {"type": "reasoning"})

    def function_call(self, call_id: str, name: str, **members: Any) -> FunctionCall:
        """Open a function call; *members* such as `namespace` are put into the item."""
        return self._opened(FunctionCall, {"type": "function_call", "call_id": call_id, "name": name, **members})

    def custom_call(self, call_id: str, name: str, **members: Any) -> CustomCall:
        """Open a call of a custom (free text) tool."""
        return self._opened(CustomCall, {"type": "custom_tool_call", "call_id": call_id, "name": name, **members})

    def open(self, given: Json, /, **event: Any) -> Item:
        """Open an item of any type: *given* is what is known of it, and its `id` is kept unless another item has it.
        *event* are more members of the event that announces it."""
        return self._opened(CLASSES.get(given["type"], Item), given, **event)

    def search_call(self, call_id: str) -> SearchCall:
        """Open a search for tools, which the client runs."""
        return self._opened(SearchCall, {"type": "tool_search_call", "call_id": call_id})

    def item(self, item: Json, *phases: str) -> None:
        """Add an item that came whole. *phases* are event types between added and done, as hosted tools have them."""
        opened = self.open(item)
        for phase in phases:
            self.emit(phase, **opened.where)
        opened.close(item.get("status", "completed"))

    def free_call_id(self, given: str) -> str:
        """The `call_id` that a call gets which the upstream calls *given*: another one where that is taken."""
        if self.call_ids is None:
            self.call_ids = _call_ids_of(self.history)
        id = given
        while id in self.call_ids:
            self.renamed += 1
            id = f"call_{self.suffix}r{self.renamed:02x}"
        return id

    def usage(self, usage: Json | None, raw: Any = None) -> None:
        """Set the usage that the final response will carry; a later call replaces an earlier one."""
        self.response["usage"] = usage
        self.raw_usage = raw

    def warn(self, message: str) -> None:
        """Tell observers of something that no event can carry."""
        self.warnings.append(message)

    def complete(self, at: int | None = None, /, **event: Any) -> None:
        """The upstream ended properly, at Unix time *at*."""
        self._end("completed")
        self.response["completed_at"] = at or self.created_at
        self._finish("response.completed", event)

    def incomplete(self, reason: Reason | None, /, **event: Any) -> None:
        """The upstream stopped early; None where it does not say why."""
        self._end("incomplete")
        known = self.response["incomplete_details"] or {}
        self.response["incomplete_details"] = None if reason is None else {**known, "reason": reason}
        self._finish("response.incomplete", event)

    def report(self, error: GatewayError) -> None:
        """The upstream reports a failure, but has not ended its reply: an `error` event. It is kept as `failure`."""
        if self.terminal is not None or self.failure is not None:
            return
        self.begin()
        self.failure = error
        event = error_event(error, self.sequence_number)
        self.emit(event.pop("type"), **{name: event[name] for name in event if name != "sequence_number"})

    def fail(self, error: GatewayError, given: Json | None = None, /, **event: Any) -> None:
        """The upstream failed, or its reply broke off: an `error` event, then `response.failed`. *given* is the `error`
        that the upstream's own response has. What has been reported before *error* counts in its place."""
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
        self.response |= {"status": "failed", "output": self._output(), "error": given or response_error(self.failure)}
        self._finish("response.failed", event)

    def cancel(self) -> None:
        """Nobody waits for the response any more: it is `cancelled`, with what has come. Nothing is told of it."""
        for item in self.items:
            item.settle()
        self.terminal = "cancelled"
        self.rest("cancelled")

    def rest(self, status: str) -> None:
        """The response came whole and is in *status*, which need not be its end: nothing is told of it."""
        self._lead()
        self._spend()
        self.response |= {"status": status, "output": self._output()}
        self.items.clear()

    # How it is written...

    def _opened(self, kind: type[AnyItem], given: Json, /, **event: Any) -> AnyItem:
        self.begin()
        self._lead()
        self.meaningful = True
        type, index = given["type"], len(self.items)
        if self.single_call and type in CLIENT_CALLS and any(item.value["type"] in CLIENT_CALLS for item in self.items):
            self.warn(f"a further call of {given.get('name')!r}: left out, since `parallel_tool_calls` is false")
            return kind(_unseen, index, {"id": "", "call_id": "", **given})
        id = self._id(type, index, given.get("id"))
        if type in CLIENT_CALLS or (given.get("call_id") and not type.endswith("_output")):
            given = {**given, "call_id": self._call_id(index, given.get("call_id"))}
        status = {} if type in STATUSLESS and "status" not in given else {"status": "in_progress"}
        item = kind(self.emit, index, {"id": id} | given | {"id": id} | status, **event)
        self.items.append(item)
        return item

    def _lead(self) -> None:
        leading, self.leading = self.leading, []
        for item in leading:
            self.item(item)

    def _spend(self) -> None:
        if self.spent is not None and self.response["usage"] is not None:
            self.response["usage"], self.spent = added(self.response["usage"], self.spent), None

    def _id(self, type: str, index: int, given: Any) -> str:
        """The item's own id, unless it has none or another item's."""
        prefix = PREFIXES.get(type) or type.rpartition(":")[2]
        id = given if isinstance(given, str) and given else f"{prefix}_{self.suffix}{index:02x}"
        while id in self.ids:
            self.renamed += 1
            id = f"{prefix}_{self.suffix}r{self.renamed:02x}"
        self.ids.add(id)
        return id

    def _call_id(self, index: int, given: Any) -> str:
        """The call's own `call_id`, unless it has none or that of another call, of this response or before it: it joins
        one call to one output."""
        id = self.free_call_id(given if isinstance(given, str) and given else f"call_{self.suffix}{index:02x}")
        assert self.call_ids is not None
        self.call_ids.add(id)
        return id

    def _output(self) -> list[Json]:
        return [item.value for item in self.items]

    def _end(self, status: str) -> None:
        """Close what is open; of an incomplete response the last item is the incomplete one."""
        self.begin()
        self._lead()
        for item in self.items:
            item.close(status if item is self.items[-1] else "completed")
        self.meaningful = True
        self.terminal = status
        self.response |= {"status": status, "output": self._output()}

    def _finish(self, type: str, event: Json) -> None:
        self._spend()
        self.emit(type, **event, response=self.response)
        self.items.clear()  # each knows `emit`, and so us
        if self.stream:
            self.out.append(DONE)
