"""Writes what a command has found: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def write_json(value: Any) -> None:
    """*value* on standard output."""
    print(json.dumps(value, indent=2))


def write_pairs(pairs: Mapping[str, object]) -> None:
    """Names and values, values aligned."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        print(f"{name:<{width}}  {value}")


def write_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """*rows* under *head*, columns aligned."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def masked(key: str | None) -> str:
    """Enough of a key to tell it from another, and of a short one nothing."""
    if key is None:
        return "none"
    return f"…{key[-4:]}" if len(key) >= 20 else "set"
