"""One Target in, one Reply out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exchange import Exchange
    from .job import Job, Setup
    from .reply import Reply

__all__ = ["Exchange", "Job", "Reply", "Setup"]

# Looked up when they are asked for, since the table of operations lies below what they stand on.
MODULES = {"Exchange": "exchange", "Job": "job", "Reply": "reply", "Setup": "job"}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{MODULES[name]}", __name__), name)
