"""Functions of the host's that see the texts of requests and replies, and may refuse or replace them."""

from __future__ import annotations

from .guard import Block, Guard, Note, Replace, Texts, Verdict

__all__ = ["Block", "Guard", "Note", "Replace", "Texts", "Verdict"]
