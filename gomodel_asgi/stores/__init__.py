"""Where what must be remembered between requests is kept: bytes under keys."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..seams.store import NoStore, Record, Store
from .memory import MemoryStore

if TYPE_CHECKING:
    from .encrypted import Encrypted
    from .key_value import KeyValueStore
    from .postgres import PostgresStore
    from .redis import RedisStore

__all__ = ["Encrypted", "KeyValueStore", "MemoryStore", "NoStore", "PostgresStore", "Record", "RedisStore", "Store"]

# Each needs a library of its own, which is imported when the name is first used.
LAZY = {"Encrypted": "encrypted", "KeyValueStore": "key_value", "PostgresStore": "postgres", "RedisStore": "redis"}


def __getattr__(name: str) -> Any:
    """Imports what needs an extra when it is first used.

    :raises AttributeError: there is no such name.
    """
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
