"""The upstream APIs, spoken in both directions; pure, no I/O."""

from .base import Call, Dialect, Outgoing, Translator

__all__ = ["Call", "Dialect", "Outgoing", "Translator"]
