"""Finds what `module:name` names on a command line."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..gateway import Gateway

DEEPEST = 20  # wrappers around an app: more than any host has, and an end for one that wraps itself


class Unusable(Exception):
    """What was given on the command line cannot be used; the message says why."""


def load(spelling: str) -> Any:
    """The object that `package.module:name.of.it` names.

    :raises Unusable: there is none, or its module fails.
    """
    module, colon, name = spelling.partition(":")
    if not module or not colon or not name:
        raise Unusable(f"{spelling}: write it as package.module:name.")
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise Unusable(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Unusable(f"{module} has no {name}.") from None
    return found


def load_gateway(spelling: str) -> Gateway:
    """The gateway that *spelling* names, or the one inside the app that it names.

    :raises Unusable: there is none.
    """
    found = load(spelling)
    for _ in range(DEEPEST):
        if isinstance(found, Gateway):
            return found
        inner = [getattr(found, "gateway", None)]
        inner += [one.kwargs.get("gateway") for one in getattr(found, "user_middleware", ())]
        for one in inner:
            if isinstance(one, Gateway):
                return one
        found = getattr(found, "app", None)
    raise Unusable(f"{spelling} is no Gateway, and there is none in it; name the Gateway itself.")
