"""What makes Python values of JSON that others wrote: one parser, which no number holds up."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import BuiltinMethodType
from typing import Any

import msgspec
import pytest

from gomodel_asgi.wire import json_scan

from ..test_imports import FILES, ROOT, name_of

OURS = {ROOT / "testing", ROOT / "cli"}  # what these parse is the host's own


def served() -> list[Path]:
    """The modules that see what clients and upstreams send."""
    return [path for path in FILES if OURS.isdisjoint(path.parents) and not {"contrib", "__main__.py"} & {*path.parts}]


@pytest.mark.parametrize("path", served(), ids=name_of)
def test_values_of_any_kind_are_read_by_the_one_parser_whose_numbers_cost_little(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    known = vars(importlib.import_module(name_of(path)))
    for call in calls:
        if ast.unparse(call.func) == "msgspec.json.decode":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert not builds_anything(eval(given.get("type", "Any"), {"Any": Any}, known)), ast.unparse(call)
    for name, value in known.items():
        parser = value.__self__ if type(value) is BuiltinMethodType else value
        if type(parser) is msgspec.json.Decoder and builds_anything(parser.type):
            assert parser.float_hook is json_scan.number, f"{name} takes 6 µs for a float that is hard to round"


def builds_anything(kind: Any) -> bool:
    return "AnyType()" in repr(msgspec.inspect.type_info(kind))


@pytest.mark.parametrize("text", ["9e-320", "1.2345678901234567e-301", "0.1", "-0.0", "1E+2", "5e-324", "1e-999"])
def test_a_number_reads_as_python_reads_it(text: str) -> None:
    found = json_scan.tree(f"[{text}]".encode())[0]
    assert repr(found) == repr(float(text))


@pytest.mark.parametrize("text", ["1e400", "-1e400"])
def test_a_number_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        json_scan.tree(text.encode())
