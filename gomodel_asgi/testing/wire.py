"""What an API writes beside answers: its errors, and what faults have to know of its streams."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import type_of_status
from ..wire.response import frame

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error, before an API writes it in its own form. *type* None: what the API calls errors of this *status*.

    An API leaves out what its errors do not have. *retry_after* is in seconds, or any text that a header may hold.
    """

    status: int
    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: str | float | None = None


class Wire(ABC):
    """How one API writes errors and streams; *request_id* is that of the reply, empty where it has none."""

    name: ClassVar[str]
    forms: ClassVar[tuple[str | None, ...]] = (None, "body")
    """The forms of an error inside a reply; None is the API's own."""
    endless: ClassVar[tuple[bytes, bytes]]
    """Beginning and end of an event that holds a text of any length between them."""
    id_header: ClassVar[str] = "x-request-id"

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every reply: the id of the request, where the API gives one."""
        return {self.id_header: self.request_id} if self.request_id else {}

    def error(self, failure: Failure) -> Any:
        """Returns the JSON body of an error status, by default the envelope of the OpenAI APIs."""
        kind = failure.type or type_of_status(failure.status)
        return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": failure.code}}

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        """Returns the error as the event of this *number*, or as a unary body behind a status of 200.

        *response* is what the reply is about, if it is about something.

        :raises ValueError: the API has no error of this *form*, or there is no response that could have failed.
        """
        if form not in self.forms:
            raise ValueError(f"{self.name} has no error of the form '{form}'")
        return self._inside(failure, form, number, response)

    def _inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        error: Json = self.error(failure)
        return error

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        """Returns what `error_inside` gave for this *form*, as an event of a stream."""
        return self.event(value)

    @staticmethod
    @abstractmethod
    def event(value: Mapping[str, Any]) -> bytes:
        """Returns *value* as an event of a stream."""

    @abstractmethod
    def ends(self, event: bytes) -> bool:
        """Returns whether *event* ends the answer; `[DONE]` does not count."""


class ResponsesWire(Wire):
    """The Responses API."""

    name = "the Responses API"
    forms = (None, "flat", "nested", "body", "failed")
    endless = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"', b'"}\n\n'
    terminal = b"event: response.completed", b"event: response.incomplete", b"event: response.failed"

    def _inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        """See `Wire.error_inside`.

        :raises ValueError: there is no response that could have failed.
        """
        flat = {"code": failure.code, "message": failure.message, "param": failure.param}
        nested = {"type": failure.type or type_of_status(failure.status), **flat}
        if form == "body":
            return {"error": nested}
        if form == "nested":
            return {"type": "error", "sequence_number": number, "error": nested}
        if form != "failed":
            return {"type": "error", "sequence_number": number, **flat}
        if response is None:
            raise ValueError("only a reply about a response can end in response.failed")
        error = {"code": failure.code, "message": failure.message}
        failed = {**response, "status": "failed", "error": error, "output": [], "usage": None}
        return {"type": "response.failed", "sequence_number": number, "response": failed}

    @staticmethod
    def event(value: Mapping[str, Any]) -> bytes:
        """Returns *value* as an event named by its type, if it has one."""
        return frame(value) if "type" in value else unnamed(value)

    def ends(self, event: bytes) -> bool:
        """See `Wire.ends`."""
        return event.startswith(self.terminal)


class ChatWire(Wire):
    """Errors are OpenAI's; inside a stream they are an event without a name, or (Groq) one that is called `error`."""

    name = "the chat API"
    forms = (None, "body", "event")
    endless = (
        b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"finish_reason":null,"delta":{"content":"',
        b'"}}]}\n\n',
    )

    @staticmethod
    def event(value: Mapping[str, Any]) -> bytes:
        """Returns *value* as an event without a name."""
        return unnamed(value)

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        """See `Wire.error_event`."""
        return (b"event: error\n" if form == "event" else b"") + unnamed(value)

    def ends(self, event: bytes) -> bool:
        """See `Wire.ends`."""
        chunk = data_of(event)
        if not isinstance(chunk, Mapping) or "choices" not in chunk:
            return False
        return not chunk["choices"] or chunk["choices"][0].get("finish_reason") is not None


class AnthropicWire(Wire):
    """Errors name their type and the request; inside a stream they are an `error` event (Anthropic, API reference,
    "Errors" and "Streaming messages")."""

    name = "the Messages API"
    endless = (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"',
        b'"}}\n\n',
    )
    id_header = "request-id"
    terminal = b"event: message_delta", b"event: message_stop"
    types: ClassVar[Mapping[int, str]] = {
        400: "invalid_request_error",
        401: "authentication_error",
        402: "billing_error",
        403: "permission_error",
        404: "not_found_error",
        409: "conflict_error",
        413: "request_too_large",
        429: "rate_limit_error",
        504: "timeout_error",
        529: "overloaded_error",
    }

    def error(self, failure: Failure) -> Json:
        """See `Wire.error`."""
        usual = self.types.get(failure.status) or ("api_error" if failure.status >= 500 else "invalid_request_error")
        error = {"type": failure.type or usual, "message": failure.message}
        return {"type": "error", "error": error, "request_id": self.request_id}

    def _inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        value = self.error(failure)
        return {"error": value["error"]} if form == "body" else value

    @staticmethod
    def event(value: Mapping[str, Any]) -> bytes:
        """Returns *value* as an event named by its type, with spaces after the JSON as Anthropic sends them."""
        data = compact(value)
        return b"event: %s\ndata: %s%s\n\n" % (value["type"].encode(), data, b" " * (len(data) % 16))

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        """See `Wire.error_event`."""
        return self.event(value) if form is None else b"data: %s\n\n" % json.dumps(value).encode()

    def ends(self, event: bytes) -> bool:
        """See `Wire.ends`."""
        return event.startswith(self.terminal)


class GeminiWire(Wire):
    """Errors have the HTTP status as a number and by its gRPC name (Google AIP-193). *listed*: the reply to a request
    for a stream is a list, errors included; of those that come before the stream, `alt=sse` changes nothing."""

    name = "the Gemini API"
    endless = (
        b'data: {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "',
        b'"}]}}]}\r\n\r\n',
    )
    statuses: ClassVar[Mapping[int, str]] = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        409: "ABORTED",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        500: "INTERNAL",
        501: "UNIMPLEMENTED",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }

    def __init__(self, listed: bool = False) -> None:
        super().__init__()
        self.listed = listed

    def error(self, failure: Failure) -> Any:
        """See `Wire.error`."""
        error = self._inside(failure, None, 0, None)
        return [error] if self.listed else error

    def _inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        status = failure.type or self.statuses.get(failure.status, "UNKNOWN")
        error: Json = {"code": failure.status, "message": failure.message, "status": status}
        details = google_details(failure)
        return {"error": {**error, "details": details} if details else error}

    @staticmethod
    def event(value: Mapping[str, Any]) -> bytes:
        """Returns *value* as an event, with the line ends that Google sends."""
        return b"data: %s\r\n\r\n" % json.dumps(value, ensure_ascii=False).encode()

    def ends(self, event: bytes) -> bool:
        """See `Wire.ends`."""
        chunk = data_of(event)
        candidates = chunk.get("candidates") if isinstance(chunk, Mapping) else None
        return candidates is not None and any(candidate.get("finishReason") for candidate in candidates)


def google_details(failure: Failure) -> list[Json]:
    """Returns the `details` of an error: its reason, the field, when to try again."""
    details: list[Json] = []
    if failure.code is not None:
        about = {"reason": failure.code, "domain": "googleapis.com"}
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", **about})
    if failure.param is not None:
        violations = [{"field": failure.param, "description": failure.message}]
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
    if isinstance(failure.retry_after, int | float):
        delay = f"{failure.retry_after:g}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return details


def data_of(event: bytes) -> Any:
    """Returns the JSON of an event's `data:` line, None where there is none."""
    for line in event.splitlines():
        if line.startswith(b"data:"):
            try:
                return json.loads(line[5:])
            except ValueError:
                return None
    return None


def compact(value: Mapping[str, Any]) -> bytes:
    """Returns *value* as JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def unnamed(value: Mapping[str, Any]) -> bytes:
    """Returns *value* as an event without a name."""
    return b"data: %s\n\n" % compact(value)
