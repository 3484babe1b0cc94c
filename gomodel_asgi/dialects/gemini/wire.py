"""Takes values out of JSON that a stranger sent: null and absent are empty, another type is an error.

Every function raises ValueError where the value is not what Gemini's API sends.
"""

from __future__ import annotations

from typing import Any

from ...tree import parsed

Json = dict[str, Any]


def decode(data: bytes) -> Any:
    """*data* as JSON."""
    try:
        return parsed(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


def record(value: Any) -> Json:
    """An object."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def records(value: Any) -> list[Json]:
    """A list of objects."""
    return [record(item) for item in array(value)]


def array(value: Any) -> list[Any]:
    """A list."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def string(value: Any) -> str:
    """A string."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def strings(value: Any) -> list[str]:
    """A list of strings."""
    return [string(item) for item in array(value)]


def count(value: Any) -> int:
    """A number of something; protobuf's JSON may spell it as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("not a count")
    return value
