"""What a target cannot carry, and what happens then: refused by name, or left out and listed.

Also the two ways to say that a request is malformed, so that every room words them alike and names the same paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ..errors import InvalidRequest

Json = dict[str, Any]

NAMES_OF_TYPES: dict[type, str] = {str: "a string", dict: "an object", list: "an array", int: "an integer"}


class Losses:
    """Collects what one request loses on its way to a target. *policy* is `Call.unsupported`."""

    def __init__(self, policy: Literal["reject", "drop"]) -> None:
        self.policy = policy
        self.dropped: list[str] = []

    def add(self, path: str, what: str) -> None:
        """The target cannot carry the value at *path*; *what* says in a few words what it is.

        :raises InvalidRequest: the policy is `"reject"`; *param* is *path*.
        """
        if self.policy == "reject":
            raise InvalidRequest(
                f"This provider does not support {what}. Leave it out, or choose a provider that does.",
                code="unsupported_parameter",
                param=path,
            )
        self.note(path)

    def note(self, path: str) -> None:
        """Leave out the value at *path* whatever the policy says: the answer does not depend on it."""
        if path not in self.dropped:
            self.dropped.append(path)


def malformed(path: str, problem: str) -> InvalidRequest:
    """The error for the value at *path*; *problem* completes the sentence "`path` ..."."""
    return InvalidRequest(f"`{path}` {problem}.", code="invalid_value", param=path)


def expect(value: Any, kind: type, path: str) -> Any:
    """*value*, if it is of this JSON type (`str`, `dict`, `list`, `int`).

    :raises InvalidRequest: it is not; *param* is *path*.
    """
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise malformed(path, "is required" if value is None else f"must be {NAMES_OF_TYPES[kind]}")


def string(item: Mapping[str, Any], name: str, path: str) -> str:
    """The member *name* of the object at *path*, which must be a string that is there."""
    value: str = expect(item.get(name), str, f"{path}.{name}")
    return value


def optional_string(item: Mapping[str, Any], name: str, path: str) -> str | None:
    """Like `string`, but None where the member is absent or null."""
    return None if item.get(name) is None else string(item, name, path)
