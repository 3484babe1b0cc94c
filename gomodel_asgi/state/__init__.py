"""What must be remembered between requests, and where: stores, and whose a response is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .memory import MemoryStore
from .ownership import Owner, Ownership
from .store import NoStore, Record, Store

if TYPE_CHECKING:
    from .key_value import KeyValueStore
    from .postgres import PostgresStore
    from .redis import RedisStore
    from .sealing import Encrypted

__all__ = [
    "Encrypted",
    "KeyValueStore",
    "MemoryStore",
    "NoStore",
    "Owner",
    "Ownership",
    "PostgresStore",
    "Record",
    "RedisStore",
    "Store",
]

# Each needs a library of its own, which is imported when the name is first used.
LAZY = {"Encrypted": "sealing", "KeyValueStore": "key_value", "PostgresStore": "postgres", "RedisStore": "redis"}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{LAZY[name]}", __name__), name)
