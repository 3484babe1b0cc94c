"""The table of operations: whole, and the only place that says what an operation is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_args

import pytest

from gomodel_asgi.contrib.openapi import OPERATIONS
from gomodel_asgi.operations import FRAMES, PLACEHOLDER, ROWS, TABLE, Operation, Row
from gomodel_asgi.server.paths import match

ROOT = Path(__file__).parents[1] / "gomodel_asgi"
HTTP = [row for row in TABLE if row.method != "WEBSOCKET"]


def test_every_operation_has_a_row() -> None:
    assert set(get_args(Operation)) == set(ROWS)


def test_a_row_says_everything_about_its_operation() -> None:
    given: dict[str, Any] = {name: getattr(ROWS["create"], name) for name in Row.__struct_fields__}
    for name in given:
        with pytest.raises(TypeError):
            Row(**{other: value for other, value in given.items() if other != name})


def test_a_row_whose_path_has_an_id_says_what_it_names() -> None:
    given: dict[str, Any] = {name: getattr(ROWS["retrieve"], name) for name in Row.__struct_fields__}
    with pytest.raises(ValueError, match="say what the ids"):
        Row(**{**given, "path_names": None})


@pytest.mark.parametrize("row", HTTP, ids=lambda row: f"{row.method} {row.path}")
def test_every_row_is_routed_to_its_operation(row: Row) -> None:
    ids = [f"id_{number}" for number, _ in enumerate(row.placeholders)]
    route = match({"type": "http", "path": "/v1" + PLACEHOLDER.sub("{}", row.path).format(*ids)}, "/v1")

    assert route is not None
    assert route.operation(row.method) == row.operation
    assert [id for id in (route.response_id, route.item_id, route.model) if id is not None] == ids


def test_the_openapi_page_shows_every_row() -> None:
    assert {(one.method, one.path) for one in OPERATIONS} == {(row.method, row.path) for row in HTTP}


def test_what_names_one_thing_at_an_upstream_asks_no_other() -> None:
    assert [row.operation for row in TABLE if row.path_names is not None and row.falls_back] == []


def test_nothing_changes_a_row() -> None:
    with pytest.raises(AttributeError):
        ROWS["create"].falls_back = False  # type: ignore[misc]


def test_what_a_websocket_carries_is_examined_like_a_body() -> None:
    assert {type: row.body is not None for type, row in FRAMES.items()} == dict.fromkeys(FRAMES, True)


def test_no_other_module_spells_out_a_set_of_operations() -> None:
    """One operation may be asked for by name; two in one display are a table of its own."""
    names = {*get_args(Operation)} - {"models", "connect", "create", "delete", "cancel", "retrieve"}
    for path in ROOT.rglob("*.py"):
        if path.name == "operations.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Set | ast.Tuple | ast.List):
                said = [one.value for one in node.elts if isinstance(one, ast.Constant) and one.value in names]
                assert len(said) < 2, f"{path}:{node.lineno}"
