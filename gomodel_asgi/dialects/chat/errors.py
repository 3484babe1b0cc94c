"""Error bodies of chat servers.

OpenAI's `{"error": {...}}`; `{"error": "text"}`; FastAPI's `{"detail": "text" | [...]}`; the bare `{"message": ...}` of
vLLM and Mistral, whose message may itself hold a `detail`; Google's `[{"error": ...}]`; and MiniMax's `base_resp`, in a
reply of status 200.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import GatewayError, UpstreamRejected
from ...tree import parsed
from ..failure import completed_shape, is_openai_shaped, reported_failure, text_of
from ..parts import Json

SIGNS = ("error", "message", "detail", "errors")
STATUS_OF_BASE_RESP = {
    1001: 504, 1002: 429, 1004: 401, 1008: 402, 1024: 500, 1026: 400, 1027: 400, 1033: 500, 1039: 400, 1041: 429,
    1042: 400, 2013: 400, 2042: 403, 2045: 429, 2049: 401, 2056: 429,
}  # fmt: skip
"""The HTTP status that a `base_resp.status_code` stands for (MiniMax, API reference, "Error codes")."""


def read_error(status: int, body: bytes) -> GatewayError | None:
    """The error that *body* describes, with the status that it names itself or else *status*; see `Dialect.error`."""
    try:
        value = parsed(body)
    except (ValueError, RecursionError):
        return None
    error = error_of(value) or (status_error(value) if isinstance(value, dict) else None)
    if error is None:
        return None
    failure = failure_of(error, status)
    if isinstance(failure, UpstreamRejected) and is_openai_shaped(body):
        failure.raw = completed_shape(body)
    return failure


def failure_of(error: Json, status: int = 502) -> GatewayError:
    """The failure for an error in the common form that `error_of` gives."""
    return reported_failure(msgspec.json.encode({"error": error}), status)


def status_error(value: Json) -> Json | None:
    """The error that MiniMax's `base_resp` tells of, in the common form; None where it tells of none."""
    told = value.get("base_resp")
    code = told.get("status_code") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(code, int) or code == 0:
        return None
    message = text_of(told.get("status_msg")) or "The upstream reported an error."
    return {"message": f"{message} ({code})", "status": STATUS_OF_BASE_RESP.get(code, 502)}


def error_of(value: Any) -> Json | None:
    """The error object in *value*, with a string `message`; None where *value* tells of no error."""
    if isinstance(value, list):
        return error_of(value[0]) if value else None
    if not isinstance(value, dict) or not any(value.get(sign) for sign in SIGNS):
        return None
    inner = value.get("error")
    outer = {key: value[key] for key in ("status_code", "status") if key in value}
    error = outer | inner if isinstance(inner, dict) else {key: value[key] for key in value if key != "error"}
    text = (
        text_of(error.get("message")) or text_of(error.get("detail")) or text_of(error.get("errors")) or text_of(inner)
    )
    return {**error, "message": text or "The upstream reported an error."}
