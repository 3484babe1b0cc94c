"""What an API writes beside answers: its errors, and what faults have to know of its streams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

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


class Wire(Protocol):
    """How one API writes errors and streams."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What every reply carries: the id of the request, where the API gives one."""
        ...

    @property
    def endless(self) -> tuple[bytes, bytes]:
        """Beginning and end of an event that holds a text of any length between them."""
        ...

    def error(self, failure: Failure) -> Any:
        """Returns the JSON body of an error status."""
        ...

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        """Returns the error as the event of this *number*, or as a unary body behind a status of 200.

        *form* None is the API's own. *response* is what the reply is about, if it is about something.

        :raises ValueError: the API has no such form.
        """
        ...

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        """Returns what `error_inside` gave for this *form*, as an event of a stream."""
        ...

    def ends(self, event: bytes) -> bool:
        """Returns whether *event* ends the answer; `[DONE]` does not count."""
        ...


def data_of(event: bytes) -> Any:
    """Returns the JSON of an event's `data:` line, None where there is none."""
    for line in event.splitlines():
        if line.startswith(b"data:"):
            try:
                return json.loads(line[5:])
            except ValueError:
                return None
    return None


def openai_error(failure: Failure) -> Json:
    """Returns the error envelope of the OpenAI APIs."""
    kind = failure.type or type_of_status(failure.status)
    return {"error": {"message": failure.message, "type": kind, "param": failure.param, "code": failure.code}}


@dataclass(frozen=True, slots=True)
class ResponsesWire:
    """The Responses API."""

    request_id: str = ""

    endless = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"', b'"}\n\n'
    terminal = b"event: response.completed", b"event: response.incomplete", b"event: response.failed"

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Wire.headers`."""
        return {"x-request-id": self.request_id} if self.request_id else {}

    def error(self, failure: Failure) -> Json:
        """See `Wire.error`."""
        return openai_error(failure)

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        """See `Wire.error_inside`.

        :raises ValueError: there is no such *form*, or no response that could have failed.
        """
        flat = {"code": failure.code, "message": failure.message, "param": failure.param}
        nested = {"type": failure.type or type_of_status(failure.status), **flat}
        match form:
            case None | "flat":
                return {"type": "error", "sequence_number": number, **flat}
            case "nested":
                return {"type": "error", "sequence_number": number, "error": nested}
            case "body":
                return {"error": nested}
            case "failed":
                failed = self._failed(failure, response)
                return {"type": "response.failed", "sequence_number": number, "response": failed}
        raise ValueError(f"the Responses API has no error of the form '{form}'")

    def _failed(self, failure: Failure, response: Mapping[str, Any] | None) -> Json:
        """Returns *response* as it ends with *failure*.

        :raises ValueError: there is none.
        """
        if response is None:
            raise ValueError("only a reply about a response can end in response.failed")
        error = {"code": failure.code, "message": failure.message}
        return {**response, "status": "failed", "error": error, "output": [], "usage": None}

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        """See `Wire.error_event`."""
        return frame(value) if "type" in value else unnamed(value)

    def ends(self, event: bytes) -> bool:
        """See `Wire.ends`."""
        return event.startswith(self.terminal)


def unnamed(value: Mapping[str, Any]) -> bytes:
    """Returns *value* as an event without a name."""
    return b"data: %s\n\n" % json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
