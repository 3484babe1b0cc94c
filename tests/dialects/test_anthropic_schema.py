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
