"""Values of the kinds that openai's own types name, with something in each of their strings."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

Leaf = Callable[..., str]
"""What stands in a string, by the names of the members that lead to it."""
DEEPEST = 7
LISTS = ("list", "List", "Iterable", "Sequence", "SequenceNotStr")


def every(kind: Any, leaf: Leaf, *path: str) -> list[Any]:
    """Values of *kind* that have among them each alternative of each member once, at least."""
    origin, given = typing.get_origin(kind), typing.get_args(kind)
    known = getattr(origin, "__name__", "")
    if kind in (str, object, Any):
        return [leaf(*path)]
    if kind in (int, float, bool):
        return [kind(1)]
    if kind in (None, type(None)) or len(path) > DEEPEST:
        return []
    if origin is typing.Literal:
        return [given[0]]
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return every(given[0], leaf, *path)
    if known in LISTS:
        return [found] if (found := every(given[0], leaf, *path)) else []
    if known in ("dict", "Dict", "Mapping"):
        return [{f"named{number}": one for number, one in enumerate(every(given[1], leaf, *path))}]
    if given:  # a union
        return [value for one in given for value in every(one, leaf, *path)]
    if isinstance(kind, type) and (members := members_of(kind)):
        return _objects(members, leaf, *path)
    return [leaf(*path)] if kind is not bytes else []


def members_of(kind: type) -> dict[str, Any]:
    """The members of an object, with their kinds."""
    if issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return typing.get_type_hints(kind) if hasattr(kind, "__annotations__") else {}


def _objects(members: dict[str, Any], leaf: Leaf, *path: str) -> list[Any]:
    choices = {name: every(kind, leaf, *path, name) for name, kind in members.items()}
    choices = {name: found for name, found in choices.items() if found}
    count = max((len(found) for found in choices.values()), default=1)
    return [{name: found[number % len(found)] for name, found in choices.items()} for number in range(count)]
