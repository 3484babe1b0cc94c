"""Failures that an upstream reports, in whatever shape: read into our errors.

A status is an error's own (`status`, `status_code`, a numeric `code`, the name of an Anthropic type or Gemini status)
before it is the reply's, because providers answer 200 and then fail.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import GatewayError, UpstreamAuthError, UpstreamError, UpstreamRejected
from ..settings import MALFORMED
from ..wire.json_scan import SHORT, short, tree

AUTH = frozenset({401, 402, 403})

STATUS_OF_NAME = {
    "invalid_request_error": 400, "invalid_prompt": 400, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400, "authentication_error": 401, "invalid_api_key": 401, "UNAUTHENTICATED": 401,
    "billing_error": 402, "permission_error": 403, "PERMISSION_DENIED": 403,
    "not_found_error": 404, "model_not_found": 404, "NOT_FOUND": 404,
    "conflict_error": 409, "ABORTED": 409, "ALREADY_EXISTS": 409, "request_too_large": 413,
    "insufficient_quota": 429, "rate_limit_error": 429, "rate_limit_exceeded": 429, "RESOURCE_EXHAUSTED": 429,
    "too_many_requests": 429, "CANCELLED": 499,
    "api_error": 500, "INTERNAL": 500, "UNKNOWN": 500, "DATA_LOSS": 500, "UNIMPLEMENTED": 501, "server_error": 502,
    "UNAVAILABLE": 503, "service_unavailable": 503, "timeout_error": 504, "DEADLINE_EXCEEDED": 504,
    "overloaded_error": 529,
}  # fmt: skip
"""The status that errors have which only say their name: at Anthropic (API reference, "Errors") and Google
(google/rpc/code.proto), who document it, and at OpenAI. Its `server_error` is what a failed response says of any
cause: it names no status, so it is ours for an upstream that failed."""

MESSAGE_LIMIT = 4096  # of an upstream's message: longer ones are pages, not messages


GARBLED = frozenset({"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"})
"""Reasons for which Gemini ends an answer that its model has garbled: a call that cannot be read, or of a tool that is
not there. Asked again, the model mostly calls well, and Google's own client asks again (gemini-cli, `geminiChat.ts`).
TOO_MANY_TOOL_CALLS is none of them: there the upstream's own loop has given up on the same request."""


def garbled(reason: str, message: str = "") -> UpstreamRejected:
    """Returns the error for an answer that ends with the *reason*, one of `GARBLED`, and the upstream's *message*."""
    text = message or f"The model called a tool in a way that the upstream could not read ({reason})."
    error = UpstreamRejected(text, status=502, code=reason)
    error.kind = MALFORMED
    return error


NOTHING = msgspec.Raw(b"")


class Outline(msgspec.Struct):
    """What a reply or an event says of a failure, as bytes; its other members are passed over."""

    error: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    detail: msgspec.Raw = NOTHING
    status: msgspec.Raw = NOTHING
    status_code: msgspec.Raw = NOTHING
    code: msgspec.Raw = NOTHING
    type: msgspec.Raw = NOTHING
    param: msgspec.Raw = NOTHING


_outline = msgspec.json.Decoder(Outline).decode


def _load(data: bytes) -> Any:
    """Returns *data* as a value, None where it is no JSON; of a long object only what describes a failure."""
    try:
        if len(data) <= SHORT:
            return tree(data)
        members = msgspec.structs.asdict(_outline(data))
    except (ValueError, RecursionError):
        return None
    return {name: value for name, raw in members.items() if (value := short(raw)) is not None}


def is_openai_shaped(data: bytes) -> bool:
    """Returns whether *data* is JSON with an object `error` that holds a string `message`."""
    value = _load(data)
    error = value.get("error") if isinstance(value, dict) else None
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def completed_shape(data: bytes) -> bytes:
    """Returns an OpenAI-shaped error with the four keys that clients rely on; missing ones are added."""
    value = _load(data)
    error = value["error"]
    if {"message", "type", "param", "code"} <= error.keys():
        return data
    value["error"] = {"message": error["message"], "type": "upstream_error", "param": None, "code": None} | error
    return msgspec.json.encode(value)


def reported_failure(data: bytes, status: int = 502) -> GatewayError:
    """Returns the error that *data* describes: an error body, an `error` event, a failed response; see `failure_in`."""
    return failure_in(_error_of(_load(data)), status)


def failure_in(error: Any, status: int = 502) -> GatewayError:
    """Returns the failure that an upstream's *error* object describes.

    Refused credentials become an `UpstreamAuthError` whose text is only in `detail`; all else an `UpstreamRejected`
    with the error's own status, or *status*.
    """
    status = named_status(error) or status
    message = _message(error)
    if status in AUTH:
        return refused_credentials(message, status)
    rejected = UpstreamRejected(message or "The upstream reported an error.", status=status)
    rejected.code = _code(error) or UpstreamError.code
    rejected.kind = status
    kind = _text(error, "type")
    rejected.type = UpstreamError.type if kind is None or kind == "error" else kind
    rejected.param = _text(error, "param")
    return rejected


def refused_credentials(detail: str | None, status: int) -> UpstreamAuthError:
    """Returns the error for refused credentials: the client learns that they were refused, and no more."""
    return UpstreamAuthError(detail=f"{status}: {detail or ''}")


def named_status(error: Any) -> int | None:
    """Returns the HTTP status in an error object, or None."""
    if not isinstance(error, dict):
        return None
    for key in ("status_code", "status", "code"):
        number = _number(error.get(key))
        if number is not None and 400 <= number <= 599:
            return number
    for key in ("code", "type", "status"):
        name = error.get(key)
        if isinstance(name, str) and name in STATUS_OF_NAME:
            return STATUS_OF_NAME[name]
    return None


def _error_of(value: Any) -> Any:
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return value
    inner = value.get("error")
    if isinstance(inner, dict):
        return {key: value[key] for key in ("status_code", "status") if key in value} | inner
    return value if inner is None else {"message": inner}


def _message(error: Any) -> str | None:
    for key in ("message", "detail", "errors", "error"):
        text = text_of(error.get(key)) if isinstance(error, dict) else ""
        if text:
            return text[:MESSAGE_LIMIT]
    return None


def text_of(value: Any) -> str:
    """Returns a message as one line, "" where there is none: a text, or FastAPI's list of faults with their places."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(text_of, value)))
    if isinstance(value, dict):
        place = ".".join(map(str, value["loc"])) + ": " if isinstance(value.get("loc"), list) else ""
        text = text_of(value.get("msg")) or text_of(value.get("message")) or text_of(value.get("detail"))
        return place + text if text else ""
    return ""


def _code(error: Any) -> str | None:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else str(code) if isinstance(code, int) else None


def _text(error: Any, key: str) -> str | None:
    value = error.get(key) if isinstance(error, dict) else None
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    """*value* as a number of three digits, which is what a status is."""
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
