"""A policy, asked for its Target or for what it knows without a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from ..arguments import refusal
from ..providers.provider import is_pattern
from ..threads import call
from .request import AsyncPolicy, Policy, RoutingRequest
from .target import Target


def checked(policy: Any, name: str = "policy") -> Any:
    """Returns *policy*, which was given as the argument *name*.

    :raises TypeError: it is no function, or a class.
    """
    if isinstance(policy, type) or not callable(policy):
        raise refusal(name, "a function that takes a RoutingRequest and returns a Target", policy)
    return policy


async def ask_policy(policy: Policy, request: RoutingRequest) -> Target:
    """Returns the answer of *policy*, which may be a plain function.

    :raises RoutingError: and whatever else the policy raises.
    """
    target: Target = await call(policy, request)
    return target


# A policy may say what it knows: `models` are the names for the list of models, `targets` all that it may answer,
# `made_of` the policies inside of it. What `gomodel_asgi.policies` makes of others says what these say.


Names = Iterable[str] | Callable[[RoutingRequest], Iterable[str] | Awaitable[Iterable[str]]]


async def names_of(policy: Policy, request: RoutingRequest) -> tuple[str, ...]:
    """Returns the models that *policy* names in full: those in its attribute `models`, a list of names or a plain or
    async function of the request that gives one. Patterns in it name none.

    :raises TypeError: it gives something else.
    """
    given = _given(policy)
    found: Any = await call(given, request) if callable(given) else given
    names = () if isinstance(found, str) else tuple(found)
    if isinstance(found, str) or not all(isinstance(name, str) for name in names):
        raise TypeError("A policy's `models` must give a list of names.")
    return tuple(name for name in names if not is_pattern(name))


def naming(policy: AsyncPolicy, models: Names) -> AsyncPolicy:
    """Returns *policy* with *models* as what it names."""
    policy.models = models  # type: ignore[attr-defined]
    return policy


def aiming(policy: AsyncPolicy, targets: Iterable[Target]) -> AsyncPolicy:
    """Returns *policy* with *targets* as all that it may answer."""
    policy.targets = tuple(targets)  # type: ignore[attr-defined]
    return policy


def naming_as(policy: AsyncPolicy, *inner: Policy) -> AsyncPolicy:
    """Returns *policy*, which is made of *inner*, naming what they name."""
    policy.made_of = inner  # type: ignore[attr-defined]

    async def names(request: RoutingRequest) -> list[str]:
        return [name for one in inner for name in await names_of(one, request)]

    return naming(policy, names)


def _given(policy: Any) -> Names:
    """Returns the attribute `models`; a plain policy stands inside of what runs it in a thread."""
    while (found := getattr(policy, "models", None)) is None and isinstance(policy, partial):
        policy = _inside(policy)
    return () if found is None else found


def _inside(policy: partial[Any]) -> Any:
    return policy.args[0] if policy.func is call else policy.func


def targets_of(policy: Any) -> tuple[Target, ...]:
    """Returns the Targets that are known without asking *policy*: those in its attribute `targets`, and what those have
    that it is made of. Of a function that decides for itself none are known."""
    while (found := getattr(policy, "targets", None)) is None and isinstance(policy, partial):
        policy = _inside(policy)
    own = found if isinstance(found, Iterable) else ()  # a host's own object may call something else so
    inner = [target for one in getattr(policy, "made_of", ()) for target in targets_of(one)]
    return (*(one for one in own if isinstance(one, Target)), *inner)


def name_of(policy: Any) -> str:
    """Returns what *policy* is called where it was written, what others are made of in brackets."""
    while isinstance(policy, partial):
        policy = _inside(policy)
    name = getattr(policy, "__qualname__", type(policy).__qualname__).partition(".<locals>")[0]
    inner = ", ".join(map(name_of, getattr(policy, "made_of", ())))
    module = getattr(policy, "__module__", type(policy).__module__)
    return f"{name}({inner})" if module == "gomodel_asgi.policies" and name != "hint" else f"{module}.{name}"
