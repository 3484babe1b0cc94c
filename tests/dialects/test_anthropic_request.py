"""How a request of the Responses API becomes one of the Messages API."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest

from gomodel_asgi.dialects.anthropic import AnthropicDialect
from gomodel_asgi.dialects.anthropic.models import model_of
from gomodel_asgi.dialects.base import Call, Outgoing, pack_state
from gomodel_asgi.errors import InvalidRequest

from ..support.anthropic_reader import damaged

Json = dict[str, Any]
DIALECT = AnthropicDialect()
SONNET_45, OPUS_46, SONNET_5, OPUS_55 = "claude-sonnet-4-5", "claude-opus-4-6", "claude-sonnet-5", "claude-opus-5-5"
F: Json = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
G: Json = {**F, "name": "g"}
CALL: Json = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'}
OUTPUT: Json = {"type": "function_call_output", "call_id": "c1", "output": "done"}
USER: Json = {"role": "user", "content": "Hello."}
REASONED: Json = {
    "type": "reasoning",
    "summary": [],
    "encrypted_content": pack_state(
        "anthropic", SONNET_45, {"blocks": [{"type": "thinking", "thinking": "Hm", "signature": "s"}]}
    ),
}


def outgoing(model: str = SONNET_45, *, policy: Any = "auto", operation: str = "create", **body: Any) -> Outgoing:
    body = {"input": "Hello.", **body}
    return DIALECT.request(Call(operation, body, model, bool(body.get("stream")), "claude", "anthropic", policy))


def sent(model: str = SONNET_45, *, policy: Any = "auto", operation: str = "create", **body: Any) -> Json:
    found: Json = msgspec.json.decode(outgoing(model, policy=policy, operation=operation, **body).body)
    return found


def betas(model: str = SONNET_45, **body: Any) -> str:
    return dict(outgoing(model, **body).headers).get("anthropic-beta", "")


def refused(model: str = SONNET_45, *, policies: tuple[str, ...] = ("auto", "reject"), **body: Any) -> str | None:
    """The param of the refusal under each of *policies*; under the others the same is left out, and the client told."""
    params = set()
    for policy in policies:
        with pytest.raises(InvalidRequest) as caught:
            outgoing(model, policy=policy, **body)
        assert caught.value.param is not None
        params.add(caught.value.param)
    (param,) = params
    for policy in {"auto", "drop"}.difference(policies):
        found = outgoing(model, policy=policy, **body)
        assert param in found.dropped and param in found.unsupported
    return param


def preferred(model: str = SONNET_45, **body: Any) -> str | None:
    """The param of a preference: refused under `"reject"`, else left out."""
    return refused(model, policies=("reject",), **body)


def malformed(**body: Any) -> str | None:
    """The param of an error that `drop` does not soften."""
    with pytest.raises(InvalidRequest) as caught:
        outgoing(policy="drop", **body)
    return caught.value.param


# The conversation...


def test_the_least_request_has_a_bound_on_tokens_and_one_message() -> None:
    request = outgoing()
    assert (request.path, request.headers, request.dropped) == ("/messages", (), ())
    assert msgspec.json.decode(request.body) == {
        "model": SONNET_45,
        "max_tokens": 64_000,
        "stream": False,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}],
    }


def test_instructions_before_the_user_stand_at_the_top_and_later_ones_are_marked_in_place() -> None:
    items = [{"role": "system", "content": "Two."}, USER, {"role": "developer", "content": "Three."}]
    body = sent(instructions="One.", input=items)
    assert [block["text"] for block in body["system"]] == ["One.", "Two."]
    assert [block["text"] for block in body["messages"][0]["content"]] == [
        "Hello.",
        "<developer_instructions>\nThree.\n</developer_instructions>",
    ]


def test_instructions_alone_are_said_by_the_user() -> None:
    body = sent(instructions="Be.", input=[{"role": "developer", "content": "Say hello."}])
    assert body["system"] == [{"type": "text", "text": "Be."}]
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]


def test_a_conversation_that_begins_with_the_assistant_gets_a_user_before_it() -> None:
    messages = sent(input=[{"role": "assistant", "content": "Hi."}, USER])["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert sent(input=[CALL, OUTPUT], tools=[F])["messages"][0]["role"] == "user"


def test_a_model_that_does_not_go_on_with_what_the_assistant_said_is_asked_to() -> None:
    items = [USER, {"role": "assistant", "content": "Once upon"}]
    assert [message["role"] for message in sent(OPUS_46, input=items)["messages"]] == ["user", "assistant", "user"]
    assert [message["role"] for message in sent(input=items)["messages"]] == ["user", "assistant"]
    thinking = sent(input=items, reasoning={"effort": "low"})["messages"]
    assert [message["role"] for message in thinking] == ["user", "assistant", "user"]


def test_consecutive_messages_of_a_role_are_merged() -> None:
    items = [USER, {"role": "user", "content": "Again."}, {"role": "assistant", "content": "Hi."}]
    roles = [(message["role"], len(message["content"])) for message in sent(input=items)["messages"]]
    assert roles == [("user", 2), ("assistant", 1)]


def test_blank_texts_are_left_out_and_a_request_of_nothing_else_is_refused() -> None:
    assert len(sent(input=[USER, {"role": "assistant", "content": " \n"}])["messages"]) == 1
    assert malformed(input=[{"role": "user", "content": ""}]) == "input"
    assert len(sent(instructions="Say hello.", input="")["messages"]) == 1


def test_parallel_calls_are_one_turn_and_their_results_come_first_in_the_next() -> None:
    other = {**CALL, "call_id": "c2"}
    items = [USER, CALL, other, USER, OUTPUT, {**OUTPUT, "call_id": "c2"}]
    messages = sent(input=items, tools=[F])["messages"]
    assert [block["type"] for block in messages[1]["content"]] == ["tool_use", "tool_use"]
    assert [block["type"] for block in messages[2]["content"]] == ["tool_result", "tool_result", "text"]
    assert messages[2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "done"}],
    }


def test_a_tool_s_images_and_files_are_kept_in_its_result() -> None:
    parts = [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBO"},
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
    ]
    content = sent(input=[USER, CALL, {**OUTPUT, "output": parts}], tools=[F])["messages"][2]["content"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image", "document"]
    assert content[1]["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBO"}
    assert content[2]["source"] == {"type": "url", "url": "https://a.example/a.pdf"}


def test_call_ids_of_other_providers_are_made_legal_and_reused_ones_unique_with_their_results() -> None:
    items: list[Json] = [USER]
    for call_id in ("c1", "c1", "functions.f:0"):
        items += [{**CALL, "call_id": call_id}, {**OUTPUT, "call_id": call_id}]
    messages = sent(input=items, tools=[F])["messages"]
    calls = [message["content"][0]["id"] for message in messages[1::2]]
    results = [message["content"][0]["tool_use_id"] for message in messages[2::2]]
    assert calls == results
    assert calls[:2] == ["c1", "c1_2"]
    assert calls[2].startswith("toolu_") and calls[2].isascii() and "." not in calls[2] and ":" not in calls[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("null", {}),
        ("", {}),
        ('{"city": "A', {"raw_arguments": '{"city": "A'}),
        ("[1]", {"raw_arguments": "[1]"}),
        ("{" * 100_000, {"raw_arguments": "{" * 100_000}),
    ],
)
def test_arguments_that_are_no_object_are_sent_in_one(arguments: str, expected: Json) -> None:
    messages = sent(input=[USER, {**CALL, "arguments": arguments}, OUTPUT], tools=[F])["messages"]
    assert messages[1]["content"][0]["input"] == expected


def test_a_call_without_an_output_gets_a_stand_in_and_an_output_without_a_call_is_the_users() -> None:
    messages = sent(input=[USER, CALL, {**OUTPUT, "call_id": "lost"}, USER], tools=[F])["messages"]
    assert [block["type"] for block in messages[2]["content"]] == ["tool_result", "text", "text", "text"]
    assert "No output" in messages[2]["content"][0]["content"][0]["text"]


def test_results_go_to_their_calls_in_order_where_an_id_repeats_within_a_turn() -> None:
    items = [USER, CALL, CALL, {**OUTPUT, "output": "1"}, {**OUTPUT, "output": "2"}]
    called, answered = sent(input=items, tools=[F])["messages"][1:]
    assert [block["id"] for block in called["content"]] == ["c1", "c1_2"]
    assert [(block["tool_use_id"], block["content"][0]["text"]) for block in answered["content"]] == [
        ("c1", "1"),
        ("c1_2", "2"),
    ]


def test_text_files_are_decoded_and_files_by_id_need_a_beta() -> None:
    data = base64.b64encode("a;é".encode()).decode()
    named = {"type": "input_file", "filename": "a.csv", "file_data": data}
    stored = {"type": "input_file", "file_id": "file_1"}
    body: Json = {"input": [{"role": "user", "content": [named, stored]}]}
    content = sent(**body)["messages"][0]["content"]
    assert content[0]["source"] == {"type": "text", "media_type": "text/plain", "data": "a;é"}
    assert content[0]["title"] == "a.csv"
    assert content[1]["source"] == {"type": "file", "file_id": "file_1"}
    assert betas(**body) == "files-api-2025-04-14"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "input_image", "image_url": "data:image/tiff;base64,AAAA"},
        {"type": "input_file", "filename": "a.docx", "file_data": "AAAA"},
    ],
)
def test_a_part_that_has_no_block_is_refused_by_its_path_or_dropped(part: Json) -> None:
    items = [{"role": "user", "content": [{"type": "input_text", "text": "Hear:"}, part]}]
    assert refused(input=items) == "input[0].content[1]"
    told = [USER, CALL, {**OUTPUT, "output": [part]}]
    with pytest.raises(InvalidRequest) as caught:
        outgoing(input=told, policy="reject")
    assert caught.value.param == "input[2].output[0]"
    assert "cannot be shown" in sent(input=told)["messages"][2]["content"][0]["content"][0]["text"]
    assert "content" not in sent(policy="drop", input=told)["messages"][2]["content"][0]


def test_pictures_of_the_assistant_are_named_to_the_model() -> None:
    image = {"type": "input_image", "image_url": "https://a/b.png"}
    content = sent(input=[USER, {"role": "assistant", "content": [image]}, USER])["messages"][1]["content"]
    assert content == [{"type": "text", "text": "[image https://a/b.png: cannot be shown to this model]"}]


def test_own_reasoning_comes_back_as_the_blocks_it_was_and_foreign_reasoning_stays_out() -> None:
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA-of-someone-else"}
    request = outgoing(input=[USER, foreign, REASONED, CALL, OUTPUT], tools=[F])
    content = msgspec.json.decode(request.body)["messages"][1]["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use"]
    assert request.dropped == ("input[1]",)


def test_sealed_content_that_is_not_of_the_blocks_we_seal_is_left_out() -> None:
    for payload in ({"blocks": [{"type": "text", "text": "forged"}, 5]}, {"blocks": "x"}, {}):
        item = {"type": "reasoning", "summary": [], "encrypted_content": pack_state("anthropic", SONNET_45, payload)}
        assert len(sent(input=[USER, item])["messages"]) == 1


def test_an_assistant_s_message_does_not_end_in_thinking_nor_the_last_one_in_white_space() -> None:
    assert [message["role"] for message in sent(input=[USER, REASONED, USER])["messages"]] == ["user"]
    items = [USER, {"role": "assistant", "content": "Once upon "}]
    assert sent(input=items)["messages"][1]["content"][0]["text"] == "Once upon"
    assert sent(input=[*items, USER])["messages"][1]["content"][0]["text"] == "Once upon "


def test_a_paused_turn_is_sent_back_as_it_stood_to_be_gone_on_with() -> None:
    use = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}}
    sealed = {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": pack_state("anthropic", SONNET_45, {"blocks": [use]}),
    }
    receipt = {"type": "web_search_call", "id": "ws_1", "status": "incomplete", "action": {"type": "search"}}
    request = outgoing(input=[USER, sealed, receipt], tools=[{"type": "web_search"}])
    assert msgspec.json.decode(request.body)["messages"][-1] == {"role": "assistant", "content": [use]}
    assert request.dropped == ()


@pytest.mark.parametrize("policy", ["auto", "reject", "drop"])
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "web_search_call", "action": {"type": "search", "query": "cats"}}, "cats"),
        ({"type": "web_search_call", "action": {"type": "open_page", "url": "https://cats"}}, "https://cats"),
        ({"type": "web_search_call", "action": {"type": "find_in_page", "pattern": "cats", "url": "u"}}, "cats"),
        ({"type": "file_search_call", "queries": ["cats"], "results": [{"filename": "a.md", "text": "Meow"}]}, "Meow"),
        ({"type": "code_interpreter_call", "code": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}, "Output:\n2"),
        ({"type": "mcp_call", "name": "find", "server_label": "crm", "arguments": '{"q":1}', "output": "Ann"}, "Ann"),
        ({"type": "image_generation_call", "result": "AAAA", "revised_prompt": "a cat"}, "a cat"),
        ({"type": "computer_call", "call_id": "x", "action": {"type": "click", "x": 1}}, "click"),
        ({"type": "local_shell_call", "call_id": "x", "action": {"command": ["ls", "-la"]}}, "ls -la"),
        ({"type": "shell_call", "call_id": "x", "action": {"commands": ["ls", "pwd"]}}, "ls pwd"),
        ({"type": "apply_patch_call", "call_id": "x", "operation": {"type": "delete_file", "path": "a.py"}}, "a.py"),
        ({"type": "mcp_approval_request", "name": "pay", "server_label": "crm", "arguments": "{}"}, "pay"),
    ],
)
def test_a_conversation_is_never_refused_for_what_the_assistant_did_with_its_tools(
    item: Json, words: str, policy: str
) -> None:
    content = sent(input=[USER, {"id": "i", "status": "completed", **item}, USER], policy=policy)["messages"][1]
    assert content["role"] == "assistant"
    assert words in content["content"][0]["text"] and "AAAA" not in content["content"][0]["text"]


@pytest.mark.parametrize("policy", ["auto", "reject", "drop"])
@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"type": "local_shell_call_output", "id": "x", "output": "a.py"}, "a.py"),
        ({"type": "shell_call_output", "call_id": "x", "output": [{"stdout": "a.py", "stderr": "", "x": 1}]}, "a.py"),
        ({"type": "apply_patch_call_output", "call_id": "x", "status": "completed"}, "apply_patch_call"),
        ({"type": "mcp_approval_response", "approval_request_id": "x", "approve": True}, "allowed"),
        ({"type": "mcp_approval_response", "approval_request_id": "x", "approve": "yes", "reason": "dear"}, "refused"),
    ],
)
def test_what_a_clients_own_machine_sent_back_is_said_by_the_user(item: Json, words: str, policy: str) -> None:
    (message,) = sent(input=[USER, item, USER], policy=policy)["messages"]
    assert words in message["content"][1]["text"]


def test_a_screenshot_is_shown() -> None:
    shot = {"type": "computer_screenshot", "image_url": "https://a/b.png"}
    (message,) = sent(input=[USER, {"type": "computer_call_output", "call_id": "x", "output": shot}])["messages"]
    assert message["content"][-1] == {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}}


@pytest.mark.parametrize("type", ["mcp_list_tools", "web_search_call", "compaction_trigger"])
def test_an_item_with_nothing_to_tell_is_left_out(type: str) -> None:
    found = outgoing(input=[USER, {"type": type, "id": "x", "action": 7, "tools": []}, USER], policy="reject")
    assert (found.dropped, found.unsupported) == (("input[1]",), ())


def test_a_compaction_of_ours_comes_back_with_its_beta_and_a_foreign_one_is_named() -> None:
    block = {"type": "compaction", "content": "So far"}
    ours = {"type": "compaction", "encrypted_content": pack_state("anthropic", OPUS_46, {"blocks": [block]})}
    assert sent(OPUS_46, input=[ours, USER])["messages"][0] == {"role": "assistant", "content": [block]}
    assert betas(OPUS_46, input=[ours, USER]) == "compact-2026-01-12"
    foreign = outgoing(input=[{"type": "compaction", "encrypted_content": "gAAAA"}, USER], policy="reject")
    assert foreign.dropped == ("input[0]",)
    assert b"only another provider can read" in foreign.body


# Tools...


def test_functions_keep_their_schema_and_their_strictness() -> None:
    schema = {"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
    tools = sent(tools=[{**F, "description": "Does.", "parameters": schema, "strict": True}])["tools"]
    assert tools == [
        {"name": "f", "description": "Does.", "input_schema": {"type": "object", **schema}, "strict": True}
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "name": "g"}, {"type": "tool", "name": "g"}),
        ({"type": "web_search"}, {"type": "tool", "name": "web_search"}),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}, {"type": "auto"}),
    ],
)
def test_every_form_of_tool_choice_has_its_own(choice: Any, expected: Json) -> None:
    assert sent(tools=[F, G, {"type": "web_search"}], tool_choice=choice)["tool_choice"] == expected


def test_tools_outside_the_allowed_list_are_not_offered() -> None:
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}
    assert [tool["name"] for tool in sent(tools=[F, G], tool_choice=allowed)["tools"]] == ["g"]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "g"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
    ],
)
def test_a_forced_function_leaves_the_other_tools_in_the_request(choice: Json) -> None:
    body = sent(tools=[F, G, {"type": "web_search"}], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["f", "g", "web_search"]
    assert body["tool_choice"] == {"type": "tool", "name": "g"}


def test_a_forced_mcp_server_is_shown_alone() -> None:
    server = {"type": "mcp", "server_label": "crm", "server_url": "https://a", "require_approval": "never"}
    body = sent(tools=[F, server], tool_choice={"type": "mcp", "server_label": "crm"})
    assert [tool["type"] for tool in body["tools"]] == ["mcp_toolset"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_search_that_may_not_be_live_is_never_one() -> None:
    body: Json = {"tools": [F, {"type": "web_search", "external_web_access": False}]}
    assert preferred(**body) == "tools[1].external_web_access"
    assert [tool["name"] for tool in sent(**body)["tools"]] == ["f"]
    assert sent(**body, tool_choice={"type": "web_search"})["tool_choice"] == {"type": "auto"}
    assert "tools" not in sent(tools=[body["tools"][1]], tool_choice="required")


def test_settings_that_only_colour_a_tool_are_preferences() -> None:
    search = {"type": "web_search", "search_context_size": "low"}
    assert preferred(tools=[search]) == "tools[0].search_context_size"
    assert outgoing(tools=[{"type": "web_search", "search_context_size": "medium"}]).dropped == ()
    code = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
    assert preferred(tools=[code]) == "tools[0].container.memory_limit"


def test_strict_functions_and_schemas_need_a_model_that_keeps_them() -> None:
    old = "claude-3-5-haiku-20241022"
    assert preferred(old, tools=[{**F, "strict": True}]) == "tools[0].strict"
    form = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    assert refused(old, text={"format": form}) == "text.format"


def test_calls_one_at_a_time_are_asked_for_whatever_the_choice() -> None:
    assert sent(tools=[F], parallel_tool_calls=False)["tool_choice"] == {
        "type": "auto",
        "disable_parallel_tool_use": True,
    }
    assert sent(tools=[F], parallel_tool_calls=False, tool_choice="required")["tool_choice"][
        "disable_parallel_tool_use"
    ]
    assert "tool_choice" not in sent(tools=[F], parallel_tool_calls=True)
    assert "tool_choice" not in sent(parallel_tool_calls=False)


def test_web_search_keeps_its_domains_and_place_and_a_bound_on_uses() -> None:
    place = {"type": "approximate", "city": "Bern", "country": "CH"}
    tool = {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "user_location": place}
    assert sent(tools=[tool], max_tool_calls=3)["tools"] == [
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "allowed_domains": ["a.example"],
            "user_location": place,
            "max_uses": 3,
        }
    ]


def test_a_hosted_tool_that_is_listed_twice_is_offered_once() -> None:
    tools = sent(tools=[{"type": "web_search"}, {"type": "web_search_preview"}])["tools"]
    assert [tool["name"] for tool in tools] == ["web_search"]


def test_a_bound_on_tool_calls_that_no_tool_can_be_held_to_is_listed_as_dropped() -> None:
    assert outgoing(tools=[F], max_tool_calls=3, policy="reject").dropped == ("max_tool_calls",)
    assert outgoing(tools=[{"type": "web_search"}], max_tool_calls=3).dropped == ()
    assert preferred(tools=[{"type": "code_interpreter", "container": "c"}], max_tool_calls=3) == "max_tool_calls"


def test_code_runs_in_the_named_container_or_with_the_given_files() -> None:
    named = {"type": "code_interpreter", "container": "container_1"}
    assert sent(tools=[named])["container"] == "container_1"
    auto = {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}}
    body = sent(tools=[auto])
    assert body["tools"][0]["name"] == "code_execution"
    assert body["messages"][0]["content"][-1] == {"type": "container_upload", "file_id": "file_1"}
    assert betas(tools=[auto]) == "code-execution-2025-08-25,files-api-2025-04-14"


def test_a_remote_server_is_carried_with_its_token_and_its_allowed_tools() -> None:
    tool = {
        "type": "mcp",
        "server_label": "crm",
        "server_url": "https://crm.example/mcp",
        "headers": {"Authorization": "Bearer t0ken"},
        "allowed_tools": ["find"],
        "require_approval": "never",
    }
    body = sent(tools=[tool])
    server = {"type": "url", "name": "crm", "url": "https://crm.example/mcp", "authorization_token": "t0ken"}
    assert body["mcp_servers"] == [server]
    assert body["tools"][0]["default_config"] == {"enabled": False}
    assert body["tools"][0]["configs"] == {"find": {"enabled": True}}
    assert betas(tools=[tool]) == "mcp-client-2025-11-20"


def test_a_remote_server_whose_calls_need_approval_is_never_offered_without_it() -> None:
    tool = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example/mcp"}
    assert refused(tools=[tool]) == "tools[0].require_approval"
    assert "mcp_servers" not in sent(policy="drop", tools=[tool])


def test_a_remote_server_that_may_only_be_read_is_never_offered_whole() -> None:
    tool = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example/mcp", "require_approval": "never"}
    assert refused(tools=[{**tool, "allowed_tools": {"read_only": True}}]) == "tools[0].allowed_tools.read_only"
    assert "mcp_servers" not in sent(policy="drop", tools=[{**tool, "allowed_tools": {"read_only": True}}])


def test_hosted_tools_that_anthropic_lacks_are_refused_by_name() -> None:
    assert refused(tools=[{"type": "image_generation"}]) == "tools[0].type"


# Thinking...


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "level"),
    [
        (SONNET_45, "low", {"type": "enabled", "budget_tokens": 2048}, None),
        (SONNET_45, "high", {"type": "enabled", "budget_tokens": 16384}, None),
        (OPUS_46, "minimal", {"type": "adaptive"}, "low"),
        (OPUS_46, "xhigh", {"type": "adaptive"}, "high"),
        (SONNET_5, "xhigh", {"type": "adaptive"}, "xhigh"),
        (SONNET_5, "max", {"type": "adaptive"}, "max"),
        (SONNET_5, "none", {"type": "disabled"}, None),
        (SONNET_45, "none", {"type": "disabled"}, None),
    ],
)
def test_effort_is_a_budget_or_an_adaptive_effort_by_model(
    model: str, effort: str, thinking: Json, level: str | None
) -> None:
    body = sent(model, reasoning={"effort": effort})
    assert body["thinking"] == thinking
    assert body.get("output_config", {}).get("effort") == level


def test_a_wanted_summary_is_thinking_that_is_shown() -> None:
    assert sent(SONNET_5, reasoning={"summary": "auto"})["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert sent(SONNET_45, reasoning={"summary": "auto"})["thinking"]["type"] == "enabled"
    assert "thinking" not in sent(SONNET_45, reasoning={"context": "all_turns"})


def test_a_model_that_always_thinks_cannot_be_asked_not_to_nor_forced_to_call() -> None:
    assert preferred(OPUS_55, reasoning={"effort": "none"}) == "reasoning.effort"
    assert sent(OPUS_55, reasoning={"effort": "none"})["output_config"] == {"effort": "low"}
    for choice, words in (("required", "one of your tools"), ({"type": "function", "name": "f"}, "the tool `f`")):
        body: Json = {"tools": [F, G], "tool_choice": choice}
        with pytest.raises(InvalidRequest) as caught:
            outgoing(OPUS_55, policy="reject", **body)
        assert caught.value.param == "tool_choice"
        found = sent(OPUS_55, **body)
        assert (found["tool_choice"], len(found["tools"])) == ({"type": "auto"}, 2)
        assert words in found["system"][-1]["text"]
        assert "system" not in sent(OPUS_55, policy="drop", **body)


def test_a_model_that_cannot_think_is_not_asked_to() -> None:
    old = "claude-3-5-haiku-20241022"
    assert preferred(old, reasoning={"effort": "low"}) == "reasoning.effort"
    assert "thinking" not in sent(old, reasoning={"effort": "none", "summary": "auto"})


@pytest.mark.parametrize("limit", [1025, 2000, 5000, 40_000])
def test_the_budget_stays_below_max_tokens(limit: int) -> None:
    body = sent(max_output_tokens=limit, reasoning={"effort": "max"})
    assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"] == limit


def test_thinking_gives_way_to_a_bound_that_leaves_no_room_to_a_forced_tool_and_to_a_bare_tool_turn() -> None:
    low = {"effort": "low"}
    for body in (
        {"max_output_tokens": 1024},
        {"tools": [F], "tool_choice": "required"},
        {"tools": [F], "input": [USER, CALL, OUTPUT]},
    ):
        request = outgoing(reasoning=low, **body)
        assert msgspec.json.decode(request.body)["thinking"] == {"type": "disabled"}
        assert request.dropped == ("reasoning",)


def test_thinking_stays_on_in_a_tool_turn_that_began_with_thinking_and_after_a_turn_that_has_ended() -> None:
    low = {"effort": "low"}
    later = [CALL | {"call_id": "c2"}, OUTPUT | {"call_id": "c2"}]
    assert sent(reasoning=low, tools=[F], input=[USER, REASONED, CALL, OUTPUT, *later])["thinking"]["type"] == "enabled"
    ended = [USER, CALL, OUTPUT, {"role": "assistant", "content": "Done."}, USER]
    assert sent(reasoning=low, tools=[F], input=ended)["thinking"]["type"] == "enabled"


def test_thinking_between_tool_calls_is_a_beta_only_of_the_models_that_have_it_so() -> None:
    assert betas(tools=[F], reasoning={"effort": "low"}) == "interleaved-thinking-2025-05-14"
    assert betas(reasoning={"effort": "low"}) == betas(OPUS_46, tools=[F], reasoning={"effort": "low"}) == ""


# Sampling, form, bill and cache...


@pytest.mark.parametrize(
    ("model", "body", "param"),
    [
        (SONNET_45, {"temperature": 1.5}, "temperature"),
        (SONNET_45, {"temperature": 0.5, "top_p": 0.5}, "top_p"),
        (SONNET_45, {"temperature": 0.5, "reasoning": {"effort": "low"}}, "temperature"),
        (SONNET_45, {"top_p": 0.9, "reasoning": {"effort": "low"}}, "top_p"),
        (SONNET_45, {"top_k": 5, "reasoning": {"effort": "low"}}, "top_k"),
        (SONNET_5, {"temperature": 0.5}, "temperature"),
        (SONNET_5, {"top_p": 0.99}, "top_p"),
        (SONNET_45, {"text": {"verbosity": "low"}}, "text.verbosity"),
        (SONNET_45, {"service_tier": "flex"}, "service_tier"),
        (SONNET_45, {"frequency_penalty": 0.5}, "frequency_penalty"),
        (SONNET_45, {"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        (SONNET_45, {"include": ["message.output_text.logprobs"]}, "include[0]"),
        (SONNET_45, {"context_management": [{"type": "other"}]}, "context_management[0].type"),
    ],
)
def test_a_preference_that_the_api_would_refuse_is_left_out_and_named(model: str, body: Json, param: str) -> None:
    assert preferred(model, **body) == param


@pytest.mark.parametrize(
    ("body", "param"), [({"top_logprobs": 3}, "top_logprobs"), ({"logit_bias": {}}, "logit_bias"), ({"n": 2}, "n")]
)
def test_a_promise_that_could_not_be_kept_is_refused_by_name(body: Json, param: str) -> None:
    assert refused(**body) == param


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body: Json = {"text": {"format": {"type": "json_object"}}, "instructions": "Be."}
    assert [block["text"][:10] for block in sent(**body)["system"]] == ["Be.", "Answer wit"]
    assert "output_config" not in sent(**body)
    with pytest.raises(InvalidRequest) as caught:
        outgoing(policy="reject", **body)
    assert caught.value.param == "text.format"
    dropped = outgoing(policy="drop", **body)
    assert dropped.unsupported == ("text.format",) and b"JSON" not in dropped.body


def test_sampling_that_is_allowed_or_asks_for_the_default_passes() -> None:
    assert sent(temperature=0)["temperature"] == 0
    assert sent(top_p=0.96, reasoning={"effort": "low"})["top_p"] == 0.96
    assert not {"temperature", "top_p"} & sent(SONNET_5, temperature=1, top_p=1.0, reasoning={"effort": "low"}).keys()
    assert sent(stop="END", top_k=5)["stop_sequences"] == ["END"]


def test_a_schema_is_an_output_format_beside_the_effort() -> None:
    schema = {"type": "object", "additionalProperties": False}
    form = {"type": "json_schema", "name": "x", "schema": schema, "strict": True}
    config = sent(SONNET_5, text={"format": form}, reasoning={"effort": "low"})["output_config"]
    assert config == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


def test_the_end_user_and_the_tier_have_their_members() -> None:
    body = sent(safety_identifier="s", user="u", service_tier="default")
    assert (body["metadata"], body["service_tier"]) == ({"user_id": "s"}, "standard_only")


def test_a_cache_key_puts_a_breakpoint_at_the_end_and_marked_parts_have_their_own() -> None:
    marked = {"type": "input_text", "text": "Long.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    items = [{"role": "user", "content": [marked, {"type": "input_text", "text": "Short."}]}]
    content = sent(input=items, prompt_cache_key="k")["messages"][0]["content"]
    assert [block.get("cache_control") for block in content] == [{"type": "ephemeral"}] * 2
    explicit = {"mode": "explicit", "ttl": "30m"}
    content = sent(input=items, prompt_cache_key="k", prompt_cache_options=explicit)["messages"][0]["content"]
    assert [block.get("cache_control") for block in content] == [{"type": "ephemeral", "ttl": "1h"}, None]


def test_of_more_than_four_breakpoints_the_latest_four_are_kept() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    parts = [{"type": "input_text", "text": str(number), **mark} for number in range(6)]
    body = sent(input=[USER, CALL, {**OUTPUT, "output": parts[:3]}, {"role": "user", "content": parts[3:]}], tools=[F])
    blocks = body["messages"][2]["content"]
    marked = [part["text"] for part in [*blocks[0]["content"], *blocks[1:]] if "cache_control" in part]
    assert marked == ["2", "3", "4", "5"]


def test_compaction_is_asked_for_at_its_threshold() -> None:
    body: Json = {"context_management": [{"type": "compaction", "compact_threshold": 60_000}]}
    trigger = {"type": "input_tokens", "value": 60_000}
    assert sent(OPUS_46, **body)["context_management"] == {"edits": [{"type": "compact_20260112", "trigger": trigger}]}
    assert betas(OPUS_46, **body) == "compact-2026-01-12"


@pytest.mark.parametrize("model", [SONNET_45, "claude-haiku-4-5", "m"])
def test_a_model_that_cannot_compact_is_neither_asked_to_nor_given_what_another_has_compacted(model: str) -> None:
    blocks = [{"type": "compaction", "content": "They spoke of a heron."}]
    compacted = {"type": "compaction", "encrypted_content": pack_state("anthropic", OPUS_46, {"blocks": blocks})}
    body: Json = {"context_management": [{"type": "compaction", "compact_threshold": 60_000}]}
    body |= {"input": [compacted, USER]}

    assert betas(model, **body) == "" and "context_management" not in sent(model, **body)
    assert "They spoke of a heron." in json.dumps(sent(model, **body)["messages"])
    assert '"compaction"' not in json.dumps(sent(model, **body)["messages"])


def test_counting_tokens_sends_only_what_counts() -> None:
    body = sent(operation="input_tokens", instructions="Be.", tools=[F], temperature=0.5, user="u")
    assert body.keys() == {"model", "system", "messages", "tools"}
    assert outgoing(operation="input_tokens").path == "/messages/count_tokens"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"temperature": "hot"}, "temperature"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"input": [{"role": "user", "content": [{"type": "nonsense"}]}]}, "input[0].content[0].type"),
        ({"tools": [{"type": "web_search", "filters": 5}]}, "tools[0].filters"),
        ({"user": 5}, "user"),
        ({"context_management": 5}, "context_management"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"name": "x"}}}, "text.format.type"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop[1]"),
    ],
)
def test_a_malformed_member_is_named_by_its_path(body: Json, param: str) -> None:
    assert malformed(**body) == param


def test_a_request_with_any_value_of_a_wrong_type_is_carried_or_an_invalid_request() -> None:
    mcp = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example", "require_approval": "never"}
    tools: list[Json] = [
        {**F, "strict": True},
        {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "user_location": {"city": "Bern"}},
        {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file_1"]}},
        {**mcp, "headers": {"authorization": "Bearer t"}, "allowed_tools": ["find"]},
    ]
    parts = [
        {"type": "input_image", "image_url": "data:image/png;base64,iVBO"},
        {"type": "input_file", "filename": "a.txt", "file_data": "YQ=="},
    ]
    sealed = pack_state("anthropic", "m", {"blocks": [{"type": "compaction"}]})
    compacted = {"type": "compaction", "encrypted_content": sealed}
    body = {
        "input": [
            compacted,
            {"role": "user", "content": parts},
            {"type": "mcp_call", "name": "n", "server_label": "s", "arguments": "{}", "output": "x", "error": None},
            {"type": "web_search_call", "action": {"type": "search", "queries": ["q"], "sources": [{"url": "u"}]}},
            {"type": "file_search_call", "queries": ["q"], "results": [{"filename": "f", "text": "t"}]},
            {"type": "code_interpreter_call", "code": "1", "outputs": [{"type": "logs", "logs": "2"}]},
            {"type": "shell_call_output", "call_id": "x", "output": [{"stdout": "a"}]},
            {"type": "computer_call_output", "call_id": "x", "output": {"image_url": "https://a"}},
            {"type": "tool_search_call", "call_id": "x", "arguments": {"query": "q"}},
            {"type": "tool_search_output", "call_id": "x", "tools": [F]},
            REASONED,
            CALL,
            OUTPUT,
        ],
        "tools": tools,
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
        "text": {"format": {"type": "json_schema", "schema": {}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "context_management": [{"type": "compaction", "compact_threshold": 5}],
        "prompt_cache_options": {"mode": "implicit", "ttl": "30m"},
        "prompt_cache_key": "k",
        "stop": ["END"],
        "service_tier": "auto",
        "max_output_tokens": 5000,
        "max_tool_calls": 3,
        "temperature": 0.5,
    }
    for wrong in damaged(body):
        try:
            outgoing(policy="drop", **wrong)
        except InvalidRequest as error:
            assert error.param


@pytest.mark.parametrize(
    ("name", "family", "version", "max_tokens"),
    [
        ("claude-3-haiku-20240307", "", (3, 0), 4096),
        ("claude-3-5-sonnet-20241022", "", (3, 5), 8192),
        ("claude-3-7-sonnet-latest", "", (3, 7), 32_000),
        ("claude-sonnet-4-20250514", "sonnet", (4, 0), 32_000),
        ("claude-opus-4-5@20251101", "opus", (4, 5), 64_000),
        ("eu.anthropic.claude-opus-4-6-v1", "opus", (4, 6), 64_000),
        ("anthropic/claude-opus-4.7", "opus", (4, 7), 64_000),
        ("claude-mythos-preview", "mythos", (9, 9), 64_000),
        ("claude-opus-latest", "opus", (9, 9), 64_000),
        ("MiniMax-M2", "", None, 8192),
    ],
)
def test_a_model_is_known_by_its_name(name: str, family: str, version: tuple[int, int] | None, max_tokens: int) -> None:
    model = model_of(name)
    assert (model.family, model.version, model.max_tokens) == (family, version, max_tokens)


def test_a_request_is_the_same_bytes_in_every_turn_up_to_what_is_new() -> None:
    first = outgoing(input=[USER], instructions="Be.", tools=[F, G]).body
    second = outgoing(input=[USER, CALL, OUTPUT], instructions="Be.", tools=[F, G]).body
    assert json.loads(second)["messages"][0] == json.loads(first)["messages"][0]
    assert json.loads(second)["tools"] == json.loads(first)["tools"]
