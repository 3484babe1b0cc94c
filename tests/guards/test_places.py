"""Every text of a request and of a reply is found, and can be replaced; nothing else is shown."""

from __future__ import annotations

import base64
import json
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import ResponseOutputItem, response_input_item_param
from pydantic import BaseModel

from gomodel_asgi.guards.places import IDENTIFIERS, SEALED, of_reply, of_request, replaced, spelled

SECRET = "tell-nobody"
BARE = IDENTIFIERS | SEALED | {"result", "data"}
INPUT: tuple[Any, ...] = typing.get_args(response_input_item_param.ResponseInputItemParam)
OUTPUT: tuple[Any, ...] = typing.get_args(typing.get_args(ResponseOutputItem)[0])


def masked(body: dict[str, Any], places: Iterator[tuple[Any, str]]) -> dict[str, Any]:
    found: dict[str, Any] = replaced(body, {path: text.replace(SECRET, "***") for path, text in places})
    return found


def members(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return typing.get_type_hints(kind, include_extras=False)


def filled(kind: Any, name: str = "", depth: int = 0) -> Iterator[Any]:
    """Values of *kind* as openai's own types have it, with the secret wherever a text of anybody's may stand."""
    origin, given = typing.get_origin(kind), typing.get_args(kind)
    if kind is str or kind is object or kind is Any:
        yield SECRET if name not in BARE else "x"
    elif origin is typing.Literal:
        yield given[0]
    elif origin in (typing.Annotated, typing.Required, typing.NotRequired):
        yield from filled(given[0], name, depth)
    elif origin in (list, typing.Iterable) or getattr(origin, "__name__", "") in ("Iterable", "Sequence"):
        yield [*filled(given[0], name, depth)] if depth < 6 else []
    elif origin is dict or getattr(origin, "__name__", "") == "Mapping":
        yield {"named": one} if (one := next(filled(given[1], "", depth), None)) is not None else {}
    elif given:
        for one in given:
            yield from filled(one, name, depth)
    elif isinstance(kind, type) and (hasattr(kind, "__annotations__")) and depth < 6:
        values = {each: next(filled(type, each, depth + 1), None) for each, type in members(kind).items()}
        yield {each: value for each, value in values.items() if value is not None and each not in SEALED}


@pytest.mark.parametrize("kind", INPUT, ids=lambda kind: kind.__name__)
def test_a_secret_in_any_text_of_any_item_that_openai_names_is_found_in_a_request(kind: Any) -> None:
    for item in filled(kind):
        body = {"input": [item]}
        assert SECRET not in json.dumps(masked(body, of_request(body))), item


@pytest.mark.parametrize("kind", OUTPUT, ids=lambda kind: kind.__name__)
def test_a_secret_in_any_text_of_any_item_that_openai_names_is_found_in_a_reply(kind: Any) -> None:
    for item in filled(kind):
        body = {"object": "response", "output": [item]}
        assert SECRET not in json.dumps(masked(body, of_reply(body))), item


def test_the_texts_of_a_request_are_found_wherever_they_stand() -> None:
    body = {
        "model": "m",
        "instructions": SECRET,
        "input": [
            {"role": "user", "content": SECRET},
            {"role": "user", "content": [{"type": "input_text", "text": SECRET}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": SECRET},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": SECRET}]},
            {"type": "new_kind", "anything": {"role": SECRET, "list": [SECRET]}},
        ],
        "prompt": {"id": "pmpt", "variables": {"id": SECRET, "part": {"type": "input_text", "text": SECRET}}},
        "tools": [{"type": "function", "name": "f", "description": SECRET, "parameters": {"description": SECRET}}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"description": SECRET}}},
        "metadata": {"id": SECRET},
    }
    found = masked(body, of_request(body))
    assert SECRET not in json.dumps(found) and json.dumps(found).count("***") == json.dumps(body).count(SECRET)
    assert SECRET in json.dumps(body), "the original is untouched"


@pytest.mark.parametrize("name", ["name", "id", "status", "detail", "model", "headers", "signature", "type", "data"])
@pytest.mark.parametrize("keyword", ["default", "const", "examples", "enum"])
def test_in_values_of_schemas_no_name_stands_for_anything(name: str, keyword: str) -> None:
    values: Any = {name: SECRET, "format": "x"}
    schema = {"properties": {"x": {keyword: [values] if keyword in ("examples", "enum") else values}}, "id": SECRET}
    body = {
        "tools": [{"type": "function", "name": "f", "parameters": schema}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
        "input": [{"type": "tool_search_output", "tools": [{"type": "function", "parameters": schema}]}],
    }
    assert SECRET not in json.dumps(masked(body, of_request(body)))


def test_members_of_a_schema_are_never_sound() -> None:
    schema = {"properties": {"format": {"type": "string"}, "data": {"type": "string", "description": SECRET}}}
    body = {"tools": [{"type": "function", "name": "f", "parameters": schema}]}
    assert [text for _, text in of_request(body)] == [SECRET]


@pytest.mark.parametrize("name", ["name", "id", "status", "detail", "model", "headers", "signature", "type", "data"])
def test_what_others_have_named_is_a_text_whatever_it_is_called(name: str) -> None:
    own = {name: SECRET}
    items = [
        {"type": "file_search_call", "id": "x", "results": [{"file_id": "f", "attributes": own}]},
        {"type": "mcp_list_tools", "tools": [{"name": "x", "annotations": own}]},
        {"type": "shell_call", "action": {"env": own}},
        {"type": "computer_call", "actions": [{"type": "type", "text": SECRET}]},
        {"type": "mcp_call", "error": {"type": "x", "detail": SECRET}},
    ]
    for body in ({"input": items}, {"object": "response", "output": items, "error": {"code": "x", "detail": SECRET}}):
        places = of_request(body) if "input" in body else of_reply(body)
        assert SECRET not in json.dumps(masked(body, places))


def test_what_marks_a_text_is_shown_without_its_identifiers() -> None:
    mark = {"type": "container_file_citation", "container_id": "cntr", "file_id": "cfile", "filename": SECRET}
    item = {"type": "message", "content": [{"type": "output_text", "text": "", "annotations": [mark]}]}
    assert [text for _, text in of_reply({"output": [item]}) if text] == [SECRET]


def test_credentials_and_bytes_of_files_are_shown_to_no_guard() -> None:
    body = {
        "input": [
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]},
            {"role": "user", "content": [{"type": "input_file", "file_data": SECRET}]},
            {"type": "reasoning", "encrypted_content": SECRET, "summary": []},
        ],
        "tools": [{"type": "mcp", "authorization": SECRET, "headers": {"a": SECRET}, "server_url": SECRET}],
    }
    assert not [text for _, text in of_request(body) if text != "f"]


def test_a_path_is_spelled_as_a_reader_would_write_it() -> None:
    assert spelled(("input", 0, "content", 1, "text")) == "input[0].content[1].text"


@pytest.mark.parametrize("inner", [b"[" * 200_000 + b"]" * 200_000, b"[" + b"0," * 3_000_000 + b'"x"]'])
def test_what_is_packed_is_read_within_the_bounds_of_a_body(inner: bytes) -> None:
    packed = "gm1." + base64.urlsafe_b64encode(b'{"payload":' + inner + b"}").decode()
    assert [*of_request({"input": [{"type": "reasoning", "encrypted_content": packed}]})] == []
