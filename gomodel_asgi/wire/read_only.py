"""Dicts and lists that cannot be changed, for what a policy sees: the error of a change says what to do instead.

They are dicts and lists, and read as such: `isinstance`, `==`, `match`, `json`, msgspec, pydantic.
A copy of one (`copy()`, a slice, `|`, `+`, `copy.copy`) is a plain one that holds the same values; pickle and
`copy.deepcopy` give plain ones to any depth. What goes around their own methods (`dict.update(body, …)`) changes them.
"""

from __future__ import annotations

from typing import Any, NoReturn

REFUSAL = (
    "This is read-only, and what is sent does not come from it: return Target(params=…) to change members of the body, "
    "or work on copy.deepcopy(request.body)."
)


def _refused(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
    """:raises TypeError: always."""
    raise TypeError(REFUSAL)


class ReadOnlyDict(dict[str, Any]):
    """A dict of which every method that would change it raises TypeError. Made by `read_only`."""

    __slots__ = ()

    __init__ = __setitem__ = __delitem__ = __ior__ = _refused
    clear = pop = popitem = setdefault = update = _refused

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return plain(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (plain(self),)


class ReadOnlyList(list[Any]):
    """A list of which every method that would change it raises TypeError. Made by `read_only`."""

    __slots__ = ()

    __init__ = __setitem__ = __delitem__ = __iadd__ = __imul__ = _refused
    append = clear = extend = insert = pop = remove = reverse = sort = _refused

    def __copy__(self) -> list[Any]:
        return list(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return plain(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (plain(self),)


SCALARS = frozenset({str, int, float, bool, type(None)})


def read_only(value: Any) -> Any:
    """Returns *value* with read-only copies of its dicts and lists, to any depth. Anything else that is not a tuple
    stays as it is."""
    if isinstance(value, ReadOnlyDict | ReadOnlyList):
        return value
    if isinstance(value, dict):
        made = ReadOnlyDict.__new__(ReadOnlyDict)
        dict.update(made, {name: one if type(one) in SCALARS else read_only(one) for name, one in value.items()})
        return made
    if isinstance(value, list):
        items = ReadOnlyList.__new__(ReadOnlyList)
        list.extend(items, [one if type(one) in SCALARS else read_only(one) for one in value])
        return items
    return tuple(map(read_only, value)) if type(value) is tuple else value


def plain(value: Any) -> Any:
    """Returns *value* with its dicts and lists copied, to any depth, so that they can be changed."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return tuple(map(plain, value)) if type(value) is tuple else value
