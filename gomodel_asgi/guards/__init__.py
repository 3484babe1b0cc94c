"""Functions of the host's that see what is said, both ways, and may refuse or replace it."""

from __future__ import annotations

from .guard import Block, Guard, Note, Replace, Texts, Verdict

__all__ = ["Block", "Guard", "Note", "Replace", "Texts", "Verdict"]
