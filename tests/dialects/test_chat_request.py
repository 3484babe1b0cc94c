"""What a Responses request is in Chat Completions, and what each kind of server needs differently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gomodel_asgi.dialects.base import pack_state
from gomodel_asgi.dialects.chat.opaque_state import Memory
from gomodel_asgi.errors import InvalidRequest

from ..support.chat_play import Json, chunk, outgoing, play, sent

IMAGE = "data:image/png;base64,AAAA"
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
OTHER = {"type": "function", "name": "g", "description": "G"}


def messages(items: Any, **options: Any) -> list[Json]:
    found: list[Json] = sent({"input": items}, **options)["messages"]
    return found


def refused(body: Json, *, unsupported: str = "reject", **options: Any) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        outgoing(body, unsupported=unsupported, **options)
    return caught.value.param


def left_out(body: Json, **options: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What observers are told of, and what the client is."""
    found = outgoing(body, **options)
    return found.dropped, found.unsupported


# Messages...


def test_instructions_come_first_and_a_string_is_the_user() -> None:
    body = sent({"instructions": "Be brief", "input": "hi"})

    assert body["messages"] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hi"}]


TALK = [
    {"role": "developer", "content": "b"},
    {"role": "user", "content": "c"},
    {"role": "developer", "content": "d"},
    {"role": "user", "content": "e"},
]


@pytest.mark.parametrize("type", ["vllm", "minimax", "mistral", "groq", "openrouter", "made_up"])
def test_a_server_gets_one_system_message_at_the_start_and_later_ones_as_marked_text(type: str) -> None:
    found = sent({"instructions": "a", "input": TALK}, type=type)["messages"]

    assert [message["role"] for message in found] == ["system", "user", "user", "user"]
    assert found[0]["content"] == "a\n\nb"
    assert found[2]["content"] == "<developer_instructions>\nd\n</developer_instructions>"


@pytest.mark.parametrize(("type", "role"), [("openai", "developer"), ("azure", "developer"), ("xai", "system")])
def test_servers_that_take_system_messages_anywhere_get_them_where_they_stood(type: str, role: str) -> None:
    found = sent({"instructions": "a", "input": TALK}, type=type)["messages"]

    assert [message["role"] for message in found] == ["system", role, "user", role, "user"]


def test_marked_parts_of_the_system_message_keep_their_breakpoints() -> None:
    part = {"type": "input_text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}
    items = [{"role": "developer", "content": [part]}, {"role": "user", "content": "c"}]
    content = sent({"instructions": "a", "input": items}, type="openrouter")["messages"][0]["content"]

    assert content == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
    ]


def test_instructions_alone_are_said_by_the_user() -> None:
    assert messages([{"role": "developer", "content": "x"}]) == [{"role": "user", "content": "x"}]
    assert messages([{"role": "developer", "content": "x"}], type="openai") == [{"role": "developer", "content": "x"}]


def test_templates_that_want_a_user_get_one_where_the_history_has_none() -> None:
    found = messages([{"role": "developer", "content": "x"}, {"role": "assistant", "content": "hi"}])

    assert [message["role"] for message in found] == ["system", "user", "assistant"]
    assert [message["role"] for message in messages([CALL, OUTPUT], type="openai")] == ["assistant", "tool"]


@pytest.mark.parametrize(("type", "last"), [("mistral", "user"), ("deepseek", "user"), ("vllm", "assistant")])
def test_a_server_that_does_not_go_on_with_what_the_assistant_said_last_is_asked_to(type: str, last: str) -> None:
    items = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "Once upon"}]

    assert messages(items, type=type)[-1]["role"] == last
    assert messages([*items, CALL], type=type)[-1]["role"] == "tool"


def test_what_stands_between_a_call_and_its_output_comes_behind_it() -> None:
    found = messages([{"role": "user", "content": "go"}, CALL, {"role": "user", "content": "wait"}, OUTPUT])

    assert [message["role"] for message in found] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [("null", "{}"), ("", "{}"), ('{"a": ', '{"raw_arguments":"{\\"a\\": "}'), ("[1]", '{"raw_arguments":"[1]"}')],
)
def test_arguments_are_an_object_for_servers_that_parse_them(arguments: str, expected: str) -> None:
    found = messages([{"role": "user", "content": "go"}, CALL | {"arguments": arguments}, OUTPUT])

    assert found[1]["tool_calls"][0]["function"]["arguments"] == expected


def test_openai_takes_arguments_as_they_came() -> None:
    items = [CALL | {"arguments": text} for text in ('{"a": ', "null", "")]
    found = messages([item | {"call_id": str(number)} for number, item in enumerate(items)], type="openai")

    assert [call["function"]["arguments"] for call in found[0]["tool_calls"]] == ['{"a": ', "null", "{}"]


@pytest.mark.parametrize("type", ["openai", "vllm", "mistral"])
def test_repeated_and_overlong_ids_are_made_unique_and_short_enough_with_their_outputs(type: str) -> None:
    ids = ["s", "s", "x" * 64, "x" * 64]
    items = [CALL | {"call_id": id} for id in ids] + [
        OUTPUT | {"call_id": id, "output": str(at)} for at, id in enumerate(ids)
    ]
    found = messages([{"role": "user", "content": "go"}, *items], type=type)

    calls = [call["id"] for call in found[1]["tool_calls"]]
    assert len(set(calls)) == 4
    assert [(message["tool_call_id"], message["content"]) for message in found[2:]] == [
        (id, str(at)) for at, id in enumerate(calls)
    ]
    if type == "openai":
        assert max(map(len, calls)) <= 40


def test_minimax_is_asked_to_keep_what_it_thinks_apart() -> None:
    assert sent(type="minimax")["reasoning_split"] is True
    assert sent({"reasoning_split": False}, type="minimax")["reasoning_split"] is False


def test_images_files_and_audio_are_parts() -> None:
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": IMAGE, "detail": "high"},
        {"type": "input_image", "image_url": "https://a/b.png"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
    ]

    assert messages([{"role": "user", "content": parts}], type="openai")[0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
    ]


def test_mistral_takes_documents_by_url() -> None:
    part = {"type": "input_file", "file_url": "https://a/b.pdf", "filename": "b.pdf"}

    content = messages([{"role": "user", "content": [part]}], type="mistral")[0]["content"]
    assert content == [{"type": "document_url", "document_url": "https://a/b.pdf", "document_name": "b.pdf"}]


@pytest.mark.parametrize(
    ("part", "member"),
    [
        ({"type": "input_image", "file_id": "file_1"}, ".file_id"),
        ({"type": "input_file", "file_url": "https://a/b.pdf"}, ".file_url"),
    ],
)
def test_what_a_chat_server_cannot_fetch_is_refused_by_its_path(part: Json, member: str) -> None:
    body = {"input": [{"role": "user", "content": [{"type": "input_text", "text": "see"}, part]}]}

    path = f"input[0].content[1]{member}"
    assert refused(body, type="openai") == refused(body, type="openai", unsupported="auto") == path
    assert left_out(body, type="openai", unsupported="drop") == ((path,), (path,))


def test_a_file_id_means_something_at_openai_only() -> None:
    body = {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]}

    content = sent(body, type="openai")["messages"][0]["content"]
    assert content == [{"type": "file", "file": {"file_id": "file_1"}}]
    assert refused(body, type="mistral") == "input[0].content[0].file_id"


def test_pictures_of_the_assistant_are_named_to_the_model() -> None:
    image = {"type": "input_image", "image_url": "https://a/b.png"}
    body = {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "x"}, image]}]}

    assert refused(body, type="openai") == "input[0].content[1].type"
    assert "https://a/b.png" in sent(body, type="openai")["messages"][0]["content"][1]["text"]
    assert left_out(body, type="openai") == ((), ())


@pytest.mark.parametrize(
    ("part", "type"),
    [
        ({"type": "input_file", "file_url": "https://a/b.pdf"}, "openai"),
        ({"type": "input_image", "file_id": "file_1"}, "openai"),
        ({"type": "input_image", "image_url": IMAGE}, "deepseek"),
        ({"type": "input_file", "file_id": "file_1", "filename": "b.pdf"}, "mistral"),
    ],
)
def test_media_of_a_tool_that_cannot_be_shown_are_named_to_the_model(part: Json, type: str) -> None:
    body = {"input": [{"role": "user", "content": "go"}, CALL, OUTPUT | {"output": [part]}]}

    content = sent(body, type=type)["messages"][-1]["content"]
    assert "cannot be shown" in content
    assert (refused(body, type=type) or "").startswith("input[2].output[0].")
    assert sent(body, type=type, unsupported="drop")["messages"][-1]["content"] == ""


def test_media_is_refused_where_the_server_has_none() -> None:
    body = {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE}]}]}

    assert refused(body, type="deepseek") == "input[0].content[0].type"


def test_text_parts_are_one_string_where_servers_take_strings_only() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    listed = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    assert messages([{"role": "system", "content": parts}])[0]["content"] == "a\nb"
    assert messages([{"role": "system", "content": parts}], type="openai")[0]["content"] == listed


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        ("openai", {"prompt_cache_breakpoint": {"mode": "explicit"}}),
        ("openrouter", {"cache_control": {"type": "ephemeral"}}),
        ("vllm", {}),
    ],
)
def test_cache_breakpoints_stay_where_the_server_has_them(type: str, expected: Json) -> None:
    part = {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
    content = messages([{"role": "user", "content": [part]}], type=type)[0]["content"]

    assert content == ([{"type": "text", "text": "a", **expected}] if expected else "a")


def test_parallel_calls_and_the_text_before_them_are_one_assistant_message() -> None:
    second = CALL | {"call_id": "c2", "arguments": ""}
    items = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Wait"}], "type": "message"},
        CALL,
        second,
        OUTPUT,
        OUTPUT | {"call_id": "c2", "output": [{"type": "input_text", "text": "also"}]},
    ]

    assert messages(items)[1:] == [
        {
            "role": "assistant",
            "content": "Wait",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c2", "content": "also"},
    ]


def test_pictures_in_tool_outputs_follow_in_a_user_message() -> None:
    output = OUTPUT | {"output": [{"type": "input_text", "text": "ok"}, {"type": "input_image", "image_url": IMAGE}]}
    tool, user = messages([{"role": "user", "content": "go"}, CALL, output])[2:]

    assert tool == {"role": "tool", "tool_call_id": "c1", "content": "ok"}
    assert user["role"] == "user"
    assert user["content"][1] == {"type": "image_url", "image_url": {"url": IMAGE}}
    assert "c1" in user["content"][0]["text"]


def test_mistral_gets_pictures_in_tool_outputs_short_ids_and_an_assistant_before_the_user() -> None:
    output = OUTPUT | {"output": [{"type": "input_image", "image_url": IMAGE}]}
    go = {"role": "user", "content": "go"}
    call, tool, assistant, user = messages([go, CALL, output, {"role": "user", "content": "so?"}], type="mistral")[1:]

    assert call["tool_calls"][0]["id"] == tool["tool_call_id"]
    assert len(tool["tool_call_id"]) == 9 and tool["tool_call_id"].isalnum()
    assert tool["content"] == [{"type": "image_url", "image_url": {"url": IMAGE}}]
    assert (assistant["role"], user["role"]) == ("assistant", "user")


def test_refusals_are_told_as_refusals_or_as_text() -> None:
    items = [
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "user", "content": "?"},
    ]

    assert messages(items, type="openai")[0] == {"role": "assistant", "content": None, "refusal": "No."}
    assert messages(items)[0] == {"role": "assistant", "content": "No."}


def test_a_custom_call_is_a_call_of_its_wrapping_function() -> None:
    items = [
        {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "a\nb"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"},
    ]

    function = messages(items)[1]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("patch", {"input": "a\nb"})


@pytest.mark.parametrize("unsupported", ["auto", "reject", "drop"])
def test_a_conversation_is_never_refused_for_its_calls_of_hosted_tools(unsupported: str) -> None:
    searched = {"type": "web_search_call", "id": "ws_1", "status": "completed"} | {
        "action": {"type": "search", "query": "cats", "sources": [{"type": "url", "url": "https://a"}]}
    }
    found = outgoing({"input": [{"role": "user", "content": "hi"}, searched]}, unsupported=unsupported)

    said = json.loads(found.body)["messages"][1]
    assert (said["role"], found.dropped) == ("assistant", ())
    assert "cats" in said["content"] and "https://a" in said["content"]


@pytest.mark.parametrize("unsupported", ["auto", "reject", "drop"])
def test_a_foreign_compaction_is_named_to_the_model_and_to_observers(unsupported: str) -> None:
    body = {"input": [{"type": "compaction", "encrypted_content": "x"}, {"role": "user", "content": "hi"}]}

    assert left_out(body, unsupported=unsupported) == (("input[0]",), ())
    assert "only another provider can read" in sent(body, unsupported=unsupported)["messages"][0]["content"]


def test_a_compaction_that_another_dialect_made_is_told_in_its_words() -> None:
    sealed = pack_state("anthropic", "claude", {"blocks": [{"type": "compaction", "content": "They spoke of cats."}]})
    items = [{"type": "compaction", "encrypted_content": sealed}, {"role": "user", "content": "hi"}]

    assert "They spoke of cats." in messages(items)[0]["content"]


def test_items_of_an_unknown_type_are_told_or_refused_or_dropped() -> None:
    item = {"type": "acme:note", "id": "x", "body": "meow"}
    body = {"input": [item, {"role": "user", "content": "hi"}]}

    assert "meow" in sent(body)["messages"][0]["content"]
    assert refused(body) == "input[0].type"
    assert left_out(body, unsupported="drop") == (("input[0].type",), ("input[0].type",))


def test_openrouter_gets_the_images_back_that_it_made() -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "output_format": "png"}
    found = messages([item, {"role": "user", "content": "again"}], type="openrouter")

    assert found[0]["images"] == [{"type": "image_url", "image_url": {"url": IMAGE}}]


def test_a_conversation_of_which_nothing_is_left_is_refused() -> None:
    assert refused({"input": [{"type": "reasoning", "summary": []}]}) == "input"


# Searches for tools...

FINDER = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
SEARCHED = [
    {"type": "tool_search_call", "call_id": "s1", "execution": "client", "arguments": {"query": "cat"}},
    {"type": "tool_search_output", "call_id": "s1", "tools": [FUNCTION]},
]


def test_tools_that_a_search_found_are_offered_and_the_search_is_a_call_where_the_client_runs_it() -> None:
    body = sent({"tools": [FINDER], "input": [{"role": "user", "content": "go"}, *SEARCHED]})

    assert [tool["function"]["name"] for tool in body["tools"]] == ["tool_search", "f"]
    call = body["messages"][1]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("tool_search", {"query": "cat"})
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "s1", "content": "Tools that are offered now: f"}


def test_a_search_that_the_provider_ran_is_left_out_of_the_history_and_its_tools_are_offered() -> None:
    found = outgoing({"tools": [{"type": "tool_search"}], "input": [{"role": "user", "content": "go"}, *SEARCHED]})
    body = json.loads(found.body)

    assert [tool["function"]["name"] for tool in body["tools"]] == ["f"]
    assert (len(body["messages"]), found.dropped, found.unsupported) == (1, ("input[1]", "input[2]"), ())


# Reasoning on the way back...


def reasoning(payload: Json, type: str = "vllm", model: str = "m") -> Json:
    return {"type": "reasoning", "summary": [], "encrypted_content": pack_state(type, model, payload)}


def test_a_tool_loop_gives_the_server_its_reasoning_back() -> None:
    """The client sends back exactly the items that it got."""
    call = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{}"}}]}
    first = play([chunk({"reasoning_content": "Hm"}), chunk(call), chunk({}, "tool_calls"), "[DONE]"])

    history = messages([{"role": "user", "content": "hi"}, *first.output, OUTPUT])
    assert history[1] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }


def test_details_that_came_in_two_items_are_whole_again() -> None:
    one = reasoning({"reasoning_details": [{"type": "reasoning.text", "text": "Hm", "index": 0}]})
    two = reasoning({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]})

    expected = [{"type": "reasoning.text", "text": "Hm", "signature": "s", "index": 0}]
    assert messages([one, {"role": "assistant", "content": "x"}, two])[1]["reasoning_details"] == expected


def test_thought_signatures_return_to_their_calls() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    found = messages([CALL, reasoning({"extra_content": {"c1": extra, "": extra}}), OUTPUT])[1]

    assert (found["tool_calls"][0]["extra_content"], found["extra_content"]) == (extra, extra)


def test_groq_refuses_its_own_reasoning_and_is_not_given_it() -> None:
    items = [reasoning({"reasoning": "Hm"}, "groq"), CALL, OUTPUT]

    assert messages(items, type="groq")[1].keys() == {"role", "content", "tool_calls"}


def test_mistral_gets_its_thinking_as_a_part() -> None:
    items = [reasoning({"thinking": "Hm"}, "mistral"), {"role": "assistant", "content": "Hi"}]

    assert messages([*items, {"role": "user", "content": "?"}], type="mistral")[0]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
        {"type": "text", "text": "Hi"},
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        "gAAAA-of-openai",
        "gm1.%%%",
        pack_state("anthropic", "m", {"x": 1}),
        pack_state("vllm", "other", {"reasoning": "x"}),
    ],
)
def test_foreign_reasoning_is_left_out_and_never_an_error(foreign: str) -> None:
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": foreign}
    found = outgoing({"input": [item, {"role": "user", "content": "hi"}]})

    assert json.loads(found.body)["messages"] == [{"role": "user", "content": "hi"}]
    assert found.dropped == ("input[0]",)


@pytest.mark.parametrize(
    "payload", [{"reasoning": 7, "reasoning_details": "x", "extra_content": []}, {"reasoning_details": [1, None]}]
)
def test_a_forged_payload_gives_nothing_of_a_wrong_shape(payload: Json) -> None:
    assert messages([reasoning(payload), CALL, OUTPUT])[1].keys() == {"role", "content", "tool_calls"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([CALL, OUTPUT], ""),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}, CALL, OUTPUT], "Hm"),
        ([reasoning({"reasoning_content": "Hmm"}, "deepseek"), CALL, OUTPUT], "Hmm"),
        ([reasoning({"x": 1}, "anthropic") | {"summary": [{"type": "summary_text", "text": "Hm"}]}, CALL, OUTPUT], ""),
    ],
)
def test_deepseek_always_gets_reasoning_content_with_tool_calls(items: list[Json], expected: str) -> None:
    assert messages(items, type="deepseek")[1]["reasoning_content"] == expected


def test_deepseek_gets_no_reasoning_content_without_tool_calls() -> None:
    items = [reasoning({"reasoning_content": "Hm"}, "deepseek"), {"role": "assistant", "content": "Hi"}]

    assert messages(items, type="deepseek")[1] == {"role": "assistant", "content": "Hi"}


# Tools...


def test_functions_are_nested_and_strict_is_kept() -> None:
    assert sent({"tools": [FUNCTION, OTHER]})["tools"] == [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}},
        {
            "type": "function",
            "function": {"name": "g", "description": "G", "parameters": {"type": "object", "properties": {}}},
        },
    ]


def test_without_tools_no_member_about_tools_is_sent() -> None:
    body = sent({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False})

    assert body.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION, OTHER]}, "auto"),
    ],
)
def test_tool_choice_in_its_forms(choice: Any, expected: Any) -> None:
    assert sent({"tools": [FUNCTION, OTHER], "tool_choice": choice})["tool_choice"] == expected


@pytest.mark.parametrize("type", ["openai", "vllm"])
@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "g"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
    ],
)
def test_a_forced_function_leaves_the_other_tools_in_the_request(choice: Json, type: str) -> None:
    body = sent({"tools": [FUNCTION, OTHER], "tool_choice": choice}, type=type)

    assert len(body["tools"]) == 2
    assert body["tool_choice"] == {"type": "function", "function": {"name": "g"}}


def test_an_allowed_list_is_a_list_at_openai_and_hides_the_others_elsewhere() -> None:
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
    body = {"tools": [FUNCTION, OTHER], "tool_choice": choice}
    there, here = sent(body, type="openai"), sent(body)

    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "g"}}]}
    assert there["tool_choice"] == {"type": "allowed_tools", "allowed_tools": allowed}
    assert len(there["tools"]) == 2
    assert [tool["function"]["name"] for tool in here["tools"]] == ["g"]
    assert here["tool_choice"] == "auto"


def test_a_hosted_tool_is_refused_by_its_path_or_dropped_with_the_choice_of_it() -> None:
    body = {"tools": [FUNCTION, {"type": "web_search"}], "tool_choice": {"type": "web_search"}}

    assert refused(body) == refused(body, unsupported="auto") == "tools[1].type"
    found = outgoing(body, unsupported="drop")
    assert json.loads(found.body)["tool_choice"] == "auto"
    assert found.dropped == found.unsupported == ("tools[1].type",)


def test_a_search_that_may_not_be_live_is_left_out_and_the_choice_of_it_fixed_up() -> None:
    cached = {"type": "web_search", "external_web_access": False}
    body = {"tools": [FUNCTION, cached], "tool_choice": {"type": "web_search"}}

    found = outgoing(body)
    assert (len(json.loads(found.body)["tools"]), json.loads(found.body)["tool_choice"]) == (1, "auto")
    assert found.unsupported == ("tools[1].external_web_access",)


# Other members...


@pytest.mark.parametrize(
    ("type", "name"),
    [("openai", "max_completion_tokens"), ("mistral", "max_tokens"), ("groq", "max_completion_tokens")],
)
def test_the_output_limit_has_the_name_that_the_server_knows(type: str, name: str) -> None:
    assert sent({"max_output_tokens": 9}, type=type)[name] == 9


def test_streams_ask_for_usage_but_at_mistral_which_refuses_the_question() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(stream=True, type="mistral")
    assert "stream" not in sent()


@pytest.mark.parametrize(
    ("type", "effort", "expected"),
    [
        ("openai", "xhigh", {"reasoning_effort": "xhigh"}),
        ("deepseek", "minimal", {"reasoning_effort": "minimal"}),
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("zai", "none", {"thinking": {"type": "disabled"}}),
        ("zai", "high", {"thinking": {"type": "enabled"}}),
        ("openrouter", "high", {"reasoning": {"effort": "high"}}),
    ],
)
def test_reasoning_effort_in_each_servers_words(type: str, effort: str, expected: Json) -> None:
    body = sent({"reasoning": {"effort": effort, "summary": "auto"}}, type=type)

    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == expected


SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}


def test_structured_output_is_a_response_format() -> None:
    assert sent({"text": {"format": {"type": "json_object"}}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in sent({"text": {"format": {"type": "text"}}})
    assert sent({"text": {"format": SCHEMA}})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    schema = {"text": {"format": SCHEMA}}
    assert refused(schema, type="deepseek") == refused(schema, type="deepseek", unsupported="auto") == "text.format"
    dropped = {"text": {"format": SCHEMA, "verbosity": "low"}, "reasoning": {"mode": "pro"}}
    found = outgoing(dropped, type="deepseek", unsupported="drop")
    assert found.dropped == ("text.format", "text.verbosity", "reasoning.mode")


def test_verbosity_goes_where_it_is_known_and_its_default_means_nothing_elsewhere() -> None:
    assert sent({"text": {"verbosity": "low"}}, type="openai")["verbosity"] == "low"
    assert "verbosity" not in sent({"text": {"verbosity": "medium"}})
    assert refused({"text": {"verbosity": "low"}}) == "text.verbosity"
    assert left_out({"text": {"verbosity": "low"}}) == (("text.verbosity",), ("text.verbosity",))


def test_logprobs_are_asked_for_by_either_member() -> None:
    assert sent({"top_logprobs": 3})["top_logprobs"] == 3
    assert sent({"include": ["message.output_text.logprobs"]})["logprobs"] is True
    assert "logprobs" not in sent({"include": ["reasoning.encrypted_content"], "top_logprobs": 0})


def test_minimax_gets_no_temperature_of_zero() -> None:
    assert sent({"temperature": 0}, type="minimax")["temperature"] > 0
    assert sent({"temperature": 0})["temperature"] == 0


def test_state_never_reaches_the_server() -> None:
    state = {"store": True, "previous_response_id": "resp_1", "conversation": "c", "background": True, "include": []}

    assert sent(state).keys() == {"model", "messages"}


def test_nulls_are_absent_members() -> None:
    nulls = dict.fromkeys(["temperature", "tools", "tool_choice", "text", "reasoning", "prompt", "stop", "include"])

    assert sent(nulls).keys() == {"model", "messages"}


def test_members_that_the_server_shares_go_through() -> None:
    body = {"prompt_cache_key": "k", "service_tier": "flex", "user": "u", "stop": ["x"]}

    assert body.items() <= sent(body, type="openai").items()
    assert sent({"prompt_cache_key": "k", "user": "u"}, type="deepseek").keys() == {"model", "messages"}
    assert left_out({"service_tier": "flex"}, type="deepseek") == (("service_tier",), ("service_tier",))
    assert sent({"top_k": 3})["top_k"] == 3
    assert left_out({"top_k": 3}, type="openai") == (("top_k",), ("top_k",))


@pytest.mark.parametrize("name", ["prompt", "moderation", "made_up", "n"])
def test_what_no_server_could_do_is_refused_by_name(name: str) -> None:
    assert refused({name: 2}) == refused({name: 2}, unsupported="auto") == name
    assert left_out({name: 2}, unsupported="drop") == ((name,), (name,))


def test_a_context_that_the_gateway_keeps_short_is_no_matter_of_the_servers() -> None:
    assert left_out({"context_management": [{"type": "compaction", "compact_threshold": 9}]}) == ((), ())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"text": "x"}, "text"),
        ({"text": {"format": "x"}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"verbosity": 3}}, "text.verbosity"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"include": "all"}, "include"),
        ({"stream_options": {}, "input": 3}, "input"),
    ],
)
def test_malformed_members_are_refused_by_their_path(body: Json, param: str) -> None:
    assert refused(body) == param


# Anything else...

TYPES = [
    "message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "input_text", "input_image",
    "input_file", "refusal", "web_search_call", "mcp_call", "additional_tools", "tool_search_call",
    "tool_search_output", "computer_call", "computer_call_output", "shell_call", "shell_call_output",
    "local_shell_call", "mcp_approval_response", "code_interpreter_call", "file_search_call", "compaction",
]  # fmt: skip
WORDS = [
    "user",
    "assistant",
    "function",
    "custom",
    "namespace",
    "allowed_tools",
    "json_schema",
    "auto",
    "c1",
    "f",
    *TYPES,
]
MEMBERS = [
    "arguments", "call_id", "content", "effort", "encrypted_content", "file_data", "file_id", "format", "image_url",
    "input", "input_audio", "mode", "name", "namespace", "output", "parameters", "role", "schema", "strict", "summary",
    "text", "tools", "type", "verbosity", "action", "outputs", "queries", "results", "error", "execution",
]  # fmt: skip
TOP = [
    "include", "instructions", "max_output_tokens", "parallel_tool_calls", "reasoning", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "truncation",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(WORDS)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=5),
    max_leaves=10,
)
ITEM = st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, min_size=2, max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(ITEM, max_size=3) | ANYTHING,
    st.dictionaries(st.sampled_from(TOP), ANYTHING, max_size=3),
    st.sampled_from(["openai", "openrouter", "mistral", "deepseek", "vllm"]),
    st.sampled_from(["auto", "reject", "drop"]),
)
def test_whatever_a_client_sends_is_translated_or_refused_by_its_path(
    items: Any, rest: Json, type: str, unsupported: str
) -> None:
    try:
        body = sent({"input": items, **rest}, type=type, unsupported=unsupported)
    except InvalidRequest as error:
        assert error.param
    else:
        assert body["messages"]


def test_state_that_came_back_in_very_many_pieces_costs_what_its_bytes_cost() -> None:
    """Each piece once copied the text before it: 40,000 of them held the loop for half a minute, these for minutes."""
    pieces = [{"type": "reasoning.text", "index": 0, "text": "x" * 50}] * 120_000
    memory = Memory()
    memory.add({"reasoning_details": pieces})

    (detail,) = memory.take()["reasoning_details"]
    assert detail == {"type": "reasoning.text", "index": 0, "text": "x" * 6_000_000}
