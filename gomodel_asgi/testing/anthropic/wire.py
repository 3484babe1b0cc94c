"""Errors and streams of the Messages API (Anthropic, API reference, "Errors" and "Streaming messages")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..wire import Failure, Json

TYPES: Mapping[int, str] = {
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
PADDING = 16


def event(value: Mapping[str, Any]) -> bytes:
    """*value* as an event named by its type, with spaces after the JSON as Anthropic sends them."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: %s\ndata: %s%s\n\n" % (value["type"].encode(), data, b" " * (len(data) % PADDING))


@dataclass(frozen=True, slots=True)
class AnthropicWire:
    """Errors say their type and the request; inside a stream they are an `error` event."""

    request_id: str = ""

    endless = (
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"',
        b'"}}\n\n',
    )
    terminal = b"event: message_delta", b"event: message_stop"

    @property
    def headers(self) -> Mapping[str, str]:
        return {"request-id": self.request_id}

    def error(self, failure: Failure) -> Json:
        usual = TYPES.get(failure.status) or ("api_error" if failure.status >= 500 else "invalid_request_error")
        error = {"type": failure.type or usual, "message": failure.message}
        return {"type": "error", "error": error, "request_id": self.request_id}

    def error_inside(self, failure: Failure, form: str | None, number: int, response: Mapping[str, Any] | None) -> Json:
        value = self.error(failure)
        if form == "body":
            return {"error": value["error"]}
        if form is not None:
            raise ValueError(f"the Messages API has no error of the form '{form}'")
        return value

    def error_event(self, value: Mapping[str, Any], form: str | None) -> bytes:
        return event(value) if form is None else b"data: %s\n\n" % json.dumps(value).encode()

    def ends(self, event: bytes) -> bool:
        return event.startswith(self.terminal)
