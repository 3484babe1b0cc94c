"""Chat Completions (`/chat/completions`), as OpenAI defined it and as everyone else understood it."""

from .request import ChatDialect

__all__ = ["ChatDialect"]
