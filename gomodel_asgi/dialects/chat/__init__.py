"""Chat Completions (`/chat/completions`), as OpenAI defined it and as everyone else understood it."""

from .dialect import ChatDialect

__all__ = ["ChatDialect"]
