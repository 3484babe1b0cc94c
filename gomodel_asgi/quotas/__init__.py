"""Limits and budgets that hold: what a request may use is reserved before it is sent, and settled when it is over."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..seams.counters import Counters
from .memory import MemoryCounters
from .quota import Left, Quota
from .quotas import Quotas

if TYPE_CHECKING:
    from .postgres import PostgresCounters
    from .redis import RedisCounters

__all__ = ["Counters", "Left", "MemoryCounters", "PostgresCounters", "Quota", "Quotas", "RedisCounters"]

# Each needs a library of its own, which is imported when the name is first used.
LAZY = {"PostgresCounters": "postgres", "RedisCounters": "redis"}


def __getattr__(name: str) -> Any:
    """Imports what needs an extra when it is first used.

    :raises AttributeError: there is no such name.
    """
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
