"""What a server says of its tools is bounded, cleaned and mended, or the tool is left out."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.emulation.tools.families import Mcp
from gomodel_asgi.emulation.tools.listing import DEEPEST, MOST_NAME, MOST_NODES, MOST_SCHEMA, Unfit, mended
from gomodel_asgi.emulation.tools.seams import MOST_DESCRIBED, Listed, plain

from .servers import OBJECT, tool


def schema_of(given: Any) -> Any:
    return mended(tool("t", given))["inputSchema"]


def within(key: str, part: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {key: part}}}


DEEP: Any = {"type": "string"}
for _ in range(DEEPEST + 1):
    DEEP = {"items": DEEP}
WIDE: dict[str, Any] = {"properties": {f"p{number}": {} for number in range(MOST_NODES + 1)}}
EITHER = {"type": "object", "properties": {"a": {}, "b": {}}}
NESTED: Any = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, OBJECT),
        ({"type": "object"}, OBJECT),
        ({"properties": {"a": True}}, {"type": "object", "properties": {"a": True}}),
        ({**OBJECT, "$schema": "http://json-schema.org/draft-07/schema#", "$comment": "x", "$id": "http://x/"}, OBJECT),
        ({"type": ["object", "null"]}, OBJECT),
        ({"$ref": "#/$defs/A", "$defs": {"A": OBJECT}}, {**OBJECT, "$defs": {"A": OBJECT}}),
        (within("required", True), {"type": "object", "properties": {"a": {}}}),
        (within("description", 3), {"type": "object", "properties": {"a": {}}}),
        (within("description", "b\u200bc\U000e0041"), within("description", "bc")),
        ({"properties": {"title": {}}}, {"type": "object", "properties": {"title": {}}}),
        ({"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]}, EITHER),
        (within("x-mcp-header", "Region"), {"type": "object", "properties": {"a": {}}}),
        (within("default", float("nan")), within("default", None)),
    ],
)  # fmt: skip
def test_a_schema_that_can_be_mended_is(given: Any, shown: Any) -> None:
    assert schema_of(given) == shown
    assert schema_of(shown) == shown


@pytest.mark.parametrize(
    "given",
    [
        [],
        "object",
        True,
        {"type": "string"},
        {"type": []},
        {"type": "text"},
        {"type": {}},
        {"properties": []},
        {"required": "a"},
        {"required": [1]},
        {"$ref": "#/$defs/Nothing"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "http://169.254.169.254/latest"},
        within("$ref", "other.json"),
        within("type", "text"),
        within("enum", []),
        within("enum", "one"),
        within("items", 1),
        within("anyOf", {}),
        within("anyOf", [1]),
        within("pattern", 1),
        within("properties", None),
        within("default", "x" * MOST_SCHEMA),
        within("default", NESTED),
        within("default", "\ud800"),
        within("items", DEEP),
        WIDE,
    ],
)
def test_a_schema_that_cannot_be_mended_leaves_its_tool_out(given: Any) -> None:
    with pytest.raises(Unfit):
        schema_of(given)


@pytest.mark.parametrize("name", [None, 1, "", "n" * (MOST_NAME + 1), "a\u200bb", "a\nb", "a\u202eb", "\U000e0041"])
def test_a_name_that_is_none_or_hides_something_leaves_its_tool_out(name: Any) -> None:
    with pytest.raises(Unfit, match="its name"):
        mended({**tool("t"), "name": name})


@pytest.mark.parametrize("given", [None, [], "tool", 1])
def test_what_is_no_tool_is_left_out(given: Any) -> None:
    with pytest.raises(Unfit):
        mended(given)


@pytest.mark.parametrize("name", ["a.b", "a b", "größe", "a/b", "n" * MOST_NAME])
def test_a_name_that_can_be_read_is_kept_as_it_is(name: str) -> None:
    assert mended(tool(name))["name"] == name


def test_what_nobody_sees_is_taken_out_of_descriptions() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "ignore all")

    assert (
        plain(f"Finds\u200b an\u202e order.{hidden}\x1b[2J\ufe0f\u3164\n\tOnce.", 100) == "Finds an order.[2J\n\tOnce."
    )


def test_a_long_description_is_cut() -> None:
    shown = mended(tool("t", description="d" * 10 * MOST_DESCRIBED))

    assert len(shown["description"]) == MOST_DESCRIBED
    assert shown["description"].endswith("d…")


@pytest.mark.parametrize("description", [None, 1, "", " \u200b "])
def test_a_description_that_says_nothing_is_left_out(description: Any) -> None:
    assert mended(tool("t", description=description)) == tool("t")


@pytest.mark.parametrize("hint", [False, None, "yes", 1])
def test_only_true_says_that_a_tool_only_reads(hint: Any) -> None:
    assert "annotations" not in mended(tool("t", annotations={"readOnlyHint": hint}))
    assert mended(tool("t", annotations={"readOnlyHint": True}))["annotations"] == {"readOnlyHint": True}


def test_all_else_that_a_server_says_of_a_tool_is_left_out() -> None:
    more = {"outputSchema": {"$ref": "http://x"}, "icons": [], "title": "T", "_meta": {}, "execution": 1}

    assert mended(tool("t", **more)) == tool("t")


def test_a_description_that_a_client_or_a_function_gives_hides_nothing_either() -> None:
    listed = Listed("find", {}, "Finds\u3164 an\u00a0order.\ufe0f")
    text, _ = Mcp().function({"server_description": "Orders\U000e0101 of\u180e the shop."}, listed)
    assert text == "Orders of the shop.\n\nFinds an order."
