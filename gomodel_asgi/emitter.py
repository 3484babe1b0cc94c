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

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from .errors import GatewayError
from .items import CustomCall, FunctionCall, Item, Json, Message, Reasoning, SearchCall, Whole

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


def error_event(error: GatewayError, sequence_number: int) -> Json:
    """One `error` event in both spellings: OpenAI's flat members and the nested object that other clients read."""
    nested = error.payload["error"]
    assert isinstance(nested, dict)
    flat = {"code": nested["code"], "message": nested["message"], "param": nested["param"]}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": nested}


def response_error(error: GatewayError) -> Json:
    """The `error` member of a failed response."""
    return {"code": error.code or "server_error", "message": error.message}


def response_object(id: str, created_at: int, model: str, echo: Mapping[str, Any], stamp: str | None) -> Json:
    """A response that has just begun, with every member that Open Responses requires."""
    repeated = {name: echo[name] for name in (*DEFAULTS, *OPTIONAL_ECHO) if echo.get(name) is not None}
    response: Json = {"provider": stamp} if stamp else {}
    response |= {"id": id, "object": "response", "created_at": created_at, "status": "in_progress"}
    response |= {"completed_at": None, "error": None, "incomplete_details": None, "model": model, "output": []}
    response |= DEFAULTS | repeated | {"usage": None}
    response["reasoning"] = DEFAULTS["reasoning"] | response["reasoning"]
    response["text"] = _echoed_text(response["text"])
    response["tools"] = [_echoed_tool(tool) for tool in response["tools"]]
    return response


def _echoed_text(text: Any) -> Any:
    """*text* with the members of its format that Open Responses requires."""
    if not isinstance(text, dict):
        return text
    format = text.get("format") or DEFAULTS["text"]["format"]
    if isinstance(format, dict) and format.get("type") == "json_schema":
        format = {"description": None, **format, "strict": bool(format.get("strict"))}
    return {**text, "format": format}


def _echoed_tool(tool: Any) -> Any:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


class Emitter:
    """The one writer of a translated response.

    *echo* is the client's request body: its members are repeated in every response object. *stamp* is the provider
    name put first into each response object, None for no stamp.
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
    ) -> None:
        self.suffix = response_id.removeprefix("resp_")
        self.stream = stream
        self.created_at = created_at
        self.sequence_number = 0
        self.begun = False
        self.meaningful = False
        """Whether anything has come that a client would miss: text, reasoning, a tool call, an end."""
        self.terminal: str | None = None
        """The status that ended the response: completed, incomplete or failed."""
        self.failure: GatewayError | None = None
        self.raw_usage: Any = None
        """The upstream's own usage object, for observers."""
        self.warnings: list[str] = []
        """What the upstream sent that no event can carry, for observers."""
        self.items: list[Item] = []
        self.out: list[bytes] = []
        self.response = response_object(response_id, created_at, model, echo, stamp)

    def take(self) -> bytes:
        """The events written since the last call."""
        data = b"".join(self.out)
        self.out.clear()
        return data

    def emit(self, type: str, **members: Any) -> None:
        """Write one event of this type. Not for translators: they use the verbs below."""
        if self.stream:
            self.out.append(frame({"type": type, "sequence_number": self.sequence_number, **members}))
        self.sequence_number += 1

    # What a translator says...

    def begin(self, model: str | None = None) -> None:
        """The upstream has begun to answer; *model* is what it says it is. Only the first call counts."""
        if self.begun:
            return
        self.begun = True
        if model:
            self.response["model"] = model
        self.emit("response.created", response=self.response)
        self.emit("response.in_progress", response=self.response)

    def message(self, **members: Any) -> Message:
        """Open an assistant message; *members* (such as `phase`) are put into the item."""
        return self._add(Message(self.emit, *self._next("msg"), members))

    def reasoning(self) -> Reasoning:
        """Open a reasoning item."""
        return self._add(Reasoning(self.emit, *self._next("rs")))

    def function_call(self, call_id: str, name: str, **members: Any) -> FunctionCall:
        """Open a function call; *members* such as `namespace` are put into the item."""
        return self._add(FunctionCall(self.emit, *self._next("fc"), call_id, name, members))

    def custom_call(self, call_id: str, name: str, **members: Any) -> CustomCall:
        """Open a call of a custom (free text) tool."""
        return self._add(CustomCall(self.emit, *self._next("ctc"), call_id, name, members))

    def search_call(self, call_id: str) -> SearchCall:
        """Open a search for tools, which the client runs."""
        return self._add(SearchCall(self.emit, *self._next("tsc"), call_id))

    def item(self, item: Json, *phases: str) -> None:
        """Add an item that came whole. *phases* are event types between added and done, as hosted tools have them."""
        index, id = self._next(item["type"])
        self._add(Whole(self.emit, index, {"id": id, **item}, phases)).close()

    def usage(self, usage: Json | None, raw: Any = None) -> None:
        """Set the usage that the final response will carry; a later call replaces an earlier one."""
        self.response["usage"] = usage
        self.raw_usage = raw

    def warn(self, message: str) -> None:
        """Tell observers of something that no event can carry."""
        self.warnings.append(message)

    def complete(self, at: int | None = None) -> None:
        """The upstream ended properly, at Unix time *at*."""
        self._end("completed")
        self.response["completed_at"] = at or self.created_at
        self._finish("response.completed")

    def incomplete(self, reason: str) -> None:
        """The upstream stopped early: `max_output_tokens`, `content_filter`, `pause_turn`."""
        self._end("incomplete")
        self.response["incomplete_details"] = {"reason": reason}
        self._finish("response.incomplete")

    def fail(self, error: GatewayError) -> None:
        """The upstream failed: an `error` event, then `response.failed`. *error* is kept as `failure`."""
        if self.terminal is not None:
            return
        self.failure = error
        self.begin()
        for item in self.items:
            item.settle()
        self.terminal = "failed"
        self.response |= {"status": "failed", "output": self._output(), "error": response_error(error)}
        if self.stream:
            self.out.append(frame(error_event(error, self.sequence_number)))
        self.sequence_number += 1
        self._finish("response.failed")

    # How it is written...

    def _next(self, prefix: str) -> tuple[int, str]:
        self.begin()
        self.meaningful = True
        index = len(self.items)
        return index, f"{prefix}_{self.suffix}{index:02x}"

    def _add(self, item: AnyItem) -> AnyItem:
        self.items.append(item)
        return item

    def _output(self) -> list[Json]:
        return [item.value for item in self.items]

    def _end(self, status: str) -> None:
        """Close what is open; of an incomplete response the last item is the incomplete one."""
        self.begin()
        for item in self.items:
            item.close(status if item is self.items[-1] else "completed")
        self.meaningful = True
        self.terminal = status
        self.response |= {"status": status, "output": self._output()}

    def _finish(self, type: str) -> None:
        self.emit(type, response=self.response)
        self.items.clear()  # each knows `emit`, and so us
        if self.stream:
            self.out.append(DONE)
