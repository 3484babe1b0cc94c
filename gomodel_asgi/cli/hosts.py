"""Finds the gateway that `module:name` names, or the one inside that app: in its middlewares, mounts, routers and
views, however deep."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from ..gateway import Gateway
from ..ledger import Ledger
from .loading import Unusable, load, of_django

MOST = 10_000
"""Objects that are looked at: more than any app has, and an end for one that goes on for ever."""
WRAPPED = (
    "gateway", "app", "_app", "application", "asgi_app", "asgi_handler", "wrapped_app", "router", "original_router",
    "__wrapped__", "route_handler", "fn", "func",
)  # fmt: skip
"""Attributes under which apps keep what they pass requests on to."""
SEVERAL = ("routes", "route_handlers", "user_middleware", "middleware", "args", "endpoint")
"""Attributes that hold some of those."""
DJANGO = "django.core.handlers"


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway, and the *path* below which its app has it."""

    gateway: Gateway
    path: str = ""


@dataclass(slots=True)
class Search:
    """What has been found, and what has been looked at already."""

    found: list[Place] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    waiting: deque[tuple[Any, str]] = field(default_factory=deque)

    def add(self, value: Any, path: str) -> None:
        """Looks at *value* later, whose requests come below *path*."""
        if id(value) not in self.seen and not isinstance(value, str | bytes | int | float | ModuleType | None):
            self.seen.add(id(value))
            self.waiting.append((value, path))


def gateways_in(app: Any) -> list[Place]:
    """Returns the gateways inside of *app*, the outermost first, each once.

    :raises Exception: it is Django's, and its settings are wrong: whatever `get_gateway` raises.
    """
    search = Search()
    search.add(app, "")
    for _ in range(MOST):
        if not search.waiting:
            break
        value, path = search.waiting.popleft()
        if isinstance(value, Gateway):
            if all(value is not one.gateway for one in search.found):
                search.found.append(Place(value, path))
            continue
        for inner, below in _inside(value):
            search.add(inner, path + below)
    return search.found


def _inside(value: Any) -> Iterator[tuple[Any, str]]:
    """Yields what *value* may pass requests on to, and what it adds to their path."""
    if isinstance(value, list | tuple | set):
        yield from ((one, "") for one in value)
    elif isinstance(value, dict):
        yield from ((one, "") for one in value.values())
    elif isinstance(value, MethodType):
        yield value.__self__, ""
    elif isinstance(value, partial):
        yield from ((one, "") for one in (value.func, *value.args, *value.keywords.values()))
    elif isinstance(value, FunctionType):
        yield from ((one, "") for one in _named_in(value))
    elif type(value).__module__.startswith(DJANGO):
        yield from _of_django(value)
    else:
        yield from _members(value)


def _members(value: Any) -> Iterator[tuple[Any, str]]:
    path = getattr(value, "path", None)
    below = path.rstrip("/") if isinstance(path, str) and _mounts(value) else ""
    included = getattr(_attribute(value, "include_context"), "prefix", "")  # FastAPI's `include_router`
    below += included if isinstance(included, str) else ""
    for name in (*WRAPPED, *SEVERAL):
        inner = _attribute(value, name)
        if inner is not None:
            yield inner, below
    kwargs = _attribute(value, "kwargs")
    if isinstance(kwargs, dict):
        yield kwargs, below
    call = vars(type(value)).get("__call__")
    if isinstance(call, FunctionType):
        yield from ((one, below) for one in _named_in(call) if isinstance(one, Gateway))


def _mounts(value: Any) -> bool:
    """Returns whether the path of *value* is one that it takes from those behind it: a mount's."""
    return hasattr(value, "app") and hasattr(value, "routes") or getattr(value, "is_mount", False) is True


def _attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # a property of the host's own may do anything
        return None


def _named_in(function: FunctionType) -> Iterator[Any]:
    """Yields what *function* has around it, or names, that may be a gateway or have one."""
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    around = [_content(cell) for cell in function.__closure__ or ()]
    wrapped = getattr(function, "__wrapped__", None)
    for one in named:
        if isinstance(one, Gateway) or _passes_on(one):
            yield one
    for one in (*around, wrapped):
        if isinstance(one, Gateway | FunctionType | MethodType) or _passes_on(one):
            yield one


def _passes_on(value: Any) -> bool:
    return not isinstance(value, type | ModuleType) and any(name in _own(value) for name in ("gateway", "app"))


def _own(value: Any) -> Iterable[str]:
    return getattr(value, "__dict__", ())


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty as yet
        return None


def _of_django(handler: Any) -> Iterator[tuple[Any, str]]:
    """Django's own application: the gateway of its settings, where one of its URLs leads to the view."""
    if any(of_django("checks").views()):
        yield of_django("configuration").get_gateway(), ""


# What a command line names.


def find_gateway(spelling: str) -> list[Place]:
    """Returns the gateway that *spelling* names, or those inside the app that it names: one at least, the outermost
    first.

    :raises Unusable: there is none.
    """
    app = load(spelling)
    try:
        found = gateways_in(app)
    except Exception as error:
        raise Unusable(f"{spelling}: {type(error).__name__}: {error}") from error
    if not found:
        module = spelling.partition(":")[0]
        beside = _named_beside(module)
        others = f", such as {module}:{beside[0]}" if beside else ""
        raise Unusable(f"{spelling} is no Gateway, and there is none in it; name the Gateway itself{others}.")
    return found


def load_gateway(spelling: str) -> Gateway:
    """Returns the gateway that *spelling* names, or the outermost one inside the app that it names.

    :raises Unusable: there is none.
    """
    return find_gateway(spelling)[0].gateway


def load_ledger(spelling: str) -> Ledger:
    """Returns the ledger that *spelling* names, or that of the gateway that it names.

    :raises Unusable: there is none.
    """
    found = load(spelling)
    if isinstance(found, Ledger):
        return found
    try:
        return load_gateway(spelling).ledger
    except RuntimeError as error:
        raise Unusable(f"{spelling}: {error}") from None


def _named_beside(module: str) -> list[str]:
    """Returns the names under which *module* has gateways."""
    return [name for name, value in vars(sys.modules[module]).items() if isinstance(value, Gateway)]
