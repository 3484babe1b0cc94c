"""Refuses what is given where something else is wanted: each message names the argument and says what to give, and none
quotes a value, which may be a secret."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from inspect import iscoroutinefunction
from types import UnionType
from typing import Any


def refusal(name: str, wanted: str, value: object) -> TypeError:
    """Returns the error for an argument *name* that was given a *value* of a wrong type."""
    return TypeError(f"{name}: give {wanted}, not {_called(value)}.")


def check_instance(name: str, value: object, kind: type | UnionType, wanted: str) -> None:
    """Refuses what is no *kind*.

    :raises TypeError: *value* is of another type.
    """
    if not isinstance(value, kind):
        raise refusal(name, wanted, value)


def check_string(name: str, value: object, wanted: str = "a string") -> None:
    """Refuses what is no string.

    :raises TypeError: *value* is of another type.
    """
    check_instance(name, value, str, wanted)


def check_flags(**flags: object) -> None:
    """Refuses flags that are neither True nor False: a text such as "no" would count as True.

    :raises TypeError: one of them is of another type.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise refusal(name, "True or False", value)


def check_function(name: str, value: object, wanted: str = "a function") -> None:
    """Refuses what cannot be called.

    :raises TypeError: *value* is no function.
    """
    if not callable(value):
        raise refusal(name, wanted, value)


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Returns whether calling *function* gives a coroutine, also where it is a partial or an object with `__call__`."""
    while isinstance(function, partial):
        function = function.func
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def check_plain_function(name: str, value: Any, instead: str = "give a plain function") -> None:
    """Refuses what cannot be called, and what would have to be awaited; *instead* says what to give.

    :raises TypeError: *value* is no function, or an async one.
    """
    check_function(name, value)
    if is_coroutine_function(value):
        raise TypeError(f"{name}: {instead}. Nobody awaits here what an async function returns.")


def check_plain_functions(**functions: Any) -> None:
    """Refuses what is neither a plain function nor None.

    :raises TypeError: one of them is of another type, or async.
    """
    for name, value in functions.items():
        if value is not None:
            check_plain_function(name, value)


def check_functions(**functions: object) -> None:
    """Refuses what is neither a function nor None.

    :raises TypeError: one of them is of another type.
    """
    for name, value in functions.items():
        if value is not None:
            check_function(name, value)


def check_protocol(name: str, value: object, protocol: type, wanted: str) -> None:
    """Refuses what lacks a member of *protocol*. A class has them all, and is none of its own objects.

    :raises TypeError: one is missing.
    """
    if isinstance(value, type) or not all(hasattr(value, member) for member in _demanded(protocol)):
        raise refusal(name, wanted, value)


@cache
def _demanded(protocol: type) -> frozenset[str]:
    return frozenset(name for name in (*vars(protocol), *protocol.__annotations__) if not name.startswith("_"))


def check_seconds(name: str, value: Any, *, above_zero: bool = False) -> None:
    """Refuses what is no time in seconds.

    :raises TypeError: *value* is no number.
    :raises ValueError: it is below zero, or none; or, *above_zero*, not above it or without end.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(name, "seconds, a number", value)
    if not value >= 0:
        raise ValueError(f"{name}: give seconds, not below zero.")
    if above_zero and not 0 < value < math.inf:
        raise ValueError(f"{name}: give seconds above zero, and not without end.")


def check_count(name: str, value: Any, *, at_least: int = 0) -> None:
    """Refuses what is no whole number, or less than *at_least*.

    :raises TypeError: *value* is of another type.
    :raises ValueError: it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal(name, "a whole number", value)
    if value < at_least:
        wanted = "a number that is not below zero" if at_least == 0 else f"a number of at least {at_least}"
        raise ValueError(f"{name}: give {wanted}.")


def check_one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Refuses what is none of *known*. Only what could be meant as one of them is quoted.

    :raises TypeError: *value* is no string.
    :raises ValueError: it is another string.
    """
    known = tuple(known)
    wanted = f"one of {', '.join(map(repr, known))}"
    if not isinstance(value, str):
        raise refusal(name, wanted, value)
    if value not in known:
        raise ValueError(f"{name}: give {wanted}, not {value[:40]!r}.")


def listed(name: str, value: Any, wanted: str) -> tuple[Any, ...]:
    """Returns *value* as a tuple.

    :raises TypeError: it is one thing, and no list of them.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refusal(name, wanted, value)
    return tuple(value)


def strings(name: str, value: Any) -> tuple[str, ...]:
    """Returns *value*, a list of strings, as a tuple.

    :raises TypeError: it is something else, one string among others.
    """
    if isinstance(value, str):
        raise TypeError(f"{name}: give a list of strings, not one string.")
    found = listed(name, value, "a list of strings")
    for one in found:
        if not isinstance(one, str):
            raise refusal(name, "strings alone in the list", one)
    return found


def texts(name: str, value: Any) -> dict[str, str]:
    """Returns *value*, a mapping of strings to strings, as a dict.

    :raises TypeError: it is something else.
    """
    check_instance(name, value, Mapping, "a mapping of strings to strings")
    found = dict(value)
    for key, text in found.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise refusal(name, "a mapping of strings to strings", text if isinstance(key, str) else key)
    return found


def members(name: str, value: Any) -> dict[str, Any]:
    """Returns *value*, a mapping whose names are strings, as a dict.

    :raises TypeError: it is something else.
    """
    check_instance(name, value, Mapping, "a mapping of names to values")
    found = dict(value)
    for key in found:
        if not isinstance(key, str):
            raise refusal(name, "a mapping whose names are strings", key)
    return found


def _called(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
