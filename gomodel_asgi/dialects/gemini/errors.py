"""Reads Google's error bodies (google.rpc.Status as JSON), whole or inside a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...errors import GatewayError, UpstreamAuthError, UpstreamRejected
from ...wire.json_scan import parsed
from ..failure import AUTH, STATUS_OF_NAME

Json = dict[str, Any]

CREDENTIAL_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
"""ErrorInfo reasons by which a 400 means the key, not the request."""

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def read_body(status: int, body: bytes) -> GatewayError | None:
    """Returns the error of a whole reply, None where *body* is not one of Google's."""
    try:
        return read(decode(body), status)
    except ValueError:
        return None


def read(value: Any, status: int = 502) -> GatewayError | None:
    """Returns the error in a decoded body or chunk, bare or in a list, or None. *status* counts where the error has
    none.
    """
    if isinstance(value, list):
        return next((found for item in value if (found := read(item, status))), None)
    error: Any = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, str):
        error = {"message": error}
    return _error(error, status) if isinstance(error, dict) else None


def _error(error: Json, status: int) -> GatewayError:
    named, details = error.get("status"), list(_details(error))
    code = named if isinstance(named, str) and named else None
    status = _status(error.get("code"), code) or (status if status >= 400 else 502)
    message = error.get("message")
    message = message if isinstance(message, str) and message else f"The upstream answered {code or status}."
    if status in AUTH or any(detail.get("reason") in CREDENTIAL_REASONS for detail in details):
        return UpstreamAuthError(detail=message)
    return UpstreamRejected(message, status=status, code=code, retry_after=_retry_after(details))


def _status(code: Any, name: str | None) -> int | None:
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
        return code
    return STATUS_OF_NAME.get(name or "")


def _details(error: Json) -> Iterator[Json]:
    details = error.get("details")
    return (detail for detail in details if isinstance(detail, dict)) if isinstance(details, list) else iter(())


def _retry_after(details: list[Json]) -> float | None:
    """google.rpc.RetryInfo, whose delay is a duration such as `"34.07s"`."""
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (match := DURATION.fullmatch(delay)):
            return float(match.group(1))
    return None


# Takes values out of JSON that a stranger sent: null and absent are empty, another type is an error.
#
# Every function raises ValueError where the value is not what Gemini's API sends.


def decode(data: bytes) -> Any:
    """Returns *data* as JSON.

    :raises ValueError: it is none, or nested too deeply.
    """
    try:
        return parsed(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


def record(value: Any) -> Json:
    """Returns an object, empty for null.

    :raises ValueError: it is of another type.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def records(value: Any) -> list[Json]:
    """Returns a list of objects, empty for null.

    :raises ValueError: it is of another type.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("not a list")
    return [item if isinstance(item, dict) else record(item) for item in value]


def array(value: Any) -> list[Any]:
    """Returns a list, empty for null.

    :raises ValueError: it is of another type.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def string(value: Any) -> str:
    """Returns a string, empty for null.

    :raises ValueError: it is of another type.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def strings(value: Any) -> list[str]:
    """Returns a list of strings, empty for null.

    :raises ValueError: it is of another type.
    """
    return [string(item) for item in array(value)]
