"""JSON Schema for Anthropic: what it cannot keep to is told to the model, or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gomodel_asgi.dialects.anthropic import AnthropicDialect
from gomodel_asgi.dialects.base import Call
from gomodel_asgi.errors import InvalidRequest

Json = dict[str, Any]


def sent(schema: Json, unsupported: Any = "auto", **body: Any) -> Json:
    format = {"type": "json_schema", "name": "x", "schema": schema}
    given = {"model": "m", "input": "hi", "text": {"format": format}, **body}
    call = Call("create", given, "claude-sonnet-4-5", False, "claude", "anthropic", unsupported)
    return json.loads(AnthropicDialect().request(call).body)  # type: ignore[no-any-return]


def kept(schema: Json, unsupported: Any = "auto") -> Json:
    return sent(schema, unsupported)["output_config"]["format"]["schema"]  # type: ignore[no-any-return]


def of(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, {"type": "integer"}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"enum": ["a", "b"], "default": "a"}, {"enum": ["a", "b"], "default": "a"}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "format": "uuid"}),
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^a"}),
        ({"type": "integer", "minimum": -9}, {"type": "integer", "description": "{minimum: -9}"}),
        (
            {"type": "string", "description": "A name.", "maxLength": 9, "format": "ssn"},
            {"type": "string", "description": 'A name.\n\n{maxLength: 9, format: "ssn"}'},
        ),
        ({"type": "array", "items": {}, "minItems": 1}, {"type": "array", "items": {}, "minItems": 1}),
        (
            {"type": "array", "items": {"type": "number", "maximum": 1}, "minItems": 2},
            {
                "type": "array",
                "items": {"type": "number", "description": "{maximum: 1}"},
                "description": "{minItems: 2}",
            },
        ),
        ({"oneOf": [{"type": "string"}, {"$ref": "#/x"}]}, {"anyOf": [{"type": "string"}, {"$ref": "#/x"}]}),
        (
            {"type": "object", "properties": {"minimum": {"type": "string"}}},
            {"type": "object", "properties": {"minimum": {"type": "string"}}, "additionalProperties": False},
        ),
    ],
)  # fmt: skip
def test_types_and_structure_are_sent_and_bounds_are_told(schema: Json, expected: Json) -> None:
    assert kept(of(x=schema)) == of(x=expected)


def test_definitions_are_treated_alike() -> None:
    schema = {**of(x={"$ref": "#/$defs/y"}), "$defs": {"y": {"type": "integer", "minimum": 1}}}

    assert kept(schema)["$defs"] == {"y": {"type": "integer", "description": "{minimum: 1}"}}


@pytest.mark.parametrize("open", [{"type": "object", "additionalProperties": {"type": "string"}},
                                  {"type": "object", "additionalProperties": True}])  # fmt: skip
def test_a_schema_of_members_of_any_name_is_refused(open: Json) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(of(x={"type": "array", "items": open}))
    assert refused.value.param == "text.format"


def test_bounds_are_refused_or_left_out_where_the_provider_says_so() -> None:
    schema = of(x={"type": "integer", "minimum": 1})
    with pytest.raises(InvalidRequest) as refused:
        kept(schema, "reject")
    assert refused.value.param == "text.format.schema"
    assert kept(schema, "drop") == of(x={"type": "integer"})


@pytest.mark.parametrize("strict", [True, False, None])
def test_only_the_parameters_of_a_strict_function_are_changed(strict: bool | None) -> None:
    schema = of(x={"type": "integer", "minimum": 1})
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": strict}
    (found,) = sent(of(x={}), tools=[tool])["tools"]

    told = of(x={"type": "integer", "description": "{minimum: 1}"})
    assert found["input_schema"] == (told if strict else schema)
    assert found.get("strict") is (True if strict else None)


def test_a_strict_function_whose_schema_cannot_be_kept_is_offered_without() -> None:
    tool = {
        "type": "function",
        "name": "f",
        "strict": True,
        "parameters": {"type": "object", "additionalProperties": True},
    }
    (found,) = sent(of(x={}), tools=[tool])["tools"]

    assert "strict" not in found and found["input_schema"]["additionalProperties"] is True


# What the API refuses whatever it says...

RING = {"$ref": "#/$defs/node"}


@pytest.mark.parametrize(
    "schema",
    [
        of(x={"$ref": "#"}),
        {**of(x=RING), "$defs": {"node": of(next={"anyOf": [RING, {"type": "null"}]})}},
        {**of(x=RING), "$defs": {"node": of(a={"$ref": "#/$defs/a~1b"}), "a/b": {"type": "array", "items": RING}}},
        {**of(x={"$ref": "#/definitions/node"}), "definitions": {"node": of(x={"$ref": "#/definitions/node"})}},
        of(x={"$ref": "https://schemas.test/x.json"}),
    ],
    ids=["the root", "a definition", "each other", "older definitions", "elsewhere"],
)
def test_a_schema_that_refers_to_itself_or_elsewhere_is_no_form_of_an_answer_and_no_strict_function(
    schema: Json,
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        sent(schema)
    assert refused.value.param == "text.format"
    assert "strict" not in function_of(schema)


def test_definitions_that_are_used_twice_do_not_refer_to_themselves() -> None:
    schema = {**of(x=RING, y=RING), "$defs": {"node": of(z={"$ref": "#/$defs/leaf"}), "leaf": {"type": "string"}}}

    assert kept(schema) == schema and function_of(schema)["strict"] is True


@pytest.mark.parametrize("pattern", [r"^(?!\.)a", r"a(?=b)", r"(?<=a)b", r"(?<!a)b", r"(a)\1", r"\bword\b"])
def test_a_pattern_of_more_than_a_regular_language_is_told(pattern: str) -> None:
    assert kept(of(x={"type": "string", "pattern": pattern})) == of(
        x={"type": "string", "description": "{pattern: %s}" % json.dumps(pattern)}
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"properties": []},
        {"$defs": 3},
        {"anyOf": 5},
        {"items": [{"type": "string"}]},
        {"definitions": "a"},
        {"format": ["uuid"]},
        {"pattern": {}},
    ],
)
def test_members_that_are_not_of_their_kind_are_told(odd: Json) -> None:
    ((name, value),) = odd.items()

    assert kept(of(x=odd)) == of(x={"description": f"{{{name}: {json.dumps(value, separators=(',', ':'))}}}"})


def test_an_object_that_may_be_null_is_closed_too() -> None:
    kind = ["object", "null"]

    assert kept(of(x={"type": kind})) == of(x={"type": kind, "additionalProperties": False})
    with pytest.raises(InvalidRequest):
        sent(of(x={"type": kind, "additionalProperties": True}))


def test_arguments_are_an_object_whatever_else_they_may_be() -> None:
    assert function_of({"type": ["object", "null"], "properties": {}}, strict=False)["input_schema"]["type"] == "object"


# How much of it the API takes...


def function_of(schema: Json, strict: bool = True) -> Json:
    tool = {"type": "function", "name": "f", "parameters": schema, "strict": strict}
    return functions(tool)[0]


def functions(*tools: Json, form: Json | None = None) -> list[Json]:
    format = {"type": "text"} if form is None else {"type": "json_schema", "name": "x", "schema": form}
    given = {"model": "m", "input": "hi", "tools": list(tools), "text": {"format": format}}
    call = Call("create", given, "claude-sonnet-4-5", False, "claude", "anthropic")
    return json.loads(AnthropicDialect().request(call).body)["tools"]  # type: ignore[no-any-return]


def strict(number: int, schema: Json) -> Json:
    return {"type": "function", "name": f"f{number}", "parameters": schema, "strict": True}


MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
PLAIN = of(x={"type": "string"})


@pytest.mark.parametrize(
    ("schema", "most"),
    [
        (PLAIN, 20),
        ({**of(x={}, y={}, z={}), "required": ["x"]}, 12),
        (of(x=MAYBE), 16),
        (of(x={"type": ["string", "null"]}, y={"type": "string"}), 16),
        (of(x=of(y=MAYBE, z=MAYBE)), 8),
    ],
    ids=["functions", "optional members", "unions", "several types", "below"],
)
def test_functions_beyond_what_the_api_holds_to_their_schemas_are_offered_without(schema: Json, most: int) -> None:
    found = functions(*(strict(number, schema) for number in range(most + 3)))

    assert [tool.get("strict") for tool in found] == [True] * most + [None] * 3
    assert found[-1]["input_schema"] == schema


def test_a_function_that_fits_is_strict_behind_one_that_does_not() -> None:
    large = of(**{f"x{number}": MAYBE for number in range(17)})

    assert [tool.get("strict") for tool in functions(strict(1, large), strict(2, PLAIN))] == [None, True]


def test_the_form_of_the_answer_counts_first() -> None:
    form = of(**{f"x{number}": MAYBE for number in range(15)})
    found = functions(strict(1, of(x=MAYBE)), strict(2, of(x=MAYBE)), strict(3, PLAIN), form=form)

    assert [tool.get("strict") for tool in found] == [True, None, True]


def test_what_is_not_strict_any_more_is_named_to_the_client() -> None:
    tools = [strict(number, PLAIN) for number in range(21)]
    call = Call("create", {"input": "hi", "tools": tools}, "claude-sonnet-4-5", False, "claude", "anthropic")

    assert AnthropicDialect().request(call).unsupported == ("tools[20].strict",)
