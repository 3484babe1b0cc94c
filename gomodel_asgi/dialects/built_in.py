"""The dialects that come with the package, each imported when a request first needs it."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .base import Dialect

CLASSES = {"chat": "ChatDialect", "anthropic": "AnthropicDialect", "gemini": "GeminiDialect"}


@cache
def built_in(name: str) -> Dialect:
    """The dialect of this name."""
    dialect: Dialect = getattr(import_module(f".{name}", __package__), CLASSES[name])()
    return dialect
