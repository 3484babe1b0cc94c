"""Error bodies of chat servers.

OpenAI's `{"error": {...}}`; `{"error": "text"}`; FastAPI's `{"detail": "text" | [...]}`; the bare `{"message": ...}` of
vLLM and Mistral, whose message may itself hold a `detail`; Google's `[{"error": ...}]`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import GatewayError, UpstreamRejected
from ..failure import completed_shape, is_openai_shaped, reported_failure
from ..parts import Json

SIGNS = ("error", "message", "detail", "errors")


def read_error(status: int, body: bytes) -> GatewayError | None:
    """The error that *body* describes, with the status that it names itself or else *status*; see `Dialect.error`."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    error = error_of(value)
    if error is None:
        return None
    failure = failure_of(error, status)
    if isinstance(failure, UpstreamRejected) and is_openai_shaped(body):
        failure.raw = completed_shape(body)
    return failure


def failure_of(error: Json, status: int = 502) -> GatewayError:
    """The failure for an error in the common form that `error_of` gives."""
    return reported_failure(msgspec.json.encode({"error": error}), status)


def error_of(value: Any) -> Json | None:
    """The error object in *value*, with a string `message`; None where *value* tells of no error."""
    if isinstance(value, list):
        return error_of(value[0]) if value else None
    if not isinstance(value, dict) or not any(value.get(sign) for sign in SIGNS):
        return None
    inner = value.get("error")
    outer = {key: value[key] for key in ("status_code", "status") if key in value}
    error = outer | inner if isinstance(inner, dict) else {key: value[key] for key in value if key != "error"}
    text = _text(error.get("message")) or _text(error.get("detail")) or _text(error.get("errors")) or _text(inner)
    return {**error, "message": text or "The upstream reported an error."}


def _text(value: Any) -> str:
    """Whatever stands where a message should, as one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "; ".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        place = ".".join(map(str, value["loc"])) + ": " if isinstance(value.get("loc"), list) else ""
        text = _text(value.get("msg")) or _text(value.get("message")) or _text(value.get("detail"))
        return place + text if text else ""
    return ""
