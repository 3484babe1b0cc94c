"""The gemini dialect: the Responses API in front of Google's generateContent."""

from __future__ import annotations

from .request import GeminiDialect

__all__ = ["GeminiDialect"]
