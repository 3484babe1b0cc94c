"""Input items become turns; what is malformed is named by its path."""

from __future__ import annotations

from typing import Any

import pytest

from gomodel_asgi.dialects.conversation import (
    arguments_object,
    brought_tools,
    joined_text,
    read_conversation,
)
from gomodel_asgi.dialects.losses import Losses
from gomodel_asgi.dialects.parts import Audio, File, Image, Opaque, Reasoning, Refusal, Text, ToolCall, ToolOutput, Turn
from gomodel_asgi.errors import InvalidRequest

Json = dict[str, Any]
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
READ_CALL = ToolCall("input[0]", "c1", "f", "{}")


def turns(items: Any, **body: Any) -> tuple[Turn, ...]:
    return read_conversation({"input": items, **body}, Losses("reject")).turns


def parts(*content: Json) -> tuple[Any, ...]:
    return turns([{"role": "user", "content": list(content)}])[0].parts


def test_a_string_is_what_the_user_says() -> None:
    assert turns("hi") == (Turn("user", (Text("input", "hi"),), "input"),)


@pytest.mark.parametrize("instructions", ["Be brief", [{"role": "system", "content": "Be brief"}]])
def test_instructions_come_first(instructions: Any) -> None:
    first, second = turns("hi", instructions=instructions)

    assert (first.role, joined_text(first.parts), second.role) == ("system", "Be brief", "user")


@pytest.mark.parametrize("instructions", [None, "", []])
def test_empty_instructions_are_none(instructions: Any) -> None:
    assert len(turns("hi", instructions=instructions)) == 1


@pytest.mark.parametrize("role", ["user", "system", "developer", "assistant"])
@pytest.mark.parametrize("content", ["hi", [{"type": "input_text", "text": "hi"}]])
@pytest.mark.parametrize("type", [{}, {"type": "message"}])
def test_messages_may_be_untyped_and_their_content_a_string(role: str, content: Any, type: Json) -> None:
    (turn,) = turns([{"role": role, "content": content, **type}])

    assert (turn.role, joined_text(turn.parts)) == (role, "hi")


def test_the_phase_of_an_assistant_message_is_kept() -> None:
    (turn,) = turns([{"role": "assistant", "content": "hm", "phase": "commentary"}])

    assert turn.parts == (Text("input[0].content", "hm", phase="commentary"),)


def test_each_part_knows_its_path_and_its_breakpoint() -> None:
    mark = {"mode": "explicit"}
    found = parts(
        {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b", "prompt_cache_breakpoint": mark}
    )

    assert found == (Text("input[0].content[0]", "a"), Text("input[0].content[1]", "b", mark))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"image_url": "https://a/b.png", "detail": "low"}, Image("p", url="https://a/b.png", detail="low")),
        ({"image_url": "data:image/png;base64,AA=="}, Image("p", data="AA==", media_type="image/png")),
        (
            {"image_url": "data:image/svg+xml;charset=utf-8,%3Csvg%3E"},
            Image("p", data="PHN2Zz4=", media_type="image/svg+xml"),
        ),
        ({"file_id": "file_1"}, Image("p", file_id="file_1")),
    ],
)
def test_images(part: Json, expected: Image) -> None:
    (found,) = parts({"type": "input_image", **part})

    assert found == Image("input[0].content[0]", *[getattr(expected, name) for name in Image.__slots__[1:]])


@pytest.mark.parametrize(
    ("image", "url"),
    [
        (Image("p", url="https://a"), "https://a"),
        (Image("p", data="AA", media_type="image/png"), "data:image/png;base64,AA"),
    ],
)
def test_an_image_can_be_told_as_one_url(image: Image, url: str) -> None:
    assert image.as_url == url


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"file_data": "data:text/csv;base64,AA=="}, ("AA==", "text/csv", None, None)),
        ({"file_data": "AA==", "filename": "a.TXT"}, ("AA==", "text/plain", None, None)),
        ({"file_data": "AA=="}, ("AA==", "application/pdf", None, None)),
        ({"file_url": "https://a/b.pdf"}, (None, None, "https://a/b.pdf", None)),
        ({"file_url": "data:text/csv;base64,AA=="}, ("AA==", "text/csv", None, None)),
        ({"file_id": "file_1"}, (None, None, None, "file_1")),
    ],
)
def test_files(part: Json, expected: tuple[Any, ...]) -> None:
    (found,) = parts({"type": "input_file", **part})

    assert isinstance(found, File)
    assert (found.data, found.media_type, found.url, found.file_id) == expected


def test_audio_and_refusals() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    assert parts(audio) == (Audio("input[0].content[0]", "AA==", "wav"),)

    (turn,) = turns([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}])
    assert turn.parts == (Refusal("input[0].content[0]", "no"),)


def test_everything_that_the_assistant_does_in_a_row_is_one_turn() -> None:
    second = CALL | {"call_id": "c2", "namespace": "crm"}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"}
    found = turns([thought, {"role": "assistant", "content": "wait"}, CALL, second, OUTPUT, OUTPUT | {"call_id": "c2"}])

    assert [turn.role for turn in found] == ["assistant", "tool"]
    assert [type(part) for part in found[0].parts] == [Reasoning, Text, ToolCall, ToolCall]
    assert [part.call.call_id for part in found[1].parts if isinstance(part, ToolOutput)] == ["c1", "c2"]


def test_two_messages_of_a_user_are_two_turns() -> None:
    assert len(turns([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])) == 2


def test_an_output_is_joined_to_its_call_and_may_hold_parts() -> None:
    listed = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://a"}]
    _, turn = turns([CALL, OUTPUT | {"output": listed}])

    image = Image("input[1].output[1]", url="https://a")
    assert turn.parts == (ToolOutput("input[1]", READ_CALL, (Text("input[1].output[0]", "a"), image)),)


def test_custom_calls_keep_their_free_text() -> None:
    call = {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "a\nb"}
    said, answered = turns([call, {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"}])

    assert said.parts == (ToolCall("input[0]", "c1", "patch", "a\nb", "custom"),)
    assert [type(part) for part in answered.parts] == [ToolOutput]
    assert isinstance(said.parts[0], ToolCall)
    assert arguments_object(said.parts[0]) == {"input": "a\nb"}


@pytest.mark.parametrize(
    ("item", "texts"),
    [
        ({"summary": [{"type": "summary_text", "text": "a"}], "content": None}, ("a",)),
        ({"summary": [], "content": [{"type": "reasoning_text", "text": "b"}]}, ("b",)),
        ({"summary": []}, ()),
    ],
)
def test_reasoning_has_the_texts_of_its_summary_or_else_of_its_content(item: Json, texts: tuple[str, ...]) -> None:
    (turn,) = turns([{"type": "reasoning", **item}])

    assert turn.parts == (Reasoning("input[0]", texts),)


def test_other_items_are_kept_whole_for_the_dialect_that_knows_them() -> None:
    (turn,) = turns([{"type": "web_search_call", "id": "ws_1"}, {"type": "mcp_call", "id": "mcp_1"}])

    receipt, call = turn.parts
    assert isinstance(receipt, Opaque) and isinstance(call, Opaque)
    assert (receipt.is_receipt, call.is_receipt, call.value["id"]) == (True, False, "mcp_1")


def test_an_output_of_an_item_without_common_form_has_none_either() -> None:
    (turn,) = turns([{"type": "tool_search_call", "call_id": "s1"}, OUTPUT | {"call_id": "s1"}])

    assert [part.type for part in turn.parts if isinstance(part, Opaque)] == [
        "tool_search_call",
        "function_call_output",
    ]


def test_tools_that_items_bring_along_are_found() -> None:
    body = {"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "function"}]}, CALL]}
    found = read_conversation(body, Losses("reject"))

    assert found.tools == brought_tools(body) == (("input[0].tools[0]", {"type": "function"}),)
    assert brought_tools({"input": "hi"}) == brought_tools({}) == ()


def test_a_tool_search_is_a_loss_whose_tools_stay() -> None:
    body = {"input": [{"type": "tool_search_output", "tools": [{"type": "function"}]}, CALL]}
    losses = Losses("drop")

    assert len(read_conversation(body, losses).tools) == 1
    assert losses.dropped == ["input[0].type"]
    with pytest.raises(InvalidRequest) as caught:
        read_conversation(body, Losses("reject"))
    assert caught.value.param == "input[0].type"


USER = {"role": "user"}


@pytest.mark.parametrize(
    ("items", "param"),
    [
        (None, "input"),
        (7, "input"),
        ([], "input"),
        (["hi"], "input[0]"),
        ([{}], "input[0].type"),
        ([{"type": 7}], "input[0].type"),
        ([{"id": "msg_1"}], "input[0]"),
        ([{"type": "item_reference", "id": "msg_1"}], "input[0]"),
        ([{"role": "tool", "content": "x"}], "input[0].role"),
        ([{"role": 7, "content": "x"}], "input[0].role"),
        ([USER], "input[0].content"),
        ([USER | {"content": 7}], "input[0].content"),
        ([USER | {"content": [7]}], "input[0].content[0]"),
        ([USER | {"content": [{"text": "x"}]}], "input[0].content[0].type"),
        ([USER | {"content": [{"type": "video"}]}], "input[0].content[0].type"),
        ([USER | {"content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        ([USER | {"content": [{"type": "input_text", "text": 7}]}], "input[0].content[0].text"),
        ([USER | {"content": [{"type": "input_image"}]}], "input[0].content[0].image_url"),
        ([USER | {"content": [{"type": "input_image", "image_url": "data:x"}]}], "input[0].content[0].image_url"),
        ([USER | {"content": [{"type": "input_file"}]}], "input[0].content[0]"),
        ([USER | {"content": [{"type": "input_audio"}]}], "input[0].content[0].input_audio"),
        ([USER | {"content": [{"type": "input_audio", "input_audio": {}}]}], "input[0].content[0].input_audio.data"),
        ([{"role": "assistant", "content": "x", "phase": 7}], "input[0].phase"),
        ([CALL | {"call_id": None}], "input[0].call_id"),
        ([CALL | {"name": 7}], "input[0].name"),
        ([CALL | {"arguments": {}}], "input[0].arguments"),
        ([OUTPUT], "input[0].call_id"),
        ([CALL, OUTPUT | {"output": None}], "input[1].output"),
        ([CALL, OUTPUT | {"output": [{"type": "x"}]}], "input[1].output[0].type"),
        ([{"type": "reasoning", "summary": [{"text": 7}]}], "input[0].summary[0].text"),
        ([{"type": "reasoning", "summary": "x"}], "input[0].summary"),
        ([{"type": "additional_tools", "tools": [7]}], "input[0].tools[0]"),
        ([{"type": "additional_tools"}], "input[0].tools"),
    ],
)
def test_what_is_malformed_is_named_by_its_path(items: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        turns(items)

    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize("arguments", ["{", "[]", "7", "[" * 100_000])
def test_arguments_that_are_no_object_are_malformed(arguments: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        arguments_object(ToolCall("input[0]", "c1", "f", arguments))

    assert caught.value.param == "input[0].arguments"


def test_missing_arguments_are_an_empty_object() -> None:
    assert arguments_object(ToolCall("input[0]", "c1", "f", "")) == {}
