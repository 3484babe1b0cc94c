"""`providers`: what `from_env` finds, keys masked."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ..providers import from_env
from ..providers.provider import Provider
from .output import masked, write_json, write_table

HEAD = ("name", "type", "dialect", "base URL", "key", "models")
NOTHING = "The environment configures no provider: set OPENAI_API_KEY, OLLAMA_BASE_URL or another of their kind."


def run(given: Namespace) -> int:
    """1 if there is none, or one is configured by half."""
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
        "dialect": dialect_of(provider),
        "base_url": provider.address,
        "key": masked(key),
        "models": list(provider.models),
    }


def dialect_of(provider: Provider) -> str:
    """The name of the API that *provider* speaks."""
    return provider.dialect if isinstance(provider.dialect, str) else provider.dialect.name
