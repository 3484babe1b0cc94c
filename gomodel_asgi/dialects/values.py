"""Values out of JSON that a stranger sent.

What must be right is read by functions that refuse anything else, so that every dialect words a refusal alike and names
the same paths; of what may be anything as much is read as is of the right type, and the rest is as if it were absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest

Json = dict[str, Any]

NAMES_OF_TYPES: dict[type, str] = {str: "a string", dict: "an object", list: "an array", int: "an integer"}


def malformed(path: str, problem: str) -> InvalidRequest:
    """Returns the error for the value at *path*; *problem* completes the sentence "`path` ..."."""
    return InvalidRequest(f"`{path}` {problem}.", code="invalid_value", param=path)


def expect(value: Any, kind: type, path: str) -> Any:
    """Returns *value* if it is of this JSON type (`str`, `dict`, `list`, `int`).

    :raises InvalidRequest: it is not; *param* is *path*.
    """
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise malformed(path, "is required" if value is None else f"must be {NAMES_OF_TYPES[kind]}")


def string(item: Mapping[str, Any], name: str, path: str) -> str:
    """Returns the string *name* of the object at *path*.

    :raises InvalidRequest: it is missing, or no string.
    """
    value: str = expect(item.get(name), str, f"{path}.{name}")
    return value


def optional_string(item: Mapping[str, Any], name: str, path: str) -> str | None:
    """Returns the string *name* of the object at *path*, None where it is absent or null.

    :raises InvalidRequest: it is no string.
    """
    return None if item.get(name) is None else string(item, name, path)


def number(members: Mapping[str, Any], name: str) -> float | int | None:
    """Returns the member *name* as a number, None where it is absent.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise malformed(name, "must be a number")


def integer(members: Mapping[str, Any], name: str) -> int | None:
    """Returns the member *name* as an integer, None where it is absent; `1024.0` is one.

    :raises InvalidRequest: it is something else.
    """
    value = number(members, name)
    if value is None or isinstance(value, int):
        return value
    if value.is_integer():
        return int(value)
    raise malformed(name, "must be an integer")


def boolean(members: Mapping[str, Any], name: str) -> bool | None:
    """Returns the member *name* as a boolean, None where it is absent.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise malformed(name, "must be a boolean")


def mapping(members: Mapping[str, Any], name: str, path: str = "") -> Mapping[str, Any]:
    """Returns the object *name* without its nulls, empty where it is absent. *path* is that of *members*.

    :raises InvalidRequest: it is something else.
    """
    value = members.get(name)
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {name: each for name, each in value.items() if each is not None}
    raise malformed(f"{path}.{name}" if path else name, "must be an object")


# Of whatever type...


def string_in(item: Mapping[str, Any], name: str) -> str:
    """Returns the string *name* of *item*, "" where there is none."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def list_in(item: Mapping[str, Any], name: str) -> list[Any]:
    """Returns the list *name* of *item*, empty where there is none."""
    value = item.get(name)
    return value if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """Returns the strings in a list, none where *value* is something else."""
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def object_in(item: Mapping[str, Any], name: str) -> Json:
    """Returns the object *name* of *item*, empty where there is none."""
    value = item.get(name)
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Json]:
    """Returns the objects in a list, none where *value* is something else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
