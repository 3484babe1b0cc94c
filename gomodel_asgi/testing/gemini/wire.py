"""Errors and streams of the Gemini API (Google AIP-193; Gemini API, "Streaming")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..wire import Failure, Json, data_of

STATUSES: Mapping[int, str] = {
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


def event(value: Mapping[str, Any]) -> bytes:
    """*value* as an event, with the line ends that Google sends."""
    return b"data: %s\r\n\r\n" % json.dumps(value, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class GeminiWire:
    """Errors say the HTTP status as a number and by its gRPC name. *listed*: the reply to a request for a stream is a
    list, errors included; of those that come before the stream, `alt=sse` changes nothing."""

    listed: bool = False

    endless = (
        b'data: {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "',
        b'"}]}}]}\r\n\r\n',
    )

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    def error(self, failure: Failure) -> Any:
        return [self._error(failure)] if self.listed else self._error(failure)

    def _error(self, failure: Failure) -> Json:
        status = failure.type or STATUSES.get(failure.status, "UNKNOWN")
        error: Json = {"code": failure.status, "message": failure.message, "status": status}
        details = list(details_of(failure))
        return {"error": {**error, "details": details} if details else error}

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        if form not in (None, "body"):
            raise ValueError(f"the Gemini API has no error of the form '{form}'")
        return self._error(failure)

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        return event(value)

    def ends(self, event: bytes) -> bool:
        chunk = data_of(event)
        candidates = chunk.get("candidates") if isinstance(chunk, Mapping) else None
        return candidates is not None and any(candidate.get("finishReason") for candidate in candidates)


def details_of(failure: Failure) -> list[Json]:
    """What else the error says: its reason, the field, when to try again."""
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
