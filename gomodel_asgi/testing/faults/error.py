"""The reply is an error: by its status, or behind a status of 200."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from ..plan import Body, End, Headers, Plan, unary
from ..replies import HeaderList, encoded
from ..wire import Failure

JSON: Headers = ((b"content-type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class Status:
    """An error status, in the form of the API that answers, or with *body* as it is.

    *type* is what the API calls the kind of error (Gemini: its `status`); None is the usual one. *retry_after* is
    written as the header's value: seconds, a date, anything.
    """

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
        body = json.dumps(plan.wire.error(self._failure)).encode() if self.body is None else self.body
        return plan.instead(unary(self.status, headers, body))

    @property
    def _failure(self) -> Failure:
        kind = {"type": self.type, "code": self.code, "param": self.param}
        return Failure(status=self.status, message=self.message, retry_after=self.retry_after, **kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInside:
    """An error behind a status of 200, after so many events; nothing follows it, not even `[DONE]`.

    *form* None is that of the API that answers. `"body"` is `{"error": …}`, which in a stream is an event without a
    name. The Responses API has `"flat"` (its usual `error` event), `"nested"` (the same with an `error` object) and
    `"failed"` (`response.failed`) beside it, the chat API `"event"` (an event named `error`). A unary reply is the same
    object, whole. *status* is the one that the error would have had.
    """

    form: Literal["flat", "nested", "failed", "body", "event"] | None = None
    after_events: int = 0
    message: str = "The model provider failed inside a reply, as scripted."
    code: str | None = "server_error"
    type: str | None = None
    status: int = 500

    def apply(self, plan: Plan) -> Plan:
        failure = Failure(status=self.status, message=self.message, type=self.type, code=self.code)
        event = plan.wire.error_inside(failure, self.form, self.after_events, plan.response)
        if plan.streamed:
            return plan.cut(self.after_events, Body(plan.wire.error_event(event, self.form)), End())
        return plan.instead(unary(200, JSON, json.dumps(event.get("response", event)).encode()))
