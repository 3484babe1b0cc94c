"""Replies of upstreams that speak the Responses API, but not quite: made what they were meant to be."""

from .reader import NormalizingReader

__all__ = ["NormalizingReader"]
