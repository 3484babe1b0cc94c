"""The reply is an error: by its status, or behind a status of 200."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...emitter import frame
from ...errors import type_of_status
from ..plan import Body, End, Headers, Plan, unary
from ..replies import HeaderList, encoded, error_body

JSON: Headers = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class Status:
    """An error status with OpenAI's envelope, or with *body* as it is. *retry_after* is written as the header's value:
    seconds, a date, anything."""

    status: int
    message: str = "The model provider failed, as scripted."
    type: str | None = None
    code: str | None = None
    param: str | None = None
    retry_after: str | float | None = None
    headers: HeaderList = ()
    body: bytes | None = None
    content_type: str = "application/json"

    def apply(self, plan: Plan) -> Plan:
        headers: Headers = ((b"content-type", self.content_type.encode()), *encoded(self.headers))
        if self.retry_after is not None:
            headers += ((b"retry-after", str(self.retry_after).encode("latin-1")),)
        kind = self.type or type_of_status(self.status)
        body = error_body(self.message, type=kind, code=self.code, param=self.param) if self.body is None else self.body
        return unary(self.status, headers, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInside:
    """An error behind a status of 200, after so many events; nothing follows it, not even `[DONE]`.

    *form* is `"flat"` (OpenAI's `error` event), `"nested"` (the same with an `error` object), `"failed"`
    (`response.failed`) or `"body"` (`{"error": …}`, which in a stream is an event without a name). A unary reply is
    the same object, whole.
    """

    form: Literal["flat", "nested", "failed", "body"] = "flat"
    after_events: int = 0
    message: str = "The model provider failed inside a reply, as scripted."
    code: str | None = "server_error"
    type: str = "server_error"

    def apply(self, plan: Plan) -> Plan:
        if not plan.streamed:
            value = self._failed(plan) if self.form == "failed" else self._event(plan)
            return unary(200, JSON, json.dumps(value).encode())
        event = self._event(plan)
        data = frame(event) if "type" in event else b"data: %s\n\n" % json.dumps(event).encode()
        return plan.cut(self.after_events, Body(data), End())

    def _event(self, plan: Plan) -> Mapping[str, Any]:
        number = {"sequence_number": self.after_events}
        flat = {"code": self.code, "message": self.message, "param": None}
        match self.form:
            case "flat":
                return {"type": "error", **number, **flat}
            case "nested":
                return {"type": "error", **number, "error": {"type": self.type, **flat}}
            case "failed":
                return {"type": "response.failed", **number, "response": self._failed(plan)}
            case _:
                return {"error": {"type": self.type, **flat}}

    def _failed(self, plan: Plan) -> Mapping[str, Any]:
        if plan.response is None:
            raise ValueError("only a reply about a response can end in response.failed")
        error = {"code": self.code, "message": self.message}
        return {**plan.response, "status": "failed", "error": error, "output": [], "usage": None}
