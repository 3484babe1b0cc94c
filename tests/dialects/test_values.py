"""Values of any type: what is of the right one is read, and the rest is as if it were absent."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.dialects.values import list_in, object_in, objects, string_in, strings

ANYTHING: list[Any] = [None, True, 5, 0.5, "text", [], ["a", 5, {"b": 1}], {}, {"b": 1}]


@pytest.mark.parametrize("value", ANYTHING)
def test_a_member_of_another_type_is_empty(value: Any) -> None:
    item = {"name": value}
    assert string_in(item, "name") == (value if isinstance(value, str) else "")
    assert list_in(item, "name") == (value if isinstance(value, list) else [])
    assert object_in(item, "name") == (value if isinstance(value, dict) else {})


@pytest.mark.parametrize("value", ANYTHING)
def test_of_a_list_only_what_is_of_the_right_type_is_read(value: Any) -> None:
    mixed = value == ["a", 5, {"b": 1}]
    assert strings(value) == (["a"] if mixed else [])
    assert objects(value) == ([{"b": 1}] if mixed else [])


def test_an_absent_member_is_empty() -> None:
    assert (string_in({}, "name"), list_in({}, "name"), object_in({}, "name")) == ("", [], {})
