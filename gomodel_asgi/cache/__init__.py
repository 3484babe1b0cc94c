"""A cache of whole answers: what a tenant has asked an account before is answered without an upstream."""

from __future__ import annotations

from .settings import ResponseCache

__all__ = ["ResponseCache"]
