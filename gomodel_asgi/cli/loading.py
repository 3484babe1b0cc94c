"""Finds what `module:name` names on a command line, and writes what a command has found."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from ..providers import from_env
from ..providers.provider import Provider

# Writes what a command has found: a table for people, JSON for programs.


def write_json(value: Any) -> None:
    """*value* on standard output."""
    print(json.dumps(value, indent=2))


def write_pairs(pairs: Mapping[str, object]) -> None:
    """Names and values, values aligned."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")


def write_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """*rows* under *head*, columns aligned."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def masked(key: str | None) -> str:
    """Returns enough of a key to recognise it by, and of a short one nothing."""
    if key is None:
        return "none"
    return f"…{key[-4:]}" if len(key) >= 20 else "set"


class Unusable(Exception):
    """What was given on the command line cannot be used; the message says why."""


def load(spelling: str) -> Any:
    """Returns the object that `package.module:name.of.it` names.

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


def of_django(module: str) -> Any:
    """Returns a *module* of what a Django project has of us. It is loaded by its name, as Django loads it: nothing here
    may need Django."""
    return import_module(f"gomodel_asgi.contrib.django.{module}")


# `providers`: what `from_env` finds, keys masked.


HEAD = ("name", "type", "dialect", "base URL", "key", "models")
NOTHING = "The environment configures no provider: set OPENAI_API_KEY, OLLAMA_BASE_URL or another of their kind."


def run(given: Namespace) -> int:
    """Prints the providers that the environment configures; returns 1 if there is none, or one is incomplete."""
    try:
        found, problem = from_env(), None
    except ValueError as error:
        found, problem = [], str(error)
    if not found and problem is None:
        problem = NOTHING
    rows = [_row(provider) for provider in found]
    if given.json:
        write_json({"providers": rows, "problem": problem})
    else:
        if rows:
            write_table(HEAD, [[*list(row.values())[:-1], ", ".join(row["models"])] for row in rows])
        if problem is not None:
            print(problem)
    return 0 if problem is None else 1


def _row(provider: Provider) -> dict[str, Any]:
    key = provider.api_key if isinstance(provider.api_key, str) else None
    return {
        "name": provider.name,
        "type": provider.type,
        "dialect": provider.dialect_name,
        "base_url": provider.address,
        "key": masked(key),
        "models": list(provider.models),
    }
