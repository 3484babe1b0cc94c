"""Anthropic's errors, from HTTP bodies and from `error` events: one reading for both.

Shape: `{"type": "error", "error": {"type", "message"}, "request_id"}` (API reference, "Errors").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import GatewayError, UpstreamRejected
from ..failure import AUTH, STATUS_OF_NAME, refused_credentials


def error_of(message: Any, status: int = 502) -> GatewayError | None:
    """The error that the decoded JSON *message* tells, None where it tells none.

    *status* is used for types that name no status of their own.
    """
    error = message.get("error") if isinstance(message, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    return _named(error, status)


def _named(error: Mapping[str, Any], status: int) -> GatewayError:
    kind, text = str(error.get("type") or "upstream_error"), error["message"]
    status = STATUS_OF_NAME.get(kind, status)
    if status in AUTH:
        return refused_credentials(text, status)
    rejected = UpstreamRejected(text, status=status, code=kind)
    rejected.kind = status
    return rejected
