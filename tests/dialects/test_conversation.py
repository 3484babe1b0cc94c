"""Input items become turns; what is malformed is named by its path."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.dialects.arrangement import CallIds, split_instructions
from gomodel_asgi.dialects.base import Call
from gomodel_asgi.dialects.content import (
    NO_OUTPUT,
    Audio,
    File,
    Image,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolOutput,
    Turn,
)
from gomodel_asgi.dialects.conversation import arguments_json, offered_tools, read_conversation
from gomodel_asgi.dialects.unsupported import Unsupported
from gomodel_asgi.errors import InvalidRequest

Json = dict[str, Any]
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
READ_CALL = ToolCall("input[0]", "c1", "f", "{}")


def joined_text(parts: tuple[Any, ...]) -> str:
    """The texts of *parts*, other parts passed over."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def turns(items: Any, **body: Any) -> tuple[Turn, ...]:
    return read_conversation({"input": items, **body}, Unsupported("reject")).turns


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
    assert json.loads(arguments_json(said.parts[0])) == {"input": "a\nb"}


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

    assert [part.value["id"] for part in turn.parts if isinstance(part, Opaque)] == ["ws_1", "mcp_1"]


@pytest.mark.parametrize("type", ["additional_tools", "tool_search_output"])
def test_tools_that_items_bring_along_are_found(type: str) -> None:
    tool = {"type": "function", "name": "f"}
    body = {"input": [{"type": type, "tools": [tool]}, CALL], "instructions": [{"type": type, "tools": [tool]}]}
    found = read_conversation(body, Unsupported("reject"))

    assert found.tools == (("instructions[0].tools[0]", tool), ("input[0].tools[0]", tool))
    assert [tool.name for tool in offered_tools(call(body)).functions] == ["f"]
    assert offered_tools(call({"input": "hi"})).functions == offered_tools(call({})).functions == ()


def call(body: Json) -> Call:
    return Call("create", body, "m", False, "p", "vllm")


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
        ([OUTPUT | {"call_id": None}], "input[0].call_id"),
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


# The order of things...


def order(*items: Json) -> list[Any]:
    """The turns in short: texts, `+id` for a call, `-id=output` for its output."""
    found: list[Any] = []
    for turn in turns(list(items)):
        texts = [part.text for part in turn.parts if isinstance(part, Text)]
        calls = [f"+{part.call_id}{part.arguments}" for part in turn.parts if isinstance(part, ToolCall)]
        outputs = [part for part in turn.parts if isinstance(part, ToolOutput)]
        answers = [f"-{part.call.call_id}{part.call.arguments}={joined_text(part.parts)}" for part in outputs]
        found.append((turn.role, texts + calls + answers))
    return found


def called(id: str = "c", arguments: str = "") -> Json:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": arguments}


def answered(id: str = "c", output: str = "ok") -> Json:
    return {"type": "function_call_output", "call_id": id, "output": output}


def says(role: str, content: str) -> Json:
    return {"role": role, "content": content}


def test_what_stands_between_a_call_and_its_output_comes_behind_the_output() -> None:
    items = [
        says("user", "go"),
        called(),
        says("user", "wait"),
        says("developer", "note"),
        answered(),
        says("user", "?"),
    ]

    assert order(*items) == [
        ("user", ["go"]),
        ("assistant", ["+c"]),
        ("tool", ["-c=ok"]),
        ("user", ["wait"]),
        ("developer", ["note"]),
        ("user", ["?"]),
    ]


def test_calls_of_one_turn_stay_together_and_their_outputs_stand_in_the_order_of_the_calls() -> None:
    items = [
        called("a"),
        called("b"),
        says("user", "wait"),
        answered("b", "2"),
        says("assistant", "hm"),
        answered("a", "1"),
    ]

    assert order(*items) == [
        ("assistant", ["+a", "+b"]),
        ("tool", ["-a=1", "-b=2"]),
        ("user", ["wait"]),
        ("assistant", ["hm"]),
    ]


def test_each_turn_of_calls_is_answered_before_the_next_one() -> None:
    items = [called("a"), says("user", "x"), called("b"), answered("a"), answered("b"), called("c"), answered("c")]

    assert [role for role, _ in order(*items)] == [
        "assistant", "tool", "user", "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip


def test_a_call_that_nobody_answered_is_kept_and_gets_a_stand_in() -> None:
    items = [called("a"), called("b"), answered("b"), says("user", "?"), called("c")]

    assert order(*items) == [
        ("assistant", ["+a", "+b"]),
        ("tool", [f"-a={NO_OUTPUT}", "-b=ok"]),
        ("user", ["?"]),
        ("assistant", ["+c"]),
        ("tool", [f"-c={NO_OUTPUT}"]),
    ]


def test_an_output_whose_call_is_not_there_is_what_the_user_says() -> None:
    image = {"type": "input_image", "image_url": "https://a"}
    stray, said = turns(
        [answered("lost") | {"output": [{"type": "input_text", "text": "42"}, image]}, says("user", "?")]
    )

    assert (stray.role, said.role) == ("user", "user")
    assert "lost" in joined_text(stray.parts) and joined_text(stray.parts).endswith("42")
    assert isinstance(stray.parts[-1], Image)


def test_a_second_output_of_a_call_is_what_the_user_says() -> None:
    assert [role for role, _ in order(called(), answered(), answered(output="again"))] == ["assistant", "tool", "user"]


def test_an_output_that_comes_before_its_call_still_follows_it() -> None:
    assert order(answered(), called()) == [("assistant", ["+c"]), ("tool", ["-c=ok"])]


@pytest.mark.parametrize(
    ("items", "answers"),
    [
        ([called("s", "A"), called("s", "B"), answered("s", "1"), answered("s", "2")], ["-sA=1", "-sB=2"]),
        ([called("s", "A"), answered("s", "1"), called("s", "B"), answered("s", "2")], ["-sA=1", "-sB=2"]),
        ([called("s", "A"), says("user", "x"), called("s", "B"), answered("s", "2")], [f"-sA={NO_OUTPUT}", "-sB=2"]),
        (
            [called("s", "A"), says("user", "x"), called("s", "B"), answered("s", "1"), answered("s", "2")],
            ["-sA=1", "-sB=2"],
        ),
        ([called("s", "A"), called("s", "B"), answered("s", "1")], ["-sA=1", f"-sB={NO_OUTPUT}"]),
        (
            [
                called("s", "A"),
                called("s", "B"),
                called("s", "C"),
                answered("s", "1"),
                called("s", "D"),
                answered("s", "2"),
            ],
            ["-sA=1", f"-sB={NO_OUTPUT}", f"-sC={NO_OUTPUT}", "-sD=2"],
        ),
    ],
)
def test_where_an_id_is_used_again_each_output_goes_to_its_own_call_in_order(
    items: list[Json], answers: list[str]
) -> None:
    assert [answer for role, found in order(*items) if role == "tool" for answer in found] == answers


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["call", "output", "user", "developer", "assistant"]), st.sampled_from("abc")),
        min_size=1,
        max_size=14,
    )
)
def test_whatever_the_order_every_call_is_answered_right_behind_its_turn_and_nothing_is_lost(
    given: list[tuple[str, str]],
) -> None:
    makers = {"call": lambda id, number: called(id, number), "output": answered}
    items = [
        makers[kind](id, str(number)) if kind in makers else says(kind, str(number))
        for number, (kind, id) in enumerate(given)
    ]
    found = turns(items)

    said = " ".join(part.text for turn in found for part in _flat(turn) if isinstance(part, Text))
    assert all(str(number) in said.split() for number, (kind, _) in enumerate(given) if kind != "call")
    for turn, following in zip(found, (*found[1:], None), strict=True):
        calls = [part for part in turn.parts if isinstance(part, ToolCall)]
        assert (following is not None and following.role == "tool") == bool(calls)
        if following is not None and calls:
            assert [part.call for part in following.parts if isinstance(part, ToolOutput)] == calls


def _flat(turn: Turn) -> list[Any]:
    return [inner for part in turn.parts for inner in (part.parts if isinstance(part, ToolOutput) else (part,))]


def test_the_order_of_very_many_items_is_found_in_linear_time() -> None:
    """Counted in steps of the interpreter, ten times as many items are not a hundred times as many steps."""

    def steps(size: int) -> int:
        items = [called("s", str(number)) for number in range(size)] + [answered("s")] * (size // 2)
        items += [item for _ in range(size) for item in (called("t"), says("user", "x"), answered("u"))]
        count = 0

        def trace(*_: Any) -> Any:
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            turns(items)
        finally:
            sys.settrace(before)
        return count

    assert steps(1000) < 15 * steps(100)


def test_ids_are_unique_for_the_target_and_the_same_in_every_turn() -> None:
    calls = [ToolCall(f"input[{number}]", id, "f", "") for number, id in enumerate(["s", "s_2", "s", "s", "t"])]

    assert [CallIds().of(calls[0])] == ["s"]
    for length in range(1, len(calls) + 1):
        ids = CallIds()
        assert [ids.of(call) for call in calls[:length]] == ["s", "s_2", "s_3", "s_4", "t"][:length]
        assert ids.of(calls[0]) == "s"


# Arguments...


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (" ", {}),
        ("null", {}),
        ('{"a": 1}', {"a": 1}),
        (' {"a": 1}\n', {"a": 1}),
        ('{"city": "A', {"raw_arguments": '{"city": "A'}),
        ('{"a": 1} {"b": 2}', {"raw_arguments": '{"a": 1} {"b": 2}'}),
        ("[]", {"raw_arguments": "[]"}),
        ("7", {"raw_arguments": "7"}),
        ("not JSON", {"raw_arguments": "not JSON"}),
        ("{" * 100_000, {"raw_arguments": "{" * 100_000}),
    ],
)
def test_arguments_are_any_string_and_become_the_object_that_a_target_takes(arguments: str, expected: Json) -> None:
    assert json.loads(arguments_json(ToolCall("input[0]", "c1", "f", arguments))) == expected


def test_arguments_keep_the_spelling_of_their_numbers() -> None:
    assert (
        arguments_json(ToolCall("p", "c", "f", '{"n": 1.50, "m": 1e400}'))
        == b'{"raw_arguments":"{\\"n\\": 1.50, \\"m\\": 1e400}"}'
    )
    assert arguments_json(ToolCall("p", "c", "f", '{"n": 1.50, "m": 12345678901234567890123}')) == (
        b'{"n": 1.50, "m": 12345678901234567890123}'
    )


@pytest.mark.parametrize(("given", "expected"), [(None, "{}"), ({"a": 1}, '{"a":1}'), ([], '{"raw_arguments":"[]"}')])
def test_arguments_that_a_client_did_not_write_as_text_are_taken_all_the_same(given: Any, expected: str) -> None:
    (said, _) = turns([CALL | {"arguments": given}])

    assert isinstance(said.parts[0], ToolCall)
    assert arguments_json(said.parts[0]).decode() == expected


# Instructions...


def split(*items: Json, **body: Any) -> tuple[list[str], list[tuple[str, str]]]:
    leading, rest = split_instructions(turns(list(items), **body))
    return [joined_text(turn.parts) for turn in leading], [(turn.role, joined_text(turn.parts)) for turn in rest]


def test_instructions_before_the_first_word_of_the_user_lead_and_later_ones_are_marked_in_place() -> None:
    items = [
        says("developer", "b"),
        says("assistant", "hi"),
        says("system", "c"),
        says("user", "d"),
        says("system", "e"),
    ]

    assert split(*items, instructions="a") == (
        ["a", "b", "c"],
        [
            ("assistant", "hi"),
            ("user", "d"),
            ("user", "<developer_instructions>\ne\n</developer_instructions>"),
        ],
    )


def test_where_there_are_only_instructions_the_last_are_what_the_user_says() -> None:
    assert split(says("developer", "Say hello.")) == ([], [("user", "Say hello.")])
    assert split(says("developer", "Say hello."), instructions="Be.") == (["Be."], [("user", "Say hello.")])
    assert split_instructions(turns([], instructions="Be."))[1][0].role == "user"


def test_instructions_that_are_not_only_text_are_marked_where_they_stand() -> None:
    image = {"type": "input_image", "image_url": "https://a"}
    leading, rest = split_instructions(turns([{"role": "system", "content": [image]}, says("user", "hi")]))

    assert leading == ()
    assert [type(part).__name__ for part in rest[0].parts] == ["Text", "Image", "Text"]
